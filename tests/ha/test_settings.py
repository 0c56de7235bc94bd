"""Settings refuse what cannot be safe, in a sentence."""

from __future__ import annotations

import pytest

from ha.settings import AddressSettings, ChildSettings, HaSettings, LeaseSettings, PeerSettings, Unsafe, endpoint
from node.config.sections import HaSection

HERE, THERE = ("192.0.2.1", 5070), ("192.0.2.2", 5070)


def test_the_defaults_of_the_configuration_are_those_of_the_settings():
    assert HaSettings.read(HaSection()) == HaSettings()


def test_milliseconds_become_seconds_and_a_lone_node_has_no_peer():
    section = HaSection(lease_ttl=1400, peer_address="192.0.2.2:5070", peer_listen="[2001:db8::1]:5070")
    settings = HaSettings.read(section)
    assert settings.lease.ttl == 1.4
    assert settings.peer.address == ("192.0.2.2", 5070)
    assert settings.peer.listen == ("2001:db8::1", 5070)
    assert not HaSettings.read(section, standalone=True).peer.configured


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: LeaseSettings(ttl=0), "must be greater than 0"),
        (lambda: LeaseSettings(margin=0.44), "lease-margin 440 ms leaves nothing of lease-ttl 440 ms"),
        (lambda: LeaseSettings(renew=0.3), "lease-renew 300 ms is too slow"),
        (lambda: LeaseSettings(margin=0.01), "lease-margin 10 ms is shorter than letting go takes"),
        (lambda: PeerSettings(address=THERE), "must both be set, or neither"),
        (lambda: PeerSettings(dead=0.15), "peer-dead 150 ms must be at least twice peer-beat 100 ms"),
        (lambda: AddressSettings(mode="netlink"), "needs shared-address (with its prefix) and interface"),
        (lambda: AddressSettings(mode="netlink", address="nonsense", interface="eth0"), "shared-address: 'nonsense'"),
        (lambda: ChildSettings(heartbeat_timeout=0.06), "heartbeat-timeout 60 ms must be at least twice heartbeat"),
        (
            lambda: HaSettings(peer=PeerSettings(address=THERE, listen=HERE, dead=0.8)),
            "peer-dead 800 ms must be shorter than lease-ttl 440 ms",
        ),
        (lambda: endpoint("peer-address", "192.0.2.1"), "peer-address '192.0.2.1' is not host:port"),
        (lambda: endpoint("peer-address", "192.0.2.1:99999"), "is not host:port"),
    ],
)
def test_what_cannot_be_safe_is_refused(make, sentence: str):
    with pytest.raises(Unsafe) as refusal:
        make()
    assert sentence in str(refusal.value)
