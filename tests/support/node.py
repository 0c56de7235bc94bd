"""Nodes as real processes: one, or a pair that shares an address and a store; and what can befall them."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.support.certificates import Authority
from tests.support.netns import Host
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "sesame-for-tests"
EVENT_SOCKET_PASSWORD = "console-for-tests"
DOMAIN = "sofia.test"
STRETCH = float(os.environ.get("SOFIA_TEST_STRETCH", "1"))
"Multiplies every waiting limit: slow machines set it."

BROKEN = re.compile(
    r"Traceback \(most recent call last\)|Exception ignored in|\b(?:Resource|Runtime)Warning: |never (?:awaited|retrieved)"
)
"What no node may print, whatever befalls it."
WARNINGS = "default::ResourceWarning,default::RuntimeWarning"

broken: list[str] = []
"What nodes have printed that they should not have, in the present test."
listeners: list[Callable[[Node, str], None]] = []
"Who hears what befalls nodes: started, active, standby, ready, killed, worker killed, switched over, stopped."
_addresses = itertools.count(1)


def loopback_address() -> str:
    """An address of 127/8 that no other test of this run uses: the shared address of one pair."""
    pid = os.getpid()
    return f"127.{1 + pid % 200}.{next(_addresses) % 250}.{1 + pid // 200 % 250}"


class Node:
    """One `sofia-node run`, in a process group of its own."""

    def __init__(
        self,
        name: str,
        run_dir: Path,
        settings: dict[str, str],
        *,
        standalone: bool = False,
        conf: Path = ROOT / "conf",
        host: Host | None = None,
    ) -> None:
        self.name, self.run_dir, self.settings, self.conf = name, run_dir, dict(settings), conf
        self.standalone, self.host = standalone, host
        self.environment: dict[str, str] = {}
        "What its processes find in their environment besides ours."
        self.may_break = False
        "The test breaks its code: it may print tracebacks."
        self.console_port = int(self.settings.setdefault("event_socket_port", str(free_port())))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def sip(self) -> tuple[str, int]:
        """Where it listens for SIP."""
        return self.settings["sip_ip"], 5060

    def start(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        self.tell("started")
        words = [*(self.host.prefix if self.host else ()), sys.executable, "-m", "ha", "run", "--conf", str(self.conf)]
        words += ["--run-dir", str(self.run_dir), "--node", self.name]
        words += [word for item in self.settings.items() for word in ("--set", "=".join(item))]
        words += ["--standalone"] if self.standalone else []
        with (self.run_dir / "output").open("ab") as output:
            self.process = subprocess.Popen(
                words,
                cwd=ROOT,
                env={**os.environ, "PYTHONWARNINGS": WARNINGS, **self.environment},
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def tell(self, what: str) -> None:
        """Something has befallen it."""
        for listener in listeners:
            listener(self, what)

    # ---- what it says of itself -------------------------------------------------------------------------------------

    def status(self) -> dict[str, object]:
        """What the supervisor answers on its control socket; raises OSError while there is none."""
        answer: dict[str, object] = self.control("status")
        return answer

    def control(self, verb: str, **words: object) -> dict[str, object]:
        if verb == "switchover":
            self.tell("switched over")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(10 * STRETCH)
            sock.connect(str(self.run_dir / "control"))
            sock.sendall(json.dumps({"verb": verb, **words}).encode() + b"\n")
            with sock.makefile("rb") as answers:
                answer: dict[str, object] = json.loads(answers.readline())
                return answer

    @property
    def role(self) -> str:
        try:
            return str(self.status().get("role", ""))
        except (OSError, ValueError):
            return ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[Node]:
        """Started and active; stopped in the end."""
        self.start()
        try:
            self.wait_role("active")
            yield self
        finally:
            self.stop()

    def wait_role(self, role: str, within: float = 20.0) -> None:
        until(lambda: self.role == role, within, f"{self.name} to be {role}", self)
        self.tell(role)

    def wait_ready(self, within: float = 20.0) -> None:
        """A standby whose processes are all loaded."""
        until(lambda: self.role == "standby" and bool(self.status()["ready"]), within, f"{self.name} to be ready", self)
        self.tell("ready")

    def revived(self) -> dict[str, dict[str, int]]:
        """For each slot that has gone through its claim: calls, legs, failed."""
        profiles = self.status()["profiles"]
        assert isinstance(profiles, dict)
        return {slot: counts for profile in profiles.values() for slot, counts in profile["revived"].items()}

    def api(self, command: str) -> str:
        """One command over the event socket, as fs_cli -x sends it."""
        with self.host.inside() if self.host else contextlib.nullcontext():
            sock = socket.create_connection(("127.0.0.1", self.console_port), timeout=15 * STRETCH)
        with sock:
            with sock.makefile("rwb") as stream:
                _read_block(stream)
                stream.write(f"auth {EVENT_SOCKET_PASSWORD}\n\n".encode())
                stream.flush()
                assert "+OK" in _read_block(stream)[0].get("Reply-Text", ""), "event socket refused the password"
                stream.write(f"api {command}\nconsole_execute: true\n\n".encode())
                stream.flush()
                return _read_block(stream)[1]

    def output(self) -> str:
        text = ""
        for path in (self.run_dir / "output", self.run_dir / "log" / "sofia-node.log"):
            with contextlib.suppress(OSError):
                text += f"--- {path}\n{path.read_text(errors='replace')[-6000:]}\n"
        return text

    def worker_pid(self, slot: str) -> int:
        """The process that owns a slot, 0 while none does."""
        children = self.status()["children"]
        assert isinstance(children, list)
        return next((int(child["pid"]) for child in children if child.get("slot") == slot), 0)

    def child_pid(self, kind: str) -> int:
        children = self.status()["children"]
        assert isinstance(children, list)
        return next(int(child["pid"]) for child in children if child.get("kind") == kind)

    # ---- what befalls it --------------------------------------------------------------------------------------------

    def kill(self) -> float:
        """SIGKILL every process of the node at once, as a power cut would; returns the moment."""
        assert self.process is not None
        moment = time.monotonic()
        self.tell("killed")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return moment

    def stop(self, within: float = 15.0) -> int:
        """SIGTERM, as an operator would; SIGKILL if that does not end it."""
        if self.process is None:
            return 0
        try:
            if self.process.poll() is None:
                self.tell("stopped")
                self.process.terminate()
            return self.process.wait(within * STRETCH)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL
        finally:
            self.judge()

    def judge(self) -> None:
        """Note what it should not have printed; the fixture `nodes_do_not_break` lets the test fail for it."""
        if self.may_break:
            return
        for path in (self.run_dir / "output", self.run_dir / "log" / "sofia-node.log"):
            text = path.read_text(errors="replace") if path.exists() else ""
            if found := BROKEN.search(text):
                broken.append(f"{self.name}, {path}: ...{text[max(0, found.start() - 500) : found.start() + 3000]}")
                return


class Pair:
    """Two nodes, one shared address, one SQLite store."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        address: str | None = None,
        hosts: Sequence[Host] = (),
        **settings: str,
    ) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="sofia-") if directory is None else None
        self.directory = directory or Path(self._temporary.name)  # type: ignore[union-attr]
        self.address = address or loopback_address()
        self.sip = (self.address, 5060)
        links = [f"{host.address}:7001" for host in hosts] or [f"127.0.0.1:{free_port()}" for _ in range(2)]
        shared = shared_settings(self.address, self.directory / "store.db") | settings
        self.nodes = [
            Node(
                name,
                self.directory / name,
                shared | {"peer_listen": links[i], "peer_address": links[1 - i]},
                host=hosts[i] if hosts else None,
            )
            for i, name in enumerate(("alpha", "beta"))
        ]

    def __enter__(self) -> Pair:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        for node in self.nodes:
            node.stop()
        if self._temporary is not None:
            self._temporary.cleanup()

    def start(self) -> None:
        first, second = self.nodes
        first.start()
        first.wait_role("active")
        second.start()
        second.wait_ready()

    @property
    def active(self) -> Node:
        return next(node for node in self.nodes if node.role == "active")

    @property
    def standby(self) -> Node:
        return next(node for node in self.nodes if node.role == "standby")


