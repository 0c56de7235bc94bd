"""What an INVITE says about its caller, and how we write ours: channel variables in, headers out (pure).

Names and precedence are mod_sofia's (`sofia_handle_sip_i_invite`, `sofia_glue_do_invite`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from node.calls.leg import Leg, mentions, truth
from node.config.profile import ProfileSettings
from node.sip import compose
from node.sip.errors import BadExtension, Malformed, NotAcceptable, SipError, UnsupportedMedia
from node.sip.fields import NameAddr, quote
from node.sip.flow import Flow
from node.sip.message import Request, Response
from node.sip.uri import Uri
from node.transport.capabilities import understands

SDP = "application/sdp"

_IMPORTED = ("x-", "p-", "on", "k-", "user-to-user", "accept-language", "diversion")
_ANY_IMPORTED = re.compile(r"\n\s*(?:" + "|".join(_IMPORTED) + ")", re.IGNORECASE)
_RANGE = re.compile(r"(?:application/(?:sdp|\*)|\*/\*)\s*(?:;|$)", re.IGNORECASE)
"Of an Accept field, what a session description is among."
_OPTIONAL = re.compile(r";\s*handling\s*=\s*optional", re.IGNORECASE)
_ANY_X = re.compile(r"\n\s*x-", re.IGNORECASE)
_NOT_IMPORTED = frozenset(("organization", "p-asserted-identity", "p-preferred-identity"))


class MissingContact(SipError):
    status = 400
    reason = "Missing Contact Header"


def judge(request: Request, settings: ProfileSettings) -> None:
    """Refuse what no call can be made of. Raises the SipError to answer with."""
    wanted = [tag for tag in request.headers("Require") if not understands(settings, tag)]
    if wanted:
        raise BadExtension(wanted)
    if not request.contacts:
        raise MissingContact("an INVITE without Contact")
    read(request)
    accepted = request.headers("Accept")
    if accepted and not any(_RANGE.match(item) for item in accepted):
        raise NotAcceptable("nothing that we answer with")  # RFC 4475 3.3.15


def read(request: Request) -> None:
    """Refuse a body that we cannot read, unless its author leaves that to us (RFC 3261 8.2.3, 20.11). Raises SipError."""
    if not request.body:
        return
    coded = (request.header("Content-Encoding") or "identity").strip().lower() != "identity"
    if (coded or request.content_type not in (SDP, "multipart/mixed")) and not _OPTIONAL.search(
        request.header("Content-Disposition") or ""
    ):
        raise UnsupportedMedia(request.content_type or "a body without a type")


def sdp_of(message: Request | Response) -> str:
    """The session description in a message: the body, or that part of a multipart body (RFC 5621); empty if none."""
    if not message.body:
        return ""
    if message.content_type == SDP:
        return message.body.decode("utf-8", "surrogateescape")
    if message.content_type != "multipart/mixed":
        return ""
    text = message.body.decode("utf-8", "surrogateescape")
    for part in text.split("--"):
        head, blank, body = part.partition("\r\n\r\n")
        if blank and SDP in head.lower():
            return body.rstrip("\r\n") + "\r\n"
    return ""


def arrive(leg: Leg, request: Request, flow: Flow, given: Mapping[str, str]) -> None:
    """Fill an inbound leg from its INVITE; `given` are the variables of its directory user and of the access lists."""
    variables = leg.variables
    from_, to, uri = request.from_, request.to, request.target
    user = from_.uri.user.partition(";")[0]
    leg.flow = flow
    leg.network_addr = flow.remote[0]
    leg.user_agent = request.user_agent
    leg.caller_id_name, leg.caller_id_number = _caller(request, from_, user)
    leg.username = given.get("user_name", "") or user
    leg.destination = unquote(uri.user or to.uri.user or user or "service")
    leg.name = f"sofia/{leg.profile}/{user}@{from_.uri.host}" if user else f"sofia/{leg.profile}/{from_.uri.host}"
    variables["direction"] = "inbound"
    variables["uuid"] = variables["call_uuid"] = leg.uuid
    _address(variables, "sip_from", from_.uri)
    variables["channel_name"] = leg.name
    variables["sip_call_id"] = request.call_id
    variables["sip_local_network_addr"] = flow.local[0]
    variables["sip_network_ip"] = variables["sip_received_ip"] = flow.remote[0]
    variables["sip_network_port"] = variables["sip_received_port"] = str(flow.remote[1])
    variables["sip_via_protocol"] = flow.transport.lower()
    variables.update(given)
    variables["sip_from_user_stripped"] = user.lstrip("+")
    variables["sip_from_tag"] = from_.tag
    variables["sofia_profile_name"] = variables["recovery_profile_name"] = leg.profile
    variables["sip_from_display"] = from_.display
    variables["sip_full_from"] = request.header("From") or ""
    variables["sip_full_to"] = request.header("To") or ""
    variables["sip_full_via"] = request.header("Via") or ""
    variables["sip_cseq"] = str(request.cseq.number)
    if allow := request.header("Allow"):
        variables["sip_allow"] = allow
    _address(variables, "sip_req", uri)
    if uri.params and (gr := uri.param("gr")):
        variables["sip_req_gr"] = gr
    if breadth := request.header("Max-Breadth"):
        variables["max_breadth"] = str(min(int(breadth[:9]), 10**6)) if breadth.isdecimal() else "1"
    _address(variables, "sip_to", to.uri)
    _address(variables, "sip_contact", request.contacts[0].uri)
    if leg.user_agent:
        variables["sip_user_agent"] = leg.user_agent
    via = request.via
    variables["sip_via_host"] = via.host
    if via.port:
        variables["sip_via_port"] = str(via.port)
    variables["sip_via_rport"] = str(flow.remote[1])
    variables["max_forwards"] = str(70 if request.max_forwards is None else request.max_forwards)
    variables.setdefault("presence_id", f"{user}@{from_.uri.host}")
    _import_headers(variables, request)


def _caller(request: Request, from_: NameAddr, user: str) -> tuple[str, str]:
    """Caller ID: From, over it Remote-Party-ID, P-Asserted-Identity, P-Preferred-Identity; the last one there wins."""
    name, number = from_.display or user or "unknown", user
    for header in ("Remote-Party-ID", "P-Asserted-Identity", "P-Preferred-Identity"):
        values = request.headers(header)
        if not values:
            continue
        try:
            identity = NameAddr.parse(values[0])
        except Malformed:
            continue  # an identity nobody can read identifies nobody; the call itself is in order
        number = identity.uri.user or number
        name = identity.display or number
    return name, number


def bye_headers(request: Request) -> list[tuple[str, str]]:
    """The X- headers of a BYE as `sip_bye_h_<Name>`."""
    if _ANY_X.search(request.text) is None:
        return []
    lower = ((name, name.lower(), value) for name, value in request.items())
    return [
        (f"sip_bye_h_{name}", value)
        for name, low, value in lower
        if low.startswith("x-") and not low.startswith("x-fs-")
    ]


def _address(variables: dict[str, str], prefix: str, uri: Uri) -> None:
    if uri.user:
        variables[f"{prefix}_user"] = uri.user
    if uri.port:
        variables[f"{prefix}_port"] = str(uri.port)
    host = uri.host_port
    variables[f"{prefix}_uri"] = f"{uri.user}@{host}" if uri.user else host
    variables[f"{prefix}_host"] = uri.address


def _import_headers(variables: dict[str, str], request: Request) -> None:
    """Keep foreign headers as `sip_h_<Name>`; of several alike the second one is `-1`."""
    if _ANY_IMPORTED.search(request.text) is None:
        return
    for name, value in request.items():
        low = name.lower()
        if low.startswith(_IMPORTED) and low not in _NOT_IMPORTED and not low.startswith("x-fs-"):
            key, number = f"sip_h_{name}", 0
            while key in variables:
                number += 1
                key = f"sip_h_{name}-{number}"
            variables[key] = value


# ---- our INVITE ----------------------------------------------------------------------------------------------------------

COPIED = (
    "ignore_early_media",
    "bridge_early_media",
    "ignore_ring_ready",
    "progress_timeout",
    "language",
    "originate_continue_on_timeout",
    "fail_on_single_reject",
)
"What a leg gets from its caller without being asked (`switch_ivr_originate`)."


def inherited(caller: Leg) -> dict[str, str]:
    """The variables a new leg gets from the one that calls it: exported ones, and foreign headers."""
    from_caller = caller.variables
    names = [name for name in from_caller.get("export_vars", "").split(",") if name]
    found: dict[str, str] = {}
    for name in names:
        value = from_caller.get(name) or from_caller.get(f"nolocal:{name}")
        if value is not None:
            found[name] = value
    found.update((name, from_caller[name]) for name in COPIED if name in from_caller)
    if mentions(from_caller, "sip_h_") and truth(from_caller.get("sip_copy_custom_headers", "true")):
        found.update((name, value) for name, value in from_caller.items() if name.startswith("sip_h_"))
    return found


def name_caller(leg: Leg, caller: Leg | None) -> None:
    """Caller ID of an outbound leg: `origination_*` over the caller's `effective_*` over the caller's own."""
    name, number = "", "0000000000"
    if caller is not None:
        name = caller.variables.get("effective_caller_id_name", caller.caller_id_name)
        number = caller.variables.get("effective_caller_id_number", caller.caller_id_number)
    leg.caller_id_name = leg.variables.get("origination_caller_id_name", name)
    leg.caller_id_number = leg.variables.get("origination_caller_id_number", number)
    leg.callee_id_name = leg.variables.get("origination_callee_id_name", "Outbound Call")


def wire(uri: Uri) -> Uri:
    """A URI as it goes out: without what mod_sofia keeps to itself."""
    own = [name for name, _value in uri.params if name.startswith("fs_") or name == "received"]
    return uri.without_params(*own) if own else uri


def from_field(leg: Leg, host: str) -> str:
    """Our From without its tag: `"name" <sip:number@host>`, as far as variables do not say otherwise."""
    variables = leg.variables
    forced = variables.get("sip_force_full_from") or variables.get("sip_invite_full_from")
    if forced:
        return forced.partition(";tag=")[0]
    uri = variables.get("sip_invite_from_uri") or variables.get("sip_from_uri")
    if uri:
        uri = uri.strip("<>") if uri.startswith(("sip:", "sips:", "<")) else f"sip:{uri}"
    else:
        uri = f"sip:{leg.caller_id_number}@{variables.get('sip_invite_domain', host)}"
    uri += params(variables.get("sip_invite_from_params", ""))
    name = variables.get("sip_from_display", leg.caller_id_name)
    return f"{quote(name)} <{uri}>" if name else f"<{uri}>"


def to_field(leg: Leg, uri: Uri, to: str) -> str:
    """Our To, without a tag: the destination, or what `^` or variables name."""
    variables = leg.variables
    forced = variables.get("sip_force_full_to") or variables.get("sip_invite_full_to")
    if forced:
        return forced
    written = variables.get("sip_invite_to_uri") or to
    if not written:
        written = str(uri.without_params())
    elif not written.startswith(("sip:", "sips:", "<")):
        written = f"sip:{written}" if "@" in written else f"sip:{written}@{uri.host}"
    return f"<{written.strip('<>')}{params(variables.get('sip_invite_to_params', ''))}>"


def params(text: str) -> str:
    """`;a=b` from `a=b` or `;a=b`."""
    text = text.lstrip("~")
    return text if not text or text.startswith(";") else f";{text}"


def identity(leg: Leg, host: str, kind: str) -> list[tuple[str, str]]:
    """Remote-Party-ID, or P-Asserted-Identity with Privacy, or nothing (`sip_cid_type`, `caller-id-type`)."""
    privacy = leg.variables.get("origination_privacy", "")
    hidden = "hide_number" in privacy or "full" in privacy
    screened = "no" if privacy == "no_screen" else "yes"
    number, name = leg.caller_id_number, leg.caller_id_name
    address = f"<sip:{number}@{leg.variables.get('sip_invite_domain', host)}>"
    shown = f"{quote(name)} {address}" if name else address
    match leg.variables.get("sip_cid_type", kind):
        case "pid":
            return [("P-Asserted-Identity", shown), *([("Privacy", "id")] if hidden else [])]
        case "none":
            return []
        case _:
            level = "full" if hidden else "name" if "hide_name" in privacy else "off"
            return [("Remote-Party-ID", f"{shown};party=calling;screen={screened};privacy={level}")]


def callee(leg: Leg, host: str) -> list[tuple[str, str]]:
    """The Remote-Party-ID that tells a caller whom it reached."""
    number = leg.callee_id_number or leg.destination
    if leg.variables.get("sip_cid_type") == "none" or not number:
        return []
    name = leg.callee_id_name or number
    host = leg.variables.get("sip_to_host", host)
    return [("Remote-Party-ID", f"{quote(name)} <sip:{number}@{host}>;party=calling;privacy=off;screen=no")]


def refusal(request: Request, error: SipError, to_tag: str) -> Response:
    """The answer to a request that cannot be accepted."""
    return compose.response(request, error.status, error.reason or None, to_tag=to_tag, headers=error.headers)
