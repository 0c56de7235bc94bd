"""Speaks of SUBSCRIBE, NOTIFY and PUBLISH: for `sofia loglevel nea` and `sofia global debug presence|sla`."""

from __future__ import annotations

from node.debug import nea, presence, sla
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.layer import brief
from node.sip.mask import masked, readable, shown
from node.sip.message import Request

METHODS = frozenset(("SUBSCRIBE", "NOTIFY", "PUBLISH"))
SHARED_LINES = frozenset(("call-info", "line-seize"))
"Event packages of shared line appearances; all others are presence."


def tell(request: Request, flow: Flow) -> None:
    """One of them has come in; nothing of it has been judged yet."""
    if nea.level >= 5:
        nea.say("%s, event %s, from %s", brief(request), shown(event_of(request)), flow)
    if nea.level >= 9:
        nea.say("%s", readable(masked(request.encode())))
    area = sla if is_shared_line(request) else presence
    if area.level:
        expires = shown(request.header("Expires") or "")
        area.say("%s, event %s, expires %s, from %s", brief(request), shown(event_of(request)), expires, flow)
        if request.body:
            area.say("%s", readable(masked(request.encode())))


def event_of(request: Request) -> str:
    try:
        return request.header("Event") or ""
    except SipError:
        return ""


def is_shared_line(request: Request) -> bool:
    package, *params = (part.strip().lower() for part in event_of(request).split(";"))
    return package in SHARED_LINES or (package == "dialog" and any(each.partition("=")[0] == "sla" for each in params))
