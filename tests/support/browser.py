"""JsSIP, the SIP stack that browsers load, in a Node.js of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path

from tests.support.node import STRETCH

HERE = Path(__file__).parent / "jssip"


class Browser:
    """One phone that registers by itself, connects again by itself, and calls as it is told. Use as a context manager."""

    def __init__(self, user: str, password: str, domain: str, url: str, trust: Path) -> None:
        self._words = ["node", str(HERE / "phone.js"), url, user, domain, password]
        self._environment = {**os.environ, "NODE_EXTRA_CA_CERTS": str(trust)}

    def __enter__(self) -> Browser:
        self._output = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            self._words, env=self._environment, stdin=subprocess.PIPE, stdout=self._output, stderr=self._output
        )
        return self

    def __exit__(self, *_exception: object) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()

    def does(self, words: str) -> None:
        """One of the commands of `jssip/phone.js`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{words}\n".encode())
        self._process.stdin.flush()

    def says(self, line: str, times: int = 1, within: float = 15.0) -> None:
        """Wait until it has said this line so many times."""
        deadline = time.monotonic() + within * STRETCH
        while self.said().count(line) < times:
            assert time.monotonic() < deadline, f"it never said {line!r} {times} times, only {self.said()}"
            time.sleep(0.05)

    def said(self) -> list[str]:
        return os.pread(self._output.fileno(), 1 << 20, 0).decode().splitlines()
