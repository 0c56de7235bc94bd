"""All calls of one worker: which call a message belongs to, and what the console may ask about them.

The worker is the transaction user of its stack and hands on what is about calls:

* a new INVITE, once `screen` let it in: `on_invite` (with the directory user that authenticated, if one did);
* everything inside a dialog, and ACK: `on_request`, if `knows` says so or the To tag is one of ours;
* `on_cancel`, `on_response`, `on_failure`, `on_unacknowledged`, `on_ended_elsewhere`: whenever `transaction.owner` is
  one of this package's (`isinstance(transaction.owner, (Call, Asked))`), and `on_stray_response`, `on_stray_cancel`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from node.calls import (
    alignment,
    applications,
    arrival,
    causes,
    chat,
    deflect,
    invite,
    loops,
    orders,
    originate,
    outcome,
    parting,
    replaces,
    requests,
    rows,
    timer,
)
from node.calls.arrival import Arrival
from node.calls.asked import Asked, Remains
from node.calls.call import Call
from node.calls.exchange import Exchange, new_uuid
from node.calls.ledger import Ledger, Result
from node.calls.leg import Leg
from node.calls.moving import Reinvite
from node.calls.pace import Pace
from node.calls.recover import Recovery
from node.calls.search import Searches
from node.config import Configuration
from node.config.profile import ProfileSettings
from node.directory import Directory, User
from node.events import EventStream
from node.media.engines import Media
from node.registrar.location import Location
from node.sip import compose
from node.sip.errors import LoopDetected, SipError, TooManyHops
from node.sip.flow import Flow
from node.sip.layer import ClientTransaction, Failure, ServerTransaction
from node.sip.message import Request, Response
from node.transport.endpoint import Endpoint
from store.records import CallRecord
from store.writer import Writer

log = logging.getLogger(__name__)

__all__ = ["Asked", "Call", "Recovery", "Reinvite", "Result", "Switchboard"]

RETRY_AFTER = (("Retry-After", "300"),)


class Switchboard:
    """The calls of one worker, by UUID and by dialog."""

    def __init__(
        self,
        *,
        slot: str,
        node: str,
        epoch: int,
        endpoint: Endpoint,
        media: Media,
        writer: Writer,
        configuration: Configuration,
        directory: Directory,
        location: Location,
        events: EventStream,
        core_uuid: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.endpoint = endpoint
        self.exchange = Exchange(
            slot=slot,
            node=node,
            epoch=epoch,
            endpoint=endpoint,
            media=media,
            writer=writer,
            configuration=configuration,
            directory=directory,
            location=location,
            events=events,
            core_uuid=core_uuid,
            wall=wall,
        )
        self.ledger = Ledger(wall)
        self.pace = Pace(endpoint.later, endpoint.now)
        self.draining = False
        self.elsewhere: replaces.Elsewhere | None = None
        "Brings a request to who has its record, or the record to us."
        self._searches = Searches(self, writer)
        self._second = (0, 0)
        media.on_learned = self._on_learned
        media.on_lost = self._on_media_lost

    # ---- what the worker hands on ----------------------------------------------------------------------------------

    def knows(self, request: Request) -> bool:
        """Whether the request is inside a dialog of a call here, live or just ended."""
        tag = request.to_tag
        return tag in self.exchange.dialogs or self.exchange.departed(tag)

    def proven(self, request: Request) -> str:
        """Who must have sent this request of a dialog here, as `user@domain`: its INVITE was; empty: whoever may."""
        found = self.exchange.dialogs.get(request.to_tag)
        return found.leg.proven if found is not None and _matches(found.leg, request) else ""

    def on_invite(
        self,
        request: Request,
        transaction: ServerTransaction,
        flow: Flow,
        *,
        user: User | None = None,
        context: str = "",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """A new INVITE that may enter: `user` authenticated it, an access list may name another `context`."""
        if busy := self._refused_for_load(self.exchange.profile(flow.profile)):
            headers = [*self.exchange.headers(flow.profile), *RETRY_AFTER]
            answer = compose.response(request, 503, busy, headers=headers)
            # Nothing is kept of it: a flood of calls must not fill the memory with answers that wait for their ACK.
            self.exchange.endpoint.respond_statelessly(transaction, answer)
            return
        new = Arrival(request, transaction, flow, user, context, variables or {})
        try:
            self._judge(request, transaction)
            if request.header("Replaces") is not None:
                replaces.on_invite(self.exchange, new, self.elsewhere)
                return
            call = Call(self.exchange, new_uuid(), flow.profile)
            leg = arrival.enter(call, new, call.uuid)
        except SipError as error:
            arrival.refuse(self.exchange, new, error.status, error.reason, error)
            return
        self.exchange.calls[call.uuid] = call
        call.once_stored(call.say_trying, leg)
        self.exchange.count(leg.profile, "calls_in")
        call.tell("CHANNEL_CREATE", leg)
        call.post(applications.begin, call)

    def on_message(self, request: Request, transaction: ServerTransaction) -> None:
        """A MESSAGE outside of any dialog that may enter."""
        chat.on_message(self.exchange, request, transaction)

    def _refused_for_load(self, own: ProfileSettings | None) -> str:
        """Why no call is taken now; empty if one is."""
        if self.draining:
            return "System Paused"
        limit = self._exceeded(own)
        if limit:
            self.exchange.endpoint.gate.is_full(limit)
        return limit and "Maximum Calls In Progress"

    def _exceeded(self, own: ProfileSettings | None) -> str:
        """The limit that leaves no room for one more call; empty if none does."""
        switch = self.exchange.configuration.switch
        if 0 < switch.max_sessions <= self.sessions:
            return "max-sessions"
        if own is not None and 0 < own.max_profile_sessions <= self.sessions:
            return "max-profile-sessions"
        second, count = self._second
        now = int(self.exchange.endpoint.now())
        count = count + 1 if second == now else 1
        self._second = (now, count)
        return "sessions-per-second" if 0 < switch.sessions_per_second < count else ""

    def _judge(self, request: Request, transaction: ServerTransaction) -> None:
        if request.max_forwards is not None and request.max_forwards <= 0:
            raise TooManyHops("Max-Forwards is used up")
        if self.exchange.endpoint.layer.merged(transaction):
            raise LoopDetected("the same request came before by another way")
        loops.judge(request, self.exchange)
        settings = self.exchange.profile(transaction.flow.profile)
        assert settings is not None, "a flow of a profile we do not have"
        invite.judge(request, settings)
        timer.judge(request, settings)

    def on_request(self, request: Request, transaction: ServerTransaction | None, flow: Flow) -> None:
        """A request inside a dialog, or the ACK to a 2xx."""
        found = self.exchange.dialogs.get(request.to_tag)
        if found is not None and _matches(found.leg, request):
            if transaction is None:
                found.call.post(found.call.on_ack, found.leg, request)
            else:
                found.call.post(requests.on_request, found.call, found.leg, request, transaction)
        elif transaction is not None and found is not None:
            self.say(
                request, transaction, 481
            )  # the tag of a dialog here, and nothing else of it: no such dialog anywhere
        elif transaction is not None:
            self._on_unknown(request, transaction)

    def _on_unknown(self, request: Request, transaction: ServerTransaction) -> None:
        """Of a dialog that is over, or one of another owner: the store knows."""
        if self.exchange.departed(request.to_tag):
            self._answer_departed(request, transaction)
        else:
            self._searches.begin(request, transaction, transaction.flow)

    def serve(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        """One whose dialog has come here."""
        self.on_request(request, transaction, flow)

    def _answer_departed(self, request: Request, transaction: ServerTransaction) -> None:
        """A BYE that came late, or again, is as good as the first one."""
        self.say(request, transaction, 200 if request.method == "BYE" else 481)

    def say(
        self,
        request: Request,
        transaction: ServerTransaction,
        status: int,
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Answer it without a leg."""
        own = self.exchange.headers(transaction.flow.profile)
        self.endpoint.respond(transaction, compose.response(request, status, headers=(*own, *headers)))

    def on_cancel(self, transaction: ServerTransaction, request: Request) -> None:
        """The caller, or the author of a re-INVITE, gives up."""
        call = transaction.owner
        if isinstance(call, Call):
            leg = next((leg for leg in call.legs if leg.transaction is transaction), None)
            if leg is not None:
                call.post(call.on_cancel, leg, request)

    def on_response(self, response: Response, transaction: ClientTransaction) -> None:
        routes = self.exchange.endpoint.routes
        if response.status == 503 or routes.outages:
            routes.heard(response, transaction)
        asked = transaction.owner
        remains = asked.remains if isinstance(asked, Asked) else asked
        if isinstance(remains, Remains) and response.status // 100 == 2:
            outcome.end_late(self.exchange, remains, response)
            return
        if isinstance(asked, Asked):
            if response.status >= 300 or (response.status >= 200 and transaction.method != "INVITE"):
                transaction.owner = None
            if not (transaction.reserved and response.status >= 300):
                asked.hear(response.status, response)
                return
            if asked.call is not None:
                asked.hear_refusal(transaction, response)
                return
        if transaction.reserved and response.status >= 300:
            self.exchange.endpoint.acknowledge(transaction)

    def on_failure(self, transaction: ClientTransaction, cause: Failure) -> None:
        self.exchange.endpoint.routes.unreached(transaction, cause)
        asked = transaction.owner
        if isinstance(asked, Asked):
            transaction.owner = None
            asked.hear(408 if cause == "timeout" else 503, None)

    def on_unacknowledged(self, transaction: ServerTransaction) -> None:
        """A refusal was never acknowledged: nothing hangs on it any more."""
        transaction.owner = None

    def on_ended_elsewhere(self, transaction: ServerTransaction) -> None:
        """An INVITE we took over had been refused already: the predecessor could not write that down any more."""
        call = transaction.owner
        if isinstance(call, Call):
            leg = next((leg for leg in call.legs if leg.transaction is transaction), None)
            if leg is not None:
                call.post(call.on_ended_elsewhere, leg)

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        """A 2xx without a transaction: of an INVITE whose ACK was lost, or that nobody here knows."""
        if response.status // 100 != 2 or response.cseq.method != "INVITE":
            return
        found = self.exchange.dialogs.get(response.from_tag)
        if found is not None:
            found.call.post(outcome.late_response, found.call, found.leg, response.status, response)
            return
        self._end_stray(response, flow)

    def _end_stray(self, response: Response, flow: Flow) -> None:
        """Nobody wants this dialog: ACK, so that it stops, and BYE."""
        if not response.contacts or self.exchange.endpoint.hold is not None:
            return
        dialog = outcome.stray_dialog(response)
        self.exchange.send(dialog.ack(response.cseq.number), flow)
        headers = self.exchange.headers(flow.profile)
        self.exchange.endpoint.request(dialog.request("BYE", headers=headers), flow)

    def on_stray_cancel(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        """A CANCEL whose INVITE is not here: a predecessor has ended it, or nobody knows of it."""
        self._searches.begin(request, transaction, flow)

    # ---- what the media process tells -------------------------------------------------------------------------------

    def _on_learned(self, uuid: str, host: str, port: int) -> None:
        found = self._leg(uuid)
        if found is not None:
            call, leg = found
            if leg.media is not None:
                leg.media.learned_host, leg.media.learned_port = host, port
                call.post(call.save)

    def _on_media_lost(self, uuid: str, error: Exception) -> None:
        found = self._leg(uuid)
        if found is not None:
            log.warning("call %s: media of leg %s is lost: %s", found[0].uuid, uuid, error)
            found[0].post(found[0].end, "MEDIA_TIMEOUT")

    # ---- what the console asks -------------------------------------------------------------------------------------

    def originate(self, words: str, then: Callable[[str], None]) -> None:
        """`originate` as in FreeSWITCH; `then` gets `+OK <uuid>` or `-ERR <CAUSE>`."""
        originate.originate(self.exchange, words, then)

    def kill(self, uuid: str, cause: str = "NORMAL_CLEARING") -> bool:
        """Hang up a leg; the rest follows as if its peer had."""
        found = self._leg(uuid)
        if found is None:
            return False
        call, leg = found
        call.post(call.kill, leg, causes.named(cause) or "NORMAL_CLEARING")
        return True

    def transfer(self, uuid: str, words: Sequence[str]) -> bool:
        """`uuid_transfer`: `[-bleg|-both] extension [dialplan] [context]`."""
        found = self._leg(uuid)
        which = words[0].lower() if words and words[0].startswith("-") else ""
        asked = list(words[1:] if which else words)
        if found is None or not asked or which not in ("", "-bleg", "-both"):
            return False
        call, leg = found
        partner = call.partner(leg)
        extension, dialplan, context = [*asked, "", ""][:3]
        if which == "-both" and partner is not None:
            call.post(parting.transfer, call, leg, extension, dialplan, context)
            return leg.confirmed and partner.confirmed
        if which == "-bleg":
            if partner is None:
                return False
            leg = partner
        call.post(orders.transfer, call, leg, extension, dialplan, context)
        return leg.confirmed

    def bridge(self, uuid: str, other: str) -> bool:
        """`uuid_bridge` of two answered legs, both of this worker."""
        one, two = self._leg(uuid), self._leg(other)
        if one is None or two is None or not orders.may_join(*one, *two):
            return False
        one[0].post(orders.join, *one, *two)
        return True

    def deflect(self, uuid: str, uri: str) -> bool:
        """`uuid_deflect`: ask the peer of a leg to call somebody else."""
        found = self._leg(uuid)
        if found is None or not found[1].confirmed:
            return False
        call, leg = found
        call.post(deflect.order, call, leg, uri)
        return True

    def simplify(self, uuid: str) -> bool:
        """`uuid_simplify`: have the peers of a bridge talk to each other without us."""
        found = self._leg(uuid)
        partner = found[0].partner(found[1]) if found is not None else None
        if found is None or partner is None or not alignment.calm(found[0], found[1], partner):
            return False
        call, leg = found
        call.post(deflect.simplify, call, leg)
        return True

    def hupall(self, cause: str = "MANAGER_REQUEST") -> int:
        """Hang up everything; returns how many legs."""
        count = self.sessions
        for call in list(self.exchange.calls.values()):
            call.post(call.end, causes.named(cause) or "MANAGER_REQUEST")
        return count

    def exists(self, uuid: str) -> bool:
        return self._leg(uuid) is not None

    def channels(self) -> list[dict[str, str]]:
        """The rows of `show channels`, columns in their order."""
        return [rows.channel(call, leg) for call in self.exchange.calls.values() for leg in call.legs if leg.live]

    def channel_count(self) -> int:
        """How many rows `channels` would have, without making one."""
        return sum(1 for call in self.exchange.calls.values() for leg in call.legs if leg.live)

    def calls(self) -> list[dict[str, str]]:
        """The rows of `show calls`, columns in their order."""
        return [row for call in self.exchange.calls.values() for row in rows.calls_of(call)]

    def dump(self, uuid: str) -> list[tuple[str, str]] | None:
        """The headers of `uuid_dump`, values unescaped, in order; None for an unknown UUID."""
        found = self._leg(uuid)
        return rows.dump(*found) if found is not None else None

    def getvar(self, uuid: str, name: str) -> str | None:
        found = self._leg(uuid)
        return found[1].variables.get(name) if found is not None else None

    def setvar(self, uuid: str, name: str, value: str) -> bool:
        found = self._leg(uuid)
        if found is None:
            return False
        call, leg = found
        applications.assign(leg, name, value)
        call.post(call.save)
        return True

    @property
    def sessions(self) -> int:
        """Live legs."""
        return len(self.exchange.dialogs)

    @property
    def counters(self) -> dict[str, int]:
        """`<profile>.calls_in`, `.calls_out`, `.failed_calls_in`, `.failed_calls_out`."""
        return self.exchange.counters

    def _leg(self, uuid: str) -> tuple[Call, Leg] | None:
        call = self.exchange.calls.get(uuid)
        if call is not None and (leg := call.leg(uuid)) is not None and leg.live:
            return call, leg
        for call in self.exchange.calls.values():
            leg = call.leg(uuid)
            if leg is not None and leg.live:
                return call, leg
        return None

    # ---- failover --------------------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None:
        """What is written from now on is written under this epoch."""
        self.exchange.epoch = epoch

    def revive(
        self,
        records: Sequence[CallRecord],
        *,
        reinvite: Reinvite = "auto",
        rate: float = 0.0,
        then: Callable[[list[Result]], None] | None = None,
    ) -> list[Result]:
        """Take over the calls of these records. Returns what became of each leg at once; `then` is called with the
        final results when the last re-INVITE is answered (at most `rate` re-INVITEs a second, 0 for no limit)."""
        self.pace.rate = rate
        recovery = Recovery(self.exchange, pace=self.pace, ledger=self.ledger, reinvite=reinvite, then=then)
        return recovery.run(records)

    def recovery(self) -> dict[str, object]:
        """How far the recovery is, and the last legs with their results."""
        return {"slot": self.exchange.slot, **self.ledger.status(len(self.pace))}

    def claimed(self) -> None:
        """All records of a claim are revived: none is to be waited for any more."""
        self.exchange.claimed()

    def sweep_media(self) -> None:
        """All records of the slot are revived: what else the media process holds for it is nobody's."""
        self.exchange.media.sweep([leg.uuid for call in self.exchange.calls.values() for leg in call.legs if leg.live])

    def drain(self) -> None:
        """Refuse new calls from now on (503)."""
        self.draining = True

    def close(self) -> None:
        """Stop all timers and forget the calls, without a BYE: somebody else goes on with them."""
        self.pace.close()
        for call in list(self.exchange.calls.values()):
            call.forget()
        self.exchange.calls.clear()
        self.exchange.dialogs.clear()


def _matches(leg: Leg, request: Request) -> bool:
    dialog = leg.dialog
    if dialog is None or dialog.call_id != request.call_id:
        return False
    return not dialog.remote_tag or dialog.remote_tag == request.from_tag
