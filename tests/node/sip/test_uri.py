from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.sip.errors import Malformed
from node.sip.uri import Uri, same


@pytest.mark.parametrize(
    "text",
    [
        "sip:example.org",
        "sip:alice@example.org",
        "sips:alice:secret@example.org:5061;transport=tcp;lr?subject=hi&priority=urgent",
        "sip:+49-30-123;phone-context=example.org@gw.example.org;user=phone",
        "sip:alice@[2001:db8::1]:5060;transport=udp",
        "sip:192.0.2.1;lr",
        "sip:%61lice@example.org;x=%20",
        "sip:sip%3Auser%40example.com@company.com;other-param=summit",
        "tel:+4930123456;phone-context=example.org",
        "urn:service:sos",
        "sip:1000@host_with_underscore",
        "sip:gw+carrier@192.0.2.1:5080;transport=udp;gw=carrier",
        "sip:a@b.",
    ],
)
def test_a_uri_is_written_as_it_was_read(text):
    assert str(Uri.parse(text)) == text


def test_the_parts_of_a_uri():
    uri = Uri.parse("SIPS:al%69ce:pw@[2001:db8::1]:5061;Transport=TCP;lr?a=b")
    assert (uri.scheme, uri.user, uri.password, uri.host, uri.port) == ("sips", "al%69ce", "pw", "[2001:db8::1]", 5061)
    assert (uri.address, uri.host_port, uri.transport) == ("2001:db8::1", "[2001:db8::1]:5061", "TCP")
    assert (uri.param("lr"), uri.param("transport"), uri.param("maddr"), uri.headers) == ("", "TCP", None, "a=b")
    assert uri.aor == "sips:al%69ce@[2001:db8::1]"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sip:",
        "sip:@",
        "sip:@host",
        "sip:a@",
        "sip:a@b:99999",
        "sip:a@b:x",
        "sip:a b@c",
        "alice",
        "sip:a@[::1",
        "<sip:a@b>",
        "sip:a@b c",
        "://x",
    ],
)
def test_what_is_no_uri_is_refused(text):
    with pytest.raises(Malformed):
        Uri.parse(text)


def test_parameters_are_set_in_place_and_dropped_by_name():
    uri = Uri.parse("sip:a@b;x=1;Transport=udp;lr")
    assert str(uri.with_param("transport", "tcp")) == "sip:a@b;x=1;Transport=tcp;lr"
    assert str(uri.with_param("ob", None)) == "sip:a@b;x=1;Transport=udp;lr;ob"
    assert str(uri.with_param("lr", None)) == str(uri)
    assert str(uri.without_params("transport", "lr")) == "sip:a@b;x=1"
    assert str(uri.without_params()) == "sip:a@b"


# RFC 3261 19.1.4, its own examples.
@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
        ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
        (
            "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
            "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
        ),
        (
            "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
            "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
        ),
    ],
)
def test_uris_that_are_the_same(a, b):
    assert same(Uri.parse(a), Uri.parse(b))
    assert same(Uri.parse(b), Uri.parse(a))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
        ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
        ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
        ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
        ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
        ("sip:a@b", "sips:a@b"),
    ],
)
def test_uris_that_are_not_the_same(a, b):
    assert not same(Uri.parse(a), Uri.parse(b))
    assert not same(Uri.parse(b), Uri.parse(a))


NAME = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-_.~", min_size=1, max_size=8)
USER = st.text("abcxyzABC0189-_.!~*'()&=+$,;?/%", min_size=1, max_size=12)
HOSTS = st.sampled_from(["example.org", "a.b", "192.0.2.1", "[2001:db8::1]", "x"])
PARAMS = st.lists(st.tuples(NAME, st.none() | NAME), max_size=3).map(tuple)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["sip", "sips"]),
    USER | st.just(""),
    HOSTS,
    st.none() | st.integers(0, 65535),
    st.none() | NAME,
    PARAMS,
    st.just("") | NAME,
)
def test_parse_is_the_inverse_of_str(scheme, user, host, port, password, params, headers):
    uri = Uri(scheme, user, host, port, password if user else None, params, headers)
    assert Uri.parse(str(uri)) == uri
