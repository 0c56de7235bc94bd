"""Where a profile listens, as it is shown."""

from __future__ import annotations

from node.config.profile import Binding, ProfileSettings
from node.console.view import describe


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
