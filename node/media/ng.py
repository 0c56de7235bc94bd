"""One rtpengine as seen by one worker: questions in its ng protocol, each a datagram `cookie bencode`, asked until answered.

The engine remembers what it answered to a cookie, so that asking again does nothing twice.
"""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from random import getrandbits
from typing import Protocol

from node.debug import soa
from node.media.bencode import Bencoded, NotBencode, Writable, decode, encode
from node.media.errors import MediaError

log = logging.getLogger(__name__)

RESEND = (0.1, 0.2, 0.4, 0.6)
"Seconds between one sending of a question and the next."
LAST_WAIT = 0.7
"Seconds after the last sending until it is given up: two in all, as an order to our own media process."
WINDOW = 64
"Questions that may be under way at once; more wait for their turn."
QUEUE = 20_000
"Questions that may wait for their turn."
PROBE = 1.0
"Seconds between two pings of an engine that does not answer."
DRAIN = 64
"Datagrams read in one wake-up."


class NgUnanswered(MediaError):
    """The engine does not answer; it may have done what it was asked all the same."""


class NgRefused(MediaError):
    """The engine says no, or something that cannot be understood."""


class Alarm(Protocol):
    """What `call_later` gives back."""

    def cancel(self) -> None: ...


class Loop(Protocol):
    """What of an event loop is needed."""

    def add_reader(self, fd: int, callback: Callable[[], None], /) -> object: ...

    def remove_reader(self, fd: int, /) -> object: ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Alarm: ...


Answer = dict[bytes, Bencoded]
Told = Callable[[Answer | MediaError], None]


def split(address: str) -> tuple[str, int]:
    """`192.0.2.1:2223` or `[2001:db8::1]:2223`. Raises ValueError."""
    host, _colon, port = address.rpartition(":")
    return str(ip_address(host.strip("[]"))), int(port)


@dataclass(slots=True)
class _Question:
    cookie: str
    datagram: bytes
    then: Told
    sent: int = 0
    alarm: Alarm | None = None


