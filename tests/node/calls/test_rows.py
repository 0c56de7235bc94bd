"""Rows and events of a real bridged call, beside what FreeSWITCH shows."""

from __future__ import annotations

import asyncio

from tests.node.calls.rig import Cast, Rig, node, until

CHANNELS = [
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
    "application",
    "application_data",
    "dialplan",
    "context",
    "read_codec",
    "read_rate",
    "read_bit_rate",
    "write_codec",
    "write_rate",
    "write_bit_rate",
    "secure",
    "hostname",
    "presence_id",
    "presence_data",
    "accountcode",
    "callstate",
    "callee_name",
    "callee_num",
    "callee_direction",
    "call_uuid",
    "sent_callee_name",
    "sent_callee_num",
    "initial_cid_name",
    "initial_cid_num",
    "initial_ip_addr",
    "initial_dest",
    "initial_dialplan",
    "initial_context",
]
CALLS = [
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
    "b_uuid",
    "b_direction",
    "b_created",
    "b_created_epoch",
    "b_name",
    "b_state",
    "b_cid_name",
    "b_cid_num",
    "b_ip_addr",
    "b_dest",
    "b_presence_id",
    "b_presence_data",
    "b_accountcode",
    "b_callstate",
    "b_callee_name",
    "b_callee_num",
    "b_callee_direction",
    "b_sent_callee_name",
    "b_sent_callee_num",
    "call_created_epoch",
]
EVENTS = [
    ("CHANNEL_CREATE", "a"),
    ("CHANNEL_CREATE", "b"),
    ("CHANNEL_ORIGINATE", "b"),
    ("CHANNEL_PROGRESS", "b"),
    ("CHANNEL_PROGRESS", "a"),
    ("CHANNEL_ANSWER", "a"),
    ("CHANNEL_ANSWER", "b"),
    ("CHANNEL_BRIDGE", "a"),
    ("CHANNEL_HANGUP", "a"),
    ("CHANNEL_UNBRIDGE", "a"),
    ("CHANNEL_HANGUP_COMPLETE", "a"),
    ("CHANNEL_DESTROY", "a"),
    ("CHANNEL_HANGUP", "b"),
    ("CHANNEL_HANGUP_COMPLETE", "b"),
    ("CHANNEL_DESTROY", "b"),
]


async def bridged(rig: Rig, cast: Cast) -> None:
    alice, bob = await cast.phone("1000"), await cast.phone("1001")
    ours = await alice.call("1001")
    theirs = await bob.next_line()
    await asyncio.wait_for(ours.ringing.wait(), 5)
    theirs.answer()
    await asyncio.wait_for(ours.answered.wait(), 5)
    await until(lambda: rig.live[0].legs[0].pending is None)
    a, b = rig.switchboard.channels()
    assert list(a) == CHANNELS
    assert [a[name] for name in CHANNELS[4:22]] == [
        "sofia/internal/1000@pbx.test", "CS_EXECUTE", "1000", "1000", "127.0.0.1", "1001", "bridge",
        "user/1001@pbx.test", "XML", "default", "PCMU", "8000", "64000", "PCMU", "8000", "64000", "", "anchor",
    ]  # fmt: skip
    assert b["cid_name"] == b["sent_callee_name"] == "Extension 1000"
    assert (b["state"], b["dest"], b["presence_id"]) == ("CS_EXCHANGE_MEDIA", "1001", "1001@pbx.test")
    assert (a["callee_name"], a["callee_num"], a["callee_direction"]) == ("Outbound Call", "1001", "SEND")
    (row,) = rig.switchboard.calls()
    assert list(row) == CALLS
    assert (row["uuid"], row["b_uuid"]) == (a["uuid"], b["uuid"])
    dump = dict(rig.switchboard.dump(b["uuid"]) or [])
    assert dump["Channel-Call-State"] == "ACTIVE"
    assert dump["Other-Leg-Unique-ID"] == a["uuid"]
    assert dump["variable_sip_call_id"]
    await ours.hangup()
    await asyncio.wait_for(theirs.ended.wait(), 5)
    await rig.idle()
    names = {a["uuid"]: "a", b["uuid"]: "b"}
    told = [(event.name, names[dict(event.headers)["Unique-ID"]]) for event in rig.events]
    assert told == EVENTS
    assert [name for name, _value in rig.events[0].headers][:4] == [
        "Channel-State", "Channel-Call-State", "Channel-State-Number", "Channel-Name",
    ]  # fmt: skip


def test_a_bridged_call_is_shown_and_told_as_freeswitch_does() -> None:
    async def play() -> None:
        async with node() as (rig, cast):
            rig.stream.want({name for name, _leg in EVENTS})
            await bridged(rig, cast)

    asyncio.run(play())


def test_no_event_is_built_that_nobody_hears() -> None:
    async def play() -> None:
        async with node() as (rig, cast):
            alice = await cast.phone("1000")
            line = await alice.call("8888")
            await asyncio.wait_for(line.ended.wait(), 5)
            assert rig.events == []

    asyncio.run(play())
