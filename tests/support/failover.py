"""The failover that the promises are about: sipp calls in every state, the active node killed, the standby judged."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from store.backends import open_store
from tests.support.netns import Host
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, until
from tests.support.phone import Phone
from tests.support.sipp import Sipp, user_rows

CALLERS = [f"10{n:02d}" for n in range(10)]


@dataclass(frozen=True)
class Plan:
    """One pair of sipp scenarios: a caller, a callee, how many calls, which user is called."""

    caller: str
    callee: str
    calls: int
    number: str
    talk: float = 0.0
    "Seconds the caller talks before it hangs up; 0 for as long as the takeover is given."
    waits: bool = False
    "It rings when the node dies."


PLANS = (
    Plan("uac_hangs_up", "uas_is_hung_up", 50, "1011"),
    Plan("uac_is_hung_up", "uas_hangs_up", 50, "1012"),
    Plan("uac_hangs_up", "uas_answers_late", 10, "1013", talk=1.0, waits=True),
    Plan("uac_cancels", "uas_is_cancelled", 10, "1014", waits=True),
)


ANSWERED = sum(plan.calls for plan in PLANS if not plan.waits)


@dataclass(frozen=True)
class Report:
    """What the calls came to."""

    calls: int
    succeeded: int
    failed: int
    errors_481_500: int
    takeover_ms: int
    complaints: str = ""
    answered: int = 0
    "When the node was killed; the others rang."
    answered_lost: int = 0
    ringing_lost: int = 0

    @property
    def ringing(self) -> int:
        return self.calls - self.answered

    def __str__(self) -> str:
        return (
            f"failover: calls={self.calls} succeeded={self.succeeded} failed={self.failed} "
            f"answers_481_500={self.errors_481_500} takeover_ms={self.takeover_ms}\n{self.complaints}"
        )


def hundred_answered_twenty_ringing(
    sip: tuple[str, int],
    active: Node,
    standby: Node,
    *,
    host: str = "127.0.0.1",
    namespace: Host | None = None,
    first_port: int = 15000,
) -> Report:
    """Place the calls, kill the active node in their midst, let sipp hang up, answer and cancel on the standby."""
    pause = 14.0 * STRETCH
    sipps: list[Sipp] = []
    try:
        for number, plan in enumerate(PLANS):
            port = first_port + number * 1000
            prefix = namespace.prefix if namespace else ()
            common = {"server": sip, "calls": plan.calls, "host": host, "prefix": prefix}
            callee = Sipp(plan.callee, port=port, media_port=port + 100, pause=pause, **common)  # type: ignore[arg-type]
            sipps.append(callee)
            _register(sip, plan.number, f"sip:{plan.number}@{host}:{port}", host, namespace)
            rows = user_rows(CALLERS, PASSWORD, DOMAIN, plan.number)
            own = {"port": port + 500, "media_port": port + 600, "pause": plan.talk or pause, "rate": 25}
            sipps.append(Sipp(plan.caller, rows=rows, **own, **common))  # type: ignore[arg-type]
        expected = sum(plan.calls for plan in PLANS)
        until(lambda: _live_calls(active) == expected, 20, f"{expected} calls on the active node", active)
        # A successor repeats an ACK that may not have gone out. A phone passes over the second one, sipp calls it a
        # fault: so the last call's ACK has to be on record. Kills at any moment are another test's.
        until(lambda: _answered_and_acknowledged(active) == ANSWERED, 20, "every ACK to be on record", active)
        killed = active.kill()
        standby.wait_role("active")
        takeover = time.monotonic() - killed
        for sipp in sipps:
            sipp.wait(90 * STRETCH)
        return Report(
            calls=expected,
            succeeded=sum(sipp.count("SuccessfulCall(C)") for sipp in sipps[1::2]),
            failed=sum(sipp.count("FailedCall(C)") for sipp in sipps),
            errors_481_500=sum(sipp.received("SIP/2.0 481") + sipp.received("SIP/2.0 500") for sipp in sipps),
            takeover_ms=round(takeover * 1000),
            answered=ANSWERED,
            answered_lost=_lost(sipps, waits=False),
            ringing_lost=_lost(sipps, waits=True),
            complaints="\n".join(f"{s.scenario}: {e}" for s in sipps if (e := s.errors())),
        )
    finally:
        for sipp in sipps:
            sipp.stop()


def _lost(sipps: list[Sipp], *, waits: bool) -> int:
    """Callers that did not come to their end."""
    callers = zip(PLANS, sipps[1::2], strict=True)
    return sum(plan.calls - sipp.count("SuccessfulCall(C)") for plan, sipp in callers if plan.waits is waits)


def _live_calls(node: Node) -> int:
    """Legs come in pairs: a call is a caller's channel and a callee's."""
    return int(node.api("show channels count").split()[0]) // 2


def _answered_and_acknowledged(node: Node) -> int:
    """Calls the store holds as answered on both sides, with the ACK to the callee gone out."""
    store = open_store(node.settings["core_db_dsn"])()
    store.open()
    try:
        calls = store.calls()
    finally:
        store.close()
    return sum(all(leg.state == "answered" and not leg.awaits_ack for leg in call.legs) for call in calls)


def _register(sip: tuple[str, int], user: str, contact: str, host: str, namespace: Host | None) -> None:
    async def register() -> None:
        async with Phone(user, PASSWORD, sip, domain=DOMAIN, host=host, namespace=namespace) as phone:
            await phone.register(contact=contact)

    asyncio.run(register())
