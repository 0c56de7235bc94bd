"""Requests of dialogs that are not here, while the store cannot be asked; in virtual time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from node.calls.search import ASKED
from store.records import CallRecord, DialogRecord, LegRecord
from tests.fuzz.agent import Dialogue, Tally, value
from tests.fuzz.theatre import Actor, Theatre


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


def stranger(actor: Actor, tag: str = "internal.0-00000000000000aa") -> Dialogue:
    """A dialog that the actor believes to be in, of a worker before this one."""
    dialog = actor.begin("9196")
    dialog.to += f";tag={tag}"
    return dialog


def finals(actor: Actor, seconds: float) -> list[tuple[float, str]]:
    """Final answers that come within that time, each once, and when."""
    found: list[tuple[float, str]] = []
    begun = actor.now()
    while actor.now() < begun + seconds:
        for text in actor.listen(begun + seconds - actor.now()):
            new = all(text != other for _at, other in found)
            if new and text.startswith("SIP/2.0 ") and text[8:11] >= "200":
                found.append((actor.now() - begun, text))
    return found


def kept_call(
    theatre: Theatre, dialog: Dialogue, state: str = "answered", slot: str = "internal#0", uuid: str = "u1"
) -> None:
    """Put the dialog's record into the store, in the name of somebody who is being replaced."""
    tag = dialog.to.rpartition("tag=")[2]
    leg = LegRecord(
        uuid=uuid,
        direction="inbound",
        profile="internal",
        state=state,  # type: ignore[arg-type]
        dialog=DialogRecord(call_id=dialog.call_id, local_tag=tag, remote_tag=dialog.tag),
    )
    call = CallRecord(uuid=uuid, state="answered", legs=[leg], slot=slot, epoch=1, version=1)
    theatre.books.put(call)


def test_who_asks_in_vain_for_as_long_as_it_would_wait_hears_500_which_ends_nothing(
    theatre: Theatre, actor: Actor
) -> None:
    theatre.books.gone = True
    for method in ("INFO", "INVITE", "BYE"):
        actor.send(actor.request(method, stranger(actor, f"internal.0-{method}")))
    heard = finals(actor, 31.0)
    assert [text[:11] for _at, text in heard] == ["SIP/2.0 500"] * 3
    assert all(value(text, "Retry-After") == "2" for _at, text in heard)
    assert all(23 < at < 27 for at, _text in heard)


def test_who_waited_hears_481_when_the_store_is_back_and_knows_nothing(theatre: Theatre, actor: Actor) -> None:
    theatre.books.gone = True
    dialogs = [stranger(actor, f"internal.0-{number:016x}") for number in range(20)]
    for dialog in dialogs:
        actor.send(actor.request("INFO", dialog))
    assert finals(actor, 5.0) == []
    theatre.books.gone = False
    heard = finals(actor, 1.0)
    assert [text[:11] for _at, text in heard] == ["SIP/2.0 481"] * 20


def test_more_than_may_be_asked_for_at_once_wait_for_their_turn(theatre: Theatre, actor: Actor) -> None:
    count = ASKED + 200
    for number in range(count):
        actor.send(actor.request("INFO", stranger(actor, f"internal.0-{number:016x}")))
    heard = finals(actor, 2.0)
    assert [text[:11] for _at, text in heard] == ["SIP/2.0 481"] * count


def test_what_another_worker_answers_is_forgotten_here(theatre: Theatre, actor: Actor) -> None:
    dialogs = [stranger(actor), stranger(actor, "internal.0-00000000000000bb")]
    handed_on: list[object] = []
    bus = theatre.endpoint.bus
    bus.alive = lambda token: token == "internal.1"  # type: ignore[method-assign]
    bus.send = lambda token, mail, otherwise=None: handed_on.append(mail)  # type: ignore[method-assign]
    for number, (dialog, method) in enumerate(zip(dialogs, ("INFO", "INVITE"), strict=True)):
        kept_call(theatre, dialog, slot="internal#1", uuid=f"u{number}")
        actor.send(actor.request(method, dialog))
    assert finals(actor, 40.0) == []
    assert len(handed_on) == 2
    assert theatre.endpoint.layer.servers == 0
    assert theatre.duty.reception._searches._by_dialog == {}


def test_a_call_that_stays_with_nobody_is_500_and_a_dialog_that_its_record_does_not_name_is_481(
    theatre: Theatre, actor: Actor
) -> None:
    """Its owner is being replaced, for longer than anybody waits; the record of another dialog says nothing of this one."""
    asked: list[object] = []
    ask = theatre.books.ask
    theatre.books.ask = lambda question, then, deadline=2.0: (asked.append(question), ask(question, then, deadline))  # type: ignore[method-assign,assignment]
    dialog = stranger(actor)
    kept_call(theatre, dialog)
    theatre.books.store.book.fences["internal#0"] = 99  # somebody else rules: nothing can be claimed here
    for _ in range(3):
        actor.send(actor.request("INFO", dialog))
    other = stranger(actor, "internal.0-00000000000000bb")
    other.call_id = dialog.call_id
    actor.send(actor.request("INFO", other))
    heard = finals(actor, 31.0)
    assert [text[:11] for _at, text in heard] == ["SIP/2.0 481", *["SIP/2.0 500"] * 3]
    assert len(asked) < 1000, "it is looked for now and then, not all the time"


def test_a_bye_of_a_leg_that_is_over_is_answered_from_the_record_of_its_call(theatre: Theatre, actor: Actor) -> None:
    dialog = stranger(actor)
    kept_call(theatre, dialog, "ended")
    actor.send(actor.request("BYE", dialog))
    assert [text[:11] for _at, text in finals(actor, 1.0)] == ["SIP/2.0 200"]


def test_a_cancel_that_was_too_early_takes_effect_when_its_invite_is_here(theatre: Theatre, actor: Actor) -> None:
    theatre.books.gone = True
    dialog = actor.begin("9195")
    invite = actor.request("INVITE", dialog, body=actor.description)
    actor.send(actor.request("CANCEL", dialog))
    assert finals(actor, 1.0) == []
    actor.send(invite)
    heard = [(value(text, "CSeq"), text[8:11]) for _at, text in finals(actor, 2.0)]
    assert ("1 CANCEL", "200") in heard
    assert ("1 INVITE", "487") in heard
    assert not theatre.duty.switchboard.exchange.calls
