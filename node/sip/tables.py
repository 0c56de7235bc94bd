"""The four transaction machines (RFC 3261 17) as tables.

With RFC 6026: a 2xx leads to Accepted, where a client waits for further 2xx and a server absorbs the INVITE's
retransmissions and knows the request a while longer. With RFC 4320: no 408 to a request other than INVITE, and only 100
as its provisional response. An INVITE server that is still Trying sends 100 by itself after 200 ms. A client that
has sent CANCEL is Cancelling: it waits 64*T1 for the final response (RFC 3261 9.1). The 2xx to INVITE is repeated, and
its ACK sent, by the user. A request other than INVITE that the user has not answered when its client gives up (64*T1) is
forgotten: an answer would find nobody. Its final response ends its machine: what RFC 3261 calls Completed there is but an
answer to repeat, and is kept as that (`answered.py`).

A revived INVITE (its owner died) has two more rules: an ACK without a refusal of ours means that the predecessor
refused it; and a repeated INVITE gets the 2xx again, for who repeats it has not seen that.
"""

from __future__ import annotations

from typing import TypeAlias

from node.sip.compose import response as compose_response
from node.sip.machine import Cause, Machine, State
from node.sip.message import Request, Response
from node.sip.timers import Timers
from node.sip.transaction import ClientTransaction, Happening, ServerTransaction, Transaction

C = Cause
S = State
ClientMachine: TypeAlias = Machine[ClientTransaction, Happening]
ServerMachine: TypeAlias = Machine[ServerTransaction, Happening]


# ---- when alarms go off --------------------------------------------------------------------------------------------


def resend_invite(timers: Timers, transaction: Transaction) -> float | None:
    """Timer A: T1, doubling."""
    return None if transaction.flow.reliable else timers.t1 * 2**transaction.repeats


def resend_request(timers: Timers, transaction: Transaction) -> float | None:
    """Timer E: T1, doubling to T2; T2 once there was a provisional response."""
    if transaction.flow.reliable:
        return None
    if transaction.state is S.PROCEEDING:
        return timers.t2
    return min(timers.t1 * 2.0**transaction.repeats, timers.t2)


def resend_response(timers: Timers, transaction: Transaction) -> float | None:
    """Timer G: T1, doubling to T2."""
    return None if transaction.flow.reliable else min(timers.t1 * 2.0**transaction.repeats, timers.t2)


def give_up(timers: Timers, transaction: Transaction) -> float | None:
    """Timers B, F, H, and the wait for the answer to a cancelled INVITE."""
    return timers.give_up_after


def linger(timers: Timers, transaction: Transaction) -> float | None:
    """Timers L, M: retransmissions of a 2xx come on every transport."""
    return timers.give_up_after


def absorb(timers: Timers, transaction: Transaction) -> float | None:
    """Timer D."""
    return 0 if transaction.flow.reliable else timers.give_up_after


def drain(timers: Timers, transaction: Transaction) -> float | None:
    """Timers I, K."""
    return 0 if transaction.flow.reliable else timers.t4


def hurry(timers: Timers, transaction: Transaction) -> float | None:
    """The 100 that we send if the user does not answer soon."""
    return timers.hurry


# ---- what a client does --------------------------------------------------------------------------------------------


def repeat_request(transaction: ClientTransaction, message: Happening, now: float) -> None:
    transaction.ground.out.append((transaction.request.encode(), transaction.flow))


def tell(transaction: ClientTransaction, message: Happening, now: float) -> None:
    assert isinstance(message, Response), "a client hears of responses"
    transaction.status = message.status
    if not transaction.quiet:
        transaction.ground.user.on_response(message, transaction)


def tell_timeout(transaction: ClientTransaction, message: Happening, now: float) -> None:
    if not transaction.quiet:
        transaction.ground.user.on_failure(transaction, "timeout")


