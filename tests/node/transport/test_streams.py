"""Streams of every kind on real sockets, in a worker of its own: what is said, who gets in, and who is cut."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from websockets.sync.client import connect

from node.config.streams import StreamLimits
from tests.node.rig import PASSWORD, PhoneLine, Rig, rig, until
from tests.support.certificates import Authority
from tests.support.node import STRETCH
from tests.support.sipmessage import Sip, digest
from tests.support.streams import StreamPhone

KINDS = ("tcp", "tls", "ws", "wss")
WITHIN = 10.0 * STRETCH


@contextmanager
def node(folder: Path, authority: Authority, *, host: str = "127.0.0.1", **fields: object) -> Iterator[Rig]:
    """A worker that listens on everything; `fields` of its profile."""
    certificates = folder / "certs"
    certificates.mkdir(exist_ok=True)
    for name in ("agent.pem", "wss.pem"):
        (certificates / name).write_text(authority.issue("pbx.test", "127.0.0.1", "::1"))
    (certificates / "cafile.pem").write_text(authority.text)
    with rig(folder, kinds=KINDS, host=host, certs_dir=str(certificates)) as made:
        made.change(**fields)
        made.serve()
        yield made


def phone(made: Rig, kind: str, authority: Authority, user: str = "1000", **options: str) -> StreamPhone:
    server = made.listening[kind]
    trust = authority.trusting()
    return StreamPhone(user, PASSWORD, server, kind.upper(), domain="pbx.test", trust=trust, host=server[0], **options)


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def options(transport: str = "TCP", host: str = "127.0.0.1", length: int = 0) -> bytes:
    line = PhoneLine("1000", (host, 5060))
    line.close()
    via = f"SIP/2.0/{transport} {host}:5060;branch=z9hG4bK{os.urandom(6).hex()}"
    message = line.request("OPTIONS", Via=via)
    message.fields.append(("Content-Length", str(length)))
    return message.encode()


def connected(made: Rig, kind: str = "tcp", source: str = "") -> socket.socket:
    sock = socket.create_connection(
        made.listening[kind], timeout=WITHIN, source_address=(source, 0) if source else None
    )
    sock.settimeout(WITHIN)
    return sock


def is_closed(sock: socket.socket) -> bool:
    """Wait for the other side's end."""
    try:
        while sock.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def answers(sock: socket.socket) -> bool:
    sock.sendall(options())
    return sock.recv(65536).startswith(b"SIP/2.0 200")


# ---- each transport ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_phone_registers_on_each_transport(tmp_path: Path, authority: Authority, host: str) -> None:
    with node(tmp_path, authority, host=host) as made:

        async def scenario() -> None:
            for number, kind in enumerate(KINDS):
                async with phone(made, kind, authority, str(1000 + number)) as one:
                    assert (await one.register()).status == 200
                    rows = made.ask("registrations")
                    assert isinstance(rows, list)
                    row = next(row for row in rows if row["sip_user"] == one.user)
                    assert row["flow"]["transport"] == kind.upper()
                    assert row["flow"]["remote_host"] == host

        play(scenario)


def test_a_websocket_phone_is_forgotten_with_its_connection(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority) as made:

        async def scenario() -> None:
            async with phone(made, "wss", authority) as one:
                await one.register()
                assert made.ask("registrations") != []
            await asyncio.to_thread(until, lambda: made.ask("registrations") == [])

        play(scenario)


def test_contact_names_the_port_and_transport_it_is_reached_by(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority) as made:
        contacts = {}
        for kind in ("tls", "wss"):
            with authority.trusting().wrap_socket(connected(made, kind)) as sock:
                if kind == "tls":
                    sock.sendall(options("TLS"))
                    contacts[kind] = sock.recv(65536).decode()
        url = f"ws://127.0.0.1:{made.listening['ws'][1]}"
        with connect(url, subprotocols=["sip"], proxy=None) as web:  # type: ignore[list-item]
            web.send(options("WS").decode())
            contacts["ws"] = str(web.recv())
        for kind in ("tls", "ws"):
            port = made.listening[kind][1]
            assert f"Contact: <sip:mod_sofia@127.0.0.1:{port};transport={kind}>" in contacts[kind]


