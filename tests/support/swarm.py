"""Many calls at once from two sockets, one for all callers and one for all callees; lean, without audio.

Each call knows what its caller saw, so that after a fault the promise can be put to the test: a call whose caller saw
the 200 can be hung up from either side, and each BYE is answered 200.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import secrets
import socket
import time
from dataclasses import dataclass, field

from tests.support.netns import Host
from tests.support.phone import Phone
from tests.support.sipmessage import Sip, digest, uri_of

T1, T2, GIVE_UP = 0.5, 4.0, 32.0
SDP = "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"


@dataclass(slots=True)
class Side:
    """One side of a call: what its dialog needs."""

    call_id: str
    tag: str = field(default_factory=lambda: secrets.token_hex(5))
    local: str = ""
    remote: str = ""
    target: str = ""
    cseq: int = 0
    ended: bool = False


@dataclass(slots=True)
class SwarmCall:
    """One call from the caller's view; `callee` is known once the INVITE has come out on the other side."""

    number: int
    caller: Side
    state: str = "sent"
    refused: int = 0
    reason: str = ""
    callee: Side | None = None
    invite: Sip | None = None
    hangup: int = 0
    "Status of the answer to the BYE; 0 while there is none."


class Swarm:
    """Use as an async context manager; `answer_after` is how long each callee rings, None for ever."""

    def __init__(
        self,
        server: tuple[str, int],
        domain: str,
        password: str,
        *,
        answer_after: float | None = 0.05,
        host: Host | None = None,
    ) -> None:
        self.server, self.domain, self.password, self.answer_after = server, domain, password, answer_after
        self.host, self.address = host, host.address if host is not None else "127.0.0.1"
        self.caller_user, self.callee_user = "1010", "1011"
        self.calls: dict[str, SwarmCall] = {}
        self.callees: dict[str, Side] = {}
        self._by_number: dict[int, SwarmCall] = {}
        self.statuses: collections.Counter[tuple[str, int]] = collections.Counter()
        "Final responses by method and status."
        self.ringing: dict[str, tuple[Sip, Side, tuple[str, int]]] = {}
        self._out, self._in = _socket(host), _socket(host)
        self._pending: dict[tuple[str, str], tuple[float, float, float, bytes, socket.socket]] = {}
        self._answering: dict[str, tuple[float, float, float, bytes, tuple[str, int]]] = {}
        self._byes: dict[str, SwarmCall] = {}
        self._acks: dict[tuple[str, int], bytes] = {}
        self._ticker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Swarm:
        loop = asyncio.get_running_loop()
        await self._register(600)
        loop.add_reader(self._out.fileno(), self._read, self._out)
        loop.add_reader(self._in.fileno(), self._read, self._in)
        self._ticker = asyncio.create_task(self._tick())
        return self

    async def __aexit__(self, *_exception: object) -> None:
        assert self._ticker is not None
        # A contact that nobody listens at would be rung by every call to come.
        await self._register(0)
        self._ticker.cancel()
        for sock in (self._out, self._in):
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()

    async def _register(self, expires: int) -> None:
        at = {"host": self.address, "namespace": self.host, "domain": self.domain}
        async with Phone(self.callee_user, self.password, self.server, **at) as registrant:
            contact = f"sip:{self.callee_user}@{self.address}:{self._in.getsockname()[1]}"
            await registrant.register(expires, contact=contact)

    # ---- what a test does -------------------------------------------------------------------------------------------

    async def place(self, calls: int, rate: float) -> list[SwarmCall]:
        """Place so many calls at that rate."""
        placed, due = [], time.monotonic()
        for _ in range(calls):
            placed.append(self.invite())
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        return placed

    def invite(self) -> SwarmCall:
        side = Side(f"swarm-{secrets.token_hex(8)}")
        side.local = f"<sip:{self.caller_user}@{self.domain}>;tag={side.tag}"
        side.remote = side.target = ""
        side.target = f"sip:{self.callee_user}@{self.domain}"
        side.remote = f"<{side.target}>"
        call = SwarmCall(len(self.calls), side)
        self.calls[side.call_id] = self._by_number[call.number] = call
        self._send_invite(call, [])
        return call

    def answer_all(self) -> None:
        """Let every callee that rings answer now."""
        for call_id in list(self.ringing):
            self._answer(call_id)

    def cancel(self, call: SwarmCall) -> None:
        assert call.invite is not None
        fields = [(n, v) for n, v in call.invite.fields if n in ("Via", "Max-Forwards", "From", "To", "Call-ID")]
        message = Sip(f"CANCEL {call.caller.target} SIP/2.0", [*fields, ("CSeq", f"{call.invite.cseq} CANCEL")])
        self._request(message, self._out)

    def hang_up(self, call: SwarmCall, *, by_callee: bool) -> None:
        side = call.callee if by_callee else call.caller
        assert side is not None, "the callee is not known"
        self._byes[f"{side.call_id}"] = call
        self._request(
            self._in_dialog(side, "BYE", self._in if by_callee else self._out), self._in if by_callee else self._out
        )

    async def until(self, holds, within: float) -> bool:  # type: ignore[no-untyped-def]
        """Wait until it holds; False when it does not within that time."""
        deadline = time.monotonic() + within
        while not holds():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    def states(self) -> collections.Counter[str]:
        return collections.Counter(call.state for call in self.calls.values())

    # ---- caller -----------------------------------------------------------------------------------------------------

    def _send_invite(self, call: SwarmCall, authorization: list[tuple[str, str]]) -> None:
        message = self._in_dialog(call.caller, "INVITE", self._out)
        message.fields += [*authorization, ("X-Swarm", str(call.number)), ("Content-Type", "application/sdp")]
        message.body = SDP.format(host=self.address)
        call.invite = message
        self._request(message, self._out)

    def _on_response(self, message: Sip, sock: socket.socket) -> None:
        key = (message.branch, message.method)
        call = self.calls.get(message.call_id)
        if message.status >= 200 or message.method == "INVITE":
            self._pending.pop(key, None)
        if message.status >= 200:
            self.statuses[message.method, message.status] += 1
        if message.method == "BYE" and message.status >= 200:
            self._byes[message.call_id].hangup = message.status
        if message.method != "INVITE" or call is None:
            return
        if message.status >= 300:
            self._refused(call, message)
        elif message.status >= 200:
            self._answered(call, message)
        elif message.status >= 180 and call.state == "sent":
            call.state = "ringing"

    def _refused(self, call: SwarmCall, message: Sip) -> None:
        fields = [("Via", message.get("Via")), ("Max-Forwards", "70"), ("From", message.get("From"))]
        fields += [("To", message.get("To")), ("Call-ID", message.call_id), ("CSeq", f"{message.cseq} ACK")]
        self._send(Sip(f"ACK {call.caller.target} SIP/2.0", fields).encode(), self.server, self._out)
        if message.status == 407 and call.invite is not None and message.cseq == call.invite.cseq == 1:
            uri = call.caller.target
            value = digest(message.get("Proxy-Authenticate"), self.caller_user, self.password, "INVITE", uri)
            self._send_invite(call, [("Proxy-Authorization", value)])
        elif message.status != 407:
            call.state, call.refused, call.reason = "refused", message.status, message.get("Reason") or message.start

    def _answered(self, call: SwarmCall, message: Sip) -> None:
        known = self._acks.get((message.call_id, message.cseq))
        if known is None:
            call.caller.remote, call.caller.target = message.get("To"), uri_of(message.get("Contact"))
            call.state = "answered"
            ack = self._in_dialog(call.caller, "ACK", self._out)
            call.caller.cseq -= 1
            ack.fields = [(n, f"{message.cseq} ACK" if n == "CSeq" else v) for n, v in ack.fields]
            known = self._acks[message.call_id, message.cseq] = ack.encode()
        self._send(known, self.server, self._out)

    # ---- callee -----------------------------------------------------------------------------------------------------

    def _on_request(self, message: Sip, source: tuple[str, int], sock: socket.socket) -> None:
        match message.method:
            case "INVITE" if message.call_id not in self.callees:
                self._ring(message, source)
            case "INVITE":
                known = self.ringing.get(message.call_id)
                if known is not None:
                    self._send(known[0].answer(180, "Ringing", known[1].tag, self._contact()).encode(), source, sock)
            case "ACK":
                self._answering.pop(message.call_id, None)
            case "CANCEL":
                self._cancelled(message, source)
            case "BYE":
                self._send(message.answer(200, "OK", "x").encode(), source, sock)
                self._ended(message.call_id)
            case _:
                self._send(message.answer(200, "OK", "x").encode(), source, sock)

    def _ring(self, message: Sip, source: tuple[str, int]) -> None:
        side = Side(message.call_id, remote=message.get("From"), target=uri_of(message.get("Contact")))
        side.local = f"{message.get('To')};tag={side.tag}"
        self.callees[message.call_id] = side
        self.ringing[message.call_id] = (message, side, source)
        call = self._by_number.get(int(message.get("X-Swarm") or -1))
        if call is not None:
            call.callee = side
        self._send(message.answer(180, "Ringing", side.tag, self._contact()).encode(), source, self._in)
        if self.answer_after is not None:
            asyncio.get_running_loop().call_later(self.answer_after, self._answer, message.call_id)

    def _answer(self, call_id: str) -> None:
        known = self.ringing.pop(call_id, None)
        if known is None or self._in.fileno() < 0:
            return
        message, side, source = known
        extra = [*self._contact(), ("Content-Type", "application/sdp")]
        data = message.answer(200, "OK", side.tag, extra, SDP.format(host=self.address)).encode()
        now = time.monotonic()
        self._answering[call_id] = (now + T1, T1, now + GIVE_UP, data, source)
        self._send(data, source, self._in)

    def _cancelled(self, message: Sip, source: tuple[str, int]) -> None:
        self._send(message.answer(200, "OK", "x").encode(), source, self._in)
        known = self.ringing.pop(message.call_id, None)
        if known is not None:
            self._send(known[0].answer(487, "Request Terminated", known[1].tag).encode(), source, self._in)
            known[1].ended = True

    def _contact(self) -> list[tuple[str, str]]:
        return [("Contact", f"<sip:{self.callee_user}@{self.address}:{self._in.getsockname()[1]}>")]

    def _ended(self, call_id: str) -> None:
        if call_id in self.calls:
            self.calls[call_id].caller.ended = True
        if call_id in self.callees:
            self.callees[call_id].ended = True

    # ---- the wire ---------------------------------------------------------------------------------------------------

    def _in_dialog(self, side: Side, method: str, sock: socket.socket) -> Sip:
        side.cseq += 1
        port = sock.getsockname()[1]
        user = self.caller_user if sock is self._out else self.callee_user
        fields = [
            ("Via", f"SIP/2.0/UDP {self.address}:{port};rport;branch=z9hG4bK{secrets.token_hex(8)}"),
            ("Max-Forwards", "70"),
            ("From", side.local),
            ("To", side.remote),
            ("Call-ID", side.call_id),
            ("CSeq", f"{side.cseq} {method}"),
            ("Contact", f"<sip:{user}@{self.address}:{port}>"),
        ]
        return Sip(f"{method} {side.target} SIP/2.0", fields)

    def _request(self, message: Sip, sock: socket.socket) -> None:
        now, data = time.monotonic(), message.encode()
        self._pending[message.branch, message.method] = (now + T1, T1, now + GIVE_UP, data, sock)
        self._send(data, self.server, sock)

    def _send(self, data: bytes, to: tuple[str, int], sock: socket.socket) -> None:
        with contextlib.suppress(ConnectionError, BlockingIOError):
            sock.sendto(data, to)

    def _read(self, sock: socket.socket) -> None:
        for _ in range(64):
            try:
                packet, source = sock.recvfrom(65536)
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            self._take(Sip.parse(packet), source, sock)

    def _take(self, message: Sip, source: tuple[str, int], sock: socket.socket) -> None:
        if message.is_response:
            self._on_response(message, sock)
        else:
            self._on_request(message, source, sock)

    async def _tick(self) -> None:
        """Repeat what was not answered (RFC 3261 17.1.1.2, 17.1.2.2, 13.3.1.4)."""
        while True:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            for key, (due, pause, end, data, sock) in list(self._pending.items()):
                if now > end:
                    del self._pending[key]
                elif now > due:
                    longer = pause * 2 if key[1] == "INVITE" else min(pause * 2, T2)
                    self._pending[key] = (now + longer, longer, end, data, sock)
                    self._send(data, self.server, sock)
            for call_id, (due, pause, end, data, source) in list(self._answering.items()):
                if now > end:
                    del self._answering[call_id]
                elif now > due:
                    longer = min(pause * 2, T2)
                    self._answering[call_id] = (now + longer, longer, end, data, source)
                    self._send(data, source, self._in)


def _socket(host: Host | None) -> socket.socket:
    with host.inside() if host is not None else contextlib.nullcontext():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.bind((host.address if host is not None else "127.0.0.1", 0))
    sock.setblocking(False)
    return sock
