"""The workers of this node, asked over their inquiry sockets. They come and go: the folder of sockets says who is there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from node import inquiry
from node.console.site import Refused, Silent
from node.debug import nth_client
from node.events import Event
from node.sip.token import slot

log = logging.getLogger(__name__)

WITHIN = 2.0
"Seconds that a worker may take to answer."
LOOK = 0.25
"Seconds between two looks into the folder."
PENDING = 256
"Questions that a worker may leave open; one that has so many is not asked any more until it answers."


class Peer:
    """The connection to one worker."""

    def __init__(self, token: str, inode: int, writer: asyncio.StreamWriter) -> None:
        self.token = token
        self.profile = slot(token).rpartition("#")[0]
        self.inode = inode
        self._writer = writer
        self._open: dict[int, asyncio.Future[inquiry.Reply]] = {}
        self._number = 0

    def send(self, frame: inquiry.Question | inquiry.Subscribe) -> None:
        self._writer.write(inquiry.encode(frame))

    async def ask(self, verb: str, words: Sequence[str], within: float) -> Any:
        """The value of the answer. Raises Silent when there is none, or when the worker refuses."""
        if len(self._open) >= PENDING:
            raise Silent(f"worker {self.token} does not answer")
        self._number += 1
        number = self._number
        if nth_client.level >= 7:
            nth_client.say("asks worker %s: %s %s", self.token, verb, " ".join(words))
        future = self._open[number] = asyncio.get_running_loop().create_future()
        self.send(inquiry.Question(number, verb, list(words)))
        try:
            async with asyncio.timeout(within):
                reply = await future
        except TimeoutError as error:
            raise Silent(f"worker {self.token} did not answer `{verb}` within {within:g} s") from error
        finally:
            self._open.pop(number, None)
        if nth_client.level >= 9:
            nth_client.say("worker %s answers %s", self.token, "well" if reply.ok else reply.value)
        if not reply.ok:
            raise Refused(f"worker {self.token} refused `{verb}`: {reply.value}")
        return reply.value

    def answered(self, reply: inquiry.Reply) -> None:
        future = self._open.get(reply.number)
        if future is not None and not future.done():
            future.set_result(reply)

    def lost(self) -> None:
        """The connection is gone: whoever waits hears it now, not after the deadline."""
        self._writer.close()
        for future in self._open.values():
            if not future.done():
                future.set_exception(Silent(f"worker {self.token} is gone"))


class Workers:
    """All of them."""

    def __init__(
        self,
        folder: Path,
        *,
        on_event: Callable[[Event], None],
    ) -> None:
        self._folder = folder
        self._on_event = on_event
        self._peers: dict[str, Peer] = {}
        self._readers: set[asyncio.Task[None]] = set()
        self._wanted: list[str] = []
        self._looking = asyncio.Lock()

    # ---- who is there

    async def watch(self) -> None:
        """Look again and again; cancelled by who started it."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK)

    async def look(self) -> None:
        """Connect to the workers that are new, or that a new process has replaced."""
        async with self._looking:
            for token, inode in self._sockets():
                known = self._peers.get(token)
                if known is None or known.inode != inode:
                    await self._connect(token, inode)

    def _sockets(self) -> list[tuple[str, int]]:
        try:
            return [(path.name, path.stat().st_ino) for path in self._folder.iterdir() if path.is_socket()]
        except OSError:
            return []  # Not made yet, or a socket that went while we looked: the next look will see.

    async def _connect(self, token: str, inode: int) -> None:
        try:
            async with asyncio.timeout(WITHIN):
                reader, writer = await asyncio.open_unix_connection(str(self._folder / token))
        except (OSError, TimeoutError):
            return  # A socket that nobody listens on: a worker that died, or is not ready.
        old = self._peers.pop(token, None)
        if old is not None:
            old.lost()
        peer = self._peers[token] = Peer(token, inode, writer)
        peer.send(inquiry.Subscribe(self._wanted))
        task = asyncio.create_task(self._read(peer, reader))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def _read(self, peer: Peer, reader: asyncio.StreamReader) -> None:
        frames = inquiry.Frames()
        try:
            while data := await reader.read(1 << 18):
                for frame in frames.feed(data):
                    match frame:
                        case inquiry.Reply():
                            peer.answered(frame)
                        case inquiry.Happened(event):
                            self._on_event(event)
        except (OSError, inquiry.BrokenFrame) as error:
            log.warning("worker %s: %s", peer.token, error)
        finally:
            peer.lost()
            if self._peers.get(peer.token) is peer:
                del self._peers[peer.token]

    async def close(self) -> None:
        for task in list(self._readers):
            task.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    # ---- asking

    def want(self, names: Iterable[str]) -> None:
        """Which events anybody here listens to."""
        wanted = sorted(names)
        if wanted != self._wanted:
            self._wanted = wanted
            for peer in self._peers.values():
                peer.send(inquiry.Subscribe(wanted))

    async def ask_all(self, verb: str, words: Sequence[str] = ()) -> list[Any]:
        """The values of those that answered; the log names the others."""
        await self.look()
        asked = [peer.ask(verb, words, WITHIN) for peer in self._peers.values()]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        values = []
        for answer in answers:
            if isinstance(answer, Refused):
                log.debug("%s", answer)
            elif isinstance(answer, Silent):
                log.warning("%s; the answer is that of the others", answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                values.append(answer)
        return values

    async def ask_profile(self, profile: str, verb: str, words: Sequence[str] = (), *, within: float = WITHIN) -> Any:
        """The answer of one worker of that profile. Raises Silent."""
        await self.look()
        for peer in self._peers.values():
            if peer.profile == profile:
                return await peer.ask(verb, words, within)
        raise Silent(f"profile {profile} has no worker here")

    @property
    def profiles(self) -> set[str]:
        """The profiles that have a worker."""
        return {peer.profile for peer in self._peers.values()}
