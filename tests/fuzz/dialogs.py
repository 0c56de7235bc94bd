"""Valid dialogs with a running node, over UDP and TCP, with mutants of each message before it; and clean calls in between.

A mutant may well end the dialog it belongs to, so what becomes of that is not judged, only that every valid request is
answered. The clean calls, of which no mutant knows, must all succeed.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz.corpus import SDP, VIDEO
from tests.fuzz.crowd import Crowd, percentile
from tests.fuzz.mutation import Mutator
from tests.support.node import DOMAIN, STRETCH, Node, loopback_address
from tests.support.open_node import open_node, resident, trouble_of, wait_settled

PATIENCE = 12.0
"Seconds in which a valid request must be answered."
ROUND = 12
"Dialogs between two looks at the node."
GROWTH = 24
"KiB for each dialog and clean call, which are remembered for a minute, and for what mutants make of them."

_LINE = re.compile(r"\r\n([A-Za-z-]+)[ \t]*:[ \t]*([^\r\n]*)")
_URI = re.compile(r"<([^>\s]*)>")


@dataclass(slots=True)
class Figures:
    """What a run came to."""

    seed: int
    mutants: int = 0
    dialogs: int = 0
    through: int = 0
    "Dialogs that got to their end in spite of everything."
    unanswered: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    "Clean calls that did not succeed."
    clean: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    probes: list[float] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    replaced: bool = False
    grown: int = 0
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        return not (self.unanswered or self.failed or self.trouble or self.replaced) and self.bounded and self.prompt

    @property
    def bounded(self) -> bool:
        return self.grown < GROWTH * (self.dialogs + self.clean) + 16_384

    @property
    def prompt(self) -> bool:
        """Was OPTIONS answered between the mutants, soon?"""
        return (
            bool(self.probes)
            and percentile(self.probes, 0.5) < 0.1 * STRETCH
            and percentile(self.probes, 0.99) < STRETCH
        )

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"node          seed {self.seed:<6} {self.mutants:9} mutants in {self.dialogs} dialogs, {self.through} of them through; "
            f"{self.clean} clean calls, {len(self.failed)} failed; {len(self.unanswered)} unanswered; answers {statuses}; OPTIONS median "
            f"{percentile(self.probes, 0.5) * 1000:.1f} ms, p99 {percentile(self.probes, 0.99) * 1000:.1f} ms; "
            f"memory {self.grown:+} KiB; {self.seconds:.0f} s; {len(self.trouble)} lines of trouble{', worker replaced' if self.replaced else ''}"
            + "".join(f"\n  {line[:300]}" for line in (self.unanswered + self.failed + self.trouble)[:10])
        )


def run(folder: Path, *, seed: int, mutants: int, each: int = 6) -> Figures:
    """So many mutants, `each` before every valid message, against a node of its own."""
    node = open_node(folder)
    node.start()
    figures = Figures(seed)
    try:
        node.wait_role("active")
        worker = wait_settled(node)
        _talk(node, figures, worker, mutants=mutants, each=each)
        figures.replaced = node.worker_pid("internal#0") != worker
        figures.trouble += trouble_of(node)
    finally:
        node.stop()
    return figures


def _talk(node: Node, figures: Figures, worker: int, *, mutants: int, each: int) -> None:
    random = Random(figures.seed)
    crowd = Crowd(node.sip, loopback_address())
    udp, tcp = Agent(node.sip, "UDP", figures, each), Agent(node.sip, "TCP", figures, each)
    before, begun = 0, time.monotonic()
    try:
        while figures.mutants < mutants:
            for _ in range(ROUND):
                agent = random.choice((udp, udp, tcp))
                figures.dialogs += 1
                figures.through += random.choice(SCRIPTS)(agent, random)
                crowd.call(f"after dialog {figures.dialogs}")
                crowd.finish()
            if not before and figures.mutants > mutants // 4:
                before = resident(worker)
            for command in ("show channels", "show registrations", "hupall"):
                answer = node.api(command)  # what mutants have called themselves is shown too
                figures.trouble += [f"{command}: {answer}"] if answer.startswith("-ERR") else []
    finally:
        figures.clean, figures.probes = len(crowd.done), crowd.probes
        figures.failed = [f"{call.name} {call.state} {call.statuses}" for call in crowd.failed]
        figures.seconds = time.monotonic() - begun
        for each_one in (crowd, udp, tcp):
            each_one.close()
    figures.grown = resident(worker) - before


# ---- who talks -------------------------------------------------------------------------------------------------------


class Agent:
    """One phone on one transport: its own requests, mutants of them by the side, and answers to what the node asks."""

    def __init__(self, server: tuple[str, int], transport: str, figures: Figures, each: int) -> None:
        self.server, self.transport, self.figures, self.each = server, transport, figures, each
        self.host = loopback_address()
        self.number = 0
        self.invited: list[str] = []
        "INVITEs of the node to us, not answered yet."
        self._mutator = Mutator([b""], figures.seed + len(transport))
        self._buffer = b""
        self._side: socket.socket | None = None
        self._heard: list[str] = []
        if transport == "UDP":
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._socket.bind((self.host, 0))
        else:
            self._connect()
        self.port = self._socket.getsockname()[1]

    def _connect(self) -> None:
        self._socket = socket.create_connection(self.server, timeout=PATIENCE * STRETCH, source_address=(self.host, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def close(self) -> None:
        self._socket.close()
        if self._side is not None:
            self._side.close()

    def send(self, data: bytes) -> None:
        if self.transport == "UDP":
            self._socket.sendto(data[:65_000], self.server)
        else:
            self._socket.sendall(data)

    def mutate(self, data: bytes) -> None:
        """Mutants of this message: on UDP from our own socket, on TCP by connections at the side, which may be cut off."""
        for _ in range(self.each):
            mutant = self._mutator.change(data)
            self.figures.mutants += 1
            if self.transport == "UDP":
                self.send(mutant)
            else:
                self._aside(mutant)

    def _aside(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            if self._side is None or self.figures.mutants % 7 == 0:
                if self._side is not None:
                    self._side.close()
                self._side = socket.create_connection(self.server, timeout=PATIENCE * STRETCH)
            self._side.sendall(data)
            return
        self._side = None

    def ask(self, data: bytes, *, provisional: bool = False) -> str:
        """The final answer (or the first one at all) to a valid request; empty, and noted, if there never is one."""
        method, branch = data.split(b" ", 1)[0].decode(), _field(data.decode(), "Via").rpartition("branch=")[2]
        deadline, pause, resend = time.monotonic() + PATIENCE * STRETCH, 0.5, time.monotonic() + 0.5
        self.send(data)
        while (now := time.monotonic()) < deadline:
            for text in self.hear(min(resend, deadline) - now):
                if _is_to(text, branch, method):
                    status = int(text[8:11])
                    if status >= 200 or provisional:
                        self.figures.statuses[status] += 1
                        return text
            if self.transport == "UDP" and time.monotonic() >= resend:
                pause = min(pause * 2, 4.0)
                resend = time.monotonic() + pause
                self.send(data)
            elif self.transport == "TCP":
                resend = deadline
        self.figures.unanswered.append(f"{self.transport} {data[:400]!r}")
        return ""

    def hear(self, seconds: float) -> Iterator[str]:
        """Responses that come within that time, one wait at most; requests are answered by the way."""
        ready, _, _ = select.select([self._socket], [], [], max(0.0, seconds))
        if ready:
            for text in self._read():
                if text.startswith("SIP/2.0 "):
                    yield text
                else:
                    self._on_request(text)

    def _read(self) -> list[str]:
        if self.transport == "UDP":
            return [self._socket.recv(65_535).decode("utf-8", "surrogateescape")]
        more = self._socket.recv(65_535)
        assert more, "the connection that only valid messages went over was closed"
        self._buffer += more
        found = []
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].decode("utf-8", "surrogateescape")
            size = end + 4 + int(_field(head, "Content-Length") or 0)
            if len(self._buffer) < size:
                break
            found.append(self._buffer[:size].decode("utf-8", "surrogateescape"))
            self._buffer = self._buffer[size:]
        return found

    def _on_request(self, text: str) -> None:
        method = text.split(" ", 1)[0]
        if method == "INVITE":
            self.invited.append(text)
        elif method != "ACK":
            self.send(self.answer(text, 200))

    def establish(self) -> Dialogue:
        """A call to the echo, without a mutant."""
        dialog = _begin(self, "9196")
        assert _established(dialog, self.ask(self.request("INVITE", dialog, body=_sdp(self))))
        self.send(self.request("ACK", dialog))
        return dialog

    # ---- messages --------------------------------------------------------------------------------------------------

    def request(
        self, method: str, dialog: Dialogue, *, body: str = "", extra: str = "", kind: str = "application/sdp"
    ) -> bytes:
        self.number += 1
        if method not in ("ACK", "CANCEL"):
            dialog.cseq += 1
        branch = dialog.branch if method == "CANCEL" else f"z9hG4bK{self.transport}{self.port}x{self.number}"
        if method == "INVITE":
            dialog.branch = branch
        suffix = "" if self.transport == "UDP" else ";transport=tcp"
        lines = [
            f"{method} {dialog.target} SIP/2.0",
            f"Via: SIP/2.0/{self.transport} {self.host}:{self.port};rport;branch={branch}",
            "Max-Forwards: 70",
            f"From: <sip:{dialog.user}@{DOMAIN}>;tag={dialog.tag}",
            f"To: {dialog.to}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {dialog.cseq} {method}",
            f"Contact: <sip:{dialog.user}@{self.host}:{self.port}{suffix}>{';expires=60' if method == 'REGISTER' else ''}",
            *([extra] if extra else []),
            *([f"Content-Type: {kind}"] if body else []),
            f"Content-Length: {len(body.encode())}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def answer(self, text: str, status: int, body: str = "") -> bytes:
        vias = "".join(
            f"Via: {value}\r\n" for name, value in _LINE.findall(text.partition("\r\n\r\n")[0]) if name.lower() == "via"
        )
        to = _field(text, "To")
        to = to if ";tag=" in to else f"{to};tag=callee{self.port}"
        kind = "Content-Type: application/sdp\r\n" if body else ""
        contact = (
            f"Contact: <sip:1000@{self.host}:{self.port}{'' if self.transport == 'UDP' else ';transport=tcp'}>\r\n"
        )
        return (
            f"SIP/2.0 {status} Some Reason\r\n{vias}From: {_field(text, 'From')}\r\nTo: {to}\r\nCall-ID: {_field(text, 'Call-ID')}\r\n"
            f"CSeq: {_field(text, 'CSeq')}\r\n{contact}{kind}Content-Length: {len(body.encode())}\r\n\r\n{body}"
        ).encode("utf-8", "surrogateescape")


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


def _begin(agent: Agent, number: str, user: str = "1000") -> Dialogue:
    agent.number += 1
    name = f"{agent.transport}{agent.port}-{agent.number}"
    return Dialogue(f"dialog-{name}", f"t{name}", user, f"sip:{number}@{DOMAIN}", f"<sip:{number}@{DOMAIN}>")


def _step(
    agent: Agent,
    dialog: Dialogue,
    method: str,
    *,
    body: str = "",
    extra: str = "",
    kind: str = "application/sdp",
    provisional: bool = False,
) -> str:
    """Mutants of the request, then the request. Those of a first INVITE are of other calls, or it would be a merged one."""
    data = agent.request(method, dialog, body=body, extra=extra, kind=kind)
    if method == "INVITE" and ";tag=" not in dialog.to:
        agent.mutate(
            data.replace(dialog.call_id.encode(), dialog.call_id.encode() + b"m").replace(
                b"branch=", b"branch=z9hG4bKm"
            )
        )
    else:
        agent.mutate(data)
        data = (
            agent.request(method, dialog, body=body, extra=extra, kind=kind)
            if method not in ("ACK", "CANCEL")
            else data
        )
    if method == "ACK":
        agent.send(data)
        return ""
    return agent.ask(data, provisional=provisional)


def _established(dialog: Dialogue, answer: str) -> bool:
    if not answer.startswith("SIP/2.0 2"):
        return False
    dialog.to = _field(answer, "To")
    contact = _URI.search(_field(answer, "Contact"))
    dialog.target = contact[1] if contact else dialog.target
    return True


# ---- what they talk about --------------------------------------------------------------------------------------------


def registers(agent: Agent, random: Random) -> bool:
    dialog = _begin(agent, "", random.choice(("1000", "1001")))
    dialog.target, dialog.to = f"sip:{DOMAIN}", f"<sip:{dialog.user}@{DOMAIN}>"
    answers = [_step(agent, dialog, "REGISTER") for _ in range(2)]
    answers.append(_step(agent, dialog, "REGISTER", extra="Expires: 0"))
    return all(answer.startswith("SIP/2.0 200") for answer in answers)


def calls(agent: Agent, random: Random) -> bool:
    """INVITE, ACK, re-INVITE, UPDATE, INFO, OPTIONS, BYE."""
    dialog = _begin(agent, "9196")
    if not _established(dialog, _step(agent, dialog, "INVITE", body=_sdp(agent))):
        return False
    _step(agent, dialog, "ACK")
    for method, body, kind in random.sample(INSIDE, 3):
        answer = _step(agent, dialog, method, body=body.replace("203.0.113.1", agent.host), kind=kind)
        if method == "INVITE" and answer:
            agent.send(agent.request("ACK", dialog))
    return _step(agent, dialog, "BYE").startswith("SIP/2.0 200")


def calls_without_offer(agent: Agent, random: Random) -> bool:
    dialog = _begin(agent, "9196")
    if not _established(dialog, _step(agent, dialog, "INVITE")):
        return False
    data = agent.request("ACK", dialog, body=_sdp(agent))
    agent.mutate(data)
    agent.send(data)
    return _step(agent, dialog, "BYE").startswith("SIP/2.0 200")


def cancels(agent: Agent, random: Random) -> bool:
    dialog = _begin(agent, "9195")
    answer = _step(agent, dialog, "INVITE", body=_sdp(agent), provisional=True)
    if not answer.startswith("SIP/2.0 1"):
        return False
    return _step(agent, dialog, "CANCEL").startswith("SIP/2.0 200")


def is_called(agent: Agent, random: Random) -> bool:
    """Calls itself through the node, and answers with mutants of 180 and 200 before the real ones."""
    registration = _begin(agent, "", "1002")
    registration.target, registration.to = f"sip:{DOMAIN}", f"<sip:1002@{DOMAIN}>"
    if not agent.ask(agent.request("REGISTER", registration)).startswith("SIP/2.0 200"):
        return False
    agent.invited.clear()
    dialog = _begin(agent, "1002")
    data = agent.request("INVITE", dialog, body=_sdp(agent))
    agent.send(data)
    deadline = time.monotonic() + PATIENCE * STRETCH
    final = ""
    answered = False
    while not final and time.monotonic() < deadline:
        for text in agent.hear(0.2):
            final = text if _is_to(text, dialog.branch, "INVITE") and text[8:11] >= "200" else final
        if agent.invited and not answered:
            invite, answered = agent.invited.pop(), True
            for status, body in ((180, ""), (183, _sdp(agent)), (200, _sdp(agent))):
                agent.mutate(agent.answer(invite, status, body))
                agent.send(agent.answer(invite, status, body))
    if not final:
        agent.figures.unanswered.append(
            f"{agent.transport} INVITE to ourselves, {'answered' if answered else 'never seen'}"
        )
    if not _established(dialog, final):
        return False
    agent.send(agent.request("ACK", dialog))
    return _step(agent, dialog, "BYE").startswith("SIP/2.0 200")


INSIDE = [
    ("INVITE", SDP.replace("a=sendrecv", "a=sendonly"), "application/sdp"),
    ("INVITE", VIDEO, "application/sdp"),
    ("UPDATE", SDP, "application/sdp"),
    ("INFO", "Signal=5\r\nDuration=160\r\n", "application/dtmf-relay"),
    ("OPTIONS", "", ""),
    ("MESSAGE", "Grüße", "text/plain"),
    ("NOTIFY", "", ""),
]
SCRIPTS: list[Callable[[Agent, Random], bool]] = [registers, calls, calls, calls_without_offer, cancels, is_called]


def _sdp(agent: Agent) -> str:
    return SDP.replace("203.0.113.1", agent.host)


def _is_to(text: str, branch: str, method: str) -> bool:
    """Is this the answer to our request of that branch?"""
    return f";branch={branch};" in f"{_field(text, 'Via')};" and _field(text, "CSeq").endswith(f" {method}")


def _field(text: str, name: str) -> str:
    """The first value of a field of what the node sends, which writes names in one way only."""
    start = text.find(f"\r\n{name}: ")
    if start < 0:
        return ""
    start += len(name) + 4
    end = text.find("\r\n", start)
    return text[start : end if end >= 0 else len(text)].strip()
