"""What a worker and the media process say to each other, and how it is written: msgpack in Unix datagrams.

A worker collects what it wants and sends it as one `Orders`; the media process answers with `Reports`, in which
replies carry the number of the order and notices carry none. Datagrams between Unix sockets are neither lost nor
reordered, so an order needs no acknowledgement of its own; what is lost is lost with the process, and then the
`instance` of the next report is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import msgspec

from node.sip.token import token
from node.text import encodable

MAXIMUM = 60_000
"Bytes of one datagram; what is longer is sent in parts."

CodecName = Literal["PCMU", "PCMA"]


class Open(msgspec.Struct, tag="open", array_like=True):
    number: int
    leg: str
    address: str
    first: int
    last: int
    port: int = 0
    "Exactly this RTP port; 0 leaves the choice to the media process."
    dscp: int = 46
    "What its packets bear: EF, for voice (RFC 4594)."


class Remote(msgspec.Struct, tag="remote", array_like=True):
    leg: str
    host: str
    port: int
    rtcp_port: int
    learned_host: str = ""
    "Where the peer was found really to be, when that is known from before."
    learned_port: int = 0


class Join(msgspec.Struct, tag="join", array_like=True):
    a: str
    b: str


class Part(msgspec.Struct, tag="part", array_like=True):
    leg: str


class Play(msgspec.Struct, tag="play", array_like=True):
    number: int
    leg: str
    source: str
    payload_type: int
    codec: CodecName
    skip: float = 0.0
    "Seconds of it that were played before."


class Stop(msgspec.Struct, tag="stop", array_like=True):
    leg: str


class Echo(msgspec.Struct, tag="echo", array_like=True):
    leg: str
    on: bool


class Watch(msgspec.Struct, tag="watch", array_like=True):
    """Say when nothing came from this leg for so many seconds; 0 watches no more."""

    leg: str
    seconds: float


class Recognise(msgspec.Struct, tag="recognise", array_like=True):
    """Say which telephone-events (RFC 4733) of this payload type come from the leg; -1 listens no more."""

    leg: str
    payload_type: int


class Close(msgspec.Struct, tag="close", array_like=True):
    leg: str


class Count(msgspec.Struct, tag="count", array_like=True):
    number: int
    leg: str


class Sweep(msgspec.Struct, tag="sweep", array_like=True):
    """One part of the list of living legs; with the last part the others of the slot are dropped."""

    part: int
    parts: int
    live: list[str]


class Hello(msgspec.Struct, tag="hello", array_like=True):
    """Are you there? Answered with a report, be it an empty one."""


Order = Open | Remote | Join | Part | Play | Stop | Echo | Watch | Recognise | Close | Count | Sweep | Hello


class Opened(msgspec.Struct, tag="opened", array_like=True):
    number: int
    port: int


class Refused(msgspec.Struct, tag="refused", array_like=True):
    number: int
    reason: str


class Played(msgspec.Struct, tag="played", array_like=True):
    """The source was played to its end, or stopped before it."""

    number: int
    stopped: bool = False


class Counters(msgspec.Struct, tag="counters", array_like=True):
    """What came from a leg and what went to it; `played` is the part that the media process made itself."""

    number: int
    packets_in: int = 0
    octets_in: int = 0
    packets_out: int = 0
    octets_out: int = 0
    rtcp_in: int = 0
    rtcp_out: int = 0
    played: int = 0
    dropped: int = 0
    "Packets that were thrown away: no RTP, from a stranger, or the socket would not take them."
    remote_host: str = ""
    "Where packets to the leg go now."
    remote_port: int = 0


class Learned(msgspec.Struct, tag="learned", array_like=True):
    """The peer of this leg sends from here, which is not what its SDP says."""

    leg: str
    host: str
    port: int


class Silent(msgspec.Struct, tag="silent", array_like=True):
    leg: str


class Pressed(msgspec.Struct, tag="pressed", array_like=True):
    leg: str
    digit: str
    milliseconds: int


Report = Opened | Refused | Played | Counters | Learned | Silent | Pressed


class Orders(msgspec.Struct, array_like=True):
    slot: str
    orders: list[Order]


class Reports(msgspec.Struct, array_like=True):
    instance: str
    "Another one after each start of the media process."
    reports: list[Report]


def client_path(path: str, slot: str) -> str:
    """Where the worker of a slot hears from the media process that listens at `path`."""
    return f"{path}-{token(slot)}"


_encoder = msgspec.msgpack.Encoder()
_orders = msgspec.msgpack.Decoder(Orders)
_reports = msgspec.msgpack.Decoder(Reports)


def decode_orders(datagram: bytes) -> Orders:
    """Raises msgspec.MsgspecError on anything but orders."""
    return _orders.decode(datagram)


def decode_reports(datagram: bytes) -> Reports:
    """Raises msgspec.MsgspecError on anything but reports."""
    return _reports.decode(datagram)


def encode_orders(slot: str, orders: Sequence[Order]) -> list[bytes]:
    """The orders as datagrams, in order: one, unless they are too many for one."""
    return _split(orders, lambda part: _encode(Orders(slot, list(part))))


def encode_reports(instance: str, reports: Sequence[Report]) -> list[bytes]:
    return _split(reports, lambda part: _encode(Reports(instance, list(part))))


def _encode(message: Orders | Reports) -> bytes:
    """One order that cannot be encoded must not keep the others from being obeyed."""
    try:
        return _encoder.encode(message)
    except UnicodeEncodeError:
        return _encoder.encode(encodable(message))


Item = TypeVar("Item")


def _split(items: Sequence[Item], encode: Callable[[Sequence[Item]], bytes]) -> list[bytes]:
    whole = encode(items)
    if len(whole) <= MAXIMUM or len(items) < 2:
        return [whole]
    half = len(items) // 2
    return _split(items[:half], encode) + _split(items[half:], encode)


def sweep_orders(live: Sequence[str], per_part: int = 500) -> list[Sweep]:
    """The list of living legs in parts that fit into datagrams; an empty list is one empty part."""
    parts = [list(live[at : at + per_part]) for at in range(0, len(live), per_part)] or [[]]
    return [Sweep(index, len(parts), part) for index, part in enumerate(parts)]
