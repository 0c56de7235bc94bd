"""Where a URI is reached (RFC 3263), as far as it is reckoning: which questions to ask the DNS, and the order of the answers.

`plan` is called with what is known and says what is still to be asked, until it can name the targets. NAPTR chooses the
transport and SRV the server, with the weights of RFC 2782; A and AAAA end it. A service that is expressly not offered
(SRV target `.`) is not sought by its address either.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Literal, NamedTuple

from node.sip.errors import Unresolvable
from node.sip.flow import Address
from node.sip.uri import Uri
from store.records import Transport

Kind = Literal["NAPTR", "SRV", "A", "AAAA"]

MAXIMUM = 16
"Targets of one URI; who publishes more has the rest passed over."

SERVICES: dict[str, Transport] = {
    "SIP+D2U": "UDP",
    "SIP+D2T": "TCP",
    "SIPS+D2T": "TLS",
    "SIP+D2W": "WS",
    "SIPS+D2W": "WSS",
}
"NAPTR services (RFC 3263 4.1, RFC 7118 9)."
SRV_NAMES: dict[Transport, str] = {
    "UDP": "_sip._udp",
    "TCP": "_sip._tcp",
    "TLS": "_sips._tcp",
    "WS": "_sip._ws",
    "WSS": "_sips._ws",
}
PORTS: dict[Transport, int] = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 80, "WSS": 443}
SECURE: frozenset[Transport] = frozenset(("TLS", "WSS"))
_SECURED: dict[str, Transport] = {"UDP": "TLS", "TCP": "TLS", "TLS": "TLS", "WS": "WSS", "WSS": "WSS"}
_PLAIN: dict[str, Transport] = {"UDP": "UDP", "TCP": "TCP", "TLS": "TLS", "WS": "WS", "WSS": "WSS"}


class Target(NamedTuple):
    """One place to try."""

    transport: Transport
    address: Address


class Question(NamedTuple):
    """What the DNS is asked; the name without its last dot, in lower case."""

    name: str
    kind: Kind


class Service(NamedTuple):
    """A NAPTR record (RFC 3403)."""

    order: int
    preference: int
    flags: str
    service: str
    replacement: str


class Server(NamedTuple):
    """An SRV record (RFC 2782). The host is `` where the service is not offered."""

    priority: int
    weight: int
    port: int
    host: str


Known = Callable[[Question], "Sequence[Any] | None"]
"The records of an answer (Service, Server, or addresses as text), empty if there are none; None: not asked yet."


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked: the parts of a URI that matter, and what the profile can do."""

    host: str
    port: int | None
    transport: Transport | None
    secure: bool
    transports: tuple[Transport, ...]
    "Those the profile speaks, the best first."
    families: tuple[Kind, ...]
    "`AAAA` and `A`, as the profile has sockets for them, the best first."
    naptr: bool = True
    srv: bool = True

    @property
    def default(self) -> Transport:
        """RFC 3263 4.1: UDP, or TLS over TCP for sips."""
        return self.transport or ("TLS" if self.secure else "UDP")


def wished_transport(uri: Uri) -> Transport | None:
    """`;transport=`, raised to its secure form by `sips`; None where it is left open. Raises Unresolvable."""
    named = uri.transport
    if not named:
        return None
    found = (_SECURED if uri.secure else _PLAIN).get(named)
    if found is None:
        raise Unresolvable(f"there is no transport {named.lower()} here")
    return found


def host_of(uri: Uri) -> str:
    """The TARGET of RFC 3263 4: `maddr`, or the host; without brackets."""
    if uri.params:
        named = uri.param("maddr")
        if named:
            return named[1:-1] if named[0] == "[" else named
    return uri.address


def numeric(host: str) -> str | None:
    """The address in its usual form, or None for a name."""
    # Most hosts start with a digit or hold a colon: names are told apart without an exception.
    if not host or not (host[0].isdigit() or ":" in host):
        return None
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def at_address(uri: Uri, host: str) -> Target:
    """A URI whose host is an address: nothing is asked. Raises Unresolvable."""
    transport = wished_transport(uri) or ("TLS" if uri.scheme == "sips" else "UDP")
    return Target(transport, (host, uri.port or PORTS[transport]))


