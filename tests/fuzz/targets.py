"""What a mutant goes through within this process. Each target takes bytes; what it may not do is raise anything but a SipError.

A broken promise is an AssertionError, like any other exception that escapes.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from node.media import negotiation, sdp
from node.sip import auth, compose, glance, mask
from node.sip.dialog import Dialog
from node.sip.errors import Malformed, SipError
from node.sip.fields import NameAddr, Via, parse_params, split_list
from node.sip.framing import StreamFramer
from node.sip.message import Limits, Message, Request, Response, check, parse
from node.sip.token import owner
from node.sip.uri import Uri, same
from node.sip.websocket import WebSocket
from tests.support.wire import FLOW, Party

Target = Callable[[bytes], None]

WIDE = Limits(message=1 << 20, fields=1 << 16, line=1 << 20)
"For what we send: a refusal bears all Vias of the request, however many."

READERS: dict[str, Callable[[Message], object]] = {
    "via": lambda message: message.via,
    "from": lambda message: message.from_,
    "to": lambda message: message.to,
    "from tag": lambda message: message.from_tag,
    "to tag": lambda message: message.to_tag,
    "call-id": lambda message: message.call_id,
    "cseq": lambda message: message.cseq,
    "contacts": lambda message: message.contacts,
    "wildcard": lambda message: message.wildcard,
    "max-forwards": lambda message: message.max_forwards,
    "expires": lambda message: message.expires,
    "content type": lambda message: message.content_type,
    "user agent": lambda message: message.user_agent,
    "subject": lambda message: message.header("s"),
    "routes": lambda message: message.headers("Route"),
    "record routes": lambda message: message.headers("Record-Route"),
    "allow": lambda message: message.headers("Allow"),
    "items": lambda message: list(message.items()),
}
ANSWERED = frozenset(
    {
        "via",
        "from",
        "to",
        "call-id",
        "cseq",
        "timestamp",
        "record-route",
        "content-length",
        "retry-after",
        "unsupported",
        "accept",
    }
)
"Names that a response of ours may hold: any other was smuggled in by the request."


# ---- messages --------------------------------------------------------------------------------------------------------


def message(data: bytes) -> None:
    """Read lazily, in two orders; answered, forwarded, put into a dialog."""
    try:
        read = parse(data)
    except Malformed as error:
        if error.request is not None:
            refused(error.request, error)
        return
    assert read.encode() is not None
    lazy_is_eager(data)
    if isinstance(read, Request):
        request(read)
    else:
        response(read)
    again = parse(f"{read.text}\r\n\r\n".encode("utf-8", "surrogateescape") + read.body, WIDE)
    assert (again.text, again.body) == (read.text, read.body), "not the same written anew"


def outcome(reader: Callable[[Message], object], read: Message) -> object:
    try:
        return str(reader(read))
    except SipError as error:
        return type(error).__name__


def lazy_is_eager(data: bytes) -> None:
    """Whatever is asked first, the answers are the same."""
    first, second = parse(data), parse(data)
    names = list(READERS)
    forward = {name: outcome(READERS[name], first) for name in names}
    Random(len(data)).shuffle(names)
    backward = {name: outcome(READERS[name], second) for name in names}
    assert forward == backward, "the order of asking decides"


def request(read: Request) -> None:
    try:
        check(read)
    except SipError as error:
        refused(read, error)
        return
    key = (read.call_id, read.header("From"), read.header("CSeq"))
    read.stamp("203.0.113.77", 5099)
    for status in (100, 180, 200, 486):
        answer = parse(compose.response(read, status, contact="<sip:us@192.0.2.1>").encode(), WIDE)
        assert isinstance(answer, Response)
        assert (answer.call_id, answer.header("From"), answer.header("CSeq")) == key, "the answer is to somebody else"
        names = {name.lower() for name, _ in answer.items()} - {"contact"}
        assert names <= ANSWERED, f"smuggled in: {names - ANSWERED}"
        assert answer.via.branch == read.via.branch
        assert len(answer.headers("via")) == len(read.headers("via"))
        assert status == 100 or answer.to_tag, "an answer without a tag"
    forwarded = parse(compose.with_via(read, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKme").encode(), WIDE)
    assert forwarded.via.branch == "z9hG4bKme"
    assert owner(read.via.branch) is None or owner(read.via.branch)
    try:
        dialog(Dialog.uas(read, "internal.0-aa"))
    except SipError:
        pass
    for reader in (lambda: read.target, lambda: read.from_.uri, lambda: read.to.uri):
        try:
            each = reader()
        except SipError:
            continue
        assert same(each, each)
        again = Uri.parse(str(each))
        assert again == each, f"{each!r} is {again!r} written anew"


def response(read: Response) -> None:
    try:
        assert owner(read.via.branch) is None or owner(read.via.branch)
        _ = read.cseq, read.call_id, read.to, read.from_
        ours = compose.request(
            "INVITE", "sip:b@192.0.2.2", from_="<sip:a@x>;tag=1", to="<sip:b@x>", call_id="c", cseq=1
        )
        dialog(Dialog.uac(ours, read))
    except SipError:
        return


def dialog(made: Dialog) -> None:
    try:
        asked = made.request("BYE")
        _ = made.next_hop
    except SipError:
        return
    sent = parse(compose.with_via(asked, "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKd").encode(), WIDE)
    assert sent.cseq.method == "BYE"
    assert sent.call_id == made.call_id
    again = Dialog.from_record(made.to_record())
    assert again.key == made.key


def refused(read: Request, error: SipError) -> None:
    """A refusal can be composed, or is refused itself."""
    try:
        read.stamp("203.0.113.77", 5099)
    except SipError:
        return
    answer = parse(compose.refuse(read, error).encode(), WIDE)
    assert isinstance(answer, Response)
    assert answer.status == error.status
    names = {name.lower() for name, _ in answer.items()}
    assert names <= ANSWERED, f"smuggled in: {names - ANSWERED}"


# ---- transactions ----------------------------------------------------------------------------------------------------


class Transactions:
    """One layer that all mutants go through, answered by somebody; its clock goes on, so nothing may stay."""

    def __init__(self) -> None:
        self.now = 0.0
        self.party = Party("internal", "192.0.2.2")
        self.party.answering = lambda transaction: self.layer.respond(
            transaction, compose.response(transaction.request, 486), self.now
        )
        self.layer = self.party.layer
        self.most = 0

    def __call__(self, data: bytes) -> None:
        self.now += 0.1
        self.layer.wake(self.now)
        try:
            read = parse(data)
            if isinstance(read, Request):
                check(read)
            self.layer.receive(read, FLOW, self.now)
        except SipError:
            pass
        for sent, _flow in self.layer.outgoing():
            parse(sent, WIDE)
        for log in (
            self.party.arrived,
            self.party.acks,
            self.party.stray,
            self.party.told,
            self.party.cancels,
            self.party.unacknowledged,
            self.party.requests,
        ):
            log.clear()
        self.most = max(self.most, self.layer.servers + self.layer.clients)
        assert self.layer.servers < 1000, "transactions stay"
        assert self.layer.clients == 0, "a client out of nothing"


# ---- parts of messages -----------------------------------------------------------------------------------------------


def fields(data: bytes) -> None:
    """The text as a field of each kind."""
    text = data.decode("utf-8", "surrogateescape").replace("\r", " ").replace("\n", " ")[:8000]
    for read in (NameAddr.parse, Via.parse, Uri.parse):
        try:
            found = read(text)
        except Malformed:
            continue
        assert read(str(found)) == found, "not the same written anew"
    items = split_list(text)
    assert all(items)
    try:
        parse_params(text)
    except Malformed:
        pass


def description(data: bytes) -> None:
    """As a session description: offered, answered, relayed, held, moved."""
    text = data.decode("utf-8", "surrogateescape")
    ours = {"address": "192.0.2.1", "port": 30000, "session_id": 1, "version": 2}
    try:
        read = sdp.parse(text)
    except SipError:
        return
    assert sdp.parse(str(read)) == read, "not the same written anew"
    makers: list[Callable[[], object]] = [
        lambda: negotiation.audio_of(text),
        lambda: negotiation.answer_for_playback(text, **ours),
        lambda: negotiation.answer_locally(text, local_sdp=SAFE, **ours),
        lambda: negotiation.relay_answer(text, offer=SAFE, **ours),
        lambda: negotiation.agreed(SAFE, text),
        lambda: negotiation.with_direction(text, "sendonly"),
        lambda: negotiation.moved(text, **ours),
        lambda: negotiation.following(text, SAFE),
    ]
    for make in makers:
        try:
            made = make()
        except SipError:
            continue
        if isinstance(made, str):
            sdp.parse(made)
    try:
        offer = negotiation.relay_offer(text, **ours, codecs=("PCMU", "PCMA", "G722@16000h"))
    except SipError:
        return
    audio = negotiation.audio_of(offer)
    port = 30000 if negotiation.audio_of(text).port else 0
    assert (audio.host, audio.port) == ("192.0.2.1", port), "media would not come to us"
    assert "\na=candidate:" not in offer
    assert "\n\n" not in offer.replace("\r", "")


SAFE = negotiation.offer_for_playback(address="192.0.2.9", port=40000, session_id=1, version=1)
NONCES = auth.Nonces(bytes(32))


def credentials(data: bytes) -> None:
    """As credentials, and as a challenge."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = auth.Credentials.parse(text)
    except Malformed:
        pass
    else:
        assert auth.verify(found, "INVITE", password="secret") in (True, False)
        assert NONCES.check(found.nonce, 1e9) in ("stale", "unknown")
        assert not auth.verify(found, "INVITE", ha1="0" * 32)
    try:
        answer = auth.answer(text, username="a", password="b", method="INVITE", uri="sip:x", cnonce="c")
        auth.Credentials.parse(answer)
    except Malformed:
        pass
    try:
        auth.strongest([text])
    except Malformed:
        pass