def shared_settings(address: str, store: Path) -> dict[str, str]:
    return {
        "sip_ip": address,
        "rtp_ip": address,
        "external_sip_ip": address,
        "domain": DOMAIN,
        "default_password": PASSWORD,
        "event_socket_password": EVENT_SOCKET_PASSWORD,
        "switchname": "sofia-pair",
        "core_db_dsn": f"sqlite://{store}",
    }


def secured(folder: Path, authority: Authority, conf: Path = ROOT / "conf") -> Node:
    """A node for itself, on an address of its own, that speaks TLS with a certificate of this authority."""
    address = loopback_address()
    settings = shared_settings(address, folder / "store.db") | authority.settings(address, DOMAIN)
    return Node("solo", folder / "solo", settings, standalone=True, conf=conf)


def until(holds, within: float, what: str, *nodes: Node) -> None:  # type: ignore[no-untyped-def]
    """Wait until a condition holds; says what was waited for, and what the nodes said, when it never does."""
    deadline = time.monotonic() + within * STRETCH
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {within * STRETCH:.0f} s for {what}\n" + "".join(n.output() for n in nodes))
        time.sleep(0.02)


def _read_block(stream) -> tuple[dict[str, str], str]:  # type: ignore[no-untyped-def]
    headers: dict[str, str] = {}
    while (line := stream.readline().decode(errors="replace").rstrip("\n")) or not headers:
        name, _, value = line.partition(": ")
        headers[name] = value
    return headers, stream.read(int(headers.get("Content-Length", "0"))).decode(errors="replace")
