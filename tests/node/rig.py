"""A worker process driven over a real link with real sockets, and a phone that blocks: for the tests of the worker."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from ha.process import Process, call, fork
from node import inquiry
from node.config import Configuration, Identity, load
from node.link import Demote, Done, Instruct, LinkClosed, Message, Promote, Promoted, Ready, Revived, SocketName
from tests.support.sipmessage import Sip, digest

CONF = Path(__file__).parents[2] / "conf"
WITHIN = 10.0
PASSWORD = "s3cret"


class Worker:
    """One forked worker, and what it said."""

    def __init__(self, configuration: Configuration, run_dir: Path, node: str = "one") -> None:
        identity = Identity(node, "core-uuid", time.time())
        main = call("node.worker:main", identity, configuration, run_dir)
        self.process: Process = fork("worker", main, time.monotonic())
        self.said: list[Message] = []

    @property
    def link(self):  # type: ignore[no-untyped-def]
        return self.process.link

    def wait(self, kind: type, within: float = WITHIN) -> Message:
        """The first message of this kind that was not waited for before."""
        until = time.monotonic() + within
        while True:
            for message in self.said:
                if isinstance(message, kind):
                    self.said.remove(message)
                    return message
            left = until - time.monotonic()
            assert left > 0, f"the worker never said {kind.__name__}, only {self.said}"
            select.select([self.link], [], [], left)
            while (received := self.link.receive()) is not None:
                self.said.append(received[0])

    def instruct(self, verb: str, *words: str, epoch: int = 0) -> Done:
        self.link.send(Instruct(number=7, verb=verb, words=list(words), epoch=epoch))
        done = self.wait(Done)
        assert isinstance(done, Done)
        return done

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        os.waitpid(self.process.pid, 0)
        self.process.status = -9

    def demote(self) -> None:
        """Told to go; wait until it is gone."""
        self.link.send(Demote(reason="the test is over", within=1.0))
        self.wait_end()

    def wait_end(self, within: float = WITHIN) -> None:
        until = time.monotonic() + within
        while time.monotonic() < until:
            select.select([self.link], [], [], 0.1)
            try:
                while (received := self.link.receive()) is not None:
                    self.said.append(received[0])
            except LinkClosed:
                os.waitpid(self.process.pid, 0)
                self.process.status = 0
                return
        raise AssertionError("the worker did not end")

    def close(self) -> None:
        if self.process.status is None:
            self.kill()
        self.link.close()


class Rig:
    """A node without a supervisor: kept sockets, workers, the run directory."""

    def __init__(
        self,
        run_dir: Path,
        slots: tuple[str, ...] = ("internal#0",),
        kinds: tuple[str, ...] = ("tcp",),
        host: str = "127.0.0.1",
        **overrides: str,
    ) -> None:
        """`kinds`: of the listening sockets; certificates lie in `run_dir / "certs"`."""
        self.run_dir = run_dir
        self.sockets: list[tuple[SocketName, socket.socket]] = []
        self.workers: list[Worker] = []
        self.phones: list[PhoneLine] = []
        self.udp = self._open("udp", slots)
        self.listening = {kind: self._listen(kind, host) for kind in kinds}
        self.tcp = self.listening.get("tcp", ("", 0))
        values = {
            "sip_ip": "127.0.0.1",
            "domain": "pbx.test",
            "internal_sip_port": str(self.udp[1]),
            "external_sip_port": str(self.udp[1] + 1),
            "default_password": PASSWORD,
            "event_socket_password": "unused",
            "core_db_dsn": f"sqlite://{run_dir / 'core.db'}",
            "internal_ssl_enable": str("tls" in kinds).lower(),
            "internal_tls_port": str(self.listening.get("tls", ("", 5061))[1]),
        }
        for kind in ("ws", "wss"):
            if kind in kinds:
                values[f"internal_{kind}_binding"] = f"[{host}]:{self.listening[kind][1]}"
        self.configuration = load(CONF, {**values, **overrides}, run_dir=run_dir)
        self.epoch = 0

    def change(self, profile: str = "internal", **fields: object) -> None:
        """Other settings of a profile, for workers that are still to be made."""
        profiles = dict(self.configuration.profiles)
        profiles[profile] = replace(profiles[profile], **fields)  # type: ignore[arg-type]
        self.configuration = replace(self.configuration, profiles=profiles)

    def log(self) -> str:
        """What the workers have logged."""
        return (self.run_dir / "log" / "sofia-node.log").read_text()

    def spawn(self, node: str = "one") -> Worker:
        worker = Worker(self.configuration, self.run_dir, node)
        self.workers.append(worker)
        worker.wait(Ready)
        return worker

    def promote(self, worker: Worker, slot: str = "internal#0", claims: tuple[str, ...] | None = None) -> Worker:
        """Give a worker a slot with the kept sockets; it has answered when this returns."""
        self.epoch += 1
        names, descriptors = [], []
        for name, sock in self.sockets:
            names.append(name)
            descriptors.append(sock.fileno())
        worker.link.send(
            Promote(slot=slot, epoch=self.epoch, claims=list((slot,) if claims is None else claims), sockets=names),
            descriptors,
        )
        worker.wait(Promoted)
        return worker

    def serve(self, slot: str = "internal#0") -> Worker:
        worker = self.promote(self.spawn(), slot)
        worker.wait(Revived)
        return worker

    def phone(self, user: str = "1000", port: int = 0) -> PhoneLine:
        line = PhoneLine(user, self.udp, port)
        self.phones.append(line)
        return line

    def ask(self, verb: str, *words: str, token: str = "internal.0") -> object:
        """A question on the worker's inquiry socket, as the console asks it."""
        frames = inquiry.Frames()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(WITHIN)
            sock.connect(str(self.run_dir / "workers" / token))
            sock.sendall(inquiry.encode(inquiry.Question(1, verb, list(words))))
            while data := sock.recv(1 << 16):
                for frame in frames.feed(data):
                    assert isinstance(frame, inquiry.Reply)
                    assert frame.ok, frame.value
                    return frame.value
        raise AssertionError("the worker hung up")

    def close(self) -> None:
        for worker in self.workers:
            worker.close()
        for _name, sock in self.sockets:
            sock.close()
        for phone in self.phones:
            phone.close()

    def _open(self, kind: str, slots: tuple[str, ...]) -> tuple[str, int]:
        port = 0
        for slot in slots:
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(("127.0.0.1", port))
            port = sock.getsockname()[1]
            profile = slot.partition("#")[0]
            self.sockets.append((SocketName(profile, kind, "127.0.0.1", port, slot), sock))
        return "127.0.0.1", port

    def _listen(self, kind: str, host: str) -> tuple[str, int]:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, 0))
        sock.listen(1024)
        port: int = sock.getsockname()[1]
        self.sockets.append((SocketName("internal", kind, host, port), sock))
        return host, port


