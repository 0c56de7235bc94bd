"""Requests of dialogs that are not here: the store says whose they are.

A 481 ends the call of who hears it (RFC 5057 5.1), so it is said only where the store was asked and knows of no such dialog.
While the store cannot be asked, and while a live call is on its way here, the request waits, as its author does; who has
waited long enough hears 500 with Retry-After, which ends nothing. Of those that wait for the store one asks for all; those of one dialog are
served in the order in which they came, for the later one's CSeq would make the earlier one's look old.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from node.calls.reply import PATIENCE
from node.sip.flow import Flow
from node.sip.message import Request
from store.errors import StoreError
from store.interface import Store
from store.records import CallRecord, LegRecord

if TYPE_CHECKING:
    from node.sip.layer import ServerTransaction
    from node.transport.endpoint import Endpoint

log = logging.getLogger(__name__)

RETRY = ("Retry-After", "2")
ASKED = 512
"Requests that may be asked for at once: a flood of them must not fill the store's queue."
WAITING = 8192
"Requests that may wait."
LOOK_AGAIN = 0.25
FORGOTTEN = 32.0
"Seconds after which nobody waits for its answer any more (64*T1): who was given the request has answered it, or nobody will."

T = TypeVar("T")


class Asker(Protocol):
    """The writer, as far as it answers questions."""

    def ask(
        self, question: Callable[[Store], T], then: Callable[[T | StoreError], None], deadline: float = 2.0
    ) -> None: ...


class Office(Protocol):
    """Where such requests arrive."""

    endpoint: Endpoint
    elsewhere: Callable[[CallRecord, Request, Flow, Callable[[], None]], None] | None
    "Brings a request to who has its record, or the record to us; then it calls back."

    def knows(self, request: Request) -> bool:
        """Whether its dialog is here, live or just ended."""

    def serve(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        """What its dialog makes of it."""

    def say(
        self, request: Request, transaction: ServerTransaction, status: int, headers: tuple[tuple[str, str], ...]
    ) -> None:
        """Answer by ourselves."""


class Search:
    """One request, and until when it may wait."""

    __slots__ = ("brought", "flow", "live", "over", "request", "transaction", "until")

    def __init__(self, request: Request, transaction: ServerTransaction, flow: Flow, until: float) -> None:
        self.request = request
        self.transaction = transaction
        self.flow = flow
        self.until = until
        self.live = False
        "The store has said that there is such a dialog: it is on its way here, or its owner is being replaced."
        self.brought = False
        "It went to another worker perhaps, of which nothing is heard if it is there."
        self.over = False

    @property
    def dialog(self) -> tuple[str, str]:
        return self.request.call_id, self.request.to_tag


class Searches:
    """All requests of a worker whose dialogs are sought."""

    def __init__(self, office: Office, asker: Asker) -> None:
        self._office = office
        self._asker = asker
        self._asked = 0
        self._waiting: deque[Search] = deque()
        self._by_dialog: dict[tuple[str, str], list[Search]] = {}
        "Those of each dialog, in the order in which they came."
        self._looking = False

    def __len__(self) -> int:
        return self._asked + len(self._waiting)

    def begin(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        """Find out, and answer."""
        search = Search(request, transaction, flow, self._office.endpoint.now() + PATIENCE)
        if len(self._waiting) >= WAITING:
            self._say(search, 500)
            return
        self._by_dialog.setdefault(search.dialog, []).append(search)
        if self._asked >= ASKED:
            self._wait(search)
        else:
            self._ask(search)

    # ---- the store -------------------------------------------------------------------------------------------------

    def _ask(self, search: Search) -> None:
        self._asked += 1
        call_id = search.request.call_id
        self._asker.ask(lambda store: store.call_by_call_id(call_id), partial(self._on_answer, search))

    def _on_answer(self, search: Search, record: CallRecord | StoreError | None) -> None:
        self._asked -= 1
        if self._settled(search):
            return
        if isinstance(record, StoreError):
            self._wait(search)
            return
        leg = _named(record, search.request.to_tag) if record is not None else None
        if record is None:
            self._say(search, 481)
        elif record.state == "ended" or (leg is not None and leg.state == "ended"):
            self._say(search, 200 if search.request.method in ("BYE", "CANCEL") else 481)
        else:
            search.live = leg is not None
            self._bring(search, record)
        self._ask_for_all()

    def _bring(self, search: Search, record: CallRecord) -> None:
        if self._office.elsewhere is None:
            self._on_brought(search)
            return
        if not search.brought:
            search.brought = True
            self._office.endpoint.later(FORGOTTEN, partial(self._give_up, search))
        self._office.elsewhere(record, search.request, search.flow, partial(self._on_brought, search))

    def _on_brought(self, search: Search) -> None:
        """Its record is here, or could not be brought: the store is gone again, or its owner is being replaced."""
        if self._settled(search):
            return
        if search.request.method == "CANCEL":
            self._say(search, 200)  # its INVITE has had its answer
        elif search.live:
            self._wait(search)
        else:
            self._say(search, 481)  # a call with this Call-ID, and without this dialog

    # ---- waiting ---------------------------------------------------------------------------------------------------

    def _wait(self, search: Search) -> None:
        if self._office.endpoint.now() >= search.until:
            self._say(search, 500)
            return
        self._waiting.append(search)
        if not self._looking:
            self._looking = True
            self._office.endpoint.later(LOOK_AGAIN, self._look)

    def _look(self) -> None:
        """Is what is waited for here? Has somebody waited too long? Can the store be asked again?"""
        self._looking = False
        waiting, self._waiting = self._waiting, deque()
        asking: Search | None = None
        now = self._office.endpoint.now()
        for search in waiting:
            if self._settled(search):
                continue
            if now >= search.until:
                self._say(search, 500)
            elif search.live and self._asked < ASKED:
                self._ask(search)
            elif asking is None and self._asked < ASKED:
                asking = search
            else:
                self._waiting.append(search)
        if asking is not None:
            self._ask(asking)
        if self._waiting and not self._looking:
            self._looking = True
            self._office.endpoint.later(LOOK_AGAIN, self._look)

    def _ask_for_all(self) -> None:
        """The store has answered one of them. Those that wait for something else than the store go on waiting."""
        for _ in range(len(self._waiting)):
            if self._asked >= ASKED or not self._waiting:
                return
            search = self._waiting.popleft()
            if search.live:
                self._waiting.append(search)
            else:
                self._ask(search)

    # ---- the end ---------------------------------------------------------------------------------------------------

    def _settled(self, search: Search) -> bool:
        """Its dialog is here, its INVITE is, or nobody waits for an answer any more."""
        office, request, transaction = self._office, search.request, search.transaction
        if search.over:
            return True
        if transaction.final or not transaction.alive:
            self._forget(search)
        elif request.method == "CANCEL":
            if office.endpoint.meet(request, transaction):
                self._forget(search)
        elif office.knows(request):
            self._serve(search.dialog)
        return search.over

    def _serve(self, dialog: tuple[str, str]) -> None:
        for search in self._by_dialog.pop(dialog, ()):
            search.over = True
            if search.transaction.alive and not search.transaction.final:
                try:
                    self._office.serve(search.request, search.transaction, search.flow)
                except Exception:
                    log.exception("a %s that had waited for its dialog broke", search.request.method)

    def _say(self, search: Search, status: int) -> None:
        self._forget(search)
        self._office.say(search.request, search.transaction, status, (RETRY,) if status == 500 else ())

    def _give_up(self, search: Search) -> None:
        """Another worker has answered it, or nobody."""
        if not search.over:
            self._forget(search)
            search.transaction.forget()

    def _forget(self, search: Search) -> None:
        search.over = True
        others = self._by_dialog.get(search.dialog, [])
        if search in others:
            others.remove(search)
            if not others:
                del self._by_dialog[search.dialog]


def _named(record: CallRecord, tag: str) -> LegRecord | None:
    """The leg whose dialog has this tag of ours."""
    return next((leg for leg in record.legs if leg.dialog is not None and leg.dialog.local_tag == tag), None)
