"""The phone's own SIP: as little of RFC 3261 as a scripted phone needs, and none of the node's code."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
}


@dataclass(slots=True)
class Sip:
    """A request or a response: start line, header fields in order, body."""

    start: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    body: str = ""

    @classmethod
    def parse(cls, packet: bytes) -> Sip:
        head, _, body = packet.decode("utf-8", "replace").partition("\r\n\r\n")
        start, *lines = head.split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(start, [(name.strip(), value.strip()) for name, _, value in pairs], body)

    def encode(self) -> bytes:
        kept = [pair for pair in self.fields if pair[0].lower() != "content-length"]
        lines = [self.start, *(f"{name}: {value}" for name, value in kept)]
        return "\r\n".join([*lines, f"Content-Length: {len(self.body.encode())}", "", self.body]).encode()

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if COMPACT.get(key.lower(), key.lower()) == name.lower()]

    def get(self, name: str) -> str:
        return next(iter(self.all(name)), "")

    @property
    def method(self) -> str:
        """Of a request its method, of a response the method of its CSeq."""
        return self.get("CSeq").split()[-1] if self.is_response else self.start.split()[0]

    @property
    def is_response(self) -> bool:
        return self.start.startswith("SIP/2.0")

    @property
    def status(self) -> int:
        return int(self.start.split()[1]) if self.is_response else 0

    @property
    def cseq(self) -> int:
        return int(self.get("CSeq").split()[0])

    @property
    def branch(self) -> str:
        return parameter(self.get("Via"), "branch")

    @property
    def call_id(self) -> str:
        return self.get("Call-ID")

    def answer(
        self, status: int, reason: str, tag: str, extra: list[tuple[str, str]] | None = None, body: str = ""
    ) -> Sip:
        """The response to this request: Via, Record-Route, From, To, Call-ID and CSeq as they came."""
        kept = {"via", "v", "record-route", "from", "f", "call-id", "i", "cseq"}
        fields = [pair for pair in self.fields if pair[0].lower() in kept]
        to = self.get("To")
        fields.append(("To", to if parameter(to, "tag") or status == 100 else f"{to};tag={tag}"))
        return Sip(f"SIP/2.0 {status} {reason}", fields + (extra or []), body)


def parameter(value: str, name: str) -> str:
    """A header parameter (outside the angle brackets), or the empty string."""
    outside = value.rpartition(">")[2] if ">" in value else value
    match = re.search(rf";\s*{name}\s*=\s*([^;,\s]+)", outside)
    return match[1] if match else ""


def uri_of(value: str) -> str:
    match = re.search(r"<([^>]+)>", value)
    return match[1] if match else value.split(";")[0].strip()


def address_of(uri: str) -> tuple[str, int]:
    """Host and port of a SIP URI."""
    match = re.search(r"sips?:(?:[^@>]*@)?(\[[^\]]+\]|[^:;>?]+)(?::(\d+))?", uri)
    assert match, uri
    return match[1].strip("[]"), int(match[2] or 5060)


def digest(challenge: str, username: str, password: str, method: str, uri: str) -> str:
    """The Authorization value for a Digest challenge (RFC 7616), MD5 or SHA-256, with or without qop."""
    given = dict(re.findall(r'(\w+)="?([^",]+)"?', challenge))
    algorithm = given.get("algorithm", "MD5").upper()
    hashed = hashlib.sha256 if algorithm == "SHA-256" else hashlib.md5

    def h(text: str) -> str:
        return hashed(text.encode()).hexdigest()

    ha1, ha2 = h(f"{username}:{given['realm']}:{password}"), h(f"{method}:{uri}")
    parts = {"username": username, "realm": given["realm"], "nonce": given["nonce"], "uri": uri}
    text = ", ".join(f'{key}="{value}"' for key, value in parts.items())
    if "qop" not in given:
        legacy = h(f"{ha1}:{given['nonce']}:{ha2}")
        return f'Digest {text}, response="{legacy}", algorithm={algorithm}'
    cnonce = secrets.token_hex(8)
    response = h(f"{ha1}:{given['nonce']}:00000001:{cnonce}:auth:{ha2}")
    return f'Digest {text}, response="{response}", algorithm={algorithm}, qop=auth, nc=00000001, cnonce="{cnonce}"'


def audio_address(sdp: str) -> tuple[str, int]:
    """Where an SDP wants its audio."""
    host = re.findall(r"^c=IN IP[46] (\S+)", sdp, re.M)[-1]
    port = re.search(r"^m=audio (\d+)", sdp, re.M)
    assert port, sdp
    return host, int(port[1])
