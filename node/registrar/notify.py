"""The NOTIFY that makes a phone read its configuration again, or restart: each make listens to another event."""

from __future__ import annotations

import os

from node.config.profile import ProfileSettings
from node.registrar.binding import destination
from node.sip import compose
from node.sip.flow import Flow
from node.sip.message import Request, Response
from node.sip.uri import Uri
from node.transport.attempt import Attempt
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


def check_sync(endpoint: Endpoint, record: Registration, settings: ProfileSettings) -> None:
    """Send it, out of any dialog, with the registration's Call-ID. Nobody waits for the answer."""
    event, kind, body = notification(record)
    where = destination(record.contact)
    aor = f"<sip:{record.sip_user}@{record.sip_host}>"
    tag, cseq = os.urandom(8).hex(), int.from_bytes(os.urandom(3), "big") + 1

    def write(flow: Flow) -> Request:
        return compose.request(
            "NOTIFY",
            where.uri,
            from_=f"{aor};tag={tag}",
            to=aor,
            call_id=record.call_id,
            cseq=cseq,
            routes=where.routes,
            contact=endpoint.contact(flow, settings.contact_user),
            headers=[("Event", event), ("Subscription-State", "terminated;reason=noresource")],
            body=body,
            content_type=kind,
        )

    flow = Flow.from_record(record.flow) if record.flow is not None else None
    if flow is not None and (flow.transport != "UDP" or where.hop):
        Attempt(endpoint, record.profile_name, write, _nobody_waits).on_located([flow])
        return
    hop = where.hop or (where.routes[0].strip("<>") if where.routes else where.uri)
    endpoint.request_to(Uri.parse(hop), record.profile_name, write, _nobody_waits)


def notification(record: Registration) -> tuple[str, str, bytes]:
    """Event, Content-Type and body for the make of the phone."""
    agent = record.user_agent.lower()
    event = next((event for part, event in EVENTS if part in agent), "check-sync")
    if event != "service-control":
        return event, "application/simple-message-summary", b""
    stamps = [f"{what}VersionStamp={{0000000000000000}}" for what in ("Config", "Dialplan", "Softkey")]
    body = "\n".join(["action=restart", f"RegisterCallId={{{record.call_id}}}", *stamps])
    return event, "text/plain", body.encode()


def _nobody_waits(_response: Response | None) -> None:
    """Whether the phone heard it, it alone knows."""