def test_a_message_in_fragments_of_many_sizes_is_answered_over_wss(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority) as made:
        url = f"wss://127.0.0.1:{made.listening['wss'][1]}/"
        with connect(url, ssl=authority.trusting(), subprotocols=["sip"], proxy=None) as web:  # type: ignore[list-item]
            for size in (1, 7, 125, 126, 400):
                text = options("WSS").decode()
                web.send(text[at : at + size] for at in range(0, len(text), size))
                assert str(web.recv()).startswith("SIP/2.0 200")
            web.send(options("WSS"))  # as binary
            assert str(web.recv()).startswith("SIP/2.0 200")
            web.send("\r\n\r\n")
            assert web.recv() == "\r\n"
            assert web.ping(b"there?").wait(WITHIN)


def test_crlf_pings_are_answered_inside_tls(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority) as made:
        with authority.trusting().wrap_socket(connected(made, "tls")) as sock:
            sock.sendall(b"\r\n\r\n")
            assert sock.recv(16) == b"\r\n"


@pytest.mark.parametrize(("kind", "file"), [("tls", "agent.pem"), ("wss", "wss.pem")])
def test_a_new_certificate_is_shown_by_the_worker_that_runs_and_who_is_connected_stays(
    tmp_path: Path, authority: Authority, kind: str, file: str
) -> None:
    trust = authority.trusting()

    def serial(sock: socket.socket) -> str:
        with trust.wrap_socket(sock) as sock:
            return str((sock.getpeercert() or {})["serialNumber"])

    limits = StreamLimits(accept_rate_per_source=10_000)  # it is looked at again and again
    with node(tmp_path, authority, streams=limits) as made, trust.wrap_socket(connected(made, "tls")) as before:
        pid, old = made.workers[0].process.pid, serial(connected(made, kind))
        (tmp_path / "certs" / file).write_text(authority.issue("pbx.test", "127.0.0.1"))
        until(lambda: serial(connected(made, kind)) != old, 3 * WITHIN)
        assert answers(before)
        assert made.workers[0].process.pid == pid


@pytest.mark.parametrize("kind", ["tcp", "tls"])
@pytest.mark.parametrize(("length", "status"), [("99999999", "513"), ("many", "400")])
def test_who_breaks_the_stream_is_told_so_and_what_came_before_is_answered(
    tmp_path: Path, authority: Authority, kind: str, length: str, status: str
) -> None:
    with node(tmp_path, authority) as made, connected(made, kind) as plain:
        sock = authority.trusting().wrap_socket(plain) if kind == "tls" else plain
        sock.sendall(options() + options().replace(b"Content-Length: 0", f"Content-Length: {length}".encode()))
        said = b""
        while data := sock.recv(65536):
            said += data
        assert [line.split()[1].decode() for line in said.split(b"\r\n") if line.startswith(b"SIP/2.0 ")] == [
            "200",
            status,
        ]


# ---- limits --------------------------------------------------------------------------------------------------------

QUICK = StreamLimits(handshake_timeout=1, message_timeout=2)


@pytest.mark.parametrize("kind", KINDS)
def test_who_connects_and_says_nothing_is_cut(tmp_path: Path, authority: Authority, kind: str) -> None:
    with node(tmp_path, authority, streams=QUICK) as made:
        with connected(made, kind) as sock:
            assert is_closed(sock)


def test_half_a_message_is_waited_for_only_so_long(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority, streams=QUICK) as made:
        with connected(made) as sock:
            assert answers(sock)
            sock.sendall(options() + options()[:100])
            assert is_closed(sock)


def test_a_message_byte_by_byte_is_cut_however_alive_its_sender_is(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority, streams=QUICK) as made:
        with connected(made) as sock:
            assert answers(sock)
            sock.settimeout(0.05)
            deadline = time.monotonic() + WITHIN
            for byte in options() * 10:
                try:
                    sock.sendall(bytes((byte,)))
                    if not sock.recv(1):
                        break
                except TimeoutError:
                    assert time.monotonic() < deadline, "never cut"
                except OSError:
                    break


def test_who_connects_and_brings_nothing_makes_room_for_others_of_its_source(
    tmp_path: Path, authority: Authority
) -> None:
    limits = StreamLimits(max_half_open_per_source=10, accept_rate_per_source=1000)
    with node(tmp_path, authority, streams=limits) as made, ExitStack() as stack:
        alive = stack.enter_context(connected(made))
        assert answers(alive)
        half = [stack.enter_context(connected(made, "tls")) for _ in range(15)]
        assert all(is_closed(sock) for sock in half[:5])
        with authority.trusting().wrap_socket(connected(made, "tls")) as sock:
            assert answers(sock)
        assert answers(alive)


