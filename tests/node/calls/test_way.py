"""By which connection a leg's requests go when its peer comes by another one."""

from __future__ import annotations

import pytest

from node.calls import retarget
from node.calls.leg import Leg
from node.calls.way import follow
from node.sip.dialog import Dialog
from node.sip.flow import Flow

OLD = Flow("internal", "TLS", ("192.0.2.1", 5061), ("198.51.100.7", 40001), "internal.0/abcdef.1")
NEW = OLD._replace(remote=("198.51.100.7", 40002), connection="internal.1/fedcba.9")
PROXY = "<sip:203.0.113.1;transport=tls;lr>"


def leg(flow: Flow, *routes: str) -> Leg:
    made = Leg("uuid", "inbound", "internal", created=0.0)
    made.flow = flow
    made.dialog = Dialog("id", "ours", local="<sip:a@a>", remote="<sip:b@b>", target="sip:b@b", routes=routes, cseq=1)
    return made


@pytest.mark.parametrize(
    ("came", "routes", "followed"),
    [
        (NEW, (), True),
        (OLD, (), False),
        (NEW._replace(remote=("203.0.113.9", 1)), (), True),
        (NEW._replace(remote=("203.0.113.9", 1)), (PROXY,), False),
        (NEW, (PROXY,), True),
        (NEW._replace(transport="TCP"), (), False),
        (NEW._replace(transport="UDP", connection=""), (), False),
        (NEW._replace(profile="external"), (), False),
    ],
)
def test_a_peer_is_followed_to_another_connection_of_the_same_transport(
    came: Flow, routes: tuple[str, ...], followed: bool
) -> None:
    its = leg(OLD, *routes)
    assert follow(its, came) is followed
    assert its.flow == (came if followed else OLD)


def test_a_peer_on_udp_is_not_followed_for_it_has_no_connection() -> None:
    udp = Flow("internal", "UDP", ("192.0.2.1", 5060), ("198.51.100.7", 5060))
    its = leg(udp)
    assert not follow(its, udp._replace(remote=("198.51.100.7", 5062)))
    assert its.flow == udp


@pytest.mark.parametrize("transport", ["UDP", "TCP", "WS"])
def test_a_new_contact_in_clear_does_not_draw_a_leg_out_of_its_cipher(transport: str) -> None:
    its = leg(OLD)
    retarget.find(None, its, NEW._replace(transport=transport))  # type: ignore[arg-type]
    assert its.flow == OLD
    retarget.find(None, its, NEW)  # type: ignore[arg-type]
    assert its.flow == NEW
