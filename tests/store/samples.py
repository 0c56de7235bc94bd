"""Records to store."""

from __future__ import annotations

from typing import Any

from store.records import (
    CallRecord,
    DialogRecord,
    FlowRecord,
    LegRecord,
    MediaRecord,
    PendingInvite,
    Registration,
    Step,
)

FAR = 4_000_000_000


def registration(user: str = "1000", **changes: Any) -> Registration:
    fields: dict[str, Any] = {
        "slot": "internal#0",
        "version": 1,
        "call_id": f"call-of-{user}@phone",
        "sip_user": user,
        "sip_host": "example.org",
        "contact": f'"" <sip:{user}@192.0.2.7:5060;transport=udp>',
        "profile_name": "internal",
        "expires": FAR,
        "network_ip": "192.0.2.7",
        "network_port": "5060",
        "flow": FlowRecord(profile="internal", remote_host="192.0.2.7", remote_port=5060),
    }
    return Registration(**(fields | changes))


def leg(uuid: str, call_id: str, **changes: Any) -> LegRecord:
    flow = FlowRecord(profile="internal", remote_host="192.0.2.7", remote_port=5060)
    fields: dict[str, Any] = {
        "uuid": uuid,
        "direction": "inbound",
        "profile": "internal",
        "state": "answered",
        "flow": flow,
        "dialog": DialogRecord(call_id=call_id, local_tag="internal.0-x", remote_tag="y", routes=["<sip:p;lr>"]),
        "invite": PendingInvite(role="server", request=b"INVITE ...", flow=flow, response=b"SIP/2.0 200 OK"),
        "media": MediaRecord(address="192.0.2.1", port=16384, local_sdp="v=0\r\n"),
        "variables": {"sip_h_X-Note": "kept"},
    }
    return LegRecord(**(fields | changes))


def call(uuid: str = "call-1", **changes: Any) -> CallRecord:
    fields: dict[str, Any] = {
        "node": "a",
        "slot": "internal#0",
        "version": 1,
        "uuid": uuid,
        "state": "answered",
        "profile_name": "internal",
        "legs": [leg(f"{uuid}-a", f"{uuid}-a@sip"), leg(f"{uuid}-b", f"{uuid}-b@sip")],
        "steps": [Step("answer"), Step("bridge", "user/1001")],
    }
    return CallRecord(**(fields | changes))
