"""A call: the actor that its legs, its dialplan and its record belong to.

Everything that happens to a call comes through one door, `post`, in order: messages, timers, the store's and the media
process's answers. Nothing else touches it. What breaks inside ends this call and nobody else's.

The order of writing is what makes a failover right; see `answer`, `on_bye` and `commit`: what a peer must not be told
before it is safe is told in the `then` of a put.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from node.calls import anchor, anew, applications, challenged, identity, invite, leaving, refresh, rows, serving
from node.calls.asked import Asked, Then
from node.calls.exchange import MEMORY, Exchange
from node.calls.leg import Leg
from node.calls.modify import Modification
from node.calls.snapshot import snapshot
from node.debug import nua
from node.sip import compose
from node.sip.errors import SipError
from node.sip.message import Request, Response
from store.interface import Outcome
from store.records import CallState, PendingInvite, Registration, Step

if TYPE_CHECKING:
    from node.calls.dial import Dialing
    from node.calls.referral import Pursuit
    from node.calls.waiting import Waiting
    from node.sip.layer import ClientTransaction, ServerTransaction
    from node.transport.endpoint import Alarm

log = logging.getLogger(__name__)


FIRST = 0.05
"""Seconds the first record may wait: it takes a media port and the callee's address, which are there in a fraction of it,
under load in a few turns of the loop."""


class Call:
    """One call with its legs; `legs[0]` is the one whose dialplan runs."""

    __slots__ = (
        "__weakref__",
        "_busy",
        "_dirty",
        "_first",
        "_mail",
        "_once",
        "answered_by",
        "beyond",
        "bridged",
        "created",
        "dialing",
        "exchange",
        "expires",
        "farewells",
        "legs",
        "modification",
        "position",
        "profile",
        "progress",
        "recovered",
        "referred",
        "registrations",
        "state",
        "steps",
        "tracked",
        "uuid",
        "version",
        "waiting",
    )

    def __init__(self, exchange: Exchange, uuid: str, profile: str) -> None:
        self.exchange = exchange
        self.uuid = uuid
        self.profile = profile
        self.state: CallState = "routing"
        self.legs: list[Leg] = []
        self.bridged: list[Leg] = []
        "The two legs that are bridged, the caller's first."
        self.farewells: list[Leg] = []
        "Legs that are over for us, and have not answered our BYE yet: should we die now, a successor repeats it."
        self.steps: list[Step] = []
        self.position = 0
        self.progress: dict[str, str] = {}
        self.version = 0
        self.created = exchange.wall()
        self.expires = 0.0
        self.recovered = False
        self.beyond: dict[str, Any] | None = None
        "What a newer release has written of it."
        self.dialing: Dialing | None = None
        self.modification: Modification | None = None
        self.referred: Pursuit | None = None
        "A transfer under way whose outcome its author waits for."
        self.waiting: Waiting | None = None
        "The application that was given control and has not given it back."
        self.registrations: dict[str, Registration] = {}
        "By contact: the bindings that a lookup found, for their flows."
        self.answered_by: Callable[[Leg, str], None] | None = None
        "Who wants to know that a 2xx of ours is acknowledged, and with which SDP (delayed offer)."
        settings = exchange.profile(profile)
        self.tracked = settings is None or settings.track_calls
        self._mail: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._once: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        "What waits for the next put to be stored."
        self._first: Alarm | None = None
        "What has the first record written at the latest."
        self._busy = False
        self._dirty = False

    def receive(self, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
        """The INVITE that made this call."""
        transaction.owner = self
        leg.transaction = transaction
        leg.pending = PendingInvite(role="server", request=request.encode(), flow=transaction.flow.to_record())
        settings = self.exchange.profile(leg.profile)
        assert settings is not None
        anchor.prepare(leg, settings, invite.sdp_of(request))

    # ---- the door --------------------------------------------------------------------------------------------------

    def post(self, action: Callable[..., None], *args: Any) -> None:
        """Do this now, or, from within another action, when that is done."""
        if self._busy:
            self._mail.append((action, args))
            return
        self._busy = True
        try:
            self._do(action, args)
            while self._mail:
                self._do(*self._mail.popleft())
        finally:
            self._busy = False
        if self._dirty and not self._may_wait():
            self._put()

    def _do(self, action: Callable[..., None], args: tuple[Any, ...]) -> None:
        if nua.level >= 9:
            nua.say("call %s: %s", self.uuid, getattr(action, "__qualname__", action))
        try:
            action(*args)
        except SipError as error:
            # A peer said what cannot be read: that is passed over, and the call goes on.
            log.warning("call %s: %s passed over: %s", self.uuid, getattr(action, "__qualname__", action), error)
        except Exception:
            log.exception("call %s broke, ending it", self.uuid)
            self._break()

    def _break(self) -> None:
        """Something inside failed: 500 for whom we have not answered, BYE for the others."""
        for leg in list(self.legs):
            leg.variables["respond_code"] = "500"
            try:
                self.release(leg, "NORMAL_TEMPORARY_FAILURE")
            except Exception:
                log.exception("call %s: leg %s could not even be ended", self.uuid, leg.uuid)
                leg.state = "ended"
                self.exchange.depart(leg)
                self.exchange.media.close(leg.uuid)
        self.finish()

    def later(self, delay: float, action: Callable[..., None], *args: Any) -> Alarm:
        """Do this in a while."""
        return self.exchange.endpoint.later(delay, partial(self.post, action, *args))

    # ---- the record ------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Have the record written when the present action is done; nobody waits for it."""
        self._dirty = True

    def commit(self, then: Callable[..., None], *args: Any) -> None:
        """Write the record now; `then(*args)` when it is stored, or at risk. Never if a newer epoch rules."""
        self._once.append((then, args))
        self._put()

    def once_stored(self, then: Callable[..., None], *args: Any) -> None:
        """The same with the next put, whatever asks for it: when the present action is done at the latest."""
        self._once.append((then, args))
        self._dirty = True

    def _put(self) -> None:
        self._dirty = False
        once = self._once
        if self.state == "ended" and not self.version and not once:
            return  # it never came to anything
        self.version += 1
        if nua.level >= 7:
            nua.say(
                "call %s: record %d, %s, legs %s", self.uuid, self.version, self.state, [x.state for x in self.legs]
            )
        then = None
        if once:
            then = partial(self.post, self._stored, once, self.version)
            self._once = []
        if self.tracked:
            self.exchange.writer.put(snapshot(self), then)
        elif then is not None:
            then(Outcome.STORED)

    def _may_wait(self) -> bool:
        """The first record of a call waits a moment for the INVITE to the callee, which it is to hold anyway.

        Nobody has been told anything yet, not even 100: should we die now, the caller repeats its INVITE.
        """
        if self.version or self.state != "routing":
            return False
        if self._first is None:
            self._first = self.later(FIRST, self._put_first)
        return True

    def _put_first(self) -> None:
        self._first = None
        if self._dirty and not self.version:
            self._put()

    def _stored(self, once: list[tuple[Callable[..., None], tuple[Any, ...]]], version: int, outcome: Outcome) -> None:
        if outcome is Outcome.FENCED:
            if version == 1:
                leaving.unwritten(self)
            else:
                log.warning("call %s belongs to somebody else now, leaving it alone", self.uuid)
            return
        for then, args in once:
            self._do(then, args)  # each is what somebody waits for, whatever becomes of the others

    def say_trying(self, leg: Leg) -> None:
        """100 once the call is on record: a caller who stops repeating its INVITE is known to a successor."""
        if not leg.live or not leg.served or leg.transaction.final:
            return
        if leg.state == "trying" or leg.transaction.request.to_tag:
            self.exchange.endpoint.respond(leg.transaction, compose.response(leg.transaction.request, 100))

    # ---- requests of ours ------------------------------------------------------------------------------------------

    def ask(self, leg: Leg, request: Request, then: Then, answers: int = 0) -> ClientTransaction:
        """Send a request in the leg's dialog; `then(leg, status, response)` for each response, 408 or 503 for none.

        `answers`: how many challenges to it were answered already.
        """
        assert leg.flow is not None, "a leg without a flow"
        if leg.dialog is not None and leg.dialog.needs_record:
            self.save()
        transaction = self.exchange.endpoint.request(request, leg.flow)
        transaction.owner = Asked(self, leg, challenged.hearing(self, leg, request, then, answers))
        return transaction

    def send(self, leg: Leg, request: Request, then: Then) -> None:
        """Send an INVITE that bears its Via already, because it was written down before."""
        assert leg.flow is not None, "a leg without a flow"
        leg.transaction = self.exchange.endpoint.revive_client(request, leg.flow, proceeding=False)
        leg.transaction.reserved = True
        leg.asked = leg.transaction.owner = Asked(self, leg, then)

    def send_written(self, leg: Leg, request: Request, then: Then, answers: int = 0) -> None:
        """A re-INVITE, which leaves when it is on record: whatever the peer does about it is known to a successor."""
        assert leg.flow is not None, "a leg without a flow"
        request = self.exchange.endpoint.layer.with_via(request, leg.flow)
        leg.invite_cseq = request.cseq.number
        leg.transaction = None
        leg.pending = pending = PendingInvite(role="client", request=request.encode(), flow=leg.flow.to_record())
        self.commit(self._send_written, leg, pending, request, challenged.hearing(self, leg, request, then, answers))

    def _send_written(self, leg: Leg, pending: PendingInvite, request: Request, then: Then) -> None:
        if leg.pending is pending and leg.live:
            self.send(leg, request, then)

    def acknowledge(self, leg: Leg, sdp: str = "") -> None:
        """ACK the 2xx of the last INVITE we sent on this leg, the first time or again."""
        assert leg.dialog is not None
        assert leg.flow is not None
        leg.awaits_ack = False
        kind = invite.SDP if sdp else None
        body = sdp.encode("utf-8", "surrogateescape")
        swapped = leg.variables.get(refresh.SWAPPED) == str(leg.invite_cseq)
        ack = leg.dialog.ack(leg.invite_cseq, headers=leg.credentials, body=body, content_type=kind, swapped=swapped)
        self.exchange.send(ack, leg.flow)

    # ---- an unanswered caller --------------------------------------------------------------------------------------

    def respond(self, leg: Leg, status: int, *, sdp: str = "", headers: tuple[tuple[str, str], ...] = ()) -> Response:
        """Compose a response to the leg's INVITE, in its dialog, with everything mod_sofia puts into one."""
        assert leg.transaction is not None
        assert leg.dialog is not None
        exchange = self.exchange
        extra = [*exchange.headers(leg.profile), *headers]
        if status < 300:
            extra += self._callee(leg, status)
        if sdp:
            extra.append(("Content-Disposition", "session"))
        prefix = "sip_ph_" if status < 200 else "sip_rh_"
        extra += leg.extra_headers(prefix)
        return compose.response(
            leg.transaction.request,
            status,
            to_tag=leg.dialog.local_tag,
            contact=exchange.contact(leg, leg.transaction.request.target.user) if status < 300 else None,
            headers=extra,
            body=sdp.encode("utf-8", "surrogateescape"),
            content_type=invite.SDP if sdp else None,
        )

    def _callee(self, leg: Leg, status: int) -> list[tuple[str, str]]:
        settings = self.exchange.profile(leg.profile)
        if settings is None or not settings.pass_callee_id or (status < 200 and not settings.cid_in_1xx):
            return []
        return identity.callee(leg, "", settings.caller_id_type)

    def ring(self, leg: Leg, status: int = 180) -> None:
        """Tell an unanswered caller that it rings."""
        serving.ring(self, leg, status)

    def early(self, leg: Leg, sdp: str) -> None:
        """Early media: 183 with a session description."""
        serving.early(self, leg, sdp)

    def answer(self, leg: Leg, sdp: str, then: Callable[[], None] | None = None) -> None:
        """Answer a caller; `then` when the record is stored and the 200 on its way."""
        serving.answer(self, leg, sdp, then)

    def settle(self, leg: Leg) -> None:
        """The INVITE transaction of a leg is over."""
        if leg.transaction is not None:
            leg.transaction.owner = None
            leg.transaction.shed()
        leg.transaction = None
        leg.pending = None

    # ---- the end ---------------------------------------------------------------------------------------------------

    def end(self, cause: str) -> None:
        """End all legs."""
        if self.dialing is not None:
            self.dialing.abandon(cause)
        for leg in list(self.legs):
            self.release(leg, cause)
        self.finish()

    def conclude(self, cause: str) -> None:
        """The dialplan has nothing more to do: the end, or, if it was a transfer's, back to who asked for that."""
        if self.referred is None or not self.referred.failed(cause):
            self.end(cause)

    def release(self, leg: Leg, cause: str) -> None:
        """End one leg by what its state asks for: BYE, CANCEL, or a final response."""
        leaving.release(self, leg, cause)

    def over(self, leg: Leg, cause: str) -> None:
        """A leg is gone, whoever ended it: give back what it held, say so."""
        leaving.over(self, leg, cause)

    def unbridge(self) -> None:
        """The two legs are no longer one."""
        if not self.bridged:
            return
        a, b = self.bridged
        self.tell("CHANNEL_UNBRIDGE", a, b)
        self.bridged = []
        for leg in (a, b):
            if leg.live:
                self.exchange.media.part(leg.uuid)

    def finish(self) -> None:
        """End the call if all its legs are over."""
        if self.state == "ended" or self.farewells or any(leg.live for leg in self.legs):
            return
        self.state = "ended"
        self.expires = self.exchange.writer.store_time() + MEMORY
        self.exchange.calls.pop(self.uuid, None)
        if self.dialing is not None:
            self.dialing.abandon("NORMAL_CLEARING")
        if self.waiting is not None:
            self.waiting.abandon()
        if self.modification is not None:
            self.modification.interrupted(self.modification.source)
        # Nothing may hold the call in a circle now: it is freed when the last message about it is.
        self.dialing = self.waiting = self.modification = self.answered_by = self.referred = None
        self.steps = []
        self.progress = {}
        self.save()

    # ---- what peers do ---------------------------------------------------------------------------------------------

    def on_bye(self, leg: Leg, request: Request, transaction: ServerTransaction) -> None:
        """BYE: the other side first, then the record, then the 200."""
        leaving.on_bye(self, leg, request, transaction)

    def on_cancel(self, leg: Leg, request: Request) -> None:
        """The caller gave up, or took a re-INVITE back."""
        leaving.on_cancel(self, leg, request)

    def lost(self, leg: Leg, cause: str) -> None:
        """A leg ended by its peer, or given up for dead: what does that mean for the others?"""
        leaving.lost(self, leg, cause)

    def kill(self, leg: Leg, cause: str) -> None:
        """Somebody wants this leg gone."""
        leaving.kill(self, leg, cause)

    def on_ended_elsewhere(self, leg: Leg) -> None:
        """A predecessor had refused this caller, or its re-INVITE, already."""
        leaving.on_ended_elsewhere(self, leg)

    def on_ack(self, leg: Leg, request: Request) -> None:
        """The ACK to a 2xx of ours."""
        serving.on_ack(self, leg, request)
        if self.recovered:
            anew.tell_where(self, leg)

    def on_session_due(self, leg: Leg) -> None:
        """The session timer says that it is time."""
        refresh.on_session_due(self, leg)

    def forget(self) -> None:
        """Let go without a word to anybody: somebody else goes on with this call."""
        if self._first is not None:
            self._first.cancel()
        for leg in self.legs:
            for alarm in (leg.repeat, leg.refresh):
                if alarm is not None:
                    alarm.cancel()
            leg.repeat = leg.refresh = None
            if leg.transaction is not None:
                leg.transaction.owner = None
            if leg.asked is not None:
                leg.asked.forget()
        if self.waiting is not None:
            self.waiting.forget()
        if self.dialing is not None:
            self.dialing.forget()
        self.dialing = self.waiting = self.modification = self.answered_by = self.referred = None

    def proceed(self) -> None:
        """The running application has done its work: on to the next."""
        applications.advance(self)
        applications.run(self)

    def partner(self, leg: Leg) -> Leg | None:
        """The leg that this one is bridged with."""
        if leg not in self.bridged:
            return None
        return self.bridged[1] if leg is self.bridged[0] else self.bridged[0]

    def leg(self, uuid: str) -> Leg | None:
        return next((leg for leg in self.legs if leg.uuid == uuid), None)

    # ---- telling ---------------------------------------------------------------------------------------------------

    def tell(self, name: str, leg: Leg, partner: Leg | None = None) -> None:
        """Fire a channel event, if anybody listens."""
        if nua.level >= 5:
            nua.say("call %s: %s, leg %s %s, %s", self.uuid, name, leg.uuid, leg.name, leg.state)
        if self.exchange.events.wanted(name):
            self.exchange.events.fire(rows.channel_event(self, leg, name, partner))
