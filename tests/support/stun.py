"""STUN servers: a real one (coturn), and one of our own that says and does what the test wants."""

from __future__ import annotations

import contextlib
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

from tests.support.node import STRETCH

COOKIE = 0x2112A442


def binding_request() -> bytes:
    return struct.pack("!HHI", 1, 0, COOKIE) + b"is it there?"


def response(request: bytes, told: str, port: int = 40000) -> bytes:
    """A binding response that names this address (RFC 8489 14.2)."""
    raw = ip_address(told).packed
    key = struct.pack("!I", COOKIE) + request[8:20]
    value = struct.pack("!BBH", 0, 1 if len(raw) == 4 else 2, port ^ (COOKIE >> 16))
    value += bytes(one ^ other for one, other in zip(raw, key, strict=False))
    body = struct.pack("!HH", 0x8022, 3) + b"own\0" + struct.pack("!HH", 0x0020, len(value)) + value
    return struct.pack("!HH", 0x0101, len(body)) + request[4:20] + body


def refusal(request: bytes, code: int, reason: str) -> bytes:
    """A binding error response (RFC 8489 14.8)."""
    value = struct.pack("!HBB", 0, code // 100, code % 100) + reason.encode()
    body = struct.pack("!HH", 0x0009, len(value)) + value + b"\0" * (-len(value) % 4)
    return struct.pack("!HH", 0x0111, len(body)) + request[4:20] + body


class StunServer:
    """Says `tells` to whoever asks."""

    def __init__(self, tells: str = "203.0.113.5", host: str = "127.0.0.1", port: int = 0) -> None:
        self.tells = tells
        self.deaf = 0
        "So many of the next requests are not answered."
        self.error = 0
        "The code of the error that is answered instead."
        self.forged = False
        "Before the answer comes one to another transaction, with another address."
        self.requests: list[bytes] = []
        self._sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((host, port))
        self.port: int = self._sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> StunServer:
        return self

    def __exit__(self, *_exception: object) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _serve(self) -> None:
        while True:
            try:
                request, source = self._sock.recvfrom(2048)
            except OSError:
                return
            if len(request) < 20:
                return
            self.requests.append(request)
            if self.deaf:
                self.deaf -= 1
                continue
            with contextlib.suppress(OSError):
                if self.forged:
                    self._sock.sendto(response(request[:8] + b"x" * 12, "192.0.2.66"), source)
                answer = refusal(request, self.error, "No") if self.error else response(request, self.tells)
                self._sock.sendto(answer, source)


@contextlib.contextmanager
def coturn(host: str = "127.0.0.1") -> Iterator[int]:
    """A real STUN server on the loopback; gives its port."""
    program = shutil.which("turnserver", path="/usr/bin:/usr/local/bin:/usr/sbin")
    assert program, "coturn is not installed: tests/support/install.sh"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="coturn-") as folder:
        words = [program, "-n", "--stun-only", "--no-auth", "--no-tls", "--no-dtls", "--no-cli", "--no-tcp"]
        words += ["-L", host, "-p", str(port), "--log-file", f"{folder}/log", "--simple-log"]
        words += ["--pidfile", f"{folder}/pid", "--userdb", f"{folder}/db"]
        serving = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait(host, port)
            yield port
        finally:
            serving.terminate()
            serving.wait(10)


def _wait(host: str, port: int) -> None:
    """Until it answers."""
    until = time.monotonic() + 20 * STRETCH
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((host, port))
        sock.settimeout(0.1)
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                sock.send(binding_request())
                sock.recv(2048)
                return
            time.sleep(0.05)
    raise AssertionError("coturn does not answer")
