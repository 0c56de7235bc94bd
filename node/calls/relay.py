"""Small requests in a dialog that are passed on to the other leg with their bodies, and answered with its answer.

INFO is read on the way, for the events of keys that were pressed. A NOTIFY that tells of a REFER is for whoever of us made
that: `deflect`, or the other leg whose REFER was passed on (`proxy-refer`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from node.calls import announce, deflect, invite, refer
from node.calls.leg import Leg
from node.calls.reply import PATIENCE, REFUSED, answer
from node.sip.errors import TooManyHops
from node.sip.message import Request, Response

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.sip.layer import ServerTransaction
    from node.transport.endpoint import Alarm

PASSED_ON = frozenset(
    (
        "info-package",
        "recv-info",
        "event",
        "subscription-state",
        "content-disposition",
        "content-encoding",
        "call-info",
        "refer-to",
        "referred-by",
        "refer-sub",
        "subject",
    )
)
"Their header fields that go along."

TOLD_BACK = ("Accept", "Accept-Encoding", "Recv-Info", "Allow-Events", "Unsupported", "Retry-After", "Warning")
"Header fields of an answer that say why it was a refusal."
SAID = {**REFUSED, 408: 504}
"What is said instead of some refusals; a 408 is not to be said (RFC 4320)."
_KEYS_PRESSED = ("application/dtmf-relay", "application/dtmf", "application/vnd.nortelnetworks.digits")
UNDERSTOOD = {
    "INFO": (*_KEYS_PRESSED, "application/media_control+xml", "message/update_display", "message/sipfrag"),
    "MESSAGE": ("text/plain", "text/html", "message/cpim"),
}
"What may be said to a leg that nobody is behind."

_DIGIT = re.compile(r"^\s*(?:Signal|d)\s*=\s*([0-9A-D*#!])\s*$", re.IGNORECASE | re.MULTILINE)
_DURATION = re.compile(r"^\s*Duration\s*=\s*(\d{1,5})\s*$", re.IGNORECASE | re.MULTILINE)
_KEYS = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D"}


def pass_on(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """To the partner, if there is one; else it is answered by us."""
    hops = 70 if request.max_forwards is None else request.max_forwards
    if hops == 0:
        answer(call, leg, request, transaction, TooManyHops.status)
        return
    if request.method == "INFO":
        call.tell("RECV_INFO", leg)
        if key := digit_of(request):
            announce.digit(call, leg, *key)
    partner = call.partner(leg)
    if partner is None or partner.dialog is None or not partner.confirmed or partner.flow is None:
        _alone(call, leg, request, transaction)
        return
    extra = [(name, value) for name, value in request.items() if name.lower() in PASSED_ON or _is_foreign(name)]
    relayed = partner.dialog.request(
        request.method,
        contact=call.exchange.contact(partner) if request.method in ("REFER", "NOTIFY") else None,
        headers=[*call.exchange.headers(partner.profile), *_renumbered(leg, extra)],
        body=request.body,
        content_type=request.header("Content-Type") if request.body else None,
        max_forwards=hops - 1,
    )
    if request.method == "REFER":
        # The subscription that it makes has its number there, and another one here.
        partner.variables[f"sip_refer_id_{relayed.cseq.number}"] = str(request.cseq.number)
        call.save()
    passage = Passage(call, leg, request, transaction)
    call.ask(partner, relayed, passage.hear)


def _alone(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """Nobody is behind the leg: 200, as mod_sofia does, but not for what says that it wants to be understood."""
    if request.method == "INFO" and request.header("Info-Package") is not None:
        answer(call, leg, request, transaction, 469, headers=(("Recv-Info", ""),))  # RFC 6086 4.2.2
        return
    understood = UNDERSTOOD.get(request.method, ())
    kind = request.content_type
    strange = understood and request.body and kind not in understood and not kind.startswith("freeswitch/")
    if strange and not invite.may_be_dropped(request):
        answer(call, leg, request, transaction, 415, headers=(("Accept", ", ".join(understood)),))
        return
    answer(call, leg, request, transaction, 200)


def on_notify(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """A NOTIFY in a dialog."""
    package, _, _ = (request.header("Event") or "").partition(";")
    match package.strip().lower():
        case "":
            answer(call, leg, request, transaction, 489, headers=(("Allow-Events", "refer"),))
        case "refer" if not any(name.startswith("sip_refer_id_") for name in leg.variables):
            _on_reported(call, leg, request, transaction)
        case _:
            pass_on(call, leg, request, transaction)


def _on_reported(call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
    """What became of a REFER of ours."""
    status = refer.reported(request)
    headers = [
        ("content-type", request.content_type),
        ("event-package", "refer"),
        ("event-id", (request.header("Event") or "").partition("id=")[2]),
        ("from", str(request.from_.uri)),
        ("from-tag", request.from_tag),
        ("to", str(request.to.uri)),
        ("to-tag", request.to_tag),
        ("call-id", request.call_id),
        ("subscription-substate", (request.header("Subscription-State") or "").partition(";")[0]),
    ]
    announce.referral(call, leg, headers, request.body.decode("utf-8", "surrogateescape"))
    answer(call, leg, request, transaction, 200)
    if status >= 200:
        leg.variables["sip_refer_target_status_code"] = str(status)
        leg.variables["sip_refer_reply"] = request.body.decode("utf-8", "surrogateescape").strip()
        call.save()
        deflect.heard(call, leg, status)


def _renumbered(leg: Leg, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The Event of a passed NOTIFY with the number that the REFER had on the other side."""
    found = []
    for name, value in headers:
        package, mark, number = value.partition(";id=")
        if name.lower() == "event" and mark:
            value = f"{package};id={leg.variables.get(f'sip_refer_id_{number}', number)}"
        found.append((name, value))
    return found


