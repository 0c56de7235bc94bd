"""What an operator sees of the store: in words, as JSON, and on the console."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.inquire import ask
from tests.support.node import DOMAIN, PASSWORD, ROOT, Node, loopback_address, shared_settings, until
from tests.support.outage import sqlite_victim
from tests.support.phone import Phone

pytestmark = pytest.mark.real


def words(node: Node, *more: str) -> str:
    command = [sys.executable, "-m", "ha", "status", "--run-dir", str(node.run_dir), *more]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def of_worker(told: dict[str, Any]) -> dict[str, Any]:
    (store,) = [child["store"] for child in told["children"] if child["slot"] == "internal#0" and "store" in child]
    assert isinstance(store, dict)
    return store


def test_an_operator_sees_how_each_worker_stands_with_its_store(tmp_path: Path) -> None:
    with sqlite_victim(tmp_path) as victim:
        settings = shared_settings(loopback_address(), tmp_path) | {"core_db_dsn": victim.dsn}
        node = Node("solo", tmp_path / "solo", settings, standalone=True)
        with node.serving():
            asyncio.run(_register(node, 3))
            until(lambda: "store: level, 0 writes wait" in words(node), 10, "the status to say it is level", node)
            with victim.faults["locked"]():
                asyncio.run(_register(node, 2))
                until(lambda: "store: gone (" in words(node), 20, "the status to say it is gone", node)

                def kept() -> bool:
                    told = of_worker(json.loads(words(node, "--json")))
                    return bool(told["at_risk"] == told["journaled"] > 0)

                # What is told once a second may be from the midst of a write.
                until(kept, 10, "all that is at risk to be in the journal", node)
                told = of_worker(json.loads(words(node, "--json")))
                assert told["gone"]
                assert told["behind"]
                assert "lock" in told["error"]
                assert told["at_risk"] == told["journaled"] > 0
                assert told["replayed"] == 0
            until(lambda: "store: level, 0 writes wait" in words(node), 20, "the status to say it is level again", node)
            told = of_worker(json.loads(node.api("node")))
            stats = ask(node, "stats")
            assert (told["at_risk"], told["lost"], told["refused"]) == (stats["store_at_risk"], 0, 0)
            assert 0 < told["replayed"] <= told["journaled"]
            assert told["batch"] >= 1.0
            assert 0.0 < told["latency"] <= told["slowest"]


async def _register(node: Node, phones: int) -> None:
    for number in range(phones):
        async with Phone(f"100{number}", PASSWORD, node.sip, domain=DOMAIN) as phone:
            await phone.register()
