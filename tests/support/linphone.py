"""Linphone's daemon as a real phone: registers, calls, answers, pauses, transfers, sends messages, at its socket's word."""

from __future__ import annotations

import re
import secrets
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.node import DOMAIN, STRETCH
from tests.support.ports import block

RUNNING, PAUSED, PAUSED_BY_OTHER = "StreamsRunning", "Paused", "PausedByRemote"


class Linphone:
    """One daemon with one account. Use as a context manager."""

    def __init__(
        self,
        user: str,
        password: str,
        server: tuple[str, int],
        *,
        transport: str,
        trust: Path | None = None,
        answers: bool = True,
        domain: str = DOMAIN,
    ) -> None:
        """`trust`: the authorities of its registrar's certificate."""
        port = block()
        self.user, self._answers = user, answers
        self._temporary = tempfile.TemporaryDirectory(prefix="linphone-")
        self.directory = Path(self._temporary.name)
        (self.directory / ".local" / "share" / "linphone").mkdir(parents=True)
        own = {kind: port if kind == transport else 0 for kind in ("udp", "tcp", "tls")}
        proxy = f"<sip:{server[0]}:{server[1]};transport={transport}>"
        (self.directory / "rc").write_text(
            f"[sip]\nsip_port={own['udp']}\nsip_tcp_port={own['tcp']}\nsip_tls_port={own['tls']}\nbind_address=127.0.0.1\n"
            f"use_ipv6=0\nguess_hostname=0\ndefault_proxy=0\n"
            + (f"root_ca={trust}\nverify_server_certs=1\nverify_server_cn=0\n" if trust is not None else "")
            + f"[rtp]\naudio_rtp_port={port + 2}-{port + 100}\n[video]\ncapture=0\ndisplay=0\n"
            f"[proxy_0]\nreg_proxy={proxy}\nreg_route={proxy}\nreg_identity=sip:{user}@{domain}\nreg_expires=600\n"
            f"reg_sendregister=1\npublish=0\n[auth_info_0]\nusername={user}\npasswd={password}\nrealm={domain}\n"
        )

    def __enter__(self) -> Linphone:
        self._start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop()
        self._temporary.cleanup()

    def _start(self) -> None:
        # The name of a Unix socket in /tmp, and no longer than that of one may be.
        name = f"linphone-{secrets.token_hex(6)}"
        words = ["linphone-daemon", "--config", str(self.directory / "rc"), "--log", str(self.directory / "log")]
        words += ["--disable-stats-events", "--pipe", name, *(["--auto-answer"] if self._answers else [])]
        self._output = (self.directory / "output").open("wb")
        environment = {"HOME": str(self.directory), "PATH": "/usr/bin:/bin"}
        self._process = subprocess.Popen(
            words, env=environment, stdout=self._output, stderr=self._output, stdin=subprocess.DEVNULL
        )
        self._path, deadline = Path("/tmp") / name, time.monotonic() + 20 * STRETCH
        while True:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                self._socket.connect(str(self._path))
                break
            except OSError:
                self._socket.close()
                assert time.monotonic() < deadline, "linphone-daemon has not opened its socket\n" + self.log()
                time.sleep(0.05)
        self._socket.settimeout(20 * STRETCH)

    def _stop(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()
        self._path.unlink(missing_ok=True)
        self._output.close()
        (self.directory / "log").unlink(missing_ok=True)

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def command(self, words: str) -> str:
        """One command; what it answers, without a judgement."""
        self._socket.sendall(f"{words}\n".encode())
        return self._socket.recv(65536).decode(errors="replace")

    def does(self, words: str) -> str:
        answer = self.command(words)
        assert answer.startswith("Status: Ok"), f"linphone {self.user}, {words}: {answer}"
        return answer

    # ---- what a user does and sees ----------------------------------------------------------------------------------

    def registered(self) -> None:
        """Wait until it is. Once in hundred starts it does not trust the authority that it has read; then it is started again."""
        self._until("register-status ALL", ("State: LinphoneRegistrationOk", "State: LinphoneRegistrationFailed"))
        if "Certificate verification failed" in self.log():
            self._stop()
            self._start()
        self._until("register-status ALL", ("State: LinphoneRegistrationOk",))

    def refused(self) -> None:
        self._until("register-status ALL", ("State: LinphoneRegistrationFailed",))

    def call(self, number: str) -> int:
        """Call; returns the call's number, by which this phone's other commands name it."""
        answer = self.does(f"call sip:{number}@{DOMAIN}")
        found = re.search(r"Id: (\d+)", answer)
        assert found is not None, answer
        return int(found[1])

    def focus(self) -> int:
        """The number of its only call."""
        numbers = [number for number in range(1, 100) if self.state(number)]
        assert len(numbers) == 1, numbers
        return numbers[0]

    def state(self, call: int | str = "") -> str:
        """Of one call, or of that with the focus; empty when there is none."""
        found = re.search(r"State: LinphoneCall(\w+)", self.command(f"call-status {call}".strip()))
        return found[1] if found else ""

    def is_in(self, state: str, call: int | str = "", within: float = 15.0) -> None:
        """Wait until a call is in a state; that of an empty name is no call."""
        deadline = time.monotonic() + within * STRETCH
        while (now := self.state(call)) != state:
            assert time.monotonic() < deadline, f"linphone {self.user}: {now!r}, never {state!r}\n{self.log()[-8000:]}"
            time.sleep(0.05)

    def logs(self, text: str, within: float = 15.0) -> None:
        """Wait until the text is in its log, which has every message it got."""
        deadline = time.monotonic() + within * STRETCH
        while text not in self.log():
            assert time.monotonic() < deadline, f"linphone {self.user} never got {text!r}\n{self.log()[-8000:]}"
            time.sleep(0.05)

    def _until(self, command: str, texts: tuple[str, ...], within: float = 15.0) -> None:
        """Wait until a command is answered with one of the texts."""
        deadline = time.monotonic() + within * STRETCH
        while not any(text in (answer := self.command(command)) for text in texts):
            assert time.monotonic() < deadline, f"linphone {self.user}, {command}: {answer}\n{self.log()[-8000:]}"
            time.sleep(0.05)
