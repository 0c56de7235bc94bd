"""Transfers and messages on a running node, whose calls may live with different workers."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.phone import Line, Phone
from tests.support.sipmessage import Sip, digest
from tests.support.sipp import Sipp, user_rows

pytestmark = pytest.mark.real
WITHIN = 10.0 * STRETCH


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One node without a peer, with several workers for its profile."""
    folder = tmp_path_factory.mktemp("transfers")
    settings = {**shared_settings(loopback_address(), folder / "store.db"), "workers": "3"}
    made = Node("solo", folder / "solo", settings, standalone=True)
    with made.serving():
        yield made


@contextlib.asynccontextmanager
async def phones(server: tuple[str, int], *users: str) -> AsyncIterator[list[Phone]]:
    async with contextlib.AsyncExitStack() as exits:
        found = []
        for user in users:
            phone = await exits.enter_async_context(Phone(user, PASSWORD, server, domain=DOMAIN))
            await phone.register()
            exits.push_async_callback(phone.register, 0)  # nobody is to ring a phone that is gone
            found.append(phone)
        yield found


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(WITHIN):
        await event.wait()


async def connected(caller: Phone, callee: Phone) -> tuple[Line, Line]:
    ours = await caller.call(callee.user)
    theirs = await callee.answer_next(WITHIN)
    await happens(ours.answered)
    await happens(theirs.answered)
    return ours, theirs


async def talk(one: Line, other: Line) -> None:
    """Each hears the other's numbers, which are unlike everybody else's."""
    assert one.audio
    assert other.audio
    one.audio.sent, other.audio.sent = 1_000_000, 2_000_000
    for hearing, floor in ((one.audio, 2_000_000), (other.audio, 1_000_000)):
        async with asyncio.timeout(WITHIN):
            while not (hearing.arrivals and floor <= hearing.arrivals[-1][1] < floor + 900_000):
                await asyncio.sleep(0.02)
        await hearing.heard(10, WITHIN)


def owner(line: Line) -> str:
    """The slot that a line's dialog belongs to, by the node's tag."""
    return line.remote.partition(";tag=")[2].rpartition("-")[0]


def test_a_blind_transfer_is_heard_end_to_end(node: Node) -> None:
    async def story() -> None:
        async with phones(node.sip, "1000", "1001", "1002") as (alice, bob, carol):
            ours, theirs = await connected(alice, bob)
            assert (await ours.refer(f"<sip:1002@{DOMAIN}>")).status == 202
            third = await carol.answer_next(WITHIN)
            await happens(ours.ended)
            assert ours.reported == [200]
            await talk(theirs, third)
            assert (await third.hangup()).status == 200
            await happens(theirs.ended)

    asyncio.run(story())


@pytest.mark.parametrize("together", [True, False])
def test_an_attended_transfer_is_heard_end_to_end_wherever_its_calls_live(node: Node, together: bool) -> None:
    """Calls of one worker are joined there; of two, the partner calls over with Replaces."""

    async def story() -> None:
        async with phones(node.sip, "1000", "1001", "1002") as (alice, bob, carol):
            for _attempt in range(30):
                ours, theirs = await connected(alice, bob)
                # Another port of the same phone is another flow, which the kernel may give to another worker.
                async with Phone("1000", PASSWORD, node.sip, domain=DOMAIN) as desk:
                    second, third = await connected(desk, carol)
                    if (owner(ours) == owner(second)) is together:
                        assert (await ours.refer(ours.replacement(second))).status == 202
                        await happens(ours.ended)
                        await happens(second.ended)
                        assert ours.reported[-1] == 200
                        await talk(theirs, third)
                        assert (await third.hangup()).status == 200
                        await happens(theirs.ended)
                        assert not {481, 500} & {s for phone in (alice, bob, carol) for s in phone.statuses()}
                        return
                    await second.hangup()
                    await happens(third.ended)
                await ours.hangup()
                await happens(theirs.ended)
            raise AssertionError("the kernel never did us the favour")

    asyncio.run(story())


async def message(author: Phone, to: str, text: str, kind: str = "text/plain") -> Sip:
    """Send a MESSAGE, answering its challenge; returns the final response."""
    uri, who = f"sip:{to}@{DOMAIN}", f"<sip:{author.user}@{DOMAIN}>"
    authorization: list[tuple[str, str]] = []
    call_id = secrets.token_hex(8)
    for number in (1, 2):
        fields = [
            ("Via", author.via()),
            ("Max-Forwards", "70"),
            ("From", f"{who};tag=m{number}"),
            ("To", f"<{uri}>"),
            ("Call-ID", call_id),
            ("CSeq", f"{number} MESSAGE"),
            ("Content-Type", kind),
            *authorization,
        ]
        answer = await author.request(Sip(f"MESSAGE {uri} SIP/2.0", fields, text))
        if answer.status != 407:
            break
        value = digest(answer.get("Proxy-Authenticate"), author.user, author.password, "MESSAGE", uri)
        authorization = [("Proxy-Authorization", value)]
    return answer