def tell_broken(transaction: ClientTransaction, message: Happening, now: float) -> None:
    if not transaction.quiet:
        transaction.ground.user.on_failure(transaction, "transport")


def acknowledge(transaction: ClientTransaction, message: Happening, now: float) -> None:
    """The ACK to a failure: hop by hop, with the INVITE's branch and Route (RFC 3261 17.1.1.3)."""
    assert isinstance(message, Response), "only a response is acknowledged"
    if transaction.reserved:
        transaction.refusal = message
        return
    if not transaction.ack:
        transaction.ack = along(transaction.request, "ACK", message.header("to") or "").encode()
    transaction.ground.out.append((transaction.ack, transaction.flow))


def shed(transaction: ClientTransaction, message: Happening, now: float) -> None:
    """It is over, or waits only for what comes again: what was asked is kept no longer."""
    transaction.shed()


def cancel_if_wished(transaction: ClientTransaction, message: Happening, now: float) -> None:
    """The first provisional came: a CANCEL that waited for it may go (RFC 3261 9.1)."""
    if transaction.cancelled:
        transaction.happen(C.CANCEL, None, now)


def send_cancel(transaction: ClientTransaction, message: Happening, now: float) -> None:
    """The CANCEL, by a transaction of its own with the same branch."""
    invite = transaction.request
    cancel = along(invite, "CANCEL", invite.header("to") or "", transaction.cancel_headers)
    ground = transaction.ground
    key = (transaction.branch, "CANCEL")
    if key not in ground.clients:
        ours = ground.clients[key] = ClientTransaction(ground, NON_INVITE_CLIENT, key, cancel, transaction.flow)
        ours.quiet = True
        ours.begin(S.TRYING, now)
        ground.out.append((cancel.encode(), transaction.flow))


def along(invite: Request, method: str, to: str, headers: tuple[tuple[str, str], ...] = ()) -> Request:
    """A request that goes exactly the INVITE's way: same Request-URI, top Via, Route, From, Call-ID, CSeq number."""
    via = invite.headers("via")[0]
    head = f"{method} {invite.uri} SIP/2.0\r\nVia: {via}\r\n"
    for route in invite.headers("route"):
        head += f"Route: {route}\r\n"
    head += (
        f"Max-Forwards: 70\r\nFrom: {invite.header('from')}\r\nTo: {to}\r\nCall-ID: {invite.call_id}\r\n"
        f"CSeq: {invite.cseq.number} {method}\r\n"
    )
    for name, value in headers:
        head += f"{name}: {value}\r\n"
    return Request(method, invite.uri, f"{head}Content-Length: 0")


# ---- what a server does --------------------------------------------------------------------------------------------


def send(transaction: ServerTransaction, message: Happening, now: float) -> None:
    assert isinstance(message, Response), "a server sends responses"
    transaction.status = message.status
    transaction.last_response = data = message.encode()
    transaction.ground.out.append((data, transaction.reply_flow))


def send_trying(transaction: ServerTransaction, message: Happening, now: float) -> None:
    send(transaction, compose_response(transaction.request, 100), now)


def repeat_response(transaction: ServerTransaction, message: Happening, now: float) -> None:
    transaction.ground.out.append((transaction.last_response, transaction.reply_flow))


def rest(transaction: ServerTransaction, message: Happening, now: float) -> None:
    """All is said: from now on there is only an answer to be repeated. On streams nothing is repeated (timer J is 0)."""
    ground = transaction.ground
    if not transaction.flow.reliable:
        until = now + ground.timers.give_up_after
        ground.answered.keep(transaction.key, transaction.last_response, transaction.origin, until)


def tell_cancel(transaction: ServerTransaction, message: Happening, now: float) -> None:
    assert isinstance(message, Request), "CANCEL is a request"
    transaction.ground.user.on_cancel(transaction, message)


def tell_unacknowledged(transaction: ServerTransaction, message: Happening, now: float) -> None:
    transaction.ground.user.on_unacknowledged(transaction)


