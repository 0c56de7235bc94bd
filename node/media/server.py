"""The media process: its one loop, and the orders of the workers.

The loop does nothing but look at what the kernel has: packets, orders, the link to the supervisor. Orders are taken in
slices, so that a worker that revives ten thousand calls does not hold up the audio of the others.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

import msgspec

from node.link import Beat, Beaten, Demote, Instruct, Link, LinkClosed
from node.media import control
from node.media.control import Order, Report
from node.media.errors import MediaError
from node.media.orders import Orders
from node.media.relay import SIZE, Leg, Stream

log = logging.getLogger(__name__)

SLOT = re.compile(r"[^\0]{1,64}#[0-9]{1,4}")
EVENTS = 512
"Ready sockets taken from the kernel at once."
SLICE = 32
"Orders done before the packets get their turn again."
BACKLOG = 1_000
"Datagrams that wait for a worker that does not read; what is beyond is dropped, and the worker told so by silence."
PATIENCE = 0.5
"Seconds the loop waits at most."
RETRY = 0.002
"Seconds until a datagram that a worker had no room for is sent again."


class Server:
    """Owns the control socket, the streams and the loop."""

    def __init__(self, path: Path, link: Link | None = None, foreign: str = "") -> None:
        """`foreign`: an address to be had by ports before this host has it."""
        self._path = str(path)
        self._link = link
        self._epoll = select.epoll()
        self._streams: dict[int, Stream] = {}
        self._alarms: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._inbox: deque[tuple[str, Order]] = deque()
        self._outbox: dict[str, list[Report]] = {}
        self._backlogs: dict[str, deque[bytes]] = {}
        self._retrying: set[str] = set()
        self._over = False
        self.instance = os.urandom(8).hex()
        self.orders = Orders(self, foreign)
        self._control = _bind(self._path)
        self._special: dict[int, Callable[[], None]] = {self._control.fileno(): self._on_orders}
        if link is not None:
            self._special[link.fileno()] = self._on_link
        for descriptor in self._special:
            self._epoll.register(descriptor, select.EPOLLIN)

    # ---- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until the supervisor goes away or `stop` is called."""
        self._appear()
        poll, streams, monotonic = self._epoll.poll, self._streams, time.monotonic
        while not self._over:
            for descriptor, _ in poll(self._patience(monotonic()), EVENTS):
                stream = streams.get(descriptor)
                if stream is None:
                    self._on_special(descriptor)
                    continue
                try:
                    data = stream.receive(SIZE)
                except OSError:
                    continue  # nothing there after all, refused by the peer's host, or a stranger's
                except Exception:
                    log.exception("packet on %s was not taken well", stream.socket)
                    continue
                stream.packets += 1
                stream.octets += len(data)
                try:
                    stream.forward(data)
                except OSError:
                    _send_again(stream, data)
            try:
                self._after_packets(monotonic())
            except Exception:
                log.exception("the media process goes on after an error of its own")

    def _patience(self, now: float) -> float:
        """Seconds the loop may wait for the kernel: a signal that stops us is looked at after that."""
        if self._inbox:
            return 0.0
        beat = self.orders.player.next_beat
        alarm = self._alarms[0][0] if self._alarms else None
        due = beat if alarm is None else alarm if beat is None else min(beat, alarm)
        return PATIENCE if due is None else min(PATIENCE, max(0.0, due - now))

    def _after_packets(self, now: float) -> None:
        if self._inbox:
            for _ in range(min(SLICE, len(self._inbox))):
                self._obey(*self._inbox.popleft())
        if self.orders.player.next_beat is not None:
            self.orders.player.beat(now)
        while self._alarms and self._alarms[0][0] <= now:
            heappop(self._alarms)[2]()
        if self._outbox:
            self._send_reports()

    def stop(self) -> None:
        self._over = True

    def close(self) -> None:
        self.orders.close()
        self._control.close()
        self._epoll.close()

    # ---- what the orders need of the loop --------------------------------------------------------------------------

    def admit(self, leg: Leg) -> None:
        """Read the leg's sockets from now on."""
        for stream in (leg.rtp, leg.rtcp):
            descriptor = stream.socket.fileno()
            self._streams[descriptor] = stream
            self._epoll.register(descriptor, select.EPOLLIN)

    def dismiss(self, leg: Leg) -> None:
        for stream in (leg.rtp, leg.rtcp):
            descriptor = stream.socket.fileno()
            if self._streams.pop(descriptor, None) is not None:
                self._epoll.unregister(descriptor)

    def later(self, delay: float, callback: Callable[[], None]) -> None:
        heappush(self._alarms, (time.monotonic() + delay, next(self._numbers), callback))

    def report(self, slot: str, report: Report) -> None:
        """Tell the worker of this slot, with the next datagram to it."""
        self._outbox.setdefault(slot, []).append(report)

    def answer(self, slot: str) -> None:
        """Send this slot's worker a datagram, even an empty one: it shows which media process this is."""
        self._outbox.setdefault(slot, [])

    def has_worker(self, slot: str) -> bool:
        """Whether anybody reads what we tell this slot."""
        try:
            self._control.sendto(control.encode_reports(self.instance, [])[0], control.client_path(self._path, slot))
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    # ---- workers ---------------------------------------------------------------------------------------------------

    def _on_special(self, descriptor: int) -> None:
        handle = self._special.get(descriptor)
        if handle is not None:  # else a leg that was closed since the kernel told us of it
            handle()

    def _on_orders(self) -> None:
        if self._inbox:
            return  # first what is here; meanwhile the workers wait at the socket
        try:
            datagram = self._control.recv(65536)
        except OSError:
            return
        try:
            orders = control.decode_orders(datagram)
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning("unreadable orders of %d octets dropped: %s", len(datagram), error)
            return
        if SLOT.fullmatch(orders.slot) is None:
            log.warning("orders of no slot dropped: %r", orders.slot[:80])
            return
        self._inbox.extend([(orders.slot, order) for order in orders.orders])

    def _obey(self, slot: str, order: Order) -> None:
        try:
            self.orders.obey(slot, order)
        except MediaError as error:
            self._refuse(slot, order, str(error))
        except Exception:
            log.exception("order %s of %s failed", type(order).__name__, slot)
            self._refuse(slot, order, "internal error of the media process")

    def _refuse(self, slot: str, order: Order, reason: str) -> None:
        if isinstance(order, control.Open | control.Play | control.Count):
            self.report(slot, control.Refused(order.number, reason))

    def _send_reports(self) -> None:
        for slot, reports in self._outbox.items():
            backlog = self._backlogs.setdefault(slot, deque())
            backlog.extend(control.encode_reports(self.instance, reports))
            self._send_to(slot)
        self._outbox.clear()

    def _send_to(self, slot: str) -> None:
        backlog = self._backlogs.get(slot)
        while backlog:
            try:
                self._control.sendto(backlog[0], control.client_path(self._path, slot))
            except BlockingIOError:
                if len(backlog) > BACKLOG:
                    log.warning("worker %s does not read its reports, %d datagrams dropped", slot, len(backlog))
                    break
                if slot not in self._retrying:
                    self._retrying.add(slot)
                    self.later(RETRY, lambda: self._retry(slot))
                return
            except OSError:
                break  # no such worker any more; its successor asks anew
            backlog.popleft()
        self._backlogs.pop(slot, None)

    def _retry(self, slot: str) -> None:
        self._retrying.discard(slot)
        self._send_to(slot)

    def _appear(self) -> None:
        """Tell the workers that are there already: they open their legs again here."""
        for path in Path(self._path).parent.glob(Path(self._path).name + "-*"):
            if path.is_socket():
                self._greet(str(path))

    def _greet(self, path: str, attempts: int = 50) -> None:
        try:
            self._control.sendto(control.encode_reports(self.instance, [])[0], path)
        except BlockingIOError:
            if attempts:
                self.later(0.02, lambda: self._greet(path, attempts - 1))
        except OSError:
            pass  # left behind by a worker that is gone

    # ---- the supervisor --------------------------------------------------------------------------------------------

    def _on_link(self) -> None:
        assert self._link is not None, "only a link wakes us here"
        try:
            received = self._link.receive()
            if received is None:
                return
            message, descriptors = received
            for descriptor in descriptors:
                os.close(descriptor)
            if isinstance(message, Beat):
                self._link.send(Beaten(message.number))
            elif isinstance(message, Instruct) and message.verb == "release":
                self.orders.release()
            elif isinstance(message, Demote):
                log.info("letting go of all media: %s", message.reason)
                self.stop()
        except LinkClosed:
            log.info("supervisor is gone, letting go of all media")
            self.stop()
        except BlockingIOError:
            pass  # the supervisor does not read: the next beat is answered again
        except msgspec.MsgspecError as error:
            log.warning("unreadable message on the link: %s", error)


def _send_again(stream: Stream, data: bytes) -> None:
    """The error may be an old one (ICMP, port unreachable) that the kernel gave back in place of sending."""
    try:
        stream.forward(data)
    except OSError:
        stream.dropped += 1


def _bind(path: str) -> socket.socket:
    """The control socket. The name of one that a dead media process left behind is taken over."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setblocking(False)
    try:
        sock.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        os.unlink(path)
        sock.bind(path)
    return sock
