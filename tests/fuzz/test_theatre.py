"""Calls by the hundred in virtual time, with mutants of all that both sides say; and what such scenes have brought to light."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.transport.handoff import PEERS
from tests.fuzz.agent import Dialogue, Tally, value
from tests.fuzz.scripts import EVERYTHING
from tests.fuzz.theatre import EACH, Actor, Theatre, season

MUTANTS = 8000
GROWTH = 16_384
"KiB that what is remembered for a while may take."


@pytest.fixture
def theatre() -> Iterator[Theatre]:
    theatre = Theatre()
    try:
        yield theatre
    finally:
        theatre.close()


@pytest.fixture
def actor(theatre: Theatre) -> Actor:
    return Actor(theatre, Tally(), 0, 1)


def call_itself(actor: Actor) -> tuple[str, Dialogue]:
    """1000 calls 1002, who is the same: the INVITE that came out, and the caller's dialog."""
    registration = actor.begin("", "1002")
    registration.target, registration.to = "sip:sofia.test", "<sip:1002@sofia.test>"
    assert actor.ask(actor.request("REGISTER", registration)).startswith("SIP/2.0 200")
    dialog = actor.begin("1002")
    actor.send(actor.request("INVITE", dialog, body=actor.description))
    while not actor.invited:
        actor.hear(1.0)
    return actor.invited.pop(), dialog


def established(actor: Actor) -> tuple[str, Dialogue, Dialogue]:
    """The same, answered: the INVITE that came out, and both dialogs."""
    invite, dialog = call_itself(actor)
    actor.send(actor.answer(invite, 200, actor.description))
    heard = heard_of(actor, "INVITE", 2.0)
    answers = [text for text in heard if text.startswith("SIP/2.0 2")]
    assert answers, heard
    actor.confirm(dialog, answers[0])
    actor.send(actor.request("ACK", dialog))
    return invite, dialog, actor.called(invite, "1002")


def heard_of(actor: Actor, method: str, seconds: float) -> list[str]:
    """Answers to requests of this method that come within that time."""
    until, found = actor.now() + seconds, []
    while actor.now() < until:
        found += [text for text in actor.hear(until - actor.now()) if value(text, "CSeq").endswith(f" {method}")]
    return found


def test_scenes_with_mutants_break_nothing_and_leave_nothing(capsys):
    figures = season(seed=3261, mutants=MUTANTS)
    with capsys.disabled():
        print(f"\n  {figures}")
    assert figures.finds == []
    assert figures.mutants >= MUTANTS
    assert figures.statuses[200] > figures.scenes
    assert figures.grown < GROWTH


def test_every_script_gets_through_without_mutants(theatre):
    tally = Tally()
    for seed in range(3 * len(EVERYTHING)):
        theatre.play(seed, tally, 0)
    assert tally.unanswered == []


def test_a_notify_whose_author_cannot_be_read_is_refused_and_the_call_goes_on(theatre, actor):
    _invite, caller, callee = established(actor)
    notify = actor.request("NOTIFY", caller, extra="Event: refer\r\nSubscription-State: active")
    bad = notify.replace(b"From: <sip:1000@sofia.test>", b"From: <sip:1000@sofia.te st>")
    assert actor.ask(bad).startswith("SIP/2.0 400")
    assert actor.ask(actor.request("BYE", callee)).startswith("SIP/2.0 200")
    assert theatre.trouble.found == []


def test_an_expiry_that_is_no_number_is_refused_and_the_call_goes_on(theatre, actor):
    _invite, caller, _callee = established(actor)
    actor.ask(actor.request("REFER", caller, extra="Refer-To: <sip:nobody@sofia.test>"))
    subscribe = actor.request("SUBSCRIBE", caller, extra="Event: refer\r\nExpires: soon")
    assert not actor.ask(subscribe).startswith("SIP/2.0 2")
    assert theatre.trouble.found == []


def test_a_200_of_somebody_else_without_contact_does_not_end_the_call(theatre, actor):
    """Behind a proxy that forks: the second one to answer cannot be reached, the first one talks on."""
    invite, caller, callee = established(actor)
    other = actor.answer(invite, 200, actor.description).replace(b";tag=callee", b";tag=another")
    lines = [line for line in other.split(b"\r\n") if not line.startswith(b"Contact:")]
    actor.send(b"\r\n".join(lines))
    theatre.clock.turn(theatre.clock.time() + 1.0)
    assert actor.ask(actor.request("OPTIONS", callee)).startswith("SIP/2.0 200")
    assert actor.ask(actor.request("BYE", caller)).startswith("SIP/2.0 200")
    assert theatre.trouble.found == []


def test_a_200_to_an_update_with_a_contact_that_cannot_be_read_is_passed_over(theatre, actor):
    invite, dialog = call_itself(actor)
    allow = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n"
    actor.send(actor.answer(invite, 200, actor.description, allow))
    answers = heard_of(actor, "INVITE", 2.0)
    actor.confirm(dialog, answers[0])
    actor.send(actor.request("ACK", dialog))
    held = actor.description.replace("sendrecv", "sendonly")
    actor.send(actor.request("UPDATE", dialog, body=held))
    theatre.clock.turn(theatre.clock.time() + 0.2)
    asked = [text for text in actor.listen(1.0) if text.startswith("UPDATE")]
    assert asked
    good = actor.answer(asked[0], 200, held)
    actor.send(good.replace(actor.contact("1000").encode(), b"<sip:1000@ho st>"))
    actor.send(good)
    assert [text[:11] for text in heard_of(actor, "UPDATE", 2.0)] == ["SIP/2.0 200"]
    assert actor.ask(actor.request("BYE", dialog)).startswith("SIP/2.0 200")
    assert theatre.trouble.found == []


