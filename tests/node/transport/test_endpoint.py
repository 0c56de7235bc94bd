"""The endpoint on real sockets: what is answered without a transaction, what is dropped, and streams."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.transport.endpoint import LOT
from tests.node.rig import PhoneLine, Rig, rig, until
from tests.support.sipmessage import Sip


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        made.serve()
        yield made


def options(phone: PhoneLine, **fields: str) -> Sip:
    return phone.ask(phone.request("OPTIONS", **fields))


def test_options_says_what_is_supported(node: Rig) -> None:
    answer = options(node.phone())
    assert answer.status == 200
    assert "INVITE" in answer.get("Allow")
    assert answer.get("Accept") == "application/sdp"
    assert "timer" in answer.get("Supported")
    assert answer.get("Contact").startswith("<sip:mod_sofia@127.0.0.1:")


@pytest.mark.parametrize(("method", "status"), [("DANCE", 501), ("PUBLISH", 405)])
def test_methods_that_are_not_served_are_named_so(node: Rig, method: str, status: int) -> None:
    phone = node.phone()
    answer = phone.ask(phone.request(method))
    assert answer.status == status
    assert "INVITE" in answer.get("Allow")


def test_what_came_at_once_is_answered_once_and_in_its_order(node: Rig) -> None:
    """More than is read before the first is served, and less than makes the worker put anything off."""
    phone = node.phone()
    options(phone)
    pid = node.workers[0].process.pid
    os.kill(pid, signal.SIGSTOP)
    asked = [phone.request("OPTIONS", **({"Require": "teleport"} if n % 5 == 0 else {})) for n in range(LOT + 8)]
    for request in asked:
        phone.send(request)
    os.kill(pid, signal.SIGCONT)
    answers = [phone.receive() for _ in asked]
    assert [each.branch for each in answers] == [request.branch for request in asked]
    assert [each.status for each in answers] == [420 if n % 5 == 0 else 200 for n in range(LOT + 8)]


def test_an_unknown_extension_is_answered_420(node: Rig) -> None:
    answer = options(node.phone(), Require="timer, teleport")
    assert (answer.status, answer.get("Unsupported")) == (420, "teleport")


def test_an_answer_goes_to_the_port_of_the_via_without_rport(node: Rig) -> None:
    phone, elsewhere = node.phone(), node.phone()
    via = f"SIP/2.0/UDP 127.0.0.1:{elsewhere.port};branch=z9hG4bK{os.urandom(6).hex()}"
    phone.send(phone.request("OPTIONS", Via=via))
    assert elsewhere.receive().status == 200


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [("CSeq", "x OPTIONS", 400), ("CSeq", "1 INVITE", 400), ("To", "<sip:unclosed", 400)],
)
def test_what_cannot_be_read_is_answered_400(node: Rig, name: str, value: str, status: int) -> None:
    phone = node.phone()
    assert options(phone, **{name: value}).status == status


def test_a_flood_of_rubbish_disturbs_nobody(node: Rig) -> None:
    phone, vandal = node.phone(), node.phone()
    for number in range(300):
        vandal.send(os.urandom(40 + number % 200))
        vandal.send(b"INVITE %d \r\n\r\n" % number)
        vandal.send(b"SIP/2.0 200 OK\r\n\r\n")
        vandal.send(b"\r\n\r\n")
    assert options(phone).status == 200
    stats = node.ask("stats")
    assert isinstance(stats, dict)
    assert stats["malformed"] >= 800
    node.workers[0].demote()
    log = (node.run_dir / "log" / "sofia-node.log").read_text()
    assert log.count("unreadable message from 127.0.0.1") == 1


def test_more_requests_than_the_limit_of_a_second_are_dropped(node: Rig) -> None:
    vandal = node.phone()
    for message in [vandal.request("OPTIONS").encode() for _ in range(4000)]:
        vandal.send(message)
    until(lambda: node.ask("stats")["flooded"] > 0)  # type: ignore[index]


# ---- TCP -----------------------------------------------------------------------------------------------------------------


class Stream:
    """A TCP connection of a phone."""

    def __init__(self, node: Rig) -> None:
        self.sock = socket.create_connection(node.tcp, timeout=5)
        self.kept = b""
        self.host, self.port = self.sock.getsockname()

    def options(self, phone: PhoneLine) -> bytes:
        via = f"SIP/2.0/TCP {self.host}:{self.port};branch=z9hG4bK{os.urandom(6).hex()}"
        message = phone.request("OPTIONS", Via=via)
        message.fields.append(("Content-Length", "0"))
        return message.encode()

    def receive(self) -> Sip:
        while b"\r\n\r\n" not in self.kept:
            data = self.sock.recv(65536)
            assert data, "the connection was closed"
            self.kept += data
        head, _, self.kept = self.kept.partition(b"\r\n\r\n")
        return Sip.parse(head + b"\r\n\r\n")

    def closed(self) -> bool:
        while True:
            try:
                if not self.sock.recv(65536):
                    return True
            except ConnectionResetError:
                return True
            except TimeoutError:
                return False


@pytest.fixture
def stream(node: Rig) -> Iterator[Stream]:
    made = Stream(node)
    yield made
    made.sock.close()


def test_a_message_in_pieces_is_put_together(node: Rig, stream: Stream) -> None:
    data = stream.options(node.phone())
    for start in range(0, len(data), 50):
        stream.sock.sendall(data[start : start + 50])
    assert stream.receive().status == 200


def test_two_messages_in_one_piece_are_both_answered(node: Rig, stream: Stream) -> None:
    phone = node.phone()
    stream.sock.sendall(stream.options(phone) + stream.options(phone))
    assert [stream.receive().status, stream.receive().status] == [200, 200]


def test_a_ping_is_answered_with_a_pong(stream: Stream) -> None:
    stream.sock.sendall(b"\r\n\r\n")
    assert stream.sock.recv(16) == b"\r\n"


def test_a_stream_that_is_no_sip_is_closed(stream: Stream) -> None:
    stream.sock.sendall(b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n" + b"x" * 70000)
    assert stream.closed()


def test_a_phone_registers_over_tcp(node: Rig, stream: Stream) -> None:
    phone = node.phone()
    via = f"SIP/2.0/TCP {stream.host}:{stream.port};branch=z9hG4bK"
    contact = f"<sip:1000@{stream.host}:{stream.port};transport=tcp>"
    first = phone.request("REGISTER", Via=via + "1", Contact=contact, Content_Length="0", Expires="60")
    stream.sock.sendall(first.encode())
    from tests.support.sipmessage import digest

    challenge = stream.receive().get("WWW-Authenticate")
    credentials = digest(challenge, "1000", "s3cret", "REGISTER", "sip:pbx.test")
    again = phone.request(
        "REGISTER", Via=via + "2", Contact=contact, Content_Length="0", Expires="60", Authorization=credentials
    )
    stream.sock.sendall(again.encode())
    assert stream.receive().status == 200
    registrations = node.ask("registrations")
    assert isinstance(registrations, list)
    assert registrations[0]["status"] == "Registered(TCP)"
    assert re.fullmatch(r"internal\.0/[0-9a-f]{6}\.1", registrations[0]["flow"]["connection"])


# ---- the trace -----------------------------------------------------------------------------------------------------------


def test_the_trace_shows_messages_and_hides_the_digest(node: Rig) -> None:
    worker = node.workers[0]
    worker.instruct("siptrace", "on", "internal")
    phone = node.phone()
    assert phone.register().status == 200
    worker.instruct("siptrace", "off", "internal")
    assert options(phone).status == 200
    worker.demote()
    log = (node.run_dir / "log" / "sofia-node.log").read_text()
    assert f"bytes from udp/[127.0.0.1]:{phone.port} at " in log
    assert 'response="***"' in log
    assert "OPTIONS sip:pbx.test" not in log