def digit_of(request: Request) -> tuple[str, int] | None:
    """The key and the milliseconds that an INFO tells of."""
    text = request.body[:256].decode("utf-8", "replace")
    match request.content_type:
        case "application/dtmf-relay" | "application/vnd.nortelnetworks.digits":
            found, duration = _DIGIT.search(text), _DURATION.search(text)
            milliseconds = int(duration[1]) if duration else 250
            return (found[1].upper(), milliseconds) if found else None
        case "application/dtmf":
            key = text.strip()
            key = _KEYS.get(key, key)
            return (key, 250) if re.fullmatch(r"[0-9A-D*#]", key) else None
        case _:
            return None


def _is_foreign(name: str) -> bool:
    name = name.lower()
    return name.startswith("x-") and not name.startswith("x-fs-")


class Passage:
    """A request that was passed on and waits for its answer; late is worse than none (`reply.PATIENCE`)."""

    __slots__ = ("_alarm", "_call", "_leg", "_request", "_transaction")

    def __init__(self, call: Call, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
        self._call = call
        self._leg = leg
        self._request = request
        self._transaction = transaction
        self._alarm: Alarm | None = call.later(PATIENCE, self._give_up)

    def hear(self, partner: Leg, status: int, response: Response | None) -> None:
        """What the other leg answers."""
        if status < 200:
            return
        told = [
            (name, value) for name in TOLD_BACK if response is not None and (value := response.header(name)) is not None
        ]
        self._answer(504 if response is None else SAID.get(status, status), tuple(told))
        here = partner in self._call.legs and partner.confirmed and not partner.cause
        if status == 481 and self._request.method != "NOTIFY" and self._leg.live and here:
            self._call.lost(partner, "NORMAL_TEMPORARY_FAILURE")

    def _give_up(self) -> None:
        self._answer(504, ())

    def _answer(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        if self._alarm is None:
            return
        self._alarm.cancel()
        self._alarm = None
        if not self._leg.live:
            status, headers = 487, ()  # it has hung up meanwhile (RFC 3261 15.1.2)
        answer(self._call, self._leg, self._request, self._transaction, status, headers=headers)
