"""Where a URI is reached (RFC 3263): NAPTR, SRV, addresses, remembered for as long as the answers are good."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

from node.sip.errors import SipError, Unresolvable
from node.sip.flow import Address
from node.sip.uri import Uri

log = logging.getLogger(__name__)

LIFETIME = 3.0
"Seconds a whole question may take, all servers and repeats included."
LONGEST = 300.0
SHORTEST = 5.0
"Bounds of how long an answer is remembered, in seconds; a failure is remembered for the shortest time."
REMEMBERED = 10_000
WAITING = 1000
"Questions that may be under way at once."

Transport = Literal["UDP", "TCP", "TLS"]
_SERVICES: dict[str, Transport] = {"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS"}
_TRANSPORTS: dict[str, Transport] = {"UDP": "UDP", "TCP": "TCP", "TLS": "TLS"}
_NAMES: dict[Transport, str] = {"UDP": "_sip._udp", "TCP": "_sip._tcp", "TLS": "_sips._tcp"}


class Target(NamedTuple):
    """One place to try."""

    transport: Transport
    address: Address


Then = Callable[[list[Target] | SipError], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked: the parts of the URI that matter, and what the profile allows."""

    host: str
    port: int | None
    transport: Transport | None
    secure: bool
    naptr: bool
    srv: bool
    ipv6: bool


