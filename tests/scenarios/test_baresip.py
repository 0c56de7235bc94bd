"""Two real phones through the node: they register, talk, and hear the right thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.baresip import Baresip, all_gone, connect, hang_up, registered
from tests.support.certificates import Authority
from tests.support.node import DOMAIN, PASSWORD, Node, loopback_address, shared_settings, until

pytestmark = [pytest.mark.real, pytest.mark.peers]


def test_two_baresips_register_call_and_hear_each_others_tone(solo: Node) -> None:
    server = solo.sip
    with (
        Baresip("1000", PASSWORD, DOMAIN, server, tone=440) as caller,
        Baresip("1001", PASSWORD, DOMAIN, server, tone=700) as callee,
    ):
        caller.says("200 OK")
        callee.says("200 OK")
        caller.command("dial", f"sip:1001@{DOMAIN}")
        caller.says("Call established")
        callee.says("Call established")
        until(lambda: "1001" in solo.api("show channels"), 5, "the call to be listed", solo)
        until(lambda: 690 < caller.heard() < 710 and 430 < callee.heard() < 450, 15, "both tones to be heard", solo)
        caller.command("hangup")
        callee.says("session closed")
        until(lambda: "\n0 total" in solo.api("show channels count"), 5, "the call to be gone", solo)


def test_a_baresip_has_its_partner_sent_to_a_third(solo: Node) -> None:
    """REFER from who called and from who was called; the third hears the transferred one."""
    with (
        Baresip("1000", PASSWORD, DOMAIN, solo.sip, tone=440) as one,
        Baresip("1001", PASSWORD, DOMAIN, solo.sip, tone=700) as other,
        Baresip("1002", PASSWORD, DOMAIN, solo.sip, tone=900) as third,
    ):
        registered(solo, one, other, third)
        for referrer, partner, tone in ((one, other, 700), (other, one, 440)):
            connect(one, other)
            called = third.more("Call established")
            referrer.command("transfer", f"sip:1002@{DOMAIN}")
            called()
            until(lambda: "\n2 total" in solo.api("show channels count"), 10, "the referrer to be gone", solo)
            until(lambda it=tone: abs(third.heard() - it) < 10, 15, "the third one to hear the partner", solo)  # type: ignore[misc]
            hang_up(third, partner)
            all_gone(solo)


def talk(caller: Baresip, callee: Baresip, node: Node) -> None:
    """One calls the other, both are in the call, and hang up."""
    word = "Call established"
    before = [each.output().count(word) for each in (caller, callee)]
    caller.command("dial", f"sip:{callee.user}@{DOMAIN}")
    for each, count in zip((caller, callee), before, strict=True):
        until(lambda each=each, count=count: each.output().count(word) > count, 15, "the call", node)  # type: ignore[misc]
    caller.command("hangup")
    until(lambda: "\n0 total" in node.api("show channels count"), 5, "the call to be gone", node)


def test_a_baresip_on_tls_and_one_on_tcp_call_each_other(tmp_path: Path) -> None:
    """Both directions: each is called by the connection it made, and verifies whom it has connected to."""
    address = loopback_address()
    authority = Authority(tmp_path / "certs")
    (tmp_path / "certs" / "agent.pem").write_text(authority.issue(DOMAIN, address))
    settings = shared_settings(address, tmp_path / "store.db")
    settings |= {"internal_ssl_enable": "true", "certs_dir": str(tmp_path / "certs")}
    node = Node("solo", tmp_path / "solo", settings, standalone=True)
    with node.serving():
        secure = {"transport": "tls", "trust": authority.certificate}
        with (
            Baresip("1000", PASSWORD, DOMAIN, (address, 5061), tone=440, **secure) as tls,  # type: ignore[arg-type]
            Baresip("1001", PASSWORD, DOMAIN, (address, 5060), tone=700, transport="tcp") as tcp,
        ):
            tls.says("200 OK")
            tcp.says("200 OK")
            assert ";transport=tls" in node.api("sofia status profile internal reg 1000")
            talk(tls, tcp, node)
            talk(tcp, tls, node)
