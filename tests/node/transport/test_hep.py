"""HEP as others read it: sngrep for version 3 and 2 over IPv4, and the format's own description for the rest."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import time
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from node.config.capture import CaptureServer
from node.sip.flow import Address
from node.transport.hep import MAXIMUM, Captured, packet
from tests.support.node import STRETCH

MESSAGE = (
    b"OPTIONS sip:1001@pbx.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\n"
    b"To: <sip:1001@pbx.test>\r\nCall-ID: hep@test\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
)
AT = 1_700_000_000.25


def captured(source: Address, target: Address, transport: str = "UDP", data: bytes = MESSAGE) -> Captured:
    return Captured(data, transport, source, target, AT)


def chunks(data: bytes) -> dict[int, bytes]:
    """Version 3: `HEP3`, the length of all, then vendor, type, length with its own head, value."""
    assert data[:4] == b"HEP3"
    assert struct.unpack_from(">H", data, 4) == (len(data),)
    found, at = {}, 6
    while at < len(data):
        vendor, kind, length = struct.unpack_from(">HHH", data, at)
        assert vendor == 0
        assert kind not in found
        found[kind] = data[at + 6 : at + length]
        at += length
    assert at == len(data)
    return found


@pytest.mark.parametrize(
    ("transport", "protocol"), [("UDP", 17), ("TCP", 6), ("TLS", 22), ("WS", 6), ("WSS", 6)]
)  # fmt: skip
def test_version_3_tells_all_there_is_to_know(transport: str, protocol: int) -> None:
    server = CaptureServer("127.0.0.1", 9060, capture_id=70_000)
    found = chunks(packet(server, captured(("192.0.2.1", 5060), ("192.0.2.2", 5080), transport)))
    assert found == {
        1: b"\x02",
        2: bytes([protocol]),
        3: ip_address("192.0.2.1").packed,
        4: ip_address("192.0.2.2").packed,
        7: struct.pack(">H", 5060),
        8: struct.pack(">H", 5080),
        9: struct.pack(">I", 1_700_000_000),
        10: struct.pack(">I", 250_000),
        11: b"\x01",
        12: struct.pack(">I", 70_000),
        15: MESSAGE,
    }


def test_version_3_over_ipv6() -> None:
    found = chunks(packet(CaptureServer("::1", 9060), captured(("2001:db8::1", 5060), ("2001:db8::2", 5080))))
    assert (found[1], found[5], found[6]) == (
        b"\x0a",
        ip_address("2001:db8::1").packed,
        ip_address("2001:db8::2").packed,
    )
    assert not {3, 4} & found.keys()


@pytest.mark.parametrize(("version", "length"), [(1, 16), (2, 28)])
def test_versions_1_and_2_have_a_head_of_fixed_length(version: int, length: int) -> None:
    server = CaptureServer("127.0.0.1", 9060, version, 100)
    data = packet(server, captured(("192.0.2.1", 5060), ("192.0.2.2", 5080)))
    assert struct.unpack_from(">BBBBHH4s4s", data) == (
        version, length, 2, 17, 5060, 5080, ip_address("192.0.2.1").packed, ip_address("192.0.2.2").packed,
    )  # fmt: skip
    if version == 2:
        assert struct.unpack_from("<IIHxx", data, 16) == (1_700_000_000, 250_000, 100)
    assert data[length:] == MESSAGE


def test_a_message_too_long_for_a_datagram_is_cut_off() -> None:
    for version in (1, 2, 3):
        data = packet(
            CaptureServer("h", 9060, version),
            captured(("192.0.2.1", 5060), ("192.0.2.2", 5060), "TCP", b"x" * 70_000),
        )
        assert len(data) == MAXIMUM
    assert len(chunks(data)[15]) > 65_000


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("udp:192.0.2.9:9060", CaptureServer("192.0.2.9", 9060, 3, 200)),
        ("udp:192.0.2.9:9060;hep=2;capture_id=100", CaptureServer("192.0.2.9", 9060, 2, 100)),
        ("udp:[2001:db8::9]:9060;hep=3", CaptureServer("2001:db8::9", 9060, 3, 200)),
        ("udp:homer.example.org:9060;capture_id=4294967295", CaptureServer("homer.example.org", 9060, 3, 4294967295)),
    ],
)
def test_a_capture_server_is_read_as_mod_sofia_reads_it(text: str, server: CaptureServer) -> None:
    assert CaptureServer.parse(text) == server


@pytest.mark.parametrize(
    "text",
    ["", "tcp:h:9060", "udp:h", "udp:h:0", "udp:h:70000", "udp:h:9060;hep=4", "udp:h:9060;capture_id=0", "udp:h:1;x=y",
     "udp:2001:db8::9:9060"],
)  # fmt: skip
def test_what_is_no_capture_server_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        CaptureServer.parse(text)


@pytest.mark.peers
@pytest.mark.parametrize("version", [3, 2])
def test_sngrep_reads_what_we_send(tmp_path: Path, version: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    (tmp_path / "sngreprc").write_text(f"set eep.listen.version {version}\n")
    out = tmp_path / "out.pcap"
    words = [
        "sngrep",
        "-F",
        "-f",
        str(tmp_path / "sngreprc"),
        "-N",
        "-q",
        "-L",
        f"udp:127.0.0.1:{port}",
        "-O",
        str(out),
    ]
    process: subprocess.Popen[Any] = subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    server = CaptureServer("127.0.0.1", port, version, 100)
    sent = packet(server, captured(("192.0.2.1", 5060), ("192.0.2.2", 5080)))
    try:
        deadline = time.monotonic() + 20 * STRETCH
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            # Sent again and again until it listens, and has written what it heard.
            while not (out.exists() and MESSAGE in out.read_bytes()):
                assert time.monotonic() < deadline, "sngrep never wrote the message"
                assert process.poll() is None, "sngrep ended"
                sock.sendto(sent, ("127.0.0.1", port))
                time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()
    seconds, microseconds, packed, udp = first_packet(out.read_bytes())
    assert (seconds, microseconds) == (1_700_000_000, 250_000)
    assert packed == ip_address("192.0.2.1").packed + ip_address("192.0.2.2").packed
    assert struct.unpack_from(">HH", udp) == (5060, 5080)
    assert udp[8:].startswith(MESSAGE)


def first_packet(pcap: bytes) -> tuple[int, int, bytes, bytes]:
    """Time, addresses, and what is above IP, of the first Ethernet frame of a pcap file."""
    seconds, microseconds, length, _ = struct.unpack_from("<IIII", pcap, 24)
    frame = pcap[40 : 40 + length]
    return seconds, microseconds, frame[14 + 12 : 14 + 20], frame[14 + 20 :]
