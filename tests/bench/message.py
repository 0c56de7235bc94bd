"""CPU per message, without a network: to parse, route and answer a REGISTER, an INVITE with SDP, its 200 and its BYE.

Sixty messages of a kind are put into a whole worker (`inside.py`) one after another, and the CPU time of all its threads
is taken until as many of what has to follow have come out. The least of the rounds counts. `parse_` is the same message
only read, and asked for what a route needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.bench import messages, parse
from tests.bench.figures import Figure
from tests.bench.inside import Inside, inside
from tests.support.node import DOMAIN, PASSWORD
from tests.support.sipmessage import Sip, digest, uri_of

AT_ONCE, ROUNDS = 60, 12
PHONE, CALLED_PHONE = ("192.0.2.10", 5060), ("192.0.2.11", 5060)
CALLER, CALLEE = "1000", "1011"
USERS = [str(number) for number in range(1000, 1020) if str(number) != CALLEE]
UNIT = "us CPU per message"
KINDS = {
    "challenge": "a REGISTER without credentials, to its 401",
    "register": "a REGISTER with Authorization, to its 200; stored in memory",
    "invite": "an INVITE with credentials and SDP, to its 100 and the INVITE that goes on; on record",
    "ok": "the callee's 200 with SDP, to the 200 for the caller and the ACK; on record",
    "bye": "a BYE, to the BYE that goes on and its 200; on record",
}


class Run:
    """What was measured so far: seconds for each message, the least of the rounds; and how long one is."""

    def __init__(self, worker: Inside) -> None:
        self.worker = worker
        self.least: dict[str, float] = {}
        self.size: dict[str, int] = {}
        self.puts: list[float] = []
        "Of each round of calls: writes a call, from the INVITE to the caller's 200."

    def exchange(self, kind: str, sent: Sequence[bytes], *wanted: bytes, remote: tuple[str, int] = PHONE) -> list[Sip]:
        """Measure, and return those of the first kind that followed."""
        each = self.worker.exchange(sent, remote, *wanted) / len(sent)
        self.least[kind] = min(each, self.least.get(kind, each))
        self.size[kind] = len(sent[0])
        return self.worker.taken(wanted[0])

    def registrations(self, number: int) -> None:
        """Sixty phones ask, are challenged, and ask again."""
        first = 2 * number * AT_ONCE + 1
        phones = [(phone, USERS[phone % len(USERS)], first + 2 * phone) for phone in range(AT_ONCE)]
        asked = [messages.register(n, user, DOMAIN, phone=phone) for phone, user, n in phones]
        challenges = {each.branch: each for each in self.exchange("challenge", asked, b"SIP/2.0 401")}
        proven = []
        for (phone, user, n), question in zip(phones, asked, strict=True):
            ticket = credentials(challenges[Sip.parse(question).branch], user, "REGISTER", f"sip:{DOMAIN}")
            proven.append(messages.register(n + 1, user, DOMAIN, phone=phone, credentials=ticket))
        self.exchange("register", proven, b"SIP/2.0 200")

    def calls(self, number: int) -> None:
        """Sixty calls from INVITE to BYE, all of them one step at a time."""
        serials = range(number * AT_ONCE, (number + 1) * AT_ONCE)
        refusals = self.exchange("refused", [messages.invite(n, CALLEE, DOMAIN) for n in serials], b"SIP/2.0 407")
        tickets = [credentials(each, CALLER, "INVITE", f"sip:{CALLEE}@{DOMAIN}") for each in refusals]
        invites = [
            messages.invite(n, CALLEE, DOMAIN, cseq=2, credentials=ticket)
            for n, ticket in zip(serials, tickets, strict=True)
        ]
        before = self.worker.puts
        invited = self.exchange("invite", invites, b"INVITE ", b"SIP/2.0 100")
        answers = self.exchange("ok", [accept(each) for each in invited], b"SIP/2.0 200", b"ACK ", remote=CALLED_PHONE)
        self.puts.append((self.worker.puts - before) / AT_ONCE)
        self.worker.absorb([in_dialog("ACK", 2, each) for each in answers], PHONE)
        ended = self.exchange("bye", [in_dialog("BYE", 3, each) for each in answers], b"BYE ", b"SIP/2.0 200")
        self.worker.absorb([each.answer(200, "OK", "").encode() for each in ended], CALLED_PHONE)


def measure(directory: Path) -> list[Figure]:
    with inside(directory / "inside") as worker:
        run = Run(worker)
        register_callee(run)
        for number in range(ROUNDS):
            run.registrations(number)
            run.calls(number)
    figures = [
        Figure(f"message_{kind}", UNIT, run.least[kind] * 1e6, note=f"{run.size[kind]} B, no network: {what}")
        for kind, what in KINDS.items()
    ]
    written = "writes a call from its INVITE to its 200, without ringing; at most 3"
    figures.append(Figure("call_puts", "records written per call", max(run.puts), note=written))
    read = parse.costs()
    figures += [
        Figure(f"parse_{kind}", UNIT, seconds * 1e6, note=f"{size} B, read and asked for what a route needs")
        for kind, (seconds, size) in read.items()
    ]
    mean = sum(seconds for seconds, _size in read.values()) / len(read)
    return [*figures, Figure("parse_mean", UNIT, mean * 1e6, note="of these four")]


def register_callee(run: Run) -> None:
    asked = messages.register(1, CALLEE, DOMAIN, host=CALLED_PHONE[0], phone=999)
    run.worker.exchange([asked], CALLED_PHONE, b"SIP/2.0 401")
    ticket = credentials(run.worker.taken(b"SIP/2.0 401")[0], CALLEE, "REGISTER", f"sip:{DOMAIN}")
    proven = messages.register(2, CALLEE, DOMAIN, host=CALLED_PHONE[0], phone=999, credentials=ticket)
    run.worker.exchange([proven], CALLED_PHONE, b"SIP/2.0 200")


def credentials(refusal: Sip, user: str, method: str, uri: str) -> str:
    field = "WWW-Authenticate" if refusal.status == 401 else "Proxy-Authenticate"
    return digest(refusal.get(field), user, PASSWORD, method, uri)


def accept(invited: Sip) -> bytes:
    to = f"{invited.get('To')};tag=7f6e5d4c{invited.branch[-6:]}"
    return messages.accepted(invited.get("Via"), invited.get("From"), to, invited.call_id, invited.get("CSeq"))


def in_dialog(method: str, cseq: int, answer: Sip) -> bytes:
    """A request of the caller's, in the dialog that this 200 made."""
    n = int(answer.call_id[-4:], 16)
    uri = uri_of(answer.get("Contact"))
    return messages.within(method, n, uri, answer.get("From"), answer.get("To"), answer.call_id, cseq=cseq)
