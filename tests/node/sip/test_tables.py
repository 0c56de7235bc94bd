"""Every cell of every machine, against what the RFCs say, written down a second time."""

from __future__ import annotations

from typing import Any

import pytest

from node.sip import compose, tables
from node.sip.flow import Flow
from node.sip.machine import Cause, Machine, State
from node.sip.message import Message, Request
from node.sip.timers import Timers
from node.sip.token import Names
from node.sip.transaction import ClientTransaction, Ground, ServerTransaction
from tests.support.wire import Party, a_request

MACHINES: dict[str, Machine[Any, Any]] = {
    "INVITE client": tables.INVITE_CLIENT,
    "non-INVITE client": tables.NON_INVITE_CLIENT,
    "INVITE server": tables.INVITE_SERVER,
    "revived INVITE server": tables.REVIVED_INVITE_SERVER,
    "non-INVITE server": tables.NON_INVITE_SERVER,
}

# state, cause: new state, then what is sent (>) and told (<). Each cell is either here or among those that are ignored.
INVITE_CLIENT = """
calling     1xx             -> proceeding  <1xx
calling     2xx             -> accepted    <2xx
calling     3xx-6xx         -> completed   >ACK <3xx
calling     resend          -> calling     >INVITE
calling     give up         -> terminated  <timeout
calling     transport error -> terminated  <transport
proceeding  1xx             -> proceeding  <1xx
proceeding  2xx             -> accepted    <2xx
proceeding  3xx-6xx         -> completed   >ACK <3xx
proceeding  CANCEL          -> cancelling  >CANCEL
cancelling  1xx             -> cancelling  <1xx
cancelling  2xx             -> accepted    <2xx
cancelling  3xx-6xx         -> completed   >ACK <3xx
cancelling  give up         -> terminated  <timeout
accepted    2xx             -> accepted    <2xx
accepted    settled         -> terminated
completed   3xx-6xx         -> completed   >ACK
completed   settled         -> terminated
completed   transport error -> terminated
"""
NON_INVITE_CLIENT = """
trying      1xx             -> proceeding  <1xx
trying      2xx             -> completed   <2xx
trying      3xx-6xx         -> completed   <3xx
trying      resend          -> trying      >OPTIONS
trying      give up         -> terminated  <timeout
trying      transport error -> terminated  <transport
proceeding  1xx             -> proceeding  <1xx
proceeding  2xx             -> completed   <2xx
proceeding  3xx-6xx         -> completed   <3xx
proceeding  resend          -> proceeding  >OPTIONS
proceeding  give up         -> terminated  <timeout
proceeding  transport error -> terminated  <transport
completed   settled         -> terminated
"""
INVITE_SERVER = """
trying      hurry           -> proceeding  >100
trying      1xx             -> proceeding  >1xx
trying      2xx             -> accepted    >2xx
trying      3xx-6xx         -> completed   >3xx
trying      CANCEL          -> trying      <CANCEL
proceeding  request again   -> proceeding  >last
proceeding  1xx             -> proceeding  >1xx
proceeding  2xx             -> accepted    >2xx
proceeding  3xx-6xx         -> completed   >3xx
proceeding  CANCEL          -> proceeding  <CANCEL
accepted    2xx             -> accepted    >2xx
accepted    ACK             -> accepted    <ACK
accepted    settled         -> terminated
completed   request again   -> completed   >last
completed   resend          -> completed   >last
completed   give up         -> terminated  <unacknowledged
completed   ACK             -> confirmed
confirmed   settled         -> terminated
"""
REVIVED = (
    INVITE_SERVER
    + """
trying      ACK             -> terminated  <ended elsewhere
proceeding  ACK             -> terminated  <ended elsewhere
accepted    request again   -> accepted    >last
"""
)
NON_INVITE_SERVER = """
trying      1xx             -> proceeding  >1xx
trying      2xx             -> terminated  >2xx
trying      3xx-6xx         -> terminated  >3xx
trying      give up         -> terminated
proceeding  request again   -> proceeding  >last
proceeding  1xx             -> proceeding  >1xx
proceeding  2xx             -> terminated  >2xx
proceeding  3xx-6xx         -> terminated  >3xx
proceeding  give up         -> terminated
"""
EXPECTED = dict(
    zip(MACHINES, [INVITE_CLIENT, NON_INVITE_CLIENT, INVITE_SERVER, REVIVED, NON_INVITE_SERVER], strict=True)
)

