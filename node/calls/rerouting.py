"""Sending an answered leg to the dialplan anew: by REFER, by `uuid_transfer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node.calls import applications, display, union
from node.calls.exchange import new_uuid
from node.calls.leg import Leg

if TYPE_CHECKING:
    from node.calls.call import Call


def reroute(call: Call, leg: Leg, extension: str, dialplan: str, context: str, kind: str) -> bool:
    """The leg leaves what it does and is the first of its call; its steps are those of the extension from now on.

    An empty dialplan or context is the leg's own; `force_transfer_*` variables of the leg win. `kind` goes into its
    history. False if the dialplan has nothing for it, or it was transferred too often: then the call is to be ended.
    """
    union.strip(call)
    call.legs.remove(leg)
    call.legs.insert(0, leg)
    flip(call, leg)
    variables = leg.variables
    counter = "max_session_transfers" if "max_session_transfers" in variables else "max_forwards"
    left = int(variables.get(counter, "70") or 70)
    if left <= 1:
        return False
    variables[counter] = str(left - 1)
    leg.destination = extension
    leg.dialplan = variables.get("force_transfer_dialplan") or dialplan or leg.dialplan or "XML"
    leg.context = variables.get("force_transfer_context") or context or leg.context or "default"
    gone = ("current_application", "current_application_data")  # of what it did before: it has not begun anything new
    for name in ("last_bridge_proto_specific_hangup_cause", "originate_failed_cause", *gone):
        variables.pop(name, None)
    note(call, leg, f"{kind}:{extension}/{leg.context}/{leg.dialplan}")
    return applications.take_route(call, leg)


def flip(call: Call, leg: Leg) -> None:
    """A leg that was called becomes one that calls: its caller ID is who was called."""
    if leg.direction != "outbound":
        return
    leg.caller_id_name, leg.caller_id_number = display.known_as(call, leg)


def note(call: Call, leg: Leg, what: str) -> None:
    """`transfer_source` and `transfer_history`, which grows to an array."""
    source = f"{int(call.exchange.wall())}:{new_uuid()}:{what}"
    before = leg.variables.get("transfer_history", "")
    if before:
        before = before if before.startswith("ARRAY::") else f"ARRAY::{before}"
    leg.variables["transfer_source"] = source
    leg.variables["transfer_history"] = f"{before}|:{source}" if before else source
