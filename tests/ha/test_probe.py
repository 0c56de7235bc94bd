"""Probes through the real listening sockets of a real node, and a profile without UDP whose worker stands still."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ha.loop import Loop
from ha.probe import StreamProbe
from tests.fuzz.streams import TRANSPORTS, Listening, listening_node
from tests.support.node import STRETCH, Node, until
from tests.support.open_node import log_of, trouble_of, wait_settled

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def listening(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    listening = listening_node(tmp_path_factory.mktemp("listening"))
    listening.node.start()
    try:
        listening.node.wait_role("active")
        wait_settled(listening.node)
        yield listening
    finally:
        listening.node.stop()


def asked(probe: StreamProbe, loop: Loop, answered: list[int], within: float) -> bool:
    """Send one, and wait for its answer."""
    answered.clear()
    probe.send()
    ends = time.monotonic() + within
    while not answered and time.monotonic() < ends:
        loop.turn(0.05)
    return bool(answered)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_each_listening_socket_answers_its_probe_and_a_frozen_worker_does_not(listening: Listening, transport: str):
    loop, answered = Loop(), []
    probe = StreamProbe(loop, transport.lower(), listening.server(transport), lambda: answered.append(1))
    assert asked(probe, loop, answered, 5 * STRETCH)
    assert asked(probe, loop, answered, 5 * STRETCH), "and again"
    worker = listening.node.worker_pid("internal#0")
    os.kill(worker, signal.SIGSTOP)
    try:
        assert not asked(probe, loop, answered, 0.4)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert asked(probe, loop, answered, 5 * STRETCH)
    probe.close()
    assert trouble_of(listening.node) == []


def test_a_probe_to_nobody_is_not_answered_and_no_error():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        loop, answered = Loop(), []
        for kind in ("tcp", "wss"):
            probe = StreamProbe(loop, kind, taken.getsockname(), lambda: answered.append(1))
            assert not asked(probe, loop, answered, 0.2)
            probe.close()


def without_udp(folder: Path, params: str) -> Node:
    """A node whose first profile has no UDP; its worker's beats are not looked at, only its probe."""
    node = listening_node(folder).node
    profile = node.conf / "sip_profiles" / "internal.xml"
    text = profile.read_text()
    for name, value in (("enabled", "yes"), ("event-timeout", "1500"), ("step-timeout", "60000")):
        text = re.sub(f'"watchdog-{name}" value="[^"]*"', f'"watchdog-{name}" value="{value}"', text)
    profile.write_text(text.replace("<settings>", f"<settings>{params}", 1))
    section = node.conf / "autoload_configs" / "ha.conf.xml"
    section.write_text(
        section.read_text().replace('"heartbeat-timeout" value="1000"', '"heartbeat-timeout" value="60000"')
    )
    return node


@pytest.mark.parametrize(
    "params",
    ['<param name="bind-params" value="transport=tcp"/>', '<param name="tls-only" value="true"/>'],
    ids=["tcp", "tls"],
)
def test_a_profile_without_udp_whose_worker_stands_still_gets_another_one(tmp_path: Path, params: str):
    node = without_udp(tmp_path, params)
    with node.serving():
        worker = wait_settled(node)
        time.sleep(2.5)
        assert node.worker_pid("internal#0") == worker, f"an idle profile fell to its watchdog\n{node.output()}"
        os.kill(worker, signal.SIGSTOP)
        until(lambda: node.worker_pid("internal#0") not in (0, worker), 15, "another worker", node)
        said = "profile internal answered no probe for 1.5 s"
        until(lambda: said in log_of(node), 5, "the log to say so", node)
