"""The shared address: the packets byte by byte, and a real one moved between two namespaces."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ha.address import arp, neighbour_advertisement
from tests.ha.rig import Running, profile, running, tree
from tests.support.node import ROOT, STRETCH

HARDWARE = bytes.fromhex("020000000001")


def test_a_gratuitous_arp_names_the_address_as_sender_and_target():
    address = ipaddress.IPv4Address("192.0.2.10")
    assert arp(HARDWARE, address, 1).hex() == (
        "ffffffffffff02000000000108060001080006040001020000000001c000020a000000000000c000020a"
    )
    assert arp(HARDWARE, address, 2)[20:22] == b"\x00\x02"


def test_an_unsolicited_advertisement_has_a_right_checksum():
    packet = neighbour_advertisement(HARDWARE, ipaddress.IPv6Address("2001:db8::10"))
    assert packet[:6].hex() == "333300000001"
    body, addresses = packet[54:], packet[22:54]
    words = addresses + len(body).to_bytes(4, "big") + b"\0\0\0\x3a" + body
    total = sum(int.from_bytes(words[i : i + 2], "big") for i in range(0, len(words), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF
    assert body[0] == 136
    assert body[4] & 0x20, "the override flag"


# ---- namespaces ----------------------------------------------------------------------------------------------------


def sh(command: str) -> str:
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


class Hosts:
    """Three hosts on one wire, each a network namespace."""

    def __init__(self) -> None:
        self.name = f"ha{os.getpid()}"
        switch = f"{self.name}-sw"
        sh(f"ip netns add {switch}; ip -n {switch} link add br0 type bridge; ip -n {switch} link set br0 up")
        for number in (1, 2, 3):
            host = self.host(number)
            sh(f"ip netns add {host} && ip -n {host} link set lo up")
            sh(f"ip -n {host} link add eth0 type veth peer name p{number} netns {switch}")
            sh(f"ip -n {switch} link set p{number} master br0 up")
            sh(f"ip -n {host} addr add 10.99.0.1{number}/24 dev eth0")
            sh(f"ip -n {host} addr add 2001:db8::1{number}/64 dev eth0 nodad && ip -n {host} link set eth0 up")

    def host(self, number: int) -> str:
        return f"{self.name}-{number}"

    def python(self, number: int, code: str) -> str:
        words = ["ip", "netns", "exec", self.host(number), sys.executable, "-c", f"from ha.address import *\n{code}"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def addresses(self, number: int) -> list[str]:
        shown = json.loads(sh(f"ip -j -n {self.host(number)} addr show dev eth0"))
        return [f"{each['local']}/{each['prefixlen']}" for each in shown[0]["addr_info"]]

    def neighbour(self, number: int, address: str) -> str:
        """What hardware address this host believes in."""
        shown = json.loads(sh(f"ip -j -n {self.host(number)} neigh show to {address}") or "[]")
        return shown[0].get("lladdr", "") if shown else ""

    def send(self, number: int, address: str) -> None:
        """A datagram, for which the neighbour must be found."""
        family = "AF_INET6" if ":" in address else "AF_INET"
        self.python(number, f"socket.socket(socket.{family}, socket.SOCK_DGRAM).sendto(b'x', ('{address}', 9))")

    def ask(self, number: int, address: str) -> str:
        """The name of the node that answers this host at the address; empty: none does."""
        code = f"""
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(0.1)
try:
    sock.sendto(b"who", ("{address}", 5060))
    print(sock.recv(4096).decode().rpartition("\\n")[2].split()[0])
