"""Many short calls to a running node over one UDP socket: INVITE, 200, ACK, BYE, 200. Polite also to who answers what it is not asked."""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fuzz.effort import Effort
from tests.support.node import STRETCH

T1 = 0.5
PATIENCE = 15.0
"Seconds after which a call that has not got through has failed."

_HEAD = (
    "{method} {target} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};rport;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n"
    "From: <sip:1000@sofia.test>;tag={tag}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n"
    "Contact: <sip:1000@{host}:{port}>\r\n{extra}Content-Length: {size}\r\n\r\n{body}"
)
_SDP = "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
_FIELD = {
    name: re.compile(rf"\r\n(?:{name})[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
    for name in ("Via", "From", "To", "Call-ID", "CSeq", "Contact")
}
_URI = re.compile(r"<([^>\s]*)>")


@dataclass(slots=True)
class Short:
    """One call."""

    name: str
    "What came before it."
    number: int
    state: str = "inviting"
    sent: bytes = b""
    begun: float = 0.0
    resend_at: float = 0.0
    pause: float = T1
    lasted: float = 0.0
    statuses: list[int] = field(default_factory=list)


class Crowd:
    """Calls at once, up to a window. Not asynchronous: one loop, one socket."""

    def __init__(self, server: tuple[str, int], host: str, *, window: int = 16, effort: Effort | None = None) -> None:
        """`effort` is told of all that comes."""
        self.server, self.window, self._effort = server, window, effort
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.host, self.port = self.socket.getsockname()
        self.done: list[Short] = []
        self.failed: list[Short] = []
        self.strange = 0
        "Answers to what was no call of ours."
        self.probes: list[float] = []
        "Seconds until an OPTIONS between the calls was answered."
        self._calls: dict[str, Short] = {}
        self._asked: dict[str, float] = {}
        self._number = 0
        self._selector = selectors.DefaultSelector()
        self._selector.register(self.socket, selectors.EVENT_READ)

    def close(self) -> None:
        self._selector.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Anything, as long as a datagram holds it."""
        self.socket.sendto(data[:65_000], self.server)

    def call(self, name: str) -> None:
        """Begin one more call; waits while the window is full."""
        self._number += 1
        call = Short(name, self._number, begun=time.monotonic())
        self._calls[f"crowd-{call.number}"] = call
        self._request(call, "INVITE")
        if self._number % 25 == 0:
            self._ask()
        self.turn(lambda: len(self._calls) < self.window)

    def finish(self) -> None:
        """Wait for those that are under way."""
        self.turn(lambda: not self._calls)

    def turn(self, until: Callable[[], bool]) -> None:
        """Read and resend until it holds. No call takes longer than its patience, so this ends."""
        while True:
            while self._read():
                pass
            self._resend()
            if until():
                return
            self._selector.select(0.05)

    # ---- what comes ------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        try:
            data, source = self.socket.recvfrom(65_535)
        except BlockingIOError:
            return False
        if self._effort is not None:
            self._effort.heard()
        text = data.decode("utf-8", "surrogateescape")
        if text.startswith("SIP/2.0 "):
            self._on_response(text, source)
        elif not text.startswith("ACK"):
            self._answer(text, source)
        return True

    def _on_response(self, text: str, source: tuple[str, int]) -> None:
        status, call_id = int(text[8:11]), _value(text, "Call-ID")
        method = _value(text, "CSeq").rpartition(" ")[2]
        asked = self._asked.pop(call_id, None)
        if asked is not None:
            self.probes.append(time.monotonic() - asked)
            return
        call = self._calls.get(call_id)
        if call is not None and status >= 200:
            self._advance(call, status, method, text, source)
        elif status >= 200 and method == "INVITE":
            self._be_polite(text, status, source)

    def _advance(self, call: Short, status: int, method: str, text: str, source: tuple[str, int]) -> None:
        call.statuses.append(status)
        if method == "INVITE":
            self._acknowledge(text, status, source)
            if status >= 300:
                self._end(call, well=False)
            elif call.state == "inviting":
                call.state = "ending"
                self._request(call, "BYE", _value(text, "To"), _target(text))
        elif method == "BYE" and call.state == "ending":
            self._end(call, well=status == 200)

    def _be_polite(self, text: str, status: int, source: tuple[str, int]) -> None:
        """An oddity was answered: acknowledge, and hang up if it was taken for a call."""
        self.strange += 1
        self._acknowledge(text, status, source)
        if status < 300:
            to, from_, call_id = (_value(text, name) for name in ("To", "From", "Call-ID"))
            cseq = int(_value(text, "CSeq").split()[0]) + 1
            branch = f"bye{self.strange}"
            bye = (
                f"BYE {_target(text)} SIP/2.0\r\nVia: SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bK{branch}\r\n"
                f"Max-Forwards: 70\r\nFrom: {from_}\r\nTo: {to}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} BYE\r\nContent-Length: 0\r\n\r\n"
            )
            self.socket.sendto(bye.encode("utf-8", "surrogateescape"), source)

    def _acknowledge(self, text: str, status: int, source: tuple[str, int]) -> None:
        own = f"SIP/2.0/UDP {self.host}:{self.port};rport;branch=z9hG4bKack{_value(text, 'Call-ID')[:40]}"
        via = _value(text, "Via") if status >= 300 else own
        number = _value(text, "CSeq").split()[0]
        from_, to, call_id = (_value(text, name) for name in ("From", "To", "Call-ID"))
        ack = (
            f"ACK {_target(text)} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from_}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n"
            f"CSeq: {number} ACK\r\nContent-Length: 0\r\n\r\n"
        )
        self.socket.sendto(ack.encode("utf-8", "surrogateescape"), source)

    def _answer(self, text: str, source: tuple[str, int]) -> None:
        """200 to whatever the node asks: BYE, re-INVITE, OPTIONS."""
        vias = "".join(f"Via: {value}\r\n" for value in _FIELD["Via"].findall(text.partition("\r\n\r\n")[0] + "\r\n"))
        lines = "".join(f"{name}: {_value(text, name)}\r\n" for name in ("From", "To", "Call-ID", "CSeq"))
        answer = f"SIP/2.0 200 OK\r\n{vias}{lines}Content-Length: 0\r\n\r\n"
        self.socket.sendto(answer.encode("utf-8", "surrogateescape"), source)

    # ---- what goes -------------------------------------------------------------------------------------------------

    def _request(
        self, call: Short, method: str, to: str = "<sip:9196@sofia.test>", target: str = "sip:9196@sofia.test"
    ) -> None:
        body = _SDP.format(host=self.host) if method == "INVITE" else ""
        extra = "Content-Type: application/sdp\r\n" if body else ""
        branch = f"{method.lower()}{self.port}x{call.number}"
        call.sent = _HEAD.format(
            method=method, target=target, host=self.host, port=self.port, branch=branch, tag=f"c{call.number}", to=to,
            call_id=f"crowd-{call.number}", cseq=1 if method == "INVITE" else 2, extra=extra, size=len(body), body=body,
        ).encode()  # fmt: skip
        call.pause = T1
        call.resend_at = time.monotonic() + T1
        self.socket.sendto(call.sent, self.server)

    def _ask(self) -> None:
        call_id = f"probe-{self._number}"
        text = _HEAD.format(
            method="OPTIONS", target="sip:sofia.test", host=self.host, port=self.port, branch=f"p{self.port}x{self._number}", tag="p",
            to="<sip:sofia.test>", call_id=call_id, cseq=1, extra="", size=0, body="",
        )  # fmt: skip
        self._asked[call_id] = time.monotonic()
        self.socket.sendto(text.encode(), self.server)

    def _resend(self) -> None:
        now = time.monotonic()
        for call in list(self._calls.values()):
            if now - call.begun > PATIENCE * STRETCH:
                self._end(call, well=False)
            elif now >= call.resend_at:
                call.pause = min(call.pause * 2, 4.0)
                call.resend_at = now + call.pause
                self.socket.sendto(call.sent, self.server)

    def _end(self, call: Short, *, well: bool) -> None:
        del self._calls[f"crowd-{call.number}"]
        call.lasted = time.monotonic() - call.begun
        call.state = "done" if well else f"failed while {call.state}"
        (self.done if well else self.failed).append(call)


def _value(text: str, name: str) -> str:
    match = _FIELD[name].search(text)
    return match[1].strip() if match else ""


def _target(text: str) -> str:
    match = _URI.search(_value(text, "Contact"))
    return match[1] if match else "sip:9196@sofia.test"


def percentile(values: list[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0
