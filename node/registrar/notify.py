"""The NOTIFY that makes a phone read its configuration again, or restart: each make listens to another event."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

from node.config.profile import ProfileSettings
from node.registrar.binding import destination
from node.sip import compose
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.layer import ClientTransaction
from node.sip.message import Request
from node.sip.uri import Uri
from node.transport.endpoint import Endpoint
from store.records import Registration

EVENTS = (
    ("snom", "check-sync;reboot=true"),
    ("yealink", "check-sync;reboot=true"),
    ("linksys/spa8000", "check-sync"),
    ("linksys", "reboot_now"),
    ("spa", "reboot"),
    ("cisco-cp7960g", "check-sync"),
    ("cisco-cp7940g", "check-sync"),
    ("cisco", "service-control"),
)
"The first that the User-Agent contains decides; `check-sync` for all others (Polycom among them)."


def check_sync(
    endpoint: Endpoint, record: Registration, settings: ProfileSettings, sent: Callable[[ClientTransaction], None]
) -> None:
    """Send it, out of any dialog, with the registration's Call-ID."""
    event, kind, body = notification(record)
    where = destination(record.contact)
    aor = f"<sip:{record.sip_user}@{record.sip_host}>"
    flow = Flow.from_record(record.flow) if record.flow is not None else None
    transport = flow.transport if flow is not None else "UDP"
    request = compose.request(
        "NOTIFY",
        where.uri,
        from_=f"{aor};tag={os.urandom(8).hex()}",
        to=aor,
        call_id=record.call_id,
        cseq=int.from_bytes(os.urandom(3), "big") + 1,
        routes=where.routes,
        contact=endpoint.contact(record.profile_name, transport, settings.contact_user),
        headers=[("Event", event), ("Subscription-State", "terminated;reason=noresource")],
        body=body,
        content_type=kind,
    )
    if flow is not None and (flow.transport != "UDP" or where.hop):
        sent(endpoint.request(request, flow))
        return
    hop = where.hop or (where.routes[0].strip("<>") if where.routes else where.uri)
    endpoint.locate(Uri.parse(hop), record.profile_name, partial(_located, endpoint, request, sent))


def notification(record: Registration) -> tuple[str, str, bytes]:
    """Event, Content-Type and body for the make of the phone."""
    agent = record.user_agent.lower()
    event = next((event for part, event in EVENTS if part in agent), "check-sync")
    if event != "service-control":
        return event, "application/simple-message-summary", b""
    stamps = [f"{what}VersionStamp={{0000000000000000}}" for what in ("Config", "Dialplan", "Softkey")]
    body = "\n".join(["action=restart", f"RegisterCallId={{{record.call_id}}}", *stamps])
    return event, "text/plain", body.encode()


def _located(
    endpoint: Endpoint,
    request: Request,
    sent: Callable[[ClientTransaction], None],
    flows: list[Flow] | SipError,
) -> None:
    if not isinstance(flows, SipError):
        sent(endpoint.request(request, flows[0]))
