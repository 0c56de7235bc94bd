"""Promise 5 under fire: whatever befalls the store, SIP goes on, and nothing that was said is lost.

`make outages` takes longer over it: 60 s each, at 200 REGISTER/s and 20 calls/s.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from store.backends import open_store
from store.interface import opened
from tests.support.inquire import ask
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.outage import VICTIMS, Victim
from tests.support.registrants import Registrants
from tests.support.sipmessage import Sip
from tests.support.swarm import Swarm, SwarmCall

pytestmark = pytest.mark.real

SECONDS = float(os.environ.get("SOFIA_OUTAGE_SECONDS", "1.5"))
LONG = 10.0
REGISTERS = float(os.environ.get("SOFIA_OUTAGE_REGISTERS", "60"))
CALLS = float(os.environ.get("SOFIA_OUTAGE_CALLS", "8"))
PINGS = 25.0
"Requests a second inside the calls that stand."
ANCHORS = 10
"Calls that stand all the time."
TALK = 1.0
"Seconds that the others last."
WAIT = 40.0
"Seconds that the store may take to be there again."

REGISTRANTS = [f"10{n:02d}" for n in range(10)]


class TimedSwarm(Swarm):
    """One that knows how long each answer took."""

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(server, DOMAIN, PASSWORD)
        self.took: dict[str, list[float]] = {"OPTIONS": [], "BYE": [], "INVITE": []}
        self._asked: dict[tuple[str, str], float] = {}

    def ping(self, call: SwarmCall) -> None:
        self._request(self._in_dialog(call.caller, "OPTIONS", self._out), self._out)

    def _request(self, message: Sip, sock) -> None:  # type: ignore[no-untyped-def]
        self._asked.setdefault((message.branch, message.method), time.monotonic())
        super()._request(message, sock)

    def _on_response(self, message: Sip, sock) -> None:  # type: ignore[no-untyped-def]
        if message.status >= 200:
            asked = self._asked.pop((message.branch, message.method), None)
            if asked is not None and message.method in self.took:
                self.took[message.method].append(time.monotonic() - asked)
        super()._on_response(message, sock)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", VICTIMS)
def test_whatever_befalls_the_store_no_call_is_lost_and_every_record_is_right_afterwards(
    name: str, tmp_path: Path
) -> None:
    with VICTIMS[name](tmp_path) as victim:
        settings = shared_settings(loopback_address(), tmp_path) | {"core_db_dsn": victim.dsn}
        node = Node("solo", tmp_path / "solo", settings, standalone=True)
        with node.serving():
            for fault in _chosen(name, victim):
                figures = asyncio.run(_outage(node, victim, victim.faults[fault]()))
                print(f"{name} {fault} for {SECONDS:g} s: {figures}")


def _chosen(name: str, victim: Victim) -> list[str]:
    """All faults when there is time; in a short run those of the network once, on Redis, and those of servers on each."""
    if SECONDS >= LONG or name == "redis":
        return list(victim.faults)
    return [fault for fault in victim.faults if fault not in ("answers garbage", "packets vanish")]


async def _outage(node: Node, victim: Victim, fault: AbstractContextManager[object]) -> str:
    before = ask(node, "stats")
    async with TimedSwarm(node.sip) as swarm, Registrants(node.sip, DOMAIN, PASSWORD, REGISTRANTS) as phones:
        anchors = await _placed(swarm, ANCHORS)
        # One store has the load of the other before the fault comes.
        whole = asyncio.create_task(_load(swarm, phones, anchors, SECONDS + 1.0))
        await asyncio.sleep(0.5)
        with await _entered(fault):
            await asyncio.sleep(SECONDS)
            assert not whole.done() or whole.exception() is None, whole.exception()
        await whole
        anchors += await _placed(swarm, 5)
        back = await asyncio.to_thread(_wait_for_the_store, node)
        figures = _judge(node, victim, swarm, phones, anchors, before)
        await _hang_up(swarm, anchors)
        await asyncio.to_thread(_nothing_left, node, victim)
        return f"{figures}; store level {back:.1f} s after it was back"


async def _entered(fault: AbstractContextManager[object]) -> AbstractContextManager[object]:
    """The fault's beginning and end may take a moment each; the phones go on meanwhile."""

    class Entered(AbstractContextManager[object]):
        def __enter__(self) -> object:
            return None

        def __exit__(self, *exception: object) -> None:
            fault.__exit__(None, None, None)

    await asyncio.to_thread(fault.__enter__)
    return Entered()


async def _placed(swarm: TimedSwarm, count: int) -> list[SwarmCall]:
    calls = await swarm.place(count, 50)
    assert await swarm.until(lambda: all(call.state == "answered" for call in calls), 10 * STRETCH), swarm.states()
    return calls


