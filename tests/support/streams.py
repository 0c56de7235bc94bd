"""A phone on TCP, TLS, WS or WSS; the WebSocket is that of the library `websockets`, so not of our making."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import ssl
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from tests.support.phone import Phone
from tests.support.sipmessage import Sip

SECURE = ("TLS", "WSS")


class StreamPhone(Phone):
    """A phone with one connection to its registrar, which it makes again when it is told to `reconnect`."""

    def __init__(
        self,
        user: str,
        password: str,
        server: tuple[str, int],
        transport: str,
        *,
        domain: str,
        trust: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        instance: str = "",
    ) -> None:
        super().__init__(user, password, server, domain=domain, host=host)
        self.transport, self.trust, self.instance = transport, trust, instance
        self.name = f"{secrets.token_hex(6)}.invalid"
        "Where a browser says it is (RFC 7118 5)."
        self.gone = asyncio.Event()
        "The connection has been closed by the other side."
        self._sent: set[tuple[str, str]] = set()
        self._say: Callable[[bytes], None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._close: Callable[[], None] = lambda: None

    async def __aenter__(self) -> StreamPhone:
        await self.reconnect()
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for line in self.lines.values():
            line.close()
        self.disconnect()
        self._socket.close()

    def disconnect(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._say = None
        self._close()

    async def reconnect(self, within: float = 20.0) -> None:
        """Connect; while nobody listens, again and again."""
        self.disconnect()
        async with asyncio.timeout(within):
            while True:
                try:
                    await (self._connect_web() if self.transport in ("WS", "WSS") else self._connect())
                    break
                except (OSError, WebSocketException):
                    await asyncio.sleep(0.05)
        self.gone.clear()
        self._sent.clear()

    @property
    def contact(self) -> str:
        if self.transport in ("WS", "WSS"):
            return f"sip:{self.user}@{self.name};transport=ws"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"sip:{self.user}@{host}:{self.port};transport={self.transport.lower()}"

    async def register(self, expires: int = 3600, contact: str = "") -> Sip:
        extra = f';+sip.instance="<urn:uuid:{self.instance}>";reg-id=1' if self.instance else ""
        uri, who = f"sip:{self.domain}", f"<sip:{self.user}@{self.domain}>"
        fields = [("Contact", f"<{contact or self.contact}>{extra}"), ("Expires", str(expires))]
        return await self._authenticated("REGISTER", uri, self._register_id, who, fields)

    def via(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        sent_by = self.name if self.transport in ("WS", "WSS") else f"{host}:{self.port}"
        return f"SIP/2.0/{self.transport} {sent_by};rport;branch=z9hG4bK{secrets.token_hex(8)}"

    def send(self, message: Sip, to: tuple[str, int] | None = None) -> None:
        """By the connection, whatever the address; a request that was sent is not sent again."""
        if not message.is_response and message.method != "ACK":
            if (message.branch, message.method) in self._sent:
                return
            self._sent.add((message.branch, message.method))
        if self._say is not None:
            self._say(message.encode())

    # ---- the connection ----------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        trust = self.trust if self.transport in SECURE else None
        reader, writer = await asyncio.open_connection(*self.server, ssl=trust, local_addr=(self.host, 0))
        self.port = writer.get_extra_info("sockname")[1]
        self._say, self._close = writer.write, writer.close
        self._tasks.append(asyncio.create_task(self._hear(reader)))

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                head = head.lstrip(b"\r\n")
                if not head:
                    continue
                fields = (line.partition(b":") for line in head.split(b"\r\n"))
                sizes = [int(value) for name, _, value in fields if name.strip().lower() in (b"content-length", b"l")]
                self.arrived(head + await reader.readexactly(sum(sizes)), self.server)
        self.gone.set()

    async def _connect_web(self) -> None:
        host = f"[{self.server[0]}]" if ":" in self.server[0] else self.server[0]
        uri = f"{self.transport.lower()}://{host}:{self.server[1]}/"
        trust = self.trust if self.transport in SECURE else None
        socket = await connect(
            uri, subprotocols=[Subprotocol("sip")], ssl=trust, proxy=None, ping_interval=None, close_timeout=1
        )
        assert socket.subprotocol == "sip"
        out: asyncio.Queue[bytes] = asyncio.Queue()
        self._say, self._close = out.put_nowait, socket.transport.abort
        self._tasks += [asyncio.create_task(self._hear_web(socket)), asyncio.create_task(_say_all(socket, out))]

    async def _hear_web(self, socket: ClientConnection) -> None:
        with contextlib.suppress(WebSocketException):
            async for message in socket:
                data = message.encode() if isinstance(message, str) else message
                if data.strip():
                    self.arrived(data, self.server)
        self.gone.set()


async def _say_all(socket: ClientConnection, out: asyncio.Queue[bytes]) -> None:
    with contextlib.suppress(WebSocketException):
        while True:
            await socket.send((await out.get()).decode())
