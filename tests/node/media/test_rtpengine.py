"""Legs on a real rtpengine, beside our own media process: who hears whom, whatever they are joined with."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.config.profile import ProfileSettings
from node.media.anchored import Anchored, Wish
from node.media.errors import MediaError, MediaStopped
from node.media.ng import PROBE
from tests.node.media.desk import WITHIN, Desk
from tests.node.media.stage import Process
from tests.support.ports import free_port
from tests.support.rtpengine import RtpengineServer


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtpengineServer]:
    interfaces = ("127.0.0.1", "::1")
    with RtpengineServer(tmp_path_factory.mktemp("engine"), interfaces=interfaces).running() as engine:
        yield engine


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(tmp_path_factory.mktemp("media"))
    yield process
    process.kill()


@pytest.fixture
def desk(process: Process, engine: RtpengineServer) -> Iterator[Desk]:
    desk = Desk(process, engine)
    yield desk
    desk.close()


def test_two_legs_share_a_session_and_hear_each_other_once_joined(desk: Desk) -> None:
    a = desk.open("a")
    b = desk.open("b", "a")
    assert a.call_id == b.call_id
    assert desk.engine.held_ports() == {a.port, b.port}
    desk.hears("a")
    desk.media.join("a", "b")
    desk.hears("a", "b")
    desk.hears("b", "a")
    desk.media.part("a")
    desk.hears("a")
    desk.hears("b")


def test_the_third_leg_takes_over_and_the_first_partner_is_heard_no_more(desk: Desk) -> None:
    ports = [desk.open("a").port, desk.open("b", "a").port, desk.open("c", "a").port]
    desk.media.join("a", "b")
    desk.hears("a", "b")
    desk.media.join("a", "c")
    desk.hears("a", "c")
    desk.hears("c", "a")
    desk.hears("b")
    desk.media.join("b", "a")
    desk.hears("a", "b")
    desk.hears("c")
    assert desk.engine.held_ports() >= set(ports)
    assert len(desk.engine.sessions()) == 1


def test_legs_of_two_sessions_are_joined_and_go_back(desk: Desk) -> None:
    desk.open("a")
    desk.open("b", "a")
    desk.open("c")
    desk.open("d", "c")
    assert len(desk.engine.sessions()) == 2
    desk.media.join("a", "b")
    desk.media.join("c", "d")
    desk.hears("a", "b")
    desk.media.join("b", "c")
    desk.hears("b", "c")
    desk.hears("c", "b")
    desk.hears("a")
    desk.media.join("a", "b")
    desk.hears("a", "b")
    desk.hears("b", "a")
    desk.hears("c")


def test_a_leg_is_joined_with_one_of_our_own_relay(desk: Desk) -> None:
    desk.open("a")
    desk.open_inside("x")
    desk.open_inside("y")
    desk.media.join("x", "a")
    desk.hears("a", "x")
    desk.hears("x", "a")
    desk.media.join("x", "y")
    desk.hears("x", "y")
    desk.hears("a")


def test_both_legs_may_be_served_at_once_and_then_hear_each_other(desk: Desk) -> None:
    ended: list[MediaError | None] = []
    desk.open("a")
    desk.open("b", "a")
    desk.media.join("a", "b")
    desk.media.echo("a", True)
    desk.media.play("b", "tone_stream://%(200,0,440)", payload_type=0, codec="PCMU", then=ended.append)
    desk.hears("a", "a")
    desk.loop.until(lambda: ended, WITHIN)
    assert ended == [None]
    desk.media.play("b", "tone_stream://%(60000,0,440)", payload_type=0, codec="PCMU", then=ended.append)
    desk.hears("b", "?")
    desk.media.join("b", "a")
    desk.loop.until(lambda: len(ended) == 2, WITHIN)
    assert isinstance(ended[1], MediaStopped)
    desk.hears("a", "b")
    desk.hears("b", "a")


def test_a_playback_that_is_stopped_before_it_began_says_so(desk: Desk) -> None:
    ended: list[MediaError | None] = []
    desk.open("a")
    desk.media.play("a", "silence_stream://1000", payload_type=0, codec="PCMU", then=ended.append)
    desk.media.stop("a")
    assert ended == []
    desk.loop.until(lambda: ended, WITHIN)
    assert isinstance(ended[0], MediaStopped)


def test_a_leg_over_ipv6_and_one_over_ipv4_hear_each_other(desk: Desk) -> None:
    a, b = desk.open("a"), desk.open("b", "a", host="::1")
    assert (a.address, b.address) == ("127.0.0.1", "::1")
    desk.media.join("a", "b")
    desk.hears("a", "b")
    desk.hears("b", "a")


def test_a_successor_goes_on_with_what_its_predecessor_made(process: Process, engine: RtpengineServer) -> None:
    first = Desk(process, engine)
    a, b, c = first.open("a"), first.open("b", "a"), first.open("c")
    first.media.join("a", "b")
    first.media.echo("c", True)
    first.hears("a", "b")
    first.hears("c", "c")
    before = engine.held_ports()
    first.media.shut()
    second = Desk(process, engine)
    second.phones = first.phones
    for leg, place in (("b", b), ("a", a), ("c", c)):
        assert second.open(leg, last=place) == place
    second.media.join("a", "b")
    second.media.echo("c", True)
    second.hears("a", "b")
    second.hears("b", "a")
    second.hears("c", "c")
    assert engine.held_ports() == before
    second.close()


def test_a_port_that_the_engine_does_not_have_is_refused_to_a_successor(desk: Desk) -> None:
    place = desk.open("a")
    for wrong in (
        Anchored(place.engine, "nobody's", "1", place.address, place.port),
        Anchored(place.engine, place.call_id, "7", place.address, place.port),
        Anchored(place.engine, place.call_id, "1", place.address, place.port + 2),
    ):
        with pytest.raises(MediaError):
            desk.open("again", last=wrong)
    desk.media.join("a", "a")
    desk.media.echo("a", True)
    desk.hears("a", "a")


def test_an_engine_that_is_silent_refuses_new_legs_and_leaves_to_a_successor_what_it_had(
    process: Process, tmp_path: Path
) -> None:
    absent = RtpengineServer(tmp_path)
    desk = Desk(process, absent)
    with pytest.raises(MediaError, match=f"rtpengine {absent.ng} does not answer"):
        desk.open("a")
    place = Anchored(absent.ng, "call", "1", "127.0.0.1", free_port())
    assert desk.open("b", last=place) == place
    assert desk.media.state() == [(absent.ng, False, 1)]
    desk.media.shut()


def test_a_leg_goes_to_the_next_engine_when_the_first_does_not_answer(desk: Desk) -> None:
    outcomes: list[int | Anchored | MediaError] = []
    wish = Wish((f"127.0.0.1:{free_port()}", desk.engine.ng))
    desk.media.open("a", address="127.0.0.1", first=40000, last=49998, wish=wish, then=outcomes.append)
    desk.loop.until(lambda: outcomes, WITHIN)
    assert isinstance(outcomes[0], Anchored)
    assert outcomes[0].engine == desk.engine.ng
    assert desk.engine.sessions() == [outcomes[0].call_id]
    desk.media.close("a")


def profile(*engines: str) -> ProfileSettings:
    return ProfileSettings(name="internal", media_engine="rtpengine", rtpengine_ng=engines)


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """An engine that never answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", free_port()))
        silent.setblocking(False)
        yield silent


