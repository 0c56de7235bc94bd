from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.media import control
from node.media.control import Counters, Hello, Join, Learned, Open, Play, Pressed, Remote, Silent, Sweep


def test_orders_and_reports_are_read_as_they_were_written() -> None:
    orders = [
        Open(1, "a", "::1", 2, 4, 2),
        Remote("a", "h", 1, 2, "l", 3),
        Join("a", "b"),
        Play(2, "a", "f", 8, "PCMA"),
        Hello(),
    ]
    assert control.decode_orders(control.encode_orders("x#0", orders)[0]) == control.Orders("x#0", orders)
    reports = [Counters(1, packets_in=3), Learned("a", "h", 1), Silent("a"), Pressed("a", "#", 80)]
    assert control.decode_reports(control.encode_reports("i", reports)[0]) == control.Reports("i", reports)


def test_too_many_orders_for_one_datagram_go_out_in_several() -> None:
    orders = [Open(number, f"{number:036}", "192.0.2.1", 16384, 32768) for number in range(5000)]
    datagrams = control.encode_orders("x#0", orders)
    assert all(len(datagram) <= control.MAXIMUM for datagram in datagrams)
    assert [order for datagram in datagrams for order in control.decode_orders(datagram).orders] == orders


def test_a_sweep_comes_in_parts_that_fit() -> None:
    live = [f"{number:036}" for number in range(1201)]
    parts = control.sweep_orders(live)
    assert [(part.part, part.parts, len(part.live)) for part in parts] == [(0, 3, 500), (1, 3, 500), (2, 3, 201)]
    assert control.sweep_orders([]) == [Sweep(0, 1, [])]


@given(st.binary(max_size=60))
def test_garbage_is_refused_in_one_way(data: bytes) -> None:
    for decode in (control.decode_orders, control.decode_reports):
        try:
            decode(data)
        except msgspec.MsgspecError:
            pass


def test_fields_of_the_wrong_type_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        control.decode_orders(msgspec.msgpack.encode(["x#0", [["open", "one", "a", "b", 1, 2, 3]]]))
