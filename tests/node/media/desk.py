"""A worker's media beside a real rtpengine, with phones that say who they are."""

from __future__ import annotations

import socket
import time

from node.media.anchored import Anchored, Wish
from node.media.engines import Media
from node.media.errors import MediaError
from node.media.session import MediaClient
from tests.node.media.stage import UNIT, Loop, Process
from tests.support.rtpengine import RtpengineServer

WITHIN = 30.0


class Desk:
    """A worker's media, and phones that send RTP."""

    def __init__(self, process: Process, engine: RtpengineServer, slot: str = "internal#0") -> None:
        self.loop = Loop()
        self.relay = relay = MediaClient(
            process.path,
            slot,
            add_reader=self.loop.add_reader,
            remove_reader=self.loop.remove_reader,
            call_later=self.loop.call_later,
        )
        self.media = Media(relay, self.loop)
        self.lost: list[str] = []
        self.media.on_lost = lambda leg, _error: self.lost.append(leg)
        self.engine, self.ng = engine, engine.ng
        self.phones: dict[str, Phone] = {}

    def open(self, leg: str, *beside: str, host: str = "127.0.0.1", last: Anchored | None = None) -> Anchored:
        """A leg on the engine and a phone of its name."""
        outcomes: list[int | Anchored | MediaError] = []
        wish = Wish((self.ng,), beside, last)
        self.media.open(leg, address=host, first=40000, last=49998, wish=wish, then=outcomes.append)
        self.loop.until(lambda: outcomes, WITHIN)
        place = outcomes[0]
        if isinstance(place, MediaError):
            raise place
        assert isinstance(place, Anchored)
        self._phone(leg, host, place.port)
        return place

    def open_inside(self, leg: str) -> None:
        """A leg of our own relay and a phone of its name."""
        outcomes: list[int | Anchored | MediaError] = []
        self.media.open(leg, address="127.0.0.1", first=40000, last=49998, then=outcomes.append)
        self.loop.until(lambda: outcomes, WITHIN)
        assert isinstance(outcomes[0], int)
        self._phone(leg, "127.0.0.1", outcomes[0])

    def _phone(self, leg: str, host: str, port: int) -> None:
        phone = self.phones.get(leg) or Phone(leg, host, port)
        self.phones[leg] = phone
        self.media.remote(leg, host, phone.port, phone.port + 1)

    def hears(self, listener: str, *speakers: str) -> None:
        """Wait until, while everybody speaks, the listener hears these and nobody else."""
        ear = self.phones[listener]
        deadline = time.monotonic() + WITHIN * UNIT
        while (heard := self._listened(ear)) != set(speakers):
            assert time.monotonic() < deadline, f"{listener} hears {heard}"

    def _listened(self, ear: Phone) -> set[str]:
        """Whom it hears in a dozen packets of everybody."""
        ear.listen()
        ear.heard.clear()
        end = time.monotonic() + 0.12
        while time.monotonic() < end:
            self._speak()
            self.loop.turn()
        return ear.listen()

    def _speak(self) -> None:
        for phone in self.phones.values():
            phone.speak()

    def gone(self, leg: str) -> None:
        """Its phone has hung up."""
        self.media.close(leg)
        self.phones.pop(leg).socket.close()

    def holds(self, ports: set[int], besides: int = 0) -> None:
        """Wait until the engine holds these ports, and so many inner ones."""
        self.loop.until(lambda: self.engine.held_ports() >= ports and self._held() == len(ports) + besides, WITHIN)

    def _held(self) -> int:
        return len(self.engine.held_ports())

    def inner_legs(self) -> set[str]:
        """The legs of our own media process that serve those of the engine, as it knows them."""
        counted: list[tuple[str, object]] = []
        names = [f"{leg}~" for leg in "abcdefgh"]
        for name in names:
            self.relay.counters(name, lambda outcome, name=name: counted.append((name, outcome)))
        self.loop.until(lambda: len(counted) == len(names), WITHIN)
        return {name for name, outcome in counted if not isinstance(outcome, MediaError)}

    def close(self) -> None:
        for leg, phone in self.phones.items():
            self.media.close(leg)
            phone.socket.close()
        self.loop.until(lambda: not self.engine.sessions(), WITHIN)
        self.media.shut()


class Phone:
    """Says its name in each packet."""

    def __init__(self, name: str, host: str, server: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.port: int = self.socket.getsockname()[1]
        self.heard: set[str] = set()
        self._name, self._server, self._sent = name, (host, server), 0
        self._spoke = 0.0

    def speak(self) -> None:
        if time.monotonic() - self._spoke < 0.01:
            return
        self._spoke = time.monotonic()
        self._sent += 1
        header = b"\x80\x00" + self._sent.to_bytes(2, "big") + (self._sent * 160).to_bytes(4, "big") + b"ssrc"
        self.socket.sendto(header + self._name.encode().ljust(160, b"."), self._server)

    def listen(self) -> set[str]:
        try:
            while True:
                said = self.socket.recv(2048)[12:].rstrip(b".")
                self.heard.add(said.decode("latin-1") if said.isalnum() else "?")
        except BlockingIOError:
            return self.heard
