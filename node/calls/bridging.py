"""`bridge`: somebody is called for the leg that waits, and the two are made one until one of them goes."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from node.calls import alignment, anchor, anew, bridge, display, invite, late, reliable
from node.calls.attempts import Attempt
from node.calls.dial import Dialing
from node.calls.leg import Leg
from node.calls.waiting import Waiting
from node.media.errors import MediaError, NotAcceptable
from node.sip.errors import SipError
from node.sip.message import Response

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)


class Bridging(Waiting):
    """`bridge`: call somebody, make two legs one, and wait until one of them goes."""

    __slots__ = ("_peer", "_text")

    def __init__(self, call: Call, leg: Leg, text: str) -> None:
        super().__init__(call, leg)
        self._text = text
        self._peer: Leg | None = None

    def start(self) -> None:
        self._begin(self._text, 1)

    def _begin(self, text: str, group: int) -> None:
        """Call the dial string's groups from this one on."""
        call, caller = self.call, self.leg
        assert caller.media is not None
        call.progress = {"dial": text}
        caller.variables.pop("sip_reason", None)  # of an attempt before
        if not caller.media.port:
            anchor.open_port(call, caller, self._on_port)
        dialing = Dialing(call, caller, self._on_dialed, timeout=self._timeout())
        call.dialing = dialing
        dialing.start(text, group)

    def _timeout(self) -> float:
        limit = self.leg.variables.get("call_timeout", "") or self.leg.variables.get("originate_timeout", "")
        return float(limit) if limit.isdecimal() and int(limit) else 60.0

    def _on_port(self, error: MediaError | None) -> None:
        if error is not None and self.active:
            log.warning("call %s: no media port: %s", self.call.uuid, error)
            if self.call.dialing is not None:
                self.call.dialing.abandon("NORMAL_TEMPORARY_FAILURE")
            self.fail("NORMAL_TEMPORARY_FAILURE")

    # ---- nobody answered -------------------------------------------------------------------------------------------

    def _on_dialed(self, leg: Leg | None, cause: str, response: Response | None, status: int) -> None:
        if not self.active:
            if leg is not None:
                self.call.release(leg, "ORIGINATOR_CANCEL")
            return
        if leg is None:
            self._failed(cause, status)
        else:
            assert response is not None
            self._on_answer(leg, response)

    def _failed(self, cause: str, status: int) -> None:
        variables = self.leg.variables
        variables["originate_disposition"] = variables["originate_failed_cause"] = cause
        variables["DIALSTATUS"] = bridge.dial_status(cause)
        variables["last_bridge_hangup_cause"] = variables["bridge_hangup_cause"] = cause
        if status:
            variables["last_bridge_proto_specific_hangup_cause"] = f"sip:{status}"
        else:
            variables.pop("last_bridge_proto_specific_hangup_cause", None)
        if bridge.goes_on_after_failure(cause, variables):
            self.done()
        else:
            self.call.conclude(cause)

    # ---- somebody did ----------------------------------------------------------------------------------------------

    def _on_answer(self, leg: Leg, response: Response) -> None:
        call, caller = self.call, self.leg
        assert caller.media is not None
        assert leg.media is not None
        delayed = not caller.confirmed and not caller.media.remote_sdp and not reliable.offers(caller)
        told = late.told(caller)
        try:
            sdp = invite.sdp_of(response) or leg.media.remote_sdp
            if not sdp:
                raise NotAcceptable("a 200 without a session description")
            anchor.hear(call.exchange, leg, sdp)
            if leg.delayed and not delayed:
                anchor.own_answer(call.exchange, leg)  # the caller was made an offer already, another one's
            mine = self._towards_caller(anchor.towards(leg) if leg.media.codec else sdp, delayed=delayed)
        except SipError as refusal:
            log.info("call %s: answer of %s not understood: %s", call.uuid, leg.name, refusal)
            call.release(leg, "INCOMPATIBLE_DESTINATION")
            self._failed("INCOMPATIBLE_DESTINATION", 488)
            return
        self.unite(leg)
        if "transfer_source" in caller.variables or (told and not self._fits(leg)):
            alignment.due(call)
        if "transfer_source" in caller.variables:
            display.due(call)
        if caller.confirmed:
            call.commit(self._through, leg)
        elif delayed:
            call.answered_by = self._on_caller_answer
            call.answer(caller, mine)
        else:
            call.answer(caller, mine, partial(self._through, leg))

    def _towards_caller(self, sdp: str, *, delayed: bool) -> str:
        """What the caller is told: the callee's answer, or (nothing offered yet) the callee's offer.

        What it heard in a 183 was the answer, whoever's it was: another one would count for nothing (RFC 3261 13.2.1).
        """
        call, caller = self.call, self.leg
        media = caller.media
        assert media is not None
        if delayed:
            return anchor.offer_to(call.exchange, caller, sdp)
        if late.told(caller):
            if caller.early_sent and not caller.confirmed:
                anchor.hear(call.exchange, caller, media.remote_sdp)
            return media.local_sdp
        mine = anchor.answer_to(caller, sdp)
        anchor.hear(call.exchange, caller, media.remote_sdp)
        return mine

    def _fits(self, leg: Leg) -> bool:
        """Whether the two said what each of them can use, though the caller said it to somebody else."""
        caller = self.leg
        assert caller.media is not None
        known = bool(caller.media.remote_sdp)
        return known and alignment.in_line(caller, leg) and alignment.in_line(leg, caller)

    def unite(self, leg: Leg) -> None:
        """Two legs are one from now on."""
        call, caller = self.call, self.leg
        self._peer = leg
        call.bridged = [caller, leg]
        call.progress = {"bridged": leg.uuid}
        call.state = "answered"
        now = call.exchange.wall()
        caller.bridged_at = leg.bridged_at = now
        caller.callee_id_name, caller.callee_id_number = leg.callee_id_name, leg.callee_id_number
        caller.variables["originate_disposition"] = caller.variables["DIALSTATUS"] = "SUCCESS"
        for one, other in ((caller, leg), (leg, caller)):
            one.variables["bridge_uuid"] = one.variables["signal_bond"] = other.uuid
            one.variables["bridge_channel"] = other.name
            one.variables["last_bridge_to"] = other.uuid
        call.exchange.media.join(caller.uuid, leg.uuid)

    def _through(self, leg: Leg) -> None:
        """The record is safe: acknowledge the callee."""
        if not leg.live or not self.leg.live:
            return
        if leg.awaits_ack:
            self.call.acknowledge(leg, _late_answer(leg))
        self.call.tell("CHANNEL_ANSWER", leg)
        self.call.tell("CHANNEL_BRIDGE", self.leg, leg)
        if alignment.wanted(self.call):
            alignment.align(self.call)  # what it had agreed on, it had agreed on with somebody else
        if self.call.referred is not None:
            self.call.referred.reached()

    def _on_caller_answer(self, caller: Leg, sdp: str) -> None:
        """The caller's ACK holds the answer to the callee's offer: it goes on in our ACK."""
        call, leg = self.call, self._peer
        if leg is None or not leg.live or not caller.live:
            return
        assert leg.media is not None
        try:
            if not sdp:
                raise NotAcceptable("an ACK without the answer")
            anchor.hear(call.exchange, caller, sdp)
            answer = anchor.answer_to(leg, sdp) if leg.delayed else ""
        except SipError as refusal:
            log.info("call %s: answer of %s not understood: %s", call.uuid, caller.name, refusal)
            call.end("INCOMPATIBLE_DESTINATION")
            return
        call.acknowledge(leg, answer)
        call.save()
        call.tell("CHANNEL_ANSWER", leg)
        call.tell("CHANNEL_BRIDGE", caller, leg)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def left(self, remaining: Leg, cause: str) -> None:
        self.leg.variables["last_bridge_hangup_cause"] = self.leg.variables["bridge_hangup_cause"] = cause
        self.leg.variables.pop("last_bridge_proto_specific_hangup_cause", None)
        if bridge.goes_on_after_bridge(self.leg.variables):
            self.done()
        else:
            self.call.end(cause)

    def abandon(self) -> None:
        dialing = self.call.dialing
        if dialing is not None:
            dialing.abandon("ORIGINATOR_CANCEL")

    # ---- after a failover ------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Take up the legs that are bridged, or still being called."""
        call = self.call
        if call.bridged:
            self._resume_bridged(call.bridged[1])
            return
        others = [leg for leg in call.legs if leg is not self.leg and leg.direction == "outbound"]
        called = [leg for leg in others if leg.live and not leg.confirmed]
        ringing = [leg for leg in called if leg.pending is not None and not leg.pending.cancelled]
        unsent = [leg for leg in called if leg.dialog is None]
        for leg in unsent:
            call.legs.remove(leg)  # nobody has heard of it: it is called anew
        text, group = call.progress.get("dial", self._text), int(call.progress.get("group", "1"))
        if not ringing and not any(map(anew.forsaken, unsent)):
            self._begin(text, group)
            return
        dialing = Dialing(call, self.leg, self._on_dialed, timeout=self._timeout())
        call.dialing = dialing
        dialing.revive([Attempt(call, leg, None) for leg in ringing], text, group)
        dialing.again(unsent)

    def _resume_bridged(self, peer: Leg) -> None:
        """Take up two legs that are one already; the caller's 200 may still wait for its PRACK or its ACK."""
        call, caller = self.call, self.leg
        self._peer = peer
        if late.resume(call):
            return
        if caller.served and not caller.confirmed:
            assert caller.media is not None
            call.answer(caller, caller.media.local_sdp, partial(self._through, peer))
        elif caller.served and caller.transaction.request.to_tag:
            return  # a re-INVITE is under way (`Recovery._resume_modification`)
        elif peer.awaits_ack and _late_answer(peer):
            self._through(peer)
        elif (peer.delayed and peer.awaits_ack) or (caller.media is not None and not caller.media.remote_sdp):
            call.answered_by = self._on_caller_answer


def _late_answer(leg: Leg) -> str:
    """Our answer to the offer in its 200, for the ACK; empty if there was none, or the caller is still to give it."""
    return leg.media.local_sdp if leg.delayed and leg.media is not None else ""
