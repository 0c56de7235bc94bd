"""Two phones in a call, which is where most failover stories begin."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from tests.support.netns import Host
from tests.support.node import DOMAIN, PASSWORD, STRETCH
from tests.support.phone import Line, Phone
from tests.support.rtp import Audio

SOON = 10.0 * STRETCH
"Seconds for what takes a moment, on a machine that is busy."


@dataclass(frozen=True)
class Conversation:
    """1000 has called 1001. `out` is the caller's line, `incoming` the callee's."""

    alice: Phone
    bob: Phone
    out: Line
    incoming: Line

    @property
    def audios(self) -> tuple[Audio, Audio]:
        assert self.out.audio is not None
        assert self.incoming.audio is not None
        return self.out.audio, self.incoming.audio

    async def heard(self, packets: int, within: float) -> None:
        """Both hear so many more packets."""
        await asyncio.gather(*(audio.heard(packets, within) for audio in self.audios))

    def longest_gap(self, since: float) -> float:
        return max(audio.longest_gap(since) for audio in self.audios)

    async def end(self, by: Line, within: float = SOON) -> None:
        """One side hangs up with 200, the other side gets the BYE, and nobody ever heard 481 or 500."""
        other = self.incoming if by is self.out else self.out
        assert (await by.hangup()).status == 200
        async with asyncio.timeout(within):
            await other.ended.wait()
        assert other.ended_by == "them"
        assert not {481, 500} & set(self.alice.statuses() + self.bob.statuses())


@contextlib.asynccontextmanager
async def phones(server: tuple[str, int], client: Host | None = None) -> AsyncIterator[tuple[Phone, Phone]]:
    """1000 and 1001, both registered."""
    host = client.address if client is not None else "127.0.0.1"
    async with (
        Phone("1000", PASSWORD, server, domain=DOMAIN, host=host, namespace=client) as alice,
        Phone("1001", PASSWORD, server, domain=DOMAIN, host=host, namespace=client) as bob,
    ):
        await alice.register()
        await bob.register()
        yield alice, bob


@contextlib.asynccontextmanager
async def ringing(server: tuple[str, int]) -> AsyncIterator[Conversation]:
    """A call that rings and is not answered yet; the caller has heard so."""
    async with phones(server) as (alice, bob):
        out = await alice.call("1001")
        incoming = await bob.next_line(SOON)
        async with asyncio.timeout(SOON):
            await out.ringing.wait()
        yield Conversation(alice, bob, out, incoming)


@contextlib.asynccontextmanager
async def talking(server: tuple[str, int], client: Host | None = None) -> AsyncIterator[Conversation]:
    """A call that is answered."""
    async with phones(server, client) as (alice, bob):
        out = await alice.call("1001")
        incoming = await bob.answer_next(SOON)
        async with asyncio.timeout(SOON):
            await out.answered.wait()
        yield Conversation(alice, bob, out, incoming)
