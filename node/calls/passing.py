"""Header fields that go through a bridge: in by variables, out by variables, with mod_sofia's names (pure).

`sip_h_` from INVITE to INVITE, `sip_ph_` and `sip_rh_` from responses to responses, `sip_bye_h_` from BYE to BYE; Reason both
ways; History-Info, Call-Info, Alert-Info and Referred-By by variables of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from node.calls import identity
from node.calls.leg import Leg, mentions, truth
from node.sip.message import Message, Request, Response

NAMED = (
    ("History-Info", "sip_history_info"),
    ("Call-Info", "sip_call_info"),
    ("Alert-Info", "alert_info"),
    ("Referred-By", "sip_h_Referred-By"),
)
"Fields with a variable of their own; all but the last have it in mod_sofia too."
COPIED = tuple(variable for _name, variable in NAMED[:3])

FS_SUPPORT, FS_VARIABLE = "x-fs-support", "sip_x_fs_support"
"What another FreeSWITCH says that it understands."

_IMPORTED = ("x-", "p-", "on", "k-", "user-to-user", "accept-language", "diversion")
_IMPORTED_LINE = re.compile(r"\n((?:" + "|".join(_IMPORTED) + r")[^:\r\n]*):([^\r\n]*)", re.IGNORECASE)
_FROM_OTHERS = ("x-", "p-", "on")
_LINE_FROM_OTHERS = re.compile(r"\n[ \t]*((?:" + "|".join(_FROM_OTHERS) + r")[^:\r\n]*):([^\r\n]*)", re.IGNORECASE)
_NOT_IMPORTED = frozenset(("organization", "p-asserted-identity", "p-preferred-identity"))


# ---- from the INVITE -----------------------------------------------------------------------------------------------------


def arrive(variables: dict[str, str], request: Request) -> None:
    """Keep what an INVITE brings for the next one; of several foreign fields alike the second one is `-1`."""
    for name, variable in NAMED:
        if request.header(name) is not None:
            variables[variable] = ", ".join(value for key, value in request.items() if key.lower() == name.lower())
    for name, value in _IMPORTED_LINE.findall(request.text):
        name, value = name.strip(), value.strip()
        low = name.lower()
        if low == FS_SUPPORT:
            variables[FS_VARIABLE] = value
        elif _is_imported(low):
            key, number = f"sip_h_{name}", 0
            while key in variables:
                number += 1
                key = f"sip_h_{name}-{number}"
            variables[key] = value


def inherited(caller: Leg) -> dict[str, str]:
    """What of it a leg gets that is called for this one; less, if that one wants to be unknown."""
    given = caller.variables
    found = {name: given[name] for name in COPIED if name in given}
    if mentions(given, "sip_h_") and copies(given):
        found.update([(name, value) for name, value in given.items() if name[:6] == "sip_h_"])
    if found and (withheld := identity.withheld(given)):
        hidden = {variable for name, variable in NAMED if name.lower() in withheld}
        found = {name: value for name, value in found.items() if not _is_hidden(name, hidden, withheld)}
    return found


def _is_hidden(variable: str, hidden: set[str], withheld: frozenset[str]) -> bool:
    return variable in hidden or variable.removeprefix("sip_h_").partition("-1")[0].lower() in withheld


def named(leg: Leg) -> list[tuple[str, str]]:
    """The fields with variables of their own, as our INVITE says them; `sip_h_` of the same name wins."""
    variables = leg.variables
    return [
        (name, variables[variable])
        for name, variable in NAMED[:3]
        if variable in variables and f"sip_h_{name}" not in variables
    ]


def _is_imported(name: str) -> bool:
    return name not in _NOT_IMPORTED and not name.startswith("x-fs-")


# ---- from responses and BYE ----------------------------------------------------------------------------------------------


def foreign(message: Message, prefix: str) -> list[tuple[str, str]]:
    """The foreign fields of a response or BYE as variables of this prefix."""
    lines = _LINE_FROM_OTHERS.findall(message.text)
    named = [(name.strip(), value.strip()) for name, value in lines]
    return [(prefix + name, value) for name, value in named if _is_imported(name.lower())]


def from_response(response: Response, leg: Leg, caller: Leg | None) -> None:
    """What a callee's response brings, for what its caller will be told."""
    found = foreign(response, "sip_ph_" if response.status < 200 else "sip_rh_")
    if "X-FS-Support" in response.text:
        leg.variables[FS_VARIABLE] = response.header(FS_SUPPORT) or ""
    leg.variables.update(found)
    if caller is None:
        return
    if found and truth(caller.variables.get("sip_copy_custom_headers", "true")):
        caller.variables.update(found)
    if response.status >= 300:
        reason(response, leg, caller)


def reason(message: Request | Response, leg: Leg, *partners: Leg) -> None:
    """The Reason (RFC 3326) of a BYE, CANCEL or failure, for what the others are told: `sip_reason`."""
    values = message.headers("Reason")
    if values:
        for one in (leg, *partners):
            one.variables["sip_reason"] = ", ".join(values)


def leave(request: Request, leg: Leg, partner: Leg | None) -> None:
    """What a BYE brings, for the BYE to the other leg."""
    found = foreign(request, "sip_bye_h_")
    leg.variables.update(found)
    if partner is None:
        return
    reason(request, leg, partner)
    if found and copies(leg.variables):
        partner.variables.update(found)


def copies(variables: Mapping[str, str]) -> bool:
    """`sip_copy_custom_headers`, true unless somebody says otherwise."""
    return truth(variables.get("sip_copy_custom_headers", "true"))
