"""What a promoted worker has: its endpoint, registrar and calls, and the claim of what its predecessor left."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from node.calls import urgency
from node.calls.switchboard import Reinvite, Result, Switchboard
from node.config import Configuration
from node.config.identity import Identity
from node.debug import default
from node.directory import Directory
from node.events import Event, EventStream
from node.inquiry import InquiryServer
from node.link import Fenced, Promote, Promoted, Revived
from node.link import Message as Said
from node.media.engines import Media
from node.media.session import MediaClient
from node.profiles.access import Access
from node.profiles.reception import Reception
from node.profiles.screen import Screen
from node.registrar.location import Location
from node.registrar.registrar import Owner, Registrar
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request
from node.sip.token import slot as slot_of
from node.sip.token import token as token_of
from node.standby import Claim, Held, Succession
from node.transport.endpoint import Endpoint, Message
from node.transport.handoff import Arrived
from node.transport.ownership import owner_of
from node.verbs import Verbs
from store.records import CallRecord
from store.writer import Writer

log = logging.getLogger(__name__)

RECOVERED_WITHIN = 45.0
"Seconds that `sofia recover` waits for the answers to its re-INVITEs; the supervisor waits 55 for us."
LOOK_EVERY, LOOK_AGAIN = 0.2, 2.0
"Seconds between two looks for records of slots that we do not have, and between two for the same."
WAITING = 1000
"Messages that may wait for the records of one slot that nobody serves."


@dataclass(slots=True)
class Belongings:
    """What a worker has had since its birth, and takes into its duty."""

    loop: asyncio.AbstractEventLoop
    identity: Identity
    configuration: Configuration
    run_dir: Path
    directory: Directory
    events: EventStream
    writer: Writer
    location: Location
    screen: Screen
    say: Callable[[Said], None]
    "Tells the supervisor."


class Duty:
    """What a promoted worker has: its endpoint, registrar and calls, and the claim of what its predecessor left."""

    def __init__(self, own: Belongings, promote: Promote) -> None:
        self.slot = promote.slot
        self._own = own
        loop, configuration, run_dir = own.loop, own.configuration, own.run_dir
        self._loop = loop
        token = token_of(promote.slot)
        profile = promote.slot.rpartition("#")[0]
        self._profile = profile
        self._owner = Owner(own.identity.node, promote.slot, promote.epoch, hostname=configuration.switch.switchname)
        self.reception = Reception(configuration, profile=profile, screen=own.screen, asker=own.writer)
        self.endpoint = Endpoint(
            configuration.profiles,
            self.reception,
            profile=profile,
            token=token,
            bus_folder=run_dir / "bus",
            loop=loop,
        )
        relay = MediaClient(
            run_dir / "media",
            promote.slot,
            add_reader=loop.add_reader,
            remove_reader=loop.remove_reader,
            call_later=loop.call_later,
        )
        self._media = Media(relay, loop)
        self._media.expect(configuration.profiles.values())
        self.registrar = Registrar(
            configuration,
            endpoint=self.endpoint,
            writer=own.writer,
            location=own.location,
            events=own.events,
            owner=self._owner,
            clock=own.writer.store_time,
        )
        self.switchboard = Switchboard(
            slot=promote.slot,
            node=own.identity.node,
            epoch=promote.epoch,
            endpoint=self.endpoint,
            media=self._media,
            writer=own.writer,
            configuration=configuration,
            directory=own.directory,
            location=own.location,
            events=own.events,
            core_uuid=own.identity.core_uuid,
        )
        self.verbs = Verbs(
            configuration,
            endpoint=self.endpoint,
            switchboard=self.switchboard,
            registrar=self.registrar,
            reception=self.reception,
            location=own.location,
            writer=own.writer,
        )
        self._inquiries = InquiryServer(
            run_dir / "workers" / token, loop, respond=self.verbs.respond, want=own.events.want
        )
        own.events.listen(self._inquiries.tell)
        self._held = Held()
        self._claims: set[Succession] = set()
        self._recovering: set[Succession] = set()
        "Claims that are not over, or whose re-INVITEs are not answered."
        self._orphans: dict[str, list[Callable[[], None]]] = {}
        self._looked: dict[str, float] = {}
        "Slots that we do not have, and until when their records are not looked for again."
        self._next_look = 0.0
        self._owed = promote.epoch if promote.owed else 0
        "Our predecessor could not be fenced off: what it has left is claimed under a newer epoch than this."
        self._counted = [0, 0, 0]
        "Calls, legs, failed legs of the claim we were promoted with."
        self._told: list[int] | None = None
        "What the supervisor has been told of them."
        self._began = 0.0
        self._access = Access(configuration.acl)
        self._sweeping: asyncio.TimerHandle | None = None
        self._wire()

    def _wire(self) -> None:
        reception, endpoint, location = self.reception, self.endpoint, self._own.location
        reception.endpoint, reception.switchboard, reception.registrar = endpoint, self.switchboard, self.registrar
        endpoint.on_served = reception.on_served
        reception.elsewhere = self.switchboard.elsewhere = self._elsewhere
        self._own.screen.sockets = endpoint.addresses
        gate = endpoint.gate
        gate.exempt = endpoint.streams.door.exempt = self._exempt
        gate.issued = self._own.screen.digest.issued
        gate.behind = lambda: self._own.writer.busy
        gate.tell = self._tell_custom
        self._own.screen.digest.bindings = location.known
        endpoint.trace.configure(self._own.configuration.profiles, self._own.configuration.sofia)
        endpoint.routes.resolver.configure(self._own.configuration.sofia.dns_servers)
        endpoint.named.lists = self._own.configuration.acl
        endpoint.adopt = self._adopt
        endpoint.bus.expects = self._has_slot
        endpoint.on_notice = lambda topic, body, _sender: location.on_notice(topic, body)
        endpoint.on_connection_closed = self.registrar.on_connection_closed
        endpoint.moved = location.moved
        location.tell = endpoint.bus.tell
        self._own.writer.on_fenced = self._on_fenced
        self._own.writer.together = self.endpoint.together

    # ---- promotion -------------------------------------------------------------------------------------------------

    def begin(self, promote: Promote, descriptors: list[int]) -> None:
        """Read at once; claim beside it. What may belong to a record that is not here yet is held."""
        self._began = self._loop.time()
        if default.level >= 5:
            default.say("%s: promoted under epoch %d, to claim %s", self.slot, promote.epoch, promote.claims)
        if default.level >= 7:
            default.say("%s: sockets %s", self.slot, promote.sockets)
        recovering = bool(promote.claims) and promote.recover
        if recovering:
            self._hold()
        self.endpoint.open(list(zip(promote.sockets, descriptors, strict=True)))
        self._own.say(Promoted(slot=promote.slot, epoch=promote.epoch))
        if recovering:
            self.switchboard.ledger.begin()
            self._claim(promote.claims, promote.epoch, self._counted, self._on_revived, self._on_settled)
        else:
            self._sweep_media()
            self._on_revived()
        if promote.slot.endswith("#0"):
            self._sweep()

    def _hold(self) -> None:
        self.reception.claiming = True
        self.endpoint.hold = self._keep

    def _keep(self, message: Message, flow: Flow) -> bool:
        if not self.reception.hold(message):
            return False
        self._held.keep(message, flow)
        return True

    def _release(self) -> None:
        """The records are here: take up what was held for them, in its order."""
        if self._claims:
            return
        self.endpoint.hold = None
        self.reception.claiming = False
        kept, self.reception.kept = self.reception.kept, []
        for message, flow in [*self._held.release(), *kept]:
            _guarded(partial(self.endpoint.take, message, flow))

    def _on_revived(self) -> None:
        self._release()
        took = self._loop.time() - self._began
        if not self._counted[0]:
            self._tell_revived(took)
        else:
            # Who waits with the shared address for our calls waits for their relays too.
            self._media.when_done(lambda: self._tell_revived(took))
            self._tell_custom("sofia::recovery_recovered", [("recovered_calls", str(self._counted[1]))])

    def _tell_revived(self, seconds: float) -> None:
        calls, legs, failed = self._told = list(self._counted)
        self._own.say(Revived(slot=self.slot, calls=calls, legs=legs, failed=failed, seconds=seconds))
        if calls:
            log.info("%s: %d calls with %d legs revived in %.3f s, %d failed", self.slot, calls, legs, seconds, failed)

    def _on_settled(self) -> None:
        """The answers to the re-INVITEs are there. Nobody waited for them; if they change the counts, that is said."""
        if self._told is not None and self._counted != self._told:
            self._tell_revived(self._loop.time() - self._began)

    def _claim(
        self,
        slots: list[str],
        epoch: int,
        counted: list[int],
        then: Callable[[], None],
        settled: Callable[[], None] | None = None,
    ) -> None:
        """Claim, revive batch by batch, and count calls, legs and failed legs.

        `then` is called when all are claimed and revived; `settled`, if given, when the last re-INVITE is answered too:
        by then legs that did not survive theirs are counted as failed.
        """
        asking = 1

        def answered() -> None:
            nonlocal asking
            asking -= 1
            if not asking:
                end_if_over()
                if settled is not None:
                    settled()

        def end_if_over() -> None:
            if not asking and succession.over:
                self._recovering.discard(succession)
                if not self._recovering:
                    self.switchboard.ledger.end()

        def complete() -> None:
            end_if_over()
            if self.slot in slots and epoch > self._owed:
                self._owed = 0
            # Not before, and not while another claim still has some to revive: until then their audio flows on.
            if all(each.over for each in self._recovering):
                self._sweep_media()

        def revive(records: list[CallRecord]) -> None:
            nonlocal asking
            if default.level >= 7:
                default.say("%s: %d records claimed", self.slot, len(records))
            # What was fetched because a claim was not heard of may be here all the same.
            records = [record for record in records if record.uuid not in self.switchboard.exchange.calls]
            if records:
                self.switchboard.ledger.begin()
            asking += 1
            counted[0] += len(records)
            seen: dict[str, bool] = {}

            def count(results: list[Result]) -> None:
                for result in results:
                    before = seen.get(result.uuid)
                    if before is not None and before is not result.ok:
                        counted[1 if before else 2] -= 1
                    if before is not result.ok:
                        counted[1 if result.ok else 2] += 1
                    seen[result.uuid] = result.ok

            def final(results: list[Result]) -> None:
                count(results)
                answered()

            count(self.switchboard.revive(records, reinvite=self._reinvite, rate=self._rate, then=final))

        def ended() -> None:
            self._claims.discard(succession)
            then()
            if not self._claims and succession.complete:
                self.switchboard.claimed()
            answered()

        def give_up(why: str) -> None:
            log.error("%s: %s", self.slot, why)
            self._own.say(Fenced(self.slot, epoch))
            ended()

        succession = Succession(
            Claim(slots, self._owner.node, self.slot, epoch),
            self._own.writer,
            revive=revive,
            done=ended,
            give_up=give_up,
            call_later=self._loop.call_later,
            now=self._loop.time,
            complete=complete,
            rank=lambda record: urgency.rank(record, self._own.configuration.emergency_numbers(record.profile_name)),
        )
        self._recovering.add(succession)
        self._claims.add(succession)
        succession.start()

    def _sweep_media(self) -> None:
        """What the media process holds for no call of ours is nobody's, unless there are calls that are still to come."""
        if not self._owed:
            self.switchboard.sweep_media()

    @property
    def _reinvite(self) -> Reinvite:
        configuration = self._own.configuration
        return configuration.profiles[self._profile].recovery_reinvite or configuration.ha.recovery_reinvite

    @property
    def _rate(self) -> float:
        configuration = self._own.configuration
        own = configuration.profiles[self._profile].recovery_rate
        return float(configuration.ha.recovery_rate if own is None else own)

    def _exempt(self, host: str) -> bool:
        """Trusted proxies and whom the operator names: the limits of single sources are not theirs."""
        own = self._own.configuration.profiles[self._profile]
        lists = (*own.limits_exempt_acl, *own.apply_proxy_acl)
        return bool(lists) and self._access.any(lists, host)

    def _tell_custom(self, subclass: str, headers: list[tuple[str, str]]) -> None:
        if self._own.events.wanted(subclass):
            self._own.events.fire(Event(name="CUSTOM", subclass=subclass, headers=headers))

    # ---- what comes later ------------------------------------------------------------------------------------------

    def recover(self, slots: list[str], epoch: int, done: Callable[[bool, object], None]) -> None:
        """`sofia recover`: claim what the store has of these slots and revive it."""
        counted = [0, 0, 0]
        if epoch:
            self.set_epoch(epoch)
        self._hold()

        told = False

        def tell() -> None:
            nonlocal told
            if not told:
                told = True
                done(True, counted[1])

        def settled() -> None:
            patience.cancel()
            tell()

        patience = self._loop.call_later(RECOVERED_WITHIN, tell)
        self.switchboard.ledger.begin()
        self._claim(slots or [self.slot], epoch or self._owner.epoch, counted, self._release, settled)

    def set_epoch(self, epoch: int) -> None:
        self._owner.epoch = epoch
        self.switchboard.set_epoch(epoch)

    def configure(self, configuration: Configuration, directory: Directory) -> None:
        self.reception.configure(configuration)
        self.registrar.configure(configuration)
        self.endpoint.configure(configuration.profiles)
        self.endpoint.routes.resolver.configure(configuration.sofia.dns_servers)
        self.endpoint.named.lists = configuration.acl
        self._access = Access(configuration.acl)
        self.endpoint.trace.configure(configuration.profiles, configuration.sofia)
        self.verbs.configuration = configuration
        self.switchboard.exchange.configure(configuration, directory)
        self._media.expect(configuration.profiles.values())

    def close(self) -> None:
        for succession in self._claims:
            succession.stop()
        if self._sweeping is not None:
            self._sweeping.cancel()
        self.endpoint.close()
        self._inquiries.close()
        self.switchboard.close()
        self._media.shut()

    def _on_fenced(self, slot: str, epoch: int) -> None:
        # What a crashed predecessor left in the journal may well be of an older epoch; that is no news.
        if slot == self.slot and epoch >= self._owner.epoch:
            self._own.say(Fenced(slot, epoch))

    def _sweep(self) -> None:
        """One worker of a profile removes the registrations past due, for all of them."""
        settings = self._own.configuration.profiles[self._profile]
        if not self.reception.standby.get(self._profile, False):
            self.registrar.sweep(self._profile)
            self._own.writer.ask(lambda store: store.sweep_calls(), lambda _count: None, 10.0)
        self._sweeping = self._loop.call_later(max(1, settings.registration_thread_frequency), self._sweep)

    # ---- messages of slots that nobody here has --------------------------------------------------------------------

    def _adopt(self, message: Message, flow: Flow) -> None:
        """A tag or branch of a slot without a worker: adopt what that slot left, then go on with the message."""
        owner = owner_of(message)
        assert owner is not None, "only what names an owner is brought here"
        slot = slot_of(owner)
        if self._has_slot(owner) or slot in self._orphans or self._is_worth_a_look(slot):
            self._adopt_slot(slot, partial(self.endpoint.take, message, flow))
        else:
            self.endpoint.take(message, flow)

    def _has_slot(self, token: str) -> bool:
        """Is that a place that this node has, by its configuration?"""
        profile, _, number = slot_of(token).rpartition("#")
        settings = self._own.configuration.profiles.get(profile)
        return settings is not None and len(number) <= 4 and int(number) < settings.workers

    def _is_worth_a_look(self, slot: str) -> bool:
        """Calls of a slot that we do not have may be in the store all the same; but anybody can make up names of slots."""
        now = self._loop.time()
        if now < self._next_look or self._looked.get(slot, 0.0) > now:
            return False
        if len(self._looked) >= WAITING:
            self._looked.clear()
        self._next_look, self._looked[slot] = now + LOOK_EVERY, now + LOOK_AGAIN
        return True

    def _elsewhere(self, record: CallRecord, request: Request, flow: Flow, again: Callable[[], None]) -> None:
        """The record is live, and not here: bring the request to its owner, or the record to us."""
        token = token_of(record.slot)
        bus = self.endpoint.bus
        if token != self.endpoint.token and bus.alive(token):
            bus.send(token, Arrived(request.encode(), flow), again)
        else:
            self._adopt_slot(record.slot, again)

    def _adopt_slot(self, slot: str, then: Callable[[], None]) -> None:
        waiting = self._orphans.get(slot)
        if waiting is not None:
            if len(waiting) < WAITING:
                waiting.append(then)
            return
        self._orphans[slot] = [then]
        counted = [0, 0, 0]

        def adopted() -> None:
            if counted[0]:
                log.info("%s: adopted %d calls of %s, which nobody here serves", self.slot, counted[0], slot)
            self._release()  # our own claim may have ended meanwhile, and left that to us
            for each in self._orphans.pop(slot):
                _guarded(each)

        self._claim([slot], self._owner.epoch, counted, adopted)


def _guarded(take: Callable[[], object]) -> None:
    """Take up something that has waited with others: one that breaks takes no other one with it."""
    try:
        take()
    except SipError as error:
        log.info("a message that was kept cannot be read: %s", error)
    except Exception:
        log.exception("a message that was kept broke")