def test_a_source_has_so_many_connections_and_others_have_theirs(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority, streams=StreamLimits(max_connections_per_source=5)) as made, ExitStack() as stack:
        for _ in range(5):
            assert answers(stack.enter_context(connected(made)))
        assert is_closed(stack.enter_context(connected(made)))
        assert answers(stack.enter_context(connected(made, source="127.0.0.2")))


def test_all_together_are_so_many(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority, streams=StreamLimits(max_connections=5)) as made, ExitStack() as stack:
        for number in range(5):
            assert answers(stack.enter_context(connected(made, source=f"127.0.0.{number + 2}")))
        assert is_closed(stack.enter_context(connected(made, source="127.0.0.9")))


def test_halves_of_messages_of_all_peers_have_one_room(tmp_path: Path, authority: Authority) -> None:
    limits = StreamLimits(max_buffered=100_000)
    with node(tmp_path, authority, streams=limits) as made, ExitStack() as stack:
        half = options(length=60_000) + b"x" * 30_000
        socks = [stack.enter_context(connected(made)) for _ in range(4)]
        for sock in socks:
            sock.sendall(half)
        assert is_closed(socks[3])
        assert answers(stack.enter_context(connected(made)))


def test_who_is_silent_is_cut_unless_a_phone_is_registered_by_it(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority, tls_timeout=2, streams=StreamLimits(idle_timeout=2)) as made:

        async def scenario() -> None:
            async with phone(made, "tls", authority) as kept, phone(made, "tcp", authority, "1001") as other:
                assert (await kept.register()).status == 200
                other._say(options())  # type: ignore[misc]
                await asyncio.wait_for(other.gone.wait(), WITHIN)
                assert not kept.gone.is_set()
                assert (await kept.register()).status == 200

        play(scenario)


def test_pings_go_out_and_who_does_not_answer_them_is_cut(tmp_path: Path, authority: Authority) -> None:
    with node(tmp_path, authority, tcp_keepalive=500, tcp_pingpong=2000) as made:
        with connected(made) as sock:
            assert answers(sock)
            assert sock.recv(4) == b"\r\n\r\n"
            sock.sendall(b"\r\n")
            assert sock.recv(4) == b"\r\n\r\n"
            assert is_closed(sock)


# ---- when the connection is gone -----------------------------------------------------------------------------------


def test_an_answer_whose_connection_is_gone_goes_to_the_port_of_the_via(tmp_path: Path, authority: Authority) -> None:
    """RFC 3261 18.2.2. A REGISTER is answered when it is stored, so its connection can be gone before."""
    with node(tmp_path, authority) as made, socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(WITHIN)
        line = PhoneLine("1000", made.udp)
        line.close()
        via = f"SIP/2.0/TCP 127.0.0.1:{listening.getsockname()[1]};branch=z9hG4bK"
        fields = {"Contact": "<sip:1000@127.0.0.1;transport=tcp>", "Content_Length": "0", "Expires": "60"}
        with connected(made) as sock:
            sock.sendall(line.request("REGISTER", Via=via + "1", **fields).encode())
            challenge = Sip.parse(sock.recv(65536)).get("WWW-Authenticate")
        fields["Authorization"] = digest(challenge, "1000", PASSWORD, "REGISTER", "sip:pbx.test")
        with connected(made) as sock:
            sock.sendall(line.request("REGISTER", Via=via + "2", **fields).encode())
        back, _address = listening.accept()
        with back:
            back.settimeout(WITHIN)
            assert back.recv(65536).startswith(b"SIP/2.0 200 ")


def test_a_request_goes_through_the_connection_that_another_worker_holds(tmp_path: Path, authority: Authority) -> None:
    with ExitStack() as stack:
        slots = ("internal#0", "internal#1")
        made = stack.enter_context(rig(tmp_path, slots=slots, workers="2"))
        for slot in slots:
            made.serve(slot)

        async def scenario() -> None:
            async with phone(made, "tcp", authority) as one:
                await one.register()
                rows = made.ask("registrations")
                assert isinstance(rows, list)
                holder = rows[0]["flow"]["connection"].partition("/")[0]
                other = next(name for name in ("internal.0", "internal.1") if name != holder)
                key = "|".join(("internal", "1000@pbx.test", rows[0]["contact"]))
                assert made.ask("check_sync", key, token=other) == 1
                await asyncio.wait_for(_saw(one, "NOTIFY"), WITHIN)

        play(scenario)


async def _saw(one: StreamPhone, method: str) -> None:
    while not any(not message.is_response and message.method == method for _at, message in one.seen):
        await asyncio.sleep(0.01)
