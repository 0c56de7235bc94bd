from __future__ import annotations

import gc
import socket
from collections.abc import Iterator

import pytest

from node.media.errors import MediaError
from node.media.ports import REST, Ports, disconnect, numeric
from node.media.relay import Leg


@pytest.fixture
def ports() -> Iterator[Ports]:
    ports = Ports()
    yield ports
    ports.close()


def test_a_pair_rests_before_it_is_used_again_and_then_has_forgotten_its_call(ports: Ports) -> None:
    pair = ports.take("127.0.0.1", 24000, 24099, now=0.0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as late:
        late.bind(("127.0.0.1", 0))
        pair.rtp.connect(late.getsockname())
        ports.give_back(pair, now=1.0)
        late.sendto(b"the last words", ("127.0.0.1", pair.port))
        other = ports.take("127.0.0.1", 24000, 24099, now=1.0 + REST / 2)
        assert other.port != pair.port
        again = ports.take("127.0.0.1", 24000, 24099, now=1.0 + REST)
        assert again is pair
        with pytest.raises(BlockingIOError):
            again.rtp.recv(100)
        late.sendto(b"heard", ("127.0.0.1", pair.port))
        assert again.rtp.recvfrom(100) == (b"heard", late.getsockname())
    again.close()
    other.close()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_packets_bear_the_dscp_that_was_asked_for_whatever_the_call_before_had(ports: Ports, address: str) -> None:
    six = address == "::1"
    level, option = (socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS) if six else (socket.IPPROTO_IP, socket.IP_RECVTOS)
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as phone:
        phone.setsockopt(level, option, 1)
        phone.bind((address, 0))
        phone.settimeout(5)
        pair = ports.take(address, 24000, 24099, now=0.0)
        for dscp in (None, 34, 0, 46):
            if dscp is not None:
                pair.mark(dscp)
            for sock in (pair.rtp, pair.rtcp):
                sock.sendto(b"packet", phone.getsockname())
                _data, ancillary, _flags, _source = phone.recvmsg(100, 100)
                assert ancillary[0][2][0] >> 2 == (46 if dscp is None else dscp)
        pair.close()


def test_a_resting_pair_of_another_range_is_not_used(ports: Ports) -> None:
    ports.give_back(ports.take("127.0.0.1", 24100, 24101, now=0.0), now=0.0)
    pair = ports.take("127.0.0.1", 24200, 24299, now=100.0)
    assert 24200 <= pair.port < 24299
    pair.close()


def test_when_nothing_else_is_left_a_pair_need_not_rest(ports: Ports) -> None:
    pair = ports.take("127.0.0.1", 24110, 24111, now=0.0)
    with pytest.raises(MediaError, match="no free RTP port"):
        ports.take("127.0.0.1", 24110, 24111, now=0.0)
    ports.give_back(pair, now=0.0)
    assert ports.take("127.0.0.1", 24110, 24111, now=0.1) is pair
    pair.close()


def test_the_range_is_walked_through_before_a_port_comes_again(ports: Ports) -> None:
    pairs = [ports.take("127.0.0.1", 24301, 24321, now=0.0) for _ in range(10)]
    assert sorted(pair.port for pair in pairs) == list(range(24302, 24321, 2))
    for pair in pairs:
        pair.close()


def test_disconnect_takes_packets_from_anybody_again_and_keeps_the_port(ports: Ports) -> None:
    pair = ports.take("127.0.0.1", 24400, 24499, now=0.0)
    pair.rtp.connect(("127.0.0.1", 9))
    disconnect(pair.rtp)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anybody:
        anybody.sendto(b"x", ("127.0.0.1", pair.port))
        assert pair.rtp.recv(10) == b"x"
    assert pair.rtp.getsockname() == ("127.0.0.1", pair.port)
    pair.close()


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("127.0.0.1", 5000, ("127.0.0.1", 5000)),
        ("0:0::1", 5000, ("::1", 5000, 0, 0)),
        ("phone.example", 5000, None),
        ("127.1", 5000, None),
        ("127.0.0.1", 0, None),
        ("127.0.0.1", 65536, None),
        ("", 5000, None),
        ("\0", 5000, None),
        ("\udcff", 5000, None),
    ],
)
def test_only_numbers_are_addresses(host: str, port: int, address: tuple[object, ...] | None) -> None:
    assert numeric(host, port) == address


def test_a_leg_that_is_gone_leaves_no_cycle(ports: Ports) -> None:
    gc.collect()
    for _ in range(3):
        legs = [Leg("x#0", name, ports.take("127.0.0.1", 24500, 24599, now=0.0)) for name in "ab"]
        for leg in legs:
            leg.rtp.on_learned = lambda source, leg=leg: leg.learn(source)  # type: ignore[misc]
            leg.aim("127.0.0.1", 4000, 4001, None)
            leg.rtp.recognise(101)
        legs[0].join(legs[1])
        for leg in legs:
            leg.release()
            leg.pair.close()
    del leg, legs
    assert gc.collect() == 0


def test_the_ports_of_the_shared_address_are_opened_before_this_host_has_it() -> None:
    ports = Ports(foreign="192.0.2.77")
    pair = ports.take_exactly("192.0.2.77", 24000)
    assert pair.rtcp.getsockname() == ("192.0.2.77", 24001)
    pair.close()
    other = ports.take("192.0.2.77", 24000, 24099, now=0.0)
    other.close()
    with pytest.raises(OSError, match="Cannot assign"):
        ports.take_exactly("192.0.2.78", 24000)
    ports.close()


def test_closed_ports_may_be_opened_again(ports: Ports) -> None:
    pair = ports.take("127.0.0.1", 24000, 24099, now=0.0)
    ports.give_back(pair, now=0.0)
    ports.close()
    again = ports.take_exactly("127.0.0.1", pair.port)
    assert again.rtp.getsockname()[1] == pair.port
    again.close()
