"""A ringing call is picked up by who offers nothing, or whose caller has, and its node dies at any moment (see `crash.py`)."""

from __future__ import annotations

import pytest

from tests.node.calls.crash import WITHIN, Play, Scenario, crash_everywhere, happens, impatient_phones
from tests.node.calls.test_replaces import naming
from tests.support.phone import Line, Phone
from tests.support.sipmessage import Sip

__all__ = ["impatient_phones"]


class LatePhone(Phone):
    """Offers nothing in its INVITE, and answers in its ACK."""

    def new_line(self, *, outbound: bool, audio: bool) -> Line:
        return LateLine(self, outbound=outbound, audio=audio)


class LateLine(Line):
    def _request(self, method: str, extra: list[tuple[str, str]] | None = None, body: str = "") -> Sip:
        if method == "ACK" and self.outbound and self._invite is not None:
            body = self._sdp()
        return super()._request(method, extra, "" if method == "INVITE" else body)


async def picked_up(play: Play, caller: type[Phone], other: type[Phone]) -> None:
    alice, bob, carol = await play.phone("1000", caller), await play.phone("1001"), await play.phone("1002", other)
    ours = await alice.call("1001")
    ringing = await bob.next_line(WITHIN)
    await happens(ours.ringing)
    third = await carol.call("1001", naming(ringing, early_only=True))
    await happens(third.answered)
    await happens(ours.answered)
    await happens(ringing.ended)
    for one in (ours, third):
        assert one.audio is not None
        await one.audio.heard(2, WITHIN)
    assert (await ours.hangup()).status == 200
    await happens(third.ended)


async def by_who_offers_nothing(play: Play) -> None:
    await picked_up(play, Phone, LatePhone)


async def for_a_caller_that_offered_nothing(play: Play) -> None:
    await picked_up(play, LatePhone, Phone)


async def between_two_that_offer_nothing(play: Play) -> None:
    await picked_up(play, LatePhone, LatePhone)


@pytest.mark.usefixtures("impatient_phones")
@pytest.mark.parametrize("variant", ["spoken", "silent", "lost"])
@pytest.mark.parametrize(
    "scenario", [by_who_offers_nothing, for_a_caller_that_offered_nothing, between_two_that_offer_nothing]
)
def test_a_crash_at_any_put_changes_nothing_for_the_phones(scenario: Scenario, variant: str) -> None:
    crash_everywhere(scenario, variant)
