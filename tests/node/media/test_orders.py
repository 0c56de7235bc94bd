"""The orders of workers, without a loop: alarms go off when the test says so."""

from __future__ import annotations

import socket
from collections.abc import Callable

from node.media.control import Open, Report
from node.media.orders import Orders
from node.media.relay import Leg


class Loop:
    def __init__(self) -> None:
        self.alarms: list[Callable[[], None]] = []
        self.reports: list[Report] = []

    def admit(self, leg: Leg) -> None: ...
    def dismiss(self, leg: Leg) -> None: ...
    def answer(self, slot: str) -> None: ...

    def later(self, delay: float, callback: Callable[[], None]) -> None:
        self.alarms.append(callback)

    def report(self, slot: str, report: Report) -> None:
        self.reports.append(report)

    def has_worker(self, slot: str) -> bool:
        return True


def test_a_port_that_is_still_tried_for_is_not_opened_after_all_was_released() -> None:
    loop = Loop()
    orders = Orders(loop)
    loop.alarms.clear()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        orders.obey("internal#0", Open(1, "leg", "127.0.0.1", port, port + 1, port, 46))
    orders.release()
    (again,) = loop.alarms
    again()
    assert loop.reports == []
    orders.close()
