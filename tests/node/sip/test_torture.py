"""RFC 4475 and RFC 5118: each trap, with messages of our own and with the RFCs' where they are at hand."""

from __future__ import annotations

import pytest

from node.sip import compose
from node.sip.errors import SipError
from node.sip.layer import TransactionLayer
from node.sip.message import Request, Response, check, parse
from tests.support.torture import THEIRS, Case, cases, expectations, look, messages
from tests.support.wire import FLOW, Party

CASES = cases()


def judged(data: bytes) -> tuple[Request | Response | None, SipError | None]:
    """The message if it can be read, and why it is refused if it is."""
    message = None
    try:
        message = parse(data)
        if isinstance(message, Request):
            check(message)
    except SipError as error:
        return message or getattr(error, "request", None), error
    return message, None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_message_is_taken_or_refused_as_the_rfcs_say(case: Case):
    _message, error = judged(case.data)
    assert ("good" if error is None else str(error.status)) == case.judged


@pytest.mark.parametrize("case", [case for case in CASES if case.read], ids=str)
def test_what_must_be_read_of_it_is_read(case: Case):
    message, _error = judged(case.data)
    assert message is not None
    found = {}
    for path in case.read:
        try:
            found[path] = look(message, path)
        except SipError:
            found[path] = "!"
    assert found == case.read


REFUSED = [case for case in CASES if case.judged != "good" and not case.is_response]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_each_refusal_can_be_sent_and_bears_what_the_request_had(case: Case):
    message, error = judged(case.data)
    assert isinstance(message, Request)
    assert error is not None
    message.stamp("127.0.0.1", 5060)
    answer = parse(compose.refuse(message, error).encode())
    assert isinstance(answer, Response)
    assert str(answer.status) == case.judged
    assert answer.header("via").partition(";")[0].split() == message.header("via").partition(";")[0].split()
    for name in ("From", "Call-ID", "CSeq"):
        assert answer.header(name) == message.header(name)


@pytest.mark.parametrize("case", [case for case in CASES if case.judged == "good"], ids=str)
def test_what_is_good_goes_out_again_byte_for_byte_and_reads_the_same_written_anew(case: Case):
    message, error = judged(case.data)
    assert message is not None
    assert error is None
    assert message.encode() == case.data
    again = parse(f"{message.text}\r\n\r\n".encode("utf-8", "surrogateescape") + message.body)
    assert (again.text, again.body, list(again.items())) == (message.text, message.body, list(message.items()))


def test_every_expectation_has_its_message_and_every_message_its_expectation():
    assert set(messages("ours")) == set(expectations())
    assert len(expectations()) == 61
    sections = [entry["rfc"].split()[0] for entry in expectations().values()]
    assert (sections.count("4475"), sections.count("5118")) == (49, 12)


def test_the_messages_of_the_rfcs_are_all_there_where_any_is():
    assert set(messages("theirs")) == (set(expectations()) if THEIRS.is_dir() else set())


def test_ours_are_not_theirs():
    """Written anew, not copied: the two share no line that says anything."""
    for name, data in messages("theirs").items():
        ours = {line for line in messages("ours")[name].splitlines() if b"torture" in line or b"@" in line}
        assert not ours & set(data.splitlines()), name


def test_two_requests_with_a_bare_cookie_are_two_transactions():
    first, second = (parse(messages("ours")["badbranch"].replace(b"-0001@", f"-{n}@".encode())) for n in (1, 2))
    party = Party("bob", "192.0.2.2")
    layer = TransactionLayer(party, slot_token="bob.0", sent_by=lambda flow: "192.0.2.2")
    for message in (first, second, first):
        layer.receive(message, FLOW, 0.0)
    assert len(party.arrived) == 2
