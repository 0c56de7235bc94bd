"""What is said to rtpengine and what it says, as values (pure): where a side's packets go, two sides made a pair, a session's state.

rtpengine means its offers and answers to be those of the phones. We make and answer those ourselves, as with our own relay,
and say to the engine only what a relay must know: an address, a port, a direction. Codecs, keys and hold are not its business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from node.media import sdp
from node.media.bencode import Bencoded, Writable
from node.media.errors import MalformedSdp, MediaError
from node.media.negotiation import clamped, is_unspecified
from node.media.sdp import Direction

_FLAGS = ["trust-address", "port-latching"]


class Point(NamedTuple):
    """Where the packets for one side go, and which way it says that packets flow: a held call may be silent for long."""

    host: str
    port: int
    rtcp: int
    direction: Direction = "sendrecv"


NOWHERE = Point("", 9, 10, "inactive")
"To a side that nobody speaks to."


class Pair(NamedTuple):
    """Two sides that hear each other, by their tags."""

    x: str
    y: str
    to_x: Point = NOWHERE
    to_y: Point = NOWHERE

    def agreed(self) -> Pair:
        """With directions that fit each other; tags in their order."""
        if int(self.x) > int(self.y):
            return Pair(self.y, self.x, self.to_y, self.to_x).agreed()
        to_x = self.to_x._replace(direction=clamped(self.to_y.direction, self.to_x.direction))
        to_y = self.to_y._replace(direction=clamped(self.to_x.direction, self.to_y.direction))
        return Pair(self.x, self.y, to_x, to_y)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a session as the engine tells it: its address and port, where it sends to, with whom it is paired."""

    address: str
    port: int
    point: Point
    mates: tuple[str, ...]


def offer(call_id: str, pair: Pair, family: Mapping[str, str]) -> dict[str, Writable]:
    """Makes the session or the sides where they are not there yet; answered with the port towards `y`."""
    return {
        "command": "offer",
        "call-id": call_id,
        "from-tag": pair.x,
        "to-tag": pair.y,
        "address-family": family[pair.y],
        **_described(pair.to_x, family[pair.x]),
    }


def answer(call_id: str, pair: Pair, family: Mapping[str, str], *, swapped: bool = False) -> dict[str, Writable]:
    """Points one side of a pair; answered with the port towards the other one. Makes no session."""
    x, y, to_y = (pair.y, pair.x, pair.to_x) if swapped else (pair.x, pair.y, pair.to_y)
    return {
        "command": "answer",
        "call-id": call_id,
        "from-tag": x,
        "to-tag": y,
        "address-family": family[x],
        **_described(to_y, family[y]),
    }


def delete(call_id: str) -> dict[str, Writable]:
    return {"command": "delete", "call-id": call_id, "delete-delay": 0}


def delete_side(call_id: str, tag: str) -> dict[str, Writable]:
    """Those that are paired with nobody else go with it, and with the last side the session."""
    return {**delete(call_id), "from-tag": tag}


def query(call_id: str) -> dict[str, Writable]:
    return {"command": "query", "call-id": call_id}


def family_of(host: str) -> str:
    """`IP4` or `IP6`."""
    return "IP6" if ":" in host else "IP4"


def _described(point: Point, family: str) -> dict[str, Writable]:
    """Without an address it would send to whoever is heard first: `asymmetric` keeps it from that."""
    host = point.host or ("::" if family == "IP6" else "0.0.0.0")
    network = sdp.network(host)
    head = f"v=0\r\no=- 1 1 {network}\r\ns=-\r\nc={network}\r\nt=0 0\r\n"
    audio = f"m=audio {point.port} RTP/AVP 0\r\na=rtcp:{point.rtcp}\r\na={point.direction}\r\n"
    flags = _FLAGS if point.host else [*_FLAGS, "asymmetric"]
    return {"sdp": head + audio, "flags": flags, "replace": ["origin"], "ICE": "remove"}


# ---- what it says ----------------------------------------------------------------------------------------------------


def place_of(said: Mapping[bytes, Bencoded]) -> tuple[str, int]:
    """Address and port in the answer to an offer or an answer. Raises MediaError."""
    text = said.get(b"sdp")
    try:
        description = sdp.parse(text.decode("latin-1") if isinstance(text, bytes) else "")
    except MalformedSdp as error:
        raise MediaError(f"rtpengine describes what cannot be read: {error}") from None
    # `c=` repeats an address of nowhere.
    origin, audio = description.origin, [media for media in description.media if media.kind == "audio" and media.port]
    if origin is None or is_unspecified(origin.host) or not audio:
        raise MediaError("rtpengine describes neither address nor port")
    return origin.host, audio[0].port


def sides_of(said: Mapping[bytes, Bencoded]) -> dict[str, Side]:
    """The sides in the answer to a query, without those that cannot be read, or were deleted and have no port."""
    found = {}
    for tag, about in _dictionary(said.get(b"tags")).items():
        side = _side(_dictionary(about))
        if side is not None and tag.isdigit():
            found[tag.decode()] = side
    return found


def _side(about: Mapping[bytes, Bencoded]) -> Side | None:
    medias = about.get(b"medias")
    media = _dictionary(medias[0]) if isinstance(medias, list) and medias else {}
    listed = media.get(b"streams")
    streams = [_dictionary(each) for each in listed] if isinstance(listed, list) else []
    port = streams[0].get(b"local port") if streams else None
    if not isinstance(port, int):
        return None
    flags = media.get(b"flags")
    mates = about.get(b"subscriptions")
    told = [_dictionary(each).get(b"tag") for each in mates] if isinstance(mates, list) else []
    return Side(
        _text(streams[0].get(b"local address")),
        port,
        _point(streams, flags if isinstance(flags, list) else []),
        tuple(mate.decode() for mate in told if isinstance(mate, bytes) and mate.isdigit()),
    )


def _point(streams: list[dict[bytes, Bencoded]], flags: list[Bencoded]) -> Point:
    ends = [_dictionary(stream.get(b"advertised endpoint")) for stream in streams[:2]]
    host, ports = _text(ends[0].get(b"address")), [end.get(b"port") for end in ends]
    if is_unspecified(host):
        return NOWHERE
    port = ports[0] if isinstance(ports[0], int) else 0
    rtcp = ports[1] if len(ports) > 1 and isinstance(ports[1], int) else port + 1
    ways: dict[tuple[bool, bool], Direction] = {
        (True, True): "sendrecv",
        (True, False): "sendonly",
        (False, True): "recvonly",
        (False, False): "inactive",
    }
    # Its flags are said from where it stands.
    return Point(host, port, rtcp, ways[b"recv" in flags, b"send" in flags])


def _dictionary(item: Bencoded | None) -> dict[bytes, Bencoded]:
    return item if isinstance(item, dict) else {}


def _text(item: Bencoded | None) -> str:
    return item.decode("latin-1") if isinstance(item, bytes) else ""
