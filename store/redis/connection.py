"""One connection to the Redis that takes writes: found, opened, held to deadlines, its errors turned into ours.

After any error but a refusal of Redis itself the connection is closed, so that no late answer is ever taken for the
answer to something else. The next call opens a new one.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.retry import Retry

from store.errors import Busy, Full, ReadOnly, Refused, StoreError, Unavailable
from store.redis.dsn import RedisSettings, Server

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_WITHIN = 1.5
"Seconds to find and open the right server, all tries together."

REFUSALS: tuple[tuple[str, type[StoreError], str], ...] = (
    ("OOM", Full, "its memory is full (maxmemory)"),
    ("MISCONF", Full, "it cannot write to its disk"),
    ("READONLY", ReadOnly, "it is a replica now"),
    ("NOREPLICAS", Unavailable, "it has too few replicas to take writes"),
    ("BUSY", Busy, "a script keeps it busy"),
    ("MASTERDOWN", ReadOnly, "it is a replica without its primary"),
    ("NOAUTH", Unavailable, "it wants a password"),
    ("WRONGPASS", Unavailable, "it does not take our user and password"),
    ("NOPERM", Unavailable, "our user may not do that"),
)
"By the first word of what Redis says."


PLAIN: Any = Connection
SECURE: Any = SSLConnection


class Line(Protocol):
    """The driver's connection, as far as we need it; the driver itself has no types there."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def on_connect(self) -> None: ...
    def pack_commands(self, commands: Sequence[Sequence[Any]]) -> Sequence[bytes]: ...
    def send_packed_command(self, command: Sequence[bytes], check_health: bool) -> None: ...
    def read_response(self) -> Any: ...


class Script:
    """A script and the name by which Redis knows it."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server it is, and how far its replicas are."""

    run: str
    "Changes when the server starts again, and is another one on another server."
    version: str
    offset: int
    "Bytes it has sent to its replicas."
    safe: int | None
    "Bytes that all its replicas have; None if it has no replica."
    details: dict[str, str]


