"""Many phones that refresh their registrations, from one socket; they know what they were told."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.netns import Host
from tests.support.sipmessage import Sip, digest

T1 = 0.5


@dataclass(slots=True)
class Registrant:
    user: str
    call_id: str = field(default_factory=lambda: f"reg-{secrets.token_hex(8)}")
    tag: str = field(default_factory=lambda: secrets.token_hex(5))
    cseq: int = 0
    confirmed: int = 0
    "CSeq of the last REGISTER that was answered 200."
    refused: list[int] = field(default_factory=list)


class Registrants:
    """Use as an async context manager; `refresh` runs until it is cancelled or its time is over."""

    def __init__(
        self, server: tuple[str, int], domain: str, password: str, users: Sequence[str], *, host: Host | None = None
    ) -> None:
        self.server, self.domain, self.password = server, domain, password
        self.all = {user: Registrant(user) for user in users}
        self.took: list[float] = []
        "Seconds from the REGISTER with credentials to its 200."
        with host.inside() if host is not None else contextlib.nullcontext():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._address = host.address if host is not None else "127.0.0.1"
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind((self._address, 0))
        self._socket.setblocking(False)
        self._waiting: dict[str, asyncio.Future[Sip]] = {}

    async def __aenter__(self) -> Registrants:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    async def refresh(self, rate: float, seconds: float) -> int:
        """Refresh all of them in turn, so many a second; returns how many were answered 200."""
        count, end = len(self.took), time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for number, registrant in enumerate(self.all.values()):
                group.create_task(self._keep(registrant, len(self.all) / rate, number / rate, end))
        return len(self.took) - count

    async def _keep(self, registrant: Registrant, period: float, offset: float, end: float) -> None:
        due = time.monotonic() + offset
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await self.register(registrant)
            due = max(due + period, time.monotonic())

    async def register(self, registrant: Registrant) -> None:
        answer = await self._ask(registrant, [])
        if answer.status == 401:
            challenge = answer.get("WWW-Authenticate")
            uri = f"sip:{self.domain}"
            value = digest(challenge, registrant.user, self.password, "REGISTER", uri)
            asked = time.monotonic()
            answer = await self._ask(registrant, [("Authorization", value)])
            self.took.append(time.monotonic() - asked)
        if answer.status == 200:
            registrant.confirmed = answer.cseq
        else:
            registrant.refused.append(answer.status)

    async def _ask(self, registrant: Registrant, authorization: list[tuple[str, str]]) -> Sip:
        registrant.cseq += 1
        branch = f"z9hG4bK{secrets.token_hex(8)}"
        port = self._socket.getsockname()[1]
        aor = f"<sip:{registrant.user}@{self.domain}>"
        fields = [
            ("Via", f"SIP/2.0/UDP {self._address}:{port};rport;branch={branch}"),
            ("Max-Forwards", "70"),
            ("From", f"{aor};tag={registrant.tag}"),
            ("To", aor),
            ("Call-ID", registrant.call_id),
            ("CSeq", f"{registrant.cseq} REGISTER"),
            ("Contact", f"<sip:{registrant.user}@{self._address}:{port}>"),
            ("Expires", "600"),
            *authorization,
        ]
        data = Sip(f"REGISTER sip:{self.domain} SIP/2.0", fields).encode()
        answered = self._waiting[branch] = asyncio.get_running_loop().create_future()
        pause = T1
        try:
            while True:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    self._socket.sendto(data, self.server)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        return await asyncio.shield(answered)
                pause = min(4.0, pause * 2)
        finally:
            del self._waiting[branch]

    def _read(self) -> None:
        for _ in range(64):
            try:
                packet = self._socket.recv(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            message = Sip.parse(packet)
            answered = self._waiting.get(message.branch)
            if message.is_response and message.status >= 200 and answered is not None and not answered.done():
                answered.set_result(message)
