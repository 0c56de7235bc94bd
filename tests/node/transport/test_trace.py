"""The message trace, the dump file and the copies for a capture server, as one worker's endpoint drives them."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from node.config import ProfileSettings, load
from node.config.sections import GlobalSettings
from node.sip.flow import Flow
from node.transport.trace import Trace, traced
from tests.node.config.tree import plant, profile
from tests.node.console.transcripts import transcript

UDP = Flow("internal", "UDP", ("127.0.0.1", 5060), ("127.0.0.11", 5062))
REGISTER = (
    b"REGISTER sip:pbx.test SIP/2.0\r\nCall-ID: a\r\n"
    b'Authorization: Digest username="1000", response="5ec"\r\nContent-Length: 0\r\n\r\n'
)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, ProfileSettings]:
    conf = tmp_path / "conf"
    plant(conf, {f"sip_profiles/{name}.xml": profile(name, port=port) for name, port in PORTS.items()})
    return dict(load(conf).profiles)


PORTS = {"internal": 5060, "external": 5080}


def test_a_message_is_traced_as_freeswitch_does_it() -> None:
    """Against a trace of FreeSWITCH itself, the message of which is brought onto the wire again."""
    text = transcript("ladder_register_challenge")
    match = re.search(r"^(recv (\d+) bytes from [^\n]*:)\n-+\n(.*?\n\n)", text, re.DOTALL | re.MULTILINE)
    assert match is not None
    message = match[3].replace("\n", "\r\n").encode()
    assert len(message) == int(match[2])
    hours, minutes, seconds = match[1].rstrip(":").rpartition(" ")[2].split(":")
    at = time.mktime((2026, 8, 21, int(hours), int(minutes), int(float(seconds)), 0, 0, -1)) + float(seconds) % 1
    ours = traced("recv", message, UDP, at)
    # A clock of binary fractions may be a microsecond off.
    assert re.sub(r"\d{3}:\n", ":\n", ours, count=1) == re.sub(r"\d{3}:\n", ":\n", match[0], count=1)


@pytest.mark.parametrize(
    ("flow", "where"),
    [
        (Flow("internal", "TCP", ("127.0.0.1", 5060), ("127.0.0.2", 4711), "internal.0/1"), "tcp/[127.0.0.2]:4711"),
        (Flow("internal", "TLS", ("::1", 5061), ("2001:db8::1", 4711), "internal.0/2"), "tls/[2001:db8::1]:4711"),
        (Flow("internal", "WSS", ("127.0.0.1", 7443), ("127.0.0.2", 4711), "internal.0/3"), "wss/[127.0.0.2]:4711"),
    ],
)
def test_each_transport_has_its_name_and_each_address_its_brackets(flow: Flow, where: str) -> None:
    assert traced("send", b"x", flow, 0.0).startswith(f"send 1 bytes to {where} at ")


def test_the_trace_masks_and_counts_what_was_on_the_wire(
    loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings], caplog: pytest.LogCaptureFixture
) -> None:
    trace = Trace(loop, settings, {})
    trace.siptrace("internal", on=True)
    trace.seen("recv", REGISTER, UDP)
    text = caplog.records[0].message
    assert text.startswith(f"recv {len(REGISTER)} bytes from udp/[127.0.0.11]:5062 at ")
    assert 'response="***"' in text
    assert "5ec" not in text


def test_secrets_are_shown_to_who_asks_for_them(
    loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings], caplog: pytest.LogCaptureFixture
) -> None:
    trace = Trace(loop, settings, {"TPORT_LOG": "1"})
    trace.configure(settings, GlobalSettings(trace_secrets=True))
    trace.seen("recv", REGISTER, UDP)
    assert 'response="5ec"' in caplog.records[0].message


def test_only_profiles_somebody_looks_at_cost_anything(
    loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings]
) -> None:
    trace = Trace(loop, settings, {})
    seen = [trace.profiles]
    trace.siptrace("external", on=True)
    seen.append(trace.profiles)
    trace.capture("internal", on=True)  # there is no capture server
    seen.append(trace.profiles)
    trace.siptrace("external", on=False)
    seen.append(trace.profiles)
    assert seen == [frozenset(), {"external"}, {"external"}, frozenset()]


def test_what_is_set_at_start(loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings]) -> None:
    assert Trace(loop, settings, {"TPORT_LOG": "9"}).profiles == {"internal", "external"}
    settings["internal"] = replace(settings["internal"], sip_trace=True)
    assert Trace(loop, settings, {}).profiles == {"internal"}


def test_a_rescan_turns_captures_on_and_leaves_the_trace_alone(
    loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings]
) -> None:
    general = GlobalSettings(capture_server="udp:127.0.0.1:9")
    trace = Trace(loop, settings, {})
    changed = settings | {"external": replace(settings["external"], sip_capture=True, sip_trace=True)}
    trace.configure(changed, general)
    assert trace.profiles == {"external"}
    trace.configure(settings, general)
    assert trace.profiles == {"external"}
    trace.capture("external", on=False)
    assert trace.profiles == frozenset()
    added = settings | {"new": replace(settings["internal"], name="new", sip_trace=True)}
    trace.configure(added, general)
    assert trace.profiles == {"new"}
    trace.close()


def test_the_dump_file_holds_the_messages_of_all_profiles_masked(
    loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings], tmp_path: Path
) -> None:
    path = tmp_path / "dump"
    trace = Trace(loop, settings, {"TPORT_DUMP": str(path)})
    trace.seen("recv", REGISTER, UDP)
    trace.seen("send", b"SIP/2.0 200 OK\r\nX: \xff\x00\r\n\r\n", UDP)
    assert path.read_bytes().startswith(b"dump started at ")
    assert b"REGISTER" not in path.read_bytes()  # not in the midst of the loop's turn
    loop.call_soon(loop.stop)
    loop.run_forever()
    head, *messages, rest = path.read_bytes().split(b"\v\n")
    assert len(messages) == 1
    assert rest == b""
    assert b'response="***"' in head
    assert re.fullmatch(
        rb"send 25 bytes to udp/\[127.0.0.11\]:5062 at [\d:.]+:\nSIP/2.0 200 OK\r\nX: \xff\x00\r\n\r\n", messages[0]
    )
    assert path.stat().st_mode & 0o077 == 0
    trace.close()


def test_a_dump_file_that_cannot_be_had_disturbs_nobody(
    loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings], tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    trace = Trace(loop, settings, {"TPORT_DUMP": str(tmp_path / "nowhere" / "dump")})
    trace.seen("recv", REGISTER, UDP)
    trace.seen("recv", REGISTER, UDP)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    trace.close()


def test_a_capture_server_that_is_not_there_is_told_of_once(
    loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    trace = Trace(loop, settings, {"TPORT_CAPT": f"udp:127.0.0.1:{port}"})
    trace.configure(settings, GlobalSettings())
    for _ in range(6):
        trace.seen("recv", REGISTER, UDP)
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 1
    trace.close()


def test_a_capture_server_may_have_a_name(
    loop: asyncio.AbstractEventLoop, settings: dict[str, ProfileSettings]
) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as homer:
        homer.bind(("127.0.0.1", 0))
        homer.settimeout(0.05)
        trace = Trace(loop, settings, {})
        general = GlobalSettings(capture_server=f"udp:localhost:{homer.getsockname()[1]};hep=3;capture_id=7")
        trace.configure({name: replace(each, sip_capture=True) for name, each in settings.items()}, general)
        heard = b""
        for _ in range(200):
            loop.call_later(0.01, loop.stop)
            loop.run_forever()
            trace.seen("recv", REGISTER, UDP)
            try:
                heard = homer.recv(65535)
                break
            except TimeoutError:
                continue
        assert heard[:4] == b"HEP3"
        assert b'response="***"' in heard
        trace.close()
        loop.run_until_complete(loop.shutdown_default_executor())