class Resolver:
    """Answers at once what is numeric or remembered; asks the DNS otherwise, without stopping the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, hosts: Path = Path("/etc/hosts")) -> None:
        self._loop = loop
        self._hosts = Hosts(hosts)
        self._remembered: dict[Wish, tuple[float, list[Target] | SipError]] = {}
        self._waiting: dict[Wish, list[Then]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._dns: dns.asyncresolver.Resolver | None = None

    def locate(self, uri: Uri, then: Then, *, naptr: bool = True, srv: bool = True, ipv6: bool = False) -> None:
        """Call `then` with the places to try, best first, or with the refusal to answer with."""
        transport = _transport(uri)
        numeric = _numeric(uri.address)
        if numeric is not None:
            chosen: Transport = transport or ("TLS" if uri.scheme == "sips" else "UDP")
            then([Target(chosen, (numeric, uri.port or _default_port(chosen)))])
            return
        wish = Wish(uri.address.lower(), uri.port, transport, uri.scheme == "sips", naptr, srv, ipv6)
        known = self._remembered.get(wish)
        if known is not None and known[0] > self._loop.time():
            then(known[1])
            return
        self._ask(wish, then)

    def close(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _ask(self, wish: Wish, then: Then) -> None:
        waiting = self._waiting.get(wish)
        if waiting is not None:
            waiting.append(then)
            return
        if len(self._waiting) >= WAITING:
            then(Unresolvable(f"too many names are being looked up, not {wish.host}"))
            return
        self._waiting[wish] = [then]
        task = self._loop.create_task(self._resolve(wish))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, wish: Wish) -> None:
        found: list[Target] | SipError
        seconds = SHORTEST
        try:
            async with asyncio.timeout(LIFETIME):
                found, seconds = await self._search(wish)
            if not found:
                found = Unresolvable(f"{wish.host} has no address")
        except (dns.exception.DNSException, OSError, TimeoutError) as error:
            found = Unresolvable(f"{wish.host}: {error}")
        except Exception as error:
            log.exception("looking up %s broke", wish.host)
            found = Unresolvable(f"{wish.host}: {error}")
        if len(self._remembered) >= REMEMBERED:
            self._remembered.clear()
        self._remembered[wish] = (self._loop.time() + min(max(seconds, SHORTEST), LONGEST), found)
        for then in self._waiting.pop(wish, []):
            try:
                then(found)
            except Exception:
                log.exception("going on after looking up %s broke", wish.host)

    async def _search(self, wish: Wish) -> tuple[list[Target], float]:
        """RFC 3263 4.1 and 4.2: a port means addresses only; a transport means SRV; neither means NAPTR first."""
        if wish.port is not None or not wish.srv:
            transport = wish.transport or ("TLS" if wish.secure else "UDP")
            addresses, seconds = await self._addresses(wish.host, ipv6=wish.ipv6)
            port = wish.port or _default_port(transport)
            return [Target(transport, (address, port)) for address in addresses], seconds
        for service, transport in await self._services(wish):
            targets, seconds = await self._servers(service, transport, ipv6=wish.ipv6)
            if targets:
                return targets, seconds
        transport = wish.transport or ("TLS" if wish.secure else "UDP")
        addresses, seconds = await self._addresses(wish.host, ipv6=wish.ipv6)
        return [Target(transport, (address, _default_port(transport))) for address in addresses], seconds

    async def _services(self, wish: Wish) -> list[tuple[str, Transport]]:
        """Names to ask for SRV, in the order of preference."""
        if self._hosts.find(wish.host):
            return []
        if wish.transport is not None:
            return [(f"{_NAMES[wish.transport]}.{wish.host}", wish.transport)]
        if wish.naptr:
            answer = await self._query(wish.host, "NAPTR")
            rows = sorted(answer or (), key=lambda row: (row.order, row.preference))
            named = [
                (row.replacement.to_text(omit_final_dot=True), _SERVICES[row.service.decode().upper()])
                for row in rows
                if row.flags.lower() == b"s" and row.service.decode().upper() in _SERVICES
            ]
            named = [each for each in named if not wish.secure or each[1] == "TLS"]
            if named:
                return named
        kinds: Iterable[Transport] = ("TLS",) if wish.secure else ("UDP", "TCP")
        return [(f"{_NAMES[kind]}.{wish.host}", kind) for kind in kinds]

    async def _servers(self, name: str, transport: Transport, *, ipv6: bool) -> tuple[list[Target], float]:
        answer = await self._query(name, "SRV")
        if answer is None:
            return [], SHORTEST
        seconds = float(answer.rrset.ttl)
        targets = []
        for row in by_weight(list(answer)):
            host = row.target.to_text(omit_final_dot=True)
            addresses, its = await self._addresses(host, ipv6=ipv6)
            seconds = min(seconds, its)
            targets += [Target(transport, (address, row.port)) for address in addresses]
        return targets, seconds

    async def _addresses(self, host: str, *, ipv6: bool) -> tuple[list[str], float]:
        local = self._hosts.find(host)
        if local:
            return [each for each in local if (":" in each) == ipv6], LONGEST
        answer = await self._query(host, "AAAA" if ipv6 else "A")
        if answer is None:
            return [], SHORTEST
        return [row.address for row in answer], float(answer.rrset.ttl)

    async def _query(self, name: str, kind: str) -> Any:
        if self._dns is None:
            self._dns = dns.asyncresolver.Resolver()
            self._dns.lifetime = LIFETIME
        try:
            return await self._dns.resolve(name, kind, search=False)
        except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
            return None


class Hosts:
    """The names in /etc/hosts, read again when the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = -1.0
        self._names: dict[str, list[str]] = {}

    def find(self, name: str) -> list[str]:
        try:
            changed = self._path.stat().st_mtime
        except OSError:
            return self._names.get(name.lower(), [])
        if changed != self._read_at:
            self._read_at = changed
            self._names = self._read()
        return self._names.get(name.lower(), [])

    def _read(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for line in self._path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.partition("#")[0].split()
            for name in words[1:]:
                names.setdefault(name.lower(), []).append(words[0])
        return names


def by_weight(rows: list[Any]) -> list[Any]:
    """SRV records in the order to try them (RFC 2782): by priority, and at random by weight among equals."""
    ordered = []
    rest = sorted(rows, key=lambda row: (row.priority, row.weight))
    while rest:
        best = [row for row in rest if row.priority == rest[0].priority]
        chosen = random.choices(best, [row.weight + 0.01 for row in best])[0]
        ordered.append(chosen)
        rest.remove(chosen)
    return ordered


def _transport(uri: Uri) -> Transport | None:
    named = uri.transport
    if uri.scheme == "sips":
        return "TLS" if named else None
    return _TRANSPORTS.get(named)


def _default_port(transport: Transport) -> int:
    return 5061 if transport == "TLS" else 5060


def _numeric(host: str) -> str | None:
    # Most hosts start with a digit or hold a colon: names are told apart without an exception.
    if not host or not (host[0].isdigit() or ":" in host):
        return None
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return None
