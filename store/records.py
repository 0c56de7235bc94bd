"""The records that rest in the store: one typed struct a thing, each with its owner, epoch and version.

Encoded as msgpack maps (names, not positions), so that a reader accepts what one version before or after it wrote:
a field that is missing takes its default; one that it does not know is kept in `beyond`, and written again.

No record can be part of a cycle, so none is looked at by the collector (`gc=False`): a worker has them by ten thousands.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec

from store import beyond

Transport = Literal["UDP", "TCP", "TLS", "WS", "WSS"]
CallState = Literal["routing", "ringing", "answered", "ended"]
LegState = Literal["trying", "ringing", "early", "answered", "ended"]


class Record(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """What every record carries: who wrote it last, under which epoch, and how often it has been written."""

    node: str = ""
    "Name of the node that wrote it."
    slot: str = ""
    "Slot of the worker that owns it, e.g. `internal#0`."
    epoch: int = 0
    "Epoch the owner wrote under; the store refuses an epoch older than the slot's fence."
    version: int = 0
    "Grows by one with every write; the store ignores an older version of the same record."
    beyond: dict[str, Any] | None = None
    "What a newer release has put here, by name."


class FlowRecord(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """The way a message came or goes: `node.sip.flow.Flow` at rest."""

    profile: str
    transport: Transport = "UDP"
    local_host: str = ""
    local_port: int = 0
    remote_host: str = ""
    remote_port: int = 0
    connection: str = ""
    "Name of the stream connection on the worker that accepted it; empty for UDP."


class Registration(Record, kw_only=True, omit_defaults=True):
    """One binding of an address of record: the columns of mod_sofia's `sip_registrations`, plus flow and instance."""

    call_id: str
    sip_user: str
    sip_host: str
    contact: str
    "As mod_sofia stores it: display, URI in angle brackets, `;fs_nat`, `;fs_path`."
    profile_name: str
    presence_hosts: str = ""
    status: str = "Registered(UDP)"
    ping_status: str = "Reachable"
    ping_count: int = 0
    ping_time: int = 0
    "Microseconds of the last OPTIONS round trip."
    force_ping: int = 0
    rpid: str = "unknown"
    expires: int = 0
    "Seconds since 1970 by the store's clock, late margin included."
    ping_expires: int = 0
    user_agent: str = ""
    server_user: str = ""
    server_host: str = ""
    hostname: str = ""
    "The switchname, alike on both nodes of a pair."
    network_ip: str = ""
    network_port: str = ""
    sip_username: str = ""
    sip_realm: str = ""
    mwi_user: str = ""
    mwi_host: str = ""
    orig_server_host: str = ""
    orig_hostname: str = ""
    sub_host: str = ""
    flow: FlowRecord | None = None
    instance: str = ""
    "`+sip.instance` of the Contact (RFC 5626), empty where the phone gave none."
    reg_id: int = 0
    cseq: int = 0
    metadata: str = ""
    nonce: str = ""
    "The nonce of the digest it was registered by, and the count of its last use: a successor takes only greater ones."
    nonce_count: int = 0

    @property
    def key(self) -> str:
        """The natural key: one row for each contact of an address of record on a profile."""
        return f"{self.profile_name}|{self.sip_user}@{self.sip_host}|{self.contact}"


class DialogRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """One side of a SIP dialog (RFC 3261 12): enough to send and to judge the next request in it."""

    call_id: str
    local_tag: str
    remote_tag: str = ""
    "Empty while the peer has not answered with a tag."
    local: str = ""
    "Our From/To as name-addr or addr-spec, without the tag."
    remote: str = ""
    target: str = ""
    "Remote target: the URI of the peer's Contact."
    routes: list[str] = []
    "Route set in the order in which it is sent, each as name-addr."
    cseq: int = 0
    "The last CSeq we used when this was written."
    cseq_reserved: int = 0
    "We may have used any CSeq up to this one since; a successor goes on above it."
    remote_cseq: int = 0
    secure: bool = False
    beyond: dict[str, Any] | None = None
    "What a newer release has put here, by name."


