"""Where users are registered: what this worker wrote, what the others told over the bus, else what the store has.

Complete once the store has been read after a promotion; until then, and after a notice was lost, the store is asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import Protocol, TypeVar

import msgspec

from node.registrar.binding import wire_uri
from node.sip.flow import Flow
from store.errors import StoreError
from store.interface import Store
from store.records import Registration, decode_registration, encode, original, storable

log = logging.getLogger(__name__)

REGISTERED = "registered"
UNREGISTERED = "unregistered"
CONNECTIONS = 30_000
"Connections whose phones are remembered, those that are gone included."
FIND_WITHIN = 0.2
"Seconds that a search waits for the store; then memory has to do."

T = TypeVar("T")
Then = Callable[[list[Registration]], None]
Place = tuple[str, str]
"What tells the bindings of one address of record apart: profile and contact."


class Asker(Protocol):
    """The writer, as far as it answers questions."""

    def ask(
        self, question: Callable[[Store], T], then: Callable[[T | StoreError], None], deadline: float = 2.0
    ) -> None: ...


class Gone(msgspec.Struct, array_like=True):
    """Names a binding that was removed; texts as they rest in the store, for what a phone sends need not be UTF-8."""

    user: str
    host: str
    key: str
    version: int


def is_same_phone(former: Registration, other: Registration) -> bool:
    """Do two bindings of one address of record belong to the same device?"""
    if former.instance or other.instance:
        return former.instance == other.instance and former.reg_id == other.reg_id
    return former.call_id == other.call_id or wire_uri(former.contact) == wire_uri(other.contact)


class Location:
    """All live bindings of the node, by address of record."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.complete = False
        self.tell: Callable[[str, Callable[[], bytes]], None] | None = None
        "Tells the other workers; set once there is a bus."
        self._clock = clock
        self._asker: Asker | None = None
        self._bindings: dict[tuple[str, str], dict[Place, Registration]] = {}
        self._count = 0
        self._reached: dict[str, Registration] = {}
        "By the name of a connection, live or gone: the last binding that was made by it."

    def __len__(self) -> int:
        return self._count

    def attach(self, asker: Asker) -> None:
        """Whom to ask from now on."""
        self._asker = asker

    def load(self, then: Callable[[], None] | None = None, failed: Callable[[], None] | None = None) -> None:
        """Read all registrations in the background."""
        self.complete = False
        if self._asker is None:
            return

        began = self._now()

        def read(answer: list[Registration] | StoreError) -> None:
            if isinstance(answer, StoreError):
                log.warning("the registrations could not be read: %s", answer)
                if failed is not None:
                    failed()
                return
            self._replace(list(self._bindings), answer, began)
            self.complete = True
            if then is not None:
                then()

        self._asker.ask(lambda store: store.registrations(), read, 30.0)

    def find(self, user: str, host: str, profile: str | None, then: Then) -> None:
        """The live bindings of an address of record, those that last longest first; at once if memory knows for sure."""
        if self.complete or self._asker is None:
            then(self.known(user, host, profile))
            return
        began = self._now()

        def read(answer: list[Registration] | StoreError) -> None:
            if not isinstance(answer, StoreError):
                self._replace([(user, host.lower())], answer, began)
            then(self.known(user, host, profile))

        self._asker.ask(lambda store: store.registrations(user=user, host=host), read, FIND_WITHIN)

    def known(self, user: str, host: str, profile: str | None = None) -> list[Registration]:
        """The live bindings that memory has."""
        bindings = self._bindings.get((user, host.lower()))
        if bindings is None:
            return []
        now = self._clock()
        live = [each for each in bindings.values() if each.expires > now]
        if profile is not None:
            live = [each for each in live if each.profile_name == profile]
        if len(live) > 1:
            live.sort(key=_expires, reverse=True)
        return live

    def moved(self, flow: Flow) -> Flow | None:
        """The newest connection of the phone that had registered by this one; None if it has no other."""
        newest = self.newest(flow)
        return Flow.from_record(newest.flow) if newest is not None and newest.flow is not None else None

    def newest(self, flow: Flow) -> Registration | None:
        """The newest binding of the phone that had registered by this connection; None if it has none by one like it.

        A phone is known again by its instance (RFC 5626), else by the Call-ID that it keeps for its REGISTERs, else by
        its Contact: a request within a dialog must not go to another device of the same user.
        """
        former = self._reached.get(flow.connection)
        if former is None:
            return None
        own = [
            each
            for each in self.known(former.sip_user, former.sip_host, flow.profile)
            if each.flow is not None and each.flow.transport == flow.transport and is_same_phone(former, each)
        ]
        return max(own, key=lambda each: each.version, default=None)

    def all(self, profile: str | None = None) -> Iterator[Registration]:
        """Every live binding that memory has."""
        now = self._clock()
        for bindings in list(self._bindings.values()):
            for each in list(bindings.values()):
                if each.expires > now and (profile is None or each.profile_name == profile):
                    yield each

    # ---- what changes ----------------------------------------------------------------------------------------------

    def put(self, record: Registration) -> None:
        """This worker wrote it."""
        self.learn(record)
        if self.tell is not None:
            self.tell(REGISTERED, partial(encode, record))

    def remove(self, record: Registration) -> None:
        """This worker removed it."""
        self._forget(record.sip_user, record.sip_host, _place(record))
        if self.tell is not None:
            names = storable(record.sip_user), storable(record.sip_host), storable(record.key)
            gone = Gone(*names, record.version)
            self.tell(UNREGISTERED, partial(msgspec.msgpack.encode, gone))

    def learn(self, record: Registration) -> None:
        """Remember a binding, unless a newer version of it is known."""
        aor = record.sip_user, record.sip_host.lower()
        bindings = self._bindings.get(aor)
        if bindings is None:
            bindings = self._bindings[aor] = {}
        place = record.profile_name, record.contact
        known = bindings.get(place)
        if known is None:
            self._count += 1
        elif known.version > record.version:
            return
        bindings[place] = record
        flow = record.flow
        if flow is not None and flow.connection:
            if len(self._reached) >= CONNECTIONS:
                del self._reached[next(iter(self._reached))]
            self._reached.pop(flow.connection, None)
            self._reached[flow.connection] = record

    def forget(self, key: str) -> None:
        """Somebody else removed the binding with this key from the store."""
        profile, aor, contact = key.split("|", 2)
        user, _, host = aor.rpartition("@")
        self._forget(user, host, (profile, contact))

    def on_notice(self, topic: str, body: bytes) -> None:
        """What another worker tells."""
        if topic == REGISTERED:
            self.learn(decode_registration(body))
        elif topic == UNREGISTERED:
            gone = msgspec.msgpack.decode(body, type=Gone)
            user, host, key = map(original, (gone.user, gone.host, gone.key))
            profile, _, contact = key.partition(f"|{user}@{host}|")
            place = profile, contact
            known = self._bindings.get((user, host.lower()), {}).get(place)
            if known is not None and known.version <= gone.version:
                self._forget(user, host, place)
        elif topic == "missed":
            self.load()

    def _now(self) -> int:
        """As versions count: microseconds."""
        return int(self._clock() * 1_000_000)

    def _replace(self, aors: list[tuple[str, str]], records: list[Registration], began: int) -> None:
        """The store's word on these addresses of record: what it does not have is gone, unless it is newer than the question."""
        there = {record.key for record in records}
        for aor in aors:
            for place, record in list(self._bindings.get(aor, {}).items()):
                if record.key not in there and record.version < began:
                    self._forget(*aor, place)
        for record in records:
            self.learn(record)

    def _forget(self, user: str, host: str, place: Place) -> None:
        aor = user, host.lower()
        bindings = self._bindings.get(aor)
        if bindings is None or bindings.pop(place, None) is None:
            return
        self._count -= 1
        if not bindings:
            del self._bindings[aor]


def _place(record: Registration) -> Place:
    return record.profile_name, record.contact


_expires = attrgetter("expires")
