"""What the commands answer, in a real console process, against what a running FreeSWITCH answered."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.backends import open_store
from store.interface import Put, opened
from store.records import Registration
from tests.node.console.rig import Console, Worker
from tests.node.console.test_format import rows_of
from tests.node.console.transcripts import headers_of, transcript

LEG = "5f95c2c2-d674-4176-9302-b9d5d1c26523"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The captured node with its one call: profile internal has a worker that knows it."""
    console = Console(tmp_path_factory.mktemp("node"))
    workers = console.run_dir / "workers"
    profile = {"in_use": 2, "calls_in": 4, "calls_out": 2, "failed_calls_in": 0, "failed_calls_out": 0}
    idle = dict.fromkeys(profile, 0)
    internal = Worker(
        workers,
        "internal.0",
        {
            "channels": rows_of("show_channels.1call")[1],
            "calls": rows_of("show_calls.1call")[1],
            "profile": lambda name: profile if name == "internal" else idle,
            "exists": lambda uuid: uuid == LEG,
            "dump": lambda uuid: headers_of(transcript("uuid_dump.aleg.1call"))[13:] if uuid == LEG else None,
            "kill": lambda uuid, cause: uuid == LEG,
            "simplify": lambda uuid: uuid == LEG,
            "transfer": lambda uuid, *words: uuid == LEG,
            "hupall": lambda cause: 2,
            "getvar": lambda uuid, name: "1000" if (uuid, name) == (LEG, "accountcode") else None,
            "setvar": lambda uuid, name, value: uuid == LEG,
            "originate": lambda line: "-ERR USER_BUSY" if "busy" in line else "+OK 27d1503f",
            "forget": lambda *keys: len(keys),
            "check_sync": lambda *keys: len(keys),
        },
    )
    external = Worker(
        workers,
        "external.0",
        {
            "channels": [],
            "calls": [],
            "profile": idle,
            **dict.fromkeys(("exists", "kill", "simplify", "transfer"), False),
            "dump": None,
        },
    )
    console.internal = internal  # type: ignore[attr-defined]
    with opened(open_store(console.store)) as store:
        store.commit([Put(phone(user)) for user in ("1000", "1001")])
    yield console
    internal.close()
    external.close()
    console.end()


def phone(user: str, *, version: int = 1) -> Registration:
    ip = f"127.0.0.1{int(user) - 999}"
    return Registration(
        call_id=f"reg-{user}-5062@{ip}",
        sip_user=user,
        sip_host="pbx.test",
        presence_hosts="pbx.test,127.0.0.1",
        contact=f'"" <sip:{user}@{ip}:5062>',
        profile_name="internal",
        expires=int(time.time()) + 356 + int(user) - 1000,
        user_agent="sipua/1.0",
        hostname="fsanchor",
        network_ip=ip,
        network_port="5062",
        sip_username=user,
        sip_realm="pbx.test",
        mwi_user=user,
        mwi_host="pbx.test",
        slot="internal#0",
        epoch=1,
        version=version,
    )


# ---- to the byte ---------------------------------------------------------------------------------------------------

