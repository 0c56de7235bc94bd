"""The peer link over real TCP connections."""

from __future__ import annotations

import socket
import time

import pytest

from ha.loop import Loop
from ha.peer import STRANGERS, PeerLink
from ha.session import HandedOver, PeerBeat, Said
from ha.settings import PeerSettings
from tests.support.node import STRETCH
from tests.support.ports import free_port

BEAT = PeerBeat(role="standby", epoch=1, ready=True, lease="free")


class End:
    def __init__(self, loop: Loop, node: str, listen: int, peer: int, secret: bytes) -> None:
        settings = PeerSettings(listen=("127.0.0.1", listen), address=("127.0.0.1", peer))
        self.said: list[Said] = []
        self.closed = 0
        self.link = PeerLink(loop, settings, node=node, on_said=self.said.append, on_closed=self._on_closed)
        self.link.listen()
        self.link.start(secret)

    def _on_closed(self) -> None:
        self.closed += 1


class Both:
    def __init__(self, secret: bytes = b"same", other: bytes = b"same") -> None:
        self.loop = Loop()
        self.ports = free_port(), free_port()
        self.alpha = End(self.loop, "alpha", *self.ports, secret)
        self.beta = End(self.loop, "beta", *reversed(self.ports), other)

    def until(self, holds, within: float = 5.0) -> None:
        ends = time.monotonic() + within * STRETCH
        while not holds():
            assert time.monotonic() < ends, "it never came"
            self.loop.turn(0.02)

    def close(self) -> None:
        self.alpha.link.close()
        self.beta.link.close()


@pytest.fixture
def both():
    both = Both()
    yield both
    both.close()


def test_what_one_says_the_other_hears(both: Both):
    both.until(lambda: both.alpha.link.open and both.beta.link.open)
    assert (both.alpha.link.name, both.beta.link.name) == ("beta", "alpha")
    both.alpha.link.say(BEAT)
    both.beta.link.say(HandedOver())
    both.until(lambda: both.beta.said and both.alpha.said)
    assert both.beta.said[0] == BEAT
    assert both.alpha.said[0] == HandedOver()


def test_an_end_that_closes_is_noticed_at_once_and_found_again(both: Both):
    both.until(lambda: both.alpha.link.open and both.beta.link.open)
    both.beta.link.close()
    both.until(lambda: both.alpha.closed == 1, within=0.2)
    both.beta = End(both.loop, "beta", *reversed(both.ports), b"same")
    both.until(lambda: both.alpha.link.open and both.beta.link.open)


def test_a_wrong_secret_is_never_believed(caplog: pytest.LogCaptureFixture):
    both = Both(other=b"different")
    try:
        ends = time.monotonic() + 1.0
        while time.monotonic() < ends:
            both.loop.turn(0.02)
            both.alpha.link.say(BEAT)
            assert not both.alpha.link.open
            assert not both.beta.link.open
        assert both.beta.said == []
        refusals = [record for record in caplog.records if "does not know the secret of this pair" in record.message]
        assert len(refusals) == 2, "each end says it once, not at every attempt"
    finally:
        both.close()


def test_strangers_cannot_fill_the_door(both: Both):
    both.until(lambda: both.alpha.link.open and both.beta.link.open)
    strangers = [socket.create_connection(("127.0.0.1", both.ports[0])) for _ in range(3 * STRANGERS)]
    try:
        for _ in range(20):
            both.loop.turn(0.01)
        both.beta.link.say(BEAT)
        both.until(lambda: BEAT in both.alpha.said)
        shut = 0
        for stranger in strangers:
            stranger.settimeout(0.05)
            try:
                while data := stranger.recv(4096):
                    assert data
                shut += 1
            except TimeoutError:
                pass
        assert shut == 2 * STRANGERS
    finally:
        for stranger in strangers:
            stranger.close()


def test_a_taken_address_is_an_error(both: Both):
    settings = PeerSettings(listen=("127.0.0.1", both.ports[0]), address=("127.0.0.1", 1))
    link = PeerLink(both.loop, settings, node="gamma", on_said=lambda _message: None, on_closed=lambda: None)
    with pytest.raises(OSError):
        link.listen()
