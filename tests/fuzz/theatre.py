"""A worker's whole duty in this process and in virtual time: everything is real but wires, clock, disk and media process.

An hour takes no time, so calls are played by the thousand, and an exception that a real worker would log, and end a call
for, is seen with all that led to it. Each scene leaves nothing behind: no call, no transaction.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, cast
from unittest import mock

from node.config import load
from node.config.identity import Identity
from node.directory import Directory
from node.duty import Belongings, Duty
from node.events import Event, EventStream
from node.inquiry import Happened
from node.inquiry import encode as encode_frame
from node.link import Promote
from node.profiles.screen import Screen
from node.registrar.location import Location
from node.sip.flow import Flow
from node.transport.endpoint import Endpoint
from store.errors import StoreError, Unavailable
from store.interface import Outcome, Put, Remove, Store
from store.memory import Book, MemoryStore
from store.records import CallRecord, Registration
from tests.fuzz.agent import Agent, Tally, value
from tests.fuzz.hunt import resident
from tests.fuzz.scripts import EVERYTHING
from tests.support.open_node import open_node

EACH = 8
"Mutants of each message."
START = 1_800_000_000.0
"The wall clock when the curtain rises."
AFTER = 400.0
"Seconds after which nothing of a scene may be left: longer than any timer of a call that is being ended."


@dataclass(slots=True)
class Figures(Tally):
    """What a season of scenes came to."""

    seed: int = 0
    scenes: int = 0
    finds: list[str] = field(default_factory=list)
    slowest: float = 0.0
    "Seconds of process time of the slowest scene, with its hundreds of seconds in virtual time."
    seconds: float = 0.0
    grown: int = 0
    "KiB of memory more than after the warm-up."

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"calls         seed {self.seed:<6} {self.mutants:9} mutants in {self.scenes} scenes in virtual time; answers {statuses}; "
            f"slowest scene {self.slowest * 1000:.0f} ms; memory {self.grown:+} KiB; {self.seconds:.1f} s; {len(self.finds)} finds"
            + "".join(f"\n{text}" for text in self.finds[:10])
        )


def season(*, seed: int, mutants: int, each: int = EACH) -> Figures:
    """Scene after scene, until so many mutants were sent."""
    theatre, figures = Theatre(), Figures(seed=seed)
    begun, warm = time.process_time(), 0
    try:
        while figures.mutants < mutants:
            before = time.process_time()
            try:
                theatre.play(seed * 1_000_000 + figures.scenes, figures, each)
            except AssertionError as found:
                figures.finds.append(str(found))
            figures.scenes += 1
            figures.slowest = max(figures.slowest, time.process_time() - before)
            if not warm and figures.mutants > mutants // 4:
                warm = resident()
    finally:
        theatre.close()
    figures.seconds = time.process_time() - begun
    figures.grown = resident() - warm
    return figures


class Alarm:
    def __init__(self, callback: Callable[..., object], arguments: tuple[object, ...]) -> None:
        self.callback: Callable[..., object] | None = callback
        self.arguments = arguments

    def cancel(self) -> None:
        self.callback = None


class Clock:
    """What a worker asks of an event loop, without one: time passes when it is told to."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._agenda: list[tuple[float, int, Alarm]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self._now

    def wall(self) -> float:
        return START + self._now

    def call_at(self, when: float, callback: Callable[..., object], *arguments: object, **_context: object) -> Alarm:
        alarm = Alarm(callback, arguments)
        heapq.heappush(self._agenda, (when, next(self._order), alarm))
        return alarm

    def call_later(self, delay: float, callback: Callable[..., object], *arguments: object) -> Alarm:
        return self.call_at(self._now + delay, callback, *arguments)

    def call_soon(self, callback: Callable[..., object], *arguments: object, **_context: object) -> Alarm:
        return self.call_at(self._now, callback, *arguments)

    call_soon_threadsafe = call_soon

    def add_reader(self, *_arguments: object) -> None:
        """Nothing ever comes by a descriptor."""

    remove_reader = add_writer = remove_writer = add_reader

    def create_task(self, coroutine: Any) -> Any:
        """Only names are looked up so; that they are not found is what the stand-in below says."""
        coroutine.close()
        raise AssertionError("a task in virtual time")

    def turn(self, until: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass to that moment, or till it stops."""
        while self._agenda and self._agenda[0][0] <= until and not stop():
            when, _order, alarm = heapq.heappop(self._agenda)
            self._now = max(self._now, when)
            if alarm.callback is not None:
                callback, alarm.callback = alarm.callback, None
                callback(*alarm.arguments)
        if not stop():
            self._now = max(self._now, until)


class Wires(Endpoint):
    """The endpoint, whose messages end in a list."""

    heard: Callable[[bytes, Flow], None]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.named.bind(self.profile, ADDRESS)

        def unknown(question: Any, then: Callable[[Any], None]) -> None:
            from node.transport.questions import Answer

            cast(Any, self)._loop.call_soon(then, Answer((), 0.0, failure="nobody has such a name"))

        self.routes.resolver.questions.ask = unknown  # type: ignore[method-assign]

    def _transmit(self, data: bytes, flow: Flow) -> None:
        self.heard(data, flow)


ADDRESS = ("127.0.0.1", 5060)


class Media:
    """Opens what it is asked to open; says so a moment later."""

    on_silence = on_digit = on_learned = on_lost = staticmethod(lambda *_arguments: None)

    def __init__(self, *_arguments: object, call_later: Callable[..., object], **_options: object) -> None:
        self._later, self._ports = call_later, itertools.cycle(range(16384, 32768, 2))

    def open(self, leg: str, *, port: int | None = None, then: Callable[[int], None], **_where: object) -> None:
        self._later(0.0, then, port or next(self._ports))

    def play(self, leg: str, source: str, *, then: Callable[[None], None], **_how: object) -> None:
        self._later(1.0, then, None)

    def when_done(self, then: Callable[[], None]) -> None:
        self._later(0.0, then)

    def _nothing(self, *_arguments: object, **_options: object) -> None:
        """Media is not what is looked at here."""

    remote = join = part = close = sweep = stop = echo = watch = recognise = counters = shut = _nothing


class Books:
    """The writer: a store in memory, which answers a moment later."""

    busy = False
    delay = 0.0

    def __init__(self, clock: Clock, takes: Sequence[float]) -> None:
        self._clock = clock
        self._takes = list(takes)
        self.store = MemoryStore(Book(), clock.wall)
        self.on_fenced: Callable[..., None] | None = None
        self.gone = False
        "Nothing can be asked; what is put is taken all the same."

    def store_time(self) -> float:
        return self._clock.wall()

    def put(self, record: CallRecord | Registration, then: Callable[[Outcome], None] | None = None) -> None:
        outcome = self.store.commit([Put(record)])[0]
        if then is not None:
            self._clock.call_later(0.002, then, outcome)

    def remove(self, record: CallRecord | Registration, then: Callable[[Outcome], None] | None = None) -> None:
        outcome = self.store.commit([Remove(record)])[0]
        if then is not None:
            self._clock.call_later(0.002, then, outcome)

    def ask(self, question: Callable[[Store], object], then: Callable[[Any], None], deadline: float = 2.0) -> None:
        try:
            if self.gone:
                raise Unavailable("the store is gone")
            answer: object = question(self.store)
        except StoreError as error:
            answer = error
        claims = isinstance(answer, list) and "Succession" in str(question)
        self._clock.call_later(self._takes.pop(0) if claims and self._takes else 0.002, then, answer)


class Deaf:
    """Instead of the socket that the console asks by: events are only written down as they would be sent."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        pass

    def tell(self, event: Event) -> None:
        encode_frame(Happened(event))

    def close(self) -> None:
        pass


class Trouble(logging.Handler):
    """What a worker logs with a traceback."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        self.found.append(text)


class Theatre:
    """One worker, for scene after scene."""

    def __init__(self, *, claims: Sequence[str] = (), takes: Sequence[float] = ()) -> None:
        """`claims`: the slots that it is promoted to claim; `takes`: how long its first claims take, in seconds."""
        self.clock = clock = Clock()
        self.trouble = Trouble()
        self.agents: dict[tuple[str, int], Actor] = {}
        self._exits = ExitStack()
        folder = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="fuzz-theatre-")))
        node = open_node(folder)
        settings = node.settings | {"sip_ip": ADDRESS[0], "rtp_ip": ADDRESS[0], "external_sip_ip": ADDRESS[0]}
        configuration = load(node.conf, settings, run_dir=folder)
        directory, events, books = Directory(configuration.directory), EventStream(), Books(clock, takes)
        events.want({"ALL"})
        self.books = books
        writer, loop = cast(Any, books), cast(Any, clock)
        location = Location(books.store_time)
        location.attach(writer)
        screen = Screen(configuration, directory, events=events, clock=books.store_time)
        identity = Identity("fuzz", "core", START)
        own = Belongings(
            loop, identity, configuration, folder, directory, events, writer, location, screen, lambda _said: None
        )
        promote = Promote(slot="internal#0", epoch=1, claims=list(claims), sockets=[])
        for name, stand_in in (("Endpoint", Wires), ("MediaClient", Media), ("InquiryServer", Deaf)):
            self._exits.enter_context(mock.patch(f"node.duty.{name}", stand_in))
        logging.getLogger().addHandler(self.trouble)
        self._exits.callback(logging.getLogger().removeHandler, self.trouble)
        self.duty = Duty(own, promote)
        self.endpoint = cast(Wires, self.duty.endpoint)
        self.endpoint.heard = self._deliver
        self.duty.begin(promote, [])
        self._exits.callback(self.endpoint.bus.close)

    def close(self) -> None:
        self._exits.close()

    def play(self, seed: int, tally: Tally, each: int) -> None:
        """One scene; raises AssertionError for what went wrong in it."""
        random = Random(seed)
        actor = Actor(self, tally, each, seed)
        before = len(tally.unanswered)
        script = random.choice(EVERYTHING)
        script(actor, random)
        self.clock.turn(self.clock.time() + 1.0)
        actor.leaves = True
        self.duty.switchboard.hupall()
        self.clock.turn(self.clock.time() + AFTER)
        del self.agents[actor.host, actor.port]
        problems = [*self.trouble.found, *tally.unanswered[before:], *self._left()]
        self.trouble.found.clear()
        for kept in [*self.endpoint.layer._servers.values(), *self.endpoint.layer._clients.values()]:
            kept.forget()
        self.books.store.book.calls.clear()
        if problems:
            raise AssertionError(f"{script.__name__}, seed {seed}: " + "\n".join(problems))

    def _left(self) -> list[str]:
        exchange, layer = self.duty.switchboard.exchange, self.endpoint.layer
        left = {
            "calls": len(exchange.calls),
            "dialogs": len(exchange.dialogs),
            "server transactions": layer.servers,
            "client transactions": layer.clients,
        }
        found = [f"{count} {what} are left" for what, count in left.items() if count]
        for kept in (layer._servers, layer._clients):
            found += [f"left: {each.state} {each.request.encode()[:1500]!r}" for each in kept.values()]
        return found

    def _deliver(self, data: bytes, flow: Flow) -> None:
        agent = self.agents.get((flow.remote[0], flow.remote[1]))
        if agent is not None:
            self.clock.call_later(0.001, agent.arrived, data)


class Actor(Agent):
    """An agent in the theatre."""

    _ports = itertools.cycle(range(10_000, 60_000))

    def __init__(self, theatre: Theatre, tally: Tally, each: int, seed: int) -> None:
        super().__init__("UDP", tally, each, seed)
        self._theatre = theatre
        self.host, self.port = "127.0.0.9", next(self._ports)
        self._flow = Flow("internal", "UDP", ADDRESS, (self.host, self.port))
        self._arrived: list[str] = []
        self.patience = 100.0
        self.leaves = False
        "It answers at once from now on, whatever comes."
        theatre.agents[self.host, self.port] = self

    def arrived(self, data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        if not self.leaves:
            self._arrived.append(text)
        elif text.startswith("SIP/2.0 "):
            self._acknowledge(text)
        elif not text.startswith("ACK "):
            self.send(self.answer(text, 200 if not text.startswith("INVITE") else 486))

    def _acknowledge(self, text: str) -> None:
        """A last INVITE is answered after all."""
        number, _, method = value(text, "CSeq").partition(" ")
        if method == "INVITE" and text[8:11] >= "300":
            lines = [f"{name}: {value(text, name)}\r\n" for name in ("Via", "From", "To", "Call-ID")]
            ack = f"ACK sip:x SIP/2.0\r\n{''.join(lines)}CSeq: {number} ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            self.send(ack.encode("utf-8", "surrogateescape"))

    def send(self, data: bytes) -> None:
        self._theatre.endpoint.on_message(data[:65_000], self._flow)
        self._theatre.clock.turn(self.now())

    aside = send

    def listen(self, seconds: float) -> list[str]:
        clock = self._theatre.clock
        clock.turn(clock.time() + seconds, stop=lambda: bool(self._arrived))
        arrived, self._arrived = self._arrived, []
        return arrived

    def now(self) -> float:
        return self._theatre.clock.time()

    def close(self) -> None:
        """Nothing to be closed."""
