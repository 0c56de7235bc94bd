"""`originate`: a call that nobody placed: somebody is called, and what answers runs an application or the dialplan."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from node.calls import anchor, applications, dial, invite
from node.calls.call import Call
from node.calls.exchange import Exchange, new_uuid
from node.calls.leg import Leg
from node.calls.waiting import adopt_answer
from node.dialplan import inline
from node.media.errors import NotAcceptable
from node.sip.errors import SipError
from node.sip.message import Response
from store.records import Step

USAGE = (
    "-USAGE: <call url> <exten>|&<application_name>(<app_args>) [<dialplan>] [<context>] [<cid_name>] [<cid_num>] "
    "[<timeout_sec>]"
)


@dataclass(frozen=True, slots=True)
class Order:
    """What `originate` was asked for."""

    dial: str
    target: str
    dialplan: str = "XML"
    context: str = "default"
    name: str = ""
    number: str = ""
    timeout: float = 60.0


def parse(words: str) -> Order | None:
    """`<dial string> <extension>|&app(data) [dialplan] [context] [name] [number] [timeout]`."""
    try:
        lexer = shlex.shlex(_joined(words), posix=True, punctuation_chars=False)
        lexer.whitespace_split = True
        lexer.commenters = ""
        parts = [part.replace("\0", " ") for part in lexer]
    except ValueError:
        return None
    if len(parts) < 2:
        return None
    rest = [*parts[2:], "", "", "", "", ""]
    timeout = float(rest[4]) if rest[4].isdecimal() else 60.0
    return Order(parts[0], parts[1], rest[0] or "XML", rest[1] or "default", rest[2], rest[3], timeout)


def _joined(words: str) -> str:
    """Spaces within brackets do not part words: `&playback(/my file.wav)`, `{a='b c'}`."""
    depth, out = 0, []
    for character in words:
        depth += character in "({["
        depth -= character in ")}]"
        out.append("\0" if character == " " and depth > 0 else "\\'" if character == "'" and depth > 0 else character)
    return "".join(out)


def originate(exchange: Exchange, words: str, then: Callable[[str], None]) -> None:
    """Call somebody; `then` gets `+OK <uuid>` when it answers, or `-ERR <CAUSE>`."""
    order = parse(words)
    profile = next(iter(exchange.configuration.profiles), "")
    if order is None or not profile:
        then(USAGE if order is None else "-ERR INVALID_PROFILE")
        return
    own = exchange.slot.rpartition("#")[0]
    call = Call(exchange, new_uuid(), own if own in exchange.configuration.profiles else profile)
    exchange.calls[call.uuid] = call
    call.post(_start, call, order, then)


def _start(call: Call, order: Order, then: Callable[[str], None]) -> None:
    dialing = dial.Dialing(call, None, partial(_on_dialed, call, order, then), timeout=order.timeout)
    call.dialing = dialing
    given = ""
    if order.name:
        given += f"<origination_caller_id_name='{order.name}'>"
    if order.number:
        given += f"<origination_caller_id_number={order.number}>"
    dialing.start(given + order.dial)


def _on_dialed(
    call: Call,
    order: Order,
    then: Callable[[str], None],
    leg: Leg | None,
    cause: str,
    response: Response | None,
    _status: int,
) -> None:
    if leg is None or response is None:
        call.finish()
        then(f"-ERR {cause}")
        return
    call.legs.remove(leg)
    call.legs.insert(0, leg)
    try:
        sdp = invite.sdp_of(response) or leg.offer
        if not sdp:
            raise NotAcceptable("a 200 without a session description")
        adopt_answer(call, leg, sdp)
    except SipError:
        call.end("INCOMPATIBLE_DESTINATION")
        then("-ERR INCOMPATIBLE_DESTINATION")
        return
    anchor.aim(call.exchange, leg)
    call.state = "answered"
    leg.dialplan, leg.context = order.dialplan, order.context
    call.steps = _steps(order)
    call.commit(_begin, call, order, leg, then)


def _steps(order: Order) -> list[Step]:
    """`&application(data)`, several joined by commas as in the inline dialplan."""
    if not order.target.startswith("&"):
        return []
    name, _, rest = order.target[1:].partition("(")
    return [Step(name.strip(), rest.removesuffix(")"))]


def _begin(call: Call, order: Order, leg: Leg, then: Callable[[str], None]) -> None:
    if not leg.live:
        then(f"-ERR {leg.cause or 'NORMAL_TEMPORARY_FAILURE'}")
        return
    call.acknowledge(leg)
    call.tell("CHANNEL_ANSWER", leg)
    then(f"+OK {leg.uuid}")
    if not call.steps:
        leg.destination = order.target
        if order.dialplan.lower() == "inline":
            call.steps = inline.steps(order.target)
        elif not applications.take_route(call, leg):
            call.end("NO_ROUTE_DESTINATION")
            return
    call.save()
    applications.run(call)
