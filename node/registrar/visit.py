"""One REGISTER on its way through the registrar, and the bindings it concerns (pure)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from node.config.profile import ProfileSettings
from node.registrar import outbound
from node.registrar.admission import Admission
from node.registrar.binding import wire_uri
from node.registrar.wish import Wanted, Wish
from node.sip.errors import OutOfOrder
from node.sip.flow import Flow
from node.sip.layer import ServerTransaction
from node.sip.message import Request
from store.records import Registration

Granted = tuple[Registration, int, bool]
"Record, granted seconds, and whether it was there before."


class Visit:
    """One REGISTER on its way through the registrar: what came, who sent it, what it asks for."""

    __slots__ = ("admission", "call_id", "cseq", "flow", "request", "settings", "transaction", "wish")

    def __init__(
        self,
        request: Request,
        transaction: ServerTransaction,
        flow: Flow,
        *,
        settings: ProfileSettings,
        admission: Admission,
        wish: Wish,
    ) -> None:
        self.request = request
        self.transaction = transaction
        self.flow = flow
        self.settings = settings
        self.admission = admission
        self.wish = wish
        self.call_id = request.call_id
        self.cseq = request.cseq.number


class Change(NamedTuple):
    """What one REGISTER does to the table."""

    puts: list[Granted]
    removes: list[Registration]


# ---- which bindings it concerns --------------------------------------------------------------------------------------


def matching(visit: Visit, wanted: Wanted, bindings: list[Registration]) -> list[Registration]:
    """The bindings that this Contact replaces or removes."""
    mode = visit.wish.mode
    if not bindings:
        return []
    if wanted.reg_id:
        return _matching_flow(visit.wish, wanted, bindings)
    if mode == "":
        return bindings
    call_id = visit.call_id
    if mode == "call-id":
        return [each for each in bindings if each.call_id == call_id]
    stored = wanted.stored
    # A NAT that gave the phone another port changes fs_path, and with it the stored contact: still the same phone.
    return [
        each
        for each in bindings
        if each.contact == stored or (each.call_id == call_id and wire_uri(each.contact) == wire_uri(stored))
    ]


def _matching_flow(wish: Wish, wanted: Wanted, bindings: list[Registration]) -> list[Registration]:
    """RFC 5626 6: instance and reg-id together name the binding, whatever address and Call-ID it has now.

    Where a user may have one phone only, the other flows of this phone stay.
    """
    if wish.mode == "" and wanted.expires:
        others = [each for each in bindings if each.instance != wanted.instance or not each.reg_id]
    else:
        others = [each for each in bindings if each.contact == wanted.stored]
    same = [each for each in bindings if (each.instance, each.reg_id) == (wanted.instance, wanted.reg_id)]
    return same + [each for each in others if each not in same]


def judge_order(visit: Visit, known: Iterable[Registration]) -> None:
    """RFC 3261 10.3 step 7. An equal CSeq is a repetition, perhaps of what a predecessor stored and did not answer."""
    for each in known:
        if visit.cseq < each.cseq and each.call_id == visit.call_id:
            raise OutOfOrder(f"CSeq {visit.cseq} after {each.cseq}")


def former(record: Registration, bindings: Iterable[Registration]) -> Registration | None:
    """The binding in whose place a record comes: of those of its address of record the one with the same natural key."""
    contact, profile, host = record.contact, record.profile_name, record.sip_host
    for each in bindings:
        if each.contact == contact and each.profile_name == profile and each.sip_host == host:
            return each
    return None


def carry_over(record: Registration, known: Registration) -> None:
    """What a refresh keeps: the state of the OPTIONS pings, what a newer release knows of it; and the version must grow."""
    if record.version <= known.version:
        record.version = known.version + 1
    record.ping_status = known.ping_status
    record.ping_count = known.ping_count
    record.ping_time = known.ping_time
    record.rpid = known.rpid
    record.beyond = known.beyond


# ---- what it is told -------------------------------------------------------------------------------------------------


def extensions(visit: Visit) -> str:
    """What a 200 says of Path (RFC 3327 5.3), Service-Route (RFC 3608 6.3) and flows (RFC 5626 6)."""
    lines = ""
    request, settings = visit.request, visit.settings
    if "path" in request.fields and any(tag.lower() == "path" for tag in request.headers("Supported")):
        lines += "".join([f"Path: {value}\r\n" for value in request.headers("Path")])
    for value in settings.service_route:
        lines += f"Service-Route: {value}\r\n"
    for each in visit.wish.contacts:
        if each.reg_id and each.expires:
            lines += f"Require: {outbound.TAG}\r\n"
            if settings.flow_timer:
                lines += f"Flow-Timer: {settings.flow_timer}\r\n"
            break
    return lines