class NgClient:
    """Asks one engine. `then` is never called from within `ask`."""

    def __init__(self, address: str, loop: Loop) -> None:
        self.address = address
        self.answering: bool | None = None
        "Whether it answers; None: it was asked nothing yet."
        self.on_back: Callable[[], None] = lambda: None
        "It answers after it did not."
        self._loop = loop
        self._socket: socket.socket | None = None
        # Whoever else asks the engine must not choose the same ones.
        self._prefix = f"{getrandbits(64):016x}"
        self._count = 0
        self._asked: dict[str, _Question] = {}
        self._queue: deque[_Question] = deque()
        self._complaints: set[str] = set()
        self._probe: Alarm | None = None
        self._closed = False

    def ask(self, question: Mapping[str, Writable], then: Told) -> None:
        """`then` gets the answer (`result` is `ok` or `pong`), NgRefused, or NgUnanswered after two seconds."""
        if self._closed:
            return
        self._count += 1
        cookie = f"{self._prefix}.{self._count}"
        asked = _Question(cookie, f"{cookie} ".encode() + encode(question), then)
        if soa.level >= 7:
            soa.say("rtpengine %s: %s %s", self.address, question.get("command"), question.get("call-id", ""))
        if len(self._asked) < WINDOW:
            self._send(asked)
        elif self.answering is False or len(self._queue) >= QUEUE:
            self._loop.call_later(0, lambda: then(self._silence()))
        else:
            self._queue.append(asked)

    def probe(self) -> None:
        """Learn whether it answers."""
        if self._probe is None:
            self._ping()

    def complain(self, of: str, detail: object) -> None:
        """Say in the log what is wrong with it, each thing once."""
        if of not in self._complaints:
            self._complaints.add(of)
            log.warning("rtpengine %s %s: %s", self.address, of, detail)

    def close(self) -> None:
        """Ask nothing any more; nobody is told."""
        self._closed = True
        if self._probe is not None:
            self._probe.cancel()
        for question in self._asked.values():
            if question.alarm is not None:
                question.alarm.cancel()
        self._asked.clear()
        self._queue.clear()
        self._drop()

    # ---- sending ---------------------------------------------------------------------------------------------------

    def _send(self, question: _Question) -> None:
        self._asked[question.cookie] = question
        try:
            self._open().send(question.datagram)
        except BlockingIOError:
            pass  # no room; said again anyway
        except OSError as error:
            # Said again anyway; that nobody is there now does not mean that nobody will be in a moment.
            log.debug("rtpengine %s cannot be asked: %s", self.address, error)
            self._drop()
        wait = RESEND[question.sent] if question.sent < len(RESEND) else LAST_WAIT
        question.sent += 1
        question.alarm = self._loop.call_later(wait, lambda: self._wait_over(question))

    def _open(self) -> socket.socket:
        """A connected socket: nobody else's datagrams reach it."""
        if self._socket is None:
            host, port = split(self.address)
            sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            try:
                sock.setblocking(False)
                sock.connect((host, port))
            except OSError:
                sock.close()
                raise
            self._socket = sock
            self._loop.add_reader(sock.fileno(), self._on_readable)
        return self._socket

    def _drop(self) -> None:
        """Have another socket with the next question: libuv reads no more from one that had an error (`POLLERR`)."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _wait_over(self, question: _Question) -> None:
        if question.cookie not in self._asked:
            return
        if question.sent <= len(RESEND):
            self._send(question)
            return
        del self._asked[question.cookie]
        lost = [question]
        if self.answering is not False:
            log.warning("rtpengine %s does not answer", self.address)
            self.answering = False
            lost += self._queue
            self._queue.clear()
        if self._probe is None:
            self._probe = self._loop.call_later(PROBE, self._ping)
        for each in lost:
            self._tell(each, self._silence())

    def _silence(self) -> NgUnanswered:
        return NgUnanswered(f"rtpengine {self.address} does not answer")

    def _ping(self) -> None:
        self._probe = None
        self.ask({"command": "ping"}, lambda _answer: None)

    # ---- hearing ---------------------------------------------------------------------------------------------------

    def _on_readable(self) -> None:
        for _ in range(DRAIN):
            if self._socket is None:
                return
            try:
                datagram = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                self._drop()  # nobody is there now; the waits go on
                return
            self._hear(datagram)

    def _hear(self, datagram: bytes) -> None:
        cookie, _space, text = datagram.partition(b" ")
        question = self._asked.get(cookie.decode("latin-1"))
        if question is None:
            return  # an answer to what was asked twice, or to somebody before us
        try:
            answer = decode(text)
            if not isinstance(answer, dict):
                raise NotBencode("not a dictionary")
        except NotBencode as error:
            self.complain("answers what cannot be read", error)
            return  # as if nothing had come
        del self._asked[question.cookie]
        if question.alarm is not None:
            question.alarm.cancel()
        self._heard()
        self._tell(question, self._judge(answer))
        if self._queue and len(self._asked) < WINDOW:
            self._send(self._queue.popleft())

    def _judge(self, answer: Answer) -> Answer | MediaError:
        result = answer.get(b"result")
        if result in (b"ok", b"pong"):
            return answer
        reason = answer.get(b"error-reason")
        said = reason.decode("utf-8", "replace")[:200] if isinstance(reason, bytes) else f"result {result!r}"[:200]
        return NgRefused(f"rtpengine {self.address} says: {said}")

    def _heard(self) -> None:
        before, self.answering = self.answering, True
        if self._probe is not None:
            self._probe.cancel()
            self._probe = None
        if before is False:
            log.warning("rtpengine %s answers again", self.address)
            self.on_back()

    def _tell(self, question: _Question, outcome: Answer | MediaError) -> None:
        try:
            question.then(outcome)
        except Exception:
            log.exception("answer of rtpengine %s was not taken well", self.address)
