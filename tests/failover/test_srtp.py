"""SRTP passes through a node as it is, keys and all: what decrypts it is at its ends, and so outlasts the node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.node import DOMAIN, PASSWORD, STRETCH, Pair
from tests.support.srtp import SecureAudio, SecureLine, SecurePhone, key_of

pytestmark = [pytest.mark.real, pytest.mark.peers]

BEFORE = 100
"Packets with the sequence numbers up to 65535; the next one is 0, and belongs to the second round (RFC 3711 3.3.1)."


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as pair:
        yield pair


def phone(user: str, pair: Pair) -> SecurePhone:
    made = SecurePhone(user, PASSWORD, pair.sip, domain=DOMAIN)
    made.first = (1 << 16) - BEFORE
    return made


@contextlib.asynccontextmanager
async def talking(pair: Pair) -> AsyncIterator[tuple[SecureLine, SecureLine]]:
    """The caller's line and the callee's; neither sends the packet after which its numbers begin anew."""
    async with phone("1000", pair) as alice, phone("1001", pair) as bob:
        await alice.register()
        await bob.register()
        out = await alice.call("1001")
        incoming = await bob.next_line(10 * STRETCH)
        assert isinstance(out, SecureLine)
        assert isinstance(incoming, SecureLine)
        out.secure.halt = incoming.secure.halt = BEFORE - 3
        incoming.answer()
        async with asyncio.timeout(10 * STRETCH):
            await out.answered.wait()
        yield out, incoming


async def halted(audio: SecureAudio) -> None:
    async with asyncio.timeout(15 * STRETCH):
        while audio.sent < audio.halt:
            await asyncio.sleep(audio.interval)
    audio.pause()
    audio.halt = -1


def test_sequence_numbers_begin_anew_while_no_node_is_there_and_the_ends_decrypt_what_follows(pair: Pair) -> None:
    async def scenario() -> None:
        async with talking(pair) as (out, incoming):
            ends = (out.secure, incoming.secure)
            await asyncio.gather(*(halted(audio) for audio in ends))
            active, heir = pair.active, pair.standby
            active.kill()
            for audio in ends:
                assert audio.peer is not None
                audio.start(audio.peer)
            await asyncio.to_thread(heir.wait_role, "active")
            await asyncio.gather(*(audio.heard(10, 10 * STRETCH) for audio in ends))
            for audio in ends:
                numbers = [number for _at, number in audio.arrivals]
                assert min(numbers) < BEFORE < max(numbers)
                assert audio.unopened == 0
            assert (await out.reinvite()).status == 200
            assert key_of(out.remote_sdp) == incoming.secure.key
            assert key_of(incoming.remote_sdp) == out.secure.key
            await asyncio.gather(*(audio.heard(10, 10 * STRETCH) for audio in ends))
            assert (await out.hangup()).status == 200
            async with asyncio.timeout(10 * STRETCH):
                await incoming.ended.wait()

    asyncio.run(scenario())
