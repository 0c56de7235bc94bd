"""Children small enough to see through: a worker that answers every datagram with who it is, a media, a console.

A datagram `crash` ends the worker, `freeze` stops its loop, `deaf` makes it answer beats but no datagram.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from pathlib import Path

from ha.cli import _parser, run
from ha.process import EntryPoints
from node.config import Configuration, Identity
from node.link import (
    Answer,
    Ask,
    Beat,
    Beaten,
    Demote,
    Done,
    Instruct,
    Lease,
    Link,
    LinkClosed,
    Message,
    Notice,
    Promote,
    Promoted,
    Ready,
    Revived,
    Sockets,
)

ENTRY_POINTS = EntryPoints("tests.ha.child:worker", "tests.ha.child:media", "tests.ha.child:console")


class Worker:
    def __init__(self, link: Link, identity: Identity) -> None:
        self.link, self.identity = link, identity
        self.slot, self.epoch, self.until, self.claims = "", 0, 0.0, ""
        self.sockets: list[socket.socket] = []
        self.own: socket.socket | None = None
        self.deaf = False

    def run(self) -> None:
        self.link.send(Ready(os.getpid()))
        while True:
            sources = [self.link.fileno()] + ([self.own.fileno()] if self.own else [])
            readable = select.select(sources, [], [], 1.0)[0]
            if self.own is not None and self.own.fileno() in readable:
                self.answer(self.own)
            while received := self.link.receive():
                self.obey(*received)

    def obey(self, message: Message, descriptors: list[int]) -> None:
        match message:
            case Promote():
                self.slot, self.epoch, self.until = message.slot, message.epoch, message.lease_until
                self.claims = ",".join(message.claims)
                self.sockets = [socket.socket(fileno=each) for each in descriptors]
                for name, sock in zip(message.sockets, self.sockets, strict=True):
                    self.own = sock if name.slot == self.slot else self.own
                self.link.send(Promoted(slot=self.slot, epoch=self.epoch))
                self.link.send(Revived(slot=self.slot, calls=0, legs=0, failed=0, seconds=0.0))
            case Lease(until, epoch):
                self.until, self.epoch = until, epoch or self.epoch
            case Sockets():
                self.sockets += [socket.socket(fileno=each) for each in descriptors]
            case Beat(number):
                self.link.send(Beaten(number))
            case Instruct(number=number, words=words):
                self.link.send(Done(number=number, count=len(words)))
            case Demote():
                sys.exit(0)

    def answer(self, sock: socket.socket) -> None:
        data, source = sock.recvfrom(4096)
        match data:
            case b"crash":
                os._exit(9)
            case b"freeze":
                time.sleep(3600)
            case b"deaf":
                self.deaf = True
        if self.deaf or time.monotonic() > self.until:
            return
        call_id = next((line for line in data.split(b"\r\n") if line.startswith(b"Call-ID")), b"").decode()
        text = f"{self.identity.node} {self.slot} {self.epoch} {os.getpid()} {self.claims}"
        sock.sendto(f"SIP/2.0 200 OK\r\n{call_id}\r\n\r\n{text}".encode(), source)


def worker(link: Link, identity: Identity, configuration: Configuration, run_dir: Path) -> None:
    try:
        Worker(link, identity).run()
    except LinkClosed:
        pass


def media(link: Link, identity: Identity, configuration: Configuration, run_dir: Path) -> None:
    worker(link, identity, configuration, run_dir)


def console(link: Link, identity: Identity, configuration: Configuration, run_dir: Path) -> None:
    """Asks the supervisor what it is asked on its own socket: words in, the answer out."""
    path = run_dir / "console"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as desk:
        desk.bind(str(path))
        link.send(Ready(os.getpid()))
        asker = b""
        while True:
            readable = select.select([desk, link], [], [])[0]
            if desk in readable:
                data, asker = desk.recvfrom(65536)
                verb, *words = json.loads(data)
                link.send(Ask(number=1, verb=verb, words=words))
            try:
                while received := link.receive():
                    match received[0]:
                        case Answer(text=text):
                            desk.sendto(text.encode(), asker)
                        case Beat(number):
                            link.send(Beaten(number))
                        case Notice(subclass, headers):
                            with (run_dir / "notices").open("a") as notices:
                                notices.write(json.dumps([subclass, headers]) + "\n")
                        case Demote():
                            return
            except LinkClosed:
                return


if __name__ == "__main__":
    sys.exit(run(_parser().parse_args(), ENTRY_POINTS))
