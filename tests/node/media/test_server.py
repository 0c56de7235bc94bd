from __future__ import annotations

import multiprocessing
import select
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from node.config.identity import Identity
from node.config.sections import HaSection
from node.link import Beat, Beaten, Demote, Instruct, Link, LinkClosed, Message, Ready
from node.media.__main__ import main
from tests.node.media.stage import UNIT, Worker


def serve(link: Link, run_dir: Path) -> None:
    main(link, Identity("left", "core", 0.0), SimpleNamespace(ha=HaSection()), run_dir)  # type: ignore[arg-type]


class Child:
    """The media process as the supervisor has it."""

    def __init__(self, run_dir: Path) -> None:
        self.link, theirs = Link.pair()
        # A forked child inherits our end too and would never see its end of file: it is closed there first.
        self.process = multiprocessing.get_context("fork").Process(
            target=self._run, args=(theirs, run_dir), daemon=True
        )
        self.process.start()
        theirs.close()

    def _run(self, theirs: Link, run_dir: Path) -> None:
        self.link.close()
        serve(theirs, run_dir)

    def hear(self) -> Message:
        assert select.select([self.link], [], [], 5 * UNIT)[0], "nothing said"
        received = self.link.receive()
        assert received is not None
        return received[0]


@pytest.fixture
def child(folder: Path) -> Iterator[Child]:
    child = Child(folder)
    yield child
    child.process.kill()
    child.process.join()


def test_it_says_when_it_serves_and_answers_beats(child: Child) -> None:
    assert child.hear() == Ready(child.process.pid or 0)
    for number in (1, 2, 3):
        child.link.send(Beat(number))
        assert child.hear() == Beaten(number)


def test_it_goes_when_the_supervisor_goes(child: Child) -> None:
    child.hear()
    child.link.close()
    child.process.join(3 * UNIT)
    assert child.process.exitcode == 0


def test_it_gives_its_ports_back_when_it_is_demoted(child: Child, folder: Path) -> None:
    child.hear()
    worker = Worker(folder / "media")
    port = worker.open("a")
    child.link.send(Demote(reason="test"))
    child.process.join(3 * UNIT)
    assert child.process.exitcode == 0
    with pytest.raises(LinkClosed):
        child.link.receive()
    after = Child(folder)
    try:
        worker.loop.until(lambda: worker.open("a") == port, within=5)
    finally:
        after.process.kill()
        after.process.join()
        worker.client.shut()


def test_a_beat_is_answered_in_time_while_a_thousand_legs_are_opened(child: Child, folder: Path) -> None:
    child.hear()
    worker = Worker(folder / "media")
    worker.open("a")
    for number in range(2000):
        worker.client.open(f"{number}", address="127.0.0.1", first=20000, last=39999, then=lambda outcome: None)
    worker.loop.turn()
    began = time.monotonic()
    child.link.send(Beat(9))
    assert child.hear() == Beaten(9)
    assert time.monotonic() - began < 0.3 * UNIT
    worker.client.shut()


def test_its_ports_are_free_when_another_node_has_the_address(child: Child, folder: Path) -> None:
    child.hear()
    worker = Worker(folder / "media")
    port = worker.open("leg")
    assert not is_free(port)
    child.link.send(Instruct(number=0, verb="release"))
    worker.loop.until(lambda: is_free(port), within=5)
    assert worker.open("another") > 0
    worker.client.shut()


def is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
