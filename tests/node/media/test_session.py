from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from node.media import control
from node.media.errors import MediaError, MediaStopped
from tests.node.media.stage import Phone, Process, Worker


def joined(
    worker: Worker, alice: Phone, bob: Phone, ports: tuple[int | None, int | None] = (None, None)
) -> tuple[int, int]:
    a, b = worker.open("a", port=ports[0]), worker.open("b", port=ports[1])
    worker.client.remote("a", alice.address, alice.port, alice.port + 1)
    worker.client.remote("b", bob.address, bob.port, bob.port + 1)
    worker.client.join("a", "b")
    worker.counters("a")
    return a, b


def test_opening_a_leg_again_gives_the_port_it_has(worker: Worker) -> None:
    assert worker.open("a") == worker.open("a")


def test_a_leg_is_opened_at_exactly_the_port_asked_for(worker: Worker) -> None:
    assert worker.open("a", port=23456) == 23456
    worker.client.close("a")
    assert worker.open("b", port=23456) == 23456, "also one that was in use a moment ago"


def test_a_port_somebody_else_holds_is_waited_for(worker: Worker) -> None:
    other = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.bind(("127.0.0.1", 23460))
    worker.loop.call_later(0.2, other.close)
    assert worker.open("a", port=23460) == 23460


def test_a_port_that_does_not_come_free_is_refused_with_its_number(worker: Worker) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 23464))
        with pytest.raises(MediaError, match=r"RTP port 23464 on 127.0.0.1: Address already in use"):
            worker.open("a", port=23464)


def test_a_port_of_another_leg_is_refused(worker: Worker) -> None:
    worker.open("a", port=23470)
    with pytest.raises(MediaError, match="23470"):
        worker.open("b", port=23470)


def test_ports_held_by_others_are_skipped_and_exhaustion_is_told(worker: Worker) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 23503))  # the RTCP port of 23502
        ports = {worker.open(leg, first=23500, last=23505) for leg in ("a", "b")}
        assert ports == {23500, 23504}
        with pytest.raises(MediaError, match=r"no free RTP port on 127.0.0.1 from 23500 to 23505 \(2 in use\)"):
            worker.open("c", first=23500, last=23505)
        worker.client.close("a")
        assert worker.open("c", first=23500, last=23505) in ports


@pytest.mark.parametrize(
    ("address", "first", "last"),
    [
        ("203.0.113.77", 20000, 20100),
        ("nowhere.example", 20000, 20100),
        ("", 1, 2),
        ("127.0.0.1", 70000, 80000),
        ("127.0.0.1", 9, 3),
    ],
)
def test_an_address_or_range_that_cannot_be_is_refused(worker: Worker, address: str, first: int, last: int) -> None:
    with pytest.raises(MediaError):
        worker.open("a", address=address, first=first, last=last)
    assert worker.open("b") > 0


def test_legs_nobody_owns_any_more_are_swept(worker: Worker) -> None:
    legs = [f"leg {number}" for number in range(1200)]
    opened: list[object] = []
    for leg in legs:
        worker.client.open(leg, address="127.0.0.1", first=20000, last=39999, then=opened.append)
    worker.loop.until(lambda: len(opened) == len(legs), within=10)
    other = Worker(Path(worker.client._path), "external#0", worker.loop)
    other.open("not mine")
    worker.client.sweep(legs[:1100])
    assert worker.counters(legs[1099]).packets_in == 0
    for leg in legs[1100], legs[1199]:
        with pytest.raises(MediaError, match="no open leg"):
            worker.counters(leg)
    assert other.counters("not mine").packets_in == 0
    worker.client.sweep([])
    with pytest.raises(MediaError, match="no open leg"):
        worker.counters(legs[0])
    other.client.shut()