# ---- streams ---------------------------------------------------------------------------------------------------------


def _pieces(data: bytes) -> list[bytes]:
    random = Random(len(data))
    pieces, at = [], 0
    while at < len(data):
        size = random.choice((1, 2, 7, 100, 1400, 8000))
        pieces.append(data[at : at + size])
        at += size
    return pieces


def _framed(data: list[bytes]) -> tuple[list[bytes], bool]:
    framer = StreamFramer(30_000)
    found: list[bytes] = []
    for piece in data:
        try:
            found += [item for item in framer.feed(piece) if isinstance(item, bytes)]
        except Malformed:
            break
    while framer.broken:
        try:
            found += [item for item in framer.feed(b"") if isinstance(item, bytes)]
        except Malformed:
            break
    return found, framer.broken


def stream(data: bytes) -> None:
    """Cut the same however it comes; each byte comes out once."""
    whole, broken = _framed([data])
    assert _framed(_pieces(data)) == (whole, broken), "the pieces decide"
    assert sum(map(len, whole)) <= len(data)


def socket(data: bytes) -> None:
    """As what a WebSocket client sends, the handshake included: no exception at all."""
    whole, pieces = WebSocket(30_000), WebSocket(30_000)
    found = whole.feed(data)
    assert [item for piece in _pieces(data) for item in pieces.feed(piece)] == found, "the pieces decide"
    assert (pieces.opened, pieces.over) == (whole.opened, whole.over)
    assert pieces.outgoing()[:5] == whole.outgoing()[:5]


# ---- what is done before reading, and what is shown ------------------------------------------------------------------


def glanced(data: bytes) -> None:
    """Judged by its bytes, and refused by them."""
    glance.standing(data, lambda *key: False, lambda nonce: False)
    glance.running(data)
    made = glance.refusal(data, ("203.0.113.77", 5099), reliable=False, retry_after=5)
    if made is not None:
        assert made[0].startswith(b"SIP/2.0 503 ")
        assert parse(made[0], WIDE).header("Retry-After")


def shown(data: bytes) -> None:
    """As the trace shows it."""
    assert isinstance(mask.readable(mask.masked(data)), str)
