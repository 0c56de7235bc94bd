"""What a REGISTER asks for, judged by the profile's and the user's rules: pure, before anything is looked up."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from node.config.profile import ProfileSettings
from node.registrar import outbound
from node.registrar.admission import Admission
from node.registrar.binding import source_uri, status_of, stored_contact
from node.registrar.rules import UserRules
from node.sip.errors import Malformed, SipError
from node.sip.fields import NameAddr
from node.sip.flow import Flow
from node.sip.message import Request

DEFAULT = 300
DEFAULT_NAT = 30
LONGEST = 10 * 365 * 86400
"Seconds; what a phone asks beyond that is cut, so that sums stay within the column."


class IntervalTooBrief(SipError):
    """RFC 3261 21.4.17. mod_sofia raises what is too short instead; this is for who asks for the refusal."""

    status = 423

    def __init__(self, least: int) -> None:
        super().__init__(f"expires below {least}")
        self.least = least

    @property
    def headers(self) -> list[tuple[str, str]]:
        return [("Min-Expires", str(self.least))]


class Wanted(msgspec.Struct, frozen=True, gc=False):
    """One Contact of the request."""

    contact: NameAddr
    expires: int
    "Granted seconds; 0 removes."
    stored: str
    "As the table has it."
    status: str
    instance: str = ""
    reg_id: int = 0
    "Of a flow (RFC 5626); 0: it is none."


class Wish(msgspec.Struct, frozen=True, gc=False):
    """The whole request."""

    user: str
    host: str
    "The address of record."
    sub_host: str
    contacts: tuple[Wanted, ...]
    wildcard: bool
    mode: str
    "What makes a binding: `` the user, `contact`, or `call-id`."
    rules: UserRules


def wish_of(request: Request, flow: Flow, settings: ProfileSettings, admission: Admission, rules: UserRules) -> Wish:
    """Read a REGISTER. Raises the SipError to refuse it with."""
    to = request.to.uri
    contacts = request.contacts
    wildcard = request.fields.get("contact", "").strip() == "*"
    if wildcard and (request.expires != 0 or contacts):
        raise Malformed("Contact", "* without Expires: 0")
    alone = len(contacts) == 1
    wanted = tuple([_wanted(request, contact, flow, settings, admission, rules, alone=alone) for contact in contacts])
    kept = flows = 0
    for each in wanted:
        kept += each.expires > 0
        flows += each.reg_id > 0
    if flows and settings.enable_rfc_5626:
        outbound.judge(request, kept)
    user, host = admission.aor or aor_of(request, settings)
    if kept and admission.digest and rules.forced_user:
        user = rules.forced_user
    if rules.single:
        mode = ""
    elif settings.manage_shared_appearance and settings.multiple_registrations == "":
        mode = "call-id"
    else:
        mode = settings.multiple_registrations
    sub_host = settings.force_subscription_domain or to.host
    return Wish(rules.forced_extension or user, host, sub_host, wanted, wildcard, mode, rules)


def aor_of(request: Request, settings: ProfileSettings) -> tuple[str, str]:
    """User and host of the address of record, as the request names it."""
    to = request.to.uri
    return to.user or request.from_.uri.user, settings.force_register_db_domain or to.host


def asked_expires(request: Request, contact: NameAddr | None, nat: str, *, alone: bool = True) -> int:
    """What the phone asks for.

    The Expires field wins over the Contact's parameter, as in mod_sofia; where several contacts come at once, each
    one's own parameter wins (RFC 3261 10.2.1.1), or one of them could not be removed while another is kept.
    """
    field = request.expires
    if field is not None and alone:
        return field if field < LONGEST else LONGEST
    own = contact.param("expires") if contact is not None else None
    given = int(own.lstrip("0")[:12] or "0") if own is not None and own.isascii() and own.isdigit() else None
    chosen = given if given is not None else field
    if chosen is not None:
        return min(chosen, LONGEST)
    return DEFAULT_NAT if nat and "path" not in request.fields else DEFAULT


def _wanted(
    request: Request,
    contact: NameAddr,
    flow: Flow,
    settings: ProfileSettings,
    admission: Admission,
    rules: UserRules,
    *,
    alone: bool,
) -> Wanted:
    nat = admission.nat
    expires = asked_expires(request, contact, nat, alone=alone)
    status = status_of(contact.uri, nat=nat, via=flow.transport)
    instance, reg_id = "", 0
    if contact.params:
        instance = outbound.instance_of(contact)
        reg_id = outbound.reg_id_of(contact) if instance and outbound.wants(request, settings) else 0
    stored = contact_as_stored(request, contact, flow, settings, nat, reg_id)
    if not admission.digest or not expires:
        return Wanted(contact, expires, stored, status, instance, reg_id)
    if rules.forced_contact:
        stored, status, expires = _forced(rules.forced_contact, contact, stored, flow, status, expires)
    return Wanted(contact, _clamped(expires, settings, rules), stored, status, instance, reg_id)


def contact_as_stored(
    request: Request, contact: NameAddr, flow: Flow, settings: ProfileSettings, nat: str, reg_id: int = 0
) -> str:
    if not nat and not reg_id and "path" not in request.fields:
        return f'"{contact.display or request.to.display}" <{contact.uri}>'
    return stored_contact(
        contact,
        request.to,
        source=flow.remote,
        nat=nat,
        path=[outbound.uri_in(value) for value in request.headers("Path")] if "path" in request.fields else (),
        received=settings.ndlb_received_in_nat_reg_contact,
        secure_ws=flow.transport == "WSS",
        reg_id=reg_id,
    )


def _forced(forced: str, contact: NameAddr, stored: str, flow: Flow, status: str, expires: int) -> tuple[str, str, int]:
    """`sip-force-contact`: the stored contact, status and expires it makes."""
    match forced.lower():
        case "ndlb-connectile-dysfunction-2.0":
            if ";fs_path=" in stored:
                return stored, "Registered(AUTO-NAT-2.0)", DEFAULT_NAT
            made = stored_contact(
                contact, contact, source=flow.remote, nat="forced", path=(), received=False, secure_ws=False
            )
            return made, "Registered(AUTO-NAT-2.0)", DEFAULT_NAT
        case "ndlb-connectile-dysfunction" | "nat-connectile-dysfunction" | "ndlb-tls-connectile-dysfunction":
            uri = source_uri(contact.uri, flow.remote)
            return f'"{contact.display}" <{uri};fs_nat=yes>', "Registered(AUTO-NAT)", DEFAULT_NAT
        case _:
            return forced.translate({ord(c): '"' for c in "'[]"}), status, expires


def _clamped(expires: int, settings: ProfileSettings, rules: UserRules) -> int:
    """The user's bounds, else the profile's; 0 is off."""
    least = rules.expires_min or settings.sip_force_expires_min
    most = rules.expires_max or settings.sip_force_expires_max
    if least and expires < least:
        if _true(settings.params, "reject-brief-registrations"):
            raise IntervalTooBrief(least)
        expires = least
    if most and expires > most:
        expires = most
    expires = rules.expires or settings.sip_force_expires or expires
    spread = rules.spread or settings.sip_expires_max_deviation
    if spread > 0:
        # So that phones which came up together after a power cut drift apart.
        expires = max(1, expires + random.randrange(-spread, spread))
    return expires


def _true(params: Mapping[str, str], name: str) -> bool:
    return params.get(name, "").lower() in ("true", "yes", "on", "1")
