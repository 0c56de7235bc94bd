"""PROTOS-shaped: each oddity in each element of an INVITE to a running node, and after each one a call that must succeed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.sip.message import Request, check, parse
from node.sip.uri import Uri
from tests.fuzz import anomalies
from tests.fuzz.crowd import Crowd, percentile
from tests.fuzz.effort import Effort
from tests.fuzz.hunt import STALL
from tests.support.node import STRETCH, Node, loopback_address
from tests.support.open_node import open_node, resident, trouble_of, wait_settled

pytestmark = pytest.mark.real

LEAST = 4500
GROWTH = 10
"KiB that the worker may take for each call: those that have ended are remembered for a minute, and this takes less."


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = open_node(tmp_path)
    with node.serving():
        yield node


def test_the_invite_itself_is_good():
    data = anomalies.compose("", b"", "192.0.2.1", 5060, 1)
    read = parse(data)
    assert isinstance(read, Request)
    check(read)
    assert read.contacts[0].uri == Uri.parse("sip:1000@192.0.2.1:5060;ob")
    assert read.encode().endswith(read.body)


def test_there_are_enough_cases_and_each_is_another():
    datas = {data for _name, data in anomalies.cases("192.0.2.1", 5060)}
    assert len(anomalies.ELEMENTS) * len(anomalies.ODDITIES) >= LEAST
    assert len(datas) >= LEAST


@pytest.mark.timeout(900)
def test_after_each_oddity_a_call_succeeds(node: Node, capsys):
    worker = wait_settled(node)
    effort = Effort(worker)
    crowd = Crowd(node.sip, loopback_address(), effort=effort)
    begun, before = time.monotonic(), 0
    try:
        for number, (name, data) in enumerate(anomalies.cases(crowd.host, crowd.port)):
            crowd.send(data)
            crowd.call(name)
            if number == 500:
                before = resident(worker)
        crowd.finish()
    finally:
        crowd.close()
    took, grown = time.monotonic() - begun, resident(worker) - before
    with capsys.disabled():
        print(
            f"\n  {len(crowd.done)} oddities, each followed by its call, {len(crowd.failed)} failed; {crowd.strange} oddities were answered; "
            f"OPTIONS between them: median {percentile(crowd.probes, 0.5) * 1000:.1f} ms, p99 {percentile(crowd.probes, 0.99) * 1000:.1f} ms, "
            f"most {max(crowd.probes) * 1000:.1f} ms; longest work {effort.most * 1000:.1f} ms; memory {grown:+} KiB; {took:.0f} s"
        )
    assert [(call.name, call.state, call.statuses) for call in crowd.failed] == []
    assert len(crowd.done) >= LEAST
    assert effort.most < STALL
    assert percentile(crowd.probes, 0.5) < 0.1 * STRETCH
    assert percentile(crowd.probes, 0.99) < 1.0 * STRETCH
    assert node.worker_pid("internal#0") == worker, "the worker was replaced"
    assert trouble_of(node) == []
    assert grown < GROWTH * (len(crowd.done) + crowd.strange)