except OSError:
    pass"""
        return self.python(number, code).strip()

    def hardware(self, number: int) -> str:
        return str(json.loads(sh(f"ip -j -n {self.host(number)} link show eth0"))[0]["address"])

    def close(self) -> None:
        for each in (*(self.host(number) for number in (1, 2, 3)), f"{self.name}-sw"):
            subprocess.run(["ip", "netns", "del", each], check=False)


@pytest.fixture
def hosts():
    if os.geteuid():
        pytest.skip("network namespaces need root")
    hosts = Hosts()
    yield hosts
    hosts.close()


def until(holds, what: str, within: float = 5.0) -> None:
    ends = time.monotonic() + within * STRETCH
    while not holds():
        assert time.monotonic() < ends, f"waited for {what}"
        time.sleep(0.02)


@pytest.mark.namespaces
@pytest.mark.parametrize("address", ["10.99.0.100/24", "2001:db8::100/64"])
def test_the_neighbours_follow_a_moved_address_at_once(hosts: Hosts, address: str):
    bare = address.partition("/")[0]
    hosts.python(1, f"set_address('eth0', '{address}', 30); announce('eth0', '{address}')")
    assert address in hosts.addresses(1)
    hosts.send(3, bare)
    until(lambda: hosts.neighbour(3, bare) == hosts.hardware(1), "the neighbour to be found")
    assert hosts.python(1, f"print(remove_address('eth0', '{address}'))") == "True\n"
    assert address not in hosts.addresses(1)
    assert hosts.python(1, f"print(remove_address('eth0', '{address}'))") == "False\n"
    hosts.python(2, f"set_address('eth0', '{address}', 30); announce('eth0', '{address}')")
    until(lambda: hosts.neighbour(3, bare) == hosts.hardware(2), "the neighbour to follow", within=1)


@pytest.mark.namespaces
@pytest.mark.parametrize("address", ["10.99.0.100/24", "2001:db8::100/64"])
def test_whoever_is_told_that_the_address_was_taken_need_not_fear_for_the_neighbours(hosts: Hosts, address: str):
    """They have been told first: who had it may let go of it."""
    bare = address.partition("/")[0]
    hosts.python(1, f"set_address('eth0', '{address}', 30); announce('eth0', '{address}')")
    hosts.send(3, bare)
    until(lambda: hosts.neighbour(3, bare) == hosts.hardware(1), "the neighbour to be found")
    settings = f"AddressSettings(mode='netlink', address='{address}', interface='eth0')"
    hosts.python(2, f"from ha.loop import Loop; SharedAddress(Loop(), {settings}).take()")
    assert hosts.neighbour(3, bare) == hosts.hardware(2)


@pytest.mark.namespaces
def test_an_address_that_another_host_is_about_to_have_is_kept_in_silence(hosts: Hosts):
    """What this host has to repeat of its own promotion would draw the neighbours back."""
    hosts.python(1, "set_address('eth0', '10.99.0.100/24', 30); announce('eth0', '10.99.0.100/24')")
    hosts.send(3, "10.99.0.100")
    until(lambda: hosts.neighbour(3, "10.99.0.100") == hosts.hardware(1), "the neighbour to be found")
    taken = TAKE.format(address="10.99.0.100/24", interface="eth0", seconds=0.5)
    other = f"subprocess.run(['ip', 'netns', 'exec', '{hosts.host(2)}', sys.executable, '-c', code])"
    there = "from ha.address import *; set_address('eth0', '10.99.0.100/24', 9); announce('eth0', '10.99.0.100/24')"
    hosts.python(
        1,
        f"import subprocess, sys\ncode = {there!r}\n"
        + taken.replace("shared.take()", f"shared.take()\nshared.keep_quiet()\n{other}"),
    )
    assert hosts.neighbour(3, "10.99.0.100") == hosts.hardware(2)


@pytest.mark.namespaces
def test_an_address_that_is_not_set_again_is_dropped_by_the_kernel(hosts: Hosts):
    hosts.python(1, "set_address('eth0', '10.99.0.100/24', 1)")
    assert "10.99.0.100/24" in hosts.addresses(1)
    until(lambda: "10.99.0.100/24" not in hosts.addresses(1), "the kernel to drop it", within=6)


LISTEN = """
import socket, time
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
sock.bind(("eth0", 0))
sock.settimeout(0.2)
print("listening", flush=True)
ends = time.monotonic() + {seconds}
while time.monotonic() < ends:
    try:
        data = sock.recv(2048)
    except TimeoutError:
        continue
    if data[6:12].hex() == "{hardware}" and (data[12:14] == b"\\x08\\x06" or (data[20:21] == b":" and data[54] == 136)):
        print(data.hex(), flush=True)
"""
TAKE = """
import logging
from ha.loop import Loop
from ha.settings import AddressSettings
logging.basicConfig(format="%(message)s", level=logging.INFO)
loop = Loop()
shared = SharedAddress(loop, AddressSettings(mode="netlink", address="{address}", interface="{interface}"))
shared.take()
ends = loop.now() + {seconds}
while loop.now() < ends:
    loop.turn(0.05)
