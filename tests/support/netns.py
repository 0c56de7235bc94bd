"""Hosts in network namespaces: three on one switch, with real interfaces, addresses that move, cables to pull."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
import threading
from collections.abc import Iterator

CLONE_NEWNET = 0x40000000
_islands = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """One namespace with eth0 and an address."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address

    @property
    def prefix(self) -> tuple[str, ...]:
        """What to put before a command to run it on this host."""
        return ("ip", "netns", "exec", self.name)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets made by this thread in here belong to the host, and stay there."""
        home = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        try:
            _setns(there)
            yield
        finally:
            _setns(home)
            os.close(home)
            os.close(there)


class Network:
    """A switch in a namespace of its own, and hosts on it. Use as a context manager."""

    def __init__(self, hosts: int = 3, subnet: str = "10.99.0") -> None:
        mark = f"sn{os.getpid() % 100000}"
        self._switch = f"{mark}s"
        self.hosts = [Host(f"{mark}h{n}", f"{subnet}.{10 + n}") for n in range(1, hosts + 1)]

    def __enter__(self) -> Network:
        run("ip", "netns", "add", self._switch)
        run("ip", "-n", self._switch, "link", "set", "lo", "up")
        run("ip", "-n", self._switch, "link", "add", "br0", "type", "bridge")
        run("ip", "-n", self._switch, "link", "set", "br0", "up")
        for number, host in enumerate(self.hosts, 1):
            run("ip", "netns", "add", host.name)
            run("ip", "-n", host.name, "link", "set", "lo", "up")
            run(
                *("ip", "-n", host.name, "link", "add", "eth0", "type", "veth"),
                *("peer", "name", f"p{number}", "netns", self._switch),
            )
            run("ip", "-n", self._switch, "link", "set", f"p{number}", "master", "br0", "up")
            run("ip", "-n", host.name, "addr", "add", f"{host.address}/24", "dev", "eth0")
            run("ip", "-n", host.name, "link", "set", "eth0", "up")
        return self

    def __exit__(self, *_exception: object) -> None:
        for name in [host.name for host in self.hosts] + [self._switch]:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def unplug(self, host: Host) -> None:
        """Pull the cable: the host loses carrier."""
        run("ip", "-n", self._switch, "link", "set", f"p{1 + self.hosts.index(host)}", "down")

    def plug(self, host: Host) -> None:
        run("ip", "-n", self._switch, "link", "set", f"p{1 + self.hosts.index(host)}", "up")

    def part(self, one: Host, other: Host) -> None:
        """These two hear nothing of each other any more; everybody else hears both."""
        for host, peer in ((one, other), (other, one)):
            run("ip", "-n", host.name, "route", "add", "blackhole", f"{peer.address}/32")

    def unite(self, one: Host, other: Host) -> None:
        for host, peer in ((one, other), (other, one)):
            run("ip", "-n", host.name, "route", "del", "blackhole", f"{peer.address}/32")


class Island(Host):
    """A host that is on no network: only its loopback device, with all of 127/8 and what IPv6 addresses it is given."""

    def __init__(self, *addresses: str) -> None:
        super().__init__(f"sn{os.getpid() % 100000}i{next(_islands)}", "127.0.0.1")
        self._addresses = addresses

    def __enter__(self) -> Island:
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        for address in self._addresses:
            run("ip", "-n", self.name, "addr", "add", f"{address}/128", "dev", "lo")
        return self

    def __exit__(self, *_exception: object) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


def lose_address(host: Host, address: str) -> None:
    """What a boot does to an address that somebody had added; a namespace keeps it."""
    subprocess.run(
        ["ip", "-n", host.name, "addr", "del", f"{address}/24", "dev", "eth0"], check=False, capture_output=True
    )


def run(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
