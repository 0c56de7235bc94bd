from __future__ import annotations

import socket
import threading
import time

import pytest

from tests.node.media.stage import Phone, Process, Worker


def joined(worker: Worker, alice: Phone, bob: Phone, *, address: str = "127.0.0.1") -> tuple[int, int]:
    """A call between the two; the ports of the node towards them."""
    a, b = worker.open("a", address=address), worker.open("b", address=address)
    worker.client.remote("a", alice.address, alice.port, alice.port + 1)
    worker.client.remote("b", bob.address, bob.port, bob.port + 1)
    worker.client.join("a", "b")
    worker.counters("a")
    return a, b


def test_packets_pass_both_ways_and_none_is_lost(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    from_alice = [alice.send(a) for _ in range(100)]
    assert [bob.receive() for _ in range(100)] == from_alice
    from_bob = [bob.send(b) for _ in range(100)]
    assert [alice.receive() for _ in range(100)] == from_bob


def test_packets_come_from_the_port_the_peer_was_told(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    alice.send(a)
    assert bob.rtp.recvfrom(2048)[1] == ("127.0.0.1", b)


def test_ports_are_even_and_rtcp_is_the_next_one(worker: Worker) -> None:
    ports = [worker.open(f"leg {number}") for number in range(10)]
    assert all(port % 2 == 0 for port in ports)
    assert len(set(ports)) == 10
    with pytest.raises(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", ports[0] + 1))


def test_rtcp_passes_both_ways(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    report = bytes([0x80, 200, 0, 6]) + bytes(24)
    alice.rtcp.sendto(report, ("127.0.0.1", a + 1))
    assert bob.rtcp.recvfrom(2048) == (report, ("127.0.0.1", b + 1))
    bob.rtcp.sendto(report + b"back", ("127.0.0.1", b + 1))
    assert alice.rtcp.recv(2048) == report + b"back"


def test_a_phone_behind_nat_is_found_by_its_packets(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    with Phone() as natted:
        sent = [natted.send(a) for _ in range(5)]
        assert [bob.receive() for _ in sent] == sent  # heard from the first packet on
        worker.loop.until(lambda: worker.told)
        assert worker.told == [("learned", "a", "127.0.0.1", natted.port)]
        assert natted.receive_after(lambda: bob.send(b)) == bob.last
        report = bytes([0x80, 200, 0, 6]) + bytes(24)
        bob.rtcp.sendto(report, ("127.0.0.1", b + 1))
        assert natted.rtcp.recv(2048) == report


def test_one_stray_packet_does_not_turn_the_audio_away(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    with Phone() as stranger:
        stranger.send(a)
        stranger.send(a)
        worker.counters("a")
        assert alice.receive_after(lambda: bob.send(b)) == bob.last


def test_a_stranger_is_not_heard_once_the_peer_is_known(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    alice.send(a)
    bob.receive()
    with Phone() as stranger:
        for _ in range(20):
            stranger.send(a)
    last = alice.send(a)
    assert bob.receive() == last
    assert alice.receive_after(lambda: bob.send(b)) == bob.last
    assert worker.told == []


def test_strangers_queued_before_the_peer_was_known_are_thrown_away(
    process: Process, worker: Worker, alice: Phone, bob: Phone
) -> None:
    a, _b = joined(worker, alice, bob)
    process.freeze()
    with Phone() as stranger:
        first = alice.send(a)
        for _ in range(10):
            stranger.send(a)
        second = alice.send(a)
        process.thaw()
        assert [bob.receive(), bob.receive()] == [first, second]
        assert bob.received() == []


def test_a_new_address_in_the_sdp_is_followed(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    alice.send(a)
    bob.receive()
    with Phone() as moved:
        worker.client.remote("a", moved.address, moved.port, moved.port + 1)
        worker.counters("a")
        assert moved.receive_after(lambda: bob.send(b)) == bob.last
        for _ in range(10):
            alice.send(a)  # still under way from where she was
        worker.counters("a")
        assert moved.receive_after(lambda: bob.send(b)) == bob.last
        assert worker.told == []


def test_the_same_address_again_keeps_what_was_learned(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    with Phone() as natted:
        for _ in range(3):
            natted.send(a)
        worker.loop.until(lambda: worker.told)
        worker.client.remote("a", alice.address, alice.port, alice.port + 1)
        worker.counters("a")
        assert natted.receive_after(lambda: bob.send(b)) == bob.last


def test_what_was_learned_elsewhere_is_believed(worker: Worker, alice: Phone, bob: Phone) -> None:
    _a, b = joined(worker, alice, bob)
    with Phone() as natted:
        worker.client.remote("a", "10.0.0.99", 4000, 4001, learned=("127.0.0.1", natted.port))
        worker.counters("a")
        assert natted.receive_after(lambda: bob.send(b)) == bob.last


def test_nothing_is_sent_to_a_leg_that_was_put_on_hold_with_the_null_address(
    worker: Worker, alice: Phone, bob: Phone
) -> None:
    a, b = joined(worker, alice, bob)
    alice.send(a)
    bob.receive()
    worker.client.remote("a", "0.0.0.0", alice.port, alice.port + 1)
    worker.counters("a")
    bob.send(b)
    assert bob.receive_after(lambda: alice.send(a)) == alice.last  # the other way stays open
    assert alice.received() == []
    worker.client.remote("a", alice.address, alice.port, alice.port + 1)
    worker.counters("a")
    assert alice.receive_after(lambda: bob.send(b)) == bob.last


def test_a_peer_whose_port_is_closed_for_a_while_hears_again(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    alice.send(a)
    bob.receive()
    bob.send(b)
    alice.receive()
    bob.rtp.close()
    for _ in range(20):
        alice.send(a)  # each is answered with "port unreachable"
    worker.loop.until(lambda: worker.counters("a").packets_in == 21)
    bob.rtp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bob.rtp.bind((bob.address, bob.port))
    bob.rtp.settimeout(2)
    sent = [alice.send(a) for _ in range(10)]
    assert [bob.receive() for _ in sent] == sent


def test_parted_legs_hear_nothing(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    alice.send(a)
    bob.receive()
    worker.client.part("a")
    worker.counters("a")
    alice.send(a)
    bob.send(b)
    worker.counters("a")
    assert bob.received() == alice.received() == []


def test_a_leg_can_be_joined_with_another_one(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    with Phone() as carol:
        c = worker.open("c")
        worker.client.remote("c", carol.address, carol.port, carol.port + 1)
        worker.client.join("a", "c")
        worker.counters("a")
        assert carol.receive_after(lambda: alice.send(a)) == alice.last
        assert alice.receive_after(lambda: carol.send(c)) == carol.last
        bob.send(b)
        worker.counters("b")
        assert alice.received() == []


def test_garbage_disturbs_nobody(process: Process, worker: Worker, alice: Phone, bob: Phone) -> None:
    a, _b = joined(worker, alice, bob)
    with Phone() as stranger:
        for data in (b"", b"\x80", b"\x00" * 200, b"\xff" * 1500, b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)):
            stranger.rtp.sendto(data, ("127.0.0.1", a))
            stranger.rtcp.sendto(data, ("127.0.0.1", a + 1))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anybody:
            for data in (
                b"",
                b"\xc1" * 100,
                b"\x92\xa1x\x90",
                b"\x92\xa1x\x91\x91\xa4open",
                b"\x92\xa3\x00#0\x91\x91\xa5hello",
            ):
                anybody.sendto(data, str(process.path))
    assert bob.receive_after(lambda: alice.send(a)) == alice.last
    assert process.is_alive


def test_ipv6(worker: Worker) -> None:
    with Phone("::1") as alice, Phone("::1") as bob, Phone("::1") as natted:
        a, b = joined(worker, alice, bob, address="::1")
        assert bob.receive_after(lambda: alice.send(a)) == alice.last
        sent = [natted.send(b) for _ in range(3)]
        assert [alice.receive() for _ in sent] == sent
        assert natted.receive_after(lambda: alice.send(a)) == alice.last
        assert bob.received() == []


def test_a_name_or_the_wrong_family_as_address_is_no_destination(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    worker.client.remote("a", "phone.example.org", 4000, 4001)
    worker.client.remote("a", "::1", 4000, 4001)
    worker.client.remote("a", "127.0.0.1", 70000, -1)
    worker.counters("a")
    bob.send(b)
    assert bob.receive_after(lambda: alice.send(a)) == alice.last


def test_counters_count_what_came_and_what_went(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, b = joined(worker, alice, bob)
    for _ in range(7):
        alice.send(a)
        bob.receive()
    bob.send(b)
    alice.receive()
    counters = worker.counters("a")
    assert (counters.packets_in, counters.octets_in) == (7, 7 * 172)
    assert (counters.packets_out, counters.octets_out) == (1, 172)
    assert (counters.remote_host, counters.remote_port) == (alice.address, alice.port)
    worker.client.part("a")
    counters = worker.counters("b")
    assert (counters.packets_in, counters.packets_out) == (1, 7)


def test_echo_sends_a_phone_its_own_packets(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, _b = joined(worker, alice, bob)
    worker.client.echo("a", True)
    worker.counters("a")
    assert alice.receive_after(lambda: alice.send(a)) == alice.last
    assert bob.received() == []
    worker.client.echo("a", False)
    worker.counters("a")
    alice.send(a)
    worker.counters("a")
    assert alice.received() == []
    worker.client.join("a", "b")
    worker.counters("a")
    assert bob.receive_after(lambda: alice.send(a)) == alice.last


def test_digits_are_passed_on_and_recognised_on_demand(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, _b = joined(worker, alice, bob)
    worker.client.recognise("a", 101)
    worker.counters("a")
    sent = []
    for timestamp, event in ((160, 5), (4160, 11)):
        for duration, end in ((160, 0), (800, 0), (1600, 0x80), (1600, 0x80), (1600, 0x80)):
            data = bytes([0x80, 101, 0, len(sent)]) + timestamp.to_bytes(4, "big") + b"ssrc"
            sent.append(data + bytes([event, end | 10]) + duration.to_bytes(2, "big"))
            alice.rtp.sendto(sent[-1], ("127.0.0.1", a))
    assert [bob.receive() for _ in sent] == sent
    worker.loop.until(lambda: len(worker.told) == 2)
    assert worker.told == [("digit", "a", "5", 200), ("digit", "a", "#", 200)]
    worker.client.recognise("a", None)
    worker.counters("a")
    assert bob.receive_after(lambda: alice.send(a)) == alice.last


def test_silence_is_told_once_and_again_after_sound(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, _b = joined(worker, alice, bob)
    worker.client.watch("a", 0.3)
    worker.loop.until(lambda: worker.told)
    assert worker.told == [("silence", "a")]
    alice.send(a)
    worker.loop.until(lambda: len(worker.told) == 2)
    worker.client.watch("a", 0)
    worker.counters("a")
    assert worker.told == [("silence", "a")] * 2


def test_a_call_is_relayed_while_thousands_of_legs_are_opened(worker: Worker, alice: Phone, bob: Phone) -> None:
    a, _b = joined(worker, alice, bob)
    late: list[float] = []

    def listen() -> None:
        for _ in range(100):
            sent = time.monotonic()
            alice.send(a)
            bob.receive()
            late.append(time.monotonic() - sent)

    listener = threading.Thread(target=listen)
    opened: list[object] = []
    listener.start()
    for number in range(1000):
        worker.client.open(f"leg {number}", address="127.0.0.1", first=20000, last=39999, then=opened.append)
    worker.loop.until(lambda: len(opened) == 1000 and not listener.is_alive(), within=10)
    listener.join()
    assert all(isinstance(port, int) for port in opened)
    assert sorted(late)[-5] < 0.1, f"audio was held up for {max(late):.3f} s"
