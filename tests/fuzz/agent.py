"""A phone that talks in turns: valid requests with mutants of each before it, and answers to what the node asks of it.

A mutant may well end the dialog it belongs to, so what becomes of that is not judged, only that every valid request is
answered. How the bytes travel, and by which clock an agent waits, is its heirs' business.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from tests.fuzz.corpus import SDP
from tests.fuzz.effort import Effort
from tests.fuzz.mutation import Mutator
from tests.support.node import DOMAIN, STRETCH

PATIENCE = 12.0
"Seconds in which a valid request must be answered."

_LINE = re.compile(r"\r\n([A-Za-z-]+)[ \t]*:[ \t]*([^\r\n]*)")
_URI = re.compile(r"<([^>\s]*)>")


@dataclass(slots=True)
class Tally:
    """What agents note."""

    mutants: int = 0
    unanswered: list[str] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    effort: Effort | None = None
    "Told of all that comes, where a process is asked."


@dataclass(slots=True)
class Dialogue:
    """What our side of a dialog has to keep."""

    call_id: str
    tag: str
    user: str
    target: str
    to: str
    cseq: int = 0
    branch: str = ""


class Agent(ABC):
    """One phone on one transport."""

    def __init__(self, transport: str, tally: Tally, each: int, seed: int) -> None:
        self.transport, self.tally, self.each = transport, tally, each
        self.host, self.port = "", 0
        "Where it is; an heir knows."
        self.number = 0
        self.invited: list[str] = []
        "INVITEs of the node to us that begin a dialog, not answered yet."
        self.outcome = 200
        "What a request of the node in a dialog is answered with."
        self.mutates_answers = False
        self.patience = PATIENCE * STRETCH
        self._mutator = Mutator([b""], seed + len(transport))
        self._random = Random(seed)

    # ---- what an heir knows ----------------------------------------------------------------------------------------

    @abstractmethod
    def send(self, data: bytes) -> None:
        """A valid message."""

    @abstractmethod
    def aside(self, data: bytes) -> None:
        """A mutant, by a way that it may spoil."""

    @abstractmethod
    def listen(self, seconds: float) -> list[str]:
        """Messages that come within that time, one wait at most."""

    @abstractmethod
    def now(self) -> float:
        """Seconds."""

    @abstractmethod
    def close(self) -> None:
        """Be gone."""

    # ---- what it does ----------------------------------------------------------------------------------------------

    def mutate(self, data: bytes) -> None:
        """Mutants of this message."""
        for _ in range(self.each):
            self.tally.mutants += 1
            self.aside(self._mutator.change(data))

    def ask(self, data: bytes, *, provisional: bool = False) -> str:
        """The final answer (or the first one at all) to a valid request; empty, and noted, if there never is one."""
        method, branch = data.split(b" ", 1)[0].decode(), value(data.decode(), "Via").rpartition("branch=")[2]
        deadline, pause, resend = self.now() + self.patience, 0.5, self.now() + 0.5
        self.send(data)
        while (now := self.now()) < deadline:
            for text in self.hear(min(resend, deadline) - now):
                if is_answer(text, branch, method):
                    status = int(text[8:11])
                    if status >= 200 or provisional:
                        self.tally.statuses[status] += 1
                        return text
            if self.transport != "UDP":
                resend = deadline
            elif self.now() >= resend:
                pause = min(pause * 2, 4.0)
                resend = self.now() + pause
                self.send(data)
        self.tally.unanswered.append(f"{self.transport} {data[:400]!r}")
        return ""

    def hear(self, seconds: float) -> list[str]:
        """Responses that come within that time, one wait at most; requests are answered by the way."""
        heard = self.listen(max(0.0, seconds))
        if heard and self.tally.effort is not None:
            self.tally.effort.heard()
        for text in heard:
            if not text.startswith("SIP/2.0 "):
                self._on_request(text)
        return [text for text in heard if text.startswith("SIP/2.0 ")]

    def _on_request(self, text: str) -> None:
        method = text.split(" ", 1)[0]
        if method == "ACK":
            return
        if method == "INVITE" and ";tag=" not in value(text, "To"):
            self.invited.append(text)
            return
        body = self.description if method == "INVITE" or (method == "UPDATE" and "\r\n\r\nv=" in text) else ""
        answer = self.answer(text, self.outcome if method not in ("BYE", "CANCEL") else 200, body)
        if self.mutates_answers:
            self.mutate(answer)
        self.send(answer)

    def establish(self) -> Dialogue:
        """A call to the echo, without a mutant."""
        dialog = self.begin("9196")
        assert self.confirm(dialog, self.ask(self.request("INVITE", dialog, body=self.description)))
        self.send(self.request("ACK", dialog))
        return dialog

    def ping(self) -> bytes:
        """An OPTIONS to the node itself."""
        return self.request("OPTIONS", self.begin(""))

    def begin(self, number: str, user: str = "1000") -> Dialogue:
        self.number += 1
        name = f"{self.transport}{self.port}-{self.number}"
        target = f"sip:{number}@{DOMAIN}" if number else f"sip:{DOMAIN}"
        return Dialogue(f"dialog-{name}", f"t{name}", user, target, f"<{target}>")

    def confirm(self, dialog: Dialogue, answer: str) -> bool:
        """Take tag and target of a 2xx. False if it is none."""
        if not answer.startswith("SIP/2.0 2"):
            return False
        dialog.to = value(answer, "To")
        dialog.target = target_of(answer, dialog.target)
        return True

    def called(self, invite: str, user: str) -> Dialogue:
        """The dialog that our 200 to this INVITE makes, seen from us."""
        return Dialogue(
            value(invite, "Call-ID"),
            f"callee{self.port}",
            user,
            target_of(invite, f"sip:{DOMAIN}"),
            value(invite, "From"),
        )

    def step(
        self,
        dialog: Dialogue,
        method: str,
        *,
        body: str = "",
        extra: str = "",
        kind: str = "application/sdp",
        provisional: bool = False,
    ) -> str:
        """Mutants of the request, then the request. Those of a first INVITE are of other calls, or it would be a merged one."""
        data = self.request(method, dialog, body=body, extra=extra, kind=kind)
        if method == "INVITE" and ";tag=" not in dialog.to:
            other = data.replace(dialog.call_id.encode(), dialog.call_id.encode() + b"m")
            self.mutate(other.replace(b"branch=", b"branch=z9hG4bKm"))
        else:
            self.mutate(data)
            if method not in ("ACK", "CANCEL"):
                data = self.request(method, dialog, body=body, extra=extra, kind=kind)
        if method == "ACK":
            self.send(data)
            return ""
        return self.ask(data, provisional=provisional)

    # ---- messages --------------------------------------------------------------------------------------------------

    @property
    def description(self) -> str:
        return SDP.replace("203.0.113.1", self.host)

    @property
    def sent_by(self) -> str:
        return f"{self.host}:{self.port}"

    def contact(self, user: str) -> str:
        suffix = "" if self.transport == "UDP" else f";transport={self.transport.lower().replace('wss', 'ws')}"
        return f"<sip:{user}@{self.sent_by}{suffix}>"

    def request(
        self, method: str, dialog: Dialogue, *, body: str = "", extra: str = "", kind: str = "application/sdp"
    ) -> bytes:
        self.number += 1
        if method not in ("ACK", "CANCEL"):
            dialog.cseq += 1
        branch = dialog.branch if method == "CANCEL" else f"z9hG4bK{self.transport}{self.port}x{self.number}"
        if method == "INVITE":
            dialog.branch = branch
        lines = [
            f"{method} {dialog.target} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self.sent_by};rport;branch={branch}",
            "Max-Forwards: 70",
            f"From: <sip:{dialog.user}@{DOMAIN}>;tag={dialog.tag}",
            f"To: {dialog.to}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {dialog.cseq} {method}",
            f"Contact: {self.contact(dialog.user)}{';expires=60' if method == 'REGISTER' else ''}",
            *([extra] if extra else []),
            *([f"Content-Type: {kind}"] if body else []),
            f"Content-Length: {len(body.encode())}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def answer(self, text: str, status: int, body: str = "", extra: str = "") -> bytes:
        vias = "".join(
            f"Via: {found}\r\n" for name, found in _LINE.findall(text.partition("\r\n\r\n")[0]) if name.lower() == "via"
        )
        to = value(text, "To")
        to = to if ";tag=" in to else f"{to};tag=callee{self.port}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        return (
            f"SIP/2.0 {status} Some Reason\r\n{vias}From: {value(text, 'From')}\r\nTo: {to}\r\nCall-ID: {value(text, 'Call-ID')}\r\n"
            f"CSeq: {value(text, 'CSeq')}\r\nContact: {self.contact('1000')}\r\n{extra}{kind}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        ).encode("utf-8", "surrogateescape")


def is_answer(text: str, branch: str, method: str) -> bool:
    """Is this the answer to our request of that branch?"""
    return f";branch={branch};" in f"{value(text, 'Via')};" and value(text, "CSeq").endswith(f" {method}")


def value(text: str, name: str) -> str:
    """The first value of a field of what the node sends, which writes names in one way only."""
    start = text.find(f"\r\n{name}: ")
    if start < 0:
        return ""
    start += len(name) + 4
    end = text.find("\r\n", start)
    return text[start : end if end >= 0 else len(text)].strip()


def target_of(text: str, otherwise: str) -> str:
    """The URI of the first Contact."""
    contact = _URI.search(value(text, "Contact"))
    return contact[1] if contact else otherwise
