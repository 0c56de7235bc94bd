from ipaddress import ip_network
from pathlib import Path

import pytest

from node.config import load
from node.config.acl import AccessList, AccessNode, built_in, check, cidr_list
from tests.node.config.tree import plant

ACL = """\
<configuration name="acl.conf"><network-lists>
  <list name="lan" default="allow">
    <node type="deny" cidr="192.168.42.0/24"/>
    <node type="allow" cidr="192.168.42.42/32"/>
  </list>
  <list name="twice" default="deny">
    <node type="allow" cidr="10.0.0.0/8"/>
    <node type="deny" cidr="10.0.0.0/8"/>
  </list>
  <list name="masked" default="deny"><node type="allow" host="192.0.2.0" mask="255.255.255.0"/></list>
  <list name="ported" default="deny"><node type="allow" cidr="192.0.2.0/24" port-min="5060" port-max="5070"/></list>
  <list name="open"/>
  <list name="domains" default="deny"><node type="allow" domain="example.org"/></list>
  <list name="loopback.auto" default="deny"/>
</network-lists></configuration>
"""

USERS = """\
<domain name="example.org"><users>
  <user id="1000" cidr="198.51.100.7/32,2001:db8::/32"><params><param name="password" value="not-shown"/></params></user>
</users></domain>
"""


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, AccessList]:
    plant(tmp_path, {"autoload_configs/acl.conf.xml": ACL, "directory/d.xml": USERS})
    return dict(load(tmp_path).acl)


@pytest.mark.parametrize(
    ("name", "ip", "allowed"),
    [
        ("lan", "192.168.42.42", True),
        ("lan", "192.168.42.43", False),
        ("lan", "203.0.113.1", True),
        ("lan", "::ffff:192.168.42.43", False),
        ("twice", "10.1.1.1", True),
        ("masked", "192.0.2.9", True),
        ("masked", "192.0.3.9", False),
        ("open", "203.0.113.1", True),
        ("domains", "198.51.100.8", False),
        ("loopback.auto", "127.0.0.1", False),
        ("rfc1918.auto", "172.20.1.1", True),
        ("nobody", "10.0.0.1", False),
        ("10.0.0.0/8", "10.0.0.1", True),
        ("10.0.0.0/8,192.0.2.0/24", "192.0.2.1", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("lan", "not-an-address", False),
    ],
)
def test_the_longest_prefix_decides(lists: dict[str, AccessList], name: str, ip: str, allowed: bool) -> None:
    assert check(lists, name, ip)[0] is allowed


@pytest.mark.parametrize("ip", ["198.51.100.7", "2001:db8::9"])
def test_a_users_own_network_vouches_for_the_user(lists: dict[str, AccessList], ip: str) -> None:
    assert lists["domains"].check(ip) == (True, "1000@example.org")


def test_ports_are_looked_at_only_when_asked(lists: dict[str, AccessList]) -> None:
    ported = lists["ported"]
    assert (ported.check("192.0.2.1")[0], ported.check("192.0.2.1", 5065)[0], ported.check("192.0.2.1", 5071)[0]) == (
        True,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("name", "ip", "allowed"),
    [
        ("nat.auto", "192.168.7.7", False),
        ("nat.auto", "192.168.8.7", True),
        ("nat.auto", "203.0.113.1", False),
        ("localnet.auto", "192.168.7.7", True),
        ("localnet.auto", "192.168.8.7", False),
        ("loopback.auto", "::1", True),
        ("wan.auto", "203.0.113.1", True),
        ("wan.auto", "10.0.0.1", False),
        ("wan_v4.auto", "2001:db8::1", False),
        ("wan_v6.auto", "2001:db8::1", True),
        ("any_v4.auto", "10.0.0.1", True),
        ("any_v6.auto", "10.0.0.1", False),
        ("rfc6598.auto", "100.64.0.1", True),
    ],
)
def test_the_built_in_lists(name: str, ip: str, allowed: bool) -> None:
    own = ip_network("192.168.7.0/24")
    assert built_in([own])[name].check(ip)[0] is allowed  # type: ignore[list-item]


def test_the_earliest_of_equal_prefixes_wins_whatever_its_type() -> None:
    network = ip_network("10.0.0.0/8")
    nodes = (AccessNode(network, False, "first"), AccessNode(network, True, "second"))
    assert AccessList("l", True, nodes).check("10.0.0.1") == (False, "first")


def test_a_list_of_cidrs_refuses_what_is_none() -> None:
    with pytest.raises(ValueError):
        cidr_list("10.0.0.0/8,nonsense")
