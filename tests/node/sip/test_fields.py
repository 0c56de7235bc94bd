from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.sip.errors import Malformed
from node.sip.fields import CSeq, NameAddr, Via, parse_name_addr, quote, split_list, unquote
from node.sip.uri import Uri


@pytest.mark.parametrize(
    ("text", "display", "uri", "tag"),
    [
        ('"Alice" <sip:alice@example.org>;tag=88', "Alice", "sip:alice@example.org", "88"),
        ("Alice Smith <sip:a@b;lr>;x=1;TAG=a.b", "Alice Smith", "sip:a@b;lr", "a.b"),
        ("sip:a@b;tag=1", "", "sip:a@b", "1"),
        ("<sip:a@b?x=y>", "", "sip:a@b?x=y", ""),
        ('"a \\"b\\" <c>, d;e" <sip:a@b> ; tag = 7', 'a "b" <c>, d;e', "sip:a@b", "7"),
        ('"" <sip:a@b>;tag=1', "", "sip:a@b", "1"),
        ("  < sip:a@b >  ", "", "sip:a@b", ""),
        ('"Q"<sip:a@b>;expires=60;+sip.instance="<urn:uuid:1;2>";tag=3', "Q", "sip:a@b", "3"),
        ("tel:+4930;tag=5", "", "tel:+4930", "5"),
        ("Jürgen <sip:j@b>;tag=6", "Jürgen", "sip:j@b", "6"),
    ],
)
def test_addresses(text, display, uri, tag):
    address = parse_name_addr(text)
    assert (address.display, str(address.uri), address.tag) == (display, uri, tag)
    assert NameAddr.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<sip:a@b",
        "sip:a@b>",
        '"Alice <sip:a@b>',
        "<>",
        "Alice",
        "<sip:a@b> junk",
        '<sip:a@b>;x="1',
        "<sip:a@b>, <sip:c@d>",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(Malformed):
        NameAddr.parse(text)


def test_parameters_of_an_address():
    address = NameAddr.parse('<sip:a@b>;expires=60;+sip.instance="<urn:uuid:1>";ob')
    assert address.param("expires") == "60"
    assert address.param("+sip.instance") == "<urn:uuid:1>"
    assert (address.param("ob"), address.param("q")) == ("", None)
    assert (
        str(address.with_param("expires", "30").without_params("ob"))
        == '<sip:a@b>;expires=30;+sip.instance="<urn:uuid:1>"'
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport", None),
        ("SIP/2.0/TLS [2001:db8::1]:5061;branch=z9hG4bK2;received=2001:db8::2", None),
        (
            "SIP / 2.0 / udp  example.org : 5070 ; branch = z9hG4bK3 ; rport=7",
            "SIP/2.0/UDP example.org:5070;branch=z9hG4bK3;rport=7",
        ),
        ("SIP/2.0/WSS x.invalid;branch=1", None),
        ('SIP/2.0/UDP h;x="a;b";branch=z9hG4bK4', None),
    ],
)
def test_vias(text, written):
    via = Via.parse(text)
    assert str(via) == (written or text)
    assert Via.parse(str(via)) == via


def test_what_a_via_tells():
    via = Via.parse("SIP/2.0/UDP [2001:db8::1]:5070;RPORT=1024;received=[2001:db8::2];branch=z9hG4bK1")
    assert (via.transport, via.host, via.port, via.sent_by) == ("UDP", "[2001:db8::1]", 5070, "[2001:db8::1]:5070")
    assert (via.branch, via.rport, via.received) == ("z9hG4bK1", 1024, "2001:db8::2")
    plain = Via.parse("SIP/2.0/UDP a;rport")
    assert (plain.branch, plain.rport, plain.param("rport"), plain.received) == ("", None, "", "")


@pytest.mark.parametrize(
    "text",
    ["", "SIP/UDP a", "SIP/2.0/UDP", "HTTP/1.1/TCP a", "SIP/2.0/UDP a:b", "SIP/2.0/UDP a b", "SIP/2.0/UDP [::1"],
)
def test_what_is_no_via_is_refused(text):
    with pytest.raises(Malformed):
        Via.parse(text)


def test_cseq():
    assert CSeq.parse(" 0017  INVITE ") == CSeq(17, "INVITE")
    assert str(CSeq(2147483647, "x-Method!")) == "2147483647 x-Method!"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "INVITE",
        "-1 INVITE",
        "2147483648 INVITE",
        "36893488147419103232 REGISTER",
        "1 INVITE x",
        "1.0 BYE",
        "١ BYE",
    ],
)
def test_what_is_no_cseq_is_refused(text):
    with pytest.raises(Malformed):
        CSeq.parse(text)


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("", []),
        (" a ", ["a"]),
        ("a, b,,c ,", ["a", "b", "c"]),
        ('"a,b" <sip:a,b@c;x=",">;y="1,\\"2", <sip:d>', ['"a,b" <sip:a,b@c;x=",">;y="1,\\"2"', "<sip:d>"]),
        ('"never closed, <sip:a>, b', ['"never closed, <sip:a>, b']),
        ("<sip:a, b", ["<sip:a, b"]),
    ],
)
def test_lists_are_split_at_their_commas_only(text, items):
    assert split_list(text) == items


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=20))
def test_quote_and_unquote_are_inverse(text):
    assert unquote(quote(text)) == text


DISPLAY = st.text(st.characters(blacklist_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), max_size=12)
TOKEN = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(DISPLAY, st.lists(st.tuples(TOKEN, st.none() | TOKEN | st.just('"a;b,\\"c"')), max_size=3).map(tuple))
def test_addresses_are_read_as_they_were_written(display, params):
    address = NameAddr(Uri.parse("sip:a@b;lr"), display, params)
    assert NameAddr.parse(str(address)) == address
    assert split_list(f"{address}, {address}") == [str(address)] * 2


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["UDP", "TCP", "TLS", "WS"]),
    st.sampled_from(["a.b", "192.0.2.1", "[::1]"]),
    st.none() | st.integers(1, 65535),
    st.lists(st.tuples(TOKEN, st.none() | TOKEN), max_size=3).map(tuple),
)
def test_vias_are_read_as_they_were_written(transport, host, port, params):
    via = Via(transport, host, port, params)
    assert Via.parse(str(via)) == via


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from('<>";,=\\ \tab:@[]\r\nSIP/2.0'), max_size=40))
def test_any_text_is_read_or_refused(text):
    for reader in (NameAddr.parse, Via.parse, CSeq.parse, Uri.parse):
        try:
            reader(text)
        except Malformed:
            pass
    split_list(text)
