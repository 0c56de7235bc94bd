"""What commands do, in a real console process: with channels, with the core, and by what is asked of others."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from store.backends import open_store
from store.interface import Put, opened
from tests.node.console.captured import LEG, captured, phone
from tests.node.console.rig import Console, Worker
from tests.node.console.transcripts import headers_of, transcript

__all__ = ["captured"]


# ---- channels ------------------------------------------------------------------------------------------------------


def test_a_dump_has_the_headers_of_an_event_and_the_channel(node: Console):
    ours, expected = headers_of(node.api(f"uuid_dump {LEG}")), headers_of(transcript("uuid_dump.aleg.1call"))
    assert [name for name, _ in ours] == [name for name, _ in expected]
    assert ours[13:] == expected[13:]
    assert json.loads(node.api(f"uuid_dump {LEG} json"))["Unique-ID"] == LEG


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (f"uuid_kill {LEG}", "+OK\n"),
        ("uuid_kill nobody USER_BUSY", "-ERR No such channel!\n"),
        ("uuid_dump nobody", "-ERR No such channel!\n"),
        ("uuid_simplify", "-USAGE: <uuid>\n"),
        (f"uuid_simplify {LEG}", "+OK Success\n"),
        ("uuid_simplify nobody", "-ERR Operation Failed\n"),
        (f"uuid_transfer {LEG} -both 1002", "+OK\n"),
        ("uuid_transfer nobody -both 1002", "-ERR No such channel!\n"),
        (f"uuid_exists {LEG}", "true"),
        ("uuid_exists nobody", "false"),
        (f"uuid_getvar {LEG} accountcode", "1000"),
        (f"uuid_getvar {LEG} other", "_undef_"),
        (f"uuid_setvar {LEG} a b c", "+OK\n"),
        (f"uuid_setvar_multi {LEG} a=1;b=2", "+OK\n"),
        ("hupall", "+OK hangup all channels with cause MANAGER_REQUEST\n"),
        ("hupall USER_BUSY", "+OK hangup all channels with cause USER_BUSY\n"),
        (
            "hupall normal_clearing accountcode 1000",
            "+OK hangup all channels matching [accountcode]=[1000] with cause: NORMAL_CLEARING\n",
        ),
        ("originate sofia/internal/1000@pbx.test &echo", "+OK 27d1503f\n"),
        ("originate sofia/internal/busy &echo", "-ERR USER_BUSY\n"),
        ("originate sofia/external/1 &echo", "-ERR worker external.0 refused `originate`: no verb originate\n"),
    ],
)
def test_commands_about_channels_reach_the_worker_that_has_them(node: Console, line: str, answer: str):
    assert node.api(line) == answer


# ---- the core ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("switchname", "fsanchor"),
        ("global_getvar domain", "pbx.test"),
        ("echo a  b", "a  b"),
        ("eval $${domain}/${domain}", "pbx.test/pbx.test"),
        ("expand echo ${domain}", "pbx.test"),
        ("eval ${sofia_contact(1000@pbx.test)}", "sofia/internal/sip:1000@127.0.0.11:5062"),
        ("acl 127.0.0.1 loopback.auto", "true"),
        ("acl 192.0.2.1 loopback.auto", "false"),
        ("acl nonsense loopback.auto", "false"),
        ("reloadxml", "+OK [Success]\n"),
        ("reloadacl", "+OK acl reloaded\n"),
        ("user_exists id 1000 pbx.test", "true"),
        ("user_exists id 4711 pbx.test", "false"),
        ("domain_exists pbx.test", "true"),
        ("module_exists mod_sofia", "true"),
        ("fsctl ready_check", "true"),
        ("fsctl recover", "+OK 0 session(s) recovered in total\n"),
        ("fsctl recover sofia:internal", "+OK 0 session(s) recovered in total\n"),
        ("fsctl recover verto", "+OK 0 session(s) recovered in total\n"),
        ("fsctl recover flush", "+OK flushed\n"),
        ("fsctl recover flush:sofia:internal", "+OK flushed\n"),
        ("console loglevel debug", "+OK console log level set to DEBUG\n"),
        ("console loglevel nonsense", "-ERR Invalid console loglevel (nonsense)!\n"),
        ("show channels as nonsense", "-ERR Cannot find format nonsense\n"),
        ("show registrations count as json", '{"row_count": 2}\n'),
        ("url_encode a b", "a%20b"),
        ("md5 hello", "5d41402abc4b2a76b9719d911017c592"),
        ("console_complete c=9;sofia sta", "\n\nwrite=3:status "),
        ("console_complete c=27;sofia profile internal rest", "\n\nwrite=4:restart "),
        ("console_complete c=22;sofia status profile i", "\n\nwrite=1:internal "),
        ("console_complete c=28;sofia status gateway carrier", "\n\nwrite=7:carrier1 "),
    ],
)
def test_commands_of_the_core(node: Console, line: str, answer: str):
    assert node.api(line) == answer


def test_completion_lists_what_may_follow(node: Console):
    answer = node.api("console_complete c=30;sofia status profile internal ")
    assert re.findall(r"\[ *(\w+)\]", answer) == ["reg", "user", "pres"]


def test_a_broken_tree_is_refused_with_the_reason_and_the_old_one_stays(node: Console):
    file = node.conf_dir / "freeswitch.xml"
    good = file.read_text()
    try:
        file.write_text("<document>")
        answer = node.api("reloadxml")
        assert answer.startswith("+OK [")
        assert "freeswitch.xml:" in answer
        assert node.api("global_getvar domain") == "pbx.test"
    finally:
        file.write_text(good)


# ---- what is asked of others ---------------------------------------------------------------------------------------


def test_recover_tells_how_many_legs_came_back(node: Console):
    node.answers["recover"] = "4"
    try:
        assert node.api("sofia recover") == transcript("sofia_recover.2calls_4legs")
        assert node.api("sofia profile internal recover") == "Recovered 4 session(s)\n"
    finally:
        node.answers["recover"] = "0"


def test_a_recovery_that_cannot_be_says_why(node: Console):
    node.answers["recover"] = "-ERR this node is not active"
    try:
        assert node.api("sofia recover") == "-ERR this node is not active\n"
        assert node.api("sofia recover flush") == "-ERR this node is not active\n"
    finally:
        node.answers["recover"] = "0"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sofia profile internal start", ["start", "internal"]),
        ("sofia profile pbx.test stop wait", ["stop", "internal", "wait"]),
        ("sofia profile internal restart", ["restart", "internal"]),
        ("sofia profile internal rescan reloadxml", ["rescan", "internal"]),
    ],
)
def test_profiles_are_started_and_stopped_by_the_supervisor(node: Console, line: str, words: list[str]):
    node.answers["profile"] = lambda *asked: " ".join(asked)
    assert node.api(line) == " ".join(words)


def test_a_restart_of_all_says_nothing(node: Console):
    node.answers["profile"] = lambda *asked: "+OK"
    assert node.api("sofia profile restart all") == transcript("sofia_profile_restart_all")


def test_switches_go_to_every_worker_by_way_of_the_supervisor(node: Console):
    node.asked.clear()
    node.api("sofia profile internal siptrace on")
    node.api("sofia loglevel nta 5")
    node.api("sofia global watchdog on")
    assert [one for one in node.asked if one[0] in ("instruct", "watchdog")] == [
        ("instruct", ["siptrace", "on", "internal"]),
        ("instruct", ["loglevel", "nta", "5"]),
        ("watchdog", ["on"]),
    ]
    assert node.api("sofia loglevel nta") == "Sofia-sip loglevel for [nta] is [5]"
    node.api("sofia profile internal siptrace off")


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("sofia loglevel TPORT 5", "Sofia log level for component [TPORT] has been set to [5]"),
        ("sofia loglevel tport", "Sofia-sip loglevel for [tport] is [5]"),
        ("sofia loglevel nua 07", "Sofia log level for component [nua] has been set to [7]"),
        ("sofia loglevel stun", "Sofia-sip loglevel for [stun] is [0]"),
        ("sofia tracelevel 6", "+OK tracelevel is INFO"),
        ("sofia tracelevel disable", "+OK tracelevel is DISABLE"),
        ("sofia tracelevel loudest", "+OK tracelevel is DISABLE"),
        ("sofia tracelevel console", "+OK tracelevel is CONSOLE"),
        (
            "sofia global debug presence,sla",
            "+OK Debugging presence\n+OK Debugging sla\n+OK Debugging summary: presence: on sla: on\n",
        ),
        ("sofia global debug none", "+OK Debugging nothing\n+OK Debugging summary: presence: off sla: off\n"),
    ],
)
def test_debugging_is_switched_in_mod_sofias_words(node: Console, line: str, answer: str):
    assert node.api(line) == answer


def test_the_level_of_tport_is_shown_as_freeswitch_shows_it(node: Console):
    node.api("sofia loglevel tport 5")
    assert node.api("sofia loglevel tport") == transcript("sofia_loglevel_tport")
    node.api("sofia loglevel tport 0")


@pytest.mark.parametrize("words", ["", "all", "nosuch", "nosuch 3", "nua 10", "nua -1", "nua high", "nua \u00b2"])
def test_a_level_that_is_none_is_answered_with_the_usage(node: Console, words: str):
    assert node.api(f"sofia loglevel {words}") == transcript("sofia_loglevel")


def test_debugging_leaves_the_levels_of_the_log_itself_alone(node: Console):
    before = [node.api(line) for line in ("console loglevel", "fsctl loglevel", "sofia status")]
    for line in (
        "sofia loglevel all 9",
        "sofia tracelevel debug",
        "sofia global debug sla",
        "sofia global siptrace on",
    ):
        node.api(line)
    assert [node.api(line) for line in ("console loglevel", "fsctl loglevel", "sofia status")] == before
    for line in ("sofia loglevel all 0", "sofia tracelevel console", "sofia global debug none"):
        node.api(line)


def test_a_recovery_ends_the_standby_of_the_workers_too(node: Console):
    node.api("sofia global standby on")
    node.asked.clear()
    node.api("sofia recover")
    assert ("instruct", ["standby", "off"]) in node.asked


def test_a_profile_that_does_not_run_is_not_there(node: Console):
    running = node.answers["profiles"]
    node.answers["profiles"] = json.dumps({"internal": {"state": "DOWN"}, "external": {"state": "RUNNING"}})
    try:
        assert node.api("sofia status profile internal") == "Invalid Profile!\n"
        assert node.api("sofia profile internal rescan") == "Invalid Profile [internal]"
        assert "1 profile 0 aliases" in node.api("sofia status")
    finally:
        node.answers["profiles"] = running


# ---- flushing ------------------------------------------------------------------------------------------------------


def test_flushed_registrations_are_gone_and_told(tmp_path: Path):
    console = Console(tmp_path)
    worker = Worker(console.run_dir / "workers", "internal.0", {"forget": 1, "check_sync": 1, "profile": {}})
    try:
        with opened(open_store(console.store)) as store:
            store.commit([Put(phone(user)) for user in ("1000", "1001", "1002")])
        with console.client() as client:
            assert client.say("event plain CUSTOM sofia::expire") == "+OK event listener enabled plain"
            assert client.api("sofia profile internal flush_inbound_reg 1002@pbx.test reboot") == (
                transcript("sofia_profile_internal_flush_inbound_reg_1002@pbx.test_reboot")
            )
            ours = headers_of(client.event().body)
            expected = headers_of(transcript("event_sofia_expire"))
            assert [name for name, _ in ours] == [name for name, _ in expected]
            assert dict(ours)["user"] == "1002"
            assert client.api("show registrations count") == "\n2 total.\n"
            assert client.api("sofia profile internal flush_inbound_reg") == (
                transcript("sofia_profile_internal_flush_inbound_reg.noreg")
            )
            assert client.api("show registrations count") == "\n0 total.\n"
        assert ("check_sync", [phone("1002").key]) in worker.asked
        assert ("forget", [phone("1000").key, phone("1001").key]) in worker.asked
    finally:
        worker.close()
        console.end()
