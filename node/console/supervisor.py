"""The console's end of the link to the supervisor: answers beats from the loop, and asks."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence

from node.console.site import Silent
from node.events import Event
from node.link import Answer, Ask, Beat, Beaten, Demote, Failed, Link, LinkClosed, Message, Notice, Ready

log = logging.getLogger(__name__)


class Supervisor:
    """Asks, and says when it is all over (`gone`)."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._open: dict[int, asyncio.Future[str]] = {}
        self._number = 0
        self.gone = asyncio.Event()
        self.on_event: Callable[[Event], None] = lambda event: None
        "Told what the supervisor fires."
        self._loop.add_reader(link.fileno(), self._read)

    def ready(self) -> None:
        self._send(Ready(os.getpid()))

    def failed(self, reason: str) -> None:
        self._send(Failed(reason))

    async def ask(self, verb: str, words: Sequence[str] = (), *, within: float = 5.0) -> str:
        """The answer's text. Raises Silent."""
        self._number += 1
        number = self._number
        future: asyncio.Future[str] = self._loop.create_future()
        self._open[number] = future
        self._send(Ask(number=number, verb=verb, words=list(words)))
        try:
            async with asyncio.timeout(within):
                return await future
        except TimeoutError as error:
            log.warning("the supervisor did not answer `%s %s` within %g s", verb, " ".join(words), within)
            raise Silent("the supervisor does not answer") from error
        finally:
            self._open.pop(number, None)

    def close(self) -> None:
        self._loop.remove_reader(self._link.fileno())
        self._link.close()

    def _send(self, message: Message) -> None:
        try:
            self._link.send(message)
        except LinkClosed:
            self.gone.set()
        except BlockingIOError:
            log.warning("the supervisor does not read its link")

    def _read(self) -> None:
        try:
            while (received := self._link.receive()) is not None:
                message, descriptors = received
                for descriptor in descriptors:
                    os.close(descriptor)
                self._take(message)
        except LinkClosed:
            self._loop.remove_reader(self._link.fileno())
            self.gone.set()

    def _take(self, message: Message) -> None:
        match message:
            case Beat(number):
                self._send(Beaten(number))
            case Answer(number=number, text=text):
                future = self._open.get(number)
                if future is not None and not future.done():
                    future.set_result(text)
            case Notice(subclass, headers):
                self.on_event(Event(name="CUSTOM", subclass=subclass, headers=headers))
            case Demote():
                self.gone.set()
