"""What agents talk about with the node: valid dialogs, step by step, with mutants before each step."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.fuzz.agent import Agent, Dialogue, is_answer
from tests.fuzz.corpus import SDP, VIDEO
from tests.support.node import DOMAIN, STRETCH

Script = Callable[[Agent, Random], bool]
"True: it got to its end in spite of everything."

INSIDE = [
    ("INVITE", SDP.replace("a=sendrecv", "a=sendonly"), "application/sdp", ""),
    ("INVITE", VIDEO, "application/sdp", ""),
    ("INVITE", "", "", ""),
    ("UPDATE", SDP, "application/sdp", "Session-Expires: 1800;refresher=uac"),
    ("INFO", "Signal=5\r\nDuration=160\r\n", "application/dtmf-relay", ""),
    ("OPTIONS", "", "", ""),
    ("MESSAGE", "Grüße", "text/plain", ""),
    ("NOTIFY", "", "", "Event: refer;id=2\r\nSubscription-State: active;expires=60"),
    ("PRACK", "", "", "RAck: 1 1 INVITE"),
    ("SUBSCRIBE", "", "", "Event: refer\r\nExpires: 30"),
]
"Method, body, its type, and further fields."
REFERRED = ("REFER", "", "", f"Refer-To: <sip:9196@{DOMAIN}>\r\nReferred-By: <sip:1000@{DOMAIN}>")
REFUSALS = (302, 401, 407, 422, 430, 481, 486, 488, 491, 500, 503, 603)
EXTRAS = (
    "",
    "Retry-After: 0\r\n",
    "Min-SE: 1800\r\n",
    "Require: 100rel\r\nRSeq: 1\r\n",
    "Session-Expires: 90;refresher=uas\r\nRequire: timer\r\n",
    "Allow: INVITE, ACK, BYE, CANCEL, UPDATE\r\n",
    'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\nProxy-Authenticate: Digest realm="r", nonce="n"\r\n',
    "Reason: Q.850;cause=16\r\nRecord-Route: <sip:{sent_by};lr>\r\n",
)


def registers(agent: Agent, random: Random) -> bool:
    dialog = agent.begin("", random.choice(("1000", "1001")))
    dialog.to = f"<sip:{dialog.user}@{DOMAIN}>"
    answers = [agent.step(dialog, "REGISTER") for _ in range(2)]
    answers.append(agent.step(dialog, "REGISTER", extra="Expires: 0"))
    return all(answer.startswith("SIP/2.0 200") for answer in answers)


def calls(agent: Agent, random: Random) -> bool:
    """INVITE, ACK, re-INVITE, UPDATE, INFO, OPTIONS, BYE."""
    dialog = agent.begin("9196")
    if not agent.confirm(dialog, agent.step(dialog, "INVITE", body=agent.description)):
        return False
    agent.step(dialog, "ACK")
    for case in random.sample(INSIDE, 3):
        within(agent, dialog, case)
    return agent.step(dialog, "BYE").startswith("SIP/2.0 200")


def calls_without_offer(agent: Agent, random: Random) -> bool:
    dialog = agent.begin("9196")
    if not agent.confirm(dialog, agent.step(dialog, "INVITE")):
        return False
    data = agent.request("ACK", dialog, body=agent.description)
    agent.mutate(data)
    agent.send(data)
    return agent.step(dialog, "BYE").startswith("SIP/2.0 200")


def cancels(agent: Agent, random: Random) -> bool:
    dialog = agent.begin("9195")
    answer = agent.step(dialog, "INVITE", body=agent.description, provisional=True)
    if not answer.startswith("SIP/2.0 1"):
        return False
    return agent.step(dialog, "CANCEL").startswith("SIP/2.0 200")


def is_called(agent: Agent, random: Random) -> bool:
    """Calls itself through the node, and answers with mutants of 180 and 200 before the real ones."""
    made = _call_itself(agent, lambda invite: _ring_and_answer(agent, invite))
    return made is not None and agent.step(made[0], "BYE").startswith("SIP/2.0 200")


def is_bridged(agent: Agent, random: Random) -> bool:
    """Calls itself; then both sides ask things of one another, and each answer has mutants too."""
    made = _call_itself(agent, lambda invite: _ring_and_answer(agent, invite, _extra(agent, random)))
    if made is None:
        return False
    patience, agent.mutates_answers = agent.patience, True
    # A mutant may have led the other side's requests astray: then nothing comes back before their transaction has ended.
    agent.patience = max(patience, 45.0 * STRETCH)
    try:
        for case in random.sample([*INSIDE, REFERRED], 3):
            agent.outcome = random.choice((200, 200, 200, *REFUSALS))
            within(agent, random.choice(made), case)
    finally:
        agent.mutates_answers, agent.outcome, agent.patience = False, 200, patience
    return agent.step(random.choice(made), "BYE").startswith("SIP/2.0 200")


def is_refused(agent: Agent, random: Random) -> bool:
    """Calls itself, and refuses, redirects or challenges."""

    def refuse(invite: str) -> None:
        data = agent.answer(invite, random.choice(REFUSALS), extra=_extra(agent, random))
        agent.mutate(data)
        agent.send(data)

    return _call_itself(agent, refuse) is None


def within(agent: Agent, dialog: Dialogue, case: tuple[str, str, str, str]) -> None:
    """One request of a dialog; a re-INVITE with its ACK."""
    method, body, kind, extra = case
    described = body.replace("203.0.113.1", agent.host)
    answer = agent.step(dialog, method, body=described, kind=kind, extra=extra)
    if method == "INVITE" and answer:
        offered = not body and answer.startswith("SIP/2.0 2")
        agent.send(agent.request("ACK", dialog, body=agent.description if offered else ""))


def _call_itself(agent: Agent, answering: Callable[[str], None]) -> tuple[Dialogue, Dialogue] | None:
    """The caller's dialog and the callee's, if it gets through; what else is rung after the first INVITE is busy."""
    registration = agent.begin("", "1002")
    registration.to = f"<sip:1002@{DOMAIN}>"
    if not agent.ask(agent.request("REGISTER", registration)).startswith("SIP/2.0 200"):
        return None
    agent.invited.clear()
    dialog = agent.begin("1002")
    data = agent.request("INVITE", dialog, body=agent.description)
    agent.send(data)
    deadline = agent.now() + agent.patience
    final, first = "", ""
    while not final and agent.now() < deadline:
        for text in agent.hear(0.2):
            final = text if is_answer(text, dialog.branch, "INVITE") and text[8:11] >= "200" else final
        for invite in agent.invited:
            if not first:
                first = invite
                answering(invite)
            elif _branch(invite) != _branch(first):
                agent.send(agent.answer(invite, 486))
        agent.invited.clear()
    if not final:
        agent.tally.unanswered.append(f"{agent.transport} INVITE to ourselves, {'answered' if first else 'never seen'}")
    made = agent.confirm(dialog, final)
    if final:
        agent.send(agent.request("ACK", dialog))
    return (dialog, agent.called(first, "1002")) if made and first else None


def _ring_and_answer(agent: Agent, invite: str, extra: str = "") -> None:
    for status, body in ((180, ""), (183, agent.description), (200, agent.description)):
        data = agent.answer(invite, status, body, extra)
        agent.mutate(data)
        agent.send(data)


def _extra(agent: Agent, random: Random) -> str:
    return random.choice(EXTRAS).replace("{sent_by}", agent.sent_by)


def _branch(text: str) -> str:
    return text.partition("branch=")[2].split("\r\n", 1)[0].split(";", 1)[0]


SCRIPTS: list[Script] = [registers, calls, calls, calls_without_offer, cancels, is_called, is_bridged]
"""What is talked about over real wires."""
EVERYTHING: list[Script] = [*SCRIPTS, is_bridged, is_bridged, is_refused, is_refused]
"Where waiting costs nothing."
