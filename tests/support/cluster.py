"""Pacemaker and Corosync on hosts in namespaces, without systemd: each host has processes, mounts and a name of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.support.netns import Host
from tests.support.node import ROOT, STRETCH, Node, until

DEPLOYED = ROOT / "deploy" / "pacemaker"

COROSYNC = """
totem {{
  version: 2
  cluster_name: sofia
  transport: knet
  crypto_cipher: none
  crypto_hash: none
  token: 1000
}}
nodelist {{
{nodes}
}}
quorum {{
  provider: corosync_votequorum
  two_node: 1
  wait_for_all: 0
}}
logging {{
  to_stderr: yes
  to_syslog: no
  to_logfile: no
}}
"""
NODE = """  node {{
    ring0_addr: {address}
    name: {name}
    nodeid: {number}
  }}"""

BOOT = """
set -e
mount --make-rprivate /
mkdir -p {private}/{{run,shm,pacemaker,corosync,log,etc}}
resources=/usr/lib/ocf/resource.d
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/resources
mount --bind $resources/heartbeat /run/resources
mount -t tmpfs tmpfs $resources
mkdir $resources/heartbeat $resources/sofia
mount --bind /run/resources $resources/heartbeat
mount --bind {deployed} $resources/sofia
mount -t tmpfs tmpfs /dev/shm
for pair in pacemaker:/var/lib/pacemaker corosync:/var/lib/corosync log:/var/log etc:/etc/corosync; do
    mount --bind {private}/${{pair%%:*}} ${{pair#*:}}
done
hostname {name}
cp {private}/corosync.conf /etc/corosync/corosync.conf
cp {private}/options /run/sofia-node.default
cp {private}/environment /run/sofia-node.environment
install -d -o hacluster -g haclient -m 750 /var/lib/pacemaker /var/lib/pacemaker/cib /var/lib/pacemaker/pengine \
    /var/lib/pacemaker/blackbox /var/lib/pacemaker/cores /var/log/pacemaker
if [ ! -e /var/lib/pacemaker/cib/cib.xml ]; then
    # Without it a cluster waits 20 s for others before it elects who decides.
    cibadmin --empty | sed 's#<crm_config/>#<crm_config><cluster_property_set id="cib-bootstrap-options">\
<nvpair id="delay" name="dc-deadtime" value="2s"/><nvpair id="fencing" name="stonith-enabled" value="false"/>\
</cluster_property_set></crm_config>#' >/var/lib/pacemaker/cib/cib.xml
    chown hacluster:haclient /var/lib/pacemaker/cib/cib.xml
    chmod 600 /var/lib/pacemaker/cib/cib.xml
fi
corosync -f &
until corosync-cfgtool -s >/dev/null 2>&1; do sleep 0.1; done
exec pacemakerd -f
"""


class Clustered:
    """One host of a cluster; its node is started by Pacemaker, not by us."""

    def __init__(self, node: Node, directory: Path, number: int, hosts: list[Host]) -> None:
        assert node.host is not None
        self.node, self.host, self.name = node, node.host, f"n{number}"
        self.private = directory / self.name
        self.private.mkdir(parents=True)
        self.process: subprocess.Popen[bytes] | None = None
        nodes = "\n".join(
            NODE.format(address=host.address, name=f"n{each}", number=each) for each, host in enumerate(hosts, 1)
        )
        (self.private / "corosync.conf").write_text(COROSYNC.format(nodes=nodes))
        options = f"--node {node.name} " + " ".join(f"--set {name}={value}" for name, value in node.settings.items())
        (self.private / "options").write_text(f"SOFIA_OPTIONS={options}\n")
        self.command = self.private / "sofia-node"
        # The same file serves both hosts; what differs between them is in a file of each.
        (self.private / "environment").write_text("".join(f"{n}='{v}'\n" for n, v in node.environment.items()))
        reads = "set -a; [ ! -e /run/sofia-node.environment ] || . /run/sofia-node.environment"
        self.command.write_text(f'#!/bin/sh\n{reads}\nPYTHONPATH={ROOT} exec {sys.executable} -m ha "$@"\n')
        self.command.chmod(0o755)

    def boot(self) -> None:
        script = BOOT.format(private=self.private, deployed=DEPLOYED, name=self.name)
        words = [*self.host.prefix, "unshare", "-m", "-u", "-i", "-p", "-f", "--mount-proc", "--kill-child"]
        with (self.private / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [*words, "bash", "-c", script],
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    @property
    def init(self) -> int:
        """The first process of the host, as we number it; 0: it is down."""
        if self.process is None or self.process.poll() is not None:
            return 0
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else 0

    def run(self, *words: str, check: bool = True, within: float = 60) -> str:
        """A command on this host."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.init), "-a", *words],
            capture_output=True,
            text=True,
            timeout=within * STRETCH,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def wait_for_both(self, within: float = 60) -> None:
        """The cluster is formed, and has somebody who decides."""

        def formed() -> bool:
            if not self.init:
                return False
            shown = self.run("crm_mon", "-1", check=False)
            return "partition with quorum" in shown and "Online: [ n1 n2 ]" in shown

        until(formed, within, f"{self.name} to see both")

    def kill(self) -> None:
        """Power off."""
        init = self.init
        if init:
            os.kill(init, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(20)

    def output(self) -> str:
        path = self.private / "output"
        return path.read_text(errors="replace")[-3000:] if path.exists() else ""
