"""The events of the register family, with mod_sofia's headers in its order.

Mind the names: `from-user` is the address of record, `to-user` the user of From.
"""

from __future__ import annotations

from collections.abc import Mapping

from node.events import Event, EventStream
from node.registrar.admission import Admission
from node.sip.flow import Flow
from node.sip.message import Request
from store.records import Registration

Headers = list[tuple[str, str]]
_CALLED_BY = "sofia_reg_handle_register_token"


def pre_register(
    events: EventStream, request: Request, flow: Flow, aor: tuple[str, str], *, contact: str, status: str, expires: int
) -> None:
    """Somebody came without credentials, or with stale ones."""
    if events.wanted("sofia::pre_register"):
        headers = _seen(request, flow, aor, contact=contact, status=status, expires=expires)
        _fire(events, "sofia::pre_register", headers)


def register_attempt(
    events: EventStream,
    request: Request,
    flow: Flow,
    aor: tuple[str, str],
    *,
    contact: str,
    status: str,
    expires: int,
    username: str,
    realm: str,
    result: str,
) -> None:
    """Somebody came with credentials; `result` is SUCCESS, RENEWED, STALE or FORBIDDEN."""
    if not events.wanted("sofia::register_attempt"):
        return
    headers = _seen(request, flow, aor, contact=contact, status=status, expires=expires)
    agent = headers.pop()
    headers += [("username", username), ("realm", realm), agent, ("auth-result", result)]
    _fire(events, "sofia::register_attempt", headers)


def register_failure(events: EventStream, request: Request, flow: Flow, aor: tuple[str, str]) -> None:
    """Refused with 403."""
    if not events.wanted("sofia::register_failure"):
        return
    kind = "REGISTER" if request.method == "REGISTER" else "INVITE"
    headers = [
        ("profile-name", flow.profile),
        ("to-user", aor[0]),
        ("to-host", aor[1]),
        ("network-ip", flow.remote[0]),
        ("user-agent", request.user_agent or "unknown"),
        ("profile-name", flow.profile),
        ("network-port", str(flow.remote[1])),
        ("registration-type", kind),
    ]
    _fire(events, "sofia::register_failure", headers)


def register(
    events: EventStream, request: Request, record: Registration, admission: Admission, *, granted: int, updated: bool
) -> None:
    """A binding is stored."""
    if not events.wanted("sofia::register"):
        return
    from_ = request.from_.uri
    headers: Headers = [
        ("profile-name", record.profile_name),
        ("from-user", record.sip_user),
        ("from-host", record.sip_host),
        ("presence-hosts", record.presence_hosts or "n/a"),
        ("contact", record.contact),
        ("call-id", record.call_id),
        ("rpid", record.rpid),
        ("status", record.status),
        ("expires", str(granted)),
        ("to-user", from_.user),
        ("to-host", from_.host),
        ("network-ip", record.network_ip),
        ("network-port", record.network_port),
        ("username", record.sip_username),
        ("realm", record.sip_realm),
        ("user-agent", record.user_agent),
    ]
    if updated:
        headers.append(("update-reg", "true"))
    _fire(events, "sofia::register", headers + collected(admission))


def unregister(events: EventStream, request: Request, record: Registration, admission: Admission) -> None:
    """A binding was removed by its phone."""
    if not events.wanted("sofia::unregister"):
        return
    headers = [
        ("profile-name", record.profile_name),
        ("username", record.sip_username),
        ("from-user", record.sip_user),
        ("from-host", record.sip_host),
        ("contact", record.contact),
        ("call-id", request.call_id),
        ("rpid", record.rpid),
        ("realm", record.sip_realm),
        ("network-ip", record.network_ip),
        ("network-port", record.network_port),
        ("user-agent", record.user_agent),
        ("expires", "0"),
    ]
    _fire(events, "sofia::unregister", headers + collected(admission))


def disconnected(events: EventStream, record: Registration) -> None:
    """A binding was removed because its connection is gone."""
    if not events.wanted("sofia::unregister"):
        return
    headers = [
        ("profile-name", record.profile_name),
        ("from-user", record.sip_user),
        ("from-host", record.sip_host),
        ("call-id", record.call_id),
        ("rpid", "unknown"),
        ("reason", "socket-disconnection"),
    ]
    _fire(events, "sofia::unregister", headers, function="our_sofia_event_callback")


def expire(events: EventStream, record: Registration) -> None:
    """A binding ran out, or was flushed."""
    if not events.wanted("sofia::expire"):
        return
    headers = [
        ("profile-name", record.profile_name),
        ("call-id", record.call_id),
        ("user", record.sip_user),
        ("username", record.sip_username),
        ("host", record.sip_host),
        ("contact", record.contact),
        ("expires", str(record.expires)),
        ("user-agent", record.user_agent),
        ("realm", record.sip_realm),
        ("network-ip", record.network_ip),
        ("network-port", record.network_port),
    ]
    _fire(events, "sofia::expire", headers, function="sofia_reg_del_callback")


def collected(admission: Admission) -> Headers:
    """What mod_sofia takes along of the user: some names of ours first, then all variables, then the `sip-` params."""
    user = admission.user
    if user is None:
        return []
    alias = user.number_alias or user.id
    names: Headers = [
        ("sip_number_alias", alias),
        ("sip_auth_username", admission.username),
        ("sip_auth_realm", admission.realm),
        ("number_alias", alias),
        ("user_name", user.id),
        ("domain_name", user.domain),
    ]
    return names + list(user.variables.items()) + _sip_params(user.params)


def _sip_params(params: Mapping[str, str]) -> Headers:
    return [
        (name, value)
        for name, value in params.items()
        if name.lower().startswith("sip-") or name.lower() in ("register-gateway", "mwi-account")
    ]


def _seen(
    request: Request, flow: Flow, aor: tuple[str, str], *, contact: str, status: str, expires: int
) -> list[tuple[str, str]]:
    from_ = request.from_.uri
    headers: Headers = [("profile-name", flow.profile), ("from-user", aor[0]), ("from-host", aor[1])]
    if contact:
        headers.append(("contact", contact))
    headers += [("call-id", request.call_id), ("rpid", "unknown"), ("status", status)]
    if contact:
        headers.append(("expires", str(expires)))
    headers += [
        ("to-user", from_.user),
        ("to-host", from_.host),
        ("network-ip", flow.remote[0]),
        ("network-port", str(flow.remote[1])),
        ("user-agent", request.user_agent or "unknown"),
    ]
    return headers


def _fire(events: EventStream, subclass: str, headers: Headers, *, function: str = _CALLED_BY) -> None:
    events.fire(Event(name="CUSTOM", subclass=subclass, headers=headers, function=function))
