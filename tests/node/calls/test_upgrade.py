"""The other node runs a newer release: what it wrote of a call, and this one does not understand, is still there afterwards."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from store.records import decode_call
from tests.node.calls.rig import Cast, Rig, stage, until
from tests.node.calls.scene import happens, talking

NEWS: dict[str, Any] = {"later": {"a": [1, b"\x00"]}}


def of_tomorrow(data: bytes) -> bytes:
    """The record as a newer release would have written it."""
    values: dict[str, Any] = msgspec.msgpack.decode(data)
    for place in places(values):
        place.update(NEWS)
    return msgspec.msgpack.encode(values)


def places(values: dict[str, Any]) -> list[dict[str, Any]]:
    legs = values["legs"]
    return [values, *legs, *(leg[part] for leg in legs for part in ("dialog", "media") if part in leg)]


def test_a_call_of_a_newer_release_goes_on_and_its_records_keep_what_is_unknown_here() -> None:
    async def play() -> None:
        with stage() as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            rig.tap.records = [of_tomorrow(data) for data in rig.tap.records]
            rig, results = rig.succeed("always")
            assert [result.ok for result in results] == [True, True]
            await until(lambda: ours.reinvited == 1 and theirs.reinvited == 1)
            await until(lambda: all(leg.pending is None for leg in rig.live[0].legs))
            assert (await ours.reinvite("sendonly")).status == 200
            await until(lambda: any(leg.held for leg in rig.live[0].legs))
            await until(lambda: all(leg.pending is None for leg in rig.live[0].legs))
            assert (await ours.hangup()).status == 200
            await happens(theirs.ended)
            await rig.idle()
            written = [msgspec.msgpack.decode(data) for data in rig.tap.records]
            assert len(written) > 5
            for values in written:
                assert [place for place in places(values) if place.get("later") != NEWS["later"]] == []
            assert decode_call(rig.tap.records[-1]).beyond == NEWS
            await cast.close()
            rig.bury()

    asyncio.run(play())
