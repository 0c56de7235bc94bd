"""A process that was stopped wakes when its time to act is over, with something in hand."""

from __future__ import annotations

import time
from pathlib import Path

from tests.node.transport.test_oversize import Bench, play, until


def test_what_is_in_hand_of_who_wakes_too_late_is_kept_and_goes_when_there_is_more_time(tmp_path: Path) -> None:
    """Nobody has told it to pause yet: its own alarm for that rings in the same turn of the loop."""

    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=False)
        bench.endpoint.until = time.monotonic() - 0.001
        bench.send(peer, size=10)
        assert bench.endpoint.recess.kept
        assert bench.endpoint.sent == 0
        bench.endpoint.until = time.monotonic() + 60
        bench.endpoint.resume()
        await until(lambda: len(peer.datagrams) == 1)
        assert not bench.endpoint.recess.kept

    play(tmp_path, test)
