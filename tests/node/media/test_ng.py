"""The client of an rtpengine's control protocol, with an engine of the test's own and a clock of the test's own."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Iterator

import pytest

from node.media.bencode import Bencoded, Writable, decode, encode
from node.media.errors import MediaError
from node.media.ng import WINDOW, Answer, NgClient, NgRefused, NgUnanswered
from node.worker import new_loop
from tests.support.ports import free_port


class Clock:
    """Alarms in virtual time; a socket is read when it has something."""

    def __init__(self) -> None:
        self.now = 0.0
        self._readers: dict[int, Callable[[], None]] = {}
        self._alarms: list[_Alarm] = []

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> None:
        self._readers[fd] = callback

    def remove_reader(self, fd: int, /) -> None:
        del self._readers[fd]

    def call_later(self, delay: float, callback: Callable[[], None], /) -> _Alarm:
        alarm = _Alarm(self.now + delay, callback)
        self._alarms.append(alarm)
        return alarm

    def read(self) -> None:
        while ready := select.select(list(self._readers), [], [], 0.002)[0]:
            for fd in ready:
                self._readers[fd]()

    def run(self, until: float) -> None:
        while due := [alarm for alarm in self._alarms if alarm.live and alarm.at <= until + 1e-9]:
            first = min(due, key=lambda alarm: alarm.at)
            self.now, first.live = first.at, False
            first.callback()
        self.now = until
        self._alarms = [alarm for alarm in self._alarms if alarm.live]


class _Alarm:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at, self.callback, self.live = at, callback, True

    def cancel(self) -> None:
        self.live = False


class Scene:
    """A client, the socket of its engine, and what its questions came to."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.engine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.engine.bind(("127.0.0.1", free_port()))
        self.engine.settimeout(5)
        self.address = f"127.0.0.1:{self.engine.getsockname()[1]}"
        self.client = NgClient(self.address, self.clock)
        self.outcomes: list[Answer | MediaError] = []
        self.whence: tuple[str, int] = ("", 0)

    def ask(self, command: str = "ping") -> None:
        self.client.ask({"command": command}, self.outcomes.append)

    def hear(self) -> tuple[bytes, Bencoded]:
        """The next question: its cookie and itself."""
        datagram, self.whence = self.engine.recvfrom(65536)
        cookie, _space, text = datagram.partition(b" ")
        return cookie, decode(text)

    def say(self, cookie: bytes, answer: Writable) -> None:
        self.engine.sendto(cookie + b" " + encode(answer), self.whence)
        self.clock.read()

    def heard(self) -> int:
        """How many questions wait to be read."""
        self.engine.setblocking(False)
        count = 0
        try:
            while True:
                self.engine.recv(65536)
                count += 1
        except BlockingIOError:
            self.engine.settimeout(5)
            return count


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.client.close()
    scene.engine.close()


def test_a_question_is_a_cookie_and_a_dictionary_and_its_answer_comes_back(scene: Scene) -> None:
    scene.ask("offer")
    cookie, question = scene.hear()
    assert question == {b"command": b"offer"}
    scene.say(cookie, {"result": "ok", "sdp": "x"})
    assert scene.outcomes == [{b"result": b"ok", b"sdp": b"x"}]
    assert scene.client.answering is True


def test_an_unanswered_question_is_repeated_and_given_up_after_two_seconds(scene: Scene) -> None:
    scene.ask()
    cookies, times = [], []
    for step in range(200):
        scene.clock.run(step / 100)
        for _ in range(select.select([scene.engine], [], [], 0)[0] != []):
            cookies.append(scene.hear()[0])
            times.append(step / 100)
        assert scene.outcomes == []
    assert times == [0.0, 0.1, 0.3, 0.7, 1.3]
    assert len(set(cookies)) == 1, "the engine knows a repetition by its cookie"
    scene.clock.run(2.0)
    assert isinstance(scene.outcomes[0], NgUnanswered)
    assert str(scene.outcomes[0]) == f"rtpengine {scene.address} does not answer"
    assert scene.client.answering is False


def test_an_answer_to_the_last_repetition_counts_and_another_one_after_it_does_not(scene: Scene) -> None:
    scene.ask()
    scene.clock.run(1.9)
    cookie, _question = scene.hear()
    for _ in range(3):
        scene.say(cookie, {"result": "pong"})
    scene.clock.run(10)
    assert scene.outcomes == [{b"result": b"pong"}]


def test_a_stray_cookie_and_what_cannot_be_read_are_as_if_nothing_had_come(scene: Scene) -> None:
    scene.ask()
    cookie, _question = scene.hear()
    for stray in (
        b"",
        b" ",
        b"\xff\xfe",
        b"other d6:result4:ponge",
        cookie,
        cookie + b" ",
        cookie + b" d6:result",
        cookie + b" le",
    ):
        scene.engine.sendto(stray, scene.whence)
    scene.clock.read()
    assert scene.outcomes == []
    scene.say(cookie, {"result": "pong"})
    assert scene.outcomes == [{b"result": b"pong"}]


