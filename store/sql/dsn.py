"""What a DSN of a database server says, in any of FreeSWITCH's forms; read without a driver, so that a check can too.

    pgsql://hostaddr=192.0.2.9 dbname=sip user=sip password='x y'     libpq's words, in libpq's quoting
    postgresql://sip:secret@db1,db2:5433/sip?sslmode=require          libpq's URL; several hosts: the one that may write
    mariadb://Server=192.0.2.9;Database=sip;Uid=sip;Pwd=secret;       the connector's words
    mariadb://sip:secret@192.0.2.9:3306/sip
    odbc://name:user:password, name:user:password                    a data source of odbc.ini
    odbc://Driver={...};Server=...;                                  a connection string, as the driver has it

Passwords are in no text made here, neither of an error nor of a place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from itertools import zip_longest
from urllib.parse import parse_qsl, unquote

from store.errors import UnknownStore


class Server(Enum):
    POSTGRESQL = "PostgreSQL"
    MARIADB = "MariaDB"
    ANY = "ODBC"
    "Which one it is, the driver tells when connected."


POSTGRESQL_SCHEMES = ("pgsql", "postgresql", "postgres")
MARIADB_SCHEMES = ("mariadb", "maria", "mysql")


@dataclass(frozen=True)
class Target:
    """A database, and how to get there."""

    server: Server
    place: str
    "As an operator knows it; no password."
    words: dict[str, str] = field(repr=False)
    "libpq's keywords, or the attributes of an ODBC connection string."


def target(dsn: str) -> Target:
    """Raises `UnknownStore`, which says what is wrong, never what stood there."""
    scheme, bar, rest = dsn.partition("://")
    if not bar:
        return _source(dsn)
    scheme = scheme.lower()
    if scheme in POSTGRESQL_SCHEMES:
        return _postgresql(scheme, rest)
    if scheme in MARIADB_SCHEMES:
        return _mariadb(scheme, rest)
    if scheme == "odbc":
        return _source(rest) if "=" not in rest.split(":")[0] else _connection_string(rest)
    raise UnknownStore(f"`{scheme}://...` is no database server")


def is_server(dsn: str) -> bool:
    """Is it one of the forms above, rather than a file?"""
    scheme, bar, _rest = dsn.partition("://")
    if bar:
        return scheme.lower() in (*POSTGRESQL_SCHEMES, *MARIADB_SCHEMES, "odbc")
    # FreeSWITCH takes `dsn:user:pass` for ODBC by a colon after the second character.
    return ":" in dsn[2:] and not dsn.startswith("/")


# ---- PostgreSQL ----------------------------------------------------------------------------------------------------

# libpq: keyword = value, the value bare or in single quotes; a backslash takes what follows as it is.
_WORD = re.compile(r"\s*(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?=\s|$)", re.DOTALL)
_URL = re.compile(
    r"(?:(?P<user>[^@/:?]*)(?::(?P<password>[^@/?]*))?@)?(?P<hosts>[^/?]*)(?:/(?P<name>[^?]*))?(?:\?(?P<query>.*))?"
)
# A host of a list: a name, an address, an IPv6 one in brackets; then its port.
_HOST = re.compile(r"(\[[^\]]*\]|[^:,]*)(?::(\d*))?")


def _postgresql(scheme: str, rest: str) -> Target:
    words = _url_words(scheme, rest) if _is_url(rest) else _libpq_words(scheme, rest)
    hosts = (words.get("host") or words.get("hostaddr") or "local").split(",")
    ports = words.get("port", "").split(",")
    # One port is that of all hosts.
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = [f"{host}:{port}" if port else host for host, port in zip_longest(hosts, ports, fillvalue="")]
    return Target(Server.POSTGRESQL, f"PostgreSQL {words.get('dbname', '')} on {','.join(places)}", words)


def _is_url(rest: str) -> bool:
    return not re.match(r"\s*\w+\s*=", rest)


def _libpq_words(scheme: str, text: str) -> dict[str, str]:
    words: dict[str, str] = {}
    at = 0
    while text[at:].strip():
        match = _WORD.match(text, at)
        if match is None:
            known = f" behind {list(words)[-1]!r}" if words else ""
            raise UnknownStore(
                f"the store `{scheme}://...` cannot be read{known}: write keyword=value, or 'value' in quotes"
            )
        quoted, bare = match[2], match[3]
        words[match[1]] = re.sub(r"\\(.)", r"\1", quoted if quoted is not None else bare, flags=re.DOTALL)
        at = match.end()
    if not words:
        raise UnknownStore(f"the store `{scheme}://...` names no database")
    return words


def _url_words(scheme: str, rest: str) -> dict[str, str]:
    match = _URL.fullmatch(rest)
    if match is None or not rest:
        raise UnknownStore(
            f"the store `{scheme}://...` cannot be read: write {scheme}://user:password@host:port/database"
        )
    words = {}
    hosts, ports = _hosts(scheme, match["hosts"])
    for name, value in (("user", match["user"]), ("password", match["password"]), ("dbname", match["name"])):
        if value:
            words[name] = unquote(value)
    if any(hosts):
        words["host"] = ",".join(hosts)
    if any(ports):
        words["port"] = ",".join(ports)
    return words | dict(parse_qsl(match["query"] or "", keep_blank_values=True))


def _hosts(scheme: str, text: str) -> tuple[list[str], list[str]]:
    hosts, ports = [], []
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        if match is None:
            raise UnknownStore(f"the store `{scheme}://...` has a host that cannot be read")
        hosts.append(unquote(match[1].strip("[]")))
        ports.append(match[2] or "")
    return hosts, ports


# ---- MariaDB, ODBC -------------------------------------------------------------------------------------------------

_ATTRIBUTE = re.compile(r"\s*([^=;{}]+?)\s*=\s*(?:\{((?:[^}]|\}\})*)\}|([^;]*))\s*(?:;|$)")


def _mariadb(scheme: str, rest: str) -> Target:
    words = _attributes(scheme, rest) if re.match(r"\s*[\w ]+=", rest) else _mariadb_url(scheme, rest)
    place = words.get("SERVER") or words.get("SERVERNAME") or words.get("SOCKET") or "local"
    port = f":{words['PORT']}" if words.get("PORT") else ""
    name = words.get("DATABASE") or words.get("DB") or ""
    if not name:
        raise UnknownStore(f"the store `{scheme}://...` names no database: say Database=...")
    return Target(Server.MARIADB, f"MariaDB {name} on {place}{port}", words)


def _mariadb_url(scheme: str, rest: str) -> dict[str, str]:
    url = _url_words(scheme, rest)
    if "," in url.get("host", ""):
        raise UnknownStore(f"the store `{scheme}://...` names several hosts, of which MariaDB's driver takes one")
    names = {"user": "UID", "password": "PWD", "dbname": "DATABASE", "host": "SERVER", "port": "PORT"}
    return {names.get(word, word.upper()): value for word, value in url.items()}


def _connection_string(rest: str) -> Target:
    words = _attributes("odbc", rest)
    known = words.get("DSN") or words.get("SERVER") or words.get("SERVERNAME") or ""
    name = words.get("DATABASE") or ""
    return Target(Server.ANY, f"ODBC {name or known}{f' on {known}' if name and known else ''}", words)


def _attributes(scheme: str, text: str) -> dict[str, str]:
    """Their names in upper case, as a driver takes them in any."""
    words: dict[str, str] = {}
    at = 0
    while text[at:].strip(" ;"):
        match = _ATTRIBUTE.match(text, at)
        if match is None:
            known = f" behind {list(words)[-1]!r}" if words else ""
            raise UnknownStore(f"the store `{scheme}://...` cannot be read{known}: write Name=value;Name=value;")
        words[match[1].upper()] = match[2].replace("}}", "}") if match[2] is not None else match[3].strip()
        at = match.end()
    return words


def _source(text: str) -> Target:
    name, _, login = text.partition(":")
    if not name:
        raise UnknownStore("the store `odbc://...` names no data source: write odbc://name:user:password")
    user, parted, password = login.partition(":")
    words = {"DSN": name}
    if user:
        words["UID"] = user
    if parted:
        words["PWD"] = password
    return Target(Server.ANY, f"ODBC {name}", words)
