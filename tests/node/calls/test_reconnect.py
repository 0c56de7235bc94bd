"""Calls of phones on TLS and WSS, whose connections die with the node; they connect and register again, as phones do."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

import pytest

from node.calls.recover import Reinvite
from node.link import SocketName
from node.transport import detour
from tests.node.calls.rig import DOMAIN, Rig, Stage, until
from tests.support.certificates import Authority
from tests.support.node import STRETCH, loopback_address
from tests.support.phone import Line
from tests.support.sipmessage import Sip
from tests.support.streams import StreamPhone

WITHIN = 10.0 * STRETCH
TRANSPORTS = ("TCP", "TLS", "WS", "WSS")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("authority"))
    for name in ("agent.pem", "wss.pem"):
        (made.folder / name).write_text(made.issue("pbx.test", "127.0.0.1"))
    return made


class House:
    """A node that listens on everything, its phones, and its successors."""

    def __init__(self, made: Stage, authority: Authority, listening: dict[str, tuple[str, int]]) -> None:
        self.rig = Rig(made)
        self.listening = listening
        self._authority = authority
        self._phones = AsyncExitStack()

    async def phone(self, user: str, transport: str, instance: str = "") -> StreamPhone:
        server, trust = self.listening[transport.lower()], self._authority.trusting()
        phone = StreamPhone(user, "s3cret", server, transport, domain=DOMAIN, trust=trust, instance=instance)
        await self._phones.enter_async_context(phone)
        assert (await phone.register()).status == 200
        return phone

    async def crash(self, reinvite: Reinvite = "auto") -> None:
        """The node dies with its connections; another one takes over."""
        self.rig, results = self.rig.succeed(reinvite)
        assert all(result.ok for result in results), results

    async def close(self) -> None:
        await self._phones.aclose()
        if not self.rig.dead:
            self.rig.bury()


@asynccontextmanager
async def house(authority: Authority, extensions: str = "") -> AsyncIterator[House]:
    listening, sockets = {}, []
    for kind in ("tcp", "tls", "ws", "wss"):
        sock = socket.create_server(("127.0.0.1", 0), backlog=64)
        listening[kind] = sock.getsockname()
        sockets.append((SocketName("internal", kind, *listening[kind]), sock))
    params = {
        "tls": "true",
        "tls-sip-port": str(listening["tls"][1]),
        "tls-cert-dir": str(authority.folder),
        "ws-binding": f":{listening['ws'][1]}",
        "wss-binding": f":{listening['wss'][1]}",
    }
    with TemporaryDirectory(prefix="calls-") as name:
        made = Stage(Path(name), extensions, params=params)
        made.sockets += sockets
        home = House(made, authority, listening)
        try:
            yield home
        finally:
            await home.close()
            made.close()


async def talking(alice: StreamPhone, bob: StreamPhone, scheme: str = "sip") -> tuple[Line, Line]:
    ours = await alice.call(bob.user)
    ours.target = scheme + ours.target.removeprefix("sip")  # before the INVITE is sent
    theirs = await bob.answer_next(WITHIN)
    async with asyncio.timeout(WITHIN):
        await ours.answered.wait()
        await theirs.answered.wait()
    return ours, theirs


async def offered(line: Line, direction: str) -> int:
    """Offer anew; who meets an exchange that is not through yet tries again a little later (RFC 3261 14.1)."""
    while (answer := await line.reinvite(direction)).status == 491:
        await asyncio.sleep(0.1)
    return answer.status


async def come_back(*phones: StreamPhone) -> None:
    for phone in phones:
        await phone.reconnect(WITHIN)
        assert (await phone.register()).status == 200


async def ended(*lines: Line) -> None:
    async with asyncio.timeout(WITHIN):
        for line in lines:
            await line.ended.wait()


def by(phone: StreamPhone) -> set[str]:
    """The transports in the top Vias of the requests it got."""
    return {m.get("Via").split()[0].rpartition("/")[2] for _at, m in phone.seen if not m.is_response}


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_phone_is_called_by_the_connection_it_registered_by(authority: Authority, transport: str) -> None:
    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", "TCP"), await home.phone("1001", transport)
            ours, theirs = await talking(alice, bob)
            assert by(bob) == {transport}
            invite = next(m for _at, m in bob.seen if m.method == "INVITE" and not m.is_response)
            assert f";transport={transport.lower()}>" in invite.get("Contact")
            assert await offered(theirs, "sendonly") == 200
            assert await offered(ours, "sendrecv") == 200
            assert (await theirs.hangup()).status == 200
            await ended(ours)
            await home.rig.idle()

    asyncio.run(scenario())


@pytest.mark.parametrize("instance", ["", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_answered_call_goes_on_over_the_new_connections_after_a_crash(
    authority: Authority, transport: str, instance: str
) -> None:
    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", "WSS"), await home.phone("1001", transport, instance)
            ours, theirs = await talking(alice, bob)
            await home.crash()
            await come_back(alice, bob)
            bob.seen.clear()
            # The caller speaks: what it says reaches the callee by the connection that the callee has now.
            assert await offered(ours, "sendonly") == 200
            assert "a=sendonly" in theirs.remote_sdp
            assert await offered(theirs, "sendrecv") == 200
            assert by(bob) == {transport}
            assert (await ours.hangup()).status == 200
            await ended(theirs)
            await home.rig.idle()
            assert not {481, 500, 503} & {*alice.statuses(), *bob.statuses()}

    asyncio.run(scenario())


def message(author: StreamPhone, to: str) -> Sip:
    """A few words outside of any dialog."""
    fields = [
        ("Via", author.via()),
        ("Max-Forwards", "70"),
        ("From", f"<sip:{author.user}@{DOMAIN}>;tag=m"),
        ("To", f"<sip:{to}@{DOMAIN}>"),
        ("Call-ID", token_hex(8)),
        ("CSeq", "1 MESSAGE"),
        ("Content-Type", "text/plain"),
    ]
    return Sip(f"MESSAGE sip:{to}@{DOMAIN} SIP/2.0", fields, "hello")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("crashes", [True, False])
def test_a_phone_that_has_come_back_from_another_port_rings_once_and_reads_once(
    authority: Authority, transport: str, crashes: bool
) -> None:
    """It has two bindings until the old one expires."""

    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", "TCP"), await home.phone("1001", transport)
            if crashes:
                await home.crash()
                await come_back(alice, bob)
            else:
                bob.disconnect()
                await until(lambda: len(home.rig.endpoint.streams) == 1, WITHIN)
                await come_back(bob)
            assert len(home.rig.stage.location.known("1001", DOMAIN)) == 2
            ours, theirs = await talking(alice, bob)
            alice.send(message(alice, "1001"))
            await until(lambda: any(m.method == "MESSAGE" for _at, m in bob.seen), WITHIN)
            assert (await ours.hangup()).status == 200
            await ended(theirs)
            await home.rig.idle()
            for method in ("INVITE", "MESSAGE"):
                assert len({m.call_id for _at, m in bob.seen if m.method == method and not m.is_response}) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", ["TLS", "WSS"])
def test_a_phone_that_is_not_back_yet_is_waited_for(authority: Authority, transport: str) -> None:
    """The other side hangs up before it has connected again: its BYE must not be lost, or it would talk to nobody."""

    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", "TLS"), await home.phone("1001", transport)
            ours, theirs = await talking(alice, bob)
            await home.crash()
            bob.disconnect()
            await come_back(alice)
            assert (await ours.hangup()).status == 200
            assert not theirs.ended.is_set()
            await come_back(bob)
            await ended(theirs)
            await home.rig.idle()
            assert by(bob) == {transport}

    asyncio.run(scenario())


def test_a_recovery_that_asks_all_legs_waits_until_they_are_back(authority: Authority) -> None:
    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", "TLS"), await home.phone("1001", "WSS")
            ours, theirs = await talking(alice, bob)
            await home.crash("always")
            await come_back(alice, bob)
            await until(lambda: ours.reinvited and theirs.reinvited, WITHIN)
            assert (await ours.hangup()).status == 200
            await ended(theirs)
            await home.rig.idle()

    asyncio.run(scenario())


async def ringing(alice: StreamPhone, bob: StreamPhone) -> tuple[Line, Line]:
    ours = await alice.call(bob.user)
    theirs = await bob.next_line(WITHIN)
    async with asyncio.timeout(WITHIN):
        await ours.ringing.wait()
    return ours, theirs


@pytest.mark.parametrize("transport", ["TLS", "WSS"])
def test_a_call_that_rings_is_answered_over_the_new_connection(authority: Authority, transport: str) -> None:
    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", transport), await home.phone("1001", transport)
            ours, theirs = await ringing(alice, bob)
            await home.crash()
            await come_back(bob, alice)
            theirs.answer()
            async with asyncio.timeout(WITHIN):
                await ours.answered.wait()
                await theirs.answered.wait()
            assert (await theirs.hangup()).status == 200
            await ended(ours)
            await home.rig.idle()

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", ["TLS", "WSS"])
@pytest.mark.parametrize("first", ["caller", "callee"])
def test_a_call_that_rings_is_over_for_who_comes_back_later(authority: Authority, transport: str, first: str) -> None:
    """It is cancelled, or refused, while the other side has no connection: what ends it there must not be lost."""

    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", transport), await home.phone("1001", transport)
            ours, theirs = await ringing(alice, bob)
            await home.crash()
            alice.disconnect()
            bob.disconnect()
            if first == "caller":
                await come_back(alice)
                assert (await ours.cancel()).status == 487
                assert not theirs.ended.is_set()
                await come_back(bob)
                await ended(theirs)
                assert theirs.ended_by == "cancelled"
            else:
                await come_back(bob)
                theirs.reject(486)
                await until(lambda: not home.rig.live, WITHIN)
                assert not ours.ended.is_set()
                await come_back(alice)
                await ended(ours)
                assert ours.refused is not None
                assert ours.refused.status == 486
            await home.rig.idle()

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", ["TLS", "WSS"])
def test_a_phone_that_speaks_first_is_followed_without_a_new_register(authority: Authority, transport: str) -> None:
    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", "TCP"), await home.phone("1001", transport)
            ours, theirs = await talking(alice, bob)
            await bob.reconnect(WITHIN)
            assert await offered(theirs, "sendonly") == 200
            assert await offered(ours, "sendrecv") == 200
            assert (await ours.hangup()).status == 200
            await ended(theirs)
            await home.rig.idle()

    asyncio.run(scenario())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_call_to_a_phone_that_is_gone_fails_at_once(authority: Authority, transport: str) -> None:
    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", "TCP"), await home.phone("1001", transport)
            bob.disconnect()
            await until(lambda: len(home.rig.endpoint.streams) == 1, WITHIN)
            began = time.monotonic()
            line = await alice.call("1001")
            await ended(line)
            assert time.monotonic() - began < 8 * STRETCH
            assert line.refused is not None
            assert line.refused.status == 503
            await home.rig.idle()

    asyncio.run(scenario())


@pytest.mark.parametrize("listens", ["on a port of its own", "on the port that the node has"])
def test_a_proxy_that_connects_from_elsewhere_is_answered_where_it_listens(authority: Authority, listens: str) -> None:
    """A successor has its 200 to repeat, and of the connection that the INVITE came by nothing but the top Via.

    Who connects from the node's own address and listens on the same port is not to be looked for at ourselves.
    """

    async def scenario() -> None:
        heard: asyncio.Queue[bytes] = asyncio.Queue()

        async def listen(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                heard.put_nowait(line)

        async with AsyncExitStack() as stack:
            home = await stack.enter_async_context(house(authority))
            number = home.listening["tcp"][1] if listens == "on the port that the node has" else 0
            proxy = await stack.enter_async_context(await asyncio.start_server(listen, loopback_address(), number))
            host, port = proxy.sockets[0].getsockname()
            alice, bob = await home.phone("1000", "TCP"), await home.phone("1001", "TCP")
            own = ";rport, SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKown"
            alice.via = lambda: f"SIP/2.0/TCP {host}:{port};branch=z9hG4bK{token_hex(8)}{own}"  # type: ignore[method-assign]
            _ours, theirs = await ringing(alice, bob)
            await home.crash()
            alice.disconnect()
            await come_back(bob)
            theirs.answer()
            async with asyncio.timeout(WITHIN):
                while await heard.get() != b"SIP/2.0 200 OK\r\n":
                    pass

    asyncio.run(scenario())


@pytest.mark.parametrize("returns", [True, False])
def test_a_phone_that_loses_its_connection_while_it_rings_may_come_back(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, returns: bool
) -> None:
    monkeypatch.setattr(detour, "COMES_BACK", WITHIN if returns else 0.5)

    async def scenario() -> None:
        async with house(authority) as home:
            alice, bob = await home.phone("1000", "TCP"), await home.phone("1001", "WSS")
            ours, theirs = await ringing(alice, bob)
            bob.disconnect()
            await until(lambda: len(home.rig.endpoint.streams) == 1, WITHIN)
            if returns:
                await come_back(bob)
                theirs.answer()
                async with asyncio.timeout(WITHIN):
                    await ours.answered.wait()
                assert (await ours.hangup()).status == 200
                await ended(theirs)
            else:
                await ended(ours)
                assert ours.refused is not None
                assert ours.refused.status == 503
            await home.rig.idle()

    asyncio.run(scenario())


def test_another_phone_of_the_same_user_does_not_get_what_was_meant_for_the_first(authority: Authority) -> None:
    async def scenario() -> None:
        async with house(authority) as home:
            alice = await home.phone("1000", "TCP")
            bob = await home.phone("1001", "WSS", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
            ours, _theirs = await talking(alice, bob)
            bob.disconnect()
            other = await home.phone("1001", "WSS", "11111111-7dec-11d0-a765-00a0c91e6bf6")
            assert (await ours.hangup()).status == 200
            assert by(other) == set()

    asyncio.run(scenario())