def test_nobody_else_can_answer(scene: Scene) -> None:
    scene.ask()
    cookie, _question = scene.hear()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(cookie + b" d6:result4:ponge", scene.whence)
    scene.clock.read()
    assert scene.outcomes == []


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"result": "error", "error-reason": "Unknown call-id"}, "Unknown call-id"),
        ({"result": "load limit"}, "result b'load limit'"),
        ({}, "result None"),
        ({"result": ["ok"]}, "result [b'ok']"),
    ],
)
def test_a_refusal_is_told_with_its_reason(scene: Scene, answer: dict[str, Writable], said: str) -> None:
    scene.ask()
    scene.say(scene.hear()[0], answer)
    assert isinstance(scene.outcomes[0], NgRefused)
    assert str(scene.outcomes[0]) == f"rtpengine {scene.address} says: {said}"
    assert scene.client.answering is True


def test_an_engine_that_is_away_is_pinged_until_it_is_back(scene: Scene) -> None:
    back: list[float] = []
    scene.client.on_back = lambda: back.append(scene.clock.now)
    scene.ask("query")
    scene.clock.run(2.0)
    scene.heard()
    scene.clock.run(3.0)
    cookie, question = scene.hear()
    assert question == {b"command": b"ping"}
    assert back == []
    scene.say(cookie, {"result": "pong"})
    assert back == [3.0]
    scene.clock.run(30)
    assert scene.heard() == 0, "it is pinged no more"


def test_nobody_is_there_at_all_and_comes_later(scene: Scene) -> None:
    place = scene.engine.getsockname()
    scene.engine.close()
    scene.ask()
    scene.clock.read()
    scene.clock.run(0.5)
    scene.clock.read()
    scene.engine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    scene.engine.bind(place)
    scene.engine.settimeout(5)
    scene.clock.run(0.8)
    scene.say(scene.hear()[0], {"result": "pong"})
    assert scene.outcomes == [{b"result": b"pong"}]


@pytest.mark.parametrize("make", [asyncio.new_event_loop, new_loop])
def test_an_engine_that_was_away_is_heard_again_whatever_the_loop(
    make: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """libuv reads no more from a socket that once had an error, such as that nobody was there."""
    loop, place = make(), ("127.0.0.1", free_port())
    client = NgClient(f"127.0.0.1:{place[1]}", loop)
    answered = loop.create_future()

    def ask() -> None:
        client.ask(
            {"command": "ping"}, lambda said: ask() if isinstance(said, MediaError) else answered.set_result(said)
        )

    def come() -> None:
        engine.bind(place)
        loop.add_reader(engine.fileno(), answer)

    def answer() -> None:
        datagram, whence = engine.recvfrom(65536)
        engine.sendto(datagram.partition(b" ")[0] + b" d6:result4:ponge", whence)

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as engine:
        ask()
        loop.call_later(0.05, come)
        loop.run_until_complete(asyncio.wait_for(answered, 30))
        loop.remove_reader(engine.fileno())
    client.close()
    loop.close()


def test_more_questions_than_the_window_wait_for_their_turn_and_all_are_lost_at_once(scene: Scene) -> None:
    for _ in range(WINDOW + 30):
        scene.ask()
    assert scene.heard() == WINDOW
    scene.clock.run(1.99)
    assert scene.outcomes == []
    scene.clock.run(2.0)
    assert len(scene.outcomes) == WINDOW + 30
    assert all(isinstance(outcome, NgUnanswered) for outcome in scene.outcomes)


def test_each_answer_lets_the_next_question_go(scene: Scene) -> None:
    for _ in range(WINDOW + 5):
        scene.ask()
    for _ in range(WINDOW + 5):
        scene.say(scene.hear()[0], {"result": "pong"})
    assert len(scene.outcomes) == WINDOW + 5
    assert scene.heard() == 0


def test_who_breaks_over_an_answer_breaks_nothing_else(scene: Scene) -> None:
    def breaks(_outcome: Answer | MediaError) -> None:
        raise KeyError("mine")

    scene.client.ask({"command": "ping"}, breaks)
    scene.ask()
    for _ in range(2):
        scene.say(scene.hear()[0], {"result": "pong"})
    assert scene.outcomes == [{b"result": b"pong"}]


def test_who_has_let_go_asks_nothing_more(scene: Scene) -> None:
    scene.ask("query")
    assert scene.heard() == 1
    scene.client.close()
    scene.ask("delete")
    scene.client.probe()
    scene.clock.run(5)
    assert scene.heard() == 0
    assert scene.outcomes == []
