from __future__ import annotations

import pytest

from node.sip import compose
from node.sip.dialog import RESERVE, Dialog
from node.sip.errors import Malformed, OutOfOrder
from node.sip.message import Request, Response, parse
from store.records import DialogRecord


def invite(extra: str = "", cseq: int = 10) -> Request:
    message = parse(
        "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n"
        f'From: "Alice, A" <sip:alice@example.org>;tag=a1\r\nTo: Bob <sip:bob@example.org>\r\nCall-ID: c1\r\nCSeq: {cseq} INVITE\r\n'
        f"Contact: <sip:alice@192.0.2.1:5070;transport=udp>\r\n{extra}\r\n".encode()
    )
    assert isinstance(message, Request)
    return message


def answer(
    request: Request,
    status: int = 200,
    tag: str = "b1",
    routes: tuple[str, ...] = (),
    contact: str | None = "<sip:bob@192.0.2.2>",
) -> Response:
    return compose.response(
        request, status, to_tag=tag, contact=contact, headers=[("Record-Route", route) for route in routes]
    )


def test_the_called_side():
    dialog = Dialog.uas(
        invite("Record-Route: <sip:p1;lr>, <sip:p2;lr>\r\nRecord-Route: <sip:p3;lr>\r\n"), "internal.0-b"
    )
    assert dialog.key == ("c1", "internal.0-b", "a1")
    assert (dialog.local, dialog.remote) == ("Bob <sip:bob@example.org>", '"Alice, A" <sip:alice@example.org>')
    assert dialog.target == "sip:alice@192.0.2.1:5070;transport=udp"
    assert dialog.routes == ["<sip:p1;lr>", "<sip:p2;lr>", "<sip:p3;lr>"]
    assert (dialog.cseq, dialog.remote_cseq, dialog.secure) == (0, 10, False)
    bye = dialog.request("BYE")
    assert bye.uri == "sip:alice@192.0.2.1:5070;transport=udp"
    assert bye.headers("route") == dialog.routes
    assert (bye.header("from"), bye.header("to")) == (
        "Bob <sip:bob@example.org>;tag=internal.0-b",
        '"Alice, A" <sip:alice@example.org>;tag=a1',
    )
    assert str(bye.cseq) == "1 BYE"
    assert str(dialog.next_hop) == "sip:p1;lr"


def test_the_calling_side_reverses_the_route():
    request = invite()
    dialog = Dialog.uac(request, answer(request, routes=("<sip:p1;lr>", "<sip:p2;lr>")))
    assert dialog.key == ("c1", "a1", "b1")
    assert dialog.routes == ["<sip:p2;lr>", "<sip:p1;lr>"]
    assert dialog.target == "sip:bob@192.0.2.2"
    assert str(dialog.request("INFO").cseq) == "11 INFO"


def test_an_early_dialog_is_confirmed_by_the_2xx():
    request = invite()
    dialog = Dialog.uac(request, answer(request, 180, routes=("<sip:p1;lr>",), contact="<sip:bob@early>"))
    assert (dialog.target, dialog.routes) == ("sip:bob@early", ["<sip:p1;lr>"])
    dialog.confirm(answer(request, routes=("<sip:p9;lr>",)))
    assert (dialog.target, dialog.routes) == ("sip:bob@192.0.2.2", ["<sip:p9;lr>"])


def test_a_forked_invite_makes_a_dialog_for_each_tag():
    request = invite()
    first, second = (Dialog.uac(request, answer(request, tag=tag)) for tag in ("b1", "b2"))
    bye = parse(
        b"BYE sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP b;branch=z9hG4bK9\r\nFrom: <sip:bob@example.org>;tag=b2\r\n"
        b"To: <sip:alice@example.org>;tag=a1\r\nCall-ID: c1\r\nCSeq: 1 BYE\r\n\r\n"
    )
    assert (first.matches(bye), second.matches(bye)) == (False, True)
    assert (first.matches(answer(request, tag="b1")), second.matches(answer(request, tag="b1"))) == (True, False)


def test_without_an_answer_it_waits_for_the_peers_tag():
    dialog = Dialog.uac(invite())
    assert (dialog.remote_tag, dialog.target) == ("", "sip:bob@example.org")
    assert dialog.remote_field == "Bob <sip:bob@example.org>"


