"""The dialplan's applications, and what runs them: one after the other, some of which wait.

An application does its work and returns None, and the next one follows; or it returns a `Waiting`, and the next one follows
when that is done. Where a call stands is in its record (`steps`, `position`, `progress`): a successor takes up the
running application at its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from node.calls import causes, expansion
from node.calls.bridging import Bridging
from node.calls.deflect import Deflecting
from node.calls.leg import Leg
from node.calls.secrecy import masked
from node.calls.waiting import Answering, Echoing, Media, Parking, Playing, Sleeping, Waiting
from node.dialplan import inline
from node.dialplan.route import Facts, follow
from node.events import Event
from store.records import Step

if TYPE_CHECKING:
    from node.calls.call import Call

log = logging.getLogger(__name__)

Application = Callable[["Call", Leg, str], "Waiting | None"]


# ---- running them ------------------------------------------------------------------------------------------------------


def begin(call: Call) -> None:
    """Route the call's first leg and run what the dialplan says."""
    leg = call.legs[0]
    if not take_route(call, leg):
        log.info("call %s: no route for %s in context %s", call.uuid, leg.destination, leg.context)
        call.end("NO_ROUTE_DESTINATION")
        return
    call.save()
    run(call)


def take_route(call: Call, leg: Leg) -> bool:
    """Ask the dialplan; its actions become the call's steps. False if it has none."""
    exchange = call.exchange
    facts = Facts(
        destination_number=leg.destination,
        caller_id_name=leg.caller_id_name,
        caller_id_number=leg.caller_id_number,
        callee_id_name=leg.callee_id_name,
        callee_id_number=leg.callee_id_number,
        network_addr=leg.network_addr,
        username=leg.username,
        ani=leg.caller_id_number,
        context=leg.context,
        dialplan=leg.dialplan,
        chan_name=leg.name,
        uuid=leg.uuid,
        variables=leg.variables,
        globals=exchange.configuration.globals,
        now=exchange.wall(),
    )
    found = follow(exchange.configuration.dialplan, leg.dialplan or "XML", leg.context, facts)
    for name, value in found.variables.items():
        if value is None:
            leg.variables.pop(name, None)
        else:
            leg.variables[name] = value
    for field, value in found.profile.items():
        _set_profile_field(leg, field, value)
    call.steps = list(found.steps)
    call.position = 0
    return bool(call.steps)


def run(call: Call) -> None:
    """Run applications until one waits, or none is left."""
    leg = call.legs[0]
    while leg.live and not leg.cause and call.waiting is None:
        if call.position >= len(call.steps):
            call.conclude("NORMAL_CLEARING")
            return
        step = call.steps[call.position]
        expanding = Expanding(call, leg, step)
        call.waiting = expanding
        expanding.start()


def advance(call: Call) -> None:
    """The running application has done its work."""
    leg = call.legs[0]
    if leg.live:
        call.tell("CHANNEL_EXECUTE_COMPLETE", leg)
        call.save()
    call.waiting = None
    call.progress = {}
    call.position += 1


class Expanding(Waiting):
    """A step whose data is being expanded; as a rule that is done at once."""

    __slots__ = ("_starting", "_step")

    def __init__(self, call: Call, leg: Leg, step: Step) -> None:
        super().__init__(call, leg)
        self._step = step
        self._starting = False

    def start(self) -> None:
        step = self._step
        if "${" not in step.data:
            _execute(self.call, self.leg, step.application, step.data)
            return
        self._starting = True
        look = expansion.lookup(self.call, self.leg)
        expansion.Expansion(self.call, step.data, look, self._on_expanded).run()
        self._starting = False

    def _on_expanded(self, data: str) -> None:
        if not self.active:
            return
        _execute(self.call, self.leg, self._step.application, data)
        if not self._starting:
            run(self.call)


def _execute(call: Call, leg: Leg, name: str, data: str) -> None:
    name, colons, more = name.partition("::")
    if colons and not data:
        data = more
    application = APPLICATIONS.get(name)
    if application is None:
        log.warning("call %s: no application %s here", call.uuid, name)
        call.waiting = None
        call.conclude("DESTINATION_OUT_OF_ORDER")
        return
    leg.variables["current_application"] = name
    leg.variables["current_application_data"] = data
    call.tell("CHANNEL_EXECUTE", leg)
    waiting = application(call, leg, data)
    if waiting is not None:
        call.waiting = waiting
        waiting.start()
        if call.referred is not None and isinstance(waiting, Media):
            call.referred.reached()
    elif not isinstance(call.waiting, Expanding):
        return  # it went back to who had transferred it
    elif leg.live and not leg.cause:
        advance(call)
    else:
        call.waiting = None


