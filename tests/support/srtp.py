"""Phones that speak SRTP with the keys of their descriptions (RFC 4568), by libsrtp."""

from __future__ import annotations

import base64
import re
import secrets

from pylibsrtp import Error, Policy, Session

from tests.support.phone import Line, Phone
from tests.support.rtp import Audio

SUITE = "AES_CM_128_HMAC_SHA1_80"
CRYPTO = re.compile(rf"^a=crypto:\d+ {SUITE} inline:(\S{{40}})", re.MULTILINE)


class SecureAudio(Audio):
    """Audio whose packets are sealed with a key of its own and opened with the peer's."""

    def __init__(self, host: str, first: int) -> None:
        super().__init__(host)
        self.first = first
        self.key = secrets.token_bytes(30)
        self.unopened = 0
        "Packets that could not be authenticated."
        self._out = Session(Policy(key=self.key, ssrc_type=Policy.SSRC_ANY_OUTBOUND))
        self._theirs = b""
        self._in: Session | None = None

    def trust(self, key: bytes) -> None:
        """The peer seals with this one. Its rollover counter is kept, as long as it is the same."""
        if key != self._theirs:
            self._theirs, self._in = key, Session(Policy(key=key, ssrc_type=Policy.SSRC_ANY_INBOUND))

    def sealed(self, packet: bytes) -> bytes:
        return self._out.protect(packet)

    def opened(self, packet: bytes) -> bytes:
        try:
            return self._in.unprotect(packet) if self._in is not None else b""
        except Error:
            self.unopened += 1
            return b""


class SecureLine(Line):
    """A line that offers and answers RTP/SAVP, and nothing else."""

    def __init__(self, phone: SecurePhone, *, outbound: bool) -> None:
        super().__init__(phone, outbound=outbound, audio=False)
        with phone.inside():
            self.secure = SecureAudio(phone.host, phone.first)
        self.audio = self.secure

    def _take_sdp(self, sdp: str) -> None:
        key = key_of(sdp)
        if key:
            self.secure.trust(key)
        super()._take_sdp(sdp)

    def _sdp(self, direction: str = "sendrecv") -> str:
        plain = super()._sdp(direction).replace("RTP/AVP", "RTP/SAVP")
        return f"{plain}a=crypto:1 {SUITE} inline:{base64.b64encode(self.secure.key).decode()}\r\n"


def key_of(sdp: str) -> bytes:
    """Key and salt of a description; empty where there is none."""
    found = CRYPTO.search(sdp)
    return base64.b64decode(found[1]) if found else b""


class SecurePhone(Phone):
    """A phone whose lines are secure."""

    first = 0
    "The sequence number that their audio begins with."

    def new_line(self, *, outbound: bool, audio: bool) -> SecureLine:
        return SecureLine(self, outbound=outbound)