class RedisConnection:
    def __init__(self, settings: RedisSettings) -> None:
        self.settings = settings
        self.place = settings.place
        self.server: Server | None = None
        "Where it is connected to."
        self.on_connected: Callable[[], None] | None = None
        "Called when a connection was made, before anything else is asked."
        self._line: Line | None = None
        self._sentinels = list(settings.servers) if settings.primary else []
        self._given_up = False

    # ---- its life ----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        self._given_up = False
        self._connect()

    def close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.disconnect()

    def interrupt(self) -> None:
        """From another thread: whoever waits for an answer gets an error, and nothing is sent any more."""
        self._given_up = True
        line = self._line
        if line is not None:
            line.disconnect()

    # ---- asking ------------------------------------------------------------------------------------------------------

    def call(self, *command: Any) -> Any:
        """Send one command, return the answer."""
        return self._ask([command])[0]

    def run(self, script: Script, *arguments: Any, then: Sequence[Any] = ()) -> list[Any]:
        """Run a script, and the command `then` in the same round trip; returns the answer of each."""
        after = [then] if then else []
        try:
            return self._ask([("EVALSHA", script.digest, 0, *arguments), *after])
        except _Unknown:
            return self._ask([("EVAL", script.text, 0, *arguments), *after])

    def identity(self) -> Identity:
        """Ask it who it is."""
        answer = self.call("INFO")
        if not isinstance(answer, bytes):
            raise self._nonsense("it does not say who it is")
        lines = (line.partition(":") for line in answer.decode("utf-8", "replace").splitlines())
        details = {name: value for name, colon, value in lines if colon}
        return Identity(
            run=details.get("run_id", ""),
            version=details.get("redis_version", ""),
            offset=_number(details.get("master_repl_offset", "")),
            safe=_safe_offset(details),
            details=details,
        )

    def check_primary(self) -> None:
        """Ask the sentinels whether this still is the server to write to; raises `Unavailable` if it is not."""
        if not self._sentinels or self.server is None:
            return
        now = self._ask_sentinels(time.monotonic() + CONNECT_WITHIN)
        if now != self.server:
            self.close()
            raise Unavailable(f"{self.place}: the sentinels name another server now, {_text(now)}")

    # ---- below -------------------------------------------------------------------------------------------------------

    def _ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        if self._line is None:
            self._connect()
        line = self._line
        if line is None or self._given_up:
            raise Unavailable(f"{self.place}: given up, for it took too long")
        return self._guarded(lambda: _exchange(line, commands))

    def _guarded(self, work: Callable[[], T]) -> T:
        """Run what talks to a server; a foreign error becomes ours, and ends the connection unless Redis itself refused."""
        try:
            return work()
        except _Unknown:
            raise
        except redis.exceptions.ResponseError as error:
            ours = self._refusal(error)
            if isinstance(ours, ReadOnly):
                # Another one may be the primary now.
                self.close()
            raise ours from error
        except redis.exceptions.TimeoutError as error:
            self.close()
            raise Unavailable(f"{self.place}: no answer in time") from error
        except redis.exceptions.AuthenticationError as error:
            self.close()
            raise Unavailable(f"{self.place}: it does not take our user and password") from error
        except (redis.exceptions.ConnectionError, OSError) as error:
            self.close()
            raise Unavailable(f"{self.place}: {error}") from error
        except StoreError:
            self.close()
            raise
        except Exception as error:
            # What answers is no Redis: the driver may break on it in any way.
            self.close()
            raise self._nonsense(str(error) or type(error).__name__) from error

    def _refusal(self, error: redis.exceptions.ResponseError) -> StoreError:
        text = _words(error)
        for word, kind, meaning in REFUSALS:
            # Before version 7 a script's error says first where in the script.
            if text.startswith(word) or f"-{word} " in text[:200]:
                return kind(f"{self.place}: {meaning}")
        return Refused(f"{self.place}: {text}")

    def _nonsense(self, what: str) -> Unavailable:
        return Unavailable(f"{self.place}: what it answers is not Redis: {what[:100]!r}")

    # ---- finding the server ------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._given_up:
            raise Unavailable(f"{self.place}: given up, for it took too long")
        self.close()
        until = time.monotonic() + CONNECT_WITHIN
        server = self._ask_sentinels(until) if self._sentinels else self.settings.servers[0]
        line = self._line = self._new_line(server, until)
        self.server = server
        self._guarded(line.connect)
        self._guarded(lambda: self._check_role(line))
        if self.on_connected is not None:
            self.on_connected()

    def _check_role(self, line: Line) -> None:
        (role,) = _exchange(line, [("ROLE",)])
        if not isinstance(role, list) or not role:
            raise self._nonsense("it does not tell its role")
        if role[0] != b"master":
            raise ReadOnly(f"{self.place}: {_text(self.server)} is a replica")

    def _new_line(self, server: Server, until: float, *, sentinel: bool = False) -> Line:
        settings = self.settings
        left = until - time.monotonic()
        if left <= 0:
            raise Unavailable(f"{self.place}: not reached in time")
        user = settings.sentinel_user if sentinel else settings.user
        password = settings.sentinel_password if sentinel else settings.password
        options: dict[str, Any] = {
            "host": server[0],
            "port": server[1],
            "db": 0 if sentinel else settings.database,
            "username": user or None,
            "password": password or None,
            "socket_timeout": min(settings.connect_timeout if sentinel else settings.timeout, left),
            "socket_connect_timeout": min(settings.connect_timeout, left),
            "socket_keepalive": True,
            # A server that does not answer is our breaker's affair, which knows when to try again.
            "retry": Retry(NoBackoff(), 0),
            "redis_connect_func": self._greet,
            "protocol": 2,
            "client_name": "sofia-node",
        }
        line: Line
        if not settings.tls:
            line = PLAIN(**options)
            return line
        line = SECURE(
            **options,
            ssl_ca_certs=settings.ca or None,
            ssl_certfile=settings.certificate or None,
            ssl_keyfile=settings.key or None,
            ssl_cert_reqs="required" if settings.verify else "none",
            ssl_check_hostname=settings.verify,
        )
        return line

    def _greet(self, line: Line) -> None:
        """The driver connects again by itself; a connection that was given up must not."""
        if self._given_up:
            raise redis.exceptions.ConnectionError("given up, for it took too long")
        line.on_connect()

    def _ask_sentinels(self, until: float) -> Server:
        """The server that most sentinels know as the primary last: the one with the highest configuration epoch."""
        answers: list[tuple[int, Server]] = []
        why: StoreError | None = None
        for sentinel in list(self._sentinels):
            try:
                answers.append(self._ask_sentinel(sentinel, until))
            except StoreError as error:
                why = error
                # Last next time: one that is dead costs its whole timeout.
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
            if len(answers) > len(self._sentinels) // 2:
                break
        if not answers:
            raise Unavailable(f"{self.place}: no sentinel names the primary ({why})") from why
        return max(answers)[1]

    def _ask_sentinel(self, sentinel: Server, until: float) -> tuple[int, Server]:
        line = self._new_line(sentinel, until, sentinel=True)
        try:
            (answer,) = self._guarded_sentinel(lambda: _exchange(line, [("SENTINEL", "MASTER", self.settings.primary)]))
            fields = dict(zip(answer[::2], answer[1::2], strict=True))
            return int(fields[b"config-epoch"]), (fields[b"ip"].decode(), int(fields[b"port"]))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._nonsense(f"sentinel {_text(sentinel)}") from error
        finally:
            line.disconnect()

    def _guarded_sentinel(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (redis.exceptions.RedisError, OSError) as error:
            raise Unavailable(f"{self.place}: sentinel: {_words(error)}") from error
        except Exception as error:
            raise self._nonsense(str(error)) from error


class _Unknown(Exception):
    """Redis has not seen this script yet."""


def _exchange(line: Line, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Send them all, read an answer for each; the first error is raised when all are read."""
    line.send_packed_command([b"".join(line.pack_commands(commands))], check_health=False)
    answers: list[Any] = []
    failed: redis.exceptions.ResponseError | None = None
    for _ in commands:
        try:
            answers.append(line.read_response())
        except redis.exceptions.ResponseError as error:
            failed = failed or error
    if isinstance(failed, redis.exceptions.NoScriptError):
        raise _Unknown
    if failed is not None:
        raise failed
    return answers


def _words(error: Exception) -> str:
    """What Redis said, with the error's word that the driver takes away."""
    text = str(error)
    match error:
        case redis.exceptions.ReadOnlyError():
            return f"READONLY {text}"
        case redis.exceptions.OutOfMemoryError():
            return f"OOM {text}"
        case redis.exceptions.NoPermissionError():
            return f"NOPERM {text}"
        case redis.exceptions.MasterDownError():
            return f"MASTERDOWN {text}"
    return text


def _safe_offset(details: dict[str, str]) -> int | None:
    offsets = []
    for n in range(_number(details.get("connected_slaves", ""))):
        fields = dict(part.partition("=")[::2] for part in details.get(f"slave{n}", "").split(","))
        offsets.append(_number(fields.get("offset", "")) if fields.get("state") == "online" else 0)
    return min(offsets, default=None)


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 0


def _text(server: Server | None) -> str:
    return "nobody" if server is None else f"{server[0]}:{server[1]}"
