"""What a profile calls itself, transport by transport."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network

import pytest

from node.config.acl import built_in
from node.config.profile import Binding, ProfileSettings
from node.sip.flow import Flow
from node.transport.addresses import Addresses

SETTINGS = ProfileSettings(
    name="a", sip_ip="192.0.2.1", tls_sip_port=5061, ws_binding=Binding("", 5066), wss_binding=Binding("::1", 7443)
)


def via(named: Addresses, transport: str) -> str:
    return named.sent_by(Flow("a", transport, ("", 0), ("198.51.100.7", 1)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("transport", "port", "suffix"),
    [
        ("UDP", 5060, ""),
        ("TCP", 5060, ";transport=tcp"),
        ("TLS", 5061, ";transport=tls"),
        ("WS", 5066, ";transport=ws"),
        ("WSS", 7443, ";transport=wss"),
    ],
)
def test_each_transport_has_its_port_and_is_named_in_the_contact(transport: str, port: int, suffix: str) -> None:
    named = Addresses({"a": SETTINGS})
    assert named.contact("a", transport, "x", secure=False) == f"<sip:x@192.0.2.1:{port}{suffix}>"
    assert named.contact("a", transport.lower(), "x", secure=True) == f"<sips:x@192.0.2.1:{port}{suffix}>"
    assert via(named, transport) == f"192.0.2.1:{port}"


def test_a_port_that_the_kernel_chose_is_the_one_that_is_told() -> None:
    named = Addresses({"a": replace(SETTINGS, sip_port=0, tls_sip_port=0, wss_binding=Binding("", 0))})
    assert via(named, "UDP") == "192.0.2.1:0"
    named.bind("a", ("192.0.2.1", 40000))
    named.listen("a", "TCP", 40000)
    named.listen("a", "TLS", 40001)
    named.listen("a", "WSS", 40002)
    ports = {"UDP": 40000, "TCP": 40000, "TLS": 40001, "WSS": 40002}
    assert {each: via(named, each) for each in ports} == {each: f"192.0.2.1:{port}" for each, port in ports.items()}
    assert named.local("a") == ("192.0.2.1", 40000)


def test_behind_a_nat_the_public_address_is_told_and_only_sip_has_a_public_port() -> None:
    named = Addresses({"a": replace(SETTINGS, ext_sip_ip="203.0.113.1", ext_sip_port=15060)})
    assert [via(named, each) for each in ("UDP", "TCP", "TLS")] == [
        "203.0.113.1:15060",
        "203.0.113.1:15060",
        "203.0.113.1:5061",
    ]


def test_ipv6_is_bracketed_and_another_configuration_counts_at_once() -> None:
    named = Addresses({"a": SETTINGS})
    assert via(named, "TLS") == "192.0.2.1:5061"
    named.configure({"a": replace(SETTINGS, sip_ip="2001:db8::1", tls_sip_port=5071)})
    assert via(named, "TLS") == "[2001:db8::1]:5071"
    assert named.contact("a", "UDP", "x", secure=False) == "<sip:x@[2001:db8::1]:5060>"
    assert named.local("nobody") == ("", 0)


def test_with_autonat_only_strangers_are_told_the_public_address() -> None:
    named = Addresses({"a": replace(SETTINGS, ext_sip_ip="203.0.113.1", ext_sip_port=15060, auto_nat=True)})
    named.lists = built_in([IPv4Network("192.0.2.0/24")])
    inside, outside, loopback = (
        Flow("a", "UDP", ("192.0.2.1", 5060), (host, 5060)) for host in ("192.0.2.9", "198.51.100.7", "127.0.0.1")
    )
    assert named.sent_by(inside) == named.sent_by(loopback) == "192.0.2.1:5060"
    assert named.sent_by(outside) == "203.0.113.1:15060"
    assert named.contact("a", "UDP", "x", secure=False, towards="198.51.100.7") == "<sip:x@203.0.113.1:15060>"
    assert named.contact("a", "UDP", "x", secure=False, towards="192.0.2.9") == "<sip:x@192.0.2.1:5060>"
