"""A small configuration, and nodes that run with the small children."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.support.node import ROOT, STRETCH, loopback_address
from tests.support.ports import free_port

PROFILE = """<profile name="{name}"><settings>
<param name="sip-ip" value="{host}"/><param name="rtp-ip" value="{host}"/><param name="sip-port" value="{port}"/>
<param name="context" value="default"/><param name="workers" value="{workers}"/>{more}
</settings></profile>"""

TREE = """<?xml version="1.0"?>
<document type="freeswitch/xml">
<section name="configuration">
<configuration name="switch.conf"><settings>
<param name="core-db-dsn" value="sqlite://$${{store}}"/><param name="switchname" value="pair"/>
</settings></configuration>
<configuration name="sofia.conf"><profiles>{profiles}</profiles></configuration>
<configuration name="ha.conf"><settings>
<param name="peer-address" value="$${{peer_address}}"/><param name="peer-listen" value="$${{peer_listen}}"/>
{ha}
</settings>{hooks}</configuration>
</section>
<section name="dialplan"><context name="default"/></section>
<section name="directory"><domain name="sofia.test"/></section>
</document>"""


def tree(directory: Path, *profiles: str, ha: str = "", hooks: str = "") -> Path:
    """Write a configuration of these profiles; returns its directory."""
    conf = directory / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    (conf / "freeswitch.xml").write_text(TREE.format(profiles="".join(profiles), ha=ha, hooks=hooks))
    return conf


def profile(name: str = "internal", host: str = "", port: int = 5060, workers: int = 1, more: str = "") -> str:
    return PROFILE.format(name=name, host=host, port=port, workers=workers, more=more)


class Running:
    """One node as a real process with small children."""

    def __init__(
        self,
        name: str,
        directory: Path,
        conf: Path,
        *,
        standalone: bool = True,
        prefix: tuple[str, ...] = (),
        **settings: str,
    ) -> None:
        self.prefix = prefix
        self.name, self.run_dir, self.conf, self.standalone = name, directory / name, conf, standalone
        self.settings = {"store": str(directory / "store.db"), "peer_address": "", "peer_listen": ""} | settings
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Running:
        words = [*self.prefix, sys.executable, "-m", "tests.ha.child", "run", "--conf", str(self.conf)]
        words += ["--run-dir", str(self.run_dir), "--node", self.name]
        words += [word for item in self.settings.items() for word in ("--set", "=".join(item))]
        words += ["--standalone"] if self.standalone else []
        self.run_dir.mkdir(parents=True, exist_ok=True)
        with (self.run_dir / "output").open("a") as output:
            self.process = subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=output, start_new_session=True)
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def ask(self, verb: str, **words: object) -> dict:  # type: ignore[type-arg]
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(15 * STRETCH)
            sock.connect(str(self.run_dir / "control"))
            sock.sendall(json.dumps({"verb": verb, **words}).encode() + b"\n")
            with sock.makefile() as answers:
                return json.loads(answers.readline())

    def console(self, *words: str) -> str:
        """What the supervisor answers the console."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            path = self.run_dir / "asker"
            path.unlink(missing_ok=True)
            sock.bind(str(path))
            sock.settimeout(15 * STRETCH)
            sock.sendto(json.dumps(words).encode(), str(self.run_dir / "console"))
            return sock.recv(1 << 18).decode()

    @property
    def role(self) -> str:
        try:
            return self.ask("status")["role"]
        except (OSError, ValueError):
            return ""

    def wait(self, role: str, within: float = 15.0) -> Running:
        until(lambda: self.role == role, within, f"{self.name} to be {role}", self)
        return self

    def notices(self) -> list[tuple[str, dict[str, str]]]:
        """The events that the supervisor has fired: subclass and headers."""
        with contextlib.suppress(OSError):
            lines = (self.run_dir / "notices").read_text().splitlines()
            return [(subclass, dict(headers)) for subclass, headers in map(json.loads, lines)]
        return []

    def children(self, kind: str) -> list[int]:
        return [child["pid"] for child in self.ask("status")["children"] if child["kind"] == kind]

    def log(self) -> str:
        with contextlib.suppress(OSError):
            return (self.run_dir / "output").read_text()
        return ""

    def kill(self) -> None:
        """SIGKILL the whole node, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15 * STRETCH)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return self.process.returncode


@contextlib.contextmanager
def running(*nodes: Running) -> Iterator[None]:
    try:
        yield
    finally:
        for node in nodes:
            if node.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(node.pid, signal.SIGCONT)
                node.kill()


def pair(directory: Path, conf: Path) -> tuple[Running, Running]:
    links = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    return (
        Running("alpha", directory, conf, standalone=False, peer_listen=links[0], peer_address=links[1]),
        Running("beta", directory, conf, standalone=False, peer_listen=links[1], peer_address=links[0]),
    )


def say(host: str, port: int, text: bytes = b"who", within: float = 0.1) -> list[str]:
    """Send a datagram; the words of the answer (node, slot, epoch, pid, claims), empty where none comes in time."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(within)
        try:
            sock.connect((host, port))
            sock.send(text)
            return sock.recv(4096).decode().rpartition("\r\n")[2].split(" ")
        except OSError:
            return []


def who(host: str, port: int = 5060) -> list[str]:
    """The same of whoever serves now: one question has to do, but a slow machine may take its time over it."""
    return say(host, port, within=2.0 * STRETCH)


def until(holds: Callable[[], object], within: float, what: str, *nodes: Running) -> float:
    """Seconds until a condition held."""
    began = time.monotonic()
    while not holds():
        if time.monotonic() - began > within * STRETCH:
            raise AssertionError(f"waited {within * STRETCH:.0f} s for {what}\n" + "\n".join(n.log() for n in nodes))
        time.sleep(0.005)
    return time.monotonic() - began


def logged(node: Running, text: str) -> None:
    """Wait for a line: the log is written beside the node's loop."""
    until(lambda: text in node.log(), 5, f"the log to say {text!r}", node)


__all__ = ["Running", "logged", "loopback_address", "pair", "profile", "running", "say", "tree", "until", "who"]
