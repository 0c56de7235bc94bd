"""Who calls, and who may know it: Remote-Party-ID, P-Asserted-Identity (RFC 3325), Privacy (RFC 3323); pure.

Precedence and variables are mod_sofia's. What it does not do: where the number is to be hidden our From is anonymous too,
for From is of our own making here, and may have come from an asserted identity.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from node.calls.leg import Leg, truth
from node.sip.errors import Malformed, SipError
from node.sip.fields import NameAddr, quote
from node.sip.message import Message, Request

ANONYMOUS = '"Anonymous" <sip:anonymous@anonymous.invalid>'
"RFC 3323 4.1.1.3."
PROVIDED = frozenset(("none", "critical", "id", "header", "session", "user", "history"))
"""What a Privacy may ask for and gets. `header` and `session` by our nature: neither Via, Contact nor media address of one
side is told to the other."""
HIDING = frozenset(("id", "header", "user"))
REVEALING = ("History-Info", "Call-Info", "Diversion", "Referred-By", "Organization")
"Not passed on for who wants to be unknown (RFC 3323 5.3, RFC 7044 7.2)."

_FIELDS = ("Remote-Party-ID", "P-Asserted-Identity", "P-Preferred-Identity")


class PrivacyUnavailable(SipError):
    """RFC 3323 5.1: what is critical and cannot be done is refused."""

    status = 500
    reason = "Privacy Unavailable"


class Privacy(Struct, frozen=True):
    """What may be shown of a caller: the flags of FreeSWITCH's caller profile."""

    hide_name: bool = False
    hide_number: bool = False
    screen: bool = True


OPEN = Privacy()


# ---- what comes in -------------------------------------------------------------------------------------------------------


def judge(request: Request) -> None:
    """Raises PrivacyUnavailable for what is wanted at all costs, and nobody here knows."""
    wanted = words(request.header("Privacy"))
    if "critical" in wanted and not wanted <= PROVIDED:
        raise PrivacyUnavailable(", ".join(sorted(wanted - PROVIDED)))


def words(text: str | None) -> frozenset[str]:
    """The values of a Privacy field."""
    if not text:
        return frozenset()
    return frozenset(word.strip().lower() for word in text.replace(",", ";").split(";") if word.strip())


def caller(leg: Leg, request: Request, user: str, *, trusted: bool) -> tuple[str, str]:
    """Name and number: of From, over it those of the identity fields, the last one there wins.

    `trusted`: its author proved who it is, or nobody has to on this profile. Else the identity fields mean nothing.
    """
    from_ = request.from_
    name, number = from_.display or user or "unknown", user
    if (asked := request.header("Privacy")) is not None:
        leg.variables["sip_Privacy"] = asked
    if not trusted:
        return name, number
    for field in _FIELDS:
        text = request.header(field)
        if text is None:
            continue
        leg.variables[f"sip_{field}"] = text
        identity = said(request, field)
        if identity is None:
            continue  # an identity nobody can read identifies nobody; the call itself is in order
        number = identity.uri.user or number
        name = identity.display or number
        leg.variables["sip_cid_type"] = "rpid" if field == "Remote-Party-ID" else "pid"
    return name, number


def said(message: Message, field: str) -> NameAddr | None:
    """Whom the first value of an identity field names; None if it names nobody, or cannot be read."""
    values = message.headers(field)
    try:
        return NameAddr.parse(values[0]) if values else None
    except Malformed:
        return None


def privacy_of(variables: Mapping[str, str]) -> Privacy:
    """What a leg asks for: by `origination_privacy`, or as its INVITE said."""
    given = variables.get("origination_privacy")
    if given is not None:
        flags = set(given.lower().replace(",", ":").replace("|", ":").split(":"))
        whole = "full" in flags or "yes" in flags
        return Privacy("hide_name" in flags or whole, "hide_number" in flags or whole, "screen" in flags)
    party, asked = variables.get("sip_Remote-Party-ID"), variables.get("sip_Privacy")
    if party is None and asked is None:
        return OPEN
    hide_name = hide_number = False
    screen = True
    if party is not None:
        try:
            identity = NameAddr.parse(party)
            level = (identity.param("privacy") or "").lower()
            screen = (identity.param("screen") or "").lower() != "no"
        except Malformed:
            level = ""
        hide_name = level in ("full", "yes", "name")
        hide_number = level in ("full", "yes", "number")
    if words(asked) & HIDING:
        hide_name = hide_number = True
    return Privacy(hide_name, hide_number, screen)


# ---- what goes out -------------------------------------------------------------------------------------------------------


def inherited(from_caller: Mapping[str, str]) -> dict[str, str]:
    """What a leg that is called is to keep of its caller's wish."""
    found = privacy_of(from_caller)
    if found == OPEN:
        return {}
    flags = ["screen"] * found.screen + ["hide_name"] * found.hide_name + ["hide_number"] * found.hide_number
    return {"origination_privacy": ":".join(flags) or "none"}


def withheld(variables: Mapping[str, str]) -> frozenset[str]:
    """The header fields, in lower case, that a caller's Privacy keeps from whom it calls."""
    asked = words(variables.get("sip_Privacy"))
    if asked & {"user", "header"}:
        return frozenset(name.lower() for name in REVEALING)
    return frozenset({"history-info"}) if "history" in asked else frozenset()


def anonymous(leg: Leg) -> bool:
    """Whether our From must not say who calls."""
    return privacy_of(leg.variables).hide_number


def asserted(leg: Leg, host: str, kind: str) -> list[tuple[str, str]]:
    """Remote-Party-ID, or P-Asserted-Identity with Privacy, or nothing (`sip_cid_type`, `caller-id-type`)."""
    variables = leg.variables
    privacy = privacy_of(variables)
    number, name = leg.caller_id_number, leg.caller_id_name
    address = f"<sip:{number}@{variables.get('sip_invite_domain', host)}>"
    shown = f"{quote(name)} {address}" if name else address
    match variables.get("sip_cid_type", kind):
        case "pid":
            found = [("P-Asserted-Identity" if privacy.screen else "P-Preferred-Identity", shown)]
            if privacy.hide_number:
                found.append(("Privacy", "id"))
            elif not truth(variables.get("sip_cid_suppress_privacy_none", "")):
                found.append(("Privacy", "none"))
            return found
        case "none":
            return []
        case _:
            level = "full" if privacy.hide_number else "name" if privacy.hide_name else "off"
            screen = "yes" if privacy.screen else "no"
            return [("Remote-Party-ID", f"{shown};party=calling;screen={screen};privacy={level}")]


def of(leg: Leg) -> tuple[str, str]:
    """Name and number of who is at the other end of a leg."""
    if leg.direction == "inbound":
        return leg.caller_id_name, leg.caller_id_number
    return leg.callee_id_name, leg.callee_id_number


def callee(leg: Leg, host: str, kind: str) -> list[tuple[str, str]]:
    """What tells a caller whom it reached (`pass-callee-id`)."""
    number = leg.callee_id_number or leg.destination
    kind = leg.variables.get("sip_cid_type", kind)
    if kind == "none" or not number:
        return []
    shown = f"{quote(leg.callee_id_name or number)} <sip:{number}@{leg.variables.get('sip_to_host', host)}>"
    if kind == "pid":
        return [("P-Asserted-Identity", shown)]
    return [("Remote-Party-ID", f"{shown};party=calling;privacy=off;screen=no")]
