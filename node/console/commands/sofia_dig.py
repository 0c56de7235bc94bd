"""`sofia_dig`: which targets the DNS names for a URI, with their preference and weight (`sip-dig.c`).

It shows all that is published, not what a profile would take of it, and asks anew each time. Unlike there, `@address` is
obeyed: the name server to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from node.config.nameservers import name_servers
from node.console.registry import Command
from node.console.site import Site
from node.sip.errors import SipError
from node.sip.targets import Kind, Question, Server, Service, host_of, numeric
from node.sip.uri import Uri
from node.transport.questions import Answer, Questions

USAGE = "usage: sofia_dig [OPTIONS] [@dnsserver] uri\n"
WORDS = 50
"So many words and more are too many."


@dataclass(frozen=True, slots=True)
class Way:
    """A transport: its name, its NAPTR service, and what stands before a domain to ask for its SRV records."""

    name: str
    service: str
    prefix: str


KNOWN = {
    way.name: way
    for way in (
        Way("udp", "SIP+D2U", "_sip._udp."),
        Way("tcp", "SIP+D2T", "_sip._tcp."),
        Way("sctp", "SIP+D2S", "_sip._sctp."),
        Way("tls", "SIPS+D2T", "_sips._tcp."),
        Way("tls-sctp", "SIPS+D2S", "_sips._sctp."),
    )
}


class BadUsage(Exception):
    """The words make no sense; the usage is the answer."""


@dataclass(slots=True)
class Wanted:
    """What the command line says."""

    uris: list[str] = field(default_factory=list)
    xml: bool = False
    families: tuple[Kind, ...] = ("AAAA", "A")
    "The first one's addresses are printed first."
    ways: list[Way] = field(default_factory=list)
    server: str = ""


def understood(line: str) -> Wanted:
    """Raises BadUsage."""
    words = line.split()
    if not words or len(words) >= WORDS:
        raise BadUsage
    wanted = Wanted()
    if words[0] == "xml":
        wanted.xml = True
        del words[0]
    chosen: list[Way] = []
    families: list[Kind] = []
    sctp = True
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option == "-":
            break
        if option in ("-4", "-6"):
            kind: Kind = "A" if option == "-4" else "AAAA"
            families = [kind, *(each for each in families if each != kind)]
        elif option.startswith("-p"):
            chosen.append(_way(option[2:].removeprefix("=") or (words.pop(0) if words else "")))
        elif option == "--no-sctp":
            sctp = False
        elif option.removeprefix("--") in KNOWN:
            chosen.append(KNOWN[option.removeprefix("--")])
        else:
            raise BadUsage
    wanted.families = tuple(families) or wanted.families
    wanted.ways = list(dict.fromkeys(chosen)) or [way for way in KNOWN.values() if sctp or "sctp" not in way.name]
    wanted.uris = [word for word in words if not word.startswith("@")]
    wanted.server = next((word[1:] for word in words if word.startswith("@")), "")
    if not wanted.uris:
        raise BadUsage
    return wanted


def _way(text: str) -> Way:
    name, slash, rest = text.partition("/")
    service, _, prefix = rest.partition("/")
    if not slash and name in KNOWN:
        return KNOWN[name]
    if not name or not service or not prefix:
        raise BadUsage
    return Way(name, service, prefix)


# ---- looking up --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """One line of the table."""

    preference: int
    weight: float
    transport: str
    port: int
    address: str


class Digging:
    """One URI being looked up; `found` grows in the order in which targets are to be tried."""

    def __init__(self, questions: Questions, wanted: Wanted) -> None:
        self.found: list[Route] = []
        self._questions = questions
        self._wanted = wanted
        self._preference = 1

    async def dig(self, uri: Uri) -> None:
        host = host_of(uri).lower()
        address = numeric(host)
        named = self._named(uri)
        if address is not None:
            for way in named or self._plain(uri):
                self._add(1.0, way.name, uri.port, [address])
                self._preference += 1
        elif not (uri.port is None and await self._by_service(uri, host, named)):
            ways = named or self._plain(uri)
            for way in ways:
                self._add(1 / len(ways), way.name, uri.port, await self._addresses(host))

    def _named(self, uri: Uri) -> list[Way]:
        """The transport that the URI itself names."""
        if not uri.transport:
            return []
        name = uri.transport.lower()
        if uri.secure:
            name = {"tcp": "tls", "sctp": "tls-sctp"}.get(name, name)
        return [next((way for way in self._wanted.ways if way.name == name), Way(name, "", f"_sip._{name}."))]

    def _plain(self, uri: Uri) -> list[Way]:
        """What is tried where nothing says how: UDP and TCP, or TLS for sips."""
        names = ("tls",) if uri.secure else ("udp", "tcp")
        return [way for way in self._wanted.ways if way.name in names] or self._wanted.ways[:1]

    async def _by_service(self, uri: Uri, host: str, named: list[Way]) -> bool:
        """By NAPTR, else by SRV. Did that give anything?"""
        ways = named or [way for way in self._wanted.ways if not uri.secure or way.service.startswith("SIPS+")]
        if not named:
            await self._by_naptr(host, ways)
        if not self.found:
            names = [way.prefix + host for way in ways]
            answers = await asyncio.gather(*(self._ask(name, "SRV") for name in names))
            there = [(way, servers) for way, servers in zip(ways, answers, strict=True) if servers]
            for way, servers in there:
                await self._by_servers(way, servers, 1 / len(there))
        return bool(self.found)

    async def _by_naptr(self, host: str, ways: Sequence[Way]) -> None:
        services = {way.service.upper(): way for way in ways}
        records: list[Service] = [
            record
            for record in await self._ask(host, "NAPTR")
            if record.service.upper() in services and record.flags.lower() in ("s", "a") and record.replacement
        ]
        records.sort(key=lambda record: (record.order, record.preference))
        for record in records:
            way = services[record.service.upper()]
            alike = sum((one.order, one.preference) == (record.order, record.preference) for one in records)
            if record.flags.lower() == "s":
                await self._by_servers(way, await self._ask(record.replacement, "SRV"), 1 / alike)
            else:
                self._add(1 / alike, way.name, None, await self._addresses(record.replacement))
                self._preference += 1

    async def _by_servers(self, way: Way, servers: Sequence[Server], share: float) -> None:
        for priority in sorted({server.priority for server in servers}):
            alike = [server for server in servers if server.priority == priority]
            total = sum(server.weight for server in alike)
            before = len(self.found)
            for server in alike:
                part = server.weight / total if total else 1 / len(alike)
                if server.host:
                    self._add(share * part, way.name, server.port, await self._addresses(server.host))
            if len(self.found) > before:
                self._preference += 1

    async def _addresses(self, host: str) -> list[str]:
        own = numeric(host)
        if own is not None:
            return [own]
        answers = await asyncio.gather(*(self._ask(host, family) for family in self._wanted.families))
        return [address for answer in answers for address in answer]

    def _add(self, weight: float, transport: str, port: int | None, addresses: Sequence[str]) -> None:
        number = port if port is not None else 5061 if transport.startswith("tls") else 5060
        for address in addresses:
            self.found.append(Route(self._preference, weight / len(addresses), transport, number, address))

    async def _ask(self, name: str, kind: Kind) -> Sequence[Any]:
        question = Question(name.rstrip("."), kind)
        known = self._questions.known(question)
        if known is not None:
            return known.records
        answered: asyncio.Future[Sequence[Any]] = asyncio.get_running_loop().create_future()

        def tell(answer: Answer) -> None:
            if not answered.cancelled():
                answered.set_result(answer.records)

        self._questions.ask(question, tell)
        return await answered


# ---- printing ----------------------------------------------------------------------------------------------------------


async def dig(site: Site, rest: str) -> str:
    try:
        wanted = understood(rest)
        servers = name_servers(wanted.server) if wanted.server else site.configuration.sofia.dns_servers
    except (BadUsage, ValueError):
        return USAGE
    questions = Questions(asyncio.get_running_loop(), servers=servers)
    text = (
        "<routes>\n" if wanted.xml else _row("Preference", "Weight", "Transport", "Port", "Address") + "=" * 80 + "\n"
    )
    try:
        for typed in wanted.uris:
            text += (typed if len(wanted.uris) > 1 else "") + await _one(questions, wanted, typed)
    finally:
        questions.close()
    return text + ("</routes>\n" if wanted.xml else "")


async def _one(questions: Questions, wanted: Wanted, typed: str) -> str:
    digging = Digging(questions, wanted)
    try:
        uri = Uri.parse(typed if typed.lower().startswith(("sip:", "sips:")) else f"sip:{typed}")
    except SipError:
        return ""  # as in FreeSWITCH, where only its log says so
    await digging.dig(uri)
    if not digging.found:
        return f"-ERR: {typed}: not found\n"
    return "".join(_element(route) if wanted.xml else _line(route) for route in digging.found)


def _line(route: Route) -> str:
    return _row(str(route.preference), f"{route.weight:.3f}", route.transport, str(route.port), route.address)


def _row(*cells: str) -> str:
    return "\t".join(f"{cell:>10}" for cell in cells) + "\n"


def _element(route: Route) -> str:
    return (
        f" <route>\n  <preference>{route.preference}</preference>\n  <weight>{route.weight:.3f}</weight>\n"
        f"  <transport>{route.transport}</transport>\n  <port>{route.port}</port>\n"
        f"  <address>{route.address}</address>\n </route>\n"
    )


COMMANDS = (Command("sofia_dig", dig, "<url>", "SIP DIG"),)
