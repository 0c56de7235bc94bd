"""A real rtpengine, in user space on loopback, and what it says of its sessions."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from node.media.bencode import Bencoded, Writable, decode, encode
from tests.support.node import STRETCH
from tests.support.ports import block, free_port

LIMIT = 10.0


class RtpengineServer:
    """One `rtpengine`; `redis`: where it keeps its sessions; `ports`: how many it has; `options`: more of its command line."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        redis: int = 0,
        ports: int = 290,
        interfaces: tuple[str, ...] = ("127.0.0.1",),
    ) -> None:
        self.directory = directory
        self.port = free_port()
        first = block()
        self.ports = range(first, first + ports)
        words = ["rtpengine", "--config-file=none", "--foreground", "--log-stderr", "--log-level=6", "--table=-1"]
        words += ["--num-threads=1", f"--listen-cli=127.0.0.1:{free_port()}"]
        words += [f"--interface={interface}" for interface in interfaces]
        words += [f"--listen-ng=127.0.0.1:{self.port}", f"--port-min={self.ports[0]}", f"--port-max={self.ports[-1]}"]
        words += [f"--redis=127.0.0.1:{redis}/1"] if redis else []
        self._words = [*words, f"--pidfile={directory / 'pid'}", *options]
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0

    @property
    def ng(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as output:
            self._process = subprocess.Popen(
                self._words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=self.directory
            )
        until = time.monotonic() + LIMIT * STRETCH
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "log").read_text(errors="replace")
            assert time.monotonic() < until, "rtpengine does not answer"
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It answers nothing, and forgets nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextlib.contextmanager
    def running(self) -> Iterator[RtpengineServer]:
        self.start()
        try:
            yield self
        finally:
            self.kill()

    # ---- what it says ------------------------------------------------------------------------------------------------

    def sessions(self) -> list[str]:
        """The call-ids it has."""
        calls = self.ask({"command": "list", "limit": 1000})[b"calls"]
        assert isinstance(calls, list)
        return [call.decode() for call in calls if isinstance(call, bytes)]

    def made(self) -> int:
        """How many sessions it has had since it was started."""
        said = self.ask({"command": "statistics"})[b"statistics"]
        assert isinstance(said, dict)
        current, total = said[b"currentstatistics"], said[b"totalstatistics"]
        assert isinstance(current, dict)
        assert isinstance(total, dict)
        own, managed = current[b"sessionsown"], total[b"managedsessions"]
        assert isinstance(own, int)
        assert isinstance(managed, int)
        return own + managed

    def held_ports(self) -> set[int]:
        """The RTP ports of all sessions, as the engine knows them."""
        return {_port_of(side) for side in self._sides()}

    def flags(self) -> list[set[str]]:
        """Of each side of all sessions what the engine notes, `send` and `recv` among it."""
        found = [side[b"flags"] for side in self._sides()]
        return [
            {flag.decode() for flag in flags if isinstance(flag, bytes)} for flags in found if isinstance(flags, list)
        ]

    def _sides(self) -> list[dict[bytes, Bencoded]]:
        """The audio of each side; one that was deleted is named as long as its session lives, but has no port."""
        found: list[dict[bytes, Bencoded]] = []
        for call_id in self.sessions():
            tags = self.ask({"command": "query", "call-id": call_id}).get(b"tags")
            if isinstance(tags, dict):  # else it has just been deleted
                found += [side for side in map(_audio_of, tags.values()) if _port_of(side)]
        return found

    def ask(self, question: dict[str, Writable], within: float = LIMIT) -> dict[bytes, Bencoded]:
        self._asked += 1
        cookie = f"test{id(self)}.{self._asked}".encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(within)
            sock.sendto(cookie + b" " + encode(question), ("127.0.0.1", self.port))
            answer = decode(sock.recv(65536).removeprefix(cookie + b" "))
        assert isinstance(answer, dict)
        return answer

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return self.ask({"command": "ping"}, within=0.2).get(b"result") == b"pong"
        return False


def _audio_of(about: Bencoded) -> dict[bytes, Bencoded]:
    assert isinstance(about, dict)
    medias = about[b"medias"]
    assert isinstance(medias, list)
    assert isinstance(medias[0], dict)
    return medias[0]


def _port_of(side: dict[bytes, Bencoded]) -> int:
    """0: it has none any more."""
    streams = side[b"streams"]
    assert isinstance(streams, list)
    assert isinstance(streams[0], dict)
    port = streams[0].get(b"local port", 0)
    assert isinstance(port, int)
    return port
