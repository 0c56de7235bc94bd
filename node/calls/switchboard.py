"""All calls of one worker: which call a message belongs to, and what the console may ask about them.

The worker is the transaction user of its stack and hands on what is about calls:

* a new INVITE, once `screen` let it in: `on_invite` (with the directory user that authenticated, if one did);
* everything inside a dialog, and ACK: `on_request`, if `knows` says so or the To tag is one of ours;
* `on_cancel`, `on_response`, `on_failure`, `on_unacknowledged`: whenever `transaction.owner` is one of this package's
  (`isinstance(transaction.owner, (Call, Asked))`), and `on_stray_response`, `on_stray_cancel` always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from node.config import Configuration
    from node.directory import Directory, User
    from node.events import EventStream
    from node.media.session import MediaClient
    from node.registrar.location import Location
    from node.sip.flow import Flow
    from node.sip.layer import ClientTransaction, ServerTransaction
    from node.sip.message import Request, Response
    from node.transport.endpoint import Endpoint
    from store.records import CallRecord
    from store.writer import Writer

Reinvite = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one leg in a recovery."""

    uuid: str
    "Of the leg."
    call: str
    "UUID of its call."
    ok: bool
    cause: str
    "`revived`, `reinvited`, or why the leg was given up, e.g. `481`."


class Switchboard:
    """The calls of one worker, by UUID and by dialog."""

    def __init__(
        self,
        *,
        slot: str,
        node: str,
        epoch: int,
        endpoint: Endpoint,
        media: MediaClient,
        writer: Writer,
        configuration: Configuration,
        directory: Directory,
        location: Location,
        events: EventStream,
        core_uuid: str = "",
    ) -> None: ...

    # ---- what the worker hands on ----------------------------------------------------------------------------------

    def knows(self, request: Request) -> bool:
        """Whether the request is inside a dialog of a live call here."""

    def on_invite(
        self,
        request: Request,
        transaction: ServerTransaction,
        flow: Flow,
        *,
        user: User | None = None,
        context: str = "",
        variables: dict[str, str] | None = None,
    ) -> None:
        """A new INVITE that may enter: `user` authenticated it, an access list may name another `context`."""

    def on_request(self, request: Request, transaction: ServerTransaction | None, flow: Flow) -> None: ...
    def on_cancel(self, transaction: ServerTransaction, request: Request) -> None: ...
    def on_response(self, response: Response, transaction: ClientTransaction) -> None: ...
    def on_failure(self, transaction: ClientTransaction, cause: str) -> None: ...
    def on_unacknowledged(self, transaction: ServerTransaction) -> None: ...
    def on_stray_response(self, response: Response, flow: Flow) -> None: ...
    def on_stray_cancel(self, request: Request, flow: Flow) -> None: ...

    # ---- what the console asks -------------------------------------------------------------------------------------

    def originate(self, words: str, then: Callable[[str], None]) -> None:
        """`originate` as in FreeSWITCH; `then` gets `+OK <uuid>` or `-ERR <CAUSE>`."""

    def kill(self, uuid: str, cause: str = "NORMAL_CLEARING") -> bool: ...
    def hupall(self, cause: str = "MANAGER_REQUEST") -> int: ...
    def exists(self, uuid: str) -> bool: ...
    def channels(self) -> list[dict[str, str]]:
        """The rows of `show channels`, columns in their order."""

    def calls(self) -> list[dict[str, str]]:
        """The rows of `show calls`, columns in their order."""

    def dump(self, uuid: str) -> list[tuple[str, str]] | None:
        """The headers of `uuid_dump`, values unescaped, in order; None for an unknown UUID."""

    def getvar(self, uuid: str, name: str) -> str | None: ...
    def setvar(self, uuid: str, name: str, value: str) -> bool: ...

    @property
    def sessions(self) -> int:
        """Live legs."""

    # ---- failover --------------------------------------------------------------------------------------------------

    def set_epoch(self, epoch: int) -> None: ...

    def revive(
        self,
        records: Sequence[CallRecord],
        *,
        reinvite: Reinvite = "auto",
        rate: float = 0.0,
        then: Callable[[list[Result]], None] | None = None,
    ) -> list[Result]:
        """Take over the calls of these records. Returns what became of each leg at once; `then` is called with the
        final results when the last re-INVITE is answered (at most `rate` re-INVITEs a second, 0 for no limit)."""

    def drain(self) -> None:
        """Refuse new calls from now on (503)."""

    def close(self) -> None:
        """Stop all timers and forget the calls, without a BYE: somebody else goes on with them."""
