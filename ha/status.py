"""What a node says of itself: for `sofia-node status`, the console's `node`, and tests."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ha.duty import Duty
from ha.fleet import Fleet, Member
from ha.guard import Guard
from ha.lease import LeaseKeeper
from ha.loop import Loop
from ha.partner import Partner
from ha.policy import Peer
from ha.standing import Standing
from node.config import Configuration, Identity


class Told(Protocol):
    """What the status is made from."""

    configuration: Configuration
    identity: Identity
    run_dir: Path
    loop: Loop
    standing: Standing
    keeper: LeaseKeeper
    fleet: Fleet
    duty: Duty
    guard: Guard
    partner: Partner
    watchdogs_on: bool
    decision: str
    since: float
    promoted_in: float

    @property
    def ready(self) -> bool: ...


def status(node: Told) -> dict[str, Any]:
    now, standing = node.loop.now(), node.standing
    return {
        "ok": True,
        "node": node.identity.node,
        "role": standing.role.value,
        "epoch": standing.epoch,
        "for_seconds": round(now - node.since, 3),
        "ready": node.ready,
        "order": standing.order.value,
        "decision": node.decision,
        "safe_for": _seconds(standing.until - now),
        "bound_for": _seconds(standing.bound_until - now),
        "promoted_in": round(node.promoted_in, 4),
        "standalone": node.identity.standalone,
        "core_uuid": node.identity.core_uuid,
        "started": node.identity.started,
        "pid": os.getpid(),
        "run_dir": str(node.run_dir),
        "watchdogs": "on" if node.watchdogs_on else "off",
        "lease": _lease(node, now),
        "peer": _peer(node, now),
        "profiles": profiles(node),
        "children": [_child(node, member, now) for member in node.fleet.members] + _keeper(node, now),
    }


def profiles(node: Told) -> dict[str, Any]:
    """Each profile of the configuration, at work or not."""
    told: dict[str, Any] = {}
    for name in node.configuration.profiles:
        post = node.duty.posts.get(name)
        if post is None:
            told[name] = {"state": "DOWN", "since": 0.0, "workers": [], "error": ""}
            continue
        told[name] = {
            "state": "RUNNING" if post.state == "RUNNING" else "DOWN",
            "since": post.since,
            "workers": [slot.name for slot in post.slots if slot.member is not None],
            "error": post.error,
            "watchdog": "on" if node.guard.armed(name) else "off",
            "revived": {
                slot.name: {
                    "calls": slot.revived.calls,
                    "legs": slot.revived.legs,
                    "failed": slot.revived.failed,
                    "seconds": slot.revived.seconds,
                }
                for slot in post.slots
                if slot.revived is not None
            },
        }
    return told


def _lease(node: Told, now: float) -> dict[str, Any]:
    standing = node.standing
    known = standing.lease or standing.seen
    return {
        "view": standing.holding(now).value,
        "holder": known.holder if known is not None else "",
        "epoch": known.epoch if known is not None else 0,
        "left": round(known.until - known.now, 3) if known is not None else 0.0,
    }


def _peer(node: Told, now: float) -> dict[str, Any]:
    state = node.standing.peer(now)
    beat = node.partner.beat
    return {
        "name": node.partner.link.name,
        "state": state.value,
        "linked": node.partner.link.open,
        "role": beat.role if beat is not None and state in (Peer.STANDBY, Peer.ACTIVE) else "",
        "ready": beat.ready if beat is not None else False,
        "lease": beat.lease if beat is not None else "",
    }


def _child(node: Told, member: Member, now: float) -> dict[str, Any]:
    kind = "spare" if member.kind == "worker" and not member.slot else member.kind
    slot = node.duty.slot_of(member)
    return {
        "kind": kind,
        "pid": member.process.pid,
        "slot": member.slot,
        "epoch": slot.epoch if slot is not None else 0,
        "ready": member.ready,
        "served": slot.served if slot is not None else False,
        "leaving": member.leaving,
        "up": round(now - member.process.born, 3),
        **_follows(member, now),
        **({"store": msgspec.to_builtins(member.stores)} if member.stores is not None else {}),
    }


def _follows(member: Member, now: float) -> dict[str, Any]:
    """How far a standby worker is behind the store, as long as it says so: one of an active node hears its neighbours."""
    if member.slot or member.follows is None:
        return {}
    lag = member.follows.lag + now - member.told_at
    return {"lag": round(lag, 3), "registrations": member.follows.registrations}


def _keeper(node: Told, now: float) -> list[dict[str, Any]]:
    process = node.keeper.process
    if process is None:
        return []
    up = round(now - process.born, 3)
    return [{"kind": "lease", "pid": process.pid, "slot": "", "ready": True, "leaving": False, "up": up}]


def _seconds(seconds: float) -> float | None:
    """JSON has no infinity: None stands for always."""
    return None if math.isinf(seconds) and seconds > 0 else round(max(seconds, 0.0), 3)
