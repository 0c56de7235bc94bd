"""A TCP proxy between a client and its server, to be a bad network or a bad server at will, or the TLS of one that has none.

    with TcpProxy(("127.0.0.1", server.port)) as proxy:
        client = connect("127.0.0.1", proxy.port)
        proxy.freeze()

It runs in a thread of its own; its methods may be called from any other. A fault holds for the connections that there
are and for those to come, until the next one or `restore`.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum
from types import TracebackType
from typing import Any, Self

RESET = struct.pack("ii", 1, 0)
"SO_LINGER of zero seconds: closing sends RST."

ATTENTION = 10.0
"Seconds the thread may take to do what it is told."


class Fault(Enum):
    NONE = "passes everything on"
    FROZEN = "takes connections and bytes, and passes nothing on; what came meanwhile follows when it is over"
    CUT = "resets its connections and takes no new ones"
    GARBAGE = "answers random bytes to whatever the client says, and greets with some"
    UNANSWERED = "passes requests on, and resets the connection when the answer comes"


class TcpProxy:
    """Listens on a loopback port, passes on to `target`, as faithfully as the fault allows.

    With `shows` its clients speak TLS with it, with `trusts` it does with its target.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        shows: ssl.SSLContext | None = None,
        trusts: ssl.SSLContext | None = None,
    ) -> None:
        self.target = target
        self.shows, self.trusts = shows, trusts
        self.fault = Fault.NONE
        self.lag = 0.0
        "Seconds by which each piece arrives later, in each direction."
        self.accepted = 0
        "Connections taken since it was started."
        self.chance = random.Random(0)
        self.host = host
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self.changed = asyncio.Event()
        "Set and replaced whenever the fault changes."

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._do(self._switch(Fault.CUT))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ATTENTION)
        self._loop.close()

    # ---- faults ------------------------------------------------------------------------------------------------------

    def restore(self) -> None:
        """Be a good network again, on the same port."""
        self.lag = 0.0
        self._do(self._switch(Fault.NONE))

    def delay(self, seconds: float) -> None:
        self.lag = seconds

    def freeze(self) -> None:
        self._do(self._switch(Fault.FROZEN))

    def cut(self) -> None:
        self._do(self._switch(Fault.CUT))

    def garbage(self, seed: int = 0) -> None:
        self.chance.seed(seed)
        self._do(self._switch(Fault.GARBAGE))

    def lose_answers(self) -> None:
        self._do(self._switch(Fault.UNANSWERED))

    def reset(self) -> None:
        """Break the connections that there are, once; new ones are welcome."""
        self._do(self._reset())

    # ---- in its thread -----------------------------------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(ATTENTION)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=256, ssl=self.shows)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _switch(self, fault: Fault) -> None:
        self.fault = fault
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        if fault is Fault.CUT:
            if self._server is not None:
                self._server.close()
                self._server = None
            await self._reset()
        elif self._server is None:
            await self._listen()

    async def _reset(self) -> None:
        connections = list(self._connections)
        for connection in connections:
            connection.reset()
        await asyncio.gather(*(connection.over for connection in connections))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)
            connection.over.set_result(None)


class Connection:
    """One client's connection and ours to the server."""

    def __init__(self, proxy: TcpProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._proxy = proxy
        self._client = reader, writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._task: asyncio.Future[Any] | None = None

    async def run(self) -> None:
        self._task = asyncio.ensure_future(self._pass_on())
        try:
            await self._task
        except (asyncio.CancelledError, OSError):
            pass
        finally:
            for stream in (self._client, self._server):
                if stream is not None:
                    _reset(stream[1])

    def reset(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _pass_on(self) -> None:
        await self._thaw()
        if self._proxy.fault is Fault.GARBAGE:
            await self._babble(self._client[1])
        self._server = await asyncio.open_connection(*self._proxy.target, ssl=self._proxy.trusts)
        there = asyncio.ensure_future(self._pump(self._client[0], self._server[1], self._request))
        back = asyncio.ensure_future(self._pump(self._server[0], self._client[1], self._answer))
        try:
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        finally:
            there.cancel()
            back.cancel()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, change: Callable[[bytes], bytes]
    ) -> None:
        """Read at once, pass on when it is time."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        loop = asyncio.get_running_loop()

        async def deliver() -> None:
            while True:
                due, piece = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self._thaw()
                piece = change(piece)
                if piece:
                    sink.write(piece)
                    await sink.drain()
                waiting.task_done()

        delivering = asyncio.ensure_future(deliver())
        try:
            while piece := await source.read(65536):
                waiting.put_nowait((loop.time() + self._proxy.lag, piece))
                if delivering.done():
                    return
            done = asyncio.ensure_future(waiting.join())
            await asyncio.wait([done, delivering], return_when=asyncio.FIRST_COMPLETED)
            done.cancel()
        finally:
            delivering.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await delivering

    def _request(self, piece: bytes) -> bytes:
        if self._proxy.fault is not Fault.GARBAGE:
            return piece
        self._client[1].write(self._proxy.chance.randbytes(self._proxy.chance.randint(1, 200)))
        return b""

    def _answer(self, piece: bytes) -> bytes:
        match self._proxy.fault:
            case Fault.GARBAGE:
                return b""
            case Fault.UNANSWERED:
                self.reset()
                return b""
            case _:
                return piece

    async def _babble(self, writer: asyncio.StreamWriter) -> None:
        writer.write(self._proxy.chance.randbytes(64))
        await writer.drain()

    async def _thaw(self) -> None:
        while self._proxy.fault is Fault.FROZEN:
            await self._proxy.changed.wait()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
