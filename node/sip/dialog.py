"""Dialogs (RFC 3261 12): identity, CSeq both ways, route set, remote target."""

from __future__ import annotations

from collections.abc import Iterable

from node.sip.message import Request, Response
from node.sip.uri import Uri
from store.records import DialogRecord

RESERVE = 100
"CSeq numbers reserved ahead in the record."


class Dialog:
    __slots__ = (
        "call_id",
        "cseq",
        "cseq_reserved",
        "local",
        "local_tag",
        "remote",
        "remote_cseq",
        "remote_tag",
        "routes",
        "secure",
        "target",
    )
    call_id: str
    local_tag: str
    remote_tag: str
    local: str
    remote: str
    target: str
    routes: list[str]
    cseq: int
    cseq_reserved: int
    remote_cseq: int
    secure: bool

    @classmethod
    def uas(cls, request: Request, local_tag: str, *, secure: bool = False) -> Dialog:
        """Ours as the called side, from the request that makes it and the tag we put into To."""
        raise NotImplementedError

    @classmethod
    def uac(cls, request: Request, response: Response | None = None, *, secure: bool = False) -> Dialog:
        """Ours as the calling side; early or confirmed by the response, or without a peer's tag yet."""
        raise NotImplementedError

    @property
    def key(self) -> tuple[str, str, str]:
        """Call-ID, local tag, remote tag."""
        raise NotImplementedError

    def matches(self, message: Request | Response) -> bool:
        raise NotImplementedError

    def request(
        self,
        method: str,
        *,
        contact: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        max_forwards: int = 70,
    ) -> Request:
        """The next request in this dialog, with the next CSeq. Not for ACK."""
        raise NotImplementedError

    def ack(
        self, cseq: int, *, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", content_type: str | None = None
    ) -> Request:
        """The ACK to the 2xx of the INVITE with this CSeq; to be sent with `layer.with_via`."""
        raise NotImplementedError

    def accepts(self, request: Request) -> None:
        """Judge the CSeq of a request in this dialog and remember it. Raises OutOfOrder (RFC 3261 12.2.2)."""

    def confirm(self, response: Response) -> None:
        """A 2xx came: its route set and target replace those of the early dialog (RFC 3261 13.2.2.4)."""

    def refresh(self, message: Request | Response) -> None:
        """Target refresh by a re-INVITE, UPDATE, or a 2xx to one (RFC 3261 12.2)."""

    @property
    def next_hop(self) -> Uri:
        """Where its requests go: the first route, else the target."""
        raise NotImplementedError

    @property
    def needs_record(self) -> bool:
        """Has the CSeq come to the end of what the last record reserved?"""
        raise NotImplementedError

    def to_record(self) -> DialogRecord:
        """For the store; reserves the next block of CSeq numbers."""
        raise NotImplementedError

    @classmethod
    def from_record(cls, record: DialogRecord) -> Dialog:
        """A successor's: goes on above everything the predecessor may have used."""
        raise NotImplementedError
