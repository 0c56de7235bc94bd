"""Kept sockets: bound together or not at all, retried, parked, never shared with strangers."""

from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest

from ha.loop import Loop
from ha.sockets import CannotBind, KeptSockets, bind
from node.config.profile import Binding, ProfileSettings
from tests.support.node import STRETCH, loopback_address


@pytest.fixture
def settings() -> ProfileSettings:
    return ProfileSettings(name="internal", sip_ip=loopback_address(), sip_port=5060)


def opened(kept: KeptSockets, loop: Loop, settings: ProfileSettings) -> CannotBind | None:
    heard: list[CannotBind | None] = []
    kept.open(settings, heard.append)
    ends = time.monotonic() + 5 * STRETCH
    while not heard and time.monotonic() < ends:
        loop.turn(0.02)
    return heard[0]


def test_a_profile_gets_a_udp_socket_for_each_slot_and_one_listener(settings: ProfileSettings):
    kept = bind(replace(settings, workers=3))
    assert [(each.name.kind, each.name.slot) for each in kept] == [
        ("udp", "internal#0"),
        ("udp", "internal#1"),
        ("udp", "internal#2"),
        ("tcp", ""),
    ]
    for each in kept:
        assert each.socket.getsockname() == (settings.sip_ip, 5060)
        each.socket.close()


def test_each_transport_has_a_listener_with_a_port_of_its_own(settings: ProfileSettings):
    elsewhere = loopback_address()
    every = replace(
        settings,
        transports=("tcp", "tls", "ws", "wss"),
        tls=True,
        ws_binding=Binding(elsewhere, 5066),
        wss_binding=Binding("::1", 0),
    )
    kept = bind(every)
    names = [(each.name.kind, each.name.host, each.name.port) for each in kept]
    assert names[:3] == [("tcp", settings.sip_ip, 5060), ("tls", settings.sip_ip, 5061), ("ws", elsewhere, 5066)]
    assert names[3][:2] == ("wss", "::1")
    assert names[3][2] == kept[3].socket.getsockname()[1] > 0
    for each in kept:
        each.socket.close()


def test_a_taken_port_of_a_listener_is_named_too(settings: ProfileSettings):
    with socket.create_server((settings.sip_ip, 5061)):
        expected = f"profile internal cannot listen on tls {settings.sip_ip} port 5061: Address already in use"
        with pytest.raises(CannotBind, match=expected):
            bind(replace(settings, transports=("udp", "tls"), tls=True))


def test_a_worker_gets_its_own_sockets_and_one_of_each_other_profile(settings: ProfileSettings):
    loop = Loop()
    kept = KeptSockets(loop)
    assert opened(kept, loop, replace(settings, workers=2)) is None
    assert opened(kept, loop, replace(settings, name="external", sip_port=5080, workers=2)) is None
    names = [(each.name.profile, each.name.kind, each.name.slot) for each in kept.for_worker("internal", "internal#1")]
    assert names == [("internal", "udp", "internal#1"), ("internal", "tcp", ""), ("external", "udp", "external#0")]
    kept.close_all()


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_taken_port_is_named_and_leaves_nothing_open(settings: ProfileSettings, kind: socket.SocketKind):
    with socket.socket(socket.AF_INET, kind) as foreign:
        foreign.bind((settings.sip_ip, 5060))
        if kind == socket.SOCK_STREAM:
            foreign.listen()
        transport = "udp" if kind == socket.SOCK_DGRAM else "tcp"
        expected = f"profile internal cannot listen on {transport} {settings.sip_ip} port 5060: Address already in use"
        with pytest.raises(CannotBind, match=expected):
            bind(settings)
    for each in bind(settings):
        each.socket.close()


def test_binding_is_tried_again_while_a_predecessor_lets_go(settings: ProfileSettings):
    loop = Loop()
    kept = KeptSockets(loop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dying:
        dying.bind((settings.sip_ip, 5060))
        loop.after(0.1, dying.close)
        assert opened(kept, loop, settings) is None
    kept.close_all()


def test_an_address_that_this_host_has_not_is_given_up_after_a_while(settings: ProfileSettings):
    loop = Loop()
    kept = KeptSockets(loop, give_up=0.1)
    error = opened(kept, loop, replace(settings, sip_ip="192.0.2.77"))
    assert str(error) == ("profile internal cannot listen on udp 192.0.2.77 port 5060: Cannot assign requested address")


def test_a_parked_socket_hears_nothing_and_is_taken_up_again(settings: ProfileSettings):
    loop = Loop()
    kept = KeptSockets(loop)
    opened(kept, loop, settings)
    duplicate = kept.to_send_on("internal")[0].socket.dup()
    kept.park("internal")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.connect((settings.sip_ip, 5060))
        phone.send(b"while stopped")
        assert opened(kept, loop, settings) is None
        phone.send(b"again")
        assert duplicate.recv(100) == b"again"
    duplicate.close()
    kept.close_all()


def test_closing_gives_the_ports_back(settings: ProfileSettings):
    loop = Loop()
    kept = KeptSockets(loop)
    opened(kept, loop, settings)
    kept.close_all()
    for each in bind(settings):
        each.socket.close()


def test_an_opening_that_was_called_off_opens_nothing(settings: ProfileSettings):
    loop = Loop()
    kept = KeptSockets(loop)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.bind((settings.sip_ip, 5060))
        kept.open(settings, lambda _error: pytest.fail("called off"))
        kept.close_all()
    for _ in range(5):
        loop.turn(0.02)
    assert not kept.has("internal")


def test_the_shared_address_is_bound_before_this_host_has_it(settings: ProfileSettings):
    elsewhere = replace(settings, sip_ip="192.0.2.77")
    loop = Loop()
    kept = KeptSockets(loop, foreign="192.0.2.77")
    assert opened(kept, loop, elsewhere) is None
    assert {each.socket.getsockname()[0] for each in kept.for_worker("internal", "internal#0")} == {"192.0.2.77"}
    kept.close_all()


def test_who_connects_to_a_deaf_listener_hears_nothing_and_is_not_reset(settings: ProfileSettings):
    loop = Loop()
    kept = KeptSockets(loop)
    assert opened(kept, loop, settings) is None
    with socket.create_connection((settings.sip_ip, 5060), timeout=5):
        pass
    kept.deafen_listeners()
    with socket.socket() as late:
        late.settimeout(0.2)
        with pytest.raises(TimeoutError):
            late.connect((settings.sip_ip, 5060))
    kept.close_all()


def test_an_address_that_is_nobodys_cannot_be_bound(settings: ProfileSettings):
    loop = Loop()
    kept = KeptSockets(loop, give_up=0.1)
    error = opened(kept, loop, replace(settings, sip_ip="192.0.2.77"))
    assert "Cannot assign requested address" in str(error)
    kept.close_all()
