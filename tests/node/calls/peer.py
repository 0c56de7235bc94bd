"""A bare SIP peer: sends what the test says, keeps what comes, does nothing by itself."""

from __future__ import annotations

import asyncio
import secrets
import socket

from tests.support.sipmessage import Sip, uri_of

OFFER = (
    "v=0\r\no=peer 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio 40000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n"
    "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
)
WITHIN = 15.0


class Peer:
    """One UDP socket that speaks SIP as it is told."""

    def __init__(self, server: tuple[str, int], port: int = 0, host: str = "127.0.0.1") -> None:
        self.server = server
        self.host = host
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((host, port))
        self.sock.setblocking(False)
        self.port: int = self.sock.getsockname()[1]
        self.tag = secrets.token_hex(4)
        self.contact = f"sip:peer@{host}:{self.port}"
        self.waiting: list[Sip] = []
        self.cseq = 0
        self._came = asyncio.Event()
        self._invite: Sip | None = None

    @classmethod
    async def open(cls, server: tuple[str, int], port: int = 0, host: str = "127.0.0.1") -> Peer:
        peer = cls(server, port, host)
        asyncio.get_running_loop().add_reader(peer.sock.fileno(), peer._read)
        return peer

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock.fileno())
        self.sock.close()

    def _read(self) -> None:
        while True:
            try:
                data = self.sock.recv(65536)
            except OSError:
                return
            self.waiting.append(Sip.parse(data))
            self._came.set()

    async def expect(self, what: str | int) -> Sip:
        """The next request of this method, or response of this status; what came before it is passed over."""
        async with asyncio.timeout(WITHIN):
            while True:
                for index, message in enumerate(self.waiting):
                    if what == (message.status if message.is_response else message.method):
                        del self.waiting[: index + 1]
                        return message
                self._came.clear()
                await self._came.wait()

    def send(self, message: Sip) -> None:
        self.sock.sendto(message.encode(), self.server)

    # ---- calling -----------------------------------------------------------------------------------------------------

    def invite(
        self,
        number: str,
        user: str,
        *,
        sdp: str,
        headers: list[tuple[str, str]] | None = None,
        kind: str = "application/sdp",
    ) -> Sip:
        self.cseq += 1
        fields = [
            ("Via", f"SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK{secrets.token_hex(8)}"),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{user}@pbx.test>;tag={self.tag}"),
            ("To", f"<sip:{number}@pbx.test>"),
            ("Call-ID", secrets.token_hex(8)),
            ("CSeq", f"{self.cseq} INVITE"),
            ("Contact", f"<{self.contact}>"),
            *(headers or []),
        ]
        if sdp:
            fields.append(("Content-Type", kind))
        self._invite = Sip(f"INVITE sip:{number}@pbx.test SIP/2.0", fields, sdp)
        self.send(self._invite)
        return self._invite

    def ack(self, ok: Sip, sdp: str = "") -> None:
        self.within(ok, "ACK", body=sdp, kind="application/sdp")

    def bye(self, ok: Sip) -> Sip:
        return self.within(ok, "BYE")

    def within(
        self,
        ok: Sip,
        method: str,
        *,
        headers: list[tuple[str, str]] | None = None,
        body: str = "",
        kind: str = "",
        hops: str = "70",
    ) -> Sip:
        """A request in the dialog that this 200 made."""
        if method != "ACK":
            self.cseq += 1
        number = ok.cseq if method == "ACK" else self.cseq
        fields = [
            ("Via", f"SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK{secrets.token_hex(8)}"),
            ("Max-Forwards", hops),
            ("From", ok.get("From")),
            ("To", ok.get("To")),
            ("Call-ID", ok.call_id),
            ("CSeq", f"{number} {method}"),
            ("Contact", f"<{self.contact}>"),
            *(headers or []),
        ]
        if body:
            fields.append(("Content-Type", kind))
        request = Sip(f"{method} {uri_of(ok.get('Contact'))} SIP/2.0", fields, body)
        self.send(request)
        return request

    def acknowledge_refusal(self, refusal: Sip) -> None:
        assert self._invite is not None
        kept = [
            (name, value) for name, value in self._invite.fields if name in ("Via", "Max-Forwards", "From", "Call-ID")
        ]
        fields = [*kept, ("To", refusal.get("To")), ("CSeq", f"{refusal.cseq} ACK")]
        self.send(Sip(f"ACK {self._invite.start.split()[1]} SIP/2.0", fields))

    def cancel(self) -> None:
        """Take the last INVITE back (RFC 3261 9.1)."""
        assert self._invite is not None
        kept = ("Via", "Max-Forwards", "From", "To", "Call-ID")
        fields = [(name, value) for name, value in self._invite.fields if name in kept]
        start = self._invite.start.replace("INVITE", "CANCEL", 1)
        self.send(Sip(start, [*fields, ("CSeq", f"{self._invite.cseq} CANCEL")]))

    # ---- being called ------------------------------------------------------------------------------------------------

    def answer(self, request: Sip, status: int, *, sdp: str = "", headers: list[tuple[str, str]] | None = None) -> Sip:
        extra = list(headers or [])
        if status < 300 and not any(name == "Contact" for name, _value in extra):
            extra.append(("Contact", f"<{self.contact}>"))
        if sdp:
            extra.append(("Content-Type", "application/sdp"))
        response = request.answer(status, "Said So", self.tag, extra, sdp)
        self.send(response)
        return response


def said(peer: Peer, method: str) -> bool:
    """Whether a request of this method waits to be looked at."""
    return any(not message.is_response and message.method == method for message in peer.waiting)
