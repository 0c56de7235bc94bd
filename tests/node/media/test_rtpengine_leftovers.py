"""What a real rtpengine keeps of a session while it lives, and after: nothing of legs that are gone, nor of playbacks."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.media.anchored import Anchored, Wish
from node.media.bencode import decode, encode
from node.media.errors import MediaError, MediaStopped
from tests.node.media.desk import WITHIN, Desk
from tests.node.media.stage import Process
from tests.support.redis import RedisServer
from tests.support.rtpengine import RtpengineServer

LONG = "tone_stream://%(60000,0,440)"


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtpengineServer]:
    with RtpengineServer(tmp_path_factory.mktemp("engine")).running() as engine:
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


def play(desk: Desk, leg: str, source: str) -> list[MediaError | None]:
    """What becomes of it, once it is over."""
    ended: list[MediaError | None] = []
    desk.media.play(leg, source, payload_type=0, codec="PCMU", then=ended.append)
    return ended


# ---- legs that go ------------------------------------------------------------------------------------------------------


def test_those_of_a_fork_who_lost_leave_no_ports_and_the_others_talk_on(desk: Desk) -> None:
    legs = ["b", "c", "d", "e"]
    caller = desk.open("a")
    places = {leg: desk.open(leg, "a") for leg in legs}
    desk.media.join("a", "c")
    desk.hears("a", "c")
    for loser in ("b", "d", "e"):
        desk.gone(loser)
    desk.holds({caller.port, places["c"].port})
    desk.hears("a", "c")
    desk.hears("c", "a")


def test_a_leg_that_goes_first_is_heard_no_more_by_who_waits_for_the_next(desk: Desk) -> None:
    caller, first = desk.open("a"), desk.open("b", "a")
    desk.media.join("a", "b")
    desk.hears("a", "b")
    phone = desk.phones["b"]
    desk.media.close("b")
    desk.loop.until(lambda: first.port not in desk.engine.held_ports(), WITHIN)
    desk.hears("a")
    assert phone.listen() <= {"a"}
    phone.heard.clear()
    desk.hears("a")
    assert not phone.listen(), "nothing of the caller goes to a phone that has left"
    del desk.phones["b"]
    phone.socket.close()
    third = desk.open("c", "a")
    desk.media.join("a", "c")
    desk.hears("a", "c")
    desk.hears("c", "a")
    desk.holds({caller.port, third.port})


def test_who_is_called_one_after_the_other_takes_no_more_ports_each_time(desk: Desk) -> None:
    caller = desk.open("a")
    for number in range(12):
        leg = f"b{number}"
        last = desk.open(leg, "a")
        desk.media.join("a", leg)
        if number < 11:
            desk.gone(leg)
    desk.hears("a", "b11")
    desk.holds({caller.port, last.port})


def test_a_leg_of_another_session_that_goes_leaves_both_as_they_were(desk: Desk) -> None:
    a, b, c = desk.open("a"), desk.open("b", "a"), desk.open("c")
    desk.open("d", "c")
    desk.media.join("a", "b")
    desk.media.join("b", "c")
    desk.hears("b", "c")
    desk.gone("d")
    desk.hears("c", "b")
    desk.media.join("a", "b")
    desk.hears("a", "b")
    desk.gone("c")
    desk.loop.until(lambda: desk.engine.sessions() == [a.call_id], WITHIN)
    desk.holds({a.port, b.port})
    desk.hears("b", "a")
    assert c.call_id != a.call_id


def test_what_a_successor_finds_of_legs_that_are_gone_goes_too_once_all_are_there(
    process: Process, engine: RtpengineServer
) -> None:
    first = Desk(process, engine)
    a, b, c, d = first.open("a"), first.open("b", "a"), first.open("c", "a"), first.open("d", "a")
    first.media.join("a", "c")
    first.hears("a", "c")
    first.media.shut()
    second = Desk(process, engine)
    second.phones = first.phones
    second.open("a", last=a)
    second.open("c", last=c)
    second.media.join("a", "c")
    second.hears("a", "c")
    assert engine.held_ports() >= {a.port, b.port, c.port, d.port}, "they may still be taken up"
    second.media.sweep(["a", "c"])
    second.holds({a.port, c.port})
    second.hears("a", "c")
    second.hears("c", "a")
    second.close()


def test_whom_a_successor_calls_at_once_gets_no_port_that_somebody_else_had(
    process: Process, engine: RtpengineServer
) -> None:
    first = Desk(process, engine)
    a = first.open("a")
    for leg in "bc":
        first.open(leg, "a")
    before = engine.held_ports()
    first.media.shut()
    second = Desk(process, engine)
    outcomes: list[int | Anchored | MediaError] = []
    for leg, wish in (("a", Wish((engine.ng,), last=a)), ("d", Wish((engine.ng,), ["a"]))):
        second.media.open(leg, address="127.0.0.1", first=40000, last=49998, wish=wish, then=outcomes.append)
    second.loop.until(lambda: len(outcomes) == 2, WITHIN)
    assert outcomes[0] == a
    assert isinstance(outcomes[1], Anchored)
    assert outcomes[1].port not in before
    for leg in "ad":
        second.media.close(leg)
    second.loop.until(lambda: engine.sessions() == [], WITHIN)


def test_what_a_worker_asked_for_and_did_not_live_to_hear_of_is_its_successors(
    process: Process, engine: RtpengineServer
) -> None:
    first = Desk(process, engine)
    first.media.open("a", address="127.0.0.1", first=40000, last=49998, wish=Wish((engine.ng,)), then=print)
    first.loop.until(engine.sessions, WITHIN)
    first.media.shut()
    second = Desk(process, engine)
    second.open("a")
    assert len(engine.sessions()) == 1
    second.close()
    assert engine.sessions() == []


def test_a_leg_that_is_opened_again_at_once_has_nothing_to_do_with_what_ends(desk: Desk) -> None:
    before = desk.open("a")
    desk.gone("a")
    after = desk.open("a")
    assert after.call_id != before.call_id
    desk.media.echo("a", True)
    desk.hears("a", "a")
    desk.loop.until(lambda: desk.engine.sessions() == [after.call_id], WITHIN)


def test_who_has_let_go_asks_the_engine_nothing_more(process: Process, engine: RtpengineServer) -> None:
    first = Desk(process, engine)
    for leg in "abc":
        first.open(leg, "a")
    before = engine.held_ports()
    first.media.join("a", "c")
    first.media.shut()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        first.loop.turn()
    assert engine.held_ports() == before
    engine.ask({"command": "delete", "call-id": engine.sessions()[0], "delete-delay": 0})


def test_an_engine_that_comes_back_has_no_sides_of_legs_that_went_meanwhile(process: Process, tmp_path: Path) -> None:
    with RtpengineServer(tmp_path).running() as engine:
        desk = Desk(process, engine)
        a, b = desk.open("a"), desk.open("b", "a")
        desk.open("c", "a")
        desk.media.join("a", "b")
        desk.hears("a", "b")
        with engine.frozen():
            desk.gone("c")
            desk.loop.until(lambda: desk.media.state() == [(engine.ng, False, 1)], WITHIN)
        desk.holds({a.port, b.port})
        desk.hears("b", "a")
        assert not desk.lost
        desk.close()


def test_an_engine_that_dies_finds_the_rest_of_a_session_in_its_redis(process: Process, tmp_path: Path) -> None:
    redis = RedisServer(tmp_path / "redis")
    redis.start()
    try:
        with RtpengineServer(tmp_path / "engine", redis=redis.port).running() as engine:
            desk = Desk(process, engine)
            a, b, c = desk.open("a"), desk.open("b", "a"), desk.open("c", "a")
            desk.media.join("a", "b")
            desk.hears("a", "b")
            desk.media.join("a", "c")
            desk.hears("a", "c")
            desk.gone("b")
            desk.holds({a.port, c.port})
            engine.kill()
            engine.start()
            desk.hears("a", "c")
            desk.hears("c", "a")
            d = desk.open("d", "a")
            desk.media.join("a", "d")
            desk.hears("a", "d")
            desk.gone("c")
            desk.holds({a.port, d.port})
            assert not desk.lost
            assert b.call_id == d.call_id
            desk.close()
    finally:
        redis.stop()


# ---- playbacks ---------------------------------------------------------------------------------------------------------


def test_a_playback_leaves_nothing_when_its_leg_is_joined(desk: Desk) -> None:
    a, b = desk.open("a"), desk.open("b", "a")
    desk.media.join("a", "b")
    for _ in range(3):
        ended = play(desk, "a", "tone_stream://%(100,0,440)")
        desk.loop.until(lambda ended=ended: ended == [None], WITHIN)
        desk.media.join("a", "b")
        desk.hears("a", "b")
    desk.holds({a.port, b.port})
    assert desk.inner_legs() == set()


def test_a_leg_that_goes_in_the_middle_of_a_playback_takes_everything_with_it(desk: Desk) -> None:
    a, b = desk.open("a"), desk.open("b", "a")
    ended = play(desk, "b", LONG)
    desk.hears("b", "?")
    desk.gone("b")
    desk.loop.until(lambda: ended, WITHIN)
    assert isinstance(ended[0], MediaStopped)
    desk.loop.until(lambda: b.port not in desk.engine.held_ports(), WITHIN)
    desk.gone("a")
    desk.loop.until(lambda: desk.engine.sessions() == [], WITHIN)
    assert desk.inner_legs() == set()
    assert a.call_id == b.call_id


@pytest.mark.parametrize("then", ["plays on", "is joined", "goes"])
def test_a_playback_in_whose_middle_the_worker_dies_leaves_nothing(
    process: Process, engine: RtpengineServer, then: str
) -> None:
    first = Desk(process, engine)
    a, b = first.open("a"), first.open("b", "a")
    play(first, "a", LONG)
    first.hears("a", "?")
    first.media.shut()
    second = Desk(process, engine)
    second.phones = first.phones
    second.open("a", last=a)
    second.open("b", last=b)
    if then == "plays on":
        play(second, "a", LONG)
    elif then == "is joined":
        second.media.join("a", "b")
    else:
        second.gone("a")
    second.media.sweep(list(second.phones))
    if then == "plays on":
        second.hears("a", "?")
        second.media.join("a", "b")
    if then == "goes":
        second.holds({b.port}, besides=1)
    else:
        second.hears("a", "b")
        second.holds({a.port, b.port})
    second.loop.until(lambda: second.inner_legs() == set(), WITHIN)
    second.close()


class Refusing:
    """Stands before an engine, and refuses to make one side."""

    def __init__(self, desk: Desk, tag: str) -> None:
        self.tag = tag
        self._desk = desk
        self._front, self._back = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self._front.bind(("127.0.0.1", 0))
        self._back.connect(("127.0.0.1", desk.engine.port))
        desk.ng = f"127.0.0.1:{self._front.getsockname()[1]}"
        desk.loop.add_reader(self._front.fileno(), self._asked)
        desk.loop.add_reader(self._back.fileno(), lambda: self._front.sendto(self._back.recv(65536), self._client))

    def _asked(self) -> None:
        datagram, self._client = self._front.recvfrom(65536)
        cookie, _space, text = datagram.partition(b" ")
        question = decode(text)
        assert isinstance(question, dict)
        if question.get(b"to-tag") == self.tag.encode():
            answer = encode({"result": "error", "error-reason": "not today"})
            self._front.sendto(cookie + b" " + answer, self._client)
        else:
            self._back.send(datagram)

    def close(self) -> None:
        for each in (self._front, self._back):
            self._desk.loop.remove_reader(each.fileno())
            each.close()


def test_a_playback_that_the_engine_refuses_ends_with_its_reason_and_the_legs_talk_on(
    process: Process, engine: RtpengineServer
) -> None:
    desk = Desk(process, engine)
    refusing = Refusing(desk, "3")
    a, b = desk.open("a"), desk.open("b", "a")
    desk.media.join("a", "b")
    desk.hears("a", "b")
    ended = play(desk, "a", LONG)
    desk.loop.until(lambda: ended, WITHIN)
    assert str(ended[0]).endswith("says: not today")
    assert desk.inner_legs() == set()
    desk.hears("a")
    desk.media.join("a", "b")
    desk.hears("a", "b")
    play(desk, "b", LONG)
    desk.hears("b", "?")
    assert not desk.lost
    desk.media.join("b", "a")
    desk.hears("b", "a")
    desk.holds({a.port, b.port})
    desk.close()
    refusing.close()


def test_a_playback_that_the_engine_has_no_port_for_ends_with_its_reason(process: Process, tmp_path: Path) -> None:
    """Such an engine ends the whole session: that is found out at once."""
    with RtpengineServer(tmp_path, ports=4).running() as engine:
        desk = Desk(process, engine)
        desk.open("a")
        desk.open("b", "a")
        desk.media.join("a", "b")
        desk.hears("a", "b")
        ended = play(desk, "a", LONG)
        desk.loop.until(lambda: ended, 1.5)
        assert "says: Ran out of ports" in str(ended[0])
        assert sorted(desk.lost) == ["a", "b"]
        desk.close()


def test_a_playback_whose_engine_does_not_answer_ends_and_the_next_one_is_heard(
    process: Process, tmp_path: Path
) -> None:
    with RtpengineServer(tmp_path).running() as engine:
        desk = Desk(process, engine)
        a = desk.open("a")
        desk.hears("a")
        with engine.frozen():
            ended = play(desk, "a", LONG)
            desk.loop.until(lambda: ended, WITHIN)
            assert "does not answer" in str(ended[0])
        desk.loop.until(lambda: desk.media.state() == [(engine.ng, True, 1)], WITHIN)
        assert len(ended) == 1
        play(desk, "a", LONG)
        desk.hears("a", "?")
        assert a.port in engine.held_ports()
        desk.close()
