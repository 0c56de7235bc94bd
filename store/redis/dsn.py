"""The DSN of a Redis: which servers, how to get in, how long to wait.

    redis://[[user]:password@]host[:6379][/database][?option=value&...]
    rediss://...                                              the same over TLS
    redis+sentinel://[[user]:password@]host[:26379],host,.../primary[/database][?...]
    rediss+sentinel://...                                     TLS to the sentinels too

Options may be parted by `;` too, for `&` has to be written `&amp;` in a configuration. Special characters in user and
password are written as in any URL (`%40` for `@`). The options, times in milliseconds: `timeout`, `connect-timeout`,
`wait`, `wait-timeout`, `feed`, `prefix`, `ca`, `certificate`, `key`, `verify`, `sentinel-user`, `sentinel-password`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from store.errors import UnknownStore

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel")

PORT = 6379
SENTINEL_PORT = 26379

Server = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    servers: tuple[Server, ...]
    "The server; or the sentinels, where `primary` is set."

    primary: str = ""
    "The name by which the sentinels know the server; empty: there are no sentinels."

    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)

    tls: bool = False
    ca: str = ""
    "File of the authorities whose certificates are taken; empty: those of the system."
    certificate: str = ""
    key: str = ""
    "Files of our own certificate and its key, for a server that asks."
    verify: bool = True

    timeout: float = 1.0
    "Seconds that one answer may take."
    connect_timeout: float = 0.3
    "Seconds that one connection attempt may take; a server that is frozen takes all of them."

    wait: int = 0
    "Replicas that must have a call's record before it counts as stored (`WAIT`)."
    wait_timeout: float = 0.1
    "Seconds to wait for them; after that the write counts as at risk."

    feed: int = 2000
    "Commits that the change feed remembers, about: who falls further behind reads everything again."
    prefix: str = "sofia:"
    "What all our keys begin with."

    @property
    def place(self) -> str:
        """The store as an operator knows it, without secrets."""
        servers = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.servers)
        scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.primary else "")
        return f"{scheme}://{servers}" + (f"/{self.primary}" if self.primary else "") + f"/{self.database}"


def is_redis(dsn: str) -> bool:
    return dsn.partition("://")[0].lower() in SCHEMES and "://" in dsn


def parse(dsn: str) -> RedisSettings:
    """The settings in a DSN; raises `UnknownStore` with what is wrong, and never with a secret in it."""
    scheme, bar, rest = dsn.partition("://")
    scheme = scheme.lower()
    if not bar or scheme not in SCHEMES:
        raise UnknownStore(f"a Redis store is named {', '.join(f'{known}://' for known in SCHEMES)}")
    rest, _, query = rest.partition("?")
    # The last `@`: one that a password holds unescaped must not end up in the name of a host, and so in a log.
    credentials, _, rest = rest.rpartition("@")
    hosts, _, path = rest.partition("/")
    sentinel = scheme.endswith("+sentinel")
    user, _, password = credentials.partition(":")
    settings: dict[str, Any] = {
        "servers": tuple(_server(host, SENTINEL_PORT if sentinel else PORT) for host in hosts.split(",")),
        "user": unquote(user),
        "password": unquote(password),
        "tls": scheme.startswith("rediss"),
    }
    if sentinel:
        settings["primary"], _, path = path.partition("/")
        if not settings["primary"]:
            raise UnknownStore("a Redis behind Sentinel needs the name of its primary: redis+sentinel://host,host/NAME")
    elif len(settings["servers"]) != 1:
        raise UnknownStore("redis:// names one server; several are sentinels: redis+sentinel://host,host/NAME")
    if path:
        settings["database"] = _whole("the database of a Redis", path)
    settings |= _options(query)
    return _checked(RedisSettings(**settings))


def _server(text: str, port: int) -> Server:
    host, written = text, ""
    if text.startswith("["):
        host, _, written = text[1:].partition("]")
        written = written.removeprefix(":")
    elif ":" in text:
        host, _, written = text.rpartition(":")
    if not host:
        raise UnknownStore("the DSN of a Redis names no host")
    if written:
        port = _whole("the port of a Redis", written)
        if not 0 < port < 65536:
            raise UnknownStore(f"the port of a Redis is from 1 to 65535, not {port}")
    return host, port


def _whole(what: str, text: str) -> int:
    # The text is not repeated: where a DSN is written wrongly it may be half of a password.
    if not text.isascii() or not text.isdigit():
        raise UnknownStore(f"{what} is a whole number")
    return int(text)


def _milliseconds(what: str, text: str) -> float:
    value = _whole(what, text)
    if not value:
        raise UnknownStore(f"{what} must be longer than 0 ms")
    return value / 1000


def _yes_or_no(what: str, text: str) -> bool:
    if text.lower() not in ("yes", "no", "true", "false"):
        raise UnknownStore(f"{what} is yes or no")
    return text.lower() in ("yes", "true")


def _text(what: str, text: str) -> str:
    return text


OPTIONS: dict[str, tuple[str, Callable[[str, str], Any]]] = {
    "timeout": ("timeout", _milliseconds),
    "connect-timeout": ("connect_timeout", _milliseconds),
    "wait": ("wait", _whole),
    "wait-timeout": ("wait_timeout", _milliseconds),
    "feed": ("feed", _whole),
    "prefix": ("prefix", _text),
    "ca": ("ca", _text),
    "certificate": ("certificate", _text),
    "key": ("key", _text),
    "verify": ("verify", _yes_or_no),
    "sentinel-user": ("sentinel_user", _text),
    "sentinel-password": ("sentinel_password", _text),
}


def _options(query: str) -> dict[str, Any]:
    settings = {}
    for name, value in parse_qsl(query.replace(";", "&"), keep_blank_values=True):
        if name not in OPTIONS:
            raise UnknownStore(f"a Redis has the options {', '.join(OPTIONS)}, and no other")
        field_name, read = OPTIONS[name]
        settings[field_name] = read(f"option {name} of a Redis", value)
    return settings


def _checked(settings: RedisSettings) -> RedisSettings:
    if not settings.tls and (settings.ca or settings.certificate or settings.key or not settings.verify):
        raise UnknownStore("options ca, certificate, key and verify are for a Redis over TLS: rediss://")
    if bool(settings.certificate) != bool(settings.key):
        raise UnknownStore("a Redis that asks for our certificate needs both options, certificate and key")
    if settings.feed < 1:
        raise UnknownStore("option feed of a Redis is at least 1")
    return settings