def asked(silent: socket.socket) -> int:
    """How many questions have come since somebody looked."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while silent.recv(65536):
            count += 1
    return count


def test_an_engine_that_no_profile_names_any_more_is_left_in_peace(desk: Desk, silent: socket.socket) -> None:
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    desk.media.expect([profile(address), profile(desk.engine.ng)])
    desk.loop.until(lambda: asked(silent), WITHIN)
    desk.media.expect([profile(desk.engine.ng)])
    assert [each[0] for each in desk.media.state()] == [desk.engine.ng]
    asked(silent)
    end = time.monotonic() + 2 * PROBE
    while time.monotonic() < end:
        desk.loop.turn()
    assert not asked(silent)


def test_an_engine_that_no_profile_names_any_more_goes_with_its_last_session(desk: Desk, silent: socket.socket) -> None:
    address = f"127.0.0.1:{silent.getsockname()[1]}"
    desk.media.expect([profile(address, desk.engine.ng)])
    outcomes: list[int | Anchored | MediaError] = []
    wish = Wish((address, desk.engine.ng))
    desk.media.open("a", address="127.0.0.1", first=40000, last=49998, wish=wish, then=outcomes.append)
    desk.media.expect([])
    assert {each[0] for each in desk.media.state()} == {address, desk.engine.ng}
    desk.loop.until(lambda: outcomes, WITHIN)
    assert isinstance(outcomes[0], Anchored), "the second one is asked, though no profile names it any more"
    desk.media.close("a")
    desk.loop.until(lambda: desk.engine.sessions() == [], WITHIN)
    desk.loop.until(lambda: desk.media.state() == [], WITHIN)


def test_an_engine_without_ipv6_is_no_engine_for_a_leg_over_ipv6(
    process: Process, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with RtpengineServer(tmp_path).running() as old:
        desk = Desk(process, old)
        for leg in ("a", "b"):
            with pytest.raises(MediaError, match=f"rtpengine {old.ng} has no IPv6 address"):
                desk.open(leg, host="::1")
        assert caplog.text.count(f"rtpengine {old.ng} has no IPv6 address") == 1
        desk.open("c")
        with pytest.raises(MediaError, match="no IPv6"):
            desk.open("d", "c", host="::1")
        desk.open("e", "c")
        desk.media.join("c", "e")
        desk.hears("c", "e")
        assert not desk.lost
        desk.close()


def test_a_leg_over_ipv6_goes_to_the_next_engine_when_the_first_has_only_ipv4(desk: Desk, tmp_path: Path) -> None:
    with RtpengineServer(tmp_path).running() as old:
        outcomes: list[int | Anchored | MediaError] = []
        wish = Wish((old.ng, desk.engine.ng))
        desk.media.open("a", address="::1", first=40000, last=49998, wish=wish, then=outcomes.append)
        desk.loop.until(lambda: outcomes, WITHIN)
        assert isinstance(outcomes[0], Anchored)
        assert (outcomes[0].engine, outcomes[0].address) == (desk.engine.ng, "::1")
        desk.loop.until(lambda: old.sessions() == [], WITHIN)
        desk.media.close("a")


def test_who_forgets_a_session_is_found_out(desk: Desk) -> None:
    place = desk.open("a")
    desk.engine.ask({"command": "delete", "call-id": place.call_id, "delete-delay": 0})
    desk.loop.until(lambda: desk.lost == ["a"], WITHIN)


def test_an_engine_that_has_forgotten_everything_is_not_asked_for_one_session_after_the_other(desk: Desk) -> None:
    legs = [f"leg{number}" for number in range(30)]
    places = [desk.open(leg) for leg in legs]
    for place in places:
        desk.engine.ask({"command": "delete", "call-id": place.call_id, "delete-delay": 0})
    desk.loop.until(lambda: sorted(desk.lost) == sorted(legs), WITHIN)
