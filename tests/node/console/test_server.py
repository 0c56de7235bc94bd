"""The console process on real sockets: logins, events, workers that come and go, the link to the supervisor."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node.config import Identity, load
from node.console.server import Console as Served
from node.console.supervisor import Supervisor
from node.events import Event
from node.link import Link
from tests.node.console.rig import SILENT, STRETCH, Client, Console, Worker, until
from tests.node.console.transcripts import headers_of, transcript

IDLE = {"in_use": 0, "calls_in": 0, "calls_out": 0, "failed_calls_in": 0, "failed_calls_out": 0}


def channel(uuid: str, created: int) -> dict[str, str]:
    return {"uuid": uuid, "created_epoch": str(created), "name": f"sofia/internal/{uuid}"}


@pytest.fixture
def worker(console: Console) -> Iterator[Worker]:
    one = Worker(console.run_dir / "workers", "internal.0", {"channels": [channel("a", 1)], "profile": IDLE})
    until(lambda: one.connected, "the console to find the worker")
    yield one
    one.close()


# ---- who may come in


def test_a_wrong_password_is_answered_late_and_ends_the_connection(console: Console):
    with console.client(login=False) as client:
        assert client.next().kind == "auth/request"
        began = time.monotonic()
        client.send("auth wrong")
        assert client.next().reply == "-ERR invalid"
        assert time.monotonic() - began > 0.9
        assert client.next().kind == "text/disconnect-notice"
        with pytest.raises(EOFError):
            client.next()
    until(lambda: "wrong password from 127.0.0.1" in console.log(), "the log to say so")
    assert "wrong\n" not in console.log()


def test_an_access_list_keeps_others_out(tmp_path: Path):
    console = Console(tmp_path, acl="rfc1918.auto")
    try:
        with console.client(login=False) as client:
            message = client.next()
            assert (message.kind, message.body) == ("text/rude-rejection", "Access Denied, go away.\n")
    finally:
        console.end()


def test_a_directory_user_may_do_what_it_was_allowed(console: Console):
    with console.client(login=False) as client:
        client.next()
        client.send("userauth 1000@pbx.test:limited-secret")
        reply = client.next()
        assert reply.reply == "+OK accepted"
        assert reply.headers["Allowed-API"] == "status version"
        assert client.api("version").startswith("FreeSWITCH Version")
        assert client.api("hupall") == "-ERR permission denied\n"


def test_a_flood_before_the_login_is_cut_off(console: Console):
    with console.client(login=False) as client:
        client.next()
        client.send_bytes(b"x" * 4000)
        with pytest.raises((EOFError, ConnectionError)):
            client.next()
    assert console.api("echo still here") == "still here"


def test_the_answer_still_comes_when_the_client_has_closed_its_side(console: Console):
    with console.client() as client:
        client.send("api version")
        client._sock.shutdown(socket.SHUT_WR)
        assert client.answer().body.startswith("FreeSWITCH Version")


# ---- answers


def test_replies_come_in_the_order_of_the_commands(console: Console, worker: Worker):
    with console.client() as client:
        client.send_bytes(b"api show channels count\n\napi echo two\n\nnoevents\n\napi echo four\n\n")
        assert client.answer().body == "\n1 total.\n"
        assert client.answer().body == "two"
        assert client.answer().reply == "-ERR not listening for events"
        assert client.answer().body == "four"


def test_a_background_job_ends_in_an_event(console: Console, worker: Worker):
    with console.client() as client:
        client.say("event json BACKGROUND_JOB")
        assert client.say("bgapi show channels count", ("Job-UUID", "job-7")) == "+OK Job-UUID: job-7"
        event = json.loads(client.event().body)
        assert event["Job-UUID"] == "job-7"
        assert event["Job-Command"] == "show"
        assert event["Job-Command-Arg"] == "channels count"
        assert event["_body"] == "\n1 total.\n"


def test_a_broken_command_is_an_answer_and_not_the_end(console: Console, worker: Worker):
    worker.answers["channels"] = "not a list of rows"
    assert console.api("show channels") == "-ERR internal error\n"
    assert console.api("echo on") == "on"
    until(lambda: "command show broke" in console.log(), "the log to tell")


# ---- events


def test_workers_are_told_the_union_of_what_clients_want(console: Console, worker: Worker):
    with console.client() as one, console.client() as two:
        one.say("event plain CHANNEL_CREATE CUSTOM sofia::register")
        two.say("event plain CHANNEL_CREATE CHANNEL_ANSWER")
        until(
            lambda: worker.wanted == ["CHANNEL_ANSWER", "CHANNEL_CREATE", "sofia::register"],
            "the worker to know all three",
        )
        two.say("exit")
        until(lambda: worker.wanted == ["CHANNEL_CREATE", "sofia::register"], "what only the other wanted to be gone")
        one.say("event plain ALL")
        until(lambda: worker.wanted == ["ALL"], "all to be wanted")
    until(lambda: worker.wanted == [], "nothing to be wanted when nobody is there")


def test_a_workers_event_arrives_with_the_common_headers_before_its_own(console: Console, worker: Worker):
    captured = headers_of(transcript("event_sofia_register"))
    own = [pair for pair in captured if pair[0] not in ("Event-Subclass", "Event-Name")][12:]
    with console.client() as client:
        client.say("event plain CUSTOM sofia::register")
        until(lambda: worker.wanted == ["sofia::register"], "the worker to know")
        worker.fire(
            Event(
                name="CUSTOM",
                subclass="sofia::register",
                headers=own,
                at=1_795_406_027_191_892,
                function="sofia_reg_handle_register_token",
            )
        )
        message = client.event()
    assert message.headers["Content-Type"] == "text/event-plain"
    ours = headers_of(message.body)
    assert [name for name, _ in ours] == [name for name, _ in captured]
    alike = {"Core-UUID", "FreeSWITCH-Switchname", "Event-Date-GMT", "Event-Calling-File", "Event-Calling-Function"}
    assert {pair for pair in ours if pair[0] in alike} == {pair for pair in captured if pair[0] in alike}
    assert ours[14:] == captured[14:] == own


def test_a_supervisors_event_arrives_as_a_custom_one(console: Console):
    with console.client() as client:
        client.say("event plain CUSTOM sofia::ha_hook")
        console.notice("sofia::ha_role", [("role-to", "active")])
        console.notice("sofia::ha_hook", [("hook", "before-promote"), ("result", "timeout")])
        told = dict(headers_of(client.event().body))
    assert told["Event-Subclass"] == "sofia::ha_hook"
    assert (told["hook"], told["result"]) == ("before-promote", "timeout")


def test_a_client_hears_what_another_one_sends(console: Console):
    with console.client() as one, console.client() as two:
        two.say("event plain CUSTOM my::word")
        one.send_bytes(b"sendevent CUSTOM\nEvent-Subclass: my::word\nX-Says: hello there\nContent-Length: 2\n\nhi")
        assert one.answer().reply.startswith("+OK ")
        body = two.event().body
        assert "X-Says: hello%20there\n" in body
        assert body.endswith("Content-Length: 2\n\nhi")


def test_events_of_one_kind_are_numbered(console: Console, worker: Worker):
    with console.client() as client:
        client.say("event json CHANNEL_CREATE")
        until(lambda: worker.wanted == ["CHANNEL_CREATE"], "the worker to know")
        for _ in range(3):
            worker.fire(Event(name="CHANNEL_CREATE", headers=[("Unique-ID", "u")]))
        numbers = [int(json.loads(client.event().body)["Event-Sequence"]) for _ in range(3)]
        assert numbers == list(range(numbers[0], numbers[0] + 3))


def test_a_client_that_does_not_read_is_dropped_and_disturbs_nobody(console: Console, worker: Worker):
    with console.client() as slow, console.client() as quick:
        for client in (slow, quick):
            client.say("event plain CUSTOM big::one")
        until(lambda: worker.wanted == ["big::one"], "the worker to know")
        big = Event(name="CUSTOM", subclass="big::one", body="x" * 500_000)
        for _ in range(40):
            worker.fire(big)
            assert quick.event().body.endswith("x")
        until(lambda: "reads too slowly, dropped" in console.log(), "the slow one to be dropped")
        assert quick.api("echo fine") == "fine"


def test_log_lines_come_to_who_asked(console: Console):
    with console.client() as client:
        assert client.say("log warning") == "+OK log level warning [4]"
        with console.client(login=False) as stranger:
            stranger.next()
            stranger.send("auth wrong")
            stranger.next()
        line = client.event()
        assert line.kind == "log/data"
        assert line.headers["Log-Level"] == "4"
        assert line.headers["Log-File"] == "node.console.client"
        assert "wrong password" in line.body
        assert client.say("nolog") == "+OK no longer logging"


def test_the_heartbeat_has_freeswitchs_headers(tmp_path: Path):
    async def beat() -> Event:
        from tests.node.console import tree

        configuration = load(tree.write(tmp_path / "conf", port=1), run_dir=tmp_path)
        ours, theirs = Link.pair()
        supervisor = Supervisor(theirs)
        served = Served(supervisor, Identity("alpha", "uuid", time.time() - 61), configuration, tmp_path)
        try:
            return await served.heartbeat()
        finally:
            await served.close()
            supervisor.close()
            ours.close()

    headers = dict(asyncio.run(beat()).headers)
    assert headers["Event-Info"] == "System Ready"
    assert headers["Up-Time"].startswith("0 years, 0 days, 0 hours, 1 minute, 1 second, ")
    assert headers["Max-Sessions"] == "20000"
    assert headers["Session-Count"] == "0"


# ---- workers that come and go


def test_the_answers_of_all_workers_are_one_table_by_age(console: Console, worker: Worker):
    other = Worker(console.run_dir / "workers", "external.0", {"channels": [channel("b", 0)]})
    try:
        rows = console.api("show channels").split("\n")[1:3]
        assert [row.split(",")[0] for row in rows] == ["b", "a"]
    finally:
        other.close()


def test_a_worker_that_hangs_is_left_out_after_two_seconds_and_named_in_the_log(console: Console, worker: Worker):
    hung = Worker(console.run_dir / "workers", "external.0", {"channels": SILENT, "profile": SILENT})
    try:
        until(lambda: hung.connected, "the console to find it")
        began = time.monotonic()
        assert console.api("show channels count") == "\n1 total.\n"
        assert 1.9 < time.monotonic() - began < 4 * STRETCH
        said = "worker external.0 did not answer `channel_count` within 2 s"
        until(lambda: said in console.log(), "the log to name it")
    finally:
        hung.close()


def test_a_replaced_worker_is_asked_at_once(console: Console, worker: Worker):
    assert console.api("show channels count") == "\n1 total.\n"
    with console.client() as client:
        client.say("event plain CHANNEL_CREATE")
        worker.close()
        heir = Worker(console.run_dir / "workers", "internal.0", {"channels": [channel("a", 1), channel("c", 2)]})
        try:
            assert client.api("show channels count") == "\n2 total.\n"
            until(lambda: heir.wanted == ["CHANNEL_CREATE"], "the heir to know what is wanted")
        finally:
            heir.close()


def test_a_console_that_is_born_anew_knows_what_operators_have_turned_on(tmp_path: Path):
    orders = [
        ["loglevel", ["all", "3"]],
        ["loglevel", ["nta", "9"]],
        ["tracelevel", ["INFO"]],
        ["debug", ["on", "off"]],
    ]
    console = Console(tmp_path, answers={"switches": json.dumps(orders)})
    try:
        until(lambda: console.api("sofia loglevel nta") == "Sofia-sip loglevel for [nta] is [9]", "the console to know")
        assert console.api("sofia loglevel nua") == "Sofia-sip loglevel for [nua] is [3]"
        assert console.api("sofia tracelevel") == "+OK tracelevel is INFO"
        assert console.api("sofia global debug") == "+OK Debugging summary: presence: on sla: off\n"
    finally:
        console.end()


def test_a_worker_that_talks_nonsense_is_cut_off(console: Console):
    path = console.run_dir / "workers" / "internal.0"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()
        connection, _ = server.accept()
        path.unlink()
        connection.sendall(struct.pack(">I", 0xFFFFFFFF))
        while connection.recv(65536):
            pass
        connection.close()
    assert console.api("show channels") == "\n0 total.\n"


# ---- the supervisor


def test_beats_are_answered(console: Console):
    console.beat(41)
    console.beat(42)
    until(lambda: console.beaten == [41, 42], "both answers")


def test_when_the_link_ends_the_console_ends(console: Console):
    with console.client() as client:
        assert console.end() == 0
        assert client.next().kind == "text/disconnect-notice"
        with pytest.raises(EOFError):
            client.next()


def test_a_silent_supervisor_is_an_error_in_words(console: Console, worker: Worker):
    console.answers["watchdog"] = SILENT
    assert console.api("sofia global watchdog on") == "-ERR the supervisor does not answer\n"


def test_profiles_that_have_workers_are_shown_while_the_supervisor_is_silent(console: Console, worker: Worker):
    console.answers["profiles"] = SILENT
    assert "1 profile 1 alias\n" in console.api("sofia status")


def test_the_state_of_the_node_is_the_supervisors(console: Console):
    assert json.loads(console.api("node")) == {"role": "active"}


# ---- a public client


def test_greenswitch_logs_in_runs_commands_and_hears_events(console: Console, worker: Worker):
    """In a process of its own, because gevent patches everything."""
    line = [sys.executable, "-m", "tests.node.console.greenswitch_client", str(console.port)]
    process = subprocess.Popen(line, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: "sofia::register" in worker.wanted, "greenswitch to subscribe", within=20)
        worker.fire(Event(name="CUSTOM", subclass="sofia::register", headers=[("from-user", "1000 & more")]))
        output, _ = process.communicate(timeout=30 * STRETCH)
    finally:
        if process.poll() is None:
            process.kill()
    said: dict[str, Any] = json.loads(output)
    assert said["version"].startswith("FreeSWITCH Version")
    assert said["count"] == "\n1 total.\n"
    assert said["event"] == {"subclass": "sofia::register", "from-user": "1000 & more"}


def test_many_clients_at_once_are_served(console: Console, worker: Worker):
    clients = [Client(console.port) for _ in range(60)]
    try:
        for client in clients:
            client.send("api show channels count")
        assert {client.answer().body for client in clients} == {"\n1 total.\n"}
    finally:
        for client in clients:
            client.__exit__()