EXACT = [
    ("sofia", "sofia"),
    ("sofia help", "sofia_help"),
    ("sofia nosuchcmd", "sofia_nosuchcmd"),
    ("nosuchapi foo", "nosuchapi_foo"),
    ("sofia status profile internal", "sofia_status_profile_internal.1call"),
    ("SOFIA STATUS Profile nosuch", "sofia_status_profile_nosuch"),
    ("sofia status bogus thing", "sofia_status_bogus_thing"),
    ("sofia status gateway nosuch", "sofia_status_gateway_nosuch.gwdown"),
    ("sofia xmlstatus gateway nosuch", "sofia_xmlstatus_gateway_nosuch.gwdown"),
    ("sofia xmlstatus profile nosuch", "sofia_xmlstatus_profile_nosuch"),
    ("sofia status profile internal user 1000", "sofia_status_profile_internal_user_1000"),
    ("sofia status profile internal reg nosuch", "sofia_status_profile_internal_reg.0"),
    ("sofia xmlstatus profile internal reg nosuch", "sofia_xmlstatus_profile_internal_reg.0"),
    ("sofia recover", "sofia_recover.0"),
    ("sofia recover flush", "sofia_recover_flush.0"),
    ("sofia profile internal recover", "sofia_profile_internal_recover.0"),
    ("sofia profile internal recover flush", "sofia_profile_internal_recover_flush.0"),
    ("sofia profile internal", "sofia_profile_internal"),
    ("sofia profile nosuch rescan", "sofia_profile_nosuch_rescan"),
    ("sofia profile internal nosuchcmd", "sofia_profile_internal_nosuchcmd"),
    ("sofia profile internal stun-enabled true", "sofia_profile_internal_stun-enabled_true"),
    ("sofia profile internal siptrace on", "sofia_profile_internal_siptrace_on"),
    ("sofia profile internal siptrace off", "sofia_profile_internal_siptrace_off"),
    ("sofia profile internal capture", "sofia_profile_internal_capture"),
    ("sofia profile internal capture on", "sofia_profile_internal_capture_on"),
    ("sofia profile internal capture off", "sofia_profile_internal_capture_off"),
    ("sofia profile internal watchdog", "sofia_profile_internal_watchdog"),
    ("sofia profile internal watchdog on", "sofia_profile_internal_watchdog_on"),
    ("sofia profile internal watchdog off", "sofia_profile_internal_watchdog_off"),
    ("sofia profile internal killgw", "sofia_profile_internal_killgw"),
    ("sofia profile internal startgw", "sofia_profile_internal_startgw"),
    ("sofia profile internal register", "sofia_profile_internal_register"),
    ("sofia profile external unregister", "sofia_profile_external_unregister"),
    ("sofia profile external killgw nosuch", "sofia_profile_external_killgw_nosuch"),
    ("sofia profile external register noreg1", "sofia_profile_external_register_noreg1"),
    ("sofia profile external register nosuch", "sofia_profile_external_register_nosuch"),
    ("sofia profile external gwlist up", "sofia_profile_external_gwlist_up.gwdown"),
    ("sofia profile external gwlist down", "sofia_profile_external_gwlist_down.gwdown"),
    ("sofia profile internal gwlist", "sofia_profile_internal_gwlist.gwdown"),
    ("sofia profile internal check_sync nosuch", "sofia_profile_internal_check_sync_nosuch.noreg"),
    ("sofia profile internal check_sync 1001@pbx.test", "sofia_profile_internal_check_sync_1001@pbx.test"),
    (
        "sofia profile internal flush_inbound_reg nosuch@pbx.test",
        "sofia_profile_internal_flush_inbound_reg_nosuch@pbx.test.noreg",
    ),
    ("sofia global", "sofia_global"),
    ("sofia global siptrace", "sofia_global_siptrace"),
    ("sofia global siptrace on", "sofia_global_siptrace_on"),
    ("sofia global siptrace off", "sofia_global_siptrace_off"),
    ("sofia global capture on", "sofia_global_capture_on"),
    ("sofia global capture off", "sofia_global_capture_off"),
    ("sofia global watchdog on", "sofia_global_watchdog_on"),
    ("sofia global watchdog off", "sofia_global_watchdog_off"),
    ("sofia global standby on", "sofia_global_standby_on"),
    ("sofia global standby off", "sofia_global_standby_off"),
    ("sofia global debug", "sofia_global_debug"),
    ("sofia global debug presence", "sofia_global_debug_presence"),
    ("sofia global debug sla", "sofia_global_debug_sla"),
    ("sofia global debug none", "sofia_global_debug_none"),
    ("sofia loglevel", "sofia_loglevel"),
    ("sofia loglevel all", "sofia_loglevel_all"),
    ("sofia loglevel all 9", "sofia_loglevel_all_9"),
    ("sofia loglevel all 0", "sofia_loglevel_all_0"),
    ("sofia tracelevel", "sofia_tracelevel"),
    ("sofia tracelevel info", "sofia_tracelevel_info"),
    ("sofia tracelevel console", "sofia_tracelevel_console"),
    ("show channels", "show_channels.1call"),
    ("show channels count", "show_channels_count.1call"),
    ("show channels as json", "show_channels_as_json.1call"),
    ("show channels as xml", "show_channels_as_xml.1call"),
    ("show channels like nobody", "show_channels.0"),
    ("show calls", "show_calls.1call"),
    ("show bridged_calls", "show_bridged_calls.1call"),
    ("show detailed_calls", "show_detailed_calls.1call"),
    ("sofia_contact", "sofia_contact.noreg"),
    ("sofia_contact 1000", "sofia_contact_1000.1reg"),
    ("sofia_contact 1000@pbx.test", "sofia_contact_1000@pbx.test.1reg"),
    ("sofia_contact internal/1000@pbx.test", "sofia_contact_internal_1000@pbx.test.1reg"),
    ("sofia_contact internal/1000", "sofia_contact_internal_1000.1reg"),
    ("sofia_contact external/1000@pbx.test", "sofia_contact_external_1000@pbx.test.1reg"),
    ("sofia_contact 1009@pbx.test", "sofia_contact_1009@pbx.test.unregistered"),
    ("sofia_contact 1000@nosuch.test", "sofia_contact_1000@nosuch.test.noreg"),
    ("sofia_contact nosuch", "sofia_contact_nosuch.noreg"),
    ("sofia_count_reg", "sofia_count_reg.noreg"),
    ("sofia_count_reg 1000@pbx.test", "sofia_count_reg_1000@pbx.test.1reg"),
    ("sofia_count_reg @pbx.test", "sofia_count_reg_1000@pbx.test.2reg"),
    ("sofia_count_reg 1000@nosuch.test", "sofia_count_reg_1000@nosuch.test.noreg"),
    ("sofia_username_of", "sofia_username_of.noreg"),
    ("sofia_username_of 1009@pbx.test", "sofia_username_of_1000@pbx.test.noreg"),
    ("sofia_gateway_data", "sofia_gateway_data"),
    ("sofia_gateway_data carrier1", "sofia_gateway_data_carrier1"),
    ("sofia_gateway_data carrier1 ivar gwcolor", "sofia_gateway_data_carrier1_ivar_gwcolor"),
    ("sofia_gateway_data carrier1 ovar gwout", "sofia_gateway_data_carrier1_ovar_gwout"),
    ("sofia_gateway_data carrier1 var gwcolor", "sofia_gateway_data_carrier1_var_gwcolor"),
    ("sofia_gateway_data nosuch ivar gwcolor", "sofia_gateway_data_nosuch_ivar_gwcolor"),
]


