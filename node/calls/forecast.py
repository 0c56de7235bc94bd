"""What a recovery would make of a record, leg by leg, and why: `sofia recover --dry-run` (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from node.calls import moving
from node.calls.moving import Reinvite
from node.calls.urgency import is_emergency
from node.config import Configuration
from store.records import CallRecord, LegRecord

STREAMS = ("TCP", "TLS", "WS", "WSS")


class Duties(NamedTuple):
    """What the node serves."""

    active: bool
    slots: Mapping[str, int]
    "The epoch of each slot that has a worker here."
    profiles: frozenset[str]
    "Profiles that run here."


class Prospect(NamedTuple):
    """What would become of one leg."""

    uuid: str
    call: str
    profile: str
    call_id: str
    direction: str
    state: str
    action: str
    "`none`, `revive`, `reinvite`, `end` or `lose`."
    why: str


def forecast(record: CallRecord, configuration: Configuration, duties: Duties) -> list[Prospect]:
    """One for each leg that is not over."""
    unclaimed = _unclaimed(record, configuration, duties)
    live = [leg for leg in record.legs if leg.state != "ended"]
    unknown = next((leg.profile for leg in live if configuration.profile(leg.profile) is None), "")
    hurry = "emergency, " if is_emergency(record, configuration.emergency_numbers(record.profile_name)) else ""
    told = []
    for leg in live:
        if unclaimed:
            action, why = "none", unclaimed
        elif unknown:
            action, why = "lose", f"there is no profile {unknown}"
        else:
            action, why = _of_leg(record, leg, configuration)
            why = hurry + why
        call_id = leg.dialog.call_id if leg.dialog is not None else ""
        told.append(Prospect(leg.uuid, record.uuid, leg.profile, call_id, leg.direction, leg.state, action, why))
    return told


def _unclaimed(record: CallRecord, configuration: Configuration, duties: Duties) -> str:
    """Why nobody here would claim the record; empty if somebody would."""
    if not duties.active:
        return (
            "" if configuration.profile(record.profile_name) is not None else f"no profile {record.profile_name} here"
        )
    epoch = duties.slots.get(record.slot)
    if epoch is not None and record.epoch >= epoch:
        return "lives here"
    if epoch is None and record.slot.rpartition("#")[0] not in duties.profiles:
        return f"profile {record.slot.rpartition('#')[0]} does not run here"
    return ""


def _of_leg(record: CallRecord, leg: LegRecord, configuration: Configuration) -> tuple[str, str]:
    if leg.cause and leg.state == "answered":
        return "end", f"its BYE is repeated: {leg.cause}"
    settings = configuration.profile(leg.profile)
    assert settings is not None, "a leg whose profile is known"
    serving = configuration.profile(record.slot.rpartition("#")[0]) or settings  # whose worker revives both legs
    reinvite: Reinvite = serving.recovery_reinvite or configuration.ha.recovery_reinvite
    peer, local = (leg.flow.remote_host, leg.flow.local_host) if leg.flow is not None else ("", "")
    away = moving.contact_moved(local, settings, leg.flow.transport if leg.flow is not None else "UDP")
    if leg.state != "answered":
        if not away:
            return "revive", f"{leg.state}: its INVITE goes on"
        if leg.direction == "outbound":
            return "revive", f"{leg.state}: called anew, for its answer would go to {local}"
        return "revive", f"{leg.state}: its INVITE goes on; Contact moves from {local} to {settings.sip_ip}"
    named = moving.media_named(settings, configuration.acl, peer)
    moved = []
    if away:
        moved.append(f"Contact moves from {local} to {settings.sip_ip}")
    if moving.media_moved(leg.media, settings, named):
        assert leg.media is not None
        moved.append(f"media moves from {leg.media.advertised} to {named}")
    way = "; waits for its new connection" if leg.flow is not None and leg.flow.transport in STREAMS else ""
    if leg.media is not None and leg.media.local_sdp and (reinvite == "always" or (moved and reinvite == "auto")):
        return "reinvite", ("; ".join(moved) or "recovery-reinvite is always") + way
    return "revive", ("; ".join([*moved, "recovery-reinvite is never"]) if moved else "nothing changes for it") + way
