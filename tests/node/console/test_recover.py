"""`sofia recover --dry-run` and `sofia recover status`, in a real console process with a store and two workers."""

from __future__ import annotations

import csv
import json

from store.backends import open_store
from store.interface import Put, opened
from store.records import CallRecord, DialogRecord, FlowRecord, LegRecord, MediaRecord
from tests.node.console.rig import Console, Worker, until

IDLE = {
    "calls": 0,
    "legs": 0,
    "lost": 0,
    "reinvited": 0,
    "asked": 0,
    "waiting": 0,
    "began": 0,
    "ended": 0,
    "results": [],
}
BUSY = {
    "slot": "internal#0",
    "calls": 2,
    "legs": 4,
    "lost": 1,
    "reinvited": 1,
    "asked": 1,
    "waiting": 1,
    "began": 1_795_405_000.0,
    "ended": 1_795_405_000.5,
    "results": [
        [1_795_405_000.5, "leg b", "call", "internal", "id,b", "outbound", "failed", "481", 481],
        [1_795_405_000.25, "leg a", "call", "internal", "id-a", "inbound", "ok", "reinvited", 200],
    ],
}


def leg(name: str, at: str, state: str = "answered") -> LegRecord:
    return LegRecord(
        uuid=name,
        direction="inbound",
        profile="internal",
        state=state,  # type: ignore[arg-type]
        flow=FlowRecord(profile="internal", local_host="127.0.0.1", remote_host="127.0.0.9", remote_port=5070),
        dialog=DialogRecord(call_id=f"id-{name}", local_tag=f"tag-{name}"),
        media=MediaRecord(address=at, advertised=at, port=20000, local_sdp="v=0"),
    )


def record(name: str, at: str, epoch: int, created: float) -> CallRecord:
    return CallRecord(
        uuid=name,
        node="alpha",
        slot="internal#0",
        epoch=epoch,
        version=1,
        state="answered",
        profile_name="internal",
        legs=[leg(f"{name}-a", at), leg(f"{name}-b", "127.0.0.1"), leg(f"{name}-c", at, "ended")],
        created=created,
    )


def put(console: Console, *records: CallRecord) -> None:
    with opened(open_store(console.store)) as store:
        store.commit([Put(one) for one in records])


def rows(answer: str) -> list[dict[str, str]]:
    table = answer.split("\n\n")[0] if answer.startswith("uuid,") else answer.split("\n\n")[1]
    return list(csv.DictReader(table.splitlines()))


def test_a_standby_foretells_what_a_promotion_would_do(console: Console):
    console.answers["node"] = json.dumps({"role": "standby", "children": [], "profiles": {}})
    put(console, record("young", "127.0.0.1", 3, 20.0), record("old", "127.0.0.7", 3, 10.0))
    answer = console.api("sofia recover --dry-run")
    told = rows(answer)
    assert [(one["uuid"], one["action"]) for one in told] == [
        ("old-a", "reinvite"),
        ("old-b", "revive"),
        ("young-a", "revive"),
        ("young-b", "revive"),
    ]
    assert told[0]["why"] == "media moves from 127.0.0.7 to 127.0.0.1"
    assert (told[0]["call_uuid"], told[0]["call_id"]) == ("old", "id-old-a")
    assert answer.endswith("\n4 total: 1 re-INVITEd, 3 revived as they are.\n")


def test_an_active_node_says_which_calls_are_its_own(console: Console):
    children = [{"kind": "worker", "slot": "internal#0", "epoch": 4}]
    profiles = {"internal": {"state": "RUNNING"}}
    console.answers["node"] = json.dumps({"role": "active", "children": children, "profiles": profiles})
    put(console, record("mine", "127.0.0.1", 4, 20.0), record("left", "127.0.0.1", 3, 10.0))
    answer = console.api("sofia profile pbx.test recover --dry-run")
    assert [(one["uuid"], one["action"], one["why"]) for one in rows(answer)] == [
        ("left-a", "revive", "nothing changes for it"),
        ("left-b", "revive", "nothing changes for it"),
        ("mine-a", "none", "lives here"),
        ("mine-b", "none", "lives here"),
    ]
    assert console.api("sofia profile external recover --dry-run").endswith("\n0 total.\n")
    assert not any(verb == "recover" for verb, _words in console.asked)


def test_the_status_names_each_leg_with_its_result(console: Console):
    workers = console.run_dir / "workers"
    internal = Worker(workers, "internal.0", {"recovery": BUSY})
    external = Worker(workers, "external.0", {"recovery": {"slot": "external#0", **IDLE}})
    try:
        until(lambda: internal.connected and external.connected, "the console to find its workers")
        answer = console.api("sofia recover status")
        assert answer.splitlines()[:2] == [
            "external#0: nothing was recovered since it began",
            "internal#0: done in 0.500 s, 2 calls, 4 legs: 3 kept, 1 lost, 1 re-INVITEd, 1 asked, 1 waiting for their turn",
        ]
        told = rows(answer)
        assert [(one["uuid"], one["call_id"], one["result"], one["cause"]) for one in told] == [
            ("leg a", "id-a", "ok", "reinvited"),
            ("leg b", "id,b", "failed", "481"),
        ]
        assert answer.endswith("\n2 total.\n")
        assert "external#0" not in console.api("sofia profile internal recover status")
    finally:
        internal.close()
        external.close()