class PendingInvite(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """An INVITE transaction that is not over: not answered finally, or answered and not yet acknowledged."""

    role: Literal["server", "client"]
    request: bytes
    "The INVITE as received, or as sent with our Via on top."
    flow: FlowRecord
    response: bytes = b""
    "Server: the last response we sent. Client: the last provisional we saw."
    acknowledged: bool = False
    cancelled: bool = False


class ReliableRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """What an INVITE that came in is told reliably before its answer (RFC 3262 3)."""

    required: bool = False
    "The caller insists: no provisional response but 100 goes otherwise."
    cseq: int = 0
    "CSeq of its INVITE."
    rseq: int = 0
    "RSeq of the last one composed; 0 before the first."
    response: bytes = b""
    "The one that has no PRACK yet: repeated byte for byte. Empty when all are acknowledged."
    described: Literal["", "offer", "answer"] = ""
    "What the session description in it is."
    prack: int = 0
    "CSeq of the PRACK that came last: that request again gets its 200 again."
    presumed: int = 0
    "RSeq of the last one that was taken for acknowledged without a PRACK: what comes for it, or for one before, gets a 200."
    complete: bool = False
    "An offer and its answer were exchanged, and acknowledged: the 2xx holds none, an UPDATE may offer anew."
    waiting: list[tuple[int, str]] = []
    "Status and session description of those that follow when the one before is acknowledged."


class EarlyRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """An early dialog of an INVITE of ours, made by a reliable provisional response; a forking proxy makes several."""

    dialog: DialogRecord
    flow: FlowRecord | None = None
    rseq: int = 0
    "The last RSeq taken."
    complete: bool = False
    "Offer and answer were exchanged in it."
    prack: bytes = b""
    "Our PRACK as sent, with its Via, while it has no answer: a successor repeats it."


class MediaRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """One leg's side of the media: our address and ports, the peer's, and both SDPs as they stand."""

    address: str = ""
    "The local address its sockets are bound to."
    advertised: str = ""
    "The address our SDP names."
    port: int = 0
    "RTP port; RTCP is the next one."
    remote_host: str = ""
    remote_port: int = 0
    remote_rtcp_port: int = 0
    local_sdp: str = ""
    "Last SDP we sent to this leg."
    remote_sdp: str = ""
    "Last SDP this leg sent to us."
    sdp_session: int = 0
    sdp_version: int = 0
    "`o=` session id and version of our SDP (RFC 3264 8: the version grows by one with each change)."
    learned_host: str = ""
    learned_port: int = 0
    "Where its packets were found to come from, when that is not what its SDP says."
    codec: Literal["", "PCMU", "PCMA"] = ""
    payload_type: int = 0
    "What we ourselves agreed on with this leg, to play to it; empty where the other leg's answer was passed on."
    held: Literal["", "local", "remote", "both"] = ""
    ssrc: int = 0
    "SSRC of what we ourselves send to this leg (playback, echo excepted)."
    engine: str = ""
    "The ng socket (`host:port`) of the rtpengine that has its port; empty: our own relay."
    engine_call_id: str = ""
    engine_tag: str = ""
    "What the leg is called there; its partner's tag in the same session is in the partner's record."
    beyond: dict[str, Any] | None = None
    "What a newer release has put here, by name."


class ReferralRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """A REFER of this leg's peer (RFC 3515): what it asked for, how far that has come, and what the peer was told of it."""

    cseq: int
    "Of the REFER; it names the subscription (`Event: refer;id=3`), and a repeated REFER is known by it."
    request: bytes = b""
    "The REFER as received, until its 202 is sure to have arrived: whoever takes over sends that again."
    flow: FlowRecord | None = None
    target: str = ""
    "The Refer-To as it came."
    by: str = ""
    "Referred-By."
    kind: Literal["blind", "attended"] = "blind"
    silent: bool = False
    "It does not want to hear of it (RFC 4488)."
    confirm: bool = False
    "It hears what really becomes of it, and has its call back if that fails."
    state: Literal["accepted", "trying", "final", "told"] = "accepted"
    "On record; under way; over; and the peer knows."
    status: int = 100
    "What the last NOTIFY says, or is to say."
    transferee: str = ""
    "UUID of the leg that is transferred."


class LegRecord(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False, forbid_unknown_fields=True):
    """One side of a call."""

    uuid: str
    direction: Literal["inbound", "outbound"]
    profile: str
    state: LegState = "trying"
    flow: FlowRecord | None = None
    "Where its in-dialog requests go."
    dialog: DialogRecord | None = None
    invite: PendingInvite | None = None
    "Its INVITE transaction, until it is over."
    media: MediaRecord | None = None
    variables: dict[str, str] = {}
    name: str = ""
    "Channel name, e.g. `sofia/internal/1000@example.org`."
    username: str = ""
    caller_id_name: str = ""
    caller_id_number: str = ""
    callee_id_name: str = ""
    callee_id_number: str = ""
    destination: str = ""
    context: str = ""
    dialplan: str = "XML"
    network_addr: str = ""
    user_agent: str = ""
    gateway: str = ""
    created: float = 0.0
    progressed: float = 0.0
    progress_media: float = 0.0
    answered: float = 0.0
    bridged: float = 0.0
    invite_cseq: int = 0
    "CSeq of the last INVITE we sent on it: what its 2xx, come again, is acknowledged by."
    credentials: tuple[tuple[str, str], ...] = ()
    "Header fields of that INVITE which its ACK repeats (RFC 3261 22.1)."
    awaits_ack: bool = False
    "Its 2xx has no ACK of ours yet."
    delayed: bool = False
    "Our last INVITE on it had no offer: our ACK holds the answer."
    early_sent: bool = False
    "An SDP answer went to it in a 183."
    cause: str = ""
    "Why it ended, or is to end as soon as it has acknowledged."
    session_expires: int = 0
    "Session timer (RFC 4028): the interval agreed on, or proposed while nobody is the refresher; 0 for none."
    session_refresher: Literal["", "us", "them"] = ""
    session_minimum: int = 0
    "The greatest Min-SE we were told."
    session_refreshed: float = 0.0
    "When the session was refreshed last (store's clock); 0 before the answer."
    reliable: ReliableRecord | None = None
    "For a caller that knows 100rel, until its INVITE is over."
    early: list[EarlyRecord] = []
    "For a callee that has not answered."
    referral: ReferralRecord | None = None
    taken_from: str = ""
    "UUID of the call it was taken from by a transfer, while that one's record may still have it."
    parting: tuple[str, ...] = ()
    "Extension, dialplan and context that it is to go to in a call of its own (`uuid_transfer -both`)."
    proven: str = ""
    "With `auth-all-packets`: who its INVITE proved to be, as `user@domain`. Its other requests must prove the same."
    beyond: dict[str, Any] | None = None
    "What a newer release has put here, by name."


class Step(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One dialplan action still to be run, or running: application and its data, unexpanded."""

    application: str
    data: str = ""


class CallRecord(Record, kw_only=True, omit_defaults=True):
    """A call with all its legs: what its actor needs to live on in another process, or on the other node."""

    uuid: str
    "UUID of the first leg."
    state: CallState = "routing"
    profile_name: str = ""
    legs: list[LegRecord] = []
    bridged: list[str] = []
    "UUIDs of the two legs that are bridged; empty when none are."
    steps: list[Step] = []
    "The dialplan's actions."
    position: int = 0
    "Index of the running action in `steps`."
    progress: dict[str, str] = {}
    "What the running action needs to be resumed at its place (its own words)."
    created: float = 0.0
    expires: float = 0.0
    "For an ended call: until when its tombstone still answers retransmissions (store's clock)."

    @property
    def key(self) -> str:
        return self.uuid

    @property
    def call_ids(self) -> list[str]:
        return [leg.dialog.call_id for leg in self.legs if leg.dialog is not None]


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Who may be active, and until when by the store's clock (seconds since 1970)."""

    holder: str
    epoch: int
    until: float
    now: float
    "The store's clock when this was read or written: `until - now` is what is left."


def encode(record: Record) -> bytes:
    if holds_more(record):
        return _encode_more(record)
    try:
        return msgspec.msgpack.encode(record)
    except UnicodeEncodeError:
        return ESCAPED + msgspec.msgpack.encode(_translated(record, _STORABLE))


def holds_more(record: Record) -> bool:
    """Is there something of a newer release in it?"""
    if record.beyond is not None:
        return True
    if not isinstance(record, CallRecord):
        return False
    for leg in record.legs:  # no `any`: this is asked before each write
        dialog, media = leg.dialog, leg.media
        if leg.beyond is not None or (dialog is not None and dialog.beyond is not None):
            return True
        if media is not None and media.beyond is not None:
            return True
        if leg.early and any(early.dialog.beyond is not None for early in leg.early):
            return True
    return False


def _encode_more(record: Record) -> bytes:
    values = beyond.spread(msgspec.to_builtins(record, builtin_types=(bytes,)), type(record))
    try:
        return msgspec.msgpack.encode(values)
    except UnicodeEncodeError:
        return ESCAPED + msgspec.msgpack.encode(_translated(values, _STORABLE))


def decode_registration(data: bytes) -> Registration:
    if data[:1] == ESCAPED:
        return _original(_decoded(_registration, data[1:], Registration))
    return _decoded(_registration, data, Registration)


def decode_call(data: bytes) -> CallRecord:
    if data[:1] == ESCAPED:
        return _original(_decoded(_call, data[1:], CallRecord))
    return _decoded(_call, data, CallRecord)


def registration_of(values: dict[str, Any]) -> Registration:
    """From plain values by name. Raises `msgspec.ValidationError`."""
    try:
        return msgspec.convert(values, Registration)
    except msgspec.ValidationError:
        return beyond.convert(values, Registration)


def as_stored(record: R, data: bytes) -> R:
    """The record with every text as it rests in the store, given what `encode` made of it."""
    if data[:1] == ESCAPED:
        return _decoded(msgspec.msgpack.Decoder(type(record)), data[1:], type(record))
    return record


def _decoded(decoder: msgspec.msgpack.Decoder[R], data: bytes, kind: type[R]) -> R:
    """Field by field, if a newer release wrote it. Raises `msgspec.MsgspecError`."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:
        return beyond.convert(msgspec.msgpack.decode(data, type=dict[str, Any]), kind)


def storable(text: str) -> str:
    """A text as it rests in the store.

    What peers send need not be UTF-8; the stack keeps the odd bytes as lone surrogates (`surrogateescape`), which no
    database and no msgpack takes. They rest as private characters U+F780 to U+F7FF, and come back as they were.
    """
    return text if text.isascii() else text.translate(_STORABLE)


def original(text: str) -> str:
    """The inverse of `storable`."""
    return text if text.isascii() else text.translate(_ORIGINAL)


R = TypeVar("R", bound=Record)
ESCAPED = b"\xc1"
"First byte of a record that had such bytes; msgpack itself never uses it."

_STORABLE = {0xDC80 + n: 0xF780 + n for n in range(0x80)}
_ORIGINAL = {0xF780 + n: 0xDC80 + n for n in range(0x80)}
_registration = msgspec.msgpack.Decoder(Registration)
_call = msgspec.msgpack.Decoder(CallRecord)


def _original(record: R) -> R:
    return msgspec.convert(_translated(record, _ORIGINAL), type(record))


def _translated(thing: Any, table: dict[int, int]) -> Any:
    """The same in plain dictionaries and lists, with every text translated."""
    match thing:
        case str():
            return thing.translate(table)
        case dict():
            return {_translated(key, table): _translated(value, table) for key, value in thing.items()}
        case list():
            return [_translated(item, table) for item in thing]
        case msgspec.Struct():
            return _translated(msgspec.to_builtins(thing, builtin_types=(bytes,)), table)
        case _:
            return thing
