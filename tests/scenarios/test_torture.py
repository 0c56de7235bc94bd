"""What a running node answers to the torture messages, over UDP and over TCP."""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from collections.abc import Iterator

import pytest

from node.sip.framing import StreamFramer
from tests.support.node import STRETCH, Node, loopback_address
from tests.support.open_node import open_node, trouble_of, wait_settled
from tests.support.torture import Case, cases

pytestmark = pytest.mark.real

PORTS = (5060, 5050, 5070, 6050, 19823)
"Where answers go to: the ports in the messages' Vias."
PROBE = (
    "OPTIONS sip:torture.test SIP/2.0\r\nVia: SIP/2.0/{transport} {host}:5060;branch=z9hG4bKprobe{number}\r\n"
    "From: <sip:probe@torture.test>;tag=probe\r\nTo: <sip:torture.test>\r\nCall-ID: probe-{number}\r\nCSeq: 1 OPTIONS\r\n"
    "Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    node = open_node(tmp_path_factory.mktemp("torture"))
    with node.serving():
        wait_settled(node)
        yield node
        assert trouble_of(node) == []


class Client:
    """Listens on an address of its own wherever a Via may send the answer."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server, self.host = server, loopback_address()
        self.number = 0
        self._selector = selectors.DefaultSelector()
        self._sockets = []
        for port in PORTS:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.bind((self.host, port))
            self._sockets.append(sock)
            self._selector.register(sock, selectors.EVENT_READ)

    def ask(self, data: bytes, *, answered: bool) -> list[str]:
        """Send it, then a probe; the final statuses that came until the probe's answer, and the awaited one, were here."""
        self.number += 1
        self._sockets[0].sendto(data, self.server)
        probe = PROBE.format(transport="UDP", host=self.host, number=self.number).encode()
        self._sockets[0].sendto(probe, self.server)
        found: list[str] = []
        probed = False
        deadline = time.monotonic() + 5 * STRETCH
        while not probed or (answered and not found):
            left = deadline - time.monotonic()
            assert left > 0, "the node has stopped answering" if not probed else "no answer"
            for key, _mask in self._selector.select(left):
                answer = key.fileobj.recv(65536)  # type: ignore[union-attr]
                if b"Call-ID: probe-" in answer:
                    probed = True
                elif answer[8:11] >= b"200":
                    found.append(answer[8:11].decode())
        return found

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


@pytest.fixture
def client(node: Node) -> Iterator[Client]:
    client = Client(node.sip)
    yield client
    client.close()


CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_over_udp_each_message_gets_the_answer_it_deserves(client: Client, case: Case):
    found = client.ask(case.data, answered=case.answer != "none")
    assert case.answer == "any" or set(found) <= set(case.answer.split("|"))


def test_nothing_is_answered_to_those_who_sent_responses_that_nobody_asked_for(client: Client):
    """Else a forged 200 would make us send ACK and BYE to whom it names."""
    responses = b"".join(case.data for case in CASES if case.name in ("bcast", "unreason"))
    assert client.ask(responses, answered=False) == []


# ---- over TCP -------------------------------------------------------------------------------------------------------


class Connection:
    """One TCP connection."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.socket = socket.create_connection(server, timeout=5 * STRETCH)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._data = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.socket.close()

    def send(self, data: bytes, piece: int = 65536) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # who has read enough to refuse it may close
            for at in range(0, len(data), piece):
                self.socket.sendall(data[at : at + piece])

    def finals(self, count: int) -> list[str]:
        """The statuses of so many final answers."""
        while len(found := self._finals()) < count:
            more = self.socket.recv(65536)
            assert more, f"closed after {found}"
            self._data += more
        return found

    def closed(self) -> bool:
        """Is it closed by the other side, and nothing more said?"""
        try:
            return self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True

    def alive(self) -> bool:
        """Is a probe answered on it?"""
        before = len(self._finals())
        self.send(PROBE.format(transport="TCP", host="127.0.0.1", number=0).encode())
        found = self.finals(before + 1)
        assert found[before:] == ["200"], f"the probe after {found[:before]} was answered {found[before:]}"
        return True

    def _finals(self) -> list[str]:
        heads = [head for head in self._data.split(b"\r\n\r\n")[:-1] if head.startswith(b"SIP/2.0 ")]
        return [head[8:11].decode() for head in heads if head[8:11] >= b"200"]


NEXT = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n"
STREAMED = [case for case in CASES if case.stream not in ("none", "any")]


@pytest.mark.parametrize("piece", [7, 65536])
@pytest.mark.parametrize("case", STREAMED, ids=str)
def test_over_tcp_it_gets_the_same_however_it_is_cut(node: Node, case: Case, piece: int):
    statuses, _, closed = case.stream.partition(", closed") if "closed" in case.stream else (case.stream, "", None)
    wanted = [set(each.split("|")) for each in statuses.split(", ")]
    with Connection(node.sip) as connection:
        connection.send(case.data, piece)
        found = connection.finals(len(wanted))
        assert all(status in allowed for status, allowed in zip(found, wanted, strict=True)), found
        if closed is not None:
            assert connection.closed()
        elif case.whose == "ours" or NEXT in StreamFramer().feed(case.data + NEXT):
            # The bodies of some of the RFCs' are longer than they say: what follows cannot be read.
            assert connection.alive()


@pytest.mark.parametrize("case", [case for case in CASES if case.name == "clerr"], ids=str)
def test_on_a_stream_the_rest_of_a_body_is_waited_for(node: Node, case: Case):
    head, _, body = case.data.partition(b"\r\n\r\n")
    missing = int(head.rpartition(b"Content-Length:")[2].split()[0]) - len(body)
    with Connection(node.sip) as connection:
        connection.send(case.data)
        connection.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.finals(1)
        connection.socket.settimeout(5 * STRETCH)
        connection.send(b"a=" + b"x" * (missing - 4) + b"\r\n")
        assert connection.finals(1) == ["404"]
        assert connection.alive()


def test_a_head_without_its_empty_line_is_finished_by_what_comes_next(node: Node):
    case = next(case for case in CASES if case.name == "baddn")
    with Connection(node.sip) as connection:
        connection.send(case.data)
        connection.send(b"\r\n")
        assert connection.finals(1) == ["200"]
        assert connection.alive()
