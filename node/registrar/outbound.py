"""Flows (RFC 5626): whether a REGISTER makes one, which binding it replaces, and by which one a phone is reached (pure).

A phone that registers by several flows has a binding for each; `+sip.instance` says that they are one phone, `reg-id`
which flow it is. Whoever calls it takes one flow, and another one only when that fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from node.config.profile import ProfileSettings
from node.sip.errors import Malformed, SipError
from node.sip.fields import NameAddr
from node.sip.message import Request
from node.sip.uri import Uri
from store.records import Registration

TAG = "outbound"
MOST = 2**31 - 1
"RFC 5626 4.1."


class FirstHopLacksOutbound(SipError):
    """RFC 5626 6: the proxy before the phone does not keep its flow."""

    status = 439


class SeveralFlows(SipError):
    """RFC 5626 6: a REGISTER makes one flow, the one it came by."""

    status = 400
    reason = "More Than One Contact With reg-id"


def wants(request: Request, settings: ProfileSettings) -> bool:
    """Does the phone ask for flows, and does the profile have them?"""
    return settings.enable_rfc_5626 and any(tag.lower() == TAG for tag in request.headers("Supported"))


def instance_of(contact: NameAddr) -> str:
    """`<urn:uuid:...>`; empty where the phone gave none."""
    return contact.param("+sip.instance") or "" if contact.params else ""


def reg_id_of(contact: NameAddr) -> int:
    """The number of the flow; 0 for none, and without an instance it means nothing."""
    text = contact.param("reg-id") if contact.params else None
    if text is None or not instance_of(contact):
        return 0
    if not (text.isascii() and text.isdigit()) or not 0 < int(text[:11]) <= MOST:
        raise Malformed("reg-id", text)
    return int(text)


def judge(request: Request, kept: int) -> None:
    """Raise the SipError to refuse a flow with; `kept` of the contacts are not to be removed."""
    if kept > 1:
        raise SeveralFlows("a flow for each of several contacts")
    if len(request.headers("Via")) > 1 and not _kept_by_first_hop(request.headers("Path")):
        raise FirstHopLacksOutbound("the last Path has no `ob`")


def _kept_by_first_hop(path: Sequence[str]) -> bool:
    """The last Path is of the proxy next to the phone."""
    if not path:
        return False
    uri = Uri.parse(uri_in(path[-1]))
    return uri.param("ob") is not None


def uri_in(value: str) -> str:
    """The URI of a name-addr, as it stands."""
    before, bracket, rest = value.partition("<")
    return rest.partition(">")[0] if bracket else before.strip()


# ---- by which flow -----------------------------------------------------------------------------------------------------


def one_flow_each(registrations: Iterable[Registration]) -> list[Registration]:
    """Of each phone with several flows the one that registered last; all others as they are, in their order."""
    chosen: dict[object, Registration] = {}
    for each in registrations:
        phone: object = (each.sip_user, each.sip_host, each.instance) if each.reg_id else id(each)
        known = chosen.get(phone)
        if known is None or each.version > known.version:
            chosen[phone] = each
    return list(chosen.values())


def other_flow(failed: Registration, registrations: Iterable[Registration]) -> Registration | None:
    """The flow to try after this one; the one that registered last."""
    phone = failed.sip_user, failed.sip_host, failed.instance
    others = [
        each
        for each in registrations
        if each.reg_id and each.reg_id != failed.reg_id and (each.sip_user, each.sip_host, each.instance) == phone
    ]
    return max(others, key=lambda each: each.version, default=None)


def of_instance(registrations: Iterable[Registration], gr: str) -> list[Registration]:
    """Those of the phone that a public GRUU names (RFC 5627 4.1): `gr` is its instance without the brackets."""
    return [each for each in registrations if each.instance.strip("<>").lower() == gr.lower()]
