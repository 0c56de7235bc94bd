"""The store in Redis: the contract's questions as scripts, one round trip a commit."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from store.errors import Fenced, LeaseLost, SchemaTooNew, StoreError, Unavailable
from store.interface import Changes, Description, Heritage, Outcome, Write
from store.records import CallRecord, Lease, Registration, original, storable
from store.redis import reign, rows, scripts
from store.redis.connection import RedisConnection, Script
from store.redis.dsn import RedisSettings
from store.redis.recent import Recent

log = logging.getLogger(__name__)

LETTERS = {"S": Outcome.STORED, "a": Outcome.STALE, "F": Outcome.FENCED}

OPEN, COMMIT, TOUCH = Script(scripts.OPEN), Script(scripts.COMMIT), Script(scripts.TOUCH)
EXPIRE, CALL_BY_ID = Script(scripts.EXPIRE), Script(scripts.CALL_BY_ID)
SWEEP, FLUSH = Script(scripts.SWEEP), Script(scripts.FLUSH)
SLOTS, CLAIM, RAISE_FENCE = Script(reign.SLOTS), Script(reign.CLAIM), Script(reign.RAISE_FENCE)
ACQUIRE, RENEW = Script(reign.ACQUIRE), Script(reign.RENEW)
RELEASE, READ_LEASE, SECRET = Script(reign.RELEASE), Script(reign.READ_LEASE), Script(reign.SECRET)

HERITAGE, INHERIT, CHANGES = Script(reign.HERITAGE), Script(reign.INHERIT), Script(scripts.CHANGES)

LOT = 500
"Records read or dropped in one go: Redis does nothing else meanwhile."
OFFER = 256
OFFER_WITHIN = 0.5
"Seconds that offering writes again may hold up the opening of a connection; the rest follows with later commits."
ENTRIES = 50
"Commits that one look at the change feed reads at most."
IMPATIENT = 0.005
"Seconds to wait for the replicas when they were not in time last time."


class RedisStore:
    def __init__(self, settings: RedisSettings, recent: Recent, said: set[int] | None = None) -> None:
        """`said`: newer versions that were spoken of already; who connects again after each failure shares one."""
        self.settings = settings
        self.place = settings.place
        self._recent = recent
        self._said = set() if said is None else said
        self._connection = RedisConnection(settings)
        self._connection.on_connected = self._on_connected
        self._opened = False
        self._abandoned = False
        self._wait = settings.wait_timeout

    # ---- its life ----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        self._abandoned = False
        self._opened = True
        try:
            self._connection.open()
        except StoreError:
            self._opened = False
            raise

    def close(self) -> None:
        self._opened = False
        self._connection.close()

    def abandon(self) -> None:
        self._abandoned = True
        self._connection.interrupt()

    def clock(self) -> float:
        self._connection.check_primary()
        self._offer(OFFER_WITHIN)
        at = self._call("TIME")
        if not isinstance(at, list) or len(at) != 2:
            raise Unavailable(f"{self.place}: it does not tell the time")
        return int(at[0]) + int(at[1]) / 1_000_000

    # ---- records -----------------------------------------------------------------------------------------------------

    def commit(self, writes: Sequence[Write]) -> list[Outcome]:
        if not writes:
            return []
        outcomes = self._commit(writes)
        stored = [write for write, outcome in zip(writes, outcomes, strict=True) if outcome is not Outcome.FENCED]
        full = self._recent.note(stored, time.monotonic())
        try:
            self._offer(0)
            if full:
                self._turn()
        except StoreError as error:
            # What was asked for is committed; the next call finds out by itself how the server is.
            log.info("%s", error)
        return outcomes

    def registrations(
        self, *, profile: str | None = None, user: str | None = None, host: str | None = None
    ) -> list[Registration]:
        profile, user, host = (each if each is None else storable(each) for each in (profile, user, host))
        now = self._time()
        if user is not None and host is not None:
            keys = self._list(self._call("SMEMBERS", self._key("aor:", f"{user}@{host}")))
        else:
            keys = self._all_keys(profile, user)
        return [
            record
            for record in self._registrations(keys)
            if not 0 < record.expires <= now
            and (profile is None or storable(record.profile_name) == profile)
            and (user is None or storable(record.sip_user) == user)
            and (host is None or storable(record.sip_host) == host)
        ]

    def expire_registrations(self, profile: str) -> list[Registration]:
        gone: list[Registration] = []
        while True:
            pairs = self._list(self._run(EXPIRE, storable(profile), LOT, self.settings.feed))
            found = (rows.registration(value, self.place) for value in pairs[1::2] if value)
            gone += [record for record in found if record is not None]
            if len(pairs) < 2 * LOT:
                return gone

    def calls(self, *, slots: Sequence[str] | None = None) -> list[CallRecord]:
        if slots is None:
            slots = list(self.call_slots())
        return [
            call
            for slot in dict.fromkeys(slots)
            for value in self._values("c:", self._uuids(f"slot:{slot}"))
            if (call := rows.call(value, self.place)) is not None and call.state != "ended" and call.slot == slot
        ]

    def call_by_call_id(self, call_id: str) -> CallRecord | None:
        value = self._run(CALL_BY_ID, storable(call_id))
        return rows.call(value, self.place) if isinstance(value, bytes) else None

    def sweep_calls(self) -> int:
        total = 0
        while True:
            due, dropped = map(int, self._list(self._run(SWEEP, LOT), 2))
            total += dropped
            if due < LOT:
                return total

    def call_slots(self) -> dict[str, int]:
        answer = self._list(self._run(SLOTS))
        return {slot.decode(): count for slot, count in zip(answer[::2], answer[1::2], strict=True)}

    def claim(self, slots: Sequence[str], *, node: str, slot: str, epoch: int, limit: int = LOT) -> list[CallRecord]:
        if not slots:
            return []
        while True:
            values = self._safely(CLAIM, node, slot, epoch, limit, *slots)
            if values is None:
                raise Fenced(slot, epoch)
            values = self._list(values)
            calls = [call for value in values if (call := rows.call(value, self.place)) is not None]
            if calls or not values:
                # Those that cannot be read are claimed too, so that there is an end; nobody can revive them.
                return calls

    def flush_calls(self, profile: str | None) -> int:
        uuids = [uuid for slot in self.call_slots() for uuid in self._uuids(f"slot:{slot}")]
        uuids += self._uuids("tombs")
        one = "" if profile is None else "1"
        return sum(
            int(self._run(FLUSH, one, storable(profile or ""), *uuids[start : start + LOT]))
            for start in range(0, len(uuids), LOT)
        )

    # ---- fences, lease, secrets --------------------------------------------------------------------------------------

    def raise_fence(self, slot: str, lease: Lease | None = None) -> int:
        holder, epoch = ("", 0) if lease is None else (lease.holder, lease.epoch)
        answer = self._safely(RAISE_FENCE, slot, holder, epoch)
        if answer is None:
            raise LeaseLost(f"{holder} no longer holds the lease of epoch {epoch}")
        return int(answer)

    def acquire_lease(self, holder: str, ttl: float) -> Lease | None:
        answer = self._safely(ACQUIRE, holder, repr(float(ttl)))
        return None if answer is None else self._lease(answer)

    def renew_lease(self, lease: Lease, ttl: float) -> Lease:
        # Without waiting for the replicas: one that misses it believes the lease to end earlier, and that harms nobody.
        answer = self._run(RENEW, lease.holder, lease.epoch, repr(float(ttl)))
        if answer is None:
            raise LeaseLost(f"{lease.holder} no longer holds the lease of epoch {lease.epoch}")
        return self._lease(answer)

    def release_lease(self, lease: Lease) -> None:
        self._run(RELEASE, lease.holder, lease.epoch)

    def read_lease(self) -> Lease | None:
        answer = self._run(READ_LEASE)
        return None if answer is None else self._lease(answer)

    def secret(self, name: str) -> bytes:
        answer = self._safely(SECRET, name, os.urandom(32))
        if not isinstance(answer, bytes) or len(answer) != 32:
            raise Unavailable(f"{self.place}: the secret {name} is damaged")
        return answer

    def changes(self, since: str) -> Changes | None:
        answer = self._run(CHANGES, since, ENTRIES)
        if answer is None:
            return None
        answer = self._list(answer)
        here, newest = answer[0].decode(), answer[1].decode()
        registrations, gone = [], []
        for key, value in zip(answer[2::2], answer[3::2], strict=True):
            record = rows.registration(value, self.place) if value else None
            if record is not None:
                registrations.append(record)
            else:
                gone.append(original(key.decode()))
        return Changes(here, registrations, gone, lag=_seconds(newest) - _seconds(here), more=here != newest)

    # ---- for operators -----------------------------------------------------------------------------------------------

    def describe(self) -> Description:
        connection = RedisConnection(self.settings)
        try:
            connection.open()
            identity = connection.identity()
            version = connection.call("GET", self._key("schema"))
            compatible_from = connection.call("GET", self._key("compatible-from"))
        finally:
            connection.close()
        version = int(version) if version is not None else 0
        details = identity.details
        assert connection.server is not None, "it has answered"
        name, version_of = (
            ("Valkey", details["valkey_version"]) if "valkey_version" in details else ("Redis", identity.version)
        )
        server = f"{name} {version_of} on {connection.server[0]} port {connection.server[1]}"
        replicas = details.get("connected_slaves", "0")
        return Description(
            server=f"{server}, {replicas} replica{'' if replicas == '1' else 's'}",
            version=version,
            wanted=scripts.SCHEMA,
            steps=() if version else (f"SET {self._key('schema')} {scripts.SCHEMA}",),
            usable=version <= scripts.SCHEMA or _good_for_us(version, _number(compatible_from)),
            remarks=tuple(_remarks(details, self.settings)),
        )

    def heritage(self) -> Heritage:
        start = self._key("secret:").encode()
        names: list[bytes] = []
        cursor = b"0"
        while True:
            cursor, found = self._list(self._call("SCAN", cursor, "MATCH", start + b"*", "COUNT", 1000), 2)
            names += (name[len(start) :] for name in found)
            if cursor == b"0":
                break
        names = sorted(set(names))
        epoch, *secrets = self._list(self._run(HERITAGE, *names))
        return Heritage(int(epoch), {name.decode(): secret for name, secret in zip(names, secrets, strict=True)})

    def inherit(self, heritage: Heritage) -> None:
        self._safely(INHERIT, heritage.epoch, *(part for pair in heritage.secrets.items() for part in pair))

    # ---- writing -----------------------------------------------------------------------------------------------------

    def _commit(self, writes: Sequence[Write]) -> list[Outcome]:
        """One round trip: the script, and behind it the wait for the replicas where calls are among the writes."""
        wanted = self.settings.wait if any(isinstance(write.record, CallRecord) for write in writes) else 0
        then = ("WAIT", wanted, max(1, round(self._wait * 1000))) if wanted else ()
        self._check_open()
        answers = self._connection.run(
            COMMIT, self.settings.prefix, self.settings.feed, *rows.packed(writes), then=then
        )
        letters = answers[0].decode("ascii", "replace") if isinstance(answers[0], bytes) else ""
        if len(letters) != len(writes) or not LETTERS.keys() >= set(letters):
            raise Unavailable(f"{self.place}: it does not say what became of {len(writes)} writes")
        outcomes = [LETTERS[letter] for letter in letters]
        if wanted and not self._replicated(answers[1], wanted, wrote="S" in letters):
            outcomes = [_unless_replicated(write, outcome) for write, outcome in zip(writes, outcomes, strict=True)]
        return outcomes

    def _replicated(self, answer: Any, wanted: int, *, wrote: bool) -> bool:
        """Do so many replicas have it? Those that lag are waited for a little only, until they are in time again."""
        if not wrote:
            # Nothing was written by this connection that a WAIT would wait for: the same came before by another one.
            answer = self._connection.run(
                TOUCH, self.settings.prefix, then=("WAIT", wanted, max(1, round(self._wait * 1000)))
            )[1]
        enough = isinstance(answer, int) and answer >= wanted
        if not enough and self._wait != IMPATIENT:
            log.warning("%s: %s of %d replicas have the last calls, which are at risk", self.place, answer, wanted)
        self._wait = self.settings.wait_timeout if enough else min(IMPATIENT, self.settings.wait_timeout)
        return enough

    def _safely(self, script: Script, *arguments: Any) -> Any:
        """Run what must not be forgotten: it counts only when the replicas have it too."""
        wanted = self.settings.wait
        if not wanted:
            return self._run(script, *arguments)
        self._check_open()
        wait = ("WAIT", wanted, max(1, round(self.settings.wait_timeout * 1000)))
        answer, replicas = self._connection.run(script, self.settings.prefix, *arguments, then=wait)
        if answer is not None and (not isinstance(replicas, int) or replicas < wanted):
            raise Unavailable(f"{self.place}: only {replicas} of {wanted} replicas have it")
        return answer

    def _turn(self) -> None:
        now = time.monotonic()
        identity = self._connection.identity()
        self._recent.turn(identity.offset, identity.safe, now)

    def _on_connected(self) -> None:
        """Is it ours to read, and does it have what we gave to the one before it?"""
        (answer,) = self._connection.run(OPEN, self.settings.prefix, scripts.SCHEMA, scripts.COMPATIBLE_FROM)
        version, compatible_from = self._list(answer, 2)
        if version != scripts.SCHEMA:
            self._go_on_with(version, compatible_from)
        run = self._connection.identity().run
        before, self._recent.run = self._recent.run, run
        if before not in ("", run):
            count = self._recent.owe()
            log.warning("%s: another server; it is offered the last %d writes again", self.place, count)
        self._offer(OFFER_WITHIN)

    def _go_on_with(self, version: Any, compatible_from: Any) -> None:
        """What a newer release has made of it: says once that it is good for us too, or raises `SchemaTooNew`."""
        known = f"what lies there has version {version}, this release knows {scripts.SCHEMA}"
        if not _good_for_us(version, compatible_from):
            raise SchemaTooNew(f"{self.place}: {known}")
        if version not in self._said:
            self._said.add(version)
            log.warning(
                "%s: %s and goes on, for it takes releases from version %d on", self.place, known, compatible_from
            )

    def _offer(self, within: float) -> None:
        """Another server, or the same one started again, may lack the last of what was committed.

        Not all at once, where that is much: its versions keep what is offered late from replacing what is newer.
        """
        until, lacked = time.monotonic() + within, 0
        while writes := self._recent.owed(OFFER):
            outcomes = self._commit(writes)
            self._recent.paid(writes)
            lacked += sum(outcome in (Outcome.STORED, Outcome.AT_RISK) for outcome in outcomes)
            if time.monotonic() > until:
                break
        if lacked:
            log.warning("%s: it lacked %d of the last writes", self.place, lacked)

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _registrations(self, keys: Sequence[bytes]) -> Iterator[Registration]:
        for value in self._values("r:", keys):
            record = rows.registration(value, self.place)
            if record is not None:
                yield record

    def _all_keys(self, profile: str | None, user: str | None) -> list[bytes]:
        """Of registrations, past due or not; in many small looks, between which Redis serves others."""
        if profile is not None:
            profiles = [profile.encode()]
        else:
            profiles = self._list(self._call("SMEMBERS", self._key("profiles")))
        found: dict[bytes, None] = {}
        for each in profiles:
            wanted = ("MATCH", _literally(each + f"|{user}@".encode()) + b"*") if user is not None else ()
            place = self._key("due:").encode() + each
            cursor = b"0"
            while True:
                cursor, members = self._list(self._call("ZSCAN", place, cursor, *wanted, "COUNT", LOT), 2)
                # It may name one twice.
                found.update(dict.fromkeys(self._list(members)[::2]))
                if cursor == b"0":
                    break
        return list(found)

    def _values(self, kind: str, names: Sequence[bytes]) -> Iterator[bytes]:
        """What lies under these names, so far as anything does."""
        start = f"{self.settings.prefix}{kind}".encode()
        for at in range(0, len(names), LOT):
            answer = self._list(self._call("MGET", *(start + name for name in names[at : at + LOT])))
            yield from (value for value in answer if value is not None)

    def _uuids(self, index: str) -> list[Any]:
        return self._list(self._call("ZRANGE", self._key(index), 0, -1))

    def _time(self) -> float:
        at = self._list(self._call("TIME"), 2)
        return int(at[0]) + int(at[1]) / 1_000_000

    def _lease(self, answer: Any) -> Lease:
        holder, epoch, until, now = self._list(answer, 4)
        return Lease(holder=holder.decode(), epoch=int(epoch), until=float(until), now=float(now))

    def _key(self, kind: str, name: str = "") -> str:
        return f"{self.settings.prefix}{kind}{name}"

    def _run(self, script: Script, *arguments: Any) -> Any:
        self._check_open()
        return self._connection.run(script, self.settings.prefix, *arguments)[0]

    def _call(self, *command: Any) -> Any:
        self._check_open()
        return self._connection.call(*command)

    def _check_open(self) -> None:
        if self._abandoned:
            raise Unavailable(f"{self.place}: given up, for it took too long")
        if not self._opened:
            raise Unavailable(f"{self.place}: not open")

    def _list(self, answer: Any, length: int | None = None) -> list[Any]:
        if not isinstance(answer, list) or (length is not None and len(answer) != length):
            raise Unavailable(f"{self.place}: it answers something else than was asked for")
        return answer


def _literally(text: bytes) -> bytes:
    """As a pattern that nothing else matches."""
    return re.sub(rb"([\\*?\[\]^-])", rb"\\\1", text)


def _seconds(entry: str) -> float:
    """When an entry of the feed was made, by the server's clock."""
    return int(entry.partition("-")[0]) / 1000


