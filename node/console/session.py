"""One client of the event socket: what it may do, what it listens to, what it asked for. Sans I/O.

`receive` takes bytes and gives back acts for the server to carry out, in order. While an `api` runs, the commands behind
it wait, because replies come in the order of the commands; `answered` brings its result and goes on.
"""

from __future__ import annotations

import hmac
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from node.console import protocol
from node.console.filters import LIMIT, BadFilter, Filter, passes
from node.console.format import SERIALISERS
from node.console.names import CHANNEL_EVENTS, EVENTS, level_number
from node.console.protocol import Command, CommandReader, command_reply
from node.console.subscription import Subscription, Written
from node.events import Event

WAITING = 1000
"Commands that may wait behind a running one."

# ---- what the server is to do --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Run an api command; bring its text to `answered`."""

    line: str


@dataclass(frozen=True, slots=True)
class Background:
    """Run an api command aside; its text becomes a BACKGROUND_JOB event."""

    job: str
    line: str


@dataclass(frozen=True, slots=True)
class Fire:
    event: Event


@dataclass(frozen=True, slots=True)
class Listening:
    """What this client listens to has changed (events or log)."""


@dataclass(frozen=True, slots=True)
class Close:
    """Close when everything sent is out."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """A wrong password: say so after a pause, so that guessing is slow, then close."""

    data: bytes


Act = Send | Run | Background | Fire | Listening | Close | Refuse


# ---- who may log in ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Grant:
    """What a directory user may do here (`esl-password`, `esl-allowed-api`, ...); None allows everything."""

    password: str
    api: frozenset[str] | None = None
    events: frozenset[str] | None = None
    log: bool = True

    def headers(self) -> list[tuple[str, str]]:
        return [
            ("Allowed-Events", _listed(self.events)),
            ("Allowed-API", _listed(self.api)),
            ("Allowed-LOG", "true" if self.log else "false"),
        ]


def _listed(names: frozenset[str] | None) -> str:
    return "all" if names is None else " ".join(sorted(names))


Lookup = Callable[[str, str], "Grant | None"]

# ---- the client ----------------------------------------------------------------------------------------------------

WRAPPERS = {"bgapi": 1, "sched_api": 3, "eval": 1, "expand": 1, "xml_wrap": 1}
"Commands that run another one, and how many words before it."


class Session:
    """The state of one connection."""

    def __init__(
        self, password: str, lookup: Lookup, *, job_uuid: Callable[[], str] = lambda: str(uuid.uuid4())
    ) -> None:
        self._password = password
        self._lookup = lookup
        self._job_uuid = job_uuid
        self._reader = CommandReader()
        self._waiting: deque[Command] = deque()
        self._running: str = ""
        self._grant: Grant | None = None
        self._only: str = ""
        self.closed = False
        self.form = "plain"
        self.subscription = Subscription()
        self.filters: list[Filter] = []
        self.log_level: int | None = None

    @property
    def trusted(self) -> bool:
        return self._grant is not None

    def receive(self, data: bytes) -> list[Act]:
        """Bytes from the client. Raises protocol.TooMuch; the connection is to be dropped then."""
        self._reader.feed(data)
        acts: list[Act] = []
        while not self.closed and (command := self._reader.next()) is not None:
            if self._running:
                self._waiting.append(command)
                if len(self._waiting) > WAITING:
                    raise protocol.TooMuch(f"more than {WAITING} commands waiting")
            else:
                acts += self._obey(command)
        return acts

    def answered(self, text: str) -> list[Act]:
        """The text of the command that `Run` asked for; what waited behind it goes on."""
        reply = protocol.api_response(text) if self._running == "api" else command_reply(text.strip() or "+OK")
        self._running = ""
        acts: list[Act] = [Send(reply)]
        while self._waiting and not self._running and not self.closed:
            acts += self._obey(self._waiting.popleft())
        return acts

    def event(self, event: Written) -> bytes | None:
        """What to send of an event, or None when this client does not want it."""
        if not self.subscription.takes(event.name, event.subclass):
            return None
        if self._only and event.by_name.get("unique-id") != self._only:
            return None
        if self.filters and not passes(self.filters, event.by_name):
            return None
        return event.message(self.form)

    # ---- commands

    def _obey(self, command: Command) -> list[Act]:
        verb, _, rest = command.line.partition(" ")
        verb, rest = verb.lower(), rest.strip()
        if verb in ("exit", "..."):
            self.closed = True
            return [Send(command_reply("+OK bye") + protocol.disconnect_notice()), Close()]
        if self._grant is None:
            return self._log_in(verb, rest)
        obey = VERBS.get(verb)
        if obey is None:
            return _reply("-ERR command not found")
        return obey(self, rest, command)

    def _log_in(self, verb: str, rest: str) -> list[Act]:
        if verb == "auth":
            return self._judge(Grant(self._password), rest)
        if verb == "userauth":
            user, _, password = rest.partition(":")
            name, _, domain = user.partition("@")
            return self._judge(self._lookup(name, domain), password, named=True)
        return []

    def _judge(self, grant: Grant | None, password: str, *, named: bool = False) -> list[Act]:
        expected = grant.password if grant is not None else ""
        same = hmac.compare_digest(expected.encode(), password.encode("utf-8", "replace"))
        if grant is None or not expected or not same:
            self.closed = True
            return [Refuse(command_reply("-ERR invalid") + protocol.disconnect_notice())]
        self._grant = grant
        self._reader.trust()
        return [Send(command_reply("+OK accepted", grant.headers() if named else ()))]

    def _api(self, rest: str, command: Command) -> list[Act]:
        if not self._allowed(rest):
            return [Send(protocol.api_response("-ERR permission denied\n"))]
        self._running = "api"
        return [Run(rest)]

    def _bgapi(self, rest: str, command: Command) -> list[Act]:
        if not self._allowed(rest):
            return _reply("-ERR permission denied")
        job = command.header("Job-UUID") or self._job_uuid()
        return [Send(command_reply(f"+OK Job-UUID: {job}", [("Job-UUID", job)])), Background(job, rest)]

    def _sendmsg(self, rest: str, command: Command) -> list[Act]:
        if not rest:
            return _reply("-ERR invalid session id []")
        if command.header("call-command").lower() != "hangup":
            return _reply("-ERR only hangup is known here")
        line = f"uuid_kill {rest} {command.header('hangup-cause')}".strip()
        if not self._allowed(line):
            return _reply("-ERR permission denied")
        self._running = "sendmsg"
        return [Run(line)]

    def _allowed(self, line: str) -> bool:
        assert self._grant is not None, "only a client that logged in gets here"
        if self._grant.api is None:
            return True
        words = line.split()
        while words and words[0].lower() in WRAPPERS:
            words = words[WRAPPERS[words[0].lower()] :]
        return bool(words) and words[0].lower() in self._grant.api

    # ---- events

    def _event(self, rest: str, command: Command) -> list[Act]:
        words = self._take_form(rest.replace(",", " ").split())
        assert self._grant is not None, "only a client that logged in gets here"
        if self._grant.events is not None:
            words = [word for word in words if word in self._grant.events or word.upper() in self._grant.events]
        if not self.subscription.add(words):
            return _reply("-ERR no keywords supplied")
        return [*_reply(f"+OK event listener enabled {self.form}"), Listening()]

    def _take_form(self, words: list[str]) -> list[str]:
        if words and words[0].lower() in SERIALISERS:
            self.form = words[0].lower()
            return words[1:]
        return words

    def _myevents(self, rest: str, command: Command) -> list[Act]:
        words = [word for word in rest.split() if word.lower() not in SERIALISERS]
        self._take_form([word for word in rest.split() if word.lower() in SERIALISERS])
        if not words:
            return _reply("-ERR invalid uuid")
        self._only = words[0]
        self.subscription.clear()
        self.subscription.names |= CHANNEL_EVENTS
        return [*_reply("+OK Events Enabled"), Listening()]

    def _nixevent(self, rest: str, command: Command) -> list[Act]:
        if not self.subscription.remove(rest.replace(",", " ").split()):
            return _reply("-ERR no keywords supplied")
        return [*_reply("+OK events nixed"), Listening()]

    def _noevents(self, rest: str, command: Command) -> list[Act]:
        if not self.subscription:
            return _reply("-ERR not listening for events")
        self.subscription.clear()
        self._only = ""
        return [*_reply("+OK no longer listening for events"), Listening()]

    def _filter(self, rest: str, command: Command) -> list[Act]:
        word, _, behind = rest.partition(" ")
        if word.lower() == "delete":
            return self._filter_delete(behind.strip())
        header, _, value = (behind if word.lower() == "add" else rest).strip().partition(" ")
        value = value.strip()
        if not header or not value or len(self.filters) >= LIMIT:
            return _reply("-ERR invalid syntax")
        try:
            self.filters.append(Filter.parse(header, value))
        except BadFilter:
            return _reply("-ERR invalid syntax")
        return _reply(f"+OK filter added. [{header}]=[{value}]")

    def _filter_delete(self, rest: str) -> list[Act]:
        header, _, value = rest.partition(" ")
        value = value.strip()
        if not header:
            return _reply("-ERR invalid syntax")

        def named(one: Filter) -> bool:
            same_value = not value or one.value == Filter.parse(header, value).value
            return header.lower() == "all" or (one.header.lower() == header.lower() and same_value)

        self.filters = [one for one in self.filters if not named(one)]
        return _reply(f"+OK filter deleted. [{header}][{value}]")

    def _sendevent(self, rest: str, command: Command) -> list[Act]:
        name = rest.upper()
        if name not in EVENTS:
            return _reply("-ERR invalid event")
        number = self._job_uuid()
        own = {"content-length", "event-name", "event-subclass"}
        headers = [pair for pair in command.headers if pair[0].lower() not in own]
        event = Event(
            name=name,
            subclass=command.header("Event-Subclass") if name == "CUSTOM" else "",
            headers=[("Event-UUID", number), *headers],
            body=command.body,
            function="parse_command",
        )
        return [Fire(event), *_reply(f"+OK {number}")]

    # ---- the log

    def _log(self, rest: str, command: Command) -> list[Act]:
        assert self._grant is not None, "only a client that logged in gets here"
        if not self._grant.log:
            return _reply("-ERR permission denied")
        word = rest or "debug"
        level = level_number(word)
        if level is None:
            return _reply("-ERR invalid log level")
        self.log_level = level
        return [*_reply(f"+OK log level {word} [{level}]"), Listening()]

    def _nolog(self, rest: str, command: Command) -> list[Act]:
        if self.log_level is None:
            return _reply("-ERR not loging")
        self.log_level = None
        return [*_reply("+OK no longer logging"), Listening()]

    def _no_channel(self, rest: str, command: Command) -> list[Act]:
        return _reply("-ERR not controlling a session")

    def _already(self, rest: str, command: Command) -> list[Act]:
        return _reply("+OK accepted")


def _reply(text: str) -> list[Act]:
    return [Send(command_reply(text))]


VERBS: dict[str, Callable[[Session, str, Command], list[Act]]] = {
    "auth": Session._already,
    "userauth": Session._already,
    "api": Session._api,
    "bgapi": Session._bgapi,
    "event": Session._event,
    "myevents": Session._myevents,
    "nixevent": Session._nixevent,
    "noevents": Session._noevents,
    "filter": Session._filter,
    "sendevent": Session._sendevent,
    "sendmsg": Session._sendmsg,
    "log": Session._log,
    "nolog": Session._nolog,
    "linger": Session._no_channel,
    "nolinger": Session._no_channel,
    "divert_events": Session._no_channel,
    "resume": Session._no_channel,
    "connect": Session._no_channel,
    "getvar": Session._no_channel,
}
