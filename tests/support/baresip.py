"""baresip as a real phone: registers, calls, answers by itself, plays a tone and records what it hears."""

from __future__ import annotations

import array
import itertools
import json
import math
import socket
import subprocess
import tempfile
import time
import wave
from collections.abc import Callable
from pathlib import Path

from tests.support.node import DOMAIN, STRETCH, Node, until
from tests.support.ports import block, free_port

MODULES = ("g711", "aufile", "aubridge", "sndfile", "ctrl_tcp", "cons", "menu")


class Baresip:
    """One baresip process with one account. Use as a context manager."""

    def __init__(
        self,
        user: str,
        password: str,
        domain: str,
        server: tuple[str, int],
        *,
        tone: float,
        port: int = 0,
        transport: str = "udp",
        trust: Path | None = None,
        answers: bool = True,
        extra: str = "",
    ) -> None:
        """`trust`: the authorities of its registrar's certificate, for TLS. `answers`: calls, by itself; else it rings.

        `port`: its own; where none is given, one that is free. `extra`: more of its account's parameters, each with its semicolon."""
        self.port = port = port or block()
        self._temporary = tempfile.TemporaryDirectory(prefix="baresip-")
        self.directory = Path(self._temporary.name)
        self.user, self._control, self._keys = user, free_port(), free_port()
        write_tone(self.directory / "tone.wav", tone)
        library = next(Path("/usr/lib").glob("**/baresip/modules"), Path("/usr/lib/baresip/modules"))
        (self.directory / "config").write_text(
            f"sip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\nrtp_ports {port + 100}-{port + 200}\n"
            f"audio_source aufile,{self.directory}/tone.wav\naudio_player aubridge,nil\naudio_alert aubridge,nil\n"
            f"snd_path {self.directory}\nctrl_tcp_listen 127.0.0.1:{self._control}\n"
            f"cons_listen 127.0.0.1:{self._keys}\n"
            + (f"sip_cafile {trust}\n" if trust is not None else "")
            + f"module_path {library}\nmodule_tmp uuid.so\nmodule_tmp account.so\n"
            + "".join(f"module {name}.so\n" for name in MODULES)
        )
        (self.directory / "accounts").write_text(
            f'<sip:{user}@{domain}>;auth_user={user};auth_pass={password};outbound="sip:{server[0]}:{server[1]};transport={transport}"'
            f";answermode={'auto' if answers else 'manual'};regint=600;audio_codecs=pcmu{extra}\n"
        )
        (self.directory / "contacts").write_text("")

    def __enter__(self) -> Baresip:
        self._log = (self.directory / "output").open("wb")
        self._process = subprocess.Popen(
            ["baresip", "-f", str(self.directory)], stdout=self._log, stderr=self._log, stdin=subprocess.DEVNULL
        )
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
        self._temporary.cleanup()

    def says(self, text: str, within: float = 10.0, times: int = 1) -> None:
        """Wait until its output contains the text so many times."""
        deadline = time.monotonic() + within * STRETCH
        while self.output().count(text) < times:
            assert time.monotonic() < deadline, f"baresip {self.user} never said {text!r}:\n{self.output()}"
            time.sleep(0.05)

    def more(self, text: str) -> Callable[[], None]:
        """What waits until it has said the text once more than now."""
        times = self.output().count(text) + 1
        return lambda: self.says(text, times=times)

    def output(self) -> str:
        return (self.directory / "output").read_text(errors="replace")

    def command(self, command: str, parameters: str = "") -> None:
        """A command over its control socket (netstring and JSON)."""
        text = json.dumps({"command": command, "params": parameters, "token": "t"})
        with socket.create_connection(("127.0.0.1", self._control), timeout=5) as sock:
            sock.sendall(f"{len(text)}:{text},".encode())
            sock.recv(4096)

    def press(self, keys: str) -> None:
        """Keys of its console, for what has no command: `x` holds the call, `X` takes it back."""
        with socket.create_connection(("127.0.0.1", self._keys), timeout=5) as sock:
            sock.sendall(keys.encode())

    def heard(self) -> float:
        """The frequency of what it received, in hertz; 0 if it heard nothing."""
        recordings = sorted(self.directory.glob("*dec*.wav")) or sorted(self.directory.glob("dump*rx*.wav"))
        return frequency(recordings[-1]) if recordings else 0.0


# ---- what they do together ----------------------------------------------------------------------------------------------


def registered(node: Node, *phones: Baresip) -> None:
    """Wait until all are: on a busy machine the answer may come before the store has it."""
    for phone in phones:
        phone.says("200 OK")
    for phone in phones:
        until(lambda user=phone.user: f"{user}," in node.api("show registrations"), 10, "a registration", node)  # type: ignore[misc]


def connect(caller: Baresip, callee: Baresip) -> None:
    """One calls the other, and both are in the call."""
    waits = [phone.more("Call established") for phone in (caller, callee)]
    caller.command("dial", f"sip:{callee.user}@{DOMAIN}")
    for wait in waits:
        wait()


def ring(caller: Baresip, callee: Baresip) -> None:
    """One calls the other, which rings."""
    waits = [callee.more("Incoming call"), caller.more("180 Ringing")]
    caller.command("dial", f"sip:{callee.user}@{DOMAIN}")
    for wait in waits:
        wait()


def hold_and_take_back(phone: Baresip, other: Baresip) -> None:
    """Two re-INVITEs, each heard of at the other end."""
    for key in "xX":
        offered = other.more("got re-INVITE")
        phone.press(key)
        offered()


def hang_up(one: Baresip, other: Baresip) -> None:
    closed = other.more("session closed")
    one.command("hangup")
    closed()


def all_gone(node: Node) -> None:
    until(lambda: "\n0 total" in node.api("show channels count"), 10, "all channels to be gone", node)


# ---- tones --------------------------------------------------------------------------------------------------------------


def write_tone(path: Path, hertz: float, seconds: float = 30.0, rate: int = 8000) -> None:
    samples = array.array(
        "h", (round(9000 * math.sin(2 * math.pi * hertz * n / rate)) for n in range(int(seconds * rate)))
    )
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())


def frequency(path: Path) -> float:
    """The pitch of a recording by its zero crossings, silence left out."""
    raw = path.read_bytes()
    start = raw.find(b"data") + 8
    rate = int.from_bytes(raw[24:28], "little")
    samples = array.array("h", raw[start : start + (len(raw) - start) // 2 * 2])
    loud = [n for n, sample in enumerate(samples) if abs(sample) > 1000]
    if len(loud) < rate // 4:
        return 0.0
    voiced = samples[loud[0] : loud[-1]]
    crossings = sum(1 for a, b in itertools.pairwise(voiced) if a < 0 <= b)
    return crossings * rate / len(voiced)
