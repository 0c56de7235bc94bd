"""A scripted SIP phone: registers, calls, answers, holds, hangs up, with numbered audio; keeps every message it saw."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time

from tests.support.netns import Host
from tests.support.rtp import Audio
from tests.support.sipmessage import Sip, address_of, audio_address, digest, uri_of

T1, T2, GIVE_UP = 0.5, 4.0, 32.0


class Refused(Exception):
    """A request was answered with something other than success."""

    def __init__(self, answer: Sip) -> None:
        super().__init__(answer.start)
        self.answer = answer


class Phone:
    """One user on one UDP socket. Use as an async context manager."""

    def __init__(
        self,
        user: str,
        password: str,
        server: tuple[str, int],
        *,
        domain: str,
        host: str = "127.0.0.1",
        port: int = 0,
        namespace: Host | None = None,
    ) -> None:
        self.user, self.password, self.server, self.domain, self.host = user, password, server, domain, host
        self.namespace = namespace
        with self.inside():
            self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((host, port))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self.seen: list[tuple[float, Sip]] = []
        self.incoming: asyncio.Queue[Line] = asyncio.Queue()
        self.lines: dict[str, Line] = {}
        self._waiting: dict[tuple[str, str], asyncio.Queue[Sip]] = {}
        self._cseq, self._register_id = 0, secrets.token_hex(8)

    async def __aenter__(self) -> Phone:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._read)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        for line in self.lines.values():
            line.close()
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def inside(self) -> contextlib.AbstractContextManager[None]:
        """Where this phone's sockets are made."""
        return self.namespace.inside() if self.namespace is not None else contextlib.nullcontext()

    @property
    def contact(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"sip:{self.user}@{host}:{self.port}"

    def statuses(self, method: str = "") -> list[int]:
        """The statuses of all responses seen, to one method or to all."""
        return [m.status for _at, m in self.seen if m.is_response and method in ("", m.method)]

    # ---- what a user does -------------------------------------------------------------------------------------------

    async def register(self, expires: int = 3600, contact: str = "") -> Sip:
        """Register with digest, this phone's own contact or another one; returns the 200."""
        uri, who = f"sip:{self.domain}", f"<sip:{self.user}@{self.domain}>"
        extra = [("Contact", f"<{contact or self.contact}>"), ("Expires", str(expires))]
        return await self._authenticated("REGISTER", uri, self._register_id, who, extra)

    async def call(self, number: str, *headers: tuple[str, str], sdp: bool = True) -> Line:
        """Send an INVITE (answering its challenge) and return the line as soon as it is on its way."""
        line = self.new_line(outbound=True, audio=sdp)
        line.headers = list(headers)
        line.local = f'"{self.user}" <sip:{self.user}@{self.domain}>;tag={line.tag}'
        line.remote = f"<sip:{number}@{self.domain}>"
        line.target = f"sip:{number}@{self.domain}"
        self.lines[line.call_id] = line
        line.task = asyncio.create_task(line.dial())
        return line

    def new_line(self, *, outbound: bool, audio: bool) -> Line:
        """A line of the kind this phone has."""
        return Line(self, outbound=outbound, audio=audio)

    async def answer_next(self, within: float = 5.0) -> Line:
        line = await self.next_line(within)
        line.answer()
        return line

    async def next_line(self, within: float = 5.0) -> Line:
        async with asyncio.timeout(within):
            return await self.incoming.get()

    # ---- transactions -----------------------------------------------------------------------------------------------

    async def request(self, message: Sip, to: tuple[str, int] | None = None, on_provisional=None) -> Sip:  # type: ignore[no-untyped-def]
        """Send a request until it is answered (RFC 3261 17.1, UDP); returns the final response."""
        key = (message.branch, message.method)
        answers = self._waiting[key] = asyncio.Queue()
        resend, started, provisional = T1, time.monotonic(), False
        self.send(message, to)
        try:
            while True:
                limit = None if provisional and message.method == "INVITE" else resend
                try:
                    async with asyncio.timeout(limit):
                        answer = await answers.get()
                except TimeoutError:
                    if time.monotonic() - started > GIVE_UP:
                        raise
                    resend = resend * 2 if message.method == "INVITE" else min(resend * 2, T2)
                    self.send(message, to)
                    continue
                if answer.status >= 200:
                    return answer
                provisional = True
                if on_provisional is not None:
                    on_provisional(answer)
        finally:
            if message.method != "INVITE":
                self._waiting.pop(key, None)

    async def _authenticated(self, method: str, uri: str, call_id: str, who: str, extra: list[tuple[str, str]]) -> Sip:
        tag, authorization = secrets.token_hex(4), []
        for _attempt in range(3):
            self._cseq += 1
            fields = [
                ("Via", self.via()),
                ("Max-Forwards", "70"),
                ("From", f"{who};tag={tag}"),
                ("To", who),
                ("Call-ID", call_id),
                ("CSeq", f"{self._cseq} {method}"),
                ("User-Agent", "scripted-phone"),
            ]
            answer = await self.request(Sip(f"{method} {uri} SIP/2.0", fields + authorization + extra))
            if answer.status != 401:
                break
            value = digest(answer.get("WWW-Authenticate"), self.user, self.password, method, uri)
            authorization = [("Authorization", value)]
        if answer.status != 200:
            raise Refused(answer)
        return answer

    def via(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"SIP/2.0/UDP {host}:{self.port};rport;branch=z9hG4bK{secrets.token_hex(8)}"

    def send(self, message: Sip, to: tuple[str, int] | None = None) -> None:
        # A dead node's port answers ICMP, which the kernel reports on the next send: a phone shrugs at it.
        with contextlib.suppress(ConnectionError):
            self._socket.sendto(message.encode(), to or self.server)

    # ---- what the network brings ------------------------------------------------------------------------------------

    def _read(self) -> None:
        while True:
            try:
                packet, source = self._socket.recvfrom(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            self.arrived(packet, source)

    def arrived(self, packet: bytes, source: tuple[str, int]) -> None:
        """One message came."""
        message = Sip.parse(packet)
        self.seen.append((time.monotonic(), message))
        if message.is_response:
            self._on_response(message)
        else:
            self._on_request(message, source)

    def _on_response(self, message: Sip) -> None:
        queue = self._waiting.get((message.branch, message.method))
        line = self.lines.get(message.call_id)
        if message.method == "INVITE" and message.status >= 300:
            self.send(_ack_for_refusal(message, line.target if line else self.domain))
        if message.method == "INVITE" and 200 <= message.status < 300 and line and line.acknowledge_again(message):
            return
        if queue is not None:
            queue.put_nowait(message)

    def _on_request(self, message: Sip, source: tuple[str, int]) -> None:
        line = self.lines.get(message.call_id)
        if line is not None:
            line.on_request(message, source)
        elif message.method == "INVITE":
            line = self.lines[message.call_id] = self.new_line(outbound=False, audio=True)
            line.ring(message, source)
            self.incoming.put_nowait(line)
        elif message.method in ("OPTIONS", "NOTIFY"):
            self.send(message.answer(200, "OK", secrets.token_hex(4)), source)
        elif message.method != "ACK":
            self.send(message.answer(481, "Call/Transaction Does Not Exist", secrets.token_hex(4)), source)


class Line:
    """One call as this phone sees it."""

    def __init__(self, phone: Phone, *, outbound: bool, audio: bool) -> None:
        self.phone, self.outbound = phone, outbound
        self.tag, self.call_id = secrets.token_hex(5), f"{secrets.token_hex(8)}@{phone.host}"
        self.local = self.remote = self.target = ""
        self.routes: list[str] = []
        self.cseq = 0
        self.headers: list[tuple[str, str]] = []
        "What else its INVITE says."
        with phone.inside():
            self.audio = Audio(phone.host) if audio else None
        self.ringing, self.answered, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.refused: Sip | None = None
        self.ended_by = ""
        self.task: asyncio.Task[None] | None = None
        self.remote_sdp = ""
        self.reinvited = 0
        self.reported: list[int] = []
        "What NOTIFYs said of a transfer, as statuses."
        self.notices: list[Sip] = []
        self._notified = asyncio.Event()
        self._invite: Sip | None = None
        self._source: tuple[str, int] | None = None
        self._final: Sip | None = None
        self._repeat: asyncio.Task[None] | None = None
        self._acks: dict[int, Sip] = {}
        self._version = 1

    # ---- calling ----------------------------------------------------------------------------------------------------

    async def dial(self) -> None:
        authorization: list[tuple[str, str]] = []
        for _attempt in range(3):
            self._invite = self._request("INVITE", authorization + self.headers, self._sdp() if self.audio else "")
            answer = await self.phone.request(self._invite, on_provisional=self._on_provisional)
            if answer.status not in (401, 407):
                break
            name = "Proxy-Authenticate" if answer.status == 407 else "WWW-Authenticate"
            value = digest(answer.get(name), self.phone.user, self.phone.password, "INVITE", self.target)
            authorization = [("Proxy-Authorization" if answer.status == 407 else "Authorization", value)]
        if answer.status >= 300:
            self.refused = answer
            self.ended_by = "refused"
            self.ended.set()
            return
        self._establish(answer)

    def _establish(self, answer: Sip) -> None:
        self.remote = answer.get("To")
        self.target = uri_of(answer.get("Contact"))
        self.routes = list(reversed(answer.all("Record-Route")))
        self._acknowledge(answer)
        self._take_sdp(answer.body)
        self.answered.set()

    def _on_provisional(self, answer: Sip) -> None:
        if answer.status >= 180:
            self.ringing.set()
            if answer.body:
                self._take_sdp(answer.body)

    async def cancel(self) -> Sip:
        """Give up while it rings; returns the final answer to the INVITE (a 487 if all is well)."""
        assert self._invite is not None
        fields = [(n, v) for n, v in self._invite.fields if n in ("Via", "Max-Forwards", "From", "To", "Call-ID")]
        cancel = Sip(f"CANCEL {self.target} SIP/2.0", [*fields, ("CSeq", f"{self._invite.cseq} CANCEL")])
        answer = await self.phone.request(cancel)
        if answer.status != 200:
            raise Refused(answer)
        async with asyncio.timeout(10):
            await self.ended.wait()
        assert self.refused is not None
        return self.refused

    # ---- being called -----------------------------------------------------------------------------------------------

    def ring(self, invite: Sip, source: tuple[str, int]) -> None:
        self._invite, self._source = invite, source
        self.call_id = invite.call_id
        self.local = f"{invite.get('To')};tag={self.tag}"
        self.remote, self.target = invite.get("From"), uri_of(invite.get("Contact"))
        self.routes = invite.all("Record-Route")
        if invite.body:
            self._take_sdp(invite.body)
        self._respond(180, "Ringing")
        self.ringing.set()

    def answer(self) -> None:
        """Answer 200, again and again until the ACK comes."""
        self._final = self._respond(200, "OK", self._sdp())
        self._repeat = asyncio.create_task(self._repeat_final())

    def reject(self, status: int = 486, reason: str = "Busy Here") -> None:
        """Refuse, again and again until the ACK comes."""
        self._final = self._respond(status, reason)
        self._repeat = asyncio.create_task(self._repeat_final())
        self.ended_by = "rejected"
        self.ended.set()

    # ---- in the call ------------------------------------------------------------------------------------------------

    async def hangup(self) -> Sip:
        """Send BYE; returns the answer to it."""
        answer = await self.phone.request(self._request("BYE"), self._next_hop())
        self.ended_by = self.ended_by or "us"
        self.ended.set()
        self.close()
        return answer

    async def reinvite(self, direction: str = "sendrecv") -> Sip:
        self._version += 1
        answer = await self.phone.request(self._request("INVITE", [], self._sdp(direction)), self._next_hop())
        if answer.status == 200:
            self._acknowledge(answer)
            self._take_sdp(answer.body)
        return answer

    async def refer(self, to: str, *headers: tuple[str, str]) -> Sip:
        """Ask for a transfer: `to` is a Refer-To as it stands. What becomes of it comes into `reported`."""
        extra = [("Refer-To", to), ("Referred-By", f"<sip:{self.phone.user}@{self.phone.domain}>"), *headers]
        return await self.phone.request(self._request("REFER", extra), self._next_hop())

    def replacement(self, other: Line) -> str:
        """The Refer-To that asks for this line's partner to take the place of `other`, a second line of this phone."""
        tag = other.remote.partition(";tag=")[2]
        escaped = f"{other.call_id}%3Bto-tag%3D{tag}%3Bfrom-tag%3D{other.tag}".replace("@", "%40")
        number = other.remote.partition("sip:")[2].partition("@")[0]
        return f"<sip:{number}@{self.phone.domain}?Replaces={escaped}>"

    async def heard_of(self, status: int, within: float = 5.0) -> None:
        """Wait until a NOTIFY has said so."""
        async with asyncio.timeout(within):
            while status not in self.reported:
                self._notified.clear()
                await self._notified.wait()

    def close(self) -> None:
        for task in (self._repeat, self.task):
            if task is not None:
                task.cancel()
        if self.audio is not None:
            self.audio.close()

    def on_request(self, message: Sip, source: tuple[str, int]) -> None:
        match message.method:
            case "ACK":
                if self._repeat is not None:
                    self._repeat.cancel()
                if self.ended_by == "rejected":
                    return
                self.answered.set()
                if message.body:
                    self._take_sdp(message.body)
            case "INVITE" if self._invite is not None and message.branch == self._invite.branch:
                if self._final is not None:
                    self.phone.send(self._final, self._source)
                else:
                    self._respond(180, "Ringing")
            case "INVITE":
                self.reinvited += 1
                self.target = uri_of(message.get("Contact"))
                self._take_sdp(message.body)
                self.phone.send(self._answer_to(message, 200, "OK", self._sdp()), source)
            case "CANCEL":
                self.phone.send(message.answer(200, "OK", self.tag), source)
                self._respond(487, "Request Terminated")
                self.ended_by = "cancelled"
                self.ended.set()
            case "BYE":
                self.phone.send(message.answer(200, "OK", self.tag), source)
                self.ended_by = self.ended_by or "them"
                self.ended.set()
                self.close()
            case "NOTIFY":
                self.phone.send(message.answer(200, "OK", self.tag), source)
                if message.body.startswith("SIP/2.0 "):
                    self.reported.append(int(message.body.split()[1]))
                    self.notices.append(message)
                    self._notified.set()
            case _:
                self.phone.send(message.answer(200, "OK", self.tag), source)

    def acknowledge_again(self, answer: Sip) -> bool:
        """A repeated 200 to an INVITE gets the same ACK again (RFC 3261 13.2.2.4)."""
        ack = self._acks.get(answer.cseq)
        if ack is not None:
            self.phone.send(ack, self._next_hop())
        return ack is not None

    # ---- parts ------------------------------------------------------------------------------------------------------

    def _request(self, method: str, extra: list[tuple[str, str]] | None = None, body: str = "") -> Sip:
        self.cseq += 1
        fields = [
            ("Via", self.phone.via()),
            *(("Route", route) for route in self.routes),
            ("Max-Forwards", "70"),
            ("From", self.local),
            ("To", self.remote),
            ("Call-ID", self.call_id),
            ("CSeq", f"{self.cseq} {method}"),
            ("Contact", f"<{self.phone.contact}>"),
            *(extra or []),
        ]
        if body:
            fields.append(("Content-Type", "application/sdp"))
        return Sip(f"{method} {self.target} SIP/2.0", fields, body)

    def _acknowledge(self, answer: Sip) -> None:
        ack = self._request("ACK")
        self.cseq -= 1
        ack.fields = [(n, f"{answer.cseq} ACK" if n == "CSeq" else v) for n, v in ack.fields]
        self._acks[answer.cseq] = ack
        self.phone.send(ack, self._next_hop())

    def _next_hop(self) -> tuple[str, int] | None:
        if self.routes:
            return address_of(uri_of(self.routes[0]))
        with contextlib.suppress(AssertionError, OSError):
            return address_of(self.target)
        return None

    def _respond(self, status: int, reason: str, sdp: str = "") -> Sip:
        assert self._invite is not None
        response = self._answer_to(self._invite, status, reason, sdp)
        self.phone.send(response, self._source)
        return response

    def _answer_to(self, request: Sip, status: int, reason: str, sdp: str = "") -> Sip:
        extra = [("Contact", f"<{self.phone.contact}>")] + ([("Content-Type", "application/sdp")] if sdp else [])
        return request.answer(status, reason, self.tag, extra, sdp)

    async def _repeat_final(self) -> None:
        pause = T1
        while self._final is not None and pause < GIVE_UP:
            await asyncio.sleep(pause)
            self.phone.send(self._final, self._source)
            pause = min(pause * 2, T2) if pause < T2 else pause

    def _take_sdp(self, sdp: str) -> None:
        if not sdp or self.audio is None:
            return
        self.remote_sdp = sdp
        self.audio.start(audio_address(sdp))

    def _sdp(self, direction: str = "sendrecv") -> str:
        assert self.audio is not None
        family = "IP6" if ":" in self.phone.host else "IP4"
        return (
            f"v=0\r\no={self.phone.user} 1 {self._version} IN {family} {self.phone.host}\r\ns=-\r\n"
            f"c=IN {family} {self.phone.host}\r\nt=0 0\r\nm=audio {self.audio.port} RTP/AVP 0 8 101\r\n"
            "a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\n"
            f"a=fmtp:101 0-15\r\na={direction}\r\n"
        )


def _ack_for_refusal(answer: Sip, target: str) -> Sip:
    kept = [(n, v) for n, v in answer.fields if n.lower() in ("from", "to", "call-id")]
    via = [("Via", answer.get("Via")), ("Max-Forwards", "70")]
    return Sip(f"ACK {target} SIP/2.0", [*via, *kept, ("CSeq", f"{answer.cseq} ACK")])
