"""What an INVITE says about its caller, and how we write ours: channel variables in, headers out (pure).

Names and precedence are mod_sofia's (`sofia_handle_sip_i_invite`, `sofia_glue_do_invite`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from node.calls import bodies, identity, passing
from node.calls.leg import Leg
from node.config.profile import ProfileSettings
from node.sip import compose
from node.sip.errors import BadExtension, NotAcceptable, SipError, UnsupportedMedia
from node.sip.fields import quote
from node.sip.flow import Flow
from node.sip.message import Request, Response
from node.sip.uri import Uri
from node.transport.capabilities import understands

SDP = "application/sdp"

UNNAMED = "Outbound Call"
"How FreeSWITCH calls somebody it has called, and who has not said its name."

_RANGE = re.compile(r"(?:application/(?:sdp|\*)|\*/\*)\s*(?:;|$)", re.IGNORECASE)
"Of an Accept field, what a session description is among."
_OPTIONAL = re.compile(r";\s*handling\s*=\s*optional", re.IGNORECASE)


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
    identity.judge(request)
    accepted = request.headers("Accept")
    if accepted and not any(_RANGE.match(item) for item in accepted):
        raise NotAcceptable("nothing that we answer with")  # RFC 4475 3.3.15


def read(request: Request) -> None:
    """Refuse a body that we cannot read; drop it where its author leaves that to us (RFC 3261 8.2.3, 20.11). Raises SipError."""
    coded = (request.header("Content-Encoding") or "identity").strip().lower() != "identity"
    if not request.body or (not coded and request.content_type in (SDP, *bodies.MULTIPART)):
        return
    if not may_be_dropped(request):
        raise UnsupportedMedia(request.content_type or "a body without a type")
    request.body = b""


def may_be_dropped(request: Request) -> bool:
    """Whether its author can do without its body being understood (RFC 3261 20.11)."""
    return _OPTIONAL.search(request.header("Content-Disposition") or "") is not None


def sdp_of(message: Request | Response) -> str:
    """The session description in a message: the body, or that part of a multipart body (RFC 5621); empty if none."""
    if not message.body:
        return ""
    if message.content_type == SDP:
        return message.body.decode("utf-8", "surrogateescape")
    if message.content_type not in bodies.MULTIPART:
        return ""
    text = message.body.decode("utf-8", "surrogateescape")
    found = bodies.part(message.header("Content-Type") or "", text, SDP)
    return found.rstrip("\r\n") + "\r\n" if found else ""


def arrive(leg: Leg, request: Request, flow: Flow, given: Mapping[str, str], *, trusted: bool = True) -> None:
    """Fill an inbound leg from its INVITE; `given` are the variables of its directory user and of the access lists.

    `trusted`: what it says of its author's identity counts (RFC 3325).
    """
    variables = leg.variables
    from_, to, uri = request.from_, request.to, request.target
    user = from_.uri.user.partition(";")[0]
    leg.flow = flow
    leg.network_addr = flow.remote[0]
    leg.user_agent = request.user_agent
    leg.caller_id_name, leg.caller_id_number = identity.caller(leg, request, user, trusted=trusted)
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
    passing.arrive(variables, request)


def _address(variables: dict[str, str], prefix: str, uri: Uri) -> None:
    if uri.user:
        variables[f"{prefix}_user"] = uri.user
    if uri.port:
        variables[f"{prefix}_port"] = str(uri.port)
    host = uri.host_port
    variables[f"{prefix}_uri"] = f"{uri.user}@{host}" if uri.user else host
    variables[f"{prefix}_host"] = uri.address


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
    found: dict[str, str] = {}
    for name in from_caller.get("export_vars", "").split(","):
        value = from_caller.get(name) or from_caller.get(f"nolocal:{name}") if name else None
        if value is not None:
            found[name] = value
    for name in COPIED:
        if name in from_caller:
            found[name] = from_caller[name]
    found.update(passing.inherited(caller))
    found.update(identity.inherited(from_caller))
    return found


def name_caller(leg: Leg, caller: Leg | None) -> None:
    """Caller ID of an outbound leg: `origination_*` over the caller's `effective_*` over the caller's own."""
    name, number = "", "0000000000"
    if caller is not None:
        name = caller.variables.get("effective_caller_id_name", caller.caller_id_name)
        number = caller.variables.get("effective_caller_id_number", caller.caller_id_number)
    leg.caller_id_name = leg.variables.get("origination_caller_id_name", name)
    leg.caller_id_number = leg.variables.get("origination_caller_id_number", number)
    leg.callee_id_name = leg.variables.get("origination_callee_id_name", UNNAMED)


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
    elif identity.anonymous(leg):
        return identity.ANONYMOUS
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


def refusal(request: Request, error: SipError, to_tag: str) -> Response:
    """The answer to a request that cannot be accepted."""
    return compose.response(request, error.status, error.reason or None, to_tag=to_tag, headers=error.headers)
