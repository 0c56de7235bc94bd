"""The worker process: everything wired together, born standby, promoted to a slot, gone without a trace of its own.

    forked -> Ready (standby: no sockets) -> Promote -> Promoted (reads at once) -> Revived -> Demote, or end of file

It imports the engine after the fork. Its loop answers the supervisor's beats, so that a hung loop looks hung.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from node import debug
from node import log as node_log
from node.config import Configuration, ConfigurationError, load
from node.config.identity import Identity
from node.directory import Directory
from node.duty import Belongings, Duty
from node.events import Event, EventStream
from node.link import (
    Beat,
    Beaten,
    Demote,
    Done,
    Failed,
    Follows,
    Instruct,
    Lease,
    Link,
    LinkClosed,
    Promote,
    Ready,
    Sockets,
)
from node.link import Message as Said
from node.profiles.screen import Screen
from node.registrar.following import Following
from node.registrar.location import Location
from node.sip.flow import Flow
from node.sip.token import token as token_of
from node.standby import Tenure
from node.storing import Storing
from node.transport.handoff import UNPLACED, Bus
from node.transport.outside import Outside
from node.unstored import Unstored
from store.backends import open_store
from store.errors import StoreError
from store.interface import Write
from store.journal import Journal, Lot, MemoryJournal, Spill
from store.writer import Writer

log = logging.getLogger(__name__)

TOLD_WITHIN = 1.0
"Seconds that a worker waits for the store before it says that it is ready all the same."
SECRET_AGAIN = 1.0
"Seconds until the store is asked again for the secret of the nonces."
SILENT = 2.0
"Seconds that a worker whose time is over waits in silence for more of it: its supervisor may have been merely slow."
CALM = 0.3
"Seconds that a worker must be given at least to finish what it has in hand before it goes."
LOOK = 0.003
"Seconds between two looks whether it has."
LET_GO_WITHIN = 0.05
"Seconds for the last writes when nobody waits for us any more; what takes longer goes to the journal."


def main(link: Link, identity: Identity, configuration: Configuration, run_dir: Path) -> None:
    """The entry point of the child."""
    node_log.setup(run_dir, node_log.level_of(configuration.switch.loglevel), "worker")
    general = configuration.sofia
    debug.begin(
        general.log_level,
        general.tracelevel,
        presence_on=general.debug_presence > 0,
        sla_on=general.debug_sla > 0,
        environment=os.environ,
    )
    loop = new_loop()
    worker = Worker(loop, link, identity, configuration, run_dir)
    worker.start()
    settle_collector()
    try:
        loop.run_forever()
    finally:
        worker.close()
        loop.close()


def new_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it is installed: worth up to a tenth."""
    try:
        import uvloop
    except ImportError:
        loop: asyncio.AbstractEventLoop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    return loop


