"""Writes that the store did not take: a line, an event and a counter, and not one for each of a thousand."""

from __future__ import annotations

import logging
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from node import inquiry
from node.unstored import Unstored
from store.interface import Outcome
from tests.node.rig import WITHIN, rig, until
from tests.store.samples import registration


class Told:
    """Takes what is told, and holds the alarm."""

    def __init__(self) -> None:
        self.alarms: list[Callable[[], None]] = []
        self.events: list[tuple[str, dict[str, str]]] = []
        self.unstored = Unstored(lambda _delay, callback: self.alarms.append(callback))
        self.unstored.tell = lambda subclass, headers: self.events.append((subclass, dict(headers)))

    def ring(self) -> None:
        alarms, self.alarms = self.alarms, []
        for alarm in alarms:
            alarm()


def test_the_first_is_told_at_once_and_the_others_in_sum(caplog: pytest.LogCaptureFixture) -> None:
    told = Told()
    with caplog.at_level(logging.WARNING):
        for number in range(1001):
            told.unstored.note(Outcome.AT_RISK, registration(str(number)))
        told.ring()
        told.ring()
    assert [(subclass, headers["count"]) for subclass, headers in told.events] == [
        ("sofia::write_at_risk", "1"),
        ("sofia::write_at_risk", "1000"),
    ]
    assert len(caplog.records) == 2
    assert told.alarms == [], "who has nothing to tell sets no alarm"


def test_kinds_are_told_apart() -> None:
    told = Told()
    for outcome in (Outcome.AT_RISK, Outcome.FENCED, None, None):
        told.unstored.note(outcome, registration("1000"))
    told.ring()
    assert {subclass: headers["count"] for subclass, headers in told.events} == {
        "sofia::write_at_risk": "1",
        "sofia::write_refused": "1",
        "sofia::write_lost": "2",
    }


def test_a_registration_at_risk_is_an_event_a_line_and_a_count(tmp_path: Path) -> None:
    with rig(tmp_path) as node, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
        node.serve()
        phone = node.phone()
        assert phone.register().status == 200
        console.settimeout(WITHIN)
        console.connect(str(tmp_path / "workers" / "internal.0"))
        console.sendall(inquiry.encode(inquiry.Subscribe(["sofia::write_at_risk"])))
        # The next answer on this connection says that the subscription was read.
        console.sendall(inquiry.encode(inquiry.Question(1, "stats")))
        frames = inquiry.Frames()
        while not any(isinstance(frame, inquiry.Reply) for frame in frames.feed(console.recv(1 << 16))):
            pass
        store = sqlite3.connect(tmp_path / "core.db", isolation_level=None)
        store.execute("BEGIN IMMEDIATE")
        assert phone.register().status == 200
        happened: list[inquiry.Happened] = []
        while not happened:
            happened = [each for each in frames.feed(console.recv(1 << 16)) if isinstance(each, inquiry.Happened)]
        store.execute("COMMIT")
        store.close()
        assert happened[0].event.subclass == "sofia::write_at_risk"
        assert dict(happened[0].event.headers)["count"] == "1"
        assert node.ask("stats")["store_at_risk"] == 1  # type: ignore[index]
        log = tmp_path / "log" / "sofia-node.log"
        until(lambda: "1 write not in the store in time, at risk until it is" in log.read_text())
