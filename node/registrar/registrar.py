"""The registrar (RFC 3261 10.3) with mod_sofia's rules: stored before it is answered."""

from __future__ import annotations

import copy
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from sys import intern

from node.config import Configuration
from node.debug import nua
from node.events import EventStream
from node.registrar import announcement
from node.registrar.admission import Admission
from node.registrar.binding import wire_uri
from node.registrar.location import Location
from node.registrar.rules import Rulebook
from node.registrar.visit import Change, Granted, Visit, carry_over, extensions, former, judge_order, matching
from node.registrar.wish import Wanted, wish_of
from node.sip import compose
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.layer import ServerTransaction
from node.sip.mask import shown
from node.sip.message import Request
from node.transport.capabilities import standing_lines
from node.transport.endpoint import Endpoint
from store.errors import StoreError
from store.interface import Outcome
from store.records import FlowRecord, Registration
from store.writer import Writer

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Owner:
    """In whose name records are written: it goes into each of them."""

    node: str
    slot: str
    epoch: int
    hostname: str
    "The switchname."


class Registrar:
    """All REGISTERs of one worker, once the screen let them in."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        endpoint: Endpoint,
        writer: Writer,
        location: Location,
        events: EventStream,
        owner: Owner,
        clock: Callable[[], float],
    ) -> None:
        self.registered = 0
        self.removed = 0
        self.refused = 0
        self._endpoint = endpoint
        self._writer = writer
        self._location = location
        self._events = events
        self._owner = owner
        self._clock = clock
        self._date = (0, "")
        self._connections: dict[str, dict[str, Registration]] = {}
        self.configure(configuration)

    def configure(self, configuration: Configuration) -> None:
        """Go by another configuration."""
        self._settings = configuration.profiles
        self._standing = {name: standing_lines(each) for name, each in configuration.profiles.items()}
        self._rules = Rulebook()

    def on_register(self, request: Request, transaction: ServerTransaction, flow: Flow, admission: Admission) -> None:
        """Take one REGISTER. Raises the SipError to refuse it with."""
        settings = self._settings[flow.profile]
        wish = wish_of(request, flow, settings, admission, self._rules.of(admission.user))
        visit = Visit(request, transaction, flow, settings=settings, admission=admission, wish=wish)
        if not wish.user or not wish.host:
            self._refuse(visit, 401)
        else:
            self._location.find(wish.user, wish.host, None, partial(self._proceed, visit))

    # ---- one REGISTER ----------------------------------------------------------------------------------------------

    def _proceed(self, visit: Visit, bindings: list[Registration]) -> None:
        """Decide and write; the answer goes out when it is written."""
        if self._too_many(visit, bindings):
            wish = visit.wish
            announcement.register_failure(self._events, visit.request, visit.flow, (wish.user, wish.host))
            self._refuse(visit, 403)
            return
        try:
            change = self._change(visit, bindings)
        except SipError as error:
            self._refuse(visit, error.status, error.reason or None, error.headers)
            return
        self._write(change, partial(self._done, visit, change))

    def _done(self, visit: Visit, change: Change, outcome: Outcome) -> None:
        """It is stored, or nobody can say yet: answer. Fenced: somebody else is the registrar now, and will answer.

        Not on a connection of ours, where nothing is asked again: if it stays, for this worker has got another epoch, who
        asked would wait for half a minute.
        """
        if outcome is Outcome.FENCED:
            if visit.flow.reliable:
                self._refuse(visit, 503, headers=[("Retry-After", "1")])
            return
        puts, removes = change
        self.registered += len(puts)
        self.removed += len(removes)
        events, request, admission = self._events, visit.request, visit.admission
        if puts and events.wanted("sofia::register"):
            for record, granted, updated in puts:
                announcement.register(events, request, record, admission, granted=granted, updated=updated)
        lines = f"{self._bindings(visit, puts)}{extensions(visit)}Date: {self._http_date()}\r\n"
        self._respond(visit, 200, None, lines)
        if not puts:
            for record in removes:
                announcement.unregister(events, request, record, admission)

    def _change(self, visit: Visit, bindings: list[Registration]) -> Change:
        """What becomes of the bindings there are. Raises `OutOfOrder`."""
        puts: list[Granted] = []
        if visit.wish.wildcard:
            judge_order(visit, bindings)
            return Change(puts, [self._next(each) for each in bindings])
        removes: dict[str, Registration] = {}
        for wanted in visit.wish.contacts:
            concerned = matching(visit, wanted, bindings)
            judge_order(visit, concerned)
            replaced = None
            if wanted.expires:
                record = self._record(visit, wanted)
                replaced = former(record, bindings)
                if replaced is not None:
                    carry_over(record, replaced)
                puts.append((record, wanted.expires, bool(concerned)))
            for each in concerned:
                if each is not replaced:
                    removes[each.key] = each
        if removes:
            for record, _granted, _updated in puts:
                removes.pop(record.key, None)
        return Change(puts, [self._next(each) for each in removes.values()])

    def _write(self, change: Change, then: Callable[[Outcome], None]) -> None:
        """In the order of the list; who waits, waits for the last, which is committed with or after the others."""
        puts, removes = change
        writes = len(removes) + len(puts)
        if not writes:
            then(Outcome.STORED)
            return
        for record in removes:
            writes -= 1
            self._location.remove(record)
            self._writer.remove(record, then if not writes else None)
        for record, _granted, _updated in puts:
            writes -= 1
            self._location.put(record)
            flow = record.flow
            if flow is not None and flow.connection:
                self._note_connection(record, flow)
            self._writer.put(record, then if not writes else None)

    def _record(self, visit: Visit, wanted: Wanted) -> Registration:
        now = self._clock()
        owner, settings, admission, flow, wish = self._owner, visit.settings, visit.admission, visit.flow, visit.wish
        rules, request = wish.rules, visit.request
        host, port = flow.remote
        seconds = int(now)
        return Registration(
            node=owner.node,
            slot=owner.slot,
            epoch=owner.epoch,
            version=int(now * 1_000_000),
            call_id=visit.call_id,
            sip_user=wish.user,
            sip_host=wish.host,
            contact=wanted.stored,
            profile_name=settings.name,
            presence_hosts=settings.presence_hosts,
            status=wanted.status,
            force_ping=rules.force_ping,
            expires=seconds + wanted.expires + settings.sip_expires_late_margin,
            ping_expires=seconds + int(random.random() * settings.ping_mean_interval),
            user_agent=intern(request.user_agent) or "unknown",
            server_user=request.from_.uri.user,
            server_host=settings.sip_ip,
            hostname=owner.hostname,
            network_ip=host,
            network_port=str(port),
            sip_username=admission.username,
            sip_realm=admission.realm or wish.host,
            mwi_user=rules.mailbox or wish.user,
            mwi_host=rules.mail_host or wish.host,
            orig_server_host=settings.sip_ip,
            orig_hostname=owner.hostname,
            sub_host=wish.sub_host,
            flow=flow.to_record(),
            instance=wanted.instance,
            reg_id=wanted.reg_id,
            cseq=visit.cseq,
            metadata=rules.metadata,
            nonce=admission.nonce,
            nonce_count=admission.nonce_count,
        )

    def _next(self, record: Registration) -> Registration:
        """The same record with a version that the store will not take for old, in our name."""
        removed = copy.copy(record)
        removed.version = max(record.version + 1, int(self._clock() * 1_000_000))
        removed.node, removed.slot, removed.epoch = self._owner.node, self._owner.slot, self._owner.epoch
        return removed

    def _too_many(self, visit: Visit, bindings: list[Registration]) -> bool:
        limit = visit.wish.rules.limit or visit.settings.max_registrations_per_extension
        if not limit or not visit.admission.digest or not any(each.expires for each in visit.wish.contacts):
            return False
        return sum(each.call_id != visit.call_id for each in bindings) >= limit

    # ---- answers ---------------------------------------------------------------------------------------------------

    def _bindings(self, visit: Visit, puts: list[Granted]) -> str:
        """A Contact for each current binding of the address of record (RFC 3261 10.3 step 8)."""
        settings, wish = visit.settings, visit.wish
        lines, now = "", self._clock() + settings.sip_expires_late_margin
        for each in self._location.known(wish.user, wish.host):
            left = int(each.expires - now)
            for record, granted, _updated in puts:
                if record is each or (record.contact, record.profile_name) == (each.contact, each.profile_name):
                    left = granted
            if left > 0:
                mark = f';+sip.instance="{each.instance}";reg-id={each.reg_id}' if each.reg_id else ""
                lines += f"Contact: <{wire_uri(each.contact)}>;expires={left}{mark}\r\n"
        if settings.ndlb_expires_in_register_response and puts:
            lines += f"Expires: {max(granted for _record, granted, _updated in puts)}\r\n"
        return lines

    def _refuse(
        self, visit: Visit, status: int, reason: str | None = None, headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        """Refuse it."""
        self.refused += 1
        self._respond(visit, status, reason, "".join([f"{name}: {value}\r\n" for name, value in headers]))

    def _respond(self, visit: Visit, status: int, reason: str | None, lines: str) -> None:
        """`lines`: header fields ready to be sent."""
        request, flow = visit.request, visit.flow
        if nua.level >= 5:
            nua.say("%s of %s from %s: %d %s", request.method, shown(str(request.to.uri)), flow, status, reason or "")
        answer = compose.response(request, status, reason, lines=lines + self._standing[flow.profile])
        self._endpoint.respond(visit.transaction, answer)

    def _http_date(self) -> str:
        now = int(time.time())
        if self._date[0] != now:
            self._date = now, time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
        return self._date[1]

    # ---- what else removes bindings --------------------------------------------------------------------------------

    def sweep(self, profile: str) -> None:
        """Remove what is past due by the store's clock. One worker of the profile does it, for all."""
        self._writer.ask(lambda store: store.expire_registrations(profile), self._expired, 10.0)

    def flush(self, profile: str, target: str, then: Callable[[list[Registration]], None]) -> None:
        """Remove the bindings of a Call-ID, `user@domain`, or domain; all of the profile for an empty target."""

        def found(answer: list[Registration] | StoreError) -> None:
            records = list(self._location.all(profile)) if isinstance(answer, StoreError) else answer
            chosen = [each for each in records if matches(each, target)]
            for each in chosen:
                gone = self._next(each)
                self._location.remove(gone)
                self._writer.remove(gone)
                announcement.expire(self._events, each)
            then(chosen)

        self._writer.ask(lambda store: store.registrations(profile=profile), found)

    def on_connection_closed(self, flow: Flow) -> None:
        """The connection that carried REGISTERs is gone (`tcp-unreg-on-socket-close`)."""
        for record in self._connections.pop(flow.connection, {}).values():
            current = self._location.known(record.sip_user, record.sip_host, record.profile_name)
            if any(each.key == record.key and each.version == record.version for each in current):
                gone = self._next(record)
                self._location.remove(gone)
                self._writer.remove(gone)
                announcement.disconnected(self._events, record)

    def _expired(self, answer: list[Registration] | StoreError) -> None:
        if nua.level >= 9:
            nua.say("past due: %s", answer if isinstance(answer, StoreError) else len(answer))
        if isinstance(answer, StoreError):
            log.warning("registrations past due could not be removed: %s", answer)
            return
        for record in answer:
            self._location.remove(record)
            announcement.expire(self._events, record)

    def _note_connection(self, record: Registration, flow: FlowRecord) -> None:
        # Silence is no reason to cut the connection that it is called by.
        self._endpoint.streams.keep(flow.connection, self._endpoint.now() + record.expires - self._clock())
        # A flow is its connection (RFC 5626 6); a phone that still lives makes it anew.
        if record.reg_id or flow.transport in ("WS", "WSS") or self._settings[flow.profile].tcp_unreg_on_socket_close:
            self._connections.setdefault(flow.connection, {})[record.key] = record


def matches(record: Registration, target: str) -> bool:
    """Is it meant by a Call-ID, `[user]@domain` or domain, as `flush_inbound_reg` and `check_sync` take them?"""
    if not target or record.call_id == target:
        return True
    user, at, host = target.rpartition("@")
    if at:
        return record.sip_host == host and (not user or record.sip_user == user)
    return record.sip_host == target
