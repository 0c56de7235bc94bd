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
from typing import Any

import pytest

from store.backends import open_store
from store.interface import opened
from tests.outages.stopwatch import TimedSwarm, at
from tests.support.inquire import ask
from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.outage import FAULTS, VICTIMS, Victim
from tests.support.registrants import Registrants
from tests.support.swarm import SwarmCall

pytestmark = pytest.mark.real

SECONDS = float(os.environ.get("SOFIA_OUTAGE_SECONDS", "1.5"))
LONG = 10.0
AFTER = min(10.0, max(0.5, SECONDS / 6))
"Seconds that the load goes on when the store is back: it is given what it has missed meanwhile."
PROMPT = 0.020
"Seconds within which 99 of 100 requests in dialogs are answered, whatever the store does."
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
QUIET = 0.05
"Share of the time for which the worker may wait for a processor on a machine that is ours alone."

COUNTED = ("at_risk", "journaled", "replayed", "refused", "lost")

REGISTRANTS = [f"10{n:02d}" for n in range(10)]


def _chosen() -> list[tuple[str, tuple[str, ...]]]:
    """Each fault with a node of its own when there is time. In a short run those of the network once, on Redis only."""
    if SECONDS >= LONG:
        return [(name, (fault,)) for name, faults in FAULTS.items() for fault in faults]
    rare = ("answers garbage", "packets vanish")
    return [(name, tuple(f for f in faults if name == "redis" or f not in rare)) for name, faults in FAULTS.items()]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("name", "faults"), [pytest.param(*each, id="-".join((each[0], *each[1])).replace(" ", "-")) for each in _chosen()]
)
def test_whatever_befalls_the_store_no_call_is_lost_and_every_record_is_right_afterwards(
    name: str, faults: tuple[str, ...], tmp_path: Path
) -> None:
    with VICTIMS[name](tmp_path) as victim:
        assert set(victim.faults) == set(FAULTS[name])
        settings = shared_settings(loopback_address(), tmp_path) | {"core_db_dsn": victim.dsn}
        # All phones have one address here: 525 requests a second of it, and a source may send 500, if nobody says otherwise.
        settings["max_recv_rps"] = "0"
        # Where the store's disk is full, the journal's is too.
        run_dir = tmp_path / "disk" / "solo" if name == "disk" else tmp_path / "solo"
        node = Node("solo", run_dir, settings, standalone=True)
        with node.serving():
            for fault in faults:
                figures = asyncio.run(_outage(node, victim, victim.faults[fault]()))
                print(f"{name} {fault} for {SECONDS:g} s: {figures}")


async def _outage(node: Node, victim: Victim, fault: AbstractContextManager[object]) -> str:
    before = ask(node, "stats")
    try:
        return await _through(node, victim, fault, before)
    except Exception as error:
        after = ask(node, "stats")
        rose = {name: after[name] - before[name] for name in before if after[name] != before[name]}
        error.add_note(f"what the worker has counted meanwhile: {rose}")
        raise


async def _through(node: Node, victim: Victim, fault: AbstractContextManager[object], before: dict[str, int]) -> str:
    async with (
        TimedSwarm(node.sip, node.worker_pid("internal#0")) as swarm,
        Registrants(node.sip, DOMAIN, PASSWORD, REGISTRANTS) as phones,
    ):
        anchors = await _placed(swarm, ANCHORS)
        swarm.forget_times()
        # One store has the load of the other before the fault comes, and goes on having it for a while afterwards.
        whole = asyncio.create_task(_load(swarm, phones, anchors, SECONDS + AFTER + 0.5))
        await asyncio.sleep(0.5)
        began = time.time()
        with await _entered(fault):
            await asyncio.sleep(SECONDS)
            # It is told once a second.
            await asyncio.to_thread(until, lambda: _status(node)["at_risk"] > 0, 10, "writes at risk to be told", node)
            assert not whole.done() or whole.exception() is None, (whole.exception(), ask(node, "stats"))
        ended = time.monotonic()
        back = asyncio.create_task(asyncio.to_thread(_wait_for_the_store, node, ended))
        # From then on a BYE waits for a store that is well: how long, depends on who else needs its machine.
        back.add_done_callback(lambda _: swarm.stop_the_watch())
        await whole
        anchors += await _placed(swarm, 5)
        level = await back
        await asyncio.to_thread(_wait_for_the_store, node, ended)
        figures = _judge(node, victim, swarm, phones, anchors, before, began)
        await _hang_up(swarm, anchors)
        await asyncio.to_thread(_nothing_left, node, victim)
        return f"{figures}; store level {level:.1f} s after it was back"


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
        assert call.state == "answered", f"a call was refused with {call.refused} ({call.reason})"
        await asyncio.sleep(TALK)
        swarm.hang_up(call, by_callee=call.number % 2 == 1)
        assert await swarm.until(lambda: call.hangup, 15 * STRETCH), "a BYE has no answer"
        assert call.hangup == 200

    async with asyncio.TaskGroup() as group:
        while time.monotonic() < end:
            group.create_task(live(swarm.invite()))
            await asyncio.sleep(1 / CALLS)


def _wait_for_the_store(node: Node, since: float) -> float:
    def level() -> bool:
        stats = ask(node, "stats")
        return not (stats["store_open"] or stats["store_behind"] or stats["store_queued"])

    until(level, WAIT, "the store to have everything", node)
    return time.monotonic() - since


def _judge(
    node: Node,
    victim: Victim,
    swarm: TimedSwarm,
    phones: Registrants,
    anchors: list[SwarmCall],
    before: dict[str, int],
    began: float,
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
    until(lambda: _as_told(node) == _as_counted(node), 10, "the status to say what the worker says", node)
    figures = ", ".join(f"{method} {swarm.told(method, began)}" for method in ("OPTIONS", "BYE", "echo"))
    quiet = swarm.kept_waiting < QUIET
    figures += f", a processor waited for {swarm.kept_waiting:.1%} of the time: {'all' if quiet else 'own clock less echo'} counts"
    for method in ("OPTIONS", "BYE"):
        # In a short outage the first 200 ms are more than one in a hundred; and slow machines have slow everything.
        prompt = PROMPT if SECONDS >= LONG else 1.0 * STRETCH
        took = at(0.99, swarm.took[method]) if quiet else at(0.99, swarm.own[method]) - at(0.99, swarm.took["echo"])
        assert took < prompt, figures
    return (
        f"{len(swarm.calls)} calls, {len(phones.took)} registrations, 0 lost; at risk {counts['store_at_risk']}, "
        f"journaled {counts['store_journaled']}, replayed {counts['store_replayed']}; p99 of {figures}, "
        f"REGISTER {at(0.99, phones.took) * 1000:.1f} ms"
    )


def _status(node: Node) -> dict[str, Any]:
    """What `sofia-node status` says of the worker and its store."""
    children = node.status()["children"]
    assert isinstance(children, list)
    (told,) = [child["store"] for child in children if child["slot"] == "internal#0" and "store" in child]
    assert isinstance(told, dict)
    return told


def _as_told(node: Node) -> list[Any]:
    told = _status(node)
    return [told[name] for name in ("gone", "behind", "queued", *COUNTED)]


def _as_counted(node: Node) -> list[Any]:
    stats = ask(node, "stats")
    return [False, False, 0, *(stats[f"store_{name}"] for name in COUNTED)]


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
