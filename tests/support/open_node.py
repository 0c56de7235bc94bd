"""A node that lets everybody in: no passwords, registrations believed, 9196 answers. For tests of what it survives."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.support.node import ROOT, STRETCH, Node, loopback_address, shared_settings

ANSWERING = "9196"
_PUBLIC = """<include>
  <context name="public">
    <extension name="echo">
      <condition field="destination_number" expression="^9196$">
        <action application="answer"/>
        <action application="echo"/>
      </condition>
    </extension>
    <extension name="rings">
      <condition field="destination_number" expression="^9195$">
        <action application="ring_ready"/>
        <action application="sleep" data="20000"/>
      </condition>
    </extension>
    <extension name="phones">
      <condition field="destination_number" expression="^(10[01][0-9])$">
        <action application="set" data="call_timeout=5"/>
        <action application="set" data="hangup_after_bridge=true"/>
        <action application="bridge" data="user/$1@$${domain}"/>
      </condition>
    </extension>
  </context>
</include>
"""
TROUBLE = ("Traceback", "[ERROR]", "[CRITICAL]")
"What the log of a node never holds that is well."


def open_node(directory: Path, params: Mapping[str, str] = MappingProxyType({}), **settings: str) -> Node:
    """Not started yet. 9196 answers and echoes, 9195 rings, 1000 to 1019 are the phones; else 404.

    `params` are more params of the profile `internal`.
    """
    conf = directory / "conf"
    shutil.copytree(ROOT / "conf", conf)
    profile = conf / "sip_profiles" / "internal.xml"
    text = profile.read_text()
    text = text.replace('"apply-inbound-acl" value="domains"', '"apply-inbound-acl" value="loopback.auto"')
    own = {"accept-blind-reg": "true", "max-source-requests-per-second": "0", "max-source-auth-failures": "0", **params}
    lines = "".join(f'\n    <param name="{name}" value="{value}"/>' for name, value in own.items())
    text = text.replace("<settings>", f"<settings>{lines}")
    profile.write_text(text)
    switch = conf / "autoload_configs" / "switch.conf.xml"
    switch.write_text(
        switch.read_text().replace('"sessions-per-second" value="1000"', '"sessions-per-second" value="1000000"')
    )
    (conf / "dialplan" / "public.xml").write_text(_PUBLIC)
    shared = shared_settings(loopback_address(), directory / "store.db")
    wanted = {"internal_auth_calls": "false", "max_recv_rps": "0", **settings}
    return Node("open", directory / "run", shared | wanted, standalone=True, conf=conf)


def resident(pid: int) -> int:
    """KiB of memory that a process holds."""
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def log_of(node: Node) -> str:
    """All that it has said."""
    paths = (node.run_dir / "output", node.run_dir / "log" / "sofia-node.log")
    return "".join(path.read_text(errors="replace") for path in paths if path.exists())


def trouble_of(node: Node) -> list[str]:
    """Lines of the log that tell of trouble."""
    return [line for line in log_of(node).splitlines() if any(word in line for word in TROUBLE)]


def wait_settled(node: Node, slot: str = "internal#0", within: float = 20.0) -> int:
    """Wait until the worker of a slot is there; returns its process id."""
    deadline = time.monotonic() + within * STRETCH
    while not (pid := node.worker_pid(slot)):
        assert time.monotonic() < deadline, f"no worker for {slot}\n{node.output()}"
        time.sleep(0.02)
    return pid
