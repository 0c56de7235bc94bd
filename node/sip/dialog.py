"""Dialogs (RFC 3261 12): identity, CSeq both ways, route set, remote target.

One object a dialog: an INVITE that was forked makes several, one for each To tag. CSeq numbers are reserved in the
record by blocks, so that a successor can go on above whatever its predecessor used since it was written, without a
write for every request.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from node.sip import compose
from node.sip.errors import Malformed, OutOfOrder
from node.sip.fields import NameAddr
from node.sip.message import Message, Request, Response
from node.sip.uri import Uri
from store.records import DialogRecord

RESERVE = 100
"CSeq numbers reserved ahead in the record."
MARGIN = 10
"So many before the end of the block a new record is wanted, for it takes a moment to be written."

_NOT_IN_REQUEST_URI = ("method",)
"RFC 3261 19.1.1; the headers part may not stand there either."


class Dialog:
    """One dialog, seen from our side."""

    __slots__ = (
        "beyond",
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

    def __init__(
        self,
        call_id: str,
        local_tag: str,
        remote_tag: str = "",
        *,
        local: str = "",
        remote: str = "",
        target: str = "",
        routes: Sequence[str] = (),
        cseq: int = 0,
        remote_cseq: int = 0,
        secure: bool = False,
    ) -> None:
        self.call_id = call_id
        self.local_tag = local_tag
        self.remote_tag = remote_tag
        "Empty while the peer has not answered with a tag, and for RFC 2543 peers."
        self.local = local
        "Our From/To as name-addr or addr-spec, without the tag."
        self.remote = remote
        self.target = target
        "Remote target: the URI of the peer's Contact."
        self.routes = list(routes)
        "Route set in the order in which it is sent."
        self.cseq = cseq
        "The last CSeq number we used; 0 before the first."
        self.cseq_reserved = cseq
        "Up to which number the last record reserved."
        self.remote_cseq = remote_cseq
        "The highest CSeq number of the peer's requests; 0 before the first."
        self.secure = secure
        self.beyond: dict[str, object] | None = None
        "What a newer release has written of it."

    # ---- how dialogs come to be ------------------------------------------------------------------------------------

    @classmethod
    def uas(cls, request: Request, local_tag: str, *, secure: bool | None = None) -> Dialog:
        """Ours as the called side (RFC 3261 12.1.1), from the request that makes it and the tag we put into To."""
        return cls(
            request.call_id,
            local_tag,
            request.from_tag,
            local=_untagged(request.header("to")),
            remote=_untagged(request.header("from")),
            target=_contact(request),
            routes=request.headers("record-route"),
            remote_cseq=request.cseq.number,
            secure=request.uri[:5].lower() == "sips:" if secure is None else secure,
        )

    @classmethod
    def uac(cls, request: Request, response: Response | None = None, *, secure: bool | None = None) -> Dialog:
        """Ours as the calling side (RFC 3261 12.1.2): early or confirmed by the response, or without a peer's tag yet.

        Without a response (or one without Contact or tag) it can only wait for `confirm`.
        """
        dialog = cls(
            request.call_id,
            request.from_tag,
            local=_untagged(request.header("from")),
            remote=_untagged(request.header("to")),
            target=request.uri,
            routes=request.headers("route"),
            cseq=request.cseq.number,
            secure=request.uri[:5].lower() == "sips:" if secure is None else secure,
        )
        if response is not None:
            dialog.confirm(response)
        return dialog

    def confirm(self, response: Response) -> None:
        """A response that makes or confirms the dialog came: its tag, route set and target count.

        A 2xx replaces the route set of the early dialog (RFC 3261 13.2.2.4); later ones no longer do (12.2.1.2: use `refresh`).
        """
        self.remote_tag = response.to_tag or self.remote_tag
        self.remote = _untagged(response.header("to")) or self.remote
        self.routes = response.headers("record-route")[::-1]
        self.refresh(response)

    # ---- identity --------------------------------------------------------------------------------------------------

    @property
    def key(self) -> tuple[str, str, str]:
        """Call-ID, local tag, remote tag."""
        return (self.call_id, self.local_tag, self.remote_tag)

    @property
    def local_field(self) -> str:
        """Our From or To with its tag."""
        return f"{self.local};tag={self.local_tag}" if self.local_tag else self.local

    @property
    def remote_field(self) -> str:
        """The peer's From or To with its tag."""
        return f"{self.remote};tag={self.remote_tag}" if self.remote_tag else self.remote

    def matches(self, message: Message) -> bool:
        """Is this request from the peer, or this response to a request of ours, in this dialog?"""
        if message.call_id != self.call_id:
            return False
        local, remote = message.to_tag, message.from_tag
        if isinstance(message, Response):
            local, remote = remote, local
        return local == self.local_tag and remote == self.remote_tag

    # ---- our requests ----------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        *,
        contact: str | None = None,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        max_forwards: int = 70,
        swapped: bool = False,
    ) -> Request:
        """The next request in this dialog, with the next CSeq. Not for ACK.

        `swapped`: From and To change places, against RFC 3261 12.2.1.1, for a peer that knows the dialog that way round.
        """
        self.cseq += 1
        uri, routes = self._way()
        return compose.request(
            method,
            uri,
            from_=self.remote_field if swapped else self.local_field,
            to=self.local_field if swapped else self.remote_field,
            call_id=self.call_id,
            cseq=self.cseq,
            max_forwards=max_forwards,
            routes=routes,
            contact=contact,
            headers=headers,
            body=body,
            content_type=content_type,
        )

    def ack(
        self,
        cseq: int,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        content_type: str | None = None,
        swapped: bool = False,
    ) -> Request:
        """The ACK to the 2xx of the INVITE with this CSeq (RFC 3261 13.2.2.4); to be sent with `layer.with_via`."""
        uri, routes = self._way()
        return compose.request(
            "ACK",
            uri,
            from_=self.remote_field if swapped else self.local_field,
            to=self.local_field if swapped else self.remote_field,
            call_id=self.call_id,
            cseq=cseq,
            routes=routes,
            headers=headers,
            body=body,
            content_type=content_type,
        )

    @property
    def next_hop(self) -> Uri:
        """Where its requests go: the first route, else the target."""
        return NameAddr.parse(self.routes[0]).uri if self.routes else Uri.parse(self.target)

    def _way(self) -> tuple[str, list[str]]:
        """Request-URI and Route fields (RFC 3261 12.2.1.1): with a strict router first, it goes into the Request-URI."""
        if not self.routes:
            return self.target, []
        first = NameAddr.parse(self.routes[0]).uri
        if first.param("lr") is not None:
            return self.target, self.routes
        kept = tuple(item for item in first.params if item[0].lower() not in _NOT_IN_REQUEST_URI)
        uri = Uri(first.scheme, first.user, first.host, first.port, first.password, kept)
        return str(uri), [*self.routes[1:], f"<{self.target}>"]

    # ---- what the peer sends ---------------------------------------------------------------------------------------

    def accepts(self, request: Request) -> None:
        """Judge the CSeq of the peer's request and remember it. Raises OutOfOrder (RFC 3261 12.2.2).

        The same number again is let through: retransmissions are absorbed below, and one that comes here belongs to a
        transaction that a predecessor took with it. ACK and CANCEL bear the number of their INVITE.
        """
        if request.method in ("ACK", "CANCEL"):
            return
        number = request.cseq.number
        if number < self.remote_cseq:
            raise OutOfOrder(f"CSeq {number} after {self.remote_cseq}")
        self.remote_cseq = number

    def refresh(self, message: Message) -> None:
        """Target refresh by the Contact of a re-INVITE, UPDATE, SUBSCRIBE, NOTIFY, or of a 2xx to one (RFC 3261 12.2)."""
        contacts = message.contacts
        if contacts:
            self.target = str(contacts[0].uri)

    # ---- at rest ---------------------------------------------------------------------------------------------------

    @property
    def needs_record(self) -> bool:
        """Has the CSeq come (nearly) to the end of what the last record reserved? True of a new or revived dialog."""
        return self.cseq + MARGIN >= self.cseq_reserved

    def to_record(self) -> DialogRecord:
        """For the store; reserves the next block of CSeq numbers if the last one is half used."""
        if self.cseq_reserved - self.cseq < RESERVE // 2:
            self.cseq_reserved = self.cseq + RESERVE
        return DialogRecord(
            call_id=self.call_id,
            local_tag=self.local_tag,
            remote_tag=self.remote_tag,
            local=self.local,
            remote=self.remote,
            target=self.target,
            routes=self.routes.copy(),
            cseq=self.cseq,
            cseq_reserved=self.cseq_reserved,
            remote_cseq=self.remote_cseq,
            secure=self.secure,
            beyond=self.beyond,
        )

    @classmethod
    def from_record(cls, record: DialogRecord) -> Dialog:
        """A successor's: its next CSeq is above everything the predecessor may have used; it reserves anew when written."""
        dialog = cls(
            record.call_id,
            record.local_tag,
            record.remote_tag,
            local=record.local,
            remote=record.remote,
            target=record.target,
            routes=record.routes,
            cseq=max(record.cseq, record.cseq_reserved),
            remote_cseq=record.remote_cseq,
            secure=record.secure,
        )
        dialog.beyond = record.beyond
        return dialog


def _contact(request: Request) -> str:
    contacts = request.contacts
    if not contacts:
        raise Malformed("Contact", "missing")
    return str(contacts[0].uri)


def _untagged(text: str | None) -> str:
    """A From or To as it was written, without its tag."""
    if not text:
        return ""
    if ";" not in text.rpartition(">")[2]:
        return text
    return str(NameAddr.parse(text).without_params("tag"))