# What is ignored, and why: a state, causes, the reason. A cell that is in neither list fails.
IGNORED_INVITE_CLIENT = """
calling     CANCEL                      | waits for a provisional (RFC 3261 9.1)
calling     settled                     | no timer of this state (RFC 3261 figure 5)
proceeding  resend, give up             | timers A and B end with the first provisional (RFC 3261 17.1.1.2)
proceeding  settled                     | no timer of this state
proceeding  transport error             | nothing is being sent: the answer may still come
cancelling  CANCEL                      | once is enough: it has a transaction of its own
cancelling  resend, settled             | no timers of this state
cancelling  transport error             | the CANCEL's own transaction hears of it
accepted    1xx, 3xx-6xx                | only 2xx are told from here (RFC 6026 7.2)
accepted    CANCEL                      | too late (RFC 3261 9.1)
accepted    resend, give up             | only timer M (RFC 6026 figure 5)
accepted    transport error             | the user sends the ACK
completed   1xx, 2xx                    | the first final stands (RFC 3261 17.1.1.2)
completed   CANCEL                      | too late (RFC 3261 9.1)
completed   resend, give up             | only timer D
"""
IGNORED_NON_INVITE_CLIENT = """
trying      CANCEL                      | only INVITE is cancelled here (RFC 3261 9.1 advises against all else)
trying      settled                     | no timer of this state (RFC 3261 figure 6)
proceeding  CANCEL, settled             | as in trying
completed   1xx, 2xx, 3xx-6xx           | retransmissions are absorbed until timer K (RFC 3261 17.1.2.2)
completed   CANCEL                      | too late
completed   resend, give up             | only timer K
completed   transport error             | nothing is being sent
"""
IGNORED_INVITE_SERVER = """
trying      request again               | nothing was answered yet; the 100 comes by itself (RFC 3261 17.2.1)
trying      ACK                         | nothing was refused
trying      resend, give up, settled    | no timers of this state
proceeding  ACK                         | nothing was refused
proceeding  resend, hurry, give up      | no timers of this state (RFC 6026 figure 7)
proceeding  settled                     | no timer of this state
accepted    request again               | retransmissions are absorbed (RFC 6026 7.1)
accepted    1xx, 3xx-6xx                | only more 2xx may follow a 2xx
accepted    CANCEL                      | too late (RFC 3261 9.2)
accepted    resend, hurry, give up      | only timer L
completed   1xx, 2xx, 3xx-6xx           | the first final stands (RFC 3261 17.2.1)
completed   CANCEL                      | too late (RFC 3261 9.2)
completed   hurry, settled              | only timers G and H
confirmed   request again, ACK          | absorbed until timer I (RFC 3261 17.2.1)
confirmed   1xx, 2xx, 3xx-6xx           | all is said
confirmed   CANCEL                      | too late
confirmed   resend, hurry, give up      | only timer I
"""
IGNORED_NON_INVITE_SERVER = """
trying      request again               | nothing was answered yet: discarded (RFC 3261 17.2.2)
trying      resend, settled             | no timers of this state (RFC 3261 figure 8)
proceeding  resend, settled             | no timers of this state
"""
IGNORED = {
    "INVITE client": IGNORED_INVITE_CLIENT,
    "non-INVITE client": IGNORED_NON_INVITE_CLIENT,
    "INVITE server": IGNORED_INVITE_SERVER,
    "revived INVITE server": IGNORED_INVITE_SERVER,
    "non-INVITE server": IGNORED_NON_INVITE_SERVER,
}
NEVER = {
    "INVITE client": {Cause.REPEATED, Cause.ACK, Cause.HURRY},
    "non-INVITE client": {Cause.REPEATED, Cause.ACK, Cause.HURRY},
    "INVITE server": {Cause.BROKEN},
    "revived INVITE server": {Cause.BROKEN},
    "non-INVITE server": {Cause.BROKEN, Cause.ACK, Cause.CANCEL, Cause.HURRY},
}
"What befalls only the other side, or (ACK, CANCEL) only an INVITE; a response finds another way by itself (18.2.2)."
WAITING: dict[str, set[State]] = {
    "INVITE client": {State.PROCEEDING},
    "non-INVITE client": set(),
    "INVITE server": {State.PROCEEDING},
    "revived INVITE server": {State.PROCEEDING},
    "non-INVITE server": set(),
}
WORDS = {"100": "100", "180": "1xx", "200": "2xx", "302": "3xx", "199": "last"}


def read(text: str) -> dict[tuple[str, str], tuple[str, list[str]]]:
    cells = {}
    for line in text.split("\n"):
        if line:
            left, _, right = line.partition(" -> ")
            state, _, effects = right.partition(" ")
            found = [word.strip() for word in effects.replace("<", "|<").replace(">", "|>").split("|") if word.strip()]
            cells[left[:12].strip(), left[12:].strip()] = (state, found)
    return cells


CELLS = [(name, state, cause) for name, machine in MACHINES.items() for state in machine.rules for cause in Cause]


