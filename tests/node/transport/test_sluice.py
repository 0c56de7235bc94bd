"""Registrations that would only be refused are left in the kernel: how many, in virtual time, and by a real filter."""

from __future__ import annotations

import socket

import pytest

from node.transport.sluice import LEAST, LOOK, SHARE, Readings, Sluice, attach, detach
from node.transport.udp import Datagrams


def overload(sluice: Sluice, offered: float, cost: float, seconds: float, begin: float = 100.0) -> list[float]:
    """So many registrations a second, each of which costs so much to refuse; the share of time that it took, each look."""
    shares = []
    for step in range(round(seconds / LOOK)):
        refused = round(offered * sluice.passing * LOOK)
        sluice.note(Readings(refused, refused, 0), refused * cost, mixed=False)
        sluice.adjust(begin + step * LOOK * 1.001)
        shares.append(refused * cost / LOOK)
    return shares


@pytest.mark.parametrize("offered", [12_000, 30_000, 100_000])
def test_refusing_takes_no_more_than_its_share(offered: float) -> None:
    sluice = Sluice()
    shares = overload(sluice, offered, 15e-6, 5.0)
    assert all(share == pytest.approx(SHARE, rel=0.35) for share in shares[20:])
    assert sluice.passing < 1.0


def test_who_has_time_to_refuse_all_reads_all() -> None:
    sluice = Sluice()
    overload(sluice, 5000, 15e-6, 5.0)
    assert sluice.passing == 1.0


def test_it_opens_when_there_is_less_to_refuse() -> None:
    sluice = Sluice()
    overload(sluice, 100_000, 15e-6, 3.0)
    assert sluice.passing < 0.2
    overload(sluice, 3000, 15e-6, 1.5, begin=103.0)
    assert sluice.passing == 1.0


def test_some_are_always_read() -> None:
    sluice = Sluice()
    overload(sluice, 10_000_000, 15e-6, 5.0)
    assert sluice.passing >= LEAST


def test_what_others_cost_is_not_taken_for_the_cost_of_refusing() -> None:
    sluice = Sluice()
    for step in range(20):
        sluice.note(Readings(100, 100, 0), 0.09, mixed=True)
        sluice.adjust(100.0 + step * LOOK * 1.001)
    assert sluice.passing == 1.0


def test_who_has_nothing_left_to_do_reads_more() -> None:
    sluice = Sluice()
    overload(sluice, 100_000, 15e-6, 3.0)
    for step in range(15):
        sluice.note(Readings(10_000, 10_000, 0), 0.09, mixed=True)
        sluice.rest()
        sluice.adjust(103.1 + step * LOOK * 1.001)
    assert sluice.passing == 1.0


def test_one_slow_round_does_not_make_refusals_dear() -> None:
    sluice = Sluice()
    sluice.note(Readings(20, 20, 0), 0.5, mixed=False)
    sluice.adjust(100.0)
    shares = overload(sluice, 5000, 15e-6, 3.0)
    assert sluice.passing == 1.0
    assert max(shares) < SHARE


def test_it_is_opened_at_once_when_the_stress_is_over() -> None:
    sluice = Sluice()
    overload(sluice, 100_000, 15e-6, 3.0)
    assert sluice.open()
    assert sluice.passing == 1.0
    assert not sluice.open()


def test_a_moment_of_rest_counts_for_one_look() -> None:
    sluice = Sluice()
    sluice.rest()
    overload(sluice, 100_000, 15e-6, 5.0)
    assert sluice.passing < 0.2


def test_long_ones_are_not_spared_any_more_when_it_is_them_that_are_too_many() -> None:
    sluice = Sluice()
    overload(sluice, 100_000, 15e-6, 2.0)
    assert sluice.sparing
    for step in range(5):
        sluice.note(Readings(1000, 1000, 900), 1000 * 15e-6, mixed=False)
        sluice.adjust(102.0 + step * LOOK * 1.001)
    assert not sluice.sparing
    sluice.open()
    assert sluice.sparing


def test_the_kernel_keeps_back_none_that_is_as_long_as_those_with_credentials() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        ours.bind(("127.0.0.1", 0))
        sizes: list[int] = []
        datagrams = Datagrams(ours, "internal", arrived=lambda data, _flow: sizes.append(len(data)))
        attach(ours, 0.1, spared=400)
        for _ in range(500):
            for size in (399, 400, 900):
                theirs.sendto(b"REGISTER".ljust(size), ours.getsockname())
            datagrams.drain()
        assert (sizes.count(400), sizes.count(900)) == (500, 500)
        assert sizes.count(399) < 120


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_keeps_back_registrations_and_nothing_else(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as ours, socket.socket(family, socket.SOCK_DGRAM) as theirs:
        ours.bind((host, 0))
        counts: dict[bytes, int] = {}

        def arrived(data: bytes, _flow: object) -> None:
            counts[data] = counts.get(data, 0) + 1

        datagrams = Datagrams(ours, "internal", arrived=arrived)
        others = (b"INVITE sip:x", b"OPTIONS sip:x", b"ACK sip:x", b"\r\n\r\n", b"\r\n", b"")

        def send(times: int) -> None:
            counts.clear()
            for _ in range(times):
                for data in (b"REGISTER sip:x", *others):
                    theirs.sendto(data, ours.getsockname())
                datagrams.drain()

        attach(ours, 0.3)
        send(1000)
        assert 200 < counts[b"REGISTER sip:x"] < 400
        assert [counts[data] for data in others] == [1000] * len(others)
        assert datagrams.dropped == 1000 - counts[b"REGISTER sip:x"]
        detach(ours)
        send(100)
        assert counts[b"REGISTER sip:x"] == 100
        detach(ours)