# ---- the plan ----------------------------------------------------------------------------------------------------------


def plan(wish: Wish, known: Known, chance: random.Random) -> tuple[list[Target], list[Question]]:
    """The targets, best first; or the questions whose answers are needed before they can be named."""
    if wish.port is not None or not wish.srv:
        return _by_address([(wish.default, wish.host, wish.port or PORTS[wish.default])], wish, known)
    services, missing = _services(wish, known)
    if missing:
        return [], missing
    places: list[tuple[Transport, str, int]] = []
    offered = False
    for name, transport in services:
        servers = known(Question(name, "SRV"))
        if servers is None:
            missing.append(Question(name, "SRV"))
            continue
        offered = offered or bool(servers)
        places += [(transport, server.host, server.port) for server in by_weight(servers, chance) if server.host]
    if missing:
        return [], missing
    if not places and not offered:
        places = [(wish.default, wish.host, PORTS[wish.default])]
    return _by_address(places[:MAXIMUM], wish, known)


def _services(wish: Wish, known: Known) -> tuple[list[tuple[str, Transport]], list[Question]]:
    """Names to ask for SRV with their transports, in the order of preference; or what is to be asked first."""
    if wish.transport is not None:
        return [(f"{SRV_NAMES[wish.transport]}.{wish.host}", wish.transport)], []
    if wish.naptr:
        question = Question(wish.host, "NAPTR")
        records = known(question)
        if records is None:
            return [], [question]
        named = _published(records, wish)
        if named:
            return named, []
    return _guessed(wish, known)


def _published(records: Iterable[Service], wish: Wish) -> list[tuple[str, Transport]]:
    """What NAPTR offers that we can do: all of it, for what comes later is where to go when what comes first is dead."""
    named = []
    for record in sorted(records, key=lambda one: (one.order, one.preference)):
        transport = SERVICES.get(record.service.upper())
        if transport not in wish.transports or record.flags.lower() != "s" or not record.replacement:
            continue
        if not wish.secure or transport in SECURE:
            named.append((record.replacement, transport))
    return named


def _guessed(wish: Wish, known: Known) -> tuple[list[tuple[str, Transport]], list[Question]]:
    """Without NAPTR: the first of our transports that has SRV records at all (RFC 3263 4.1).

    WebSocket is not guessed: nobody without a NAPTR record or a `transport` parameter means it.
    """
    kinds = [each for each in wish.transports if each not in ("WS", "WSS") and (not wish.secure or each in SECURE)]
    asked = [(Question(f"{SRV_NAMES[kind]}.{wish.host}", "SRV"), kind) for kind in kinds]
    missing = [question for question, _kind in asked if known(question) is None]
    if missing:
        return [], missing
    return [(question.name, kind) for question, kind in asked if known(question)][:1], []


def _by_address(
    places: Sequence[tuple[Transport, str, int]], wish: Wish, known: Known
) -> tuple[list[Target], list[Question]]:
    missing: dict[Question, None] = {}
    found: dict[Target, None] = {}
    for transport, host, port in places:
        own = numeric(host)
        for family in wish.families:
            question = Question(host, family)
            addresses = ([own] if (":" in own) == (family == "AAAA") else []) if own else known(question)
            if addresses is None:
                missing[question] = None
            else:
                found.update((Target(transport, (address, port)), None) for address in addresses)
    return ([], list(missing)) if missing else (list(found)[:MAXIMUM], [])


def by_weight(servers: Iterable[Server], chance: random.Random) -> list[Server]:
    """In the order to try them (RFC 2782): by priority; among equals at random, a weight of 3 three times as often first."""
    ordered: list[Server] = []
    # Those of weight 0 first: they have a small chance too.
    rest = sorted(servers, key=lambda one: (one.priority, one.weight))
    while rest:
        best = [one for one in rest if one.priority == rest[0].priority]
        drawn = chance.randint(0, sum(one.weight for one in best))
        for one in best:
            drawn -= one.weight
            if drawn <= 0:
                break
        ordered.append(one)
        rest.remove(one)
    return ordered