def test_a_strict_router_gets_itself_as_the_request_uri():
    request = invite()
    dialog = Dialog.uac(request, answer(request, routes=("<sip:p1;lr>", "<sip:strict@p2:5070;x=1;method=INVITE>")))
    bye = dialog.request("BYE")
    assert bye.uri == "sip:strict@p2:5070;x=1"
    assert bye.headers("route") == ["<sip:p1;lr>", "<sip:bob@192.0.2.2>"]
    assert str(dialog.next_hop) == "sip:strict@p2:5070;x=1;method=INVITE"


def test_the_ack_has_the_cseq_of_the_invite_and_the_route_of_the_dialog():
    request = invite()
    dialog = Dialog.uac(request, answer(request, routes=("<sip:p1;lr>",)))
    dialog.request("UPDATE")
    ack = dialog.ack(10, body=b"v=0\r\n", content_type="application/sdp")
    assert (str(ack.cseq), ack.uri, ack.headers("route")) == ("10 ACK", "sip:bob@192.0.2.2", ["<sip:p1;lr>"])
    assert ack.header("to") == "Bob <sip:bob@example.org>;tag=b1"
    assert ack.encode().endswith(b"Content-Length: 5\r\n\r\nv=0\r\n")
    assert dialog.cseq == 11


def test_the_contact_of_a_reinvite_is_the_new_target():
    dialog = Dialog.uas(invite(), "b")
    dialog.refresh(invite())
    reinvite = parse(invite().encode().replace(b"192.0.2.1:5070", b"192.0.2.77"))
    dialog.refresh(reinvite)
    assert dialog.target == "sip:alice@192.0.2.77;transport=udp"


def test_a_lower_cseq_is_refused_and_a_higher_remembered():
    dialog = Dialog.uas(invite(cseq=10), "b")
    dialog.accepts(invite(cseq=10))
    dialog.accepts(invite(cseq=15))
    assert dialog.remote_cseq == 15
    with pytest.raises(OutOfOrder) as refused:
        dialog.accepts(invite(cseq=14))
    assert (refused.value.status, refused.value.headers) == (500, [("Retry-After", "1")])
    ack = compose.request("ACK", "sip:b", from_="<sip:a>;tag=a1", to="<sip:b>;tag=b", call_id="c1", cseq=10)
    dialog.accepts(ack)
    assert dialog.remote_cseq == 15


def test_a_peer_that_asked_nothing_yet_may_begin_with_any_cseq():
    request = invite()
    dialog = Dialog.uac(request, answer(request))
    dialog.accepts(invite(cseq=0))
    dialog.accepts(invite(cseq=2147483647))


def test_an_invite_without_contact_makes_no_dialog():
    request = parse(invite().encode().replace(b"Contact:", b"X-No:"))
    assert isinstance(request, Request)
    with pytest.raises(Malformed):
        Dialog.uas(request, "b")


def test_sips_makes_it_secure():
    request = parse(invite().encode().replace(b"INVITE sip:", b"INVITE sips:", 1))
    assert isinstance(request, Request)
    assert Dialog.uas(request, "b").secure


# ---- at rest -------------------------------------------------------------------------------------------------------


def test_a_dialog_comes_back_from_its_record():
    request = invite("Record-Route: <sip:p1;lr>\r\n")
    dialog = Dialog.uas(request, "b", secure=True)
    record = dialog.to_record()
    assert isinstance(record, DialogRecord)
    again = Dialog.from_record(record)
    same = ("call_id", "local_tag", "remote_tag", "local", "remote", "target", "routes", "remote_cseq", "secure")
    assert [getattr(again, name) for name in same] == [getattr(dialog, name) for name in same]


def test_no_cseq_goes_backwards_after_any_number_of_failovers():
    dialog = Dialog.uas(invite(), "b")
    used: list[int] = []
    for life in range(20):
        record = dialog.to_record()
        for _ in range(1 + 7 * life % 250):
            used.append(dialog.request("INFO").cseq.number)
            if dialog.needs_record:
                record = dialog.to_record()
        dialog = Dialog.from_record(record)
        assert dialog.needs_record
    assert used == sorted(set(used))


def test_a_record_is_wanted_once_in_a_hundred_requests():
    dialog = Dialog.uas(invite(), "b")
    assert dialog.needs_record
    dialog.to_record()
    wanted = 0
    for _ in range(1000):
        dialog.request("INFO")
        if dialog.needs_record:
            wanted += 1
            dialog.to_record()
    assert wanted == pytest.approx(1000 / RESERVE, abs=2)


def test_a_snapshot_does_not_waste_the_numbers():
    dialog = Dialog.uas(invite(), "b")
    assert {dialog.to_record().cseq_reserved for _ in range(10)} == {RESERVE}
