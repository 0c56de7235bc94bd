"""What the console and the supervisor may ask of a worker, verb by verb."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from node import debug
from node.calls.switchboard import Switchboard
from node.config import Configuration
from node.profiles.reception import Reception
from node.registrar.location import Location
from node.registrar.notify import check_sync
from node.registrar.registrar import Registrar
from node.transport.endpoint import Endpoint
from store.errors import StoreError
from store.records import Registration
from store.writer import Writer

Then = Callable[[bool, Any], None]
Verb = Callable[[list[str], Then], None]

_TRUE = frozenset({"yes", "on", "true", "t", "enabled", "active", "allow", "1"})


class Verbs:
    """The verbs of one worker that serves a slot."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        endpoint: Endpoint,
        switchboard: Switchboard,
        registrar: Registrar,
        reception: Reception,
        location: Location,
        writer: Writer,
    ) -> None:
        self.configuration = configuration
        self._endpoint = endpoint
        self._switchboard = switchboard
        self._registrar = registrar
        self._reception = reception
        self._location = location
        self._writer = writer
        self._verbs: Mapping[str, Verb] = {
            "channels": lambda words, then: then(True, switchboard.channels()),
            "channel_count": lambda words, then: then(True, switchboard.channel_count()),
            "calls": lambda words, then: then(True, switchboard.calls()),
            "exists": lambda words, then: then(True, switchboard.exists(words[0])),
            "dump": lambda words, then: then(True, switchboard.dump(words[0])),
            "getvar": lambda words, then: then(True, switchboard.getvar(words[0], words[1])),
            "setvar": lambda words, then: then(
                True, switchboard.setvar(words[0], words[1], words[2] if words[2:] else "")
            ),
            "transfer": lambda words, then: then(True, switchboard.transfer(words[0], words[1:])),
            "bridge": lambda words, then: then(True, switchboard.bridge(words[0], words[1])),
            "deflect": lambda words, then: then(True, switchboard.deflect(words[0], words[1])),
            "simplify": lambda words, then: then(True, switchboard.simplify(words[0])),
            "kill": lambda words, then: then(True, switchboard.kill(*words[:2])),
            "hupall": lambda words, then: then(True, switchboard.hupall(*words[:1])),
            "recovery": lambda words, then: then(True, switchboard.recovery()),
            "originate": self._originate,
            "profile": self._profile,
            "media_engines": lambda words, then: then(True, self._switchboard.exchange.media.state()),
            "registrations": self._registrations,
            "forget": self._forget,
            "check_sync": self._check_sync,
            "flush_inbound_reg": self._flush_inbound_reg,
            "flush": self._flush,
            "siptrace": self._siptrace,
            "capture": self._capture,
            "tracelevel": self._tracelevel,
            "debug": self._debug,
            "standby": self._standby,
            "loglevel": self._loglevel,
            "drain": self._drain,
            "stats": lambda words, then: then(True, self.stats()),
        }

    def respond(self, verb: str, words: list[str], then: Then) -> None:
        """Do it; `then` is called once, perhaps later."""
        found = self._verbs.get(verb)
        if found is None:
            then(False, f"unknown verb {verb}")
            return
        try:
            found(words, then)
        except (IndexError, TypeError, ValueError):
            then(False, f"{verb}: a word is missing or wrong")

    def stats(self) -> dict[str, Any]:
        """Counters since this worker began to serve."""
        endpoint, registrar, writer = self._endpoint, self._registrar, self._writer.stats
        return {
            "slot": endpoint.token,
            "received": endpoint.received,
            "sent": endpoint.sent,
            "malformed": endpoint.suspects.total,
            "flooded": endpoint.gate.flooded,
            **endpoint.gate.stats(),
            "waiting": endpoint.gate.waiting,
            "registers_read_percent": round(endpoint.intake.passing * 100),
            "dropped_by_kernel": endpoint.intake.dropped,
            "transactions": endpoint.layer.servers + endpoint.layer.clients,
            "send_failures": endpoint.unsent,
            "handed_on": endpoint.bus.handed_on,
            "handoff_lost": endpoint.bus.lost,
            "connections": len(endpoint.streams),
            "connections_half_open": endpoint.streams.half_open,
            "connections_refused": endpoint.streams.refused,
            "stream_bytes": endpoint.streams.buffered,
            "sessions": self._switchboard.sessions,
            "registrations_known": len(self._location),
            "registered": registrar.registered,
            "unregistered": registrar.removed,
            "register_refused": registrar.refused,
            "store_queued": writer.queued,
            "store_commits": writer.commits,
            "store_items": writer.items,
            "store_at_risk": writer.at_risk,
            "store_refused": writer.refused,
            "store_stale": writer.stale,
            "store_lost": writer.lost,
            "store_late": writer.late,
            "store_journaled": writer.journaled,
            "store_replayed": writer.replayed,
            "store_behind": self._writer.behind,
            "store_hung": writer.hung,
            "store_open": writer.open,
            "store_last_commit_seconds": writer.last_commit_seconds,
        }

    # ---- calls and profiles ----------------------------------------------------------------------------------------

    def _originate(self, words: list[str], then: Then) -> None:
        self._switchboard.originate(" ".join(words), partial(then, True))

    def _profile(self, words: list[str], then: Then) -> None:
        profile = self._reception.profiles.get(words[0])
        if profile is None:
            then(False, f"no profile {words[0]}")
            return
        own = words[0] == self._endpoint.profile
        calls = self._switchboard.counters
        counted = {
            name: calls.get(f"{words[0]}.{name}", 0)
            for name in ("calls_in", "calls_out", "failed_calls_in", "failed_calls_out")
        }
        then(
            True,
            {
                **counted,
                "in_use": self._switchboard.sessions if own else 0,
                "registers": profile.registers,
                "challenged": profile.challenged,
                "denied": profile.denied,
                "requests": profile.requests,
            },
        )

    def _drain(self, _words: list[str], then: Then) -> None:
        self._switchboard.drain()
        then(True, 0)

    # ---- registrations ---------------------------------------------------------------------------------------------

    def _registrations(self, words: list[str], then: Then) -> None:
        profile = words[0] if words else None

        def read(answer: list[Registration] | StoreError) -> None:
            records = list(self._location.all(profile)) if isinstance(answer, StoreError) else answer
            then(True, [msgspec.to_builtins(record) for record in records])

        self._writer.ask(lambda store: store.registrations(profile=profile), read)

    def _forget(self, words: list[str], then: Then) -> None:
        for key in words:
            self._location.forget(key)
        then(True, len(words))

    def _check_sync(self, words: list[str], then: Then) -> None:
        chosen = [record for record in self._location.all() if record.key in set(words)]
        for record in chosen:
            settings = self.configuration.profiles.get(record.profile_name)
            if settings is not None:
                check_sync(self._endpoint, record, settings)
        then(True, len(chosen))

    def _flush_inbound_reg(self, words: list[str], then: Then) -> None:
        def flushed(records: list[Registration]) -> None:
            then(True, len(records))

        self._registrar.flush(words[0], words[1] if words[1:] else "", flushed)

    # ---- the rest --------------------------------------------------------------------------------------------------

    def _flush(self, words: list[str], then: Then) -> None:
        profile = words[0] if words else None

        def flushed(answer: int | StoreError) -> None:
            then(not isinstance(answer, StoreError), str(answer) if isinstance(answer, StoreError) else answer)

        self._writer.ask(lambda store: store.flush_calls(profile), flushed)

    def _siptrace(self, words: list[str], then: Then) -> None:
        for name in words[1:] or list(self.configuration.profiles):
            self._endpoint.trace.siptrace(name, on=_is_true(words[0]))
        then(True, 0)

    def _capture(self, words: list[str], then: Then) -> None:
        for name in words[1:] or list(self.configuration.profiles):
            self._endpoint.trace.capture(name, on=_is_true(words[0]))
        then(True, 0)

    def _standby(self, words: list[str], then: Then) -> None:
        for name in words[1:] or list(self.configuration.profiles):
            self._reception.standby[name] = _is_true(words[0])
        then(True, 0)

    def _loglevel(self, words: list[str], then: Then) -> None:
        debug.set_level(words[0], int(words[1]))
        then(True, 0)

    def _tracelevel(self, words: list[str], then: Then) -> None:
        debug.set_tracelevel(words[0])
        then(True, 0)

    def _debug(self, words: list[str], then: Then) -> None:
        """`sofia global debug`: presence and sla, `on` or `off` each."""
        debug.presence.level, debug.sla.level = (9 if _is_true(word) else 0 for word in words[:2])
        then(True, 0)


def _is_true(word: str) -> bool:
    return word.lower() in _TRUE
