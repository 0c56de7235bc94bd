"""What a referrer is told of its REFER, and how it waits: the implicit subscription (RFC 3515 2.4), with its end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from node.calls import alignment, applications, causes, refer, union
from node.calls.leg import Leg
from node.calls.reply import own_user
from node.sip.message import Response
from store.records import ReferralRecord

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)

FAREWELL = 2.0
"Seconds after which a referrer is hung up that does not answer our NOTIFY."


def notify(call: Call, leg: Leg, *, unsubscribed: bool = False) -> None:
    """Tell the referrer how far it has come; when it is over, hang up on it if it has to go.

    `unsubscribed`: it does not want to hear more.
    """
    record = leg.referral
    if record is None or not leg.confirmed or leg.dialog is None or leg.flow is None:
        return
    final = record.state == "final"
    if record.silent:
        if final:
            _told(call, leg)
        return
    request = leg.dialog.request(
        "NOTIFY",
        contact=call.exchange.contact(leg, own_user(leg)),
        headers=[
            *call.exchange.headers(leg.profile),
            ("Event", refer.event(record.cseq)),
            ("Subscription-State", refer.UNSUBSCRIBED if unsubscribed and not final else refer.state(final=final)),
        ],
        body=refer.fragment(record.status),
        content_type=refer.SIPFRAG,
    )

    def answered(leg: Leg, status: int, _response: Response | None) -> None:
        if final and status >= 200:
            _told(call, leg)

    call.ask(leg, request, answered)
    if final and leg.cause:
        call.later(FAREWELL, _told, call, leg)


def _told(call: Call, leg: Leg) -> None:
    record = leg.referral
    if record is None or record.state == "told" or not leg.live:
        return
    record.state, record.request, record.flow = "told", b"", None
    call.save()
    if leg.cause:
        call.release(leg, leg.cause)
        call.finish()


def conclude(call: Call, leg: Leg, status: int) -> None:
    """It is over: the referrer hears how it ended, and its call goes on or ends as `leg.cause` says."""
    assert leg.referral is not None
    leg.referral.state, leg.referral.status = "final", status
    call.commit(notify, call, leg)


# ---- the partner goes ------------------------------------------------------------------------------------------------------


def refused(leg: Leg, *others: Leg | None) -> bool:
    """Whether one of them must not be transferred, or transfer (`deny_refer_requests`)."""
    return any(one is not None and one.is_true("deny_refer_requests") for one in (leg, *others))


def mark(partner: Leg, record: ReferralRecord) -> None:
    """What the dialplan may know of the transfer, and its next leg is told."""
    if record.by:
        partner.variables["sip_h_Referred-By"] = record.by
    partner.variables["sip_refer_to"] = record.target


def leave_or_wait(call: Call, leg: Leg, record: ReferralRecord) -> None:
    """The referrer goes, or waits beside the transferred leg for what becomes of it."""
    if record.confirm:
        record.state = "trying"
        call.referred = Pursuit(call, leg)
    else:
        record.state, record.status = "final", 200
        leg.cause = "NORMAL_CLEARING"


def sent_on(call: Call, leg: Leg, routed: bool) -> None:
    """It is on record: tell the referrer, and let the transferred leg's dialplan run."""
    notify(call, leg)
    if routed:
        applications.run(call)
    else:
        call.conclude("NO_ROUTE_DESTINATION")


# ---- while the referrer waits ------------------------------------------------------------------------------------------------


class Pursuit:
    """A transfer whose outcome the referrer waits for, its leg beside the transferred one. `call.referred` is the one."""

    __slots__ = ("call", "leg")

    def __init__(self, call: Call, leg: Leg) -> None:
        self.call = call
        self.leg = leg

    def rings(self) -> None:
        """Whoever is called rings."""
        record = self.leg.referral
        if record is not None and record.status < 180:
            record.status = 180
            self.call.save()
            notify(self.call, self.leg)

    def reached(self) -> None:
        """The transferred leg talks to somebody, or to something: the referrer may go."""
        call, leg = self.call, self.leg
        call.referred = None
        call.legs[0].variables.pop("sip_h_Replaces", None)
        leg.cause = leg.cause or "NORMAL_CLEARING"
        conclude(call, leg, 200)

    def failed(self, cause: str) -> bool:
        """Nobody was reached: bridge the two again. False if that cannot be."""
        call, leg, transferee = self.call, self.leg, self.call.legs[0]
        call.referred = None
        transferee.variables.pop("sip_h_Replaces", None)
        if not (leg.confirmed and not leg.cause and transferee.confirmed and not transferee.cause):
            return False
        status = _failure(transferee, cause)
        log.info("call %s: transfer of %s failed: %s", call.uuid, transferee.name, cause)
        union.strip(call)
        union.bridge(call, transferee, leg)
        conclude(call, leg, status)
        alignment.align(call)
        return True

    def forget(self, leg: Leg) -> None:
        """A leg is gone; if it was the referrer, nobody waits any more."""
        if leg is self.leg:
            self.call.referred = None


def _failure(transferee: Leg, cause: str) -> int:
    protocol, _, status = transferee.variables.get("last_bridge_proto_specific_hangup_cause", "").partition(":")
    if protocol == "sip" and status.isdecimal() and int(status) >= 300:
        return int(status)
    return causes.to_status(transferee.variables.get("originate_failed_cause") or cause)
