"""Kamailio as an edge proxy between phones and a node, with Record-Route and Path; its own record of what it saw."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.baresip import Baresip
from tests.support.certificates import Authority
from tests.support.node import DOMAIN, PASSWORD, STRETCH

CONFIGURATION = Path(__file__).with_name("kamailio.cfg")
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 5060}


class Edge:
    """One Kamailio on an address of its own. Use as a context manager."""

    def __init__(
        self,
        host: str,
        node: str,
        authority: Authority,
        *,
        towards: str,
        forked: tuple[str, str, str] = ("nobody", "sip:invalid", "sip:invalid"),
        flows: bool = False,
        web: bool = False,
    ) -> None:
        """`towards`: the transport by which it speaks to the node's address. Both addresses may be of IPv6.

        `forked`: a user for whom it rings two contacts at once. `flows`: it keeps those of phones (RFC 5626).
        `web`: it takes WebSockets too.
        """
        self.host, self.authority = host, authority
        self._temporary = tempfile.TemporaryDirectory(prefix="kamailio-")
        self._folder = Path(self._temporary.name)
        certificate = self._folder / "edge.pem"
        certificate.write_text(authority.issue("edge.test", host))
        words = {
            "HOST": bracketed(host),
            "NODE": bracketed(node),
            "TARGET": f"{bracketed(node)}:{PORTS[towards]}",
            "TOWARDS": towards,
            "CERTIFICATE": certificate,
            "AUTHORITY": authority.certificate,
            "FORKED": forked[0],
            "FIRST": forked[1],
            "SECOND": forked[2],
        }
        defined = "".join(f'#!substdef "!EDGE_{name}!{value}!g"\n' for name, value in words.items())
        defined += "#!define FLOWS\n" if flows else ""
        defined += "#!define WEB\n" if web else ""
        (self._folder / "edge.cfg").write_text(f'#!KAMAILIO\n{defined}include_file "{CONFIGURATION}"\n')

    def address(self, transport: str) -> tuple[str, int]:
        return self.host, PORTS[transport]

    def __enter__(self) -> Edge:
        program = shutil.which("kamailio", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "kamailio"
        words = [program, "-DD", "-E", "-f", str(self._folder / "edge.cfg"), "-m", "32", "-M", "4"]
        words += ["-P", str(self._folder / "pid"), "-Y", str(self._folder)]
        self._output = (self._folder / "output").open("wb")
        self._process = subprocess.Popen(
            words, stdout=self._output, stderr=self._output, stdin=subprocess.DEVNULL, start_new_session=True
        )
        self.saw("[ready]")
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()
        self._output.close()
        self._temporary.cleanup()

    def stop(self) -> None:
        """As if its host were gone: nobody listens, connections are reset."""
        if self._process.returncode is not None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5 * STRETCH)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # whatever it has not ended itself
        self._process.wait()

    def phone(
        self,
        transport: str,
        *,
        user: str = "1000",
        password: str = PASSWORD,
        port: int = 0,
        answers: bool = True,
        second: Edge | None = None,
    ) -> Baresip:
        """A phone whose way to its registrar is this proxy; with a `second` one, it has a flow through each (RFC 5626)."""
        way: dict[str, Any] = {"transport": transport, "trust": self.authority.certificate}
        if second is not None:
            host, number = second.address(transport)
            way["extra"] = f';sipnat=outbound;outbound2="sip:{host}:{number};transport={transport}"'
        return Baresip(user, password, DOMAIN, self.address(transport), port=port, tone=440, answers=answers, **way)

    def said(self) -> str:
        return (self._folder / "output").read_text(errors="replace")

    def count(self, mark: str) -> int:
        """How often it has written this mark, such as `[loose BYE]`, a request routed by the route set of its dialog."""
        return self.said().count(mark)

    def saw(self, mark: str, times: int = 1, within: float = 10.0) -> None:
        """Wait until it has written the mark so many times."""
        deadline = time.monotonic() + within * STRETCH
        while self.count(mark) < times:
            assert self._process.poll() is None, f"Kamailio has ended:\n{self.said()}"
            assert time.monotonic() < deadline, f"Kamailio never wrote {mark} {times} times:\n{self.said()}"
            time.sleep(0.02)


def bracketed(host: str) -> str:
    """As a URI has it."""
    return f"[{host}]" if ":" in host else host
