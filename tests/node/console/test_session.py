"""One client of the event socket."""

from __future__ import annotations

import pytest

from node.console.format import Origin, stamp
from node.console.protocol import Message, MessageReader, TooMuch
from node.console.session import (
    Act,
    Background,
    Close,
    Fire,
    Grant,
    Listening,
    Refuse,
    Run,
    Send,
    Session,
)
from node.console.subscription import Written
from node.events import Event

ORIGIN = Origin("core", "vm", "switch")
USERS = {("bob", "a.test"): Grant("secret", frozenset({"status"}), frozenset({"HEARTBEAT"}), log=False)}


def session(*, in_: bool = True) -> Session:
    one = Session("ClueCon", lambda user, domain: USERS.get((user, domain)), job_uuid=lambda: "job-1")
    if in_:
        one.receive(b"auth ClueCon\n\n")
    return one


def replies(acts: list[Act]) -> list[str]:
    return [message.reply for message in messages(acts)]


def messages(acts: list[Act]) -> list[Message]:
    return MessageReader().feed(b"".join(act.data for act in acts if isinstance(act, Send | Refuse)))


def say(one: Session, *lines: str) -> list[str]:
    return replies(one.receive("".join(f"{line}\n\n" for line in lines).encode()))


def written(name: str, subclass: str = "", headers: list[tuple[str, str]] | None = None) -> Written:
    event = Event(name=name, subclass=subclass, headers=headers or [], at=1)
    return Written(event, stamp(event, ORIGIN, 1))


# ---- logging in


def test_the_right_password_opens():
    one = session(in_=False)
    assert say(one, "auth ClueCon") == ["+OK accepted"]
    assert one.trusted


@pytest.mark.parametrize("password", ["", "cluecon", "ClueCon1", "ü"])
def test_a_wrong_password_is_refused_and_the_connection_ends(password: str):
    one = session(in_=False)
    acts = one.receive(f"auth {password}\n\napi status\n\n".encode())
    assert [type(act) for act in acts] == [Refuse]
    assert [message.reply or message.kind for message in messages(acts)] == ["-ERR invalid", "text/disconnect-notice"]
    assert one.closed


def test_nobody_gets_in_where_no_password_is_set():
    one = Session("", lambda user, domain: None)
    assert isinstance(one.receive(b"auth \n\n")[0], Refuse)


def test_before_the_password_nothing_else_is_answered():
    one = session(in_=False)
    assert one.receive(b"api status\n\nevent plain ALL\n\n") == []
    assert say(one, "auth ClueCon") == ["+OK accepted"]


def test_exit_is_answered_before_the_password_too():
    acts = session(in_=False).receive(b"exit\n\n")
    assert [message.reply or message.kind for message in messages(acts)] == ["+OK bye", "text/disconnect-notice"]
    assert acts[-1] == Close()


def test_a_directory_user_gets_what_its_params_allow():
    one = session(in_=False)
    [message] = messages(one.receive(b"userauth bob@a.test:secret\n\n"))
    assert message.headers["Allowed-API"] == "status"
    assert message.headers["Allowed-Events"] == "HEARTBEAT"
    assert message.headers["Allowed-LOG"] == "false"
    assert one.receive(b"api status\n\n") == [Run("status")]
    one.answered("UP")
    [denied] = messages(one.receive(b"api hupall\n\n"))
    assert denied.body == "-ERR permission denied\n"
    assert say(one, "bgapi eval hupall", "event plain ALL", "event plain HEARTBEAT", "log 7") == [
        "-ERR permission denied",
        "-ERR no keywords supplied",
        "+OK event listener enabled plain",
        "-ERR permission denied",
    ]


def test_a_directory_user_with_a_wrong_password_stays_out():
    assert isinstance(session(in_=False).receive(b"userauth bob@a.test:other\n\n")[0], Refuse)
    assert isinstance(session(in_=False).receive(b"userauth eve@a.test:\n\n")[0], Refuse)


# ---- commands


def test_commands_behind_a_running_api_wait_for_it():
    one = session()
    assert one.receive(b"api sofia status\n\nnoevents\n\napi version\n\n") == [Run("sofia status")]
    acts = one.answered("text\n")
    first, second = messages(acts)
    assert (first.kind, first.body, second.reply) == ("api/response", "text\n", "-ERR not listening for events")
    assert acts[-1] == Run("version")


def test_too_many_waiting_commands_end_the_connection():
    one = session()
    one.receive(b"api a\n\n")
    with pytest.raises(TooMuch):
        one.receive(b"noevents\n\n" * 1001)


def test_a_job_in_the_background_is_told_its_number():
    acts = session().receive(b"bgapi sofia status\n\n")
    assert acts[1] == Background("job-1", "sofia status")
    [message] = messages(acts)
    assert message.reply == "+OK Job-UUID: job-1"
    assert message.headers["Job-UUID"] == "job-1"


def test_a_job_may_bring_its_own_number():
    assert session().receive(b"bgapi status\nJob-UUID: mine\n\n")[1] == Background("mine", "status")


