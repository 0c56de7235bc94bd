"""Calls that come back to where they began, and calls that multiply on their way (RFC 3261 16.3, RFC 5393).

We are no proxy, and what we send has a Call-ID of its own; but its From tag is ours, and stays whoever passes it on. An
INVITE with a tag of ours is a call of ours that came back: with another Request-URI it is a spiral and goes on, with
the one that a call before it had come with, it would go round until Max-Forwards ends it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from node.calls.dial_string import Target
from node.calls.exchange import Exchange
from node.calls.leg import Leg
from node.sip.errors import LoopDetected
from node.sip.message import Request

BREADTH = 60
"How many branches a request may have at once that does not say it (RFC 5393 5.3.3)."
EXCEEDED = 440
FIELD = "Max-Breadth"
VARIABLE = "max_breadth"
DEEPEST = 70


def judge(request: Request, exchange: Exchange) -> None:
    """Refuse a new INVITE that has been here before. Raises LoopDetected."""
    tag = request.from_tag
    if tag not in exchange.dialogs:
        return
    uri = request.target
    wanted = f"{uri.user}@{uri.host_port}" if uri.user else uri.host_port
    for caller in _before(exchange, tag):
        if caller.variables.get("sip_req_uri") == wanted:
            raise LoopDetected(f"{wanted} was called by the call that calls it again")


def _before(exchange: Exchange, tag: str) -> Iterator[Leg]:
    """The callers whose calls led to the one with this From tag, the last one first."""
    for _ in range(DEEPEST):
        found = exchange.dialogs.get(tag)
        if found is None:
            return
        caller = found.call.legs[0]
        if caller.direction != "inbound" or caller.dialog is None:
            return
        yield caller
        tag = caller.dialog.remote_tag


# ---- breadth -----------------------------------------------------------------------------------------------------------


def part_breadth(caller: Leg | None, parts: Sequence[dict[str, str]]) -> None:
    """Give each part of a dial string, by its variables, its share of the breadth that the caller's request came with."""
    given = caller.variables.get(VARIABLE) if caller is not None else None
    if given is None:
        return
    for variables, share in zip(parts, _shares(int(given), len(parts)), strict=True):
        variables[VARIABLE] = str(share)


def divided(targets: Sequence[Target], variables: Mapping[str, str]) -> Sequence[Target]:
    """The targets of one group, each with its share; one of 0 is not to be called.

    Where no breadth was given, as many as there are may be called; what each of them may make of it is limited.
    """
    given = targets[0].variables.get(VARIABLE) or variables.get(VARIABLE) if targets else None
    if len(targets) < 2:
        return targets
    if given is not None:
        shares = _shares(int(given), len(targets))
    else:
        shares = [max(1, BREADTH // len(targets))] * len(targets)
    return [
        Target(one.endpoint, one.arguments, {**one.variables, VARIABLE: str(share)})
        for one, share in zip(targets, shares, strict=True)
    ]


def exhausted(target: Target, variables: Mapping[str, str]) -> bool:
    """Has this target no share of the breadth?"""
    return (target.variables.get(VARIABLE) or variables.get(VARIABLE)) == "0"


def _shares(breadth: int, count: int) -> list[int]:
    """As even as it goes."""
    each, more = divmod(breadth, count)
    return [each + (number < more) for number in range(count)]


def told(leg: Leg) -> list[tuple[str, str]]:
    """What our INVITE says of it."""
    breadth = leg.variables.get(VARIABLE)
    return [(FIELD, breadth)] if breadth else []
