"""`${...}` in what an application is given, where an API call inside may have to wait for the registrations.

The text is expanded once to see what is asked, the registrations are looked up, and it is expanded again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import flows
from node.calls.leg import Leg
from node.dialplan.expand import expand
from node.registrar.outbound import uri_in
from store.records import Registration

if TYPE_CHECKING:
    from node.calls.call import Call

Lookup = Callable[[str], str | None]

_FIELDS: dict[str, Callable[[Leg], str]] = {
    "caller_id_name": lambda leg: leg.caller_id_name,
    "caller_id_number": lambda leg: leg.caller_id_number,
    "ani": lambda leg: leg.caller_id_number,
    "callee_id_name": lambda leg: leg.callee_id_name,
    "callee_id_number": lambda leg: leg.callee_id_number,
    "destination_number": lambda leg: leg.destination,
    "network_addr": lambda leg: leg.network_addr,
    "username": lambda leg: leg.username,
    "uuid": lambda leg: leg.uuid,
    "context": lambda leg: leg.context,
    "dialplan": lambda leg: leg.dialplan,
    "chan_name": lambda leg: leg.name,
    "channel_name": lambda leg: leg.name,
    "source": lambda leg: "mod_sofia",
}


def lookup(call: Call, leg: Leg, local: dict[str, str] | None = None) -> Lookup:
    """How names are resolved for a leg: variables, caller profile, globals."""
    everywhere = call.exchange.configuration.globals

    def look(name: str) -> str | None:
        if local is not None and name in local:
            return local[name]
        value = leg.variables.get(name)
        if value is None and (field := _FIELDS.get(name.lower())) is not None:
            value = field(leg)
        if value is None:
            value = everywhere.get(name)
        return value

    return look


class Expansion:
    """One text on its way; `then` gets it expanded, through the call's door or at once."""

    __slots__ = ("_asked", "_call", "_found", "_left", "_look", "_text", "_then")

    def __init__(self, call: Call, text: str, look: Lookup, then: Callable[[str], None]) -> None:
        self._call = call
        self._text = text
        self._look = look
        self._then = then
        self._found: dict[str, str] = {}
        self._asked: list[str] = []
        self._left = 0

    def run(self) -> None:
        if "${" not in self._text:
            self._then(self._text)
            return
        self._asked = []
        text = expand(self._text, self._look, self._api)
        if not self._asked:
            self._then(text)
            return
        self._left = len(self._asked)
        for arguments in self._asked:
            self._find(arguments)

    def _api(self, name: str, arguments: str) -> str:
        match name:
            case "sofia_contact":
                if arguments not in self._found and arguments not in self._asked:
                    self._asked.append(arguments)
                return self._found.get(arguments, "")
            case "group_call":
                return group_members(self._call, arguments)
            case "strftime":
                return time.strftime(arguments or "%Y-%m-%d %H:%M:%S", time.localtime(self._call.exchange.wall()))
            case "user_data":
                return _user_data(self._call, arguments)
            case _:
                return ""

    def _find(self, arguments: str) -> None:
        profile, user, domain = contact_query(self._call, arguments, self._look)
        found = partial(self._call.post, self._on_found, arguments)
        self._call.exchange.location.find(user, domain, profile, found)

    def _on_found(self, arguments: str, registrations: list[Registration]) -> None:
        self._found[arguments] = contacts(self._call, registrations)
        self._left -= 1
        if self._left == 0:
            self.run()


def contact_query(call: Call, arguments: str, look: Lookup) -> tuple[str | None, str, str]:
    """`[profile/]user[@domain][/concat][~agent]`: profile (None for all), user and domain."""
    text = arguments.partition("~")[0]
    head, slash, rest = text.partition("/")
    profile: str | None = None
    if slash and "@" not in head:
        profile, text = (None if head == "*" else head), rest
    user, _, domain = text.partition("/")[0].partition("@")
    settings = call.exchange.profile(profile) if profile else None
    if settings is not None:
        profile = settings.name
    return profile, user, domain or look("domain_name") or call.exchange.configuration.globals.get("domain", "")


def contacts(call: Call, registrations: list[Registration]) -> str:
    """What `sofia_contact` says: the bindings as dial strings; remembers them for their flows."""
    for registration in registrations:
        call.registrations[uri_in(registration.contact)] = registration
    found = [f"sofia/{each.profile_name}/{uri_in(each.contact)}" for each in flows.called(call, registrations)]
    return ",".join(found) or "error/user_not_registered"


def group_members(call: Call, arguments: str) -> str:
    """`group@domain[+A|+F|+E]` as a dial string of its users: all at once, one after the other, or side by side."""
    text, _, order = arguments.partition("+")
    group, _, domain = text.partition("@")
    domain = domain or call.exchange.configuration.globals.get("domain", "")
    separator = {"F": "|", "E": ":_:"}.get(order[:1].upper(), ",")
    users = call.exchange.directory.users(domain, group)
    return separator.join(f"user/{user.id}@{user.domain}" for user in users) or "error/NO_ROUTE_DESTINATION"


def _user_data(call: Call, arguments: str) -> str:
    """`user_data 1001@example.org var|param|attr NAME`."""
    who, _, rest = arguments.strip().partition(" ")
    kind, _, name = rest.strip().partition(" ")
    name_of, _, domain = who.partition("@")
    user = call.exchange.directory.find(name_of, domain)
    if user is None:
        return ""
    match kind:
        case "var":
            return user.variables.get(name)
        case "param":
            return user.params.get(name)
        case _:
            return user.id if name == "id" else ""
