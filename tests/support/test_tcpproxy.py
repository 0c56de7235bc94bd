"""The proxy that other tests blame their faults on."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.tcpproxy import TcpProxy

LIMIT = 30.0
SHORT = 0.3
"Seconds after which what does not come is taken as not coming."


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that answers each piece in capitals."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection:
            try:
                while piece := connection.recv(65536):
                    connection.sendall(piece.upper())
            except OSError:
                pass

    def accept() -> None:
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            pass

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[TcpProxy]:
    with TcpProxy(echo) as proxy:
        yield proxy


def connect(proxy: TcpProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=LIMIT)


def ask(client: socket.socket, what: bytes) -> bytes:
    client.sendall(what)
    got = b""
    while len(got) < len(what):
        piece = client.recv(65536)
        assert piece, "it was closed"
        got += piece
    return got


def test_it_passes_on_what_both_sides_say(proxy: TcpProxy) -> None:
    with connect(proxy) as client, connect(proxy) as other:
        assert ask(client, b"hello") == b"HELLO"
        assert ask(other, b"x" * 1_000_000) == b"X" * 1_000_000
    assert proxy.accepted == 2


def test_it_delays_both_directions(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        proxy.delay(0.1)
        started = time.monotonic()
        assert ask(client, b"late") == b"LATE"
        assert time.monotonic() - started >= 0.2


def test_a_frozen_one_takes_connections_and_answers_when_it_is_over(proxy: TcpProxy) -> None:
    with connect(proxy) as old:
        assert ask(old, b"a") == b"A"
        proxy.freeze()
        with connect(proxy) as new:
            for client in (old, new):
                client.sendall(b"b")
                client.settimeout(SHORT)
                with pytest.raises(TimeoutError):
                    client.recv(1)
            proxy.restore()
            for client in (old, new):
                client.settimeout(LIMIT)
                assert client.recv(1) == b"B"


def test_a_cut_resets_and_refuses_until_it_is_restored(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        assert ask(client, b"a") == b"A"
        proxy.cut()
        with pytest.raises(ConnectionError):
            client.recv(1)
    with pytest.raises(ConnectionError):
        connect(proxy)
    proxy.restore()
    with connect(proxy) as client:
        assert ask(client, b"a") == b"A"


def test_garbage_is_no_answer_of_the_server(proxy: TcpProxy) -> None:
    with connect(proxy) as old:
        assert ask(old, b"a") == b"A"
        proxy.garbage(seed=1)
        with connect(proxy) as new:
            assert len(new.recv(64)) == 64
        old.sendall(b"hello")
        assert b"HELLO" not in old.recv(65536)


def test_a_lost_answer_is_to_a_request_that_was_served(proxy: TcpProxy) -> None:
    with connect(proxy) as client:
        assert ask(client, b"a") == b"A"
        proxy.lose_answers()
        client.sendall(b"b")
        with pytest.raises(ConnectionError):
            client.recv(1)