def resume(call: Call) -> None:
    """After a failover: go on with the application that was running."""
    leg = call.legs[0]
    if not leg.live or leg.cause or call.position >= len(call.steps):
        if call.bridged:
            call.waiting = Bridging(call, leg, "")
            call.waiting.resume()
        return
    step = call.steps[call.position]
    begun = call.progress or leg.variables.get("current_application") == step.application
    waiting = APPLICATIONS[step.application](call, leg, _data(call, leg, step)) if _waits(step) and begun else None
    if waiting is None:
        run(call)
        return
    call.waiting = waiting
    waiting.resume()


def _waits(step: Step) -> bool:
    """Whether the application of a step is one that keeps control for a while, and does nothing else."""
    return step.application in ("bridge", "playback", "endless_playback", "echo", "sleep", "park", "answer", "deflect")


def _data(call: Call, leg: Leg, step: Step) -> str:
    """The data the application was running with: it was expanded when it began."""
    if leg.variables.get("current_application") == step.application:
        return leg.variables.get("current_application_data", step.data)
    return step.data


# ---- variables ---------------------------------------------------------------------------------------------------------


def _set(_call: Call, leg: Leg, data: str) -> None:
    name, value = inline.assignment(data)
    assign(leg, name, value)


def assign(leg: Leg, name: str, value: str) -> None:
    """Set a variable; an empty value unsets it."""
    if value:
        leg.variables[name] = value
    else:
        leg.variables.pop(name, None)


def _multiset(_call: Call, leg: Leg, data: str) -> None:
    for item in inline.several(data):
        name, value = inline.assignment(item)
        assign(leg, name, value)


def _unset(_call: Call, leg: Leg, data: str) -> None:
    for name in inline.several(data):
        leg.variables.pop(name, None)


def _export(_call: Call, leg: Leg, data: str) -> None:
    """Set here, and on every leg that this one calls from now on."""
    here = not data.startswith("nolocal:")
    name, value = inline.assignment(data.removeprefix("nolocal:"))
    names = [one for one in leg.variables.get("export_vars", "").split(",") if one and one != name]
    leg.variables["export_vars"] = ",".join([*names, name])
    if here:
        assign(leg, name, value)
    else:
        leg.variables[f"nolocal:{name}"] = value


def _set_profile_var(_call: Call, leg: Leg, data: str) -> None:
    name, value = inline.assignment(data)
    _set_profile_field(leg, name, value)


def _set_profile_field(leg: Leg, name: str, value: str) -> None:
    own = {"destination_number": "destination"}.get(name, name)
    if own in ("caller_id_name", "caller_id_number", "callee_id_name", "callee_id_number", "destination", "username"):
        setattr(leg, own, value)


def _set_user(call: Call, leg: Leg, data: str) -> None:
    who, _, prefix = data.partition(" ")
    name, _, domain = who.partition("@")
    user = call.exchange.directory.find(name, domain)
    if user is not None:
        leg.variables.update((f"{prefix}{key}", value) for key, value in user.variables.items())


# ---- the caller's INVITE -------------------------------------------------------------------------------------------------


def _answer(call: Call, leg: Leg, _data: str) -> Waiting:
    return Answering(call, leg, early=False)


def _pre_answer(call: Call, leg: Leg, _data: str) -> Waiting:
    return Answering(call, leg, early=True)


def _ring_ready(call: Call, leg: Leg, data: str) -> None:
    call.ring(leg, 182 if data.strip() == "queued" else 180)


def _respond(call: Call, leg: Leg, data: str) -> None:
    """A response of one's own making; a final one ends the call."""
    status, _, _phrase = data.strip().partition(" ")
    code = int(status) if status.isdecimal() else 488
    if 100 < code < 200:
        if code == 183:
            code = 180  # a 183 says something about media only with a description in it
        call.ring(leg, code)
    elif code >= 300:
        leg.variables["respond_code"] = data.strip() if status.isdecimal() else "488"
        call.conclude(causes.from_status(code))


def _redirect(call: Call, leg: Leg, data: str) -> None:
    """302 with the contacts given, 300 with several."""
    if leg.confirmed:
        log.warning("call %s: answered already, cannot be redirected", call.uuid)
        return
    contacts = [f"<{one.strip().strip('<>')}>" for one in data.split(",") if one.strip()]
    leg.variables["sip_redirect_contacts"] = ",".join(contacts)
    leg.variables["respond_code"] = "302" if len(contacts) == 1 else "300"
    call.conclude("REDIRECTION_TO_NEW_DESTINATION")


def _hangup(call: Call, _leg: Leg, data: str) -> None:
    call.conclude(causes.named(data) or "NORMAL_CLEARING")


# ---- what takes its time -------------------------------------------------------------------------------------------------


