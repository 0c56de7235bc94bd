"""Messages that cross each other, or an order of ours, at the worst moment."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fuzz.agent import Agent, Dialogue, Tally, value
from tests.fuzz.theatre import Actor, Theatre
from tests.node.calls.test_remains import registered

ALLOW = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n"


@pytest.fixture
def theatre() -> Iterator[Theatre]:
    theatre = Theatre()
    try:
        yield theatre
    finally:
        theatre.close()


@pytest.fixture
def actor(theatre: Theatre) -> Actor:
    actor = Actor(theatre, Tally(), 0, 1)
    registered(actor)
    return actor


def heard(actor: Actor, seconds: float) -> list[str]:
    """All that comes within that time; nothing is answered."""
    found: list[str] = []
    until = actor.now() + seconds
    while actor.now() < until:
        found += actor.listen(until - actor.now())
    return found


def rung(actor: Actor) -> tuple[str, Dialogue]:
    """The actor calls itself: the INVITE that came out, and the caller's dialog."""
    dialog = actor.begin("1002")
    actor.send(actor.request("INVITE", dialog, body=actor.description))
    return next(text for text in heard(actor, 1.0) if text.startswith("INVITE")), dialog


def answered(actor: Actor, *, acknowledged: bool = True) -> tuple[str, Dialogue, Dialogue]:
    """The same, answered: both dialogs."""
    invite, dialog = rung(actor)
    actor.send(actor.answer(invite, 200, actor.description, ALLOW))
    ok = next(text for text in heard(actor, 0.3) if text.startswith("SIP/2.0 200"))
    actor.confirm(dialog, ok)
    if acknowledged:
        actor.send(actor.request("ACK", dialog))
        heard(actor, 0.2)
    return invite, dialog, actor.called(invite, "1002")


def ends(actor: Agent, theatre: Theatre, dialog: Dialogue) -> None:
    assert actor.ask(actor.request("BYE", dialog)).startswith("SIP/2.0 200")
    theatre.clock.turn(actor.now() + 1.0)
    actor.hear(0.1)
    assert not theatre.duty.switchboard.exchange.calls
    assert theatre.trouble.found == []


def test_a_cancel_of_a_reinvite_that_the_other_side_has_answered_comes_too_late(theatre: Theatre, actor: Actor) -> None:
    """What was offered counts there already: both sides must believe the same."""
    _invite, dialog, _callee = answered(actor)
    held = actor.description.replace("sendrecv", "sendonly")
    actor.send(actor.request("INVITE", dialog, body=held))
    offer = next(text for text in heard(actor, 0.3) if text.startswith("INVITE"))
    number = dialog.cseq
    actor.send(actor.answer(offer, 200, actor.description))
    actor.send(actor.request("CANCEL", dialog))  # before our 200 is on record
    said = [text for text in heard(actor, 0.3) if text.startswith("SIP/2.0 ")]
    finals = {value(text, "CSeq"): text[8:11] for text in said if text[8:11] >= "200"}
    assert finals == {f"{number} INVITE": "200", f"{number} CANCEL": "200"}
    actor.send(actor.request("ACK", dialog))
    ends(actor, theatre, dialog)


def test_an_update_that_cannot_be_read_does_not_stop_a_200_from_being_repeated(theatre: Theatre, actor: Actor) -> None:
    dialog = actor.begin("9196")
    answer = actor.ask(actor.request("INVITE", dialog, body=actor.description))
    actor.confirm(dialog, answer)
    head, _audio, _rest = actor.description.partition("m=audio")
    bad = f"{head}m=audio 40000 RTP/AVP 97\r\na=rtpmap:97 AMR/8000\r\n"
    refusal = actor.ask(actor.request("UPDATE", dialog, body=bad))
    assert refusal[8:11] >= "400"
    again = [text for text in heard(actor, 3.0) if text.startswith("SIP/2.0 200")]
    assert again, "it has not been acknowledged"
    dialog.cseq -= 1
    actor.send(actor.request("ACK", dialog))
    dialog.cseq += 1
    heard(actor, 0.2)
    assert not [text for text in heard(actor, 6.0) if text.startswith("SIP/2.0 200")]
    ends(actor, theatre, dialog)


