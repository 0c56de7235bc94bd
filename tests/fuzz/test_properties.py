"""Messages made by the grammar: what was written is read, whatever is asked first, and written again the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from node.media import negotiation, sdp
from node.sip import auth, compose
from node.sip.errors import SipError
from node.sip.fields import NameAddr, Via, split_list
from node.sip.message import Request, check, parse
from node.sip.uri import Uri, same
from tests.fuzz import targets

TOKEN = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=12)
WORD = st.text("abcdefXYZ0189", min_size=1, max_size=10)
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs", "Cc")), max_size=30)
HOST = st.one_of(WORD.map(lambda text: f"{text}.test"), st.just("192.0.2.7"), st.just("[2001:db8::7]"))
PORT = st.none() | st.integers(1, 65535)
PARAMS = st.lists(st.tuples(TOKEN, st.none() | TOKEN), max_size=4, unique_by=lambda item: item[0].lower()).map(tuple)
USER = st.text("abc019-_.!~*'()&=+$,;?/", max_size=10).map(lambda text: f"u{text}")
URI = st.builds(
    Uri,
    st.sampled_from(["sip", "sips"]),
    USER,
    HOST,
    PORT,
    params=PARAMS.filter(lambda p: all("%" not in n for n, _ in p)),
)
TAGGED = PARAMS.filter(lambda params: all(name.lower() != "tag" for name, _ in params))
ADDRESS = st.builds(NameAddr, URI, TEXT.map(str.strip), TAGGED)
VIA = st.builds(
    Via, st.sampled_from(["UDP", "TCP", "WSS"]), HOST, PORT, TAGGED.map(lambda p: (("branch", "z9hG4bK1"), *p))
)
LIMIT = settings(max_examples=250, deadline=None)


@LIMIT
@given(
    ADDRESS,
    ADDRESS,
    st.lists(VIA, min_size=1, max_size=5),
    st.lists(ADDRESS, max_size=3),
    TEXT,
    st.binary(max_size=60),
    WORD,
)
def test_what_is_written_is_read(from_, to, vias, contacts, subject, body, call_id):
    lines = ["INVITE sip:b@x.test SIP/2.0", *(f"Via: {via}" for via in vias), f"From: {from_};tag=1", f"To: {to}"]
    lines += [
        f"Call-ID: {call_id}",
        "CSeq: 7 INVITE",
        *(f"m: {contact}" for contact in contacts),
        f"Subject: {subject}",
    ]
    data = "\r\n".join([*lines, f"l: {len(body)}", "", ""]).encode() + body
    read = parse(data)
    assert isinstance(read, Request)
    check(read)
    assert (read.from_.with_param("tag", None).uri, read.from_tag, read.to, read.to_tag) == (from_.uri, "1", to, "")
    assert read.via == vias[0]
    assert [Via.parse(text) for text in read.headers("Via")] == vias
    assert read.contacts == contacts
    assert (read.header("s"), read.body, read.call_id, read.cseq.number) == (subject.strip(), body, call_id, 7)
    targets.message(data)


@LIMIT
@given(st.lists(ADDRESS, max_size=5), st.sampled_from([",", " , ", ",\t", " ,  "]))
def test_lists_are_split_where_they_were_joined(addresses, comma):
    assert [NameAddr.parse(text) for text in split_list(comma.join(map(str, addresses)))] == addresses


@LIMIT
@given(URI, URI)
def test_uris_are_the_same_both_ways_round(one, other):
    assert Uri.parse(str(one)) == one
    assert same(one, one)
    assert same(one, other) == same(other, one)


@LIMIT
@given(
    st.dictionaries(st.sampled_from(["username", "realm", "nonce", "uri", "cnonce", "opaque"]), TEXT),
    st.sampled_from(["MD5", "SHA-256", "MD5-sess"]),
)
def test_credentials_are_read_as_they_were_written(given_, algorithm):
    made = auth.Credentials(**{"username": "u", "realm": "r", "nonce": "n", "uri": "x", **given_}, response="00", algorithm=algorithm, qop="auth", nc="00000001")  # fmt: skip
    assert auth.Credentials.parse(str(made)) == made


@LIMIT
@given(TEXT, TEXT, TEXT)
def test_a_challenge_is_answered_rightly_by_who_knows_the_password(realm, user, password):
    challenge = auth.challenge(realm, "5f3759df", algorithm="SHA-256")
    text = auth.answer(challenge, username=user, password=password, method="INVITE", uri="sip:x")
    found = auth.Credentials.parse(text)
    assert auth.verify(found, "INVITE", password=password)
    assert not auth.verify(found, "INVITE", password=password + "x")
    assert not auth.verify(found, "BYE", password=password)


LINE = st.tuples(st.sampled_from("abikrtuz"), st.text(st.characters(exclude_characters="\r\n\0\ufeff", exclude_categories=("Cs", "Cc")), min_size=1, max_size=20).map(str.strip).filter(bool))  # fmt: skip
MEDIA = st.builds(
    sdp.Media, st.sampled_from(["audio", "video", "text"]), st.integers(0, 65535), st.sampled_from(["RTP/AVP", "RTP/SAVP", "udptl"]),
    st.lists(st.integers(0, 127).map(str), min_size=1, max_size=5).map(tuple), st.lists(LINE, max_size=5).map(tuple),
)  # fmt: skip
DESCRIPTION = st.builds(
    sdp.Description,
    st.lists(LINE, max_size=4).map(lambda lines: (("v", "0"), *lines)),
    st.lists(MEDIA, max_size=4).map(tuple),
)


@LIMIT
@given(DESCRIPTION)
def test_a_description_is_read_as_it_was_written(made):
    assert sdp.parse(str(made)) == made
    targets.description(str(made).encode("utf-8", "surrogateescape"))


@LIMIT
@given(DESCRIPTION)
def test_an_answer_has_the_sections_of_its_offer(made):
    try:
        answer = negotiation.answer_for_playback(
            str(made), address="192.0.2.1", port=30000, session_id=1, version=1
        ).sdp
    except SipError:
        return
    kinds = [media.kind for media in made.media]
    assert [media.kind for media in sdp.parse(answer).media] == kinds
    assert sum(media.port != 0 for media in sdp.parse(answer).media) <= 1


@LIMIT
@given(st.dictionaries(st.sampled_from(["From", "To", "Call-ID", "CSeq", "Via"]), TEXT, min_size=1))
def test_whatever_stands_in_its_fields_a_refusal_has_no_lines_but_its_own(fields):
    lines = {
        "Via": "SIP/2.0/UDP a;branch=z9hG4bK1",
        "From": "<sip:a>;tag=1",
        "To": "<sip:b>",
        "Call-ID": "c",
        "CSeq": "1 OPTIONS",
        **fields,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    read = Request("OPTIONS", "sip:b", f"OPTIONS sip:b SIP/2.0\r\n{head}l: 0")
    text = compose.refuse(read, SipError("no")).encode()
    assert text.count(b"\r\n") == text.count(b"\n") == text.count(b"\r") <= len(lines) + 3