@contextlib.contextmanager
def rig(run_dir: Path, **options: object) -> Iterator[Rig]:
    made = Rig(run_dir, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()


class PhoneLine:
    """A phone on a UDP socket that blocks."""

    def __init__(self, user: str, registrar: tuple[str, int], port: int = 0) -> None:
        self.user = user
        self.registrar = registrar
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", port))
        self.sock.settimeout(WITHIN)
        self.host, self.port = self.sock.getsockname()
        self.call_id = f"{os.urandom(6).hex()}@{user}"
        self.cseq = 0
        self.tag = os.urandom(4).hex()

    def request(self, method: str, uri: str = "sip:pbx.test", **fields: str) -> Sip:
        """A request of this phone; further fields by name, `_` for `-`. `To`, `Contact` and others can be replaced."""
        self.cseq += 1
        aor = f"<sip:{self.user}@pbx.test>"
        values = {
            "Via": f"SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK{os.urandom(8).hex()}",
            "Max-Forwards": "70",
            "From": f"{aor};tag={self.tag}",
            "To": aor,
            "Call-ID": self.call_id,
            "CSeq": f"{self.cseq} {method}",
            "Contact": f"<sip:{self.user}@{self.host}:{self.port}>",
            "User-Agent": "rig",
        }
        values.update({name.replace("_", "-"): value for name, value in fields.items()})
        return Sip(f"{method} {uri} SIP/2.0", [(name, value) for name, value in values.items() if value])

    def send(self, message: Sip | bytes) -> None:
        self.sock.sendto(message if isinstance(message, bytes) else message.encode(), self.registrar)

    def receive(self, within: float = WITHIN) -> Sip:
        self.sock.settimeout(within)
        return Sip.parse(self.sock.recv(65535))

    def ask(self, message: Sip) -> Sip:
        self.send(message)
        return self.receive()

    def register(self, expires: int | str = 300, password: str = PASSWORD, **fields: str) -> Sip:
        """Register with a challenge; the last answer."""
        fields.setdefault("Expires", str(expires))
        answer = self.ask(self.request("REGISTER", **fields))
        if answer.status != 401:
            return answer
        credentials = digest(answer.get("WWW-Authenticate"), self.user, password, "REGISTER", "sip:pbx.test")
        return self.ask(self.request("REGISTER", Authorization=credentials, **fields))

    def silent(self, within: float = 0.3) -> bool:
        """Does nothing come for so long?"""
        return not select.select([self.sock], [], [], within)[0]

    def close(self) -> None:
        self.sock.close()


@contextlib.contextmanager
def media_process(node: Rig) -> Iterator[Process]:
    """The media process of a rig, which outlives the workers."""
    identity = Identity("one", "core-uuid", time.time())
    process = fork("media", call("node.media.__main__:main", identity, node.configuration, node.run_dir), 0.0)
    try:
        select.select([process.link], [], [], WITHIN)
        received = process.link.receive()
        assert received is not None, "the media process says nothing"
        assert isinstance(received[0], Ready)
        yield process
    finally:
        process.kill()
        process.link.close()


def until(holds: Callable[[], object], within: float = WITHIN) -> None:
    """Wait until this holds, at most that long."""
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        select.select([], [], [], 0.01)
