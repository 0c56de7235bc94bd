"""What the console shows of calls: rows of `show channels` and `show calls`, and the headers of channel events.

Columns and header names are FreeSWITCH's, in its order. Built only when somebody asks.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from node.calls import identity
from node.calls.leg import Leg
from node.events import Event
from node.media import negotiation
from node.sip.errors import SipError

if TYPE_CHECKING:
    from node.calls.call import Call

Header = tuple[str, str]

_STATES = {"CS_INIT": 2, "CS_EXECUTE": 4, "CS_EXCHANGE_MEDIA": 5, "CS_CONSUME_MEDIA": 7, "CS_HANGUP": 10}

_FUNCTIONS = {
    "CHANNEL_CREATE": "switch_core_session_run",
    "CHANNEL_ORIGINATE": "switch_core_session_run",
    "CHANNEL_PROGRESS": "switch_channel_perform_mark_ring_ready_value",
    "CHANNEL_PROGRESS_MEDIA": "switch_channel_perform_mark_pre_answered",
    "CHANNEL_ANSWER": "switch_channel_perform_mark_answered",
    "CHANNEL_BRIDGE": "switch_ivr_multi_threaded_bridge",
    "CHANNEL_UNBRIDGE": "switch_ivr_multi_threaded_bridge",
    "CHANNEL_HOLD": "switch_channel_mark_hold",
    "CHANNEL_UNHOLD": "switch_channel_mark_hold",
    "CHANNEL_EXECUTE": "switch_core_session_exec",
    "CHANNEL_EXECUTE_COMPLETE": "switch_core_session_exec",
    "CHANNEL_HANGUP": "switch_channel_perform_hangup",
    "CHANNEL_HANGUP_COMPLETE": "switch_core_session_reporting_state",
    "CHANNEL_DESTROY": "switch_core_session_perform_destroy",
    "CHANNEL_STATE": "switch_channel_perform_set_running_state",
    "CHANNEL_CALLSTATE": "switch_channel_perform_set_callstate",
    "CHANNEL_DATA": "uuid_dump_function",
    "sofia::reinvite": "sofia_handle_sip_i_state",
}


# ---- rows ----------------------------------------------------------------------------------------------------------------


def channel(call: Call, leg: Leg) -> dict[str, str]:
    """One row of `show channels`."""
    codec, rate, bits = _codec(leg)
    variables = leg.variables
    first = leg is call.legs[0]
    caller = call.legs[0]
    application = variables.get("current_application", "")
    sent_name, sent_number = _sent(call, leg)
    return {
        "uuid": leg.uuid,
        "direction": leg.direction,
        "created": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(leg.created)),
        "created_epoch": str(int(leg.created)),
        "name": leg.name,
        "state": state(call, leg),
        "cid_name": leg.caller_id_name,
        "cid_num": leg.caller_id_number,
        "ip_addr": leg.network_addr,
        "dest": leg.destination,
        "application": application,
        "application_data": variables.get("current_application_data", "") if application else "",
        "dialplan": leg.dialplan,
        "context": leg.context,
        "read_codec": codec,
        "read_rate": rate,
        "read_bit_rate": bits,
        "write_codec": codec,
        "write_rate": rate,
        "write_bit_rate": bits,
        "secure": "",
        "hostname": call.exchange.configuration.switch.switchname,
        "presence_id": variables.get("presence_id", ""),
        "presence_data": variables.get("presence_data", ""),
        "accountcode": variables.get("accountcode", ""),
        "callstate": leg.callstate,
        "callee_name": leg.callee_id_name,
        "callee_num": leg.callee_id_number,
        "callee_direction": "SEND" if leg.callee_id_number else "",
        "call_uuid": caller.uuid if not first or call.bridged else "",
        "sent_callee_name": sent_name,
        "sent_callee_num": sent_number,
        "initial_cid_name": leg.caller_id_name,
        "initial_cid_num": leg.caller_id_number,
        "initial_ip_addr": leg.network_addr,
        "initial_dest": leg.destination,
        "initial_dialplan": leg.dialplan,
        "initial_context": leg.context,
    }


def _sent(call: Call, leg: Leg) -> tuple[str, str]:
    """Whom we told the leg that it talks to."""
    if leg not in call.bridged:
        return "", ""
    if leg.direction == "inbound":
        return leg.callee_id_name, leg.callee_id_number
    return leg.caller_id_name, leg.caller_id_number


_A_COLUMNS = [
    "uuid",
    "direction",
    "created",
    "created_epoch",
    "name",
    "state",
    "cid_name",
    "cid_num",
    "ip_addr",
    "dest",
    "presence_id",
    "presence_data",
    "accountcode",
    "callstate",
    "callee_name",
    "callee_num",
    "callee_direction",
    "call_uuid",
    "hostname",
    "sent_callee_name",
    "sent_callee_num",
]
_B_COLUMNS = [
    "uuid",
    "direction",
    "created",
    "created_epoch",
    "name",
    "state",
    "cid_name",
    "cid_num",
    "ip_addr",
    "dest",
    "presence_id",
    "presence_data",
    "accountcode",
    "callstate",
    "callee_name",
    "callee_num",
    "callee_direction",
    "sent_callee_name",
    "sent_callee_num",
]


def calls_of(call: Call) -> list[dict[str, str]]:
    """The rows of `show calls` for a call: its bridged pair in one, and each other leg that nobody is behind."""
    rows: list[dict[str, str]] = []
    pair = call.bridged
    for leg in call.legs:
        if not leg.live or (pair and leg is pair[1]):
            continue
        partner = pair[1] if pair and leg is pair[0] else None
        if partner is None and leg is not call.legs[0]:
            continue  # a leg that is being called belongs to its caller's row once it answers
        one = channel(call, leg)
        row = {name: one[name] for name in _A_COLUMNS}
        other = channel(call, partner) if partner is not None else {}
        row.update((f"b_{name}", other.get(name, "")) for name in _B_COLUMNS)
        row["call_created_epoch"] = str(int(partner.created)) if partner is not None else ""
        rows.append(row)
    return rows


def state(call: Call, leg: Leg) -> str:
    """`Channel-State`."""
    if not leg.live:
        return "CS_HANGUP"
    if leg is call.legs[0]:
        return "CS_EXECUTE" if call.steps or call.bridged else "CS_INIT"
    if leg.confirmed and leg in call.bridged:
        return "CS_EXCHANGE_MEDIA"
    return "CS_CONSUME_MEDIA"


def _codec(leg: Leg) -> tuple[str, str, str]:
    """Name, rate and bit rate of what is spoken: the first codec both sides named."""
    media = leg.media
    if media is None or not media.local_sdp or not media.remote_sdp:
        return "", "", ""
    try:
        ours = negotiation.audio_of(media.local_sdp).codecs
        theirs = negotiation.audio_of(media.remote_sdp).codecs
    except SipError:
        return "", "", ""
    for codec in ours:
        if not codec.is_accessory and any(codec.same(one) for one in theirs):
            name = codec.name.upper()
            bits = {"PCMU": "64000", "PCMA": "64000", "G722": "64000", "G729": "8000"}.get(name, "0")
            return name, str(codec.rate), bits
    return "", "", ""


# ---- events --------------------------------------------------------------------------------------------------------------


def channel_event(call: Call, leg: Leg, name: str, partner: Leg | None = None) -> Event:
    """A channel event as FreeSWITCH fires it."""
    function = _FUNCTIONS.get(name, "")
    if name.startswith("sofia::"):
        return Event(name="CUSTOM", subclass=name, headers=[("Unique-ID", leg.uuid)], function=function)
    headers: list[Header] = []
    if partner is not None:
        headers += [("Bridge-A-Unique-ID", leg.uuid), ("Bridge-B-Unique-ID", partner.uuid)]
    if name == "CHANNEL_HANGUP_COMPLETE":
        headers.append(("Hangup-Cause", leg.cause))
    headers += channel_headers(call, leg)
    if name.startswith("CHANNEL_EXECUTE"):
        headers += _application(leg, complete=name.endswith("COMPLETE"))
    headers += variable_headers(call, leg)
    return Event(name=name, headers=headers, function=function)


def _application(leg: Leg, *, complete: bool) -> list[Header]:
    found = [
        ("Application", leg.variables.get("current_application", "")),
        ("Application-Data", leg.variables.get("current_application_data", "")),
    ]
    if complete:
        found.append(("Application-Response", leg.variables.get("current_application_response", "_none_")))
    found.append(("Application-UUID", leg.uuid))
    return found


def channel_headers(call: Call, leg: Leg) -> list[Header]:
    """The headers of every channel event, without the variables."""
    codec, rate, bits = _codec(leg)
    where = state(call, leg)
    headers = [
        ("Channel-State", where),
        ("Channel-Call-State", leg.callstate),
        ("Channel-State-Number", str(_STATES.get(where, 4))),
        ("Channel-Name", leg.name),
        ("Unique-ID", leg.uuid),
        ("Call-Direction", leg.direction),
        ("Presence-Call-Direction", leg.direction),
        ("Channel-HIT-Dialplan", "true" if leg is call.legs[0] else "false"),
        ("Channel-Presence-ID", leg.variables.get("presence_id", "")),
        ("Channel-Call-UUID", call.legs[0].uuid),
        ("Answer-State", _answer_state(leg)),
    ]
    if not leg.live:
        headers.append(("Hangup-Cause", leg.cause))
    if codec:
        for way in ("Read", "Write"):
            headers += [
                (f"Channel-{way}-Codec-Name", codec),
                (f"Channel-{way}-Codec-Rate", rate),
                (f"Channel-{way}-Codec-Bit-Rate", bits),
            ]
    headers += _profile_headers("Caller", call, leg)
    other = _other(call, leg)
    if other is not None:
        headers.append(("Other-Type", "originator" if other is call.legs[0] else "originatee"))
        headers += _profile_headers("Other-Leg", call, other)
    return headers


def _answer_state(leg: Leg) -> str:
    match leg.state:
        case "answered":
            return "answered"
        case "early":
            return "early"
        case "ended":
            return "hangup"
        case _:
            return "ringing"


def _other(call: Call, leg: Leg) -> Leg | None:
    """The leg that this one was called by, or has called."""
    partner = call.partner(leg)
    if partner is not None:
        return partner
    if leg is not call.legs[0]:
        return call.legs[0]
    return next((one for one in call.legs[1:] if one.uuid == leg.variables.get("bridge_uuid")), None)


def _profile_headers(prefix: str, call: Call, leg: Leg) -> list[Header]:
    """A caller profile and its times."""
    name, number = leg.caller_id_name, leg.caller_id_number
    privacy = identity.privacy_of(leg.variables)
    found = [
        ("Direction", leg.direction),
        ("Logical-Direction", leg.direction),
        ("Username", leg.username),
        ("Dialplan", leg.dialplan),
        ("Caller-ID-Name", name),
        ("Caller-ID-Number", number),
        ("Orig-Caller-ID-Name", name),
        ("Orig-Caller-ID-Number", number),
        ("Callee-ID-Name", leg.callee_id_name),
        ("Callee-ID-Number", leg.callee_id_number),
        ("Network-Addr", leg.network_addr),
        ("ANI", leg.caller_id_number),
        ("Destination-Number", leg.destination),
        ("Unique-ID", leg.uuid),
        ("Source", "mod_sofia"),
        ("Context", leg.context),
        ("Channel-Name", leg.name),
    ]
    headers = [(f"{prefix}-{key}", value) for key, value in found if value]
    if prefix == "Caller":
        headers.append(("Caller-Profile-Index", "1"))
    resurrected = call.created if call.recovered else 0.0
    times = (
        ("Profile-Created", leg.created),
        ("Channel-Created", leg.created),
        ("Channel-Answered", leg.answered),
        ("Channel-Progress", leg.progressed),
        ("Channel-Progress-Media", leg.progress_media),
        ("Channel-Hangup", leg.hung_up),
        ("Channel-Transfer", 0.0),
        ("Channel-Resurrect", resurrected),
        ("Channel-Bridged", leg.bridged_at if leg is call.legs[0] else 0.0),
    )
    headers += [(f"{prefix}-{key}-Time", str(int(at * 1_000_000))) for key, at in times]
    headers += [
        (f"{prefix}-Channel-Last-Hold", str(int(leg.last_hold * 1_000_000))),
        (f"{prefix}-Channel-Hold-Accum", str(int(leg.hold_accumulated * 1_000_000))),
        (f"{prefix}-Screen-Bit", _boolean(privacy.screen)),
        (f"{prefix}-Privacy-Hide-Name", _boolean(privacy.hide_name)),
        (f"{prefix}-Privacy-Hide-Number", _boolean(privacy.hide_number)),
    ]
    return headers


def _boolean(value: bool) -> str:
    return "true" if value else "false"


def variable_headers(call: Call, leg: Leg) -> list[Header]:
    """The variables, and those that stand for what is kept elsewhere."""
    headers = [(f"variable_{name}", value) for name, value in leg.variables.items() if value]
    media = leg.media
    if media is not None:
        kept = (
            ("switch_r_sdp", media.remote_sdp),
            ("rtp_local_sdp_str", media.local_sdp),
            ("local_media_ip", media.address if media.port else ""),
            ("local_media_port", str(media.port) if media.port else ""),
            ("advertised_media_ip", media.advertised if media.port else ""),
            ("remote_media_ip", media.learned_host or media.remote_host),
            ("remote_media_port", str(media.learned_port or media.remote_port or "")),
        )
        headers += [(f"variable_{name}", value) for name, value in kept if value]
    codec, rate, _bits = _codec(leg)
    if codec:
        headers += [("variable_read_codec", codec), ("variable_read_rate", rate)]
        headers += [("variable_write_codec", codec), ("variable_write_rate", rate)]
    if call.recovered:
        headers.append(("variable_recovered", "true"))
    return headers


def dump(call: Call, leg: Leg) -> list[Header]:
    """`uuid_dump`."""
    return [*channel_headers(call, leg), *variable_headers(call, leg)]
