"""The stored form of a Contact and the way back."""

from __future__ import annotations

import pytest

from node.registrar.binding import Destination, destination, encoded, status_of, stored_contact, wire_uri
from node.sip.fields import NameAddr
from node.sip.uri import Uri

TO = NameAddr.parse("<sip:1000@pbx.test>")
SOURCE = ("203.0.113.9", 5070)


def stored(contact: str, nat: str = "", path: tuple[str, ...] = (), received: bool = False) -> str:
    parsed = NameAddr.parse(contact)
    return stored_contact(parsed, TO, source=SOURCE, nat=nat, path=path, received=received, secure_ws=False)


def test_a_plain_contact_is_kept_as_sent() -> None:
    assert stored("<sip:1000@10.0.0.5:5062;transport=tcp>;q=0.5") == '"" <sip:1000@10.0.0.5:5062;transport=tcp>'
    assert stored('"Alice" <sip:1000@10.0.0.5>') == '"Alice" <sip:1000@10.0.0.5>'


def test_behind_a_nat_the_source_is_the_path() -> None:
    way = "sip%3A1000%40203.0.113.9%3A5070"
    assert stored("<sip:1000@10.0.0.5>", nat="x") == f'"" <sip:1000@10.0.0.5;fs_nat=yes;fs_path={way}>'
    with_received = stored("<sip:1000@10.0.0.5>", nat="x", received=True)
    assert ";received=203.0.113.9:5070;fs_nat=yes;" in with_received


def test_a_path_wins_over_the_nat() -> None:
    both = stored("<sip:1000@10.0.0.5>", nat="x", path=("sip:edge.example;lr", "sip:b;lr"))
    assert both.endswith(";fs_nat=yes;fs_path=sip%3Aedge.example%3Blr%2Csip%3Ab%3Blr>")


@pytest.mark.parametrize(
    ("contact", "expected"),
    [
        ('"" <sip:a@h:1>', Destination("sip:a@h:1")),
        (
            '"" <sip:a@h;fs_nat=yes;fs_path=sip%3Aa%40203.0.113.9%3A5070>',
            Destination("sip:a@h", "sip:a@203.0.113.9:5070"),
        ),
        (
            '"" <sip:a@h;fs_path=sip%3Aedge%3Blr%2Csip%3Ab%3Blr>',
            Destination("sip:a@h", "", ("<sip:edge;lr>", "<sip:b;lr>")),
        ),
    ],
)
def test_a_stored_contact_tells_where_to_send(contact: str, expected: Destination) -> None:
    assert destination(contact) == expected


@pytest.mark.parametrize(
    "hop",
    [
        "sip:edge;lr;received=sip:10.0.0.5:5062%3Btransport%3Dtls;r2=on",
        "sip:a%20b%25@[2001:db8::1]:5061;lr;x=%2c",
        "sip:ü@edge;lr",
    ],
)
def test_a_path_comes_back_with_its_own_escapes(hop: str) -> None:
    """A proxy finds in its Path what it needs, for instance the connection of the phone."""
    kept = stored("<sip:1000@10.0.0.5>", path=(hop, "sip:next;lr"))
    assert destination(kept).routes == (f"<{hop}>", "<sip:next;lr>")


def test_a_comma_within_a_path_is_not_the_end_of_it() -> None:
    assert destination(stored("<sip:a@h>", path=("sip:a,b@edge;lr",))).routes == ("<sip:a%2Cb@edge;lr>",)


def test_behind_a_nat_an_escaped_user_comes_back_as_it_was() -> None:
    assert destination(stored("<sip:a%20b@10.0.0.5>", nat="x")).hop == "sip:a%20b@203.0.113.9:5070"


def test_what_is_ours_never_goes_onto_the_wire() -> None:
    assert wire_uri('"" <sip:a@h;transport=tcp;fs_nat=yes;fs_path=x>') == "sip:a@h;transport=tcp"


def test_what_is_encoded_stays_encoded() -> None:
    assert encoded("sip:a%40b@h") == "sip%3Aa%40b%40h"
    assert encoded("50%") == "50%25"


@pytest.mark.parametrize(
    ("uri", "nat", "via", "status"),
    [
        ("sip:a@h", "", "UDP", "Registered(UDP)"),
        ("sip:a@h", "x", "UDP", "Registered(UDP-NAT)"),
        ("sip:a@h;transport=tcp", "", "UDP", "Registered(TCP)"),
        ("sips:a@h", "x", "TLS", "Registered(TLS-NAT)"),
        ("sip:a@h;transport=ws", "ws", "WS", "Registered(WS-NAT)"),
    ],
)
def test_the_status_tells_the_transport(uri: str, nat: str, via: str, status: str) -> None:
    assert status_of(Uri.parse(uri), nat=nat, via=via) == status
