"""A client's connection to an event socket: logs in, asks, and passes on what comes by itself."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable

from node.console import protocol
from node.console.protocol import Message, MessageReader

EXECUTE = (("console_execute", "true"),)
"What makes `api` run a line as a console does."


class CannotConnect(Exception):
    """Nobody there, not allowed, or the wrong password: one sentence for the operator."""


class Disconnected(Exception):
    """The other side has ended the connection."""


class Connection:
    """Ask with `request` or `api`, one after the other; events and log lines go to `on_message`."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        on_message: Callable[[Message], None] = lambda message: None,
        trace: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._on_message = on_message
        self._trace = trace
        self._messages = MessageReader()
        self._waiting: deque[asyncio.Future[Message]] = deque()
        self._greeting: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._read())
        self.lost = asyncio.Event()

    @classmethod
    async def open(
        cls,
        host: str,
        port: int,
        *,
        within: float = 5.0,
        on_message: Callable[[Message], None] = lambda message: None,
        trace: Callable[[str], None] = lambda text: None,
    ) -> Connection:
        """Raises CannotConnect."""
        try:
            async with asyncio.timeout(within):
                reader, writer = await asyncio.open_connection(host, port)
        except TimeoutError as error:
            raise CannotConnect(f"{host}:{port} does not answer within {within:g} s") from error
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise CannotConnect(
                f"cannot connect to {host}:{port}: {reason}. Is the node running, and is this its event socket?"
            ) from error
        connection = cls(reader, writer, on_message=on_message, trace=trace)
        try:
            async with asyncio.timeout(within):
                greeting = await connection._greeting
        except (TimeoutError, Disconnected) as error:
            await connection.close()
            raise CannotConnect(f"{host}:{port} is no event socket: it does not greet as one") from error
        if greeting.kind == "text/rude-rejection":
            await connection.close()
            raise CannotConnect(f"{host}:{port} does not allow this host (apply-inbound-acl of event_socket.conf)")
        return connection

    async def login(self, password: str, user: str = "", *, within: float = 10.0) -> None:
        """Raises CannotConnect."""
        line = f"userauth {user}:{password}" if user else f"auth {password}"
        try:
            async with asyncio.timeout(within):
                reply = (await self.request(line)).reply
        except TimeoutError as error:
            raise CannotConnect("the node does not answer the login") from error
        except Disconnected as error:
            raise CannotConnect("the node has closed the connection at the login") from error
        if not reply.startswith("+OK"):
            await self.close()
            raise CannotConnect("the node refuses the password")

    async def request(self, line: str, headers: Iterable[tuple[str, str]] = ()) -> Message:
        """Send a command and wait for its reply. Raises Disconnected."""
        if self.lost.is_set():
            raise Disconnected
        future: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        data = protocol.command(line, headers)
        self._trace("> " + ("auth ..." if line.startswith(("auth ", "userauth ")) else line))
        self._waiting.append(future)
        self._writer.write(data)
        return await future

    async def api(self, line: str) -> str:
        """The text that a command line writes. Raises Disconnected."""
        return (await self.request(f"api {line}", EXECUTE)).body

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._writer.close()

    # ---- what the network brings

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(1 << 16):
                for message in self._messages.feed(data):
                    self._trace(f"< {message.kind} {message.reply}".rstrip())
                    self._take(message)
        except (OSError, protocol.TooMuch):
            pass
        finally:
            self.lost.set()
            self._fail_all()

    def _take(self, message: Message) -> None:
        if not self._greeting.done():
            self._greeting.set_result(message)
        elif message.kind in ("command/reply", "api/response") and self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(message)
        else:
            self._on_message(message)

    def _fail_all(self) -> None:
        for future in (self._greeting, *self._waiting):
            if not future.done():
                future.set_exception(Disconnected())
                future.exception()  # Looked at, so that one nobody waits for is not complained about.
        self._waiting.clear()
