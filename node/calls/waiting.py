"""Applications that wait: given control, they give it back by `done`, or end with the leg.

Each can be taken up by a successor: `resume` instead of `start`, from what `Call.progress` kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from node.calls import alignment, anchor, bridge, invite, reliable
from node.calls.dial import Attempt, Dialing
from node.calls.leg import Leg
from node.media import negotiation
from node.media.control import CodecName
from node.media.errors import MediaError, MediaStopped, NotAcceptable
from node.sip.errors import SipError
from node.sip.message import Response

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.transport.endpoint import Alarm

log = logging.getLogger(__name__)


class Waiting:
    """An application that has control. `call.waiting` is the one."""

    __slots__ = ("call", "leg")

    def __init__(self, call: Call, leg: Leg) -> None:
        self.call = call
        self.leg = leg

    def start(self) -> None:
        """Begin."""

    def resume(self) -> None:
        """Go on where a predecessor was."""
        self.start()

    def abandon(self) -> None:
        """The leg is gone, or the dialplan goes elsewhere: let go of what is held."""

    def forget(self) -> None:
        """Stop, without a word to anybody: a successor goes on."""

    def left(self, remaining: Leg, cause: str) -> None:
        """The leg that `remaining` was bridged with is gone."""
        self.call.end(cause)

    @property
    def active(self) -> bool:
        return self.call.waiting is self and self.leg.live and not self.leg.cause

    def done(self) -> None:
        """Give control back."""
        if self.call.waiting is self:
            self.call.proceed()

    def fail(self, cause: str) -> None:
        """Nothing can follow: end the call."""
        if self.call.waiting is self:
            self.call.conclude(cause)


class Answering(Waiting):
    """`answer` and `pre_answer`: a port, an answer of our own, and for `answer` the record before the 200."""

    __slots__ = ("_early", "_then")

    def __init__(self, call: Call, leg: Leg, *, early: bool, then: Callable[[], None] | None = None) -> None:
        super().__init__(call, leg)
        self._early = early
        self._then = then

    def start(self) -> None:
        if self.leg.confirmed or (self._early and self.leg.early_sent):
            self._go_on()
            return
        assert self.leg.media is not None
        if self.leg.media.port:
            self._on_port(None)
        else:
            anchor.open_port(self.call, self.leg, self._on_port)

    def _on_port(self, error: MediaError | None) -> None:
        if not self.active:
            return
        if error is not None:
            log.warning("call %s: no media port: %s", self.call.uuid, error)
            self.fail("NORMAL_TEMPORARY_FAILURE")
            return
        call, leg = self.call, self.leg
        media = leg.media
        assert media is not None
        try:
            if not media.remote_sdp:
                self._offer()
                return
            sdp = media.local_sdp or anchor.own_answer(call.exchange, leg)
            anchor.hear(call.exchange, leg, media.remote_sdp)
        except SipError as refusal:
            log.info("call %s: cannot answer %s: %s", call.uuid, leg.name, refusal)
            self.fail("INCOMPATIBLE_DESTINATION")
            return
        if self._early:
            call.early(leg, sdp)
            self._go_on()
        else:
            call.answer(leg, sdp, self._go_on)

    def _offer(self) -> None:
        """The INVITE had no offer: ours goes in the 200, or in a reliable 183; the answer comes in the ACK or PRACK."""
        if self._early:
            if self.leg.reliable is None:
                self._go_on()
                return
            self.call.answered_by = self._on_answer
            self.call.early(self.leg, anchor.own_offer(self.call.exchange, self.leg))
            return
        self.call.answered_by = self._on_answer
        self.call.answer(self.leg, anchor.own_offer(self.call.exchange, self.leg))

    def resume(self) -> None:
        if self.leg.confirmed and self.leg.pending is not None and self.leg.media and not self.leg.media.remote_sdp:
            self.call.answered_by = self._on_answer
        else:
            self.start()

    def _on_answer(self, leg: Leg, sdp: str) -> None:
        try:
            adopt_answer(self.call, leg, sdp)
        except SipError as refusal:
            log.info("call %s: answer in the ACK of %s not understood: %s", self.call.uuid, leg.name, refusal)
            self.fail("INCOMPATIBLE_DESTINATION")
            return
        self._go_on()

    def _go_on(self) -> None:
        if self._then is not None:
            self._then()
        else:
            self.done()


def adopt_answer(call: Call, leg: Leg, sdp: str) -> None:
    """The answer to an offer of our own: from now on we know what to play with. Raises SipError."""
    assert leg.media is not None
    if not sdp:
        raise NotAcceptable("no answer")
    anchor.hear(call.exchange, leg, sdp)
    for codec in negotiation.audio_of(sdp).codecs:
        for name in negotiation.PLAYABLE:
            if codec.is_called(name):
                leg.media.codec, leg.media.payload_type = name, codec.payload_type
                return
    raise NotAcceptable("neither PCMU nor PCMA in the answer")


class Sleeping(Waiting):
    """`sleep`: until a moment by the clock on the wall, which a successor has too."""

    __slots__ = ("_alarm", "_milliseconds")

    def __init__(self, call: Call, leg: Leg, milliseconds: int) -> None:
        super().__init__(call, leg)
        self._milliseconds = milliseconds
        self._alarm: Alarm | None = None

    def start(self) -> None:
        wall = self.call.exchange.wall()
        until = float(self.call.progress.setdefault("until", str(wall + self._milliseconds / 1000)))
        self.call.save()
        self._alarm = self.call.later(max(0.0, until - wall), self.done)

    def abandon(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    forget = abandon


class Media(Waiting):
    """An application that needs the leg's media: it is pre-answered where it is not answered."""

    __slots__ = ("_answering",)

    def __init__(self, call: Call, leg: Leg) -> None:
        super().__init__(call, leg)
        self._answering: Answering | None = None

    def start(self) -> None:
        leg = self.leg
        assert leg.media is not None
        if leg.confirmed or leg.early_sent:
            self.play()
            return
        # The port and the answer as `pre_answer` makes them; control stays here.
        answering = Answering(self.call, leg, early=True, then=self._pre_answered)
        self._answering = answering
        answering.call.waiting = answering
        answering.start()

    def _pre_answered(self) -> None:
        self._answering = None
        self.call.waiting = self
        self.play()

    def play(self) -> None:
        """The media is there."""


