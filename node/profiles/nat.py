"""Is there a NAT between us? mod_sofia's tests, which differ for REGISTER and INVITE."""

from __future__ import annotations

from node.config.profile import ProfileSettings
from node.profiles.access import Access
from node.sip.flow import Flow
from node.sip.message import Request
from node.sip.uri import Uri


def register_reason(request: Request, flow: Flow, settings: ProfileSettings, access: Access) -> str:
    """Why a registering phone is taken to be behind a NAT; empty if it is not."""
    lists = settings.apply_nat_acl
    reason = ""
    contact = None
    if lists or settings.tls_always_nat or settings.tcp_always_nat:
        contacts = request.contacts
        contact = contacts[0].uri if contacts else None
    if settings.aggressive_nat_detection:
        reason = _via_reason(request, flow)
    if not reason and lists and contact is not None:
        failing, _token = access.all(lists, contact.address)
        reason = "" if failing else lists[0]
    if reason and settings.local_network_acl and access.check(settings.local_network_acl, flow.remote[0])[0]:
        reason = ""
    if flow.transport in ("WS", "WSS"):
        return flow.transport.lower()
    return reason or _transport_reason(contact, settings)


def invite_reason(request: Request, flow: Flow, settings: ProfileSettings, access: Access) -> str:
    """The same for a call: any list that holds the Via's host will do, unless the source itself is in one."""
    if flow.transport in ("WS", "WSS"):
        return "websockets"
    source = flow.remote[0]
    streams_too = settings.tls_always_nat and flow.reliable
    if settings.aggressive_nat_detection or streams_too:
        reason = _via_reason(request, flow)
        if reason:
            return reason
    lists = settings.apply_nat_acl
    if lists:
        host = request.via.host or (request.contacts[0].uri.host if request.contacts else "")
        if access.any(lists, host.strip("[]")) and not access.any(lists, source):
            return lists[0]
    return ""


def _via_reason(request: Request, flow: Flow) -> str:
    via = request.via
    source, port = flow.remote
    received = via.received
    if received and received != via.host:
        return "via received"
    if via.host.strip("[]") != source:
        return "via host"
    if via.port is None:
        return "via port" if port != 5060 else ""
    return "via port" if via.port != port else ""


def _transport_reason(contact: Uri | None, settings: ProfileSettings) -> str:
    if contact is None:
        return ""
    if settings.tls_always_nat and (contact.scheme == "sips" or contact.transport == "TLS"):
        return "tls"
    if settings.tcp_always_nat and contact.transport == "TCP":
        return "tcp"
    return ""