async def _load(swarm: TimedSwarm, phones: Registrants, anchors: list[SwarmCall], seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(phones.refresh(REGISTERS, seconds))
        group.create_task(_ping(swarm, anchors, seconds))
        group.create_task(_come_and_go(swarm, seconds))


async def _ping(swarm: TimedSwarm, anchors: list[SwarmCall], seconds: float) -> None:
    end = time.monotonic() + seconds
    for call in itertools.cycle(anchors):
        if time.monotonic() > end:
            return
        swarm.ping(call)
        await asyncio.sleep(1 / PINGS)


async def _come_and_go(swarm: TimedSwarm, seconds: float) -> None:
    """Calls that are placed, answered, and hung up by either side."""
    end = time.monotonic() + seconds
    placed: list[SwarmCall] = []

    async def live(call: SwarmCall) -> None:
        placed.append(call)
        answered = await swarm.until(lambda: call.state in ("answered", "refused"), 15 * STRETCH)
        assert answered, f"a call stays {call.state}"
        assert call.state == "answered", f"a call was refused with {call.refused}"
        await asyncio.sleep(TALK)
        swarm.hang_up(call, by_callee=call.number % 2 == 1)
        assert await swarm.until(lambda: call.hangup, 15 * STRETCH), "a BYE has no answer"
        assert call.hangup == 200

    async with asyncio.TaskGroup() as group:
        while time.monotonic() < end:
            group.create_task(live(swarm.invite()))
            await asyncio.sleep(1 / CALLS)


def _wait_for_the_store(node: Node) -> float:
    began = time.monotonic()

    def level() -> bool:
        stats = ask(node, "stats")
        return not (stats["store_open"] or stats["store_behind"] or stats["store_queued"])

    until(level, WAIT, "the store to have everything", node)
    return time.monotonic() - began


def _judge(
    node: Node,
    victim: Victim,
    swarm: TimedSwarm,
    phones: Registrants,
    anchors: list[SwarmCall],
    before: dict[str, int],
) -> str:
    with opened(open_store(victim.direct)) as store:
        calls, registrations = store.calls(), store.registrations()
    # Every call that lives is on record with both legs answered, and no other.
    assert {leg.dialog.call_id for call in calls for leg in call.legs if leg.dialog} == {
        side.call_id for call in anchors for side in (call.caller, call.callee) if side is not None
    }
    assert all(leg.state == "answered" for call in calls for leg in call.legs)
    assert {call.uuid for call in calls} <= {channel["uuid"] for channel in ask(node, "channels")}
    assert not {user: phone.refused for user, phone in phones.all.items() if phone.refused}
    # Every phone's last REGISTER is the one on record: what came during the outage, in its order.
    stored = {record.call_id: record.cseq for record in registrations}
    phones_say = {phone.call_id: phone.confirmed for phone in phones.all.values()}
    assert {call_id: stored.get(call_id) for call_id in phones_say} == phones_say
    counts = {name: value - before[name] for name, value in ask(node, "stats").items() if name.startswith("store_")}
    assert counts["store_lost"] == counts["store_refused"] == 0, counts
    # Each write at risk was either journaled or committed late: nothing else becomes of them.
    assert counts["store_at_risk"] == counts["store_journaled"] + counts["store_late"], counts
    assert counts["store_at_risk"] > 0
    inside = swarm.took["OPTIONS"]
    # No answer waits for the store: the generous limit is for slow machines, the figure is printed.
    assert _at(0.99, inside) < 1.0 * STRETCH, f"p99 of answers in dialogs {_at(0.99, inside):.3f} s"
    return (
        f"{len(swarm.calls)} calls, {len(phones.took)} registrations, 0 lost; at risk {counts['store_at_risk']}, "
        f"journaled {counts['store_journaled']}; p99 of OPTIONS in dialogs {_ms(inside)}, BYE {_ms(swarm.took['BYE'])}, "
        f"REGISTER {_ms(phones.took)}"
    )


async def _hang_up(swarm: TimedSwarm, calls: list[SwarmCall]) -> None:
    for call in calls:
        swarm.hang_up(call, by_callee=call.number % 2 == 1)
    assert await swarm.until(lambda: all(call.hangup == 200 for call in calls), 15 * STRETCH)
    assert not [status for (_method, status) in swarm.statuses if status in (481, 500, 503)]


def _nothing_left(node: Node, victim: Victim) -> None:
    def empty() -> bool:
        with opened(open_store(victim.direct)) as store:
            return not store.calls()

    until(empty, WAIT, "the records of ended calls to be gone", node)


def _at(share: float, figures: list[float]) -> float:
    ordered = sorted(figures)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _ms(figures: list[float]) -> str:
    return f"{_at(0.99, figures) * 1000:.1f} ms"