def tell_ended_elsewhere(transaction: ServerTransaction, message: Happening, now: float) -> None:
    transaction.ground.user.on_ended_elsewhere(transaction)


def pass_ack(transaction: ServerTransaction, message: Happening, now: float) -> None:
    """An ACK to a 2xx under the INVITE's branch, as RFC 2543 clients send it: it is the user's."""
    assert isinstance(message, Request), "ACK is a request"
    transaction.ground.user.on_request(message, None, transaction.flow)


# ---- the tables ----------------------------------------------------------------------------------------------------

INVITE_CLIENT: ClientMachine = Machine(
    start=S.CALLING,
    rules={
        S.CALLING: {
            C.RESEND: (S.CALLING, (repeat_request,)),
            C.GIVE_UP: (S.TERMINATED, (tell_timeout,)),
            C.BROKEN: (S.TERMINATED, (tell_broken,)),
            C.PROVISIONAL: (S.PROCEEDING, (tell, cancel_if_wished)),
            C.SUCCESS: (S.ACCEPTED, (tell, shed)),
            C.FAILURE: (S.COMPLETED, (acknowledge, tell, shed)),
        },
        S.PROCEEDING: {
            C.CANCEL: (S.CANCELLING, (send_cancel,)),
            C.PROVISIONAL: (S.PROCEEDING, (tell,)),
            C.SUCCESS: (S.ACCEPTED, (tell, shed)),
            C.FAILURE: (S.COMPLETED, (acknowledge, tell, shed)),
        },
        S.CANCELLING: {
            C.GIVE_UP: (S.TERMINATED, (tell_timeout,)),
            C.PROVISIONAL: (S.CANCELLING, (tell,)),
            C.SUCCESS: (S.ACCEPTED, (tell, shed)),
            C.FAILURE: (S.COMPLETED, (acknowledge, tell, shed)),
        },
        S.ACCEPTED: {
            C.SUCCESS: (S.ACCEPTED, (tell,)),
            C.SETTLED: (S.TERMINATED, ()),
        },
        S.COMPLETED: {
            C.FAILURE: (S.COMPLETED, (acknowledge,)),
            C.SETTLED: (S.TERMINATED, ()),
            C.BROKEN: (S.TERMINATED, ()),
        },
        S.TERMINATED: {},
    },
    alarms={
        S.CALLING: {C.RESEND: resend_invite, C.GIVE_UP: give_up},
        S.CANCELLING: {C.GIVE_UP: give_up},
        S.ACCEPTED: {C.SETTLED: linger},
        S.COMPLETED: {C.SETTLED: absorb},
    },
)

NON_INVITE_CLIENT: ClientMachine = Machine(
    start=S.TRYING,
    rules={
        S.TRYING: {
            C.RESEND: (S.TRYING, (repeat_request,)),
            C.GIVE_UP: (S.TERMINATED, (tell_timeout,)),
            C.BROKEN: (S.TERMINATED, (tell_broken,)),
            C.PROVISIONAL: (S.PROCEEDING, (tell,)),
            C.SUCCESS: (S.COMPLETED, (tell, shed)),
            C.FAILURE: (S.COMPLETED, (tell, shed)),
        },
        S.PROCEEDING: {
            C.RESEND: (S.PROCEEDING, (repeat_request,)),
            C.GIVE_UP: (S.TERMINATED, (tell_timeout,)),
            C.BROKEN: (S.TERMINATED, (tell_broken,)),
            C.PROVISIONAL: (S.PROCEEDING, (tell,)),
            C.SUCCESS: (S.COMPLETED, (tell, shed)),
            C.FAILURE: (S.COMPLETED, (tell, shed)),
        },
        S.COMPLETED: {C.SETTLED: (S.TERMINATED, ())},
        S.TERMINATED: {},
    },
    alarms={
        S.TRYING: {C.RESEND: resend_request, C.GIVE_UP: give_up},
        S.PROCEEDING: {C.RESEND: resend_request, C.GIVE_UP: give_up},
        S.COMPLETED: {C.SETTLED: drain},
    },
)

