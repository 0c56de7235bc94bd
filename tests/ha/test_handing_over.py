"""An order to hand over ends by itself where it cannot be, and not before its time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha.policy import Order
from ha.process import EntryPoints
from ha.settings import HaSettings
from ha.supervisor import ORDERED, Supervisor
from node.config import Identity, load
from tests.ha.rig import profile, tree


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """Made, and not running."""
    overrides = {"store": str(tmp_path / "store.db"), "peer_address": "", "peer_listen": ""}
    configuration = load(tree(tmp_path, profile(host="127.0.0.1")), overrides, run_dir=tmp_path)
    supervisor = Supervisor(
        configuration,
        Identity(node="alpha", core_uuid="", started=0.0, standalone=True),
        tmp_path,
        settings=HaSettings.read(configuration.ha, standalone=True),
        entry_points=EntryPoints(),
        reload=lambda: configuration,
    )
    yield supervisor
    supervisor.loop.close()


def test_the_time_of_an_earlier_order_to_hand_over_does_not_end_a_later_one(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = time.monotonic()
    monkeypatch.setattr(supervisor.loop, "now", lambda: moment)
    orders = []
    for seconds, again in ((0.0, True), (ORDERED - 1, True), (2.0, False), (ORDERED - 3, False), (2.0, False)):
        moment += seconds
        if again:
            supervisor.hand_over()
        supervisor.loop.turn(0)
        orders.append(supervisor.standing.order)
    assert orders == [*itertools.repeat(Order.HAND_OVER, 4), Order.NONE]