def test_a_worker_may_die_and_its_successor_adopts_the_legs_without_losing_a_packet(
    process: Process, alice: Phone, bob: Phone
) -> None:
    first = Worker(process.path)
    a, b = joined(first, alice, bob)
    over = threading.Event()
    sent: list[bytes] = []

    def talk() -> None:
        while not over.wait(0.001):
            sent.append(alice.send(a))

    talking = threading.Thread(target=talk)
    talking.start()
    try:
        first.loop.until(lambda: len(sent) > 50)
        first.client.shut()  # all that a crash leaves of it: nothing
        second = Worker(process.path)
        assert joined(second, alice, bob, (a, b)) == (a, b)
        second.client.sweep(["a", "b"])
        second.counters("a")
        so_far = len(sent)
        second.loop.until(lambda: len(sent) > so_far + 50)
    finally:
        over.set()
        talking.join()
    assert [bob.receive() for _ in sent] == sent
    second.client.shut()


def test_another_slot_may_take_a_leg_over(process: Process, worker: Worker) -> None:
    port = worker.open("a")
    heir = Worker(process.path, "internal#1", worker.loop)
    assert heir.open("a", port=port) == port
    worker.client.sweep([])
    worker.open("b")
    assert heir.counters("a").packets_in == 0
    heir.client.shut()


def test_after_a_restart_of_the_media_process_the_legs_are_back_on_their_ports(
    process: Process, worker: Worker, alice: Phone, bob: Phone
) -> None:
    a, b = joined(worker, alice, bob)
    worker.client.watch("a", 0.2)
    with Phone() as natted:
        for _ in range(3):
            natted.send(b)
        worker.loop.until(lambda: ("learned", "b", "127.0.0.1", natted.port) in worker.told)
        process.kill()
        process.start()
        worker.loop.until(lambda: worker.client._instance != "" and _is_open(a))
        assert worker.counters("a").remote_port == alice.port
        assert worker.counters("b").remote_port == natted.port
        assert natted.receive_after(lambda: alice.send(a)) == alice.last
        worker.told.clear()
        worker.loop.until(lambda: worker.told)
        assert worker.told == [("silence", "a")]


def test_orders_given_while_there_is_no_media_process_are_carried_out_by_the_next_one(
    process: Process, worker: Worker, alice: Phone, bob: Phone
) -> None:
    worker.open("x")
    process.kill()
    opened: list[object] = []
    for leg, phone in (("a", alice), ("b", bob)):
        worker.client.open(leg, address="127.0.0.1", first=20000, last=39999, then=opened.append)
        worker.client.remote(leg, phone.address, phone.port, phone.port + 1)
    worker.client.join("a", "b")
    worker.loop.turn()
    worker.client.close("x")
    process.start()
    worker.loop.until(lambda: len(opened) == 2)
    assert isinstance(opened[0], int)
    assert bob.receive_after(lambda: alice.send(int(str(opened[0])))) == alice.last


def test_who_asks_hears_when_all_that_was_ordered_is_done(
    process: Process, worker: Worker, alice: Phone, bob: Phone
) -> None:
    """Before that another node's relays may not be given up."""
    worker.open("x")
    process.freeze()
    told: list[object] = []
    for leg, phone in (("a", alice), ("b", bob)):
        worker.client.open(leg, address="127.0.0.1", first=20000, last=39999, then=told.append)
        worker.client.remote(leg, phone.address, phone.port, phone.port + 1)
    worker.client.join("a", "b")
    worker.client.when_done(lambda: told.append("done"))
    for _ in range(20):
        worker.loop.turn()
    assert told == []
    process.thaw()
    worker.loop.until(lambda: "done" in told)
    port, other, last = told
    assert (type(port), type(other), last) == (int, int, "done")
    assert bob.receive_after(lambda: alice.send(int(str(port)))) == alice.last


def test_it_is_told_of_the_next_media_process_where_there_was_none(process: Process, worker: Worker) -> None:
    worker.open("a", port=23480)
    process.kill()
    told: list[str] = []
    worker.client.when_done(lambda: told.append("done"))
    worker.loop.turn()
    process.start()
    worker.loop.until(lambda: told)
    assert _is_open(23480)


