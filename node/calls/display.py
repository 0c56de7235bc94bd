"""Who is at the other end now: told to a leg that is bridged with somebody else than it called, and taken from one that says so.

By UPDATE with P-Asserted-Identity to whoever allows it (RFC 3311, RFC 5876), by INFO to FreeSWITCH and to snom, each in its own
words, as mod_sofia does it. A re-INVITE that is due anyway says it too.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from node.calls import announce, identity, invite, passing, retarget, timer
from node.calls.leg import Leg
from node.calls.reply import own_user
from node.sip.fields import quote
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.calls.call import Call

Headers = list[tuple[str, str]]
NAME, NUMBER = "last_sent_callee_id_name", "last_sent_callee_id_number"
"Variables of a leg: whom it was told last, so that it is not told again."

_SNOM = re.compile(r"snom[^/]*/(\d+)\.(\d+)\.(\d+)", re.IGNORECASE)
_SNOM_TURNED = (8, 4, 24)
"From this version on snom's phones want the other party in From."
_ID = "P-Asserted-Identity"


# ---- telling -------------------------------------------------------------------------------------------------------------


def due(call: Call) -> None:
    """The record is to say, from its next put on, that the bridged legs may not know of each other."""
    call.progress["display"] = "true"


def tell(call: Call) -> None:
    """Tell both bridged legs who the other one is, if that is due."""
    if call.progress.pop("display", "") and len(call.bridged) == 2:
        first, second = call.bridged
        show(call, first, second)
        show(call, second, first)


def show(call: Call, leg: Leg, other: Leg) -> None:
    """Tell a leg who is at its other end, in the way it understands; not what it was told already."""
    shown = _news(call, leg, other)
    if shown is None or leg.dialog is None or leg.flow is None:
        return
    headers = [*call.exchange.headers(leg.profile)]
    contact = call.exchange.contact(leg, own_user(leg))
    then = partial(_on_answer, call)
    name, number = shown
    if "update_display" in leg.variables.get(passing.FS_VARIABLE, ""):
        headers += [("X-FS-Display-Name", name), ("X-FS-Display-Number", number)]
        call.ask(leg, leg.dialog.request("INFO", headers=[*headers, ("Content-Type", "message/update_display")]), then)
    elif "snom" in leg.user_agent.lower():
        body = _for_snom(leg.user_agent, name, number).encode("utf-8", "surrogateescape")
        call.ask(leg, leg.dialog.request("INFO", headers=headers, body=body, content_type="message/sipfrag"), then)
    elif "UPDATE" in leg.variables.get("sip_allow", ""):
        headers += [*timer.asking(call, leg), (_ID, _field(call, leg, name, number))]
        call.ask(leg, leg.dialog.request("UPDATE", contact=contact, headers=headers), then)
    else:
        return
    _note(call, leg, other, name, number)


def said_along(call: Call, leg: Leg, other: Leg) -> Headers:
    """The same as header fields of a re-INVITE that is due anyway."""
    shown = _news(call, leg, other) if "display" in call.progress else None
    if shown is None or passing.FS_VARIABLE in leg.variables or "snom" in leg.user_agent.lower():
        return []
    _note(call, leg, other, *shown)
    return [(_ID, _field(call, leg, *shown))]


def _news(call: Call, leg: Leg, other: Leg) -> tuple[str, str] | None:
    """Name and number that the leg is to show; None if it knows, or is not to be told."""
    settings = call.exchange.profile(leg.profile)
    wanted = settings is not None and settings.send_display_update and settings.allow_update
    if not wanted or not leg.confirmed or leg.cause or leg.is_true("ignore_display_updates"):
        return None
    name, number = identity.of(other)
    if other.direction == "outbound" and name == invite.UNNAMED:
        name, number = known_as(call, other)
    elif other.direction == "inbound":
        privacy = identity.privacy_of(other.variables)
        number = "anonymous" if privacy.hide_number else number
        name = "Anonymous" if privacy.hide_name or privacy.hide_number else name
    if not number or (name, number) == (leg.variables.get(NAME), leg.variables.get(NUMBER)):
        return None
    return name or number, number


def known_as(call: Call, leg: Leg) -> tuple[str, str]:
    """Name and number of somebody who was called, by the directory where that knows it."""
    variables = leg.variables
    user = call.exchange.directory.find(variables.get("dialed_user", ""), variables.get("dialed_domain", ""))
    given = user.variables if user is not None else {}
    number = given.get("effective_caller_id_number") or variables.get("dialed_user") or leg.callee_id_number
    return given.get("effective_caller_id_name") or number, number


def _field(call: Call, leg: Leg, name: str, number: str) -> str:
    assert leg.flow is not None
    if number == "anonymous":
        return identity.ANONYMOUS
    host = call.exchange.endpoint.address(leg.flow)[0]
    return f"{quote(name)} <sip:{number}@{f'[{host}]' if ':' in host else host}>"


def _for_snom(agent: str, name: str, number: str) -> str:
    found = _SNOM.search(agent)
    version = tuple(int(part) for part in found.groups()) if found is not None else (0,)
    party = f"{quote(name)} {number}"
    return f"From: {party}\r\nTo:\r\n" if version >= _SNOM_TURNED else f"From:\r\nTo: {party}\r\n"


def _note(call: Call, leg: Leg, other: Leg, name: str, number: str) -> None:
    leg.variables[NAME], leg.variables[NUMBER] = name, number
    announce.displayed(call, leg, other, name, number)
    call.save()


def _on_answer(call: Call, leg: Leg, status: int, response: Response | None) -> None:
    """It may refuse to be told; that its dialog is gone, it tells us."""
    if status < 200 or not leg.confirmed or response is None:
        return
    if status == 481:
        call.lost(leg, "NORMAL_TEMPORARY_FAILURE")
    elif status < 300 and response.cseq.method == "UPDATE":
        retarget.follow(call, leg, response)
        timer.agreed(call, leg, response)
        call.save()


# ---- being told ------------------------------------------------------------------------------------------------------------


def heard(call: Call, leg: Leg, message: Request | Response) -> None:
    """A leg may say in a re-INVITE, UPDATE or answer who it is by now; its partner is told."""
    found = _identity(message)
    if found is None or leg.is_true("sip_ignore_remote_cid") or leg.is_true("ignore_display_updates"):
        return
    if found == identity.of(leg) or not _trusted(call, leg):
        return
    name, number = found
    if leg.direction == "inbound":
        leg.caller_id_name, leg.caller_id_number = name, number
    else:
        leg.callee_id_name, leg.callee_id_number = name, number
    partner = call.partner(leg)
    announce.renamed(call, leg, partner, name, number)
    if partner is not None:
        partner.callee_id_name, partner.callee_id_number = name, number
        show(call, partner, leg)


def _identity(message: Request | Response) -> tuple[str, str] | None:
    for field in (_ID, "Remote-Party-ID"):
        said = identity.said(message, field) if message.header(field) is not None else None
        if said is not None and said.uri.user:
            return said.display or said.uri.user, said.uri.user
    return None


def _trusted(call: Call, leg: Leg) -> bool:
    """Whom we called may say who it is; a caller, if it proved that, or nobody has to (RFC 3325 5)."""
    settings = call.exchange.profile(leg.profile)
    if leg.direction == "outbound" or settings is None:
        return True
    return not settings.auth_calls or leg.variables.get("sip_authorized") == "true"