def settle_collector() -> None:
    """No automatic full collection: with 20,000 calls one stops everything for a tenth of a second.

    Measured while calls were set up: young ones of 5,000 objects stop it for 2 to 3 ms and take 43 us of each call, those of
    10,000 for 5 ms and 22 us, of 50,000 for 18 ms and 15 us: what has died in time is not looked at. A middle one, of five
    young ones, takes some 15 ms. REGISTERs leave next to nothing to be looked at: 1 us each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 5, 1_000_000)


def _tell(events: EventStream, subclass: str, headers: list[tuple[str, str]]) -> None:
    if events.wanted(subclass):
        events.fire(Event(name="CUSTOM", subclass=subclass, headers=headers))


class LateJournal:
    """The journal of a writer that is started before its worker has a slot, and so a name for the journal."""

    def __init__(self) -> None:
        self._journal: Spill = MemoryJournal(1000)
        self._settling = threading.Lock()
        "Held while something is appended: it must not go to the one in memory when that was emptied."

    def settle(self, journal: Journal) -> None:
        """What a crashed predecessor left in it is replayed from now on. Raises `JournalFailed`."""
        journal.open()
        with self._settling:
            early, self._journal = self._journal, journal
            while (lot := early.oldest()) is not None:
                journal.append(lot.writes)
                early.forget(lot)

    @property
    def pending(self) -> bool:
        return self._journal.pending

    def open(self) -> None:
        self._journal.open()

    def close(self) -> None:
        self._journal.close()

    def append(self, writes: Sequence[Write]) -> list[Write]:
        with self._settling:
            return self._journal.append(writes)

    def flush(self) -> None:
        self._journal.flush()

    def oldest(self) -> Lot | None:
        return self._journal.oldest()

    def more_than(self, lot: Lot | None) -> bool:
        return self._journal.more_than(lot)

    def note_given(self, lot: Lot, count: int) -> None:
        self._journal.note_given(lot, count)

    def forget(self, lot: Lot) -> None:
        self._journal.forget(lot)


class Ear:
    """The place on the bus of a worker without a slot: it only learns what the others tell."""

    def __init__(self, location: Location, heard: Callable[[], None]) -> None:
        self._location = location
        self._heard = heard

    def on_arrived(self, data: bytes, flow: Flow) -> None:
        """Nobody sends it messages."""

    def on_through(self, data: bytes, flow: Flow, astray: Callable[[bool], None]) -> None:
        """It has no connections."""

    def on_bus_notice(self, topic: str, body: bytes, sender: str) -> None:
        self._heard()
        self._location.on_notice(topic, body)

    def on_bus_drained(self) -> None:
        """Nothing waits for that."""


class Worker:
    """One worker, from its birth to its end."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        link: Link,
        identity: Identity,
        configuration: Configuration,
        run_dir: Path,
    ) -> None:
        self._loop = loop
        self._link = link
        self._run_dir = run_dir
        self._journal = LateJournal()
        writer = Writer(
            open_store(configuration.switch.database, db_dir=run_dir / "db"),
            call_soon=loop.call_soon_threadsafe,
            call_later=loop.call_later,
            journal=self._journal,
        )
        writer.heir = identity.node
        unstored = Unstored(loop.call_later)
        writer.on_unstored = unstored.note
        location = Location(writer.store_time)
        location.attach(writer)
        directory = Directory(configuration.directory)
        events = EventStream()
        unstored.tell = partial(_tell, events)
        screen = Screen(configuration, directory, events=events, clock=writer.store_time)
        self._own = Belongings(
            loop, identity, configuration, run_dir, directory, events, writer, location, screen, self._say
        )
        self._tenure = Tenure(now=time.monotonic, call_later=loop.call_later, ended=self._on_tenure_over)
        self._following = Following(
            location,
            writer,
            call_later=loop.call_later,
            now=loop.time,
            told=lambda lag, count: self._say(Follows(lag=lag, registrations=count)),
        )
        self._storing = Storing(writer, self._say, call_later=loop.call_later)
        self._ear: Bus | None = None
        self._duty: Duty | None = None
        self._outside = Outside(loop, self._on_outside)
        self._silent: asyncio.TimerHandle | None = None
        "Ends the wait for a newer lease."
        self._closed = self._leaving = self._ready = False

    def start(self) -> None:
        """Be a standby: know the secret and the registrations, hear what the other workers tell."""
        self._own.writer.start()
        self._ear = Bus(
            self._run_dir / "bus",
            f"{UNPLACED}{os.getpid()}",
            self._loop,
            Ear(self._own.location, self._following.heard),
        )
        self._ask_secret()
        self._outside.configure(self._own.configuration.profiles, self._own.configuration.sofia.dns_servers)
        self._following.start()
        self._storing.start()
        self._loop.add_reader(self._link.fileno(), self._on_readable)
        self._loop.call_later(TOLD_WITHIN, self._say_ready)

    def _say_ready(self) -> None:
        """Once the store has been heard, and its clock with it: by one of our own that is wrong we would write what is
        refused as old. A store that is gone is not waited for."""
        if not self._ready and not self._closed:
            self._ready = True
            self._say(Ready(os.getpid()))

    def close(self, within: float = LET_GO_WITHIN) -> None:
        """Let go of everything, without a word to anybody on the network."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._link.fileno())
        self._tenure.close()
        self._following.stop()
        self._storing.stop()
        if self._silent is not None:
            self._silent.cancel()
        self._outside.close()
        if self._duty is not None:
            self._duty.close()
        if self._ear is not None:
            self._ear.leave()
        self._own.writer.close(within)
        self._link.close()
        node_log.close(within)

    # ---- what the supervisor says ----------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        try:
            while not self._closed and (received := self._link.receive()) is not None:
                self._on_message(*received)
        except LinkClosed:
            log.info("the supervisor is gone")
            self._let_go(LET_GO_WITHIN)

    def _on_message(self, message: Said, descriptors: list[int]) -> None:
        match message:
            case Beat(number):
                if debug.default.level >= 9:
                    debug.default.say("beat %d", number)
                self._say(Beaten(number))
                return
            case Lease(until, epoch):
                self._hear_lease(until, epoch)
            case Promote():
                self._promote(message, descriptors)
            case Sockets(sockets):
                if self._duty is not None:
                    self._duty.endpoint.add(list(zip(sockets, descriptors, strict=True)))
            case Demote(reason=reason, within=within):
                log.info("letting go: %s", reason)
                self._leave(within)
            case Instruct():
                self._instruct(message)
            case _:
                log.warning("the supervisor said %s, which a worker does not understand", type(message).__name__)

    def _promote(self, promote: Promote, descriptors: list[int]) -> None:
        if self._duty is not None:
            log.error("promoted to %s while serving %s", promote.slot, self._duty.slot)
            return
        try:
            node_log.rename(promote.slot)
            self._journal.settle(Journal(self._run_dir / "journal" / token_of(promote.slot)))
            self._duty = Duty(self._own, promote)
            for verb, words in promote.orders:
                self._duty.verbs.respond(verb, words, lambda _ok, _value: None)
            self._hear_lease(promote.lease_until, promote.epoch)
            self._duty.begin(promote, descriptors)
            self._following.settle()
        except Exception as error:
            log.exception("cannot serve %s", promote.slot)
            self._say(Failed(f"cannot serve {promote.slot}: {error}"))
            self._let_go(LET_GO_WITHIN)
            return
        if self._ear is not None:
            self._ear.leave()
            self._ear = None
        self._loop.call_later(1.0, gc.freeze)

    def _instruct(self, instruct: Instruct) -> None:
        if debug.default.level >= 5:
            debug.default.say("told to %s %s", instruct.verb, " ".join(instruct.words))

        def done(ok: bool, value: object, /) -> None:
            count = value if isinstance(value, int) else 0
            self._say(Done(number=instruct.number, text="" if ok else str(value), count=int(count)))

        if instruct.verb == "rescan":
            self._rescan(done)
        elif self._duty is None:
            done(False, "this worker serves no slot")
        elif instruct.verb == "recover":
            self._duty.recover(instruct.words, instruct.epoch, done)
        else:
            self._duty.verbs.respond(instruct.verb, instruct.words, done)

    def _hear_lease(self, until: float, epoch: int) -> None:
        self._tenure.hear(until)
        if self._duty is not None:
            if until:
                self._duty.endpoint.until = until
            if epoch:
                self._duty.set_epoch(epoch)
        if until and until <= time.monotonic():
            return
        if self._silent is not None:
            log.info("a newer lease was heard of: this worker goes on")
            self._silent.cancel()
            self._silent = None
            if self._duty is not None:
                self._duty.endpoint.resume()
        elif self._duty is not None and self._duty.endpoint.recess.kept:
            # It came before our own alarm said that we are late.
            self._duty.endpoint.resume()

    def _on_tenure_over(self) -> None:
        """Nobody hears of us any more; the rest of what we are stays for a moment, for the lease may yet be renewed."""
        if self._silent is None:
            log.warning("no newer lease was heard of: this worker is silent until there is one")
            if self._duty is not None:
                self._duty.endpoint.pause()
            self._silent = self._loop.call_later(SILENT, self._give_up)

    def _give_up(self) -> None:
        log.error("no newer lease was heard of: this worker stops acting")
        self._let_go(LET_GO_WITHIN)

    def _leave(self, within: float) -> None:
        """With time for it, what is in hand is finished first: nothing new is read, what waits for the store is answered."""
        if self._duty is None or within < CALM:
            self._let_go(within)
        elif not self._leaving:
            self._leaving = True
            self._duty.endpoint.deafen()
            self._finish(self._loop.time() + within - LET_GO_WITHIN)

    def _finish(self, until: float) -> None:
        if self._closed:
            return
        if self._own.writer.idle or self._loop.time() >= until:
            self._let_go(LET_GO_WITHIN)
        else:
            self._loop.call_later(LOOK, self._finish, until)

    def _let_go(self, within: float) -> None:
        self.close(within)
        self._loop.stop()

    def _say(self, message: Said) -> None:
        try:
            self._link.send(message)
        except (LinkClosed, BlockingIOError) as error:
            log.warning("the supervisor does not hear %s: %s", type(message).__name__, error)

    # ---- what it has to know ---------------------------------------------------------------------------------------

    def _ask_secret(self) -> None:
        """The nonces of all workers of both nodes come from one secret; until it is known, from one of our own."""

        def known(answer: bytes | StoreError) -> None:
            if isinstance(answer, StoreError):
                if not self._closed:
                    self._loop.call_later(SECRET_AGAIN, self._ask_secret)
            else:
                self._own.screen.set_secret(answer)
                self._say_ready()

        self._own.writer.ask(lambda store: store.secret("nonce"), known)

    def _rescan(self, done: Callable[[bool, object], None]) -> None:
        """Read the configuration again, beside the loop, and go by it."""
        old = self._own.configuration
        reading = self._loop.run_in_executor(
            None, partial(load, old.conf_dir, old.overrides, run_dir=self._run_dir, allow_exec=old.allow_exec)
        )

        def read(future: asyncio.Future[Configuration]) -> None:
            try:
                configuration = future.result()
                self._outside.configure(configuration.profiles, configuration.sofia.dns_servers)
                self._configure(configuration)
            except (ConfigurationError, OSError) as error:
                log.error("the configuration was not read again: %s", error)
                done(False, str(error))
            else:
                done(True, 0)

        reading.add_done_callback(read)

    def _on_outside(self) -> None:
        """The world calls us otherwise, or we have just learnt how."""
        self._configure(self._own.configuration)

    def _configure(self, configuration: Configuration) -> None:
        configuration = replace(configuration, profiles=self._outside.applied(configuration.profiles))
        self._own.configuration = configuration
        self._own.directory = Directory(configuration.directory)
        self._own.screen.configure(configuration, self._own.directory)
        if self._duty is not None:
            self._duty.configure(configuration, self._own.directory)
