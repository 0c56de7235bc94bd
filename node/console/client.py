"""One connection of the event socket: carries out what its session says."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from node.console import protocol
from node.console.session import (
    Act,
    Background,
    Close,
    Fire,
    Grant,
    Listening,
    Refuse,
    Run,
    Send,
    Session,
)
from node.console.subscription import Written
from node.console.tail import Line
from node.debug import nth_server
from node.events import Event

log = logging.getLogger(__name__)

LOGIN = 25.0
"Seconds in which a client must have logged in."
PAUSE = 1.0
"Seconds before a wrong password is answered."
QUEUE = 8 * 1024 * 1024
"Bytes that may wait for a slow client; then it is dropped, and may come again."
JOBS = 100
"Background jobs that a client may have running."


class Host(Protocol):
    """What a connection needs of the console."""

    def admits(self, ip: str) -> bool: ...
    def password(self) -> str: ...
    def lookup(self, user: str, domain: str) -> Grant | None: ...
    def joined(self, client: Client) -> bool: ...
    def left(self, client: Client) -> None: ...
    def listening(self) -> None: ...
    def fire(self, event: Event) -> None: ...
    async def run(self, line: str) -> str: ...


class Client(asyncio.Protocol):
    """Made by the listening socket for each connection."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._session = Session(host.password(), host.lookup)
        self._transport: asyncio.Transport | None = None
        self._peer = ""
        self._alarm: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._jobs: set[asyncio.Task[None]] = set()
        self._paused = False

    @property
    def session(self) -> Session:
        return self._session

    # ---- what the network brings

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "a stream socket"
        self._transport = transport
        peer = transport.get_extra_info("peername") or ("", 0)
        self._peer = str(peer[0])
        if nth_server.level >= 5:
            nth_server.say("connection from %s", self._peer)
        if not self._host.admits(self._peer):
            log.warning("event socket: %s is not allowed by the access list", self._peer)
            self._end(protocol.rude_rejection())
        elif not self._host.joined(self):
            log.warning("event socket: too many connections, %s is refused", self._peer)
            self._end(protocol.disconnect_notice())
        else:
            transport.write(protocol.auth_request())
            self._alarm = asyncio.get_running_loop().call_later(LOGIN, self._too_late)

    def data_received(self, data: bytes) -> None:
        if self._session.closed:
            return
        try:
            acts = self._session.receive(data)
        except protocol.TooMuch as error:
            log.warning("event socket: %s sent %s, dropped", self._peer, error)
            self._abort()
            return
        self._carry_out(acts)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._session.closed = True
        if nth_server.level >= 5:
            nth_server.say("connection of %s is closed", self._peer)
        if self._alarm is not None:
            self._alarm.cancel()
        if self._running is not None:
            self._running.cancel()
        self._host.left(self)

    def eof_received(self) -> bool:
        """A client that has closed its side still gets the answer to what it asked (`printf ... | nc`)."""
        return self._running is not None and self._session.trusted

    def pause_writing(self) -> None:
        """A client that does not read its answers may not ask more."""
        self._paused = True
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    # ---- what others bring

    def happened(self, event: Written) -> None:
        data = self._session.event(event)
        if data is not None:
            self._send(data)

    def logged(self, line: Line) -> None:
        level = self._session.log_level
        if level is not None and line.level <= level:
            self._send(protocol.log_data(line.text, line.level, file=line.source))

    def close(self) -> None:
        """The console ends."""
        self._session.closed = True
        self._end(protocol.disconnect_notice())

    # ---- acts

    def _carry_out(self, acts: list[Act]) -> None:
        for act in acts:
            match act:
                case Send(data):
                    self._send(data)
                case Run(line):
                    self._running = asyncio.create_task(self._run(line))
                case Background(job, line):
                    self._start_job(job, line)
                case Fire(event):
                    self._host.fire(event)
                case Listening():
                    self._host.listening()
                case Close():
                    self._end(b"")
                case Refuse(data):
                    log.warning("event socket: wrong password from %s", self._peer)
                    asyncio.get_running_loop().call_later(PAUSE, self._end, data)
        if self._session.trusted and self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    async def _run(self, line: str) -> None:
        text = await self._host.run(line)
        self._running = None
        self._carry_out(self._session.answered(text))

    def _start_job(self, job: str, line: str) -> None:
        if len(self._jobs) >= JOBS:
            self._host.fire(finished(job, line, "-ERR too many jobs\n"))
            return
        task = asyncio.create_task(self._job(job, line))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _job(self, job: str, line: str) -> None:
        self._host.fire(finished(job, line, await self._host.run(line)))

    # ---- sending and ending

    def _send(self, data: bytes) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.write(data)
        if self._transport.get_write_buffer_size() > QUEUE:
            log.warning("event socket: %s reads too slowly, dropped", self._peer)
            self._abort()

    def _end(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)
            self._transport.close()

    def _abort(self) -> None:
        self._session.closed = True
        if self._transport is not None:
            self._transport.abort()

    def _too_late(self) -> None:
        log.info("event socket: %s has not logged in, dropped", self._peer)
        self._end(protocol.disconnect_notice())


def finished(job: str, line: str, text: str) -> Event:
    """The event that brings the text of a background job."""
    command, _, argument = line.partition(" ")
    headers = [("Job-UUID", job), ("Job-Command", command)]
    if argument:
        headers.append(("Job-Command-Arg", argument))
    return Event(name="BACKGROUND_JOB", headers=headers, body=text, function="api_exec")
