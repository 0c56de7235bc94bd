"""Microseconds to read a message and to ask it for what a route needs. Run: python -m tests.bench.parse"""

from __future__ import annotations

import time

from node.sip.auth import Credentials
from node.sip.message import Request, Response, parse
from tests.bench import messages

VARIANTS, ROUNDS, REPEATS = 64, 20, 7


def samples() -> dict[str, list[bytes]]:
    """The four messages, each in 64 variants, so that nothing comes from memory that would not in life."""
    made: dict[str, list[bytes]] = {"register": [], "invite": [], "ok": [], "bye": []}
    ours = "z9hG4bKinternal.0-0123456789abx"
    for n in range(VARIANTS):
        user = str(1000 + n)
        to, from_ = f"<sip:bob@192.0.2.1>;tag=7f6e5d{n:04x}", f'"Alice" <sip:alice@192.0.2.1>;tag=4a3b2c{n:04x}'
        call_id = f"0a1b2c3d4e5f60718293a4b5c6d7{n:04x}"
        made["register"].append(messages.register(n, user, phone=n, credentials=messages.CREDENTIALS.format(n=n)))
        made["invite"].append(messages.invite(n, user))
        via = f"SIP/2.0/UDP 192.0.2.1:5060;rport=5060;branch={ours}{n:x};received=192.0.2.1"
        made["ok"].append(messages.accepted(via, from_, to, call_id, "1 INVITE", route="<sip:192.0.2.20;lr>"))
        made["bye"].append(messages.within("BYE", n, "sip:mod_sofia@192.0.2.1:5060", from_, to, call_id))
    return made


def read(data: bytes) -> None:
    """What a route asks: top Via, tags, Call-ID, CSeq, Max-Forwards, Contact and credentials where they stand."""
    message = parse(data)
    message.identify()
    _ = message.branch, message.from_tag, message.to_tag, message.call_id, message.cseq, message.max_forwards
    if isinstance(message, Response):
        _ = message.header("Contact")
        return
    if isinstance(message, Request) and message.method == "REGISTER":
        Credentials.parse(message.header("Authorization") or "")
    _ = message.header("Contact")


def costs() -> dict[str, tuple[float, int]]:
    """By message: seconds to read one, the least of the repeats, and its bytes."""
    return {
        name: (min(_measure(variants) for _ in range(REPEATS)), len(variants[0]))
        for name, variants in samples().items()
    }


def main() -> None:
    found = costs()
    for name, (seconds, size) in found.items():
        print(f"{name:9}{size:5} B {seconds * 1e6:6.2f} us")
    print(f"{'mean':9}        {sum(seconds for seconds, _size in found.values()) / len(found) * 1e6:6.2f} us")


def _measure(variants: list[bytes]) -> float:
    start = time.process_time()
    for _ in range(ROUNDS):
        for data in variants:
            read(data)
    return (time.process_time() - start) / (ROUNDS * len(variants))


if __name__ == "__main__":
    main()
