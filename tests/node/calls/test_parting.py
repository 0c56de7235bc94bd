"""A node dies while two bridged legs are sent ways of their own: how long its successor waits for the other record."""

from __future__ import annotations

import asyncio

import pytest

from node.calls import parting
from store.records import decode_call
from tests.node.calls.rig import Cast, Rig, extension, stage, until
from tests.node.calls.scene import talking


@pytest.mark.parametrize("claimed", [True, False])
def test_the_second_leg_goes_at_once_when_all_records_are_here(monkeypatch: pytest.MonkeyPatch, claimed: bool) -> None:
    """There is none that could have it already. Without that word it goes after a while."""

    async def play() -> None:
        with stage(extension("7002", ("answer", ""), ("echo", ""))) as made:
            rig, cast = Rig(made), Cast(made)
            ours, theirs = await talking(rig, cast)
            rig.switchboard.transfer(rig.live[0].legs[0].uuid, ["-both", "7002"])
            await until(lambda: len(rig.live) == 2)
            records = [decode_call(data) for data in rig.tap.records]
            going = next(record for record in records if any(leg.parting for leg in record.legs))
            monkeypatch.setattr(parting, "PATIENCE", 600.0 if claimed else 0.3)
            rig, _results = rig.succeed(records=[going])
            assert len(rig.live) == 1
            if claimed:
                rig.switchboard.claimed()
            await until(lambda: len(rig.live) == 2 and all(call.waiting is not None for call in rig.live))
            for line in (ours, theirs):
                assert (await line.hangup()).status == 200
            await rig.idle()
            await cast.close()
            rig.bury()

    asyncio.run(play())
