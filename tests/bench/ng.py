"""rtpengine's control protocol, as much of it as setting up a call takes: a cookie and a bencoded dictionary a datagram."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Mapping

SDP = "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"


class Rtpengine:
    """A client of one rtpengine."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((host, port))
        self._socket.settimeout(5)
        self._cookies = itertools.count(1)

    def call(self, name: str, caller: int, callee: int) -> tuple[int, int]:
        """A call between two ports of phones: the port the caller is to send to, and the callee's."""
        words = {"call-id": name, "from-tag": "a", "flags": ["trust-address"], "replace": ["origin"], "ICE": "remove"}
        for_callee = self._ask({"command": "offer", "sdp": self._sdp(caller), **words})
        for_caller = self._ask({"command": "answer", "sdp": self._sdp(callee), "to-tag": "b", **words})
        return _port(for_caller), _port(for_callee)

    def close(self) -> None:
        self._socket.close()

    def _sdp(self, port: int) -> str:
        return SDP.format(host=self._host, port=port)

    def _ask(self, question: Mapping[str, object]) -> bytes:
        cookie = f"{next(self._cookies)} ".encode()
        self._socket.send(cookie + encode(question))
        answer = self._socket.recv(65536)
        assert answer.startswith(cookie), f"rtpengine answers something else: {answer!r}"
        assert b"6:result2:ok" in answer, f"rtpengine refuses: {answer!r}"
        return answer


def encode(item: object) -> bytes:
    """Bencode: dictionaries (sorted by key), lists and strings."""
    match item:
        case Mapping():
            return b"d" + b"".join(encode(key) + encode(item[key]) for key in sorted(item)) + b"e"
        case list():
            return b"l" + b"".join(map(encode, item)) + b"e"
        case _:
            text = str(item).encode()
            return b"%d:%s" % (len(text), text)


def _port(answer: bytes) -> int:
    """The audio port of the SDP in an answer."""
    found = re.search(rb"m=audio (\d+) ", answer)
    assert found is not None, f"no audio in {answer!r}"
    return int(found[1])
