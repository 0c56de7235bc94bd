"""What arrives at a worker that does not own it: two workers sharing a port, and the bus by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.sip.flow import Flow
from node.transport import handoff
from node.transport.handoff import Arrived, Bus, Through
from store.backends import open_store
from store.interface import Put, opened
from tests.node.rig import Rig, rig
from tests.node.test_worker import call_record

FLOW = Flow("internal", "UDP", ("127.0.0.1", 5060), ("127.0.0.1", 5070))


class Recipient:
    """Remembers what the bus brings."""

    def __init__(self) -> None:
        self.arrived: list[tuple[bytes, Flow]] = []
        self.through: list[tuple[bytes, Flow]] = []
        self.notices: list[tuple[str, bytes, str]] = []
        self.astray: list[Callable[[bool], None]] = []

    def on_arrived(self, data: bytes, flow: Flow) -> None:
        self.arrived.append((data, flow))

    def on_through(self, data: bytes, flow: Flow, astray: Callable[[bool], None]) -> None:
        self.through.append((data, flow))
        self.astray.append(astray)

    def on_bus_notice(self, topic: str, body: bytes, sender: str) -> None:
        self.notices.append((topic, body, sender))

    def on_bus_drained(self) -> None:
        pass


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def turn(loop: asyncio.AbstractEventLoop, holds: Callable[[], object], within: float = 5.0) -> None:
    """Run the loop until this holds."""

    async def wait() -> None:
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(0.001)

    loop.run_until_complete(wait())


def test_a_message_arrives_with_its_flow(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    one, other = Recipient(), Recipient()
    a, b = Bus(tmp_path, "internal.0", loop, one), Bus(tmp_path, "internal.1", loop, other)
    a.send("internal.1", Arrived(b"BYE", FLOW))
    a.send("internal.1", Through(b"200", FLOW._replace(transport="TCP", connection="internal.1/3")))
    turn(loop, lambda: other.through)
    assert other.arrived == [(b"BYE", FLOW)]
    assert other.through[0][1].connection == "internal.1/3"
    assert type(other.arrived[0][1]) is Flow
    a.close()
    b.close()


def test_who_sends_through_another_worker_hears_if_it_goes_astray(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "PATIENCE", 0.05)
    other, heard = Recipient(), list[tuple[str, bool]]()
    a, b = Bus(tmp_path, "a.0", loop, Recipient()), Bus(tmp_path, "b.0", loop, other)
    for name in ("no such connection", "broken", "fine"):
        a.send_through("b.0", name.encode(), FLOW, lambda sent, name=name: heard.append((name, sent)))  # type: ignore[misc]
    a.send_through("c.0", b"no such worker", FLOW, lambda sent: heard.append(("no such worker", sent)))
    turn(loop, lambda: len(other.through) == 3)
    other.astray[0](False)
    other.astray[1](True)
    other.astray[1](True)  # said twice, heard once
    turn(loop, lambda: len(heard) == 3)
    assert sorted(heard) == [("broken", True), ("no such connection", False), ("no such worker", False)]
    a.close()
    b.close()


def test_a_thousand_messages_at_once_all_arrive_in_order(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    other = Recipient()
    a, b = Bus(tmp_path, "a.0", loop, Recipient()), Bus(tmp_path, "b.0", loop, other)
    for number in range(1000):
        a.send("b.0", Arrived(b"%d" % number, FLOW))
    turn(loop, lambda: len(other.arrived) == 1000)
    assert [int(data) for data, _flow in other.arrived] == list(range(1000))
    a.close()
    b.close()


def test_what_is_sent_while_a_worker_is_replaced_reaches_its_successor(
    loop: asyncio.AbstractEventLoop, tmp_path: Path
) -> None:
    successor = Recipient()
    a, b = Bus(tmp_path, "a.0", loop, Recipient()), Bus(tmp_path, "b.0", loop, Recipient())
    a.send("b.0", Arrived(b"warm up", FLOW))
    b.close()
    a.send("b.0", Arrived(b"while it is gone", FLOW))
    c = Bus(tmp_path, "b.0", loop, successor)
    turn(loop, lambda: successor.arrived)
    assert successor.arrived == [(b"while it is gone", FLOW)]
    a.close()
    c.close()


def test_a_worker_that_never_comes_is_given_up_after_a_second(
    loop: asyncio.AbstractEventLoop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "PATIENCE", 0.05)
    given_up: list[bool] = []
    a = Bus(tmp_path, "a.0", loop, Recipient())
    a.send("b.0", Arrived(b"hello?", FLOW), lambda: given_up.append(True))
    assert not given_up
    turn(loop, lambda: given_up)
    a.close()


def test_a_notice_goes_to_all_others_and_not_to_oneself(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    recipients = [Recipient(), Recipient(), Recipient()]
    buses = [Bus(tmp_path, name, loop, each) for name, each in zip(("a.0", "b.0", "spare.7"), recipients, strict=True)]
    buses[0].tell("registered", lambda: b"x")
    turn(loop, lambda: recipients[1].notices and recipients[2].notices)
    assert [each.notices for each in recipients] == [[], [("registered", b"x", "a.0")], [("registered", b"x", "a.0")]]
    for bus in buses:
        bus.close()


def test_the_name_of_a_spare_that_died_is_cleared_away(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    a, spare = Bus(tmp_path, "a.0", loop, Recipient()), Bus(tmp_path, "spare.7", loop, Recipient())
    spare.close()
    a.tell("registered", lambda: b"x")
    turn(loop, lambda: not (tmp_path / "spare.7").exists())
    a.close()


# ---- two workers of a profile ------------------------------------------------------------------------------------------


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path, slots=("internal#0", "internal#1"), workers="2") as made:
        yield made


def test_a_request_of_the_other_worker_is_answered_by_its_owner(node: Rig) -> None:
    with opened(open_store(f"sqlite://{node.run_dir / 'core.db'}")) as store:
        store.commit([Put(call_record("ended", "dead-call", slot="internal#1"))])
    for slot in ("internal#0", "internal#1"):
        node.serve(slot)
    # From many ports, so that the kernel gives some to either worker.
    for _ in range(8):
        phone = node.phone()
        to = "<sip:1001@pbx.test>;tag=internal.1-00000000000000aa"
        assert phone.ask(phone.request("BYE", To=to, Call_ID="dead-call")).status == 200
    stats = node.ask("stats", token="internal.0")
    assert isinstance(stats, dict)
    assert stats["handed_on"] > 0


def test_all_workers_know_what_one_has_registered(node: Rig) -> None:
    for slot in ("internal#0", "internal#1"):
        node.serve(slot)
    phones = [node.phone(str(1000 + number)) for number in range(8)]
    for phone in phones:
        assert phone.register().status == 200
    known = [node.ask("stats", token=token) for token in ("internal.0", "internal.1")]
    assert [each["registrations_known"] for each in known] == [8, 8]  # type: ignore[index]


def test_a_slot_that_nobody_serves_is_adopted(node: Rig) -> None:
    """The other host had more workers than this one."""
    with opened(open_store(f"sqlite://{node.run_dir / 'core.db'}")) as store:
        store.commit([Put(call_record("ended", "dead-call", slot="internal#9", tag="internal.9-00000000000000aa"))])
    node.serve()
    node.serve("internal#1")
    phone = node.phone()
    to = "<sip:1001@pbx.test>;tag=internal.9-00000000000000aa"
    assert phone.ask(phone.request("BYE", To=to, Call_ID="dead-call")).status == 200