def test_who_is_hung_up_on_before_its_200_has_left_hears_a_refusal_and_no_bye(theatre, actor):
    """The callee answers and is gone at once, while the record of the answer is being written."""
    invite, dialog = call_itself(actor)
    actor.send(actor.answer(invite, 200, actor.description))
    callee = actor.called(invite, "1002")
    callee.target = "sip:mod_sofia@127.0.0.1:5060"
    bye = actor.request("BYE", callee)
    actor.send(bye)
    heard: list[str] = []
    until = actor.now() + 3.0
    while actor.now() < until:
        heard += actor.listen(until - actor.now())
    finals = [text for text in heard if value(text, "CSeq") == f"{dialog.cseq} INVITE" and text.startswith("SIP/2.0 ")]
    assert finals
    assert all(text[8:11] >= "400" for text in finals if text[8:11] >= "200"), finals
    assert not [text for text in heard if text.startswith("BYE")]
    assert theatre.trouble.found == []


def test_a_reinvite_that_a_bye_overtakes_is_answered_487(theatre, actor):
    dialog = actor.establish()
    theatre.clock.turn(theatre.clock.time() + 1.0)
    actor.send(actor.request("INVITE", dialog, body=actor.description))
    again = dialog.cseq
    actor.send(actor.request("BYE", dialog))
    heard = heard_of(actor, "INVITE", 3.0)
    assert {text[8:11] for text in heard if value(text, "CSeq") == f"{again} INVITE"} == {"487"}
    assert theatre.trouble.found == []


def test_an_ack_to_the_refusal_of_one_reinvite_does_not_keep_back_the_200_to_another(theatre):
    """Of two with the same number; the 200 was still being written down. Its transaction stayed for ever."""
    theatre.play(20261124000455, Tally(), EACH)


def test_tags_of_slots_that_nobody_has_cost_next_to_nothing(theatre, actor):
    """Each was once waited for, looked for in the store, and remembered for ever."""
    asked: list[object] = []
    ask = theatre.books.ask
    theatre.books.ask = lambda question, then, deadline=2.0: (asked.append(question), ask(question, then, deadline))  # type: ignore[method-assign,assignment]
    for number in range(400):
        dialog = actor.begin("9196")
        dialog.to += f";tag=strange{number}.{number}-abc"
        actor.send(actor.request("INFO", dialog))
    heard = heard_of(actor, "INFO", 3.0)
    assert {text[8:11] for text in heard} == {"481"}
    assert len(heard) == 400
    claims = [
        question
        for question in asked
        if "claim" in getattr(question, "__qualname__", "") or "Succession" in str(question)
    ]
    assert len(claims) < 10
    assert len(theatre.endpoint.bus._peers) <= PEERS
    assert theatre.trouble.found == []


def test_what_was_held_for_a_claim_is_released_though_an_adoption_outlasts_it():
    """Else a worker that was promoted under fire would keep back what belongs to its dialogs for ever."""
    theatre = Theatre(claims=["internal#0"], takes=[1.0, 3.0])
    try:
        actor = Actor(theatre, Tally(), 0, 1)
        for tag in ("strange.7-abc", "internal.0-abc"):
            dialog = actor.begin("9196")
            dialog.to += f";tag={tag}"
            actor.send(actor.request("INFO", dialog))
        heard = heard_of(actor, "INFO", 8.0)
        assert sorted(text[8:11] for text in heard) == ["481", "481"]
    finally:
        theatre.close()


@pytest.mark.parametrize("method", ["MESSAGE", "UPDATE"])
def test_what_the_other_side_never_answers_is_answered_while_its_author_still_waits(theatre, actor, method):
    """A connection that nobody reads any more: both transactions once ended in the same instant, and nothing was said."""
    invite, dialog = call_itself(actor)
    actor.send(actor.answer(invite, 200, actor.description, "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n"))
    actor.confirm(dialog, heard_of(actor, "INVITE", 2.0)[0])
    actor.send(actor.request("ACK", dialog))
    theatre.clock.turn(theatre.clock.time() + 1.0)
    body, asked = actor.description if method == "UPDATE" else "", actor.now()
    actor.send(actor.request(method, dialog, body=body))
    heard: list[str] = []
    while not heard and actor.now() < asked + 30:
        heard = [text for text in actor.listen(1.0) if text.startswith("SIP/2.0")]  # and answers nothing
    assert [text[:11] for text in heard] == ["SIP/2.0 504"]
    theatre.clock.turn(theatre.clock.time() + 40.0)
    assert bool(theatre.duty.switchboard.exchange.calls) == (method != "UPDATE"), "its session is not what it was"
    assert theatre.trouble.found == []