class Playing(Media):
    """`playback`: files and tones, `!` between them."""

    __slots__ = ("_sources",)

    def __init__(self, call: Call, leg: Leg, text: str, *, endless: bool = False) -> None:
        super().__init__(call, leg)
        self._sources = _sources(text) or ["silence_stream://0"]
        if endless:
            self._sources = [*self._sources, ""]

    def play(self) -> None:
        index = int(self.call.progress.get("file", "0"))
        if index >= len(self._sources):
            self.done()
            return
        if not self._sources[index]:
            index = 0
            self.call.progress["file"] = "0"
        media = self.leg.media
        assert media is not None
        source = self._sources[index]
        folder = self.call.exchange.configuration.globals.get("sounds_dir", "")
        if folder and "://" not in source and not source.startswith("/"):
            source = f"{folder}/{source}"
        codec: CodecName = "PCMA" if media.codec == "PCMA" else "PCMU"
        played = partial(self.call.post, self._on_played)
        self.call.exchange.media.play(self.leg.uuid, source, payload_type=media.payload_type, codec=codec, then=played)
        self.call.save()

    def _on_played(self, error: MediaError | None) -> None:
        if not self.active:
            return
        if isinstance(error, MediaStopped):
            self.done()
            return
        if error is not None:
            log.warning("call %s: cannot play %s: %s", self.call.uuid, self._sources, error)
        self.call.progress["file"] = str(int(self.call.progress.get("file", "0")) + 1)
        self.play() if error is None else self.done()

    def abandon(self) -> None:
        self.call.exchange.media.stop(self.leg.uuid)


class Echoing(Media):
    """`echo`, until the caller has had enough of it."""

    __slots__ = ()

    def play(self) -> None:
        self.call.exchange.media.echo(self.leg.uuid, True)
        self.call.save()

    def abandon(self) -> None:
        if self.leg.live:
            self.call.exchange.media.echo(self.leg.uuid, False)


class Parking(Media):
    """`park`: wait for somebody to do something with the leg."""

    __slots__ = ()


def _sources(text: str) -> list[str]:
    """`{params}a.wav!b.wav`, `file_string://a!b`."""
    if text.startswith("{") and "}" in text:
        text = text.partition("}")[2]
    text = text.removeprefix("file_string://")
    if "://" in text.partition("!")[0]:
        return [text]
    return [source.strip() for source in text.split("!") if source.strip()]


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
        return float(limit) if limit.isdigit() and int(limit) else 60.0

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
        try:
            sdp = invite.sdp_of(response) or leg.media.remote_sdp
            if not sdp:
                raise NotAcceptable("a 200 without a session description")
            anchor.hear(call.exchange, leg, sdp)
            mine = self._towards_caller(anchor.towards(leg) if leg.media.codec else sdp, delayed=delayed)
        except SipError as refusal:
            log.info("call %s: answer of %s not understood: %s", call.uuid, leg.name, refusal)
            call.release(leg, "INCOMPATIBLE_DESTINATION")
            self._failed("INCOMPATIBLE_DESTINATION", 488)
            return
        self.unite(leg)
        if "transfer_source" in caller.variables:
            alignment.due(call)
        if caller.confirmed:
            call.commit(self._through, leg)
        elif delayed:
            call.answered_by = self._on_caller_answer
            call.answer(caller, mine)
        else:
            call.answer(caller, mine, partial(self._through, leg))

    def _towards_caller(self, sdp: str, *, delayed: bool) -> str:
        """What the caller is told: the callee's answer, or (nothing offered yet) the callee's offer."""
        call, caller = self.call, self.leg
        media = caller.media
        assert media is not None
        if delayed:
            return anchor.offer_to(call.exchange, caller, sdp)
        if caller.confirmed or media.codec or reliable.settled(caller):
            return media.local_sdp
        mine = anchor.answer_to(caller, sdp)
        anchor.hear(call.exchange, caller, media.remote_sdp)
        return mine

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
            self.call.acknowledge(leg)
        self.call.tell("CHANNEL_ANSWER", leg)
        self.call.tell("CHANNEL_BRIDGE", self.leg, leg)
        if "transfer_source" in self.leg.variables:
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
        if not ringing:
            self._begin(text, group)
            return
        dialing = Dialing(call, self.leg, self._on_dialed, timeout=self._timeout())
        call.dialing = dialing
        dialing.revive([Attempt(call, leg, None) for leg in ringing], text, group)
        for leg in unsent:
            dialing.again(leg)

    def _resume_bridged(self, peer: Leg) -> None:
        """Take up two legs that are one already; the caller's 200 may still wait for its PRACK or its ACK."""
        call, caller = self.call, self.leg
        self._peer = peer
        if caller.served and not caller.confirmed:
            assert caller.media is not None
            call.answer(caller, caller.media.local_sdp, partial(self._through, peer))
        elif (peer.delayed and peer.awaits_ack) or (caller.media is not None and not caller.media.remote_sdp):
            call.answered_by = self._on_caller_answer
