"""By which of its flows a phone is called (RFC 5626 5.3), and which of a user's phones a GRUU means (RFC 5627)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls.destination import Destination, resolve
from node.calls.leg import Leg
from node.registrar import outbound
from node.registrar.outbound import uri_in
from node.sip.flow import Flow
from store.records import Registration

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.calls.exchange import Exchange

FLOW_FAILED = 430
"RFC 5626 5.3: said by the proxy next to the phone."


def called(call: Call, registrations: list[Registration]) -> list[Registration]:
    """The bindings to be called: each phone once, and only the one that the caller's GRUU names."""
    gr = call.legs[0].variables.get("sip_req_gr") if call.legs else None
    if gr:
        registrations = outbound.of_instance(registrations, gr)
    if any(each.reg_id for each in registrations):
        registrations = outbound.one_flow_each(registrations)
    return without_former(call.exchange, registrations)


def without_former(exchange: Exchange, registrations: list[Registration]) -> list[Registration]:
    """The bindings without those that a phone has left behind: what went to them would reach it twice."""
    if len(registrations) < 2:
        return registrations
    return [each for each in registrations if not _is_left_behind(exchange, each, registrations)]


def _is_left_behind(exchange: Exchange, former: Registration, registrations: list[Registration]) -> bool:
    """Is this of a connection that is gone, and its phone reached by a newer one of these (as `Detour` goes)?"""
    if former.flow is None or not former.flow.connection:
        return False
    flow = Flow.from_record(former.flow)
    newest = exchange.location.newest(flow)
    if newest is None or newest.flow is None or newest.flow.connection == flow.connection:
        return False
    endpoint = exchange.endpoint
    if endpoint.stands(flow) or not endpoint.stands(Flow.from_record(newest.flow)):
        return False
    return any(each.key == newest.key for each in registrations)


def other(call: Call, leg: Leg, failed: Destination | None) -> Destination | None:
    """The same phone by another flow of its, after this one failed; None if there is none that was not tried."""
    binding = call.registrations.get(failed.contact) if failed is not None else None
    if failed is None or binding is None or not binding.reg_id:
        return None
    del call.registrations[failed.contact]
    following = outbound.other_flow(binding, call.registrations.values())
    if following is None:
        return None
    leg.variables["sip_dialed"] = f"{following.profile_name}/{uri_in(following.contact)}"
    found = resolve(call.exchange, leg.variables["sip_dialed"], leg.variables)
    return found if isinstance(found, Destination) else None
