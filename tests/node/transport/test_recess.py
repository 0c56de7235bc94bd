"""What is kept while our time to act is over."""

from __future__ import annotations

from node.sip.flow import Flow
from node.transport.recess import MOST, Recess

FLOW = Flow("internal", "UDP", ("192.0.2.1", 5060), ("192.0.2.9", 5060))


def test_what_came_and_what_was_to_go_is_given_back_in_order_and_once():
    recess = Recess()
    recess.on = True
    for number in range(3):
        recess.hear(b"in %d" % number, FLOW)
        recess.say(b"out %d" % number, FLOW)
    said, heard = recess.end()
    assert [data for data, _flow in said] == [b"out 0", b"out 1", b"out 2"]
    assert [data for data, _flow in heard] == [b"in 0", b"in 1", b"in 2"]
    assert not recess.on
    assert recess.end() == ([], [])


def test_it_does_not_fill_the_memory():
    recess = Recess()
    for _ in range(MOST + 5):
        recess.hear(b"x", FLOW)
    assert recess.lost == 5
    assert len(recess.end()[1]) == MOST