def test_an_unknown_command_is_refused():
    assert say(session(), "frobnicate now") == ["-ERR command not found"]


def test_a_hangup_message_runs_uuid_kill_and_is_answered_as_a_command():
    one = session()
    assert one.receive(b"sendmsg u-1\ncall-command: hangup\nhangup-cause: USER_BUSY\n\n") == [
        Run("uuid_kill u-1 USER_BUSY")
    ]
    assert replies(one.answered("+OK\n")) == ["+OK"]


def test_an_event_can_be_sent_with_headers_and_body():
    data = b"sendevent CUSTOM\nEvent-Subclass: my::one\nX: 1\nContent-Length: 4\n\nbody"
    fire, send = session().receive(data)
    assert isinstance(fire, Fire)
    assert (fire.event.name, fire.event.subclass, fire.event.body) == ("CUSTOM", "my::one", "body")
    assert fire.event.headers == [("Event-UUID", "job-1"), ("X", "1")]
    assert replies([send]) == ["+OK job-1"]


def test_what_needs_a_channel_of_its_own_says_so():
    assert say(session(), "linger", "resume") == ["-ERR not controlling a session"] * 2


# ---- events


def test_events_come_only_to_who_asked():
    one = session()
    assert one.event(written("HEARTBEAT")) is None
    acts = one.receive(b"event plain HEARTBEAT CUSTOM sofia::register\n\n")
    assert replies(acts) == ["+OK event listener enabled plain"]
    assert acts[-1] == Listening()
    assert one.event(written("HEARTBEAT")) is not None
    assert one.event(written("CUSTOM", "sofia::register")) is not None
    assert one.event(written("CUSTOM", "sofia::expire")) is None
    assert one.event(written("CHANNEL_CREATE")) is None
    assert one.subscription.wants() == {"HEARTBEAT", "sofia::register"}


def test_all_is_everything_and_can_be_nixed_in_part():
    one = session()
    say(one, "event json ALL")
    assert one.event(written("CUSTOM", "any::thing")) is not None
    assert say(one, "nixevent HEARTBEAT") == ["+OK events nixed"]
    assert one.event(written("HEARTBEAT")) is None
    assert one.event(written("CUSTOM", "any::thing")) is not None
    assert say(one, "noevents", "noevents") == [
        "+OK no longer listening for events",
        "-ERR not listening for events",
    ]
    assert one.event(written("CHANNEL_CREATE")) is None


def test_the_form_is_kept_until_another_is_named():
    one = session()
    assert say(one, "event json HEARTBEAT", "event CHANNEL_CREATE") == ["+OK event listener enabled json"] * 2
    assert b"text/event-json" in (one.event(written("CHANNEL_CREATE")) or b"")


def test_an_unknown_event_name_is_passed_over_unless_it_is_alone():
    assert say(session(), "event plain BOGUS HEARTBEAT", "event plain BOGUS", "event plain") == [
        "+OK event listener enabled plain",
        "-ERR no keywords supplied",
        "-ERR no keywords supplied",
    ]


def test_a_filter_lets_only_its_own_through():
    one = session()
    say(one, "event plain ALL")
    assert say(one, "filter Unique-ID u-1") == ["+OK filter added. [Unique-ID]=[u-1]"]
    assert one.event(written("CHANNEL_CREATE", headers=[("Unique-ID", "U-1")])) is not None
    assert one.event(written("CHANNEL_CREATE", headers=[("Unique-ID", "u-2")])) is None
    assert one.event(written("HEARTBEAT")) is None
    assert say(one, "filter delete Unique-ID u-1") == ["+OK filter deleted. [Unique-ID][u-1]"]
    assert one.event(written("HEARTBEAT")) is not None


def test_a_filter_can_be_a_pattern_or_a_refusal():
    one = session()
    say(one, "event plain ALL", "filter Event-Name /^CHANNEL_/", "filter Channel-Name -sofia/internal/x")
    assert one.event(written("CHANNEL_CREATE")) is not None
    assert one.event(written("HEARTBEAT")) is None
    assert one.event(written("CHANNEL_CREATE", headers=[("Channel-Name", "sofia/internal/x")])) is None


def test_a_senseless_filter_is_refused():
    assert say(session(), "filter Event-Name", "filter Event-Name /(/") == ["-ERR invalid syntax"] * 2


def test_my_events_are_those_of_one_channel():
    one = session()
    assert say(one, "myevents u-1 json") == ["+OK Events Enabled"]
    assert one.event(written("CHANNEL_ANSWER", headers=[("Unique-ID", "u-1")])) is not None
    assert one.event(written("CHANNEL_ANSWER", headers=[("Unique-ID", "u-2")])) is None


# ---- log


def test_the_log_is_turned_on_and_off():
    one = session()
    assert say(one, "nolog", "log", "log warning", "log 9", "nolog") == [
        "-ERR not loging",
        "+OK log level debug [7]",
        "+OK log level warning [4]",
        "-ERR invalid log level",
        "+OK no longer logging",
    ]
