"""One callee's description goes to the caller, another one answers, and their node dies at any moment (see `crash.py`)."""

from __future__ import annotations

import re

import pytest

from tests.node.calls.crash import WITHIN, Play, crash_everywhere, happens, impatient_phones
from tests.node.calls.rig import until
from tests.support.phone import Phone
from tests.support.reliable import ReliableLine, ReliablePhone

__all__ = ["impatient_phones"]


class OneCodec(ReliableLine):
    """Offers and answers one codec only."""

    number = 0

    def _sdp(self, direction: str = "sendrecv") -> str:
        other = 8 if self.number == 0 else 0
        text = super()._sdp(direction).replace("RTP/AVP 0 8 101", f"RTP/AVP {self.number}")
        return re.sub(rf"a=(rtpmap|fmtp):({other}|101) .*\r\n", "", text)


class OneCodecA(OneCodec):
    number = 8


class Musical(ReliablePhone):
    """Rings with early media in PCMU."""

    early_media = True

    def new_line(self, *, outbound: bool, audio: bool) -> ReliableLine:
        return OneCodec(self, outbound=outbound, audio=audio)


class Plain(Phone):
    """Knows PCMA only."""

    def new_line(self, *, outbound: bool, audio: bool) -> ReliableLine:
        return OneCodecA(self, outbound=outbound, audio=audio)


async def another_one_answers(play: Play) -> None:
    alice = await play.phone("1000", ReliablePhone)
    bob, carol = await play.phone("1001", Musical), await play.phone("1001", Plain)
    ours = await alice.call("1001")
    music, theirs = await bob.next_line(WITHIN), await carol.next_line(WITHIN)
    await until(lambda: ours.remote_sdp, WITHIN)
    theirs.answer()
    await happens(ours.answered)
    await happens(theirs.answered)
    await happens(music.ended)
    await until(lambda: "RTP/AVP 8" in ours.remote_sdp, WITHIN)
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)


@pytest.mark.usefixtures("impatient_phones")
@pytest.mark.parametrize("variant", ["spoken", "silent", "lost"])
def test_a_crash_at_any_put_changes_nothing_for_the_phones(variant: str) -> None:
    crash_everywhere(another_one_answers, variant, params={"enable-100rel": "true"})
