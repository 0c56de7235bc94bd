"""What calls do when their node dies at any moment (see `crash.py`): the phones know nothing of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.node.calls.crash import (
    WITHIN,
    Play,
    Scenario,
    connected,
    crash_everywhere,
    happens,
    impatient_phones,
    offered,
)
from tests.node.calls.rig import extension
from tests.support import phone as phones
from tests.support.phone import Line, Phone
from tests.support.sipmessage import Sip

__all__ = ["impatient_phones"]


async def caller_hangs_up(play: Play) -> None:
    ours, theirs = await connected(play)
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)


async def callee_hangs_up(play: Play) -> None:
    ours, theirs = await connected(play)
    assert (await theirs.hangup()).status == 200
    await happens(ours.ended)


async def caller_cancels(play: Play) -> None:
    alice, bob = await play.phone("1000"), await play.phone("1001")
    ours = await alice.call("1001")
    theirs = await bob.next_line(WITHIN)
    await happens(ours.ringing)
    assert (await ours.cancel()).status == 487
    await happens(theirs.ended)
    assert theirs.ended_by == "cancelled"


async def callee_is_busy(play: Play) -> None:
    alice, bob = await play.phone("1000"), await play.phone("1001")
    ours = await alice.call("1001")
    theirs = await bob.next_line(WITHIN)
    await happens(ours.ringing)
    theirs.reject(486)
    await happens(ours.ended)
    assert ours.refused is not None
    assert ours.refused.status == 486


async def one_of_two_answers(play: Play) -> None:
    alice, bob = await play.phone("1000"), await play.phone("1001")
    carol = await play.phone("1001")
    ours = await alice.call("1001")
    theirs, other = await bob.next_line(WITHIN), await carol.next_line(WITHIN)
    await happens(ours.ringing)
    theirs.answer()
    await happens(ours.answered)
    await happens(other.ended)
    assert other.ended_by == "cancelled"
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)


async def caller_holds_and_takes_back(play: Play) -> None:
    ours, theirs = await connected(play)
    assert await offered(ours, "sendonly") == 200
    assert "a=sendonly" in theirs.remote_sdp
    assert await offered(ours, "sendrecv") == 200
    assert "a=sendonly" not in theirs.remote_sdp
    assert (await theirs.hangup()).status == 200
    await happens(ours.ended)


async def callee_holds(play: Play) -> None:
    ours, theirs = await connected(play)
    assert await offered(theirs, "inactive") == 200
    assert "a=inactive" in ours.remote_sdp
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)


class Stubborn(Line):
    """A line that changes nothing once it is answered, and says so until that is acknowledged."""

    refusing: asyncio.Task[None] | None = None

    def on_request(self, message: Sip, source: tuple[str, int]) -> None:
        if message.method == "INVITE" and self.answered.is_set() and "tag=" in message.get("To"):
            self._stop()
            self.refusing = asyncio.create_task(self._refuse(message, source))
        else:
            if message.method == "ACK":
                self._stop()
            super().on_request(message, source)

    async def _refuse(self, message: Sip, source: tuple[str, int]) -> None:
        while True:
            self.phone.send(self._answer_to(message, 488, "Not Acceptable Here"), source)
            await asyncio.sleep(phones.T1)

    def _stop(self) -> None:
        if self.refusing is not None:
            self.refusing.cancel()

    def close(self) -> None:
        self._stop()
        super().close()


class StubbornPhone(Phone):
    def new_line(self, *, outbound: bool, audio: bool) -> Line:
        return Stubborn(self, outbound=outbound, audio=audio)


async def callee_refuses_to_be_held(play: Play) -> None:
    alice, bob = await play.phone("1000"), await play.phone("1001", StubbornPhone)
    ours = await alice.call("1001")
    theirs = await bob.answer_next(WITHIN)
    await happens(ours.answered)
    await happens(theirs.answered)
    assert await offered(ours, "sendonly") == 488
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)


async def an_application_talks_first(play: Play) -> None:
    alice, bob = await play.phone("1000"), await play.phone("1001")
    ours = await alice.call("7001")
    await happens(ours.answered)
    theirs = await bob.answer_next(WITHIN)
    await happens(theirs.answered)
    assert (await theirs.hangup()).status == 200
    await happens(ours.ended)


async def echo_answers(play: Play) -> None:
    alice = await play.phone("1000")
    ours = await alice.call("7002")
    await happens(ours.answered)
    assert ours.audio
    await ours.audio.heard(3, WITHIN)
    assert (await ours.hangup()).status == 200


async def next_one_answers_when_the_first_is_busy(play: Play) -> None:
    alice, bob, carol = await play.phone("1000"), await play.phone("1001"), await play.phone("1002")
    ours = await alice.call("7003")
    refusing = await bob.next_line(WITHIN)
    await happens(ours.ringing)
    refusing.reject(486)
    theirs = await carol.answer_next(WITHIN)
    await happens(ours.answered)
    assert (await ours.hangup()).status == 200
    await happens(theirs.ended)


EXTENSIONS = "".join(
    (
        extension(
            "7001", ("answer", ""), ("sleep", "50"), ("playback", "tone_stream://%(40,0,400)"), ("bridge", "user/1001")
        ),
        extension("7002", ("answer", ""), ("echo", "")),
        extension("7003", ("set", "continue_on_fail=true"), ("bridge", "user/1001|user/1002")),
    )
)

SCENARIOS: list[Scenario] = [
    caller_hangs_up,
    callee_hangs_up,
    caller_cancels,
    callee_is_busy,
    one_of_two_answers,
    caller_holds_and_takes_back,
    callee_holds,
    callee_refuses_to_be_held,
    an_application_talks_first,
    echo_answers,
    next_one_answers_when_the_first_is_busy,
]


REFUSED = (caller_cancels, callee_is_busy, callee_refuses_to_be_held)
"What ends them is a response, which is never written down as still to be sent: the commit takes longer than the sending."

TABLE = [(scenario, "spoken") for scenario in SCENARIOS]
TABLE += [(scenario, "silent") for scenario in SCENARIOS if scenario not in REFUSED]
TABLE += [(scenario, "lost") for scenario in SCENARIOS]


@pytest.mark.usefixtures("impatient_phones")
@pytest.mark.parametrize(("scenario", "variant"), TABLE, ids=lambda word: getattr(word, "__name__", word))
def test_a_crash_at_any_put_changes_nothing_for_the_phones(scenario: Scenario, variant: str) -> None:
    crash_everywhere(scenario, variant, EXTENSIONS)