shared.drop()
"""


@pytest.mark.namespaces
@pytest.mark.parametrize("address", ["10.99.0.100/24", "2001:db8::100/64"])
def test_the_neighbours_are_told_again_and_again(hosts: Hosts, address: str):
    """Five times in the first two seconds: as request and as reply (ARP), or as advertisement to all nodes."""
    parsed = ipaddress.ip_interface(address).ip
    hardware = hosts.hardware(1).replace(":", "")
    code = LISTEN.format(seconds=4 * STRETCH, hardware=hardware)
    words = ["ip", "netns", "exec", hosts.host(3), sys.executable, "-c", code]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == "listening\n"
        hosts.python(1, TAKE.format(address=address, interface="eth0", seconds=2.0))
        frames = [bytes.fromhex(line) for line in listening.stdout]
    if parsed.version == 4:
        said = [frame for frame in frames if frame[28:32] == frame[38:42] == parsed.packed]
        assert sum(frame[20:22] == b"\0\1" for frame in said) >= 5
        assert sum(frame[20:22] == b"\0\2" for frame in said) >= 5
    else:
        said = [frame for frame in frames if frame[62:78] == parsed.packed]
        assert len(said) >= 5
    assert address not in hosts.addresses(1), "dropped in the end"


@pytest.mark.namespaces
def test_an_address_whose_interface_comes_late_is_set_then(hosts: Hosts):
    code = TAKE.format(address="10.99.0.100/24", interface="late0", seconds=3.0)
    words = ["ip", "netns", "exec", hosts.host(1), sys.executable, "-c", f"from ha.address import *\n{code}"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as taking:
        assert taking.stderr is not None
        assert "cannot be set on late0, trying again" in taking.stderr.readline()
        sh(f"ip -n {hosts.host(1)} link set eth0 down; ip -n {hosts.host(1)} link set eth0 name late0")
        sh(f"ip -n {hosts.host(1)} link set late0 up")
        assert taking.stderr.readline() == "address 10.99.0.100/24 is on late0 now\n", "said once, tried again"
        shown = sh(f"ip -n {hosts.host(1)} addr show dev late0")
        assert "10.99.0.100/24" in shown


@pytest.mark.namespaces
def test_an_interface_that_is_not_there_is_an_error(hosts: Hosts):
    code = "try:\n set_address('eth9', '10.99.0.100/24')\nexcept OSError as error:\n print(error)"
    assert "no interface with this name" in hosts.python(1, code)


SHARED = "10.99.0.100/24"


def sharing(hosts: Hosts, directory: Path) -> list[Running]:
    """A pair that shares an address, not started yet."""
    ha = f'''<param name="address-mode" value="netlink"/><param name="shared-address" value="{SHARED}"/>
    <param name="interface" value="eth0"/>'''
    conf = tree(directory, profile(host="10.99.0.100"), ha=ha)
    return [
        Running(
            name,
            directory,
            conf,
            standalone=False,
            prefix=("ip", "netns", "exec", hosts.host(number)),
            peer_listen=f"10.99.0.1{number}:5070",
            peer_address=f"10.99.0.1{3 - number}:5070",
        )
        for number, name in ((1, "alpha"), (2, "beta"))
    ]


def start(alpha: Running, beta: Running) -> None:
    alpha.start().wait("active")
    beta.start().wait("standby")
    until(lambda: beta.ask("status")["ready"] and beta.ask("status")["peer"]["state"] == "active", "a ready pair")


@pytest.mark.namespaces
def test_an_address_is_nobodys_while_it_is_not_known_whose_the_lease_is(hosts: Hosts, tmp_path: Path):
    """Both hosts stand still for longer than the active may act: it takes its address off, and on again with the lease."""
    nodes = sharing(hosts, tmp_path)
    with running(*nodes):
        alpha, beta = nodes
        start(alpha, beta)
        for node in nodes:
            os.killpg(node.pid, signal.SIGSTOP)
        time.sleep(1.0)
        for node in nodes:
            os.killpg(node.pid, signal.SIGCONT)
        until(lambda: hosts.ask(3, "10.99.0.100") == "alpha", "the same node to answer")
        assert (alpha.role, beta.role) == ("active", "standby")
        assert SHARED in hosts.addresses(1)
        assert SHARED not in hosts.addresses(2)
        until(lambda: alpha.log().count(f"address {SHARED} is on eth0 now") == 2, "the log to say so")
        assert f"address {SHARED} is off eth0 now" in alpha.log()


@pytest.mark.namespaces
@pytest.mark.parametrize("fault", ["power cut", "killed supervisor", "switchover"])
def test_the_address_follows_the_role(hosts: Hosts, tmp_path: Path, fault: str):
    nodes = sharing(hosts, tmp_path)
    with running(*nodes):
        alpha, beta = nodes
        start(alpha, beta)
        assert hosts.ask(3, "10.99.0.100") == "alpha"
        began = time.monotonic()
        match fault:
            case "power cut":
                alpha.kill()
                # A dead host has no address; a namespace keeps it until it is deleted, so take out the cable.
                sh(f"ip -n {hosts.host(1)} link set eth0 down")
            case "killed supervisor":
                os.kill(alpha.pid, 9)
            case "switchover":
                assert alpha.ask("switchover")["ok"]
        until(lambda: hosts.ask(3, "10.99.0.100") == "beta", "the other node to answer")
        print(f"{fault}: the other node answers after {(time.monotonic() - began) * 1000:.0f} ms")
        if fault != "power cut":
            assert SHARED not in hosts.addresses(1)
        assert SHARED in hosts.addresses(2)
        assert beta.stop() == 0
        assert SHARED not in hosts.addresses(2)