def observe(name: str, state: State, cause: Cause) -> tuple[str, list[str]]:
    """Put a transaction into the state, let the cause happen, and write down what came of it."""
    party = Party("x", "192.0.2.1")
    ground = Ground(party, Names("x.0"), lambda flow: "192.0.2.1", Timers())
    flow = Flow("x", "UDP", ("192.0.2.1", 5060), ("192.0.2.2", 5060))
    method = "INVITE" if " INVITE" in f" {name}" and "non" not in name else "OPTIONS"
    request = compose.with_via(a_request(method), "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1")
    machine = MACHINES[name]
    transaction: Any
    if "client" in name:
        transaction = ClientTransaction(ground, machine, ("z9hG4bK1", method), request, flow)
    else:
        transaction = ServerTransaction(ground, machine, ("z9hG4bK1", method), request, flow)
        transaction.last_response = b"SIP/2.0 199 last"
    transaction.begin(state, 0.0)
    transaction.happen(cause, message(request, cause), 1.0)
    words = [data.split(b" ")[:2] for data, _ in ground.out]
    sent = [">" + (WORDS[b.decode()] if a == b"SIP/2.0" else a.decode()) for a, b in words]
    return transaction.state, sent + ["<" + WORDS.get(word, word) for word in party.told]


def message(request: Request, cause: Cause) -> Message | None:
    statuses = {Cause.PROVISIONAL: 180, Cause.SUCCESS: 200, Cause.FAILURE: 302}
    if cause in statuses:
        return compose.response(request, statuses[cause], to_tag="t")
    if cause in (Cause.ACK, Cause.CANCEL, Cause.REPEATED):
        return a_request(cause if cause is not Cause.REPEATED else "INVITE")
    return None


@pytest.mark.parametrize(("name", "state", "cause"), CELLS)
def test_each_cell_does_what_the_rfcs_say(name, state, cause):
    expected = read(EXPECTED[name]).get((state, cause), (state, []))
    assert observe(name, state, cause) == expected


def ignored(text: str) -> dict[tuple[str, str], str]:
    cells = {}
    for line in text.split("\n"):
        if line:
            left, _, why = line.partition("|")
            for cause in left[12:].split(","):
                cells[left[:12].strip(), cause.strip()] = why.strip()
    return cells


@pytest.mark.parametrize(("name", "state", "cause"), [cell for cell in CELLS if cell[1] is not State.TERMINATED])
def test_no_cell_is_left_out(name, state, cause):
    done, passed_over = read(EXPECTED[name]), ignored(IGNORED[name])
    named = [(state, cause) in done, (state, cause) in passed_over, cause in NEVER[name]]
    if name.startswith("revived") and named[0]:
        named[1] = False  # the rules it has on top
    assert named.count(True) == 1, f"{name}: {state}, {cause}"


@pytest.mark.parametrize("name", MACHINES)
def test_what_is_ignored_has_a_reason_and_a_cell(name):
    for (state, cause), why in ignored(IGNORED[name]).items():
        assert why
        assert State(state) in MACHINES[name].rules
        assert cause in set(Cause)


@pytest.mark.parametrize("name", MACHINES)
def test_the_cells_written_down_exist(name):
    assert {state for state, _ in read(EXPECTED[name])} == set(MACHINES[name].rules) - {State.TERMINATED}


@pytest.mark.parametrize("name", MACHINES)
def test_each_state_that_can_be_reached_can_end(name):
    machine = MACHINES[name]
    reached, todo = {machine.start}, [machine.start]
    while todo:
        for new, _ in machine.rules[todo.pop()].values():
            if new not in reached:
                reached.add(new)
                todo.append(new)
    ending = {State.TERMINATED}
    for _ in State:
        ending |= {state for state in reached if any(new in ending for new, _ in machine.rules[state].values())}
    assert reached <= ending


@pytest.mark.parametrize("name", MACHINES)
def test_each_alarm_has_a_rule_in_its_state(name):
    machine = MACHINES[name]
    for state, alarms in machine.alarms.items():
        for cause in alarms:
            assert cause in machine.rules[state], (name, state, cause)


@pytest.mark.parametrize("name", MACHINES)
def test_only_waiting_for_people_has_no_alarm(name):
    machine = MACHINES[name]
    quiet = {state for state in machine.rules if not machine.alarms.get(state)} - {State.TERMINATED}
    assert quiet == WAITING[name]


def test_leaving_a_state_drops_its_alarms_and_what_both_have_goes_on():
    party = Party("x", "192.0.2.1")
    ground = Ground(party, Names("x.0"), lambda flow: "192.0.2.1", Timers())
    flow = Flow("x", "UDP", ("192.0.2.1", 5060), ("192.0.2.2", 5060))
    request = compose.with_via(a_request("OPTIONS"), "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1")
    transaction: Any = ClientTransaction(ground, tables.NON_INVITE_CLIENT, ("z9hG4bK1", "OPTIONS"), request, flow)
    transaction.begin(State.TRYING, 0.0)
    assert len(ground.wheel) == 2
    transaction.happen(Cause.PROVISIONAL, message(request, Cause.PROVISIONAL), 0.2)
    assert len(ground.wheel) == 2
    assert ground.wheel.next_wake() == 0.5
    transaction.happen(Cause.SUCCESS, message(request, Cause.SUCCESS), 0.3)
    assert len(ground.wheel) == 1
    assert ground.wheel.next_wake() == 5.3