@pytest.mark.parametrize(("line", "name"), EXACT, ids=[line for line, _ in EXACT])
def test_the_answer_is_freeswitchs_to_the_byte(node: Console, line: str, name: str):
    assert node.api(line) == transcript(name)


# ---- values aside --------------------------------------------------------------------------------------------------


def shape(text: str) -> str:
    """The text with what differs from one moment to the next made alike."""
    text = re.sub(r"EXP\([-\d :]+\)", "EXP(when)", text, flags=re.I)
    text = re.sub(r"EXPSECS\(-?\d+\)", "EXPSECS(n)", text, flags=re.I)
    return re.sub(r"\b1[78]\d{8}\b", "EPOCH", text)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("sofia status profile internal reg", "sofia_status_profile_internal_reg.2"),
        ("sofia xmlstatus profile internal reg", "sofia_xmlstatus_profile_internal_reg.2"),
    ],
)
def test_registrations_are_listed_in_freeswitchs_words(node: Console, line: str, name: str):
    assert shape(node.api(line)) == shape(transcript(name))


def test_the_registrations_of_the_core_have_freeswitchs_columns(node: Console):
    expected = shape(transcript("show_registrations.2")).replace("3 total", "2 total").split("\n")
    # At the time of the capture another phone was there too.
    assert shape(node.api("show registrations")).split("\n") == [
        line for line in expected if not line.startswith("1002")
    ]