def _remarks(details: dict[str, str], settings: RedisSettings) -> Iterator[str]:
    if details.get("aof_enabled") == "0":
        yield "appendonly is off: what it acknowledged is lost when it dies; set appendonly yes, appendfsync always"
    if details.get("maxmemory", "0") != "0" and details.get("maxmemory_policy", "noeviction") != "noeviction":
        yield f"maxmemory-policy is {details['maxmemory_policy']}: it may drop records; set noeviction"
    if settings.wait > _whole(details.get("connected_slaves", "")):
        yield f"wait={settings.wait}, and there are fewer replicas: every call is at risk, and nobody can take the lease"
    if details.get("cluster_enabled") == "1":
        yield "it is part of a cluster, where scripts cannot reach all of our keys: use a single server or Sentinel"


def _good_for_us(version: Any, compatible_from: Any) -> bool:
    return isinstance(version, int) and isinstance(compatible_from, int) and compatible_from <= scripts.SCHEMA


def _number(answer: Any) -> int | None:
    return int(answer) if isinstance(answer, bytes) and answer.isdigit() else None


def _whole(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _unless_replicated(write: Write, outcome: Outcome) -> Outcome:
    return Outcome.AT_RISK if isinstance(write.record, CallRecord) and outcome is not Outcome.FENCED else outcome
