"""Where a profile listens, as it is shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from node.config.profile import Binding, ProfileSettings
from node.console.view import describe
from tests.node.console import tree
from tests.node.console.rig import Console, until
from tests.support.stun import StunServer


def urls(settings: ProfileSettings) -> dict[str, str]:
    return {fact.label: fact.value for fact in describe(settings, settings.name) if "URL" in fact.label}


def test_every_listener_is_shown_with_its_url() -> None:
    settings = ProfileSettings(
        name="a", sip_ip="192.0.2.1", tls=True, ws_binding=Binding("", 5066), wss_binding=Binding("::1", 7443)
    )
    assert urls(settings) == {
        "URL": "sip:mod_sofia@192.0.2.1:5060",
        "BIND-URL": "sip:mod_sofia@192.0.2.1:5060;transport=udp,tcp",
        "TLS-URL": "sip:mod_sofia@192.0.2.1:5061",
        "TLS-BIND-URL": "sips:mod_sofia@192.0.2.1:5061;transport=tls",
        "WS-BIND-URL": "sip:mod_sofia@192.0.2.1:5066;transport=ws",
        "WSS-BIND-URL": "sips:mod_sofia@[::1]:7443;transport=wss",
    }


def test_with_tls_only_the_plain_urls_are_gone_and_a_public_address_shows_the_bound_one() -> None:
    settings = ProfileSettings(name="a", sip_ip="192.0.2.1", ext_sip_ip="203.0.113.1", tls=True, tls_only=True)
    assert urls(settings) == {
        "TLS-URL": "sip:mod_sofia@203.0.113.1:5061",
        "TLS-BIND-URL": "sips:mod_sofia@203.0.113.1:5061;maddr=192.0.2.1;transport=tls",
    }


def test_a_public_address_that_is_asked_for_is_shown_when_it_is_known() -> None:
    form = ProfileSettings(name="a", sip_ip="192.0.2.1", ext_sip_ip="stun:stun.example.org", ext_rtp_ip="host:x.test")
    shown = {fact.label: fact.value for fact in describe(form, "a")}
    assert "Ext-SIP-IP" not in shown
    assert (shown["Ext-RTP-IP"], shown["URL"]) == ("host:x.test", "sip:mod_sofia@192.0.2.1:5060")
    shown = {fact.label: fact.value for fact in describe(replace(form, ext_sip_address="203.0.113.5"), "a")}
    assert (shown["Ext-SIP-IP"], shown["URL"]) == ("203.0.113.5", "sip:mod_sofia@203.0.113.5:5060")


def test_with_autonat_the_urls_name_the_address_inside() -> None:
    inside = ProfileSettings(name="a", sip_ip="192.0.2.1", ext_sip_ip="203.0.113.5", auto_nat=True)
    shown = {fact.label: fact.value for fact in describe(inside, "a")}
    assert (shown["Auto-NAT"], shown["Ext-SIP-IP"]) == ("true", "203.0.113.5")
    assert shown["URL"] == "sip:mod_sofia@192.0.2.1:5060"


def test_the_console_learns_the_address_that_a_stun_server_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StunServer("203.0.113.5") as server:
        given = '<param name="ext-sip-ip" value="127.0.0.1"/>'
        assert given in tree.PROFILE
        form = given.replace("127.0.0.1", f"stun:127.0.0.1:{server.port}")
        monkeypatch.setattr(tree, "PROFILE", tree.PROFILE.replace(given, form))
        console = Console(tmp_path)
        try:
            until(lambda: "203.0.113.5" in console.api("sofia status profile internal"), "the address to be shown")
            shown = console.api("sofia status profile internal")
            assert "Ext-SIP-IP       \t203.0.113.5\n" in shown
            assert "URL              \tsip:mod_sofia@203.0.113.5:5060\n" in shown
            assert "+OK" in console.api("reloadxml")
            assert "203.0.113.5" in console.api("sofia status profile internal"), "it stays known over a reload"
        finally:
            console.end()
