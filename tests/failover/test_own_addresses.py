"""Two nodes with addresses of their own, none shared: who takes over tells each phone where it is now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.failover.measure import in_a_call, ringing, talking
from tests.failover.report import record
from tests.support.certificates import Authority
from tests.support.conversation import Conversation
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, Pair, loopback_address
from tests.support.phone import Line, Phone
from tests.support.sipmessage import Sip, uri_of
from tests.support.streams import StreamPhone

pytestmark = pytest.mark.real


@contextmanager
def addressed(**settings: str) -> Iterator[Pair]:
    pair = Pair(**settings)
    other = loopback_address()
    pair.nodes[1].settings |= {"sip_ip": other, "rtp_ip": other, "external_sip_ip": other}
    with pair:
        yield pair


@pytest.fixture
def pair() -> Iterator[Pair]:
    with addressed() as pair:
        yield pair


def invites(phone: Phone, call_id: str) -> list[Sip]:
    """The re-INVITEs of a dialog that came, each once."""
    found = {
        m.branch: m for _at, m in phone.seen if not m.is_response and m.method == "INVITE" and m.call_id == call_id
    }
    return [message for message in found.values() if "tag=" in message.get("To")]


def check(message: Sip, line: Line, node: Node, above: int, transport: str = "UDP") -> None:
    """It is in the dialog that the phone has, and names the new node everywhere."""
    host, port = node.sip[0], 5061 if transport == "TLS" else 5060
    assert f"{transport} {host}:{port}" in message.get("Via")
    assert f"@{host}:{port}" in message.get("Contact")
    assert f"c=IN IP4 {host}" in message.body
    for field, held in (("From", line.remote), ("To", line.local)):
        assert uri_of(message.get(field)) == uri_of(held)
        assert message.get(field).partition(";tag=")[2] == held.partition(";tag=")[2] != ""
    assert not message.get("Route")
    assert message.cseq > above


async def moved(call: Conversation, heir: Node, within: float) -> None:
    """Both phones have answered a re-INVITE of the heir, and hear each other through it."""
    async with asyncio.timeout(within):
        while not (call.out.reinvited and call.incoming.reinvited):
            await asyncio.sleep(0.02)
    for audio in call.audios:
        assert audio.peer is not None
        assert audio.peer[0] == heir.sip[0]
    await call.heard(20, within)


@pytest.mark.parametrize("how", ["killed", "switched over"])
def test_both_phones_are_told_of_the_new_address_and_the_audio_moves(pair: Pair, how: str) -> None:
    async def scenario() -> None:
        dead, heir = pair.active, pair.standby
        async with talking(dead.sip) as call:
            await call.heard(20, 5 * STRETCH)
            used = {
                phone: max([m.cseq for _at, m in phone.seen if not m.is_response and m.method == "INVITE"], default=0)
                for phone in (call.alice, call.bob)
            }
            ended = time.monotonic()
            if how == "killed":
                dead.kill()
            else:
                assert (await asyncio.to_thread(dead.control, "switchover"))["ok"]
            await asyncio.to_thread(heir.wait_role, "active")
            await moved(call, heir, 15 * STRETCH)
            for phone, line in ((call.alice, call.out), (call.bob, call.incoming)):
                (message,) = invites(phone, line.call_id)
                check(message, line, heir, used[phone])
            gap = call.longest_gap(ended - 0.5) * 1000
            record(calls=1, calls_lost=0, audio_gap_ms=gap)
            print(f"own addresses, {how}: longest audio gap {gap:.0f} ms")
            assert heir.sip[0] in call.out.target
            assert (await call.out.reinvite("sendonly")).status == 200
            await call.end(call.incoming, 10 * STRETCH)

    asyncio.run(scenario())


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Pair, Authority]]:
    """The same with TLS, and who trusts its certificates."""
    authority = Authority(tmp_path / "certs")
    (authority.folder / "agent.pem").write_text(authority.issue(DOMAIN))
    settings = {"certs_dir": str(authority.folder), "internal_ssl_enable": "true", "internal_tls_port": "5061"}
    with addressed(**settings) as pair:
        yield pair, authority


@pytest.mark.parametrize("how", ["killed", "switched over"])
@pytest.mark.parametrize("side", ["caller", "callee"])
@pytest.mark.parametrize("transport", ["TCP", "TLS"])
def test_a_phone_on_a_connection_is_told_when_it_has_come_to_the_other_node(
    secure: tuple[Pair, Authority], transport: str, side: str, how: str
) -> None:
    """It loses its connection, finds the other node by its SRV records, registers there, and its call goes on."""
    pair, authority = secure
    port = 5061 if transport == "TLS" else 5060

    async def scenario() -> None:
        dead, heir = pair.active, pair.standby
        trust = authority.trusting()
        users = ("1000", "1001") if side == "caller" else ("1001", "1000")
        async with (
            StreamPhone(users[0], PASSWORD, (dead.sip[0], port), transport, domain=DOMAIN, trust=trust) as stream,
            Phone(users[1], PASSWORD, dead.sip, domain=DOMAIN) as other,
        ):
            alice, bob = (stream, other) if side == "caller" else (other, stream)
            for phone in (alice, bob):
                assert (await phone.register()).status == 200
            out = await alice.call("1001")
            incoming = await bob.answer_next()
            async with asyncio.timeout(5 * STRETCH):
                await out.answered.wait()
            call = Conversation(alice, bob, out, incoming)
            async with in_a_call(call, dead.sip):
                await call.heard(20, 5 * STRETCH)
                line = out if side == "caller" else incoming
                used = max([m.cseq for _at, m in stream.seen if not m.is_response and m.method == "INVITE"], default=0)
                ended = time.monotonic()
                if how == "killed":
                    dead.kill()
                else:
                    assert (await asyncio.to_thread(dead.control, "switchover"))["ok"]
                async with asyncio.timeout(20 * STRETCH):
                    await stream.gone.wait()
                await asyncio.to_thread(heir.wait_role, "active")
                stream.server = (heir.sip[0], port)
                await stream.reconnect(20 * STRETCH)
                assert (await stream.register()).status == 200
                await moved(call, heir, 25 * STRETCH)
                message, *_ = invites(stream, line.call_id)
                check(message, line, heir, used, transport)
                gap = call.longest_gap(ended - 0.5) * 1000
                record(audio_gap_ms=gap)
                print(f"own addresses, {side} on {transport}, {how}: longest audio gap {gap:.0f} ms")
                assert (await line.reinvite("sendonly")).status == 200
                await call.end(incoming, 10 * STRETCH)

    asyncio.run(scenario())


def test_the_results_say_that_each_leg_was_told(pair: Pair) -> None:
    async def scenario() -> None:
        dead, heir = pair.active, pair.standby
        async with talking(dead.sip) as call:
            await call.heard(20, 5 * STRETCH)
            foretold = await asyncio.to_thread(heir.api, "sofia recover --dry-run")
            assert foretold.count(f"Contact moves from {dead.sip[0]} to {heir.sip[0]}") == 2
            assert foretold.endswith("\n2 total: 2 re-INVITEd.\n")
            dead.kill()
            await asyncio.to_thread(heir.wait_role, "active")
            await moved(call, heir, 15 * STRETCH)
            told = await asyncio.to_thread(heir.api, "sofia recover status")
            assert "1 calls, 2 legs: 2 kept, 0 lost, 2 re-INVITEd, 0 asked, 0 waiting for their turn" in told
            assert told.count(",ok,reinvited,200") == 2
            await call.end(call.out, 10 * STRETCH)

    asyncio.run(scenario())


def test_a_ringing_call_is_answered_by_the_other_node(pair: Pair) -> None:
    """The callee's old INVITE ends, it rings again, and the caller hears of both by the dialog it knows."""

    async def scenario() -> None:
        dead, heir = pair.active, pair.standby
        async with ringing(dead.sip) as call:
            rung = [m.get("To") for _at, m in call.alice.seen if m.is_response and m.status == 180]
            ended = time.monotonic()
            dead.kill()
            await asyncio.to_thread(heir.wait_role, "active")
            again = await call.bob.next_line(15 * STRETCH)
            seconds = time.monotonic() - ended
            assert call.incoming.ended_by == "cancelled"
            # A machine that is slow to ring is sent it again.
            invite, *_ = [m for _at, m in call.bob.seen if m.method == "INVITE" and m.call_id == again.call_id]
            assert f"@{heir.sip[0]}:5060" in invite.get("Contact")
            again.answer()
            async with asyncio.timeout(10 * STRETCH):
                await call.out.answered.wait()
                await again.answered.wait()
            assert call.out.remote == rung[0]
            assert heir.sip[0] in call.out.target
            moved = Conversation(call.alice, call.bob, call.out, again)
            await moved.heard(20, 10 * STRETCH)
            record(calls=1, calls_lost=0, ringing=1, ringing_lost=0)
            print(f"own addresses, ringing: called anew after {seconds:.1f} s")
            await moved.end(again, 10 * STRETCH)

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", ["TCP", "TLS"])
def test_a_callee_on_a_connection_rings_again_when_it_has_come_to_the_other_node(
    secure: tuple[Pair, Authority], transport: str
) -> None:
    """Its own INVITE ended with its connection, or is ended there; what it answers is the new one."""
    pair, authority = secure
    port = 5061 if transport == "TLS" else 5060

    async def scenario() -> None:
        dead, heir = pair.active, pair.standby
        async with (
            Phone("1000", PASSWORD, dead.sip, domain=DOMAIN) as alice,
            StreamPhone(
                "1001", PASSWORD, (dead.sip[0], port), transport, domain=DOMAIN, trust=authority.trusting()
            ) as bob,
        ):
            for phone in (alice, bob):
                assert (await phone.register()).status == 200
            record(ringing=1, ringing_lost=1)
            out = await alice.call("1001")
            first = await bob.next_line(10 * STRETCH)
            async with asyncio.timeout(5 * STRETCH):
                await out.ringing.wait()
            dead.kill()
            async with asyncio.timeout(20 * STRETCH):
                await bob.gone.wait()
            await asyncio.to_thread(heir.wait_role, "active")
            bob.server = (heir.sip[0], port)
            await bob.reconnect(20 * STRETCH)
            assert (await bob.register()).status == 200
            again = await bob.next_line(20 * STRETCH)
            assert again.call_id != first.call_id
            again.answer()
            async with asyncio.timeout(10 * STRETCH):
                await out.answered.wait()
                await again.answered.wait()
            assert heir.sip[0] in out.target
            call = Conversation(alice, bob, out, again)
            await call.heard(20, 10 * STRETCH)
            record(calls=1, calls_lost=0, ringing_lost=0)
            await call.end(again, 10 * STRETCH)

    asyncio.run(scenario())
