"""keepalived as it is shipped in deploy/, one for each host."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.netns import Host
from tests.support.node import ROOT, STRETCH, Node

DEPLOYED = ROOT / "deploy" / "keepalived"


class Keepalived:
    """The keepalived of one host, which leads the node of that host."""

    def __init__(self, node: Node, other: Host, shared: str, directory: Path) -> None:
        assert node.host is not None
        self.node, self.host, self.shared = node, node.host, shared
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        command = directory / "sofia-node"
        command.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m ha "$@"\n')
        command.chmod(0o755)
        own = {
            "THIS": self.host.address,
            "OTHER": other.address,
            "SHARED": f"{shared}/24",
            "INTERFACE": "eth0",
            "RUN_DIR": str(node.run_dir),
            "SOFIA_NODE": str(command),
            "HANDS": str(DEPLOYED / "keepalived-hands"),
        }
        text = (DEPLOYED / "keepalived.conf").read_text()
        for name, value in own.items():
            text, count = re.subn(rf"^\${name}=.*$", f"${name}={value}", text, flags=re.M)
            assert count == 1, name
        (directory / "keepalived.conf").write_text(text)

    def start(self) -> None:
        words = [*self.host.prefix, "keepalived", "-n", "-l", "-D", "-f", str(self.directory / "keepalived.conf")]
        for option, name in (("-p", "pid"), ("-r", "vpid"), ("-c", "cpid"), ("-b", "bpid")):
            words += [option, str(self.directory / name)]
        with (self.directory / "output").open("ab") as output:
            self.process = subprocess.Popen(
                words,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def has_the_address(self) -> bool:
        shown = subprocess.run(
            ["ip", "-n", self.host.name, "-o", "addr", "show", "dev", "eth0"],
            capture_output=True,
            text=True,
            check=False,
        )
        return f" {self.shared}/" in shown.stdout

    def kill(self) -> None:
        """Both of its processes at once: it says no goodbye, and the address stays."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            # Its child may be nobody's for a while, not yet collected, and taken for running by the next one.
            for name in ("pid", "vpid", "cpid", "bpid"):
                (self.directory / name).unlink(missing_ok=True)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10 * STRETCH)
            except subprocess.TimeoutExpired:
                self.kill()

    def output(self) -> str:
        path = self.directory / "output"
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""
