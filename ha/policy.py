"""What a node does next: one pure function from what it sees to one step. The supervisor carries the step out.

Theory. Who may be active is said by the lease in the store, which one node at a time can hold. Its holder stops acting
`margin` before the end that it can prove (`safe`), so a node that hears nothing any more falls silent before another
one can get the lease. A peer's death is no reason to act, only to look at the lease more often.
A node that was merely slow finds its time over when it wakes: its workers have fallen silent. It does not let go at once,
but asks the store whose the lease is, and the peer whether it ever took it; as long as nobody did, it goes on.
Failsafe: where the store is silent but the peer answers, the holder asks the peer for a promise not to claim for a
while; as long as promises come, it stays. A node that has given one (or that may have, in a former life) is `bound`.
A node that is alone has nobody to fear: it acts without the lease when the store is silent, and claims when it is back.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Role(Enum):
    STANDBY = "standby"
    PROMOTING = "promoting"
    ACTIVE = "active"
    DEMOTING = "demoting"


class Holding(Enum):
    """The lease, as this node knows it."""

    MINE = "mine"
    LATE = "mine but not renewed in time"
    OTHERS = "held by another node"
    FREE = "free"
    UNKNOWN = "unknown"


class Peer(Enum):
    ALONE = "not wanted"
    SILENT = "silent"
    STANDBY = "standby"
    ACTIVE = "active"


class Order(Enum):
    """What the operator, or the watchdog, has asked for and has not got yet."""

    NONE = "none"
    PROMOTE = "promote"
    DEMOTE = "demote"
    "Be passive, and stay out until promoted."
    HAND_OVER = "hand over"
    "Be passive, and let the peer claim first."


class View(NamedTuple):
    """All that a decision is made from."""

    role: Role
    holding: Holding
    peer: Peer
    order: Order
    safe: bool
    "The lease, or the peer's promise, still covers what this node does."
    hopeful: bool
    "Nothing covers it any more, but only for a moment: the store may say that the lease is still its own."
    bound: bool
    "This node owes it to somebody not to claim now."
    ready: bool
    "Its processes are loaded: a promotion would be quick."
    done: bool
    "The promotion or demotion under way has finished."


class Step(Enum):
    WAIT = "wait"
    CLAIM = "claim the lease"
    RELEASE = "give the lease back"
    PROMOTE = "become active"
    SERVE = "be active"
    STAY = "stay active"
    ASK = "stay active and ask the peer for a promise"
    MAKE_SURE = "ask the peer whether it acts"
    PAUSE = "do nothing, and ask store and peer whose the lease is"
    REQUEST = "ask the peer to hand over"
    DEMOTE = "let go"
    REST = "be standby"


def decide(view: View) -> Step:
    match view:
        case View(role=Role.DEMOTING):
            return Step.REST if view.done else Step.WAIT
        case View(role=Role.STANDBY):
            return _seek(view)
        case _:
            return _hold(view)


def _hold(view: View) -> Step:
    """Promoting or active: first every reason to let go, then how to stay."""
    match view:
        case View(order=Order.DEMOTE) | View(holding=Holding.OTHERS):
            return Step.DEMOTE
        case View(safe=False):
            waits = view.hopeful and view.peer is not Peer.ACTIVE and view.order is not Order.HAND_OVER
            return Step.PAUSE if waits and view.holding in (Holding.MINE, Holding.LATE) else Step.DEMOTE
        case View(peer=Peer.ALONE, holding=Holding.FREE):
            return Step.CLAIM
        case View(holding=Holding.FREE | Holding.UNKNOWN) if view.peer is not Peer.ALONE:
            return Step.DEMOTE
        case View(order=Order.HAND_OVER, peer=Peer.STANDBY, holding=Holding.MINE):
            return Step.DEMOTE
        case View(holding=Holding.LATE, peer=Peer.STANDBY):
            return Step.ASK
        case View(role=Role.PROMOTING, done=True):
            return Step.SERVE
        case _:
            return Step.STAY


def _seek(view: View) -> Step:
    """Standby: a lease that came in is used or given back; one that is free is claimed, if nobody has a better right."""
    match view:
        case View(holding=Holding.MINE | Holding.LATE):
            if not (view.ready and view.safe and view.order in (Order.NONE, Order.PROMOTE)):
                return Step.RELEASE
            # A peer that still acts had the lease before the store lost it: it will hear that it is not its own any more.
            if view.peer is Peer.ACTIVE:
                return Step.WAIT
            if view.holding is Holding.MINE:
                return Step.PROMOTE
            return Step.MAKE_SURE if view.peer is Peer.STANDBY else Step.WAIT
        case View(order=Order.DEMOTE) | View(ready=False):
            return Step.WAIT
        case View(order=Order.HAND_OVER, peer=Peer.STANDBY | Peer.ACTIVE):
            return Step.WAIT
        case View(peer=Peer.ALONE, holding=Holding.FREE):
            return Step.CLAIM
        case View(peer=Peer.ALONE, holding=Holding.UNKNOWN, bound=False):
            return Step.PROMOTE
        case View(order=Order.PROMOTE, peer=Peer.ACTIVE):
            return Step.REQUEST
        case View(holding=Holding.FREE, bound=False, peer=Peer.SILENT | Peer.STANDBY):
            return Step.CLAIM
        case _:
            return Step.WAIT


def sentence(view: View, step: Step) -> str:
    """What was seen and what follows from it, for the log."""
    seen = [f"{view.role.value}, lease {view.holding.value}"]
    if view.peer is not Peer.ALONE:
        seen.append(f"peer {view.peer.value}")
    if view.order is not Order.NONE:
        seen.append(f"ordered to {view.order.value}")
    if view.bound and view.role is Role.STANDBY:
        seen.append("bound not to claim yet")
    if not view.ready and view.role is Role.STANDBY:
        seen.append("processes not ready")
    if not view.safe and view.role in (Role.PROMOTING, Role.ACTIVE):
        seen.append("nothing covers us any more")
    return f"{', '.join(seen)}: {step.value}"
