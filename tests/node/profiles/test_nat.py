"""When a phone is taken to be behind a NAT."""

from __future__ import annotations

import dataclasses

import pytest

from node.config.profile import ProfileSettings
from node.profiles.access import Access
from node.profiles.nat import invite_reason, register_reason
from node.sip.flow import Flow
from tests.node.profiles.test_screen import request

FLOW = Flow("internal", "UDP", ("192.0.2.1", 5060), ("203.0.113.9", 5062))
SETTINGS = ProfileSettings(name="internal", local_network_acl="")
ACCESS = Access({})


@pytest.mark.parametrize(
    ("via", "reason"),
    [
        ("203.0.113.9:5062", ""),
        ("10.0.0.5:5062", "via host"),
        ("203.0.113.9:5070", "via port"),
        ("203.0.113.9", "via port"),
    ],
)
def test_aggressive_detection_compares_the_via_with_the_source(via: str, reason: str) -> None:
    settings = dataclasses.replace(SETTINGS, aggressive_nat_detection=True)
    asked = request("REGISTER", Via=f"SIP/2.0/UDP {via};branch=z9hG4bKa")
    assert register_reason(asked, FLOW, settings, ACCESS) == reason
    assert invite_reason(asked, FLOW, settings, ACCESS) == reason


def test_the_contacts_host_in_a_list_is_a_nat() -> None:
    settings = dataclasses.replace(SETTINGS, apply_nat_acl=("10.0.0.0/8",))
    assert register_reason(request("REGISTER", Contact="<sip:a@10.1.1.1>"), FLOW, settings, ACCESS) == "10.0.0.0/8"
    assert register_reason(request("REGISTER"), FLOW, settings, ACCESS) == ""


def test_a_source_in_our_own_network_is_none() -> None:
    settings = dataclasses.replace(SETTINGS, apply_nat_acl=("10.0.0.0/8",), local_network_acl="203.0.113.0/24")
    assert register_reason(request("REGISTER", Contact="<sip:a@10.1.1.1>"), FLOW, settings, ACCESS) == ""


def test_tcp_may_always_count_as_nat() -> None:
    settings = dataclasses.replace(SETTINGS, tcp_always_nat=True)
    asked = request("REGISTER", Contact="<sip:a@203.0.113.9;transport=tcp>")
    assert register_reason(asked, FLOW, settings, ACCESS) == "tcp"