def test_the_overview_has_freeswitchs_rows_in_another_order(node: Console):
    ours = node.api("sofia status")
    # Nothing here registers gateways, so the carrier is not REGED.
    expected = transcript("sofia_status.1call").replace("REGED", "UNREGED")
    assert sorted(ours.splitlines()) == sorted(expected.splitlines())
    assert ours.splitlines()[:2] == expected.splitlines()[:2]
    assert ours.splitlines()[-2:] == expected.splitlines()[-2:]


def test_an_alias_shows_its_profile(node: Console):
    ours = node.api("sofia status profile pbx.test").splitlines()
    expected = transcript("sofia_status_profile_pbx.test").splitlines()
    assert [line for line in ours if "CALLS" not in line and "REGIST" not in line] == [
        line for line in expected if "CALLS" not in line and "REGIST" not in line
    ]


def labels(text: str) -> list[str]:
    return [line.partition("\t")[0] for line in text.splitlines()]


def test_the_page_of_a_gateway_has_freeswitchs_lines(node: Console):
    ours, expected = node.api("sofia status gateway carrier1"), transcript("sofia_status_gateway_carrier1.gwdown")
    assert labels(ours) == labels(expected)
    moving = {"Ping", "State"}
    assert {line for line in ours.splitlines() if line.split("\t")[0].strip() not in moving} == {
        line for line in expected.splitlines() if line.split("\t")[0].strip() not in moving
    }
    assert "State   \tUNREGED\n" in ours


def test_the_table_of_gateways_has_freeswitchs_columns(node: Console):
    ours = node.api("sofia status gateway")
    expected = transcript("sofia_status_gateway").replace("REGED", "UNREGED").replace("  0.68", "  0.00")
    assert ours == expected


def elements(text: str) -> list[str]:
    return re.findall(r"</?[a-z-]+>", text)


def test_gateways_as_xml_have_freeswitchs_elements(node: Console):
    expected = [element for element in elements(transcript("sofia_xmlstatus_gateway")) if "retry" not in element]
    assert elements(node.api("sofia xmlstatus gateway")) == expected


def test_a_profile_as_xml_is_freeswitchs_but_for_its_figures(node: Console):
    ours = node.api("sofia xmlstatus profile internal")
    assert re.sub(r">\d+<", ">n<", ours) == re.sub(r">\d+<", ">n<", transcript("sofia_xmlstatus_profile_internal"))


def test_profiles_as_xml_have_freeswitchs_elements(node: Console):
    assert sorted(elements(node.api("sofia xmlstatus"))) == sorted(elements(transcript("sofia_xmlstatus")))


def test_the_status_as_json_has_freeswitchs_members(node: Console):
    ours, expected = json.loads(node.api("sofia jsonstatus")), json.loads(transcript("sofia_jsonstatus"))
    for name, profile in expected["profiles"].items():
        got = ours["profiles"][name]
        assert list(got) == list(profile)
        assert got["info"] == profile["info"]
        assert list(got["status"]) == list(profile["status"])


def test_status_has_freeswitchs_lines(node: Console):
    def words(text: str) -> list[str]:
        text = re.sub(r"\(Version [^)]*\)", "(Version x)", text)
        return re.sub(r"seconds?|milliseconds?|microseconds?", "s", re.sub(r"\d+", "n", text)).split("\n")

    assert words(node.api("status")) == words(transcript("status"))


def test_version_has_freeswitchs_form(node: Console):
    form = r"FreeSWITCH Version \S+ \([^)]+\)\n"
    assert re.fullmatch(form, transcript("version"))
    assert re.fullmatch(form, node.api("version"))


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