@pytest.mark.parametrize("faster", [False, True])
def test_a_leg_that_goes_its_own_way_while_a_reinvite_to_it_is_taken_back_can_be_asked_again(
    theatre: Theatre, actor: Actor, faster: bool
) -> None:
    _invite, dialog, callee = answered(actor)
    actor.send(actor.request("INVITE", dialog, body=actor.description.replace("sendrecv", "sendonly")))
    offer = next(text for text in heard(actor, 0.3) if text.startswith("INVITE"))
    actor.send(actor.answer(offer, 100))
    (call,) = theatre.duty.switchboard.exchange.calls.values()
    leg = call.legs[1]
    assert theatre.duty.switchboard.transfer(call.legs[0].uuid, ["-both", "9196"])
    said = heard(actor, 0.3)
    cancel = next(text for text in said if text.startswith("CANCEL"))
    actor.send(actor.answer(cancel, 200))
    actor.send(actor.answer(offer, 200, actor.description) if faster else actor.answer(offer, 487))
    heard(actor, 0.3)
    assert leg.pending is None, "else it could never be asked again"
    assert actor.ask(actor.request("INVITE", callee, body=actor.description)).startswith("SIP/2.0 200")
    actor.send(actor.request("ACK", callee))
    assert actor.ask(actor.request("BYE", callee)).startswith("SIP/2.0 200")
    ends(actor, theatre, dialog)


def test_an_update_that_is_under_way_when_all_is_hung_up_is_answered_and_holds_nothing(
    theatre: Theatre, actor: Actor
) -> None:
    _invite, dialog, _callee = answered(actor)
    actor.send(actor.request("UPDATE", dialog, body=actor.description.replace("sendrecv", "sendonly")))
    assert any(text.startswith("UPDATE") for text in heard(actor, 0.3))
    number = dialog.cseq
    theatre.duty.switchboard.hupall()
    said = heard(actor, 0.3)
    for text in said:
        if text.startswith("BYE"):
            actor.send(actor.answer(text, 200))
    said += heard(actor, 0.3)
    assert [text[:11] for text in said if value(text, "CSeq") == f"{number} UPDATE" and text[:3] == "SIP"] == [
        "SIP/2.0 487"
    ]
    assert not theatre.duty.switchboard.exchange.calls
    assert theatre.trouble.found == []


def test_who_ordered_a_call_hears_what_became_of_it_though_it_was_hung_up_while_it_rang(
    theatre: Theatre, actor: Actor
) -> None:
    said: list[str] = []
    theatre.duty.switchboard.originate(f"sofia/internal/sip:1002@{actor.sent_by} &echo()", said.append)
    invite = next(text for text in heard(actor, 1.0) if text.startswith("INVITE"))
    actor.send(actor.answer(invite, 180))
    assert theatre.duty.switchboard.hupall() == 1
    assert said == ["-ERR MANAGER_REQUEST"]
    cancel = next(text for text in heard(actor, 0.3) if text.startswith("CANCEL"))
    actor.send(actor.answer(cancel, 200))
    actor.send(actor.answer(invite, 487))
    heard(actor, 0.3)
    assert not theatre.duty.switchboard.exchange.calls


def test_who_ordered_a_call_hears_it_when_the_answer_is_taken_back_before_it_counts(
    theatre: Theatre, actor: Actor
) -> None:
    said: list[str] = []
    theatre.duty.switchboard.originate(f"sofia/internal/sip:1002@{actor.sent_by} &echo()", said.append)
    invite = next(text for text in heard(actor, 1.0) if text.startswith("INVITE"))
    actor.send(actor.answer(invite, 200, actor.description))
    callee = actor.called(invite, "1002")
    actor.send(actor.request("BYE", callee))
    heard(actor, 0.3)
    assert said == ["-ERR NORMAL_CLEARING"]
    assert not theatre.duty.switchboard.exchange.calls