def test_a_sweep_before_the_media_process_has_answered_spares_what_is_opened_after_it(
    process: Process, worker: Worker
) -> None:
    for leg in ("kept", "stale"):
        worker.open(leg)
    worker.client.shut()
    successor = Worker(process.path, loop=worker.loop)
    opened: list[object] = []
    for leg in ("kept", "new"):
        successor.client.open(leg, address="127.0.0.1", first=20000, last=39999, then=opened.append)
        if leg == "kept":
            successor.client.sweep(["kept"])
    worker.loop.until(lambda: len(opened) == 2)
    assert successor.counters("kept").packets_in == successor.counters("new").packets_in == 0
    with pytest.raises(MediaError):
        successor.counters("stale")
    successor.client.shut()


def test_a_playback_stopped_while_there_is_no_media_process_is_told_and_not_begun_again(
    process: Process, worker: Worker, alice: Phone
) -> None:
    worker.open("a")
    worker.client.remote("a", alice.address, alice.port, alice.port + 1)
    stopped = worker.play("a", "silence_stream://-1")
    worker.counters("a")
    process.kill()
    worker.client.remote("a", alice.address, alice.port, alice.port + 1)
    worker.loop.until(lambda: not worker.client._in_step)
    worker.client.stop("a")
    process.start()
    worker.loop.until(lambda: stopped)
    assert isinstance(stopped[0], MediaStopped)
    assert worker.counters("a").played == 0


def test_a_playback_goes_on_after_a_restart_of_the_media_process(
    process: Process, worker: Worker, alice: Phone
) -> None:
    worker.open("a")
    worker.client.remote("a", alice.address, alice.port, alice.port + 1)
    ended = worker.play("a", "silence_stream://200")
    worker.loop.until(lambda: worker.counters("a").played > 2)
    process.kill()
    process.start()
    worker.loop.until(lambda: ended)
    assert ended == [None]


def test_without_a_media_process_an_order_fails_in_time(folder: Path) -> None:
    worker = Worker(folder / "media")
    began = time.monotonic()
    with pytest.raises(MediaError, match="did not answer"):
        worker.open("a")
    assert 1.5 < time.monotonic() - began < 4
    worker.client.shut()


def test_a_leg_whose_port_was_taken_during_a_restart_is_told_as_lost(process: Process, worker: Worker) -> None:
    port = worker.open("a")
    process.kill()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as thief:
        thief.bind(("127.0.0.1", port))
        process.start()
        worker.loop.until(lambda: worker.told, within=6)
    assert worker.told[0][:2] == ("lost", "a")


def test_garbage_from_the_media_process_disturbs_no_worker(worker: Worker, folder: Path) -> None:
    port = worker.open("a")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as anybody:
        for data in (b"", b"\xc1" * 50, b"\x92\xa1x", b"\x92\x01\x90"):
            anybody.sendto(data, control.client_path(str(folder / "media"), "internal#0"))
    assert worker.open("a") == port


def test_many_orders_go_out_in_few_datagrams(folder: Path) -> None:
    path = folder / "media"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(path))
        server.settimeout(2)
        worker = Worker(path)
        assert control.decode_orders(server.recv(65536)).orders == [control.Hello()]
        server.sendto(control.encode_reports("x", [])[0], control.client_path(str(path), "internal#0"))
        worker.loop.until(lambda: worker.client._in_step)
        worker.client.open("a", address="127.0.0.1", first=2, last=3, then=lambda outcome: None)
        worker.client.remote("a", "127.0.0.1", 4, 5)
        worker.client.watch("a", 3)
        worker.loop.turn()
        orders = control.decode_orders(server.recv(65536)).orders
        assert [type(order).__name__ for order in orders] == ["Open", "Remote", "Watch"]
        worker.client.shut()


def test_counting_or_playing_to_a_leg_that_is_not_open_is_refused(worker: Worker) -> None:
    worker.open("a")
    with pytest.raises(MediaError, match="no open leg b"):
        worker.counters("b")
    ended = worker.play("b", "silence_stream://100")
    worker.loop.until(lambda: ended)
    assert isinstance(ended[0], MediaError)


def _is_open(port: int) -> bool:
    return f":{port:04X} " in Path(f"/proc/{os.getpid()}/net/udp").read_text()