INVITE_SERVER: ServerMachine = Machine(
    start=S.TRYING,
    rules={
        S.TRYING: {
            C.HURRY: (S.PROCEEDING, (send_trying,)),
            C.PROVISIONAL: (S.PROCEEDING, (send,)),
            C.SUCCESS: (S.ACCEPTED, (send,)),
            C.FAILURE: (S.COMPLETED, (send,)),
            C.CANCEL: (S.TRYING, (tell_cancel,)),
        },
        S.PROCEEDING: {
            C.REPEATED: (S.PROCEEDING, (repeat_response,)),
            C.PROVISIONAL: (S.PROCEEDING, (send,)),
            C.SUCCESS: (S.ACCEPTED, (send,)),
            C.FAILURE: (S.COMPLETED, (send,)),
            C.CANCEL: (S.PROCEEDING, (tell_cancel,)),
        },
        S.ACCEPTED: {
            C.SUCCESS: (S.ACCEPTED, (send,)),
            C.ACK: (S.ACCEPTED, (pass_ack,)),
            C.SETTLED: (S.TERMINATED, ()),
        },
        S.COMPLETED: {
            C.REPEATED: (S.COMPLETED, (repeat_response,)),
            C.RESEND: (S.COMPLETED, (repeat_response,)),
            C.GIVE_UP: (S.TERMINATED, (tell_unacknowledged,)),
            C.ACK: (S.CONFIRMED, ()),
        },
        S.CONFIRMED: {C.SETTLED: (S.TERMINATED, ())},
        S.TERMINATED: {},
    },
    alarms={
        S.TRYING: {C.HURRY: hurry},
        S.ACCEPTED: {C.SETTLED: linger},
        S.COMPLETED: {C.RESEND: resend_response, C.GIVE_UP: give_up},
        S.CONFIRMED: {C.SETTLED: drain},
    },
)

REVIVED_INVITE_SERVER: ServerMachine = Machine(
    start=S.PROCEEDING,
    rules={
        **INVITE_SERVER.rules,
        S.TRYING: {
            **INVITE_SERVER.rules[S.TRYING],
            C.ACK: (S.TERMINATED, (tell_ended_elsewhere,)),
        },
        S.PROCEEDING: {
            **INVITE_SERVER.rules[S.PROCEEDING],
            C.ACK: (S.TERMINATED, (tell_ended_elsewhere,)),
        },
        S.ACCEPTED: {
            **INVITE_SERVER.rules[S.ACCEPTED],
            C.REPEATED: (S.ACCEPTED, (repeat_response,)),
        },
    },
    alarms=INVITE_SERVER.alarms,
)

NON_INVITE_SERVER: ServerMachine = Machine(
    start=S.TRYING,
    rules={
        S.TRYING: {
            C.PROVISIONAL: (S.PROCEEDING, (send,)),
            C.SUCCESS: (S.TERMINATED, (send, rest)),
            C.FAILURE: (S.TERMINATED, (send, rest)),
            C.GIVE_UP: (S.TERMINATED, ()),
        },
        S.PROCEEDING: {
            C.REPEATED: (S.PROCEEDING, (repeat_response,)),
            C.PROVISIONAL: (S.PROCEEDING, (send,)),
            C.SUCCESS: (S.TERMINATED, (send, rest)),
            C.FAILURE: (S.TERMINATED, (send, rest)),
            C.GIVE_UP: (S.TERMINATED, ()),
        },
        S.TERMINATED: {},
    },
    alarms={
        S.TRYING: {C.GIVE_UP: give_up},
        S.PROCEEDING: {C.GIVE_UP: give_up},
    },
)
