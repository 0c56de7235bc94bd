"""What is sent wrongly, or lies wrongly on disk, gets a clear answer and disturbs nobody else."""

from __future__ import annotations

import asyncio
import random
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.node import DOMAIN, PASSWORD, ROOT, Node, loopback_address, shared_settings, until
from tests.support.phone import Phone

pytestmark = pytest.mark.real

REQUEST = (
    "{method} sip:1000@sofia.test SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{branch}\r\n"
    "Max-Forwards: 70\r\nFrom: <sip:x@sofia.test>;tag=1\r\nTo: <sip:1000@sofia.test>\r\n"
    "Call-ID: {branch}@x\r\nCSeq: 1 {method}\r\nContact: <sip:x@{host}:{port}>\r\n{extra}Content-Length: {length}\r\n\r\n{body}"
)


class Stranger:
    """A socket that sends what it likes."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(5)
        self.server, self.host, self.port = server, *self.socket.getsockname()

    def message(self, method: str = "OPTIONS", *, extra: str = "", body: str = "", length: int | None = None) -> str:
        branch = f"{random.getrandbits(64):x}"
        size = len(body) if length is None else length
        return REQUEST.format(
            method=method, host=self.host, port=self.port, branch=branch, extra=extra, body=body, length=size
        )

    def ask(self, message: str | bytes) -> str:
        """Send, and return the first final answer."""
        self.say(message)
        while (answer := self.socket.recv(65536).decode().split("\r\n")[0]).startswith("SIP/2.0 1"):
            pass
        return answer

    def say(self, message: str | bytes) -> None:
        self.socket.sendto(message.encode() if isinstance(message, str) else message, self.server)


@pytest.fixture
def stranger(solo: Node) -> Stranger:
    return Stranger(solo.sip)


def test_garbage_and_truncated_datagrams_do_not_keep_a_phone_from_registering(solo: Node, stranger: Stranger) -> None:
    dice = random.Random(7)
    whole = stranger.message("INVITE", extra="Content-Type: application/sdp\r\n", body="v=0\r\n" * 20).encode()
    for _ in range(300):
        stranger.say(dice.randbytes(dice.randrange(0, 1400)))
        stranger.say(whole[: dice.randrange(1, len(whole))])

    async def scenario() -> None:
        async with Phone("1000", PASSWORD, stranger.server, domain=DOMAIN) as phone:
            assert (await phone.register()).status == 200

    asyncio.run(scenario())
    assert solo.role == "active"
    assert "Traceback" not in solo.output()


def test_a_body_shorter_than_its_content_length_is_answered_400(stranger: Stranger) -> None:
    assert stranger.ask(stranger.message(body="abc", length=400)).startswith("SIP/2.0 400")


def test_bytes_beyond_the_content_length_are_passed_over(stranger: Stranger) -> None:
    assert stranger.ask(stranger.message(body="abcdef", length=0)).startswith("SIP/2.0 200")


@pytest.mark.parametrize("length", ["-5", "abc", "99999999999999999999"])
def test_a_content_length_that_is_no_length_is_answered_400(stranger: Stranger, length: str) -> None:
    message = stranger.message().replace("Content-Length: 0", f"Content-Length: {length}")
    assert stranger.ask(message).startswith("SIP/2.0 400")


def test_an_unknown_method_is_answered_501_or_405_with_allow(stranger: Stranger) -> None:
    stranger.say(stranger.message("FOOBAR"))
    answer = stranger.socket.recv(65536).decode()
    assert answer.split()[1] in ("405", "501")
    assert "\r\nAllow: " in answer


@pytest.mark.parametrize("name", ["From", "To", "Call-ID", "CSeq"])
def test_a_missing_mandatory_header_is_answered_400(stranger: Stranger, name: str) -> None:
    lines = [line for line in stranger.message().split("\r\n") if not line.startswith(f"{name}:")]
    assert stranger.ask("\r\n".join(lines)).startswith("SIP/2.0 400")


def test_no_hops_left_is_answered_483(stranger: Stranger) -> None:
    answer = stranger.ask(stranger.message("INVITE").replace("Max-Forwards: 70", "Max-Forwards: 0"))
    assert answer.startswith(("SIP/2.0 483", "SIP/2.0 407"))


def test_an_unknown_extension_is_answered_420_and_named(stranger: Stranger) -> None:
    stranger.say(stranger.message("OPTIONS", extra="Require: nothing-real\r\n"))
    answer = stranger.socket.recv(65536).decode()
    assert answer.startswith("SIP/2.0 420")
    assert "\r\nUnsupported: nothing-real\r\n" in answer


def test_a_request_in_a_dialog_that_never_was_is_answered_481(stranger: Stranger) -> None:
    message = stranger.message("BYE").replace("To: <sip:1000@sofia.test>", "To: <sip:1000@sofia.test>;tag=never")
    assert stranger.ask(message).startswith("SIP/2.0 481")


def test_a_port_already_taken_is_named_and_the_other_profile_serves(tmp_path: Path) -> None:
    address = loopback_address()
    taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind((address, 5080))
    node = Node("solo", tmp_path / "solo", shared_settings(address, tmp_path / "store.db"), standalone=True)
    node.start()
    try:
        node.wait_role("active")
        until(lambda: f"udp {address} port 5080" in node.output(), 15, "the taken port to be named", node)
        other = Stranger((address, 5060))
        assert other.ask(other.message()).startswith("SIP/2.0 200")
        assert "external" not in "".join(ln for ln in node.api("sofia status").splitlines() if "RUNNING" in ln)
    finally:
        taken.close()
        node.stop()


def test_a_configuration_that_cannot_be_read_is_named_by_file_and_line(tmp_path: Path) -> None:
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "freeswitch.xml").write_text(
        '<document type="freeswitch/xml">\n  <section name="configuration">\n</document>\n'
    )
    words = ["run", "--conf", str(conf), "--run-dir", str(tmp_path / "run"), "--node", "x", "--standalone"]
    done = subprocess.run([sys.executable, "-m", "ha", *words], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"{conf}/freeswitch.xml:3:" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_missing_wav_file_is_logged_by_name_and_the_call_goes_on(solo: Node) -> None:
    async def answering() -> None:
        server = solo.sip
        async with Phone("1000", PASSWORD, server, domain=DOMAIN) as phone:
            await phone.register()
            calling = asyncio.create_task(
                asyncio.to_thread(solo.api, f"originate user/1000@{DOMAIN} &playback(/nowhere/at/all.wav)")
            )
            line = await phone.answer_next()
            assert (await calling).startswith("+OK")
            async with asyncio.timeout(10):
                await line.ended.wait()

    asyncio.run(answering())
    until(lambda: "/nowhere/at/all.wav" in solo.output(), 5, "the file to be named in the log", solo)
    assert solo.role == "active"


def test_a_store_that_takes_no_writes_does_not_keep_phones_from_registering(tmp_path: Path, solo: Node) -> None:
    """Root ignores file modes, so the store is locked from outside: nothing can be written, as on a read-only disk.

    The lease cannot be renewed either; without a peer to ask, a standalone node goes on.
    """
    store = sqlite3.connect(tmp_path / "store.db", isolation_level=None)

    async def scenario() -> None:
        server = solo.sip
        async with Phone("1000", PASSWORD, server, domain=DOMAIN) as phone:
            await phone.register()
            store.execute("BEGIN IMMEDIATE")
            async with asyncio.timeout(5):
                assert (await phone.register()).status == 200
            store.execute("COMMIT")

    asyncio.run(scenario())
    until(lambda: "1000" in solo.api("show registrations"), 5, "the registration to be in the store", solo)
