"""A process that was stopped wakes when its time to act is over, with something in hand."""

from __future__ import annotations

import time
from pathlib import Path

from node.sip.flow import Flow
from tests.node.transport.test_oversize import Bench, play, until

REQUEST = (
    "MESSAGE sip:us@pbx.test SIP/2.0\r\nVia: SIP/2.0/UDP {0}:{1};rport;branch=z9hG4bKlate\r\n"
    "From: <sip:peer@pbx.test>;tag=theirs\r\nTo: <sip:us@pbx.test>\r\nCall-ID: late\r\nCSeq: 1 MESSAGE\r\n\r\n"
)


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


def test_what_was_heard_too_late_has_its_turn_when_there_is_more_time_though_nothing_else_comes(tmp_path: Path) -> None:
    """Who was stopped for long finds more than it can serve at once, and puts off what is new."""

    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=False)
        bench.endpoint.gate.stress(time.monotonic())
        bench.endpoint.until = time.monotonic() - 0.001
        data = REQUEST.format(*peer.address).encode()
        bench.endpoint.on_message(data, Flow("internal", "UDP", bench.here, peer.address))
        assert not bench.user.requests
        bench.endpoint.until = time.monotonic() + 60
        bench.endpoint.resume()
        await until(lambda: bench.user.requests)

    play(tmp_path, test)


def test_who_waits_for_his_turn_when_the_time_is_over_has_it_when_there_is_more(tmp_path: Path) -> None:
    async def test(bench: Bench) -> None:
        peer = await bench.peer(tcp=False)
        bench.endpoint.gate.stress(time.monotonic())
        bench.endpoint.on_message(
            REQUEST.format(*peer.address).encode(), Flow("internal", "UDP", bench.here, peer.address)
        )
        assert bench.endpoint.gate.waiting == 1
        bench.endpoint.until = time.monotonic() - 0.001
        bench.endpoint.on_drained()
        assert not bench.user.requests
        bench.endpoint.until = time.monotonic() + 60
        bench.endpoint.resume()
        await until(lambda: bench.user.requests)

    play(tmp_path, test)
