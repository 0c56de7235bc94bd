"""The memory of recoveries: counts that follow each leg's last result, and no more legs than it may hold."""

from __future__ import annotations

from itertools import count

from node.calls.ledger import LAST, Ledger, Result


def ledger() -> Ledger:
    times = count(100)
    return Ledger(lambda: float(next(times)))


def leg(name: str, *, ok: bool = True, cause: str = "revived") -> Result:
    return Result(name, f"call of {name}", ok, cause, "internal", f"id-{name}", "inbound")


def test_a_leg_counts_by_its_last_result() -> None:
    book = ledger()
    book.begin()
    first = leg("a")
    book.note(first, None)
    book.note(leg("b"), None)
    book.note(leg("a", ok=False, cause="481"), first)
    book.note(leg("b", cause="reinvited"), leg("b"))
    told = book.status(waiting=0)
    assert (told["legs"], told["lost"], told["reinvited"]) == (2, 1, 1)
    assert [row[1:] for row in told["results"]] == [
        ["a", "call of a", "internal", "id-a", "inbound", "failed", "481", 0],
        ["b", "call of b", "internal", "id-b", "inbound", "ok", "reinvited", 0],
    ]


def test_a_second_claim_counts_with_the_first_while_that_is_under_way() -> None:
    book = ledger()
    book.begin()
    book.counts.calls = 3
    book.begin()
    assert book.counts.calls == 3
    book.end()
    book.begin()
    assert book.counts.calls == 0


def test_the_lost_are_not_pushed_out_by_the_kept() -> None:
    book = ledger()
    book.begin()
    book.note(leg("lost", ok=False, cause="no port"), None)
    for number in range(LAST + 50):
        book.note(leg(str(number)), None)
    told = book.status(waiting=0)
    assert told["legs"] == LAST + 51
    assert len(told["results"]) == LAST + 1
    assert told["results"][0][1] == "lost"


def test_nothing_was_recovered_yet() -> None:
    told = ledger().status(waiting=0)
    assert told["began"] == 0
    assert told["results"] == []