def _bridge(call: Call, leg: Leg, data: str) -> Waiting:
    return Bridging(call, leg, data)


def _playback(call: Call, leg: Leg, data: str) -> Waiting:
    return Playing(call, leg, data)


def _endless_playback(call: Call, leg: Leg, data: str) -> Waiting:
    return Playing(call, leg, data, endless=True)


def _echo(call: Call, leg: Leg, _data: str) -> Waiting:
    return Echoing(call, leg)


def _deflect(call: Call, leg: Leg, data: str) -> Waiting | None:
    """REFER where the leg is answered, else a redirection."""
    if leg.confirmed:
        return Deflecting(call, leg, data)
    _redirect(call, leg, data)
    return None


def _park(call: Call, leg: Leg, _data: str) -> Waiting:
    return Parking(call, leg)


def _sleep(call: Call, leg: Leg, data: str) -> Waiting:
    return Sleeping(call, leg, int(data) if data.strip().isdecimal() else 0)


# ---- going elsewhere -----------------------------------------------------------------------------------------------------


def _transfer(call: Call, leg: Leg, data: str) -> None:
    """`[-bleg|-both] extension [dialplan] [context]`: the dialplan is asked anew."""
    words = [word for word in data.split() if not word.startswith("-")]
    left = int(leg.variables.get("max_session_transfers") or leg.variables.get("max_forwards", "70") or 70)
    if not words or left <= 1:
        call.conclude("EXCHANGE_ROUTING_ERROR")
        return
    leg.variables["max_session_transfers"] = str(left - 1)
    leg.destination = words[0]
    leg.dialplan = leg.variables.get("force_transfer_dialplan") or (words[1] if len(words) > 1 else leg.dialplan)
    leg.context = leg.variables.get("force_transfer_context") or (words[2] if len(words) > 2 else leg.context)
    if not take_route(call, leg):
        call.conclude("NO_ROUTE_DESTINATION")
        return
    call.progress = {}
    call.position = -1


def _execute_extension(call: Call, leg: Leg, data: str) -> None:
    """The actions of another extension, run before what follows here."""
    words = data.split()
    if not words:
        return
    kept = (call.steps, call.position, leg.destination, leg.context)
    leg.destination = words[0]
    leg.context = words[2] if len(words) > 2 else leg.context
    take_route(call, leg)
    inserted = call.steps
    call.steps, call.position, leg.destination, leg.context = kept
    call.steps = [*call.steps[: call.position + 1], *inserted, *call.steps[call.position + 1 :]]


# ---- words only ----------------------------------------------------------------------------------------------------------

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "err": logging.ERROR,
    "error": logging.ERROR,
    "crit": logging.CRITICAL,
    "alert": logging.CRITICAL,
    "console": logging.INFO,
}


def _log(call: Call, _leg: Leg, data: str) -> None:
    word, _, text = data.partition(" ")
    level = _LEVELS.get(word.lower())
    log.log(level or logging.DEBUG, "call %s: %s", call.uuid, text if level else data)


def _info(call: Call, leg: Leg, _data: str) -> None:
    log.info("call %s: %s %s", call.uuid, leg.name, masked(leg.variables))


def _event(call: Call, leg: Leg, data: str) -> None:
    """`Event-Name=..,Event-Subclass=..,..`."""
    headers = [inline.assignment(item) for item in data.split(",") if "=" in item]
    given = dict(headers)
    name = given.get("Event-Name", "CUSTOM")
    kept = [(key, value) for key, value in headers if key not in ("Event-Name", "Event-Subclass")]
    event = Event(name=name, subclass=given.get("Event-Subclass", ""), headers=[("Unique-ID", leg.uuid), *kept])
    call.exchange.events.fire(event)


def _nothing(_call: Call, _leg: Leg, _data: str) -> None:
    """Its effect is in the expansion of its data, or in something this node does not have."""


APPLICATIONS: dict[str, Application] = {
    "acknowledge_call": _nothing,
    "answer": _answer,
    "bridge": _bridge,
    "bridge_export": _export,
    "deflect": _deflect,
    "echo": _echo,
    "endless_playback": _endless_playback,
    "eval": _nothing,
    "event": _event,
    "execute_extension": _execute_extension,
    "export": _export,
    "hangup": _hangup,
    "info": _info,
    "log": _log,
    "multiset": _multiset,
    "multiunset": _unset,
    "park": _park,
    "playback": _playback,
    "pre_answer": _pre_answer,
    "redirect": _redirect,
    "respond": _respond,
    "ring_ready": _ring_ready,
    "set": _set,
    "set_profile_var": _set_profile_var,
    "set_user": _set_user,
    "sleep": _sleep,
    "transfer": _transfer,
    "unset": _unset,
    "wait_for_answer": _nothing,
}
