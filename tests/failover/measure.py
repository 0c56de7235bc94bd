"""Calls whose failover is measured: the same as in `tests/support/conversation.py`, and what they came to is in the report.

A call, or a ringing one, counts as lost until the block is left in order. How long SIP was silent is asked by a prober
(`tests/support/prober.py`) from each fault on, the audio is what the phones heard anyway. A scenario that says its own
figures is not contradicted.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

from tests.failover import headline
from tests.failover.report import record, suggest
from tests.support import conversation
from tests.support.conversation import Conversation
from tests.support.failover import Report
from tests.support.netns import Host
from tests.support.node import Node
from tests.support.phone import Phone
from tests.support.prober import Prober
from tests.support.rtp import Audio

present: list[Node] = []
"The nodes of the running scenario. Each is asked where it has an address of its own."


@contextlib.contextmanager
def watching(server: tuple[str, int], client: Host | None = None, *, of: str = "") -> Iterator[Prober]:
    """The longest time for which nobody answered OPTIONS after a fault. `of` that row of the headline it is a sample."""
    with Prober([server, *(node.sip for node in present)], client) as prober:
        yield prober
    if prober.silence is not None:
        suggest(sip_gap_ms=prober.silence * 1000)
    for fault in prober.faults:
        if of and fault.silence is not None:
            headline.sample(f"{of}: SIP", fault.silence * 1000)


def hear(prober: Prober, audios: tuple[Audio, ...], *, of: str = "") -> None:
    """The longest silence of these from the first fault on; nothing where one of them was ended before it heard anything again."""
    faults = [fault.at for fault in prober.faults]
    if not faults or not all(audio.arrivals and audio.arrivals[-1][0] > faults[-1] for audio in audios):
        return
    suggest(audio_gap_ms=max(audio.longest_gap(faults[0] - 0.1) for audio in audios) * 1000)
    for begin, end in zip(faults, [*faults[1:], float("inf")], strict=True):
        if of:
            headline.sample(f"{of}: audio", max(audio.longest_gap(begin - 0.1, end) for audio in audios) * 1000)


@contextlib.asynccontextmanager
async def talking(server: tuple[str, int], client: Host | None = None, *, of: str = "") -> AsyncIterator[Conversation]:
    async with conversation.talking(server, client) as call, in_a_call(call, server, client, of=of):
        yield call


@contextlib.asynccontextmanager
async def in_a_call(
    call: Conversation, server: tuple[str, int], client: Host | None = None, *, of: str = ""
) -> AsyncIterator[None]:
    """A call that was set up otherwise."""
    record(calls=1, calls_lost=1)
    with watching(server, client, of=of) as prober:
        yield
    record(calls_lost=0)
    hear(prober, call.audios, of=of)


@contextlib.asynccontextmanager
async def ringing(server: tuple[str, int]) -> AsyncIterator[Conversation]:
    record(ringing=1, ringing_lost=1)
    async with conversation.ringing(server) as call:
        with watching(server):
            yield call
    record(ringing_lost=0)


@contextlib.asynccontextmanager
async def phones(server: tuple[str, int], client: Host | None = None) -> AsyncIterator[tuple[Phone, Phone]]:
    async with conversation.phones(server, client) as pair:
        with watching(server, client):
            yield pair


def told(report: Report) -> None:
    """What many calls of sipp came to."""
    print(report)
    record(calls=report.answered, calls_lost=report.answered_lost)
    record(ringing=report.ringing, ringing_lost=report.ringing_lost)
    headline.count("node killed: calls kept", report.answered - report.answered_lost, report.answered)
    headline.count("ringing kept, UDP", report.ringing - report.ringing_lost, report.ringing)
