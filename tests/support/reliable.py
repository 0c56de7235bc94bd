"""A phone that rings, and is rung, reliably (RFC 3262), and changes its calls by UPDATE (RFC 3311)."""

from __future__ import annotations

import asyncio
import secrets

from tests.support import phone
from tests.support.phone import Line, Phone
from tests.support.sipmessage import Sip, uri_of


class ReliablePhone(Phone):
    """Offers 100rel with each call, and rings by `ringing` reliably whoever offers it."""

    early_media = False
    "Ring with 183 and a session description."

    def new_line(self, *, outbound: bool, audio: bool) -> ReliableLine:
        return ReliableLine(self, outbound=outbound, audio=audio)


class ReliableLine(Line):
    """One call of such a phone."""

    def __init__(self, phone: Phone, *, outbound: bool, audio: bool) -> None:
        super().__init__(phone, outbound=outbound, audio=audio)
        self.pracked = asyncio.Event()
        "Somebody has acknowledged what we said reliably, or was told so by us."
        self.heard = 0
        "RSeq of the last reliable response taken."
        self.pracks = 0
        "PRACKs that came, repetitions left out."
        self._told: Sip | None = None
        self._rseq = secrets.randbelow(1000) + 1
        self._prack_cseqs: set[int] = set()
        self._telling: asyncio.Task[None] | None = None
        self._acknowledging: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        for task in (self._telling, *self._acknowledging):
            if task is not None:
                task.cancel()
        super().close()

    # ---- calling ----------------------------------------------------------------------------------------------------

    def _request(self, method: str, extra: list[tuple[str, str]] | None = None, body: str = "") -> Sip:
        if method == "INVITE":
            extra = [
                *(extra or []),
                ("Supported", "100rel, timer"),
                ("Allow", "INVITE, ACK, BYE, CANCEL, PRACK, UPDATE"),
            ]
        return super()._request(method, extra, body)

    def _on_provisional(self, answer: Sip) -> None:
        rseq = int(answer.get("RSeq") or 0)
        if rseq and self.heard and rseq != self.heard + 1:
            return  # again, or too early (RFC 3262 4)
        if rseq:
            self.heard = rseq
            self.remote, self.target = answer.get("To"), uri_of(answer.get("Contact"))
            task = asyncio.create_task(self._acknowledge_reliably(answer))
            self._acknowledging.add(task)
            task.add_done_callback(self._acknowledging.discard)
        super()._on_provisional(answer)

    async def _acknowledge_reliably(self, answer: Sip) -> None:
        rack = ("RAck", f"{answer.get('RSeq')} {answer.cseq} INVITE")
        ok = await self.phone.request(self._request("PRACK", [rack]), self._next_hop())
        assert ok.status == 200, ok.start
        self.pracked.set()

    # ---- being called -----------------------------------------------------------------------------------------------

    def _respond(self, status: int, reason: str, sdp: str = "") -> Sip:
        assert self._invite is not None
        knows = "100rel" in self._invite.get("Supported")
        if not knows or not 100 < status < 200:
            if self._telling is not None:
                self._telling.cancel()
            return super()._respond(status, reason, sdp)
        if self._told is None:
            early = isinstance(self.phone, ReliablePhone) and self.phone.early_media
            self._told = self._answer_to(self._invite, 183 if early else 180, "Reliably", self._sdp() if early else "")
            self._told.fields += [("Require", "100rel"), ("RSeq", str(self._rseq))]
            self._telling = asyncio.create_task(self._tell())
        self.phone.send(self._told, self._source)
        return self._told

    async def _tell(self) -> None:
        pause = phone.T1
        while not self.pracked.is_set() and pause < phone.GIVE_UP:
            await asyncio.sleep(pause)
            if not self.pracked.is_set():
                assert self._told is not None
                self.phone.send(self._told, self._source)
            pause *= 2

    def on_request(self, message: Sip, source: tuple[str, int]) -> None:
        match message.method:
            case "PRACK":
                self._on_prack(message, source)
            case "UPDATE":
                sdp = self._sdp() if message.body else ""
                if message.body:
                    self._take_sdp(message.body)
                timer = [(name, value) for name, value in message.fields if name == "Session-Expires"]
                answer = self._answer_to(message, 200, "OK", sdp)
                answer.fields += timer
                self.phone.send(answer, source)
            case _:
                super().on_request(message, source)

    def _on_prack(self, message: Sip, source: tuple[str, int]) -> None:
        assert self._told is not None
        known = message.get("RAck") == f"{self._rseq} {self._told.cseq} INVITE"
        # The same PRACK of a successor is a retransmission to us.
        again = message.cseq in self._prack_cseqs
        if known and (again or not self.pracked.is_set()):
            self.pracks += not again
            self._prack_cseqs.add(message.cseq)
            self.pracked.set()
            self.phone.send(message.answer(200, "OK", self.tag), source)
        else:
            self.phone.send(message.answer(481, "No Such Response", self.tag), source)

    # ---- in the call ------------------------------------------------------------------------------------------------

    async def update(self, direction: str = "", headers: list[tuple[str, str]] | None = None) -> Sip:
        """UPDATE, with an offer if a direction is named."""
        self._version += 1
        body = self._sdp(direction) if direction else ""
        answer = await self.phone.request(self._request("UPDATE", headers, body), self._next_hop())
        if answer.status == 200 and answer.body:
            self._take_sdp(answer.body)
        return answer
