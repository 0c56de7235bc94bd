"""Access lists: acl.conf's `network-lists`, the built-in ones, and CIDRs in place of a name.

The node with the longest prefix that holds the address decides, not the first in the file; of equal prefixes the
earliest one does. Where no node matches, the list's default decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class AccessNode:
    """One network of a list."""

    network: Network
    allow: bool
    token: str = ""
    "`user@domain` when the network is a user's own."
    ports: tuple[range, ...] = ()
    "Source ports it is about; empty: all. Only looked at for IPv4, and only when a port is asked."

    def matches(self, address: Address, port: int | None) -> bool:
        if address.version != self.network.version or address not in self.network:
            return False
        if not self.ports or port is None or address.version == 6:
            return True
        return any(port in ports for ports in self.ports)


@dataclass(frozen=True, slots=True)
class AccessList:
    """A named list."""

    name: str
    default: bool
    "What becomes of an address that no node holds: allowed?"
    nodes: tuple[AccessNode, ...] = ()

    def __post_init__(self) -> None:
        # A stable sort: the earliest of equal prefixes stays first.
        ordered = tuple(sorted(self.nodes, key=lambda node: -node.network.prefixlen))
        object.__setattr__(self, "nodes", ordered)

    def check(self, ip: str, port: int | None = None) -> tuple[bool, str]:
        """Whether the address may pass, and the token of the node that decided (mostly empty)."""
        address = parse_address(ip)
        if address is None:
            return False, ""
        for node in self.nodes:
            if node.matches(address, port):
                return node.allow, node.token
        return self.default, ""


def parse_address(text: str) -> Address | None:
    """An address, `::ffff:a.b.c.d` as the IPv4 one it is; None for anything else."""
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def check(lists: Mapping[str, AccessList], name: str, ip: str, port: int | None = None) -> tuple[bool, str]:
    """Ask a list by name; a name that holds a `/` is a CIDR or a comma list of them; an unknown name denies."""
    found = lists.get(name)
    if found is not None:
        return found.check(ip, port)
    if "/" not in name:
        return False, ""
    try:
        return cidr_list(name).check(ip, port)
    except ValueError:
        return False, ""


def of_our_network(lists: Mapping[str, AccessList], name: str, ip: str) -> bool:
    """Is this address inside, as `local-network-acl` says (empty: nobody is)? The loopback always is."""
    address = parse_address(ip)
    return (address is not None and address.is_loopback) or (bool(name) and check(lists, name, ip)[0])


def cidr_list(text: str) -> AccessList:
    """A list that allows the CIDRs of a comma list and nothing else. Raises ValueError."""
    networks = (ip_network(part.strip(), strict=False) for part in text.split(","))
    return AccessList(text, False, tuple(AccessNode(network, True) for network in networks))


PRIVATE_V4 = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
CARRIER = ("100.64.0.0/10",)
PRIVATE_V6 = ("fe80::/10", "fc00::/7", "::1/128")


def built_in(own: Iterable[Network]) -> dict[str, AccessList]:
    """The lists that every FreeSWITCH has; `own` are the IPv4 networks that this host is in."""
    ours = [str(network) for network in own]
    private = (*PRIVATE_V4, *CARRIER, "127.0.0.0/8", "169.254.0.0/16")
    lists = (
        _built("rfc1918.auto", default=False, allow=(*PRIVATE_V4, "fe80::/10")),
        _built("rfc6598.auto", default=False, allow=CARRIER),
        _built("localnet.auto", default=False, allow=ours),
        _built("loopback.auto", default=False, allow=("127.0.0.0/8", "::1/128")),
        _built("nat.auto", default=False, deny=ours, allow=(*PRIVATE_V4, *CARRIER)),
        _built("wan.auto", default=True, deny=(*private, *PRIVATE_V6)),
        _built("wan_v4.auto", default=True, deny=(*private, "::/0")),
        _built("wan_v6.auto", default=True, deny=("0.0.0.0/0", *PRIVATE_V6)),
        _built("any_v4.auto", default=True, deny=("::/0",)),
        _built("any_v6.auto", default=True, deny=("0.0.0.0/0",)),
    )
    return {built.name: built for built in lists}


def _built(name: str, *, default: bool, deny: Iterable[str] = (), allow: Iterable[str] = ()) -> AccessList:
    nodes = [AccessNode(ip_network(text), False) for text in deny]
    nodes += [AccessNode(ip_network(text), True) for text in allow]
    return AccessList(name, default, tuple(nodes))