def test_a_message_reaches_a_registered_phone_and_its_answer_comes_back(node: Node) -> None:
    async def story() -> None:
        async with phones(node.sip, "1000", "1001") as (alice, bob):
            assert (await message(alice, "1001", "good morning")).status == 481  # what the scripted phone says to it
            came = next(m for _at, m in bob.seen if m.method == "MESSAGE" and not m.is_response)
            assert (came.body, came.get("From").partition(";")[0]) == ("good morning", f"<sip:1000@{DOMAIN}>")
            assert (await message(alice, "1009", "anybody there?")).status == 404
            alice.password = "wrong"
            assert (await message(alice, "1001", "it is me")).status == 403
            alice.password = PASSWORD

    asyncio.run(story())


@pytest.mark.parametrize(
    ("method", "event", "status"),
    [
        ("SUBSCRIBE", "presence", 489),
        ("SUBSCRIBE", "refer", 403),
        ("NOTIFY", "presence", 481),
        ("NOTIFY", "keep-alive", 200),
        ("PUBLISH", "presence", 405),
        ("REFER", "", 403),
        ("DANCE", "", 501),
    ],
)
def test_what_is_not_served_outside_of_dialogs_is_refused_for_what_it_is(
    node: Node, method: str, event: str, status: int
) -> None:
    async def story() -> None:
        async with Phone("1000", PASSWORD, node.sip, domain=DOMAIN) as phone:
            fields = [
                ("Via", phone.via()),
                ("Max-Forwards", "70"),
                ("From", f"<sip:1000@{DOMAIN}>;tag=x"),
                ("To", f"<sip:1001@{DOMAIN}>"),
                ("Call-ID", f"outside-{phone.port}"),
                ("CSeq", f"1 {method}"),
                ("Contact", f"<{phone.contact}>"),
                *([("Event", event)] if event else []),
                *([("Refer-To", f"<sip:1002@{DOMAIN}>")] if method == "REFER" else []),
            ]
            answer = await phone.request(Sip(f"{method} sip:1001@{DOMAIN} SIP/2.0", fields))
            assert answer.status == status
            assert "REFER" in answer.get("Allow")
            if status == 489:
                assert answer.get("Allow-Events") == "refer"

    asyncio.run(story())


@pytest.mark.peers
def test_sipp_transfers_fifty_calls_blindly(node: Node) -> None:
    """Each of its callers has its callee, sipp too, sent to a third one, and goes."""
    sipp_transfers(node, "uac_refers", 16300)


@pytest.mark.peers
def test_sipp_brings_fifty_pairs_of_partners_together(node: Node) -> None:
    """Each of its callers has two calls and joins their partners by REFER with Replaces."""
    sipp_transfers(node, "uac_transfers", 18900)


def sipp_transfers(node: Node, scenario: str, port: int, calls: int = 50) -> None:
    server = node.sip

    async def register() -> None:
        for number, where in (("1011", port), ("1012", port + 200)):
            async with Phone(number, PASSWORD, server, domain=DOMAIN) as phone:
                await phone.register(contact=f"sip:{number}@127.0.0.1:{where}")

    asyncio.run(register())
    rows = user_rows([f"10{number:02d}" for number in range(10)], PASSWORD, DOMAIN, "1011")
    callee = Sipp("uas_is_hung_up", server=server, calls=calls, port=port, media_port=port + 50)
    third = Sipp("uas_hangs_up", server=server, calls=calls, port=port + 200, media_port=port + 250, pause=2)
    own = {"port": port + 100, "media_port": port + 150, "rate": 20, "pause": 0.2, "rows": rows, "one_by_one": True}
    caller = Sipp(scenario, server=server, calls=calls, **own)  # type: ignore[arg-type]
    try:
        assert caller.wait(60 * STRETCH) == 0, caller.errors()
        assert third.wait(30 * STRETCH) == 0, third.errors()
        assert callee.wait(30 * STRETCH) == 0, callee.errors()
    finally:
        for one in (caller, third, callee):
            one.stop()
    node.api("sofia profile internal flush_inbound_reg")
    until(lambda: node.api("show channels count") == "\n0 total.\n", 10, "all channels to be gone", node)
