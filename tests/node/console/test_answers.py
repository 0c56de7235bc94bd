"""What the commands answer, in a real console process, against what a running FreeSWITCH answered."""

from __future__ import annotations

import json
import re

import pytest

from tests.node.console.captured import captured
from tests.node.console.rig import Console
from tests.node.console.transcripts import transcript

__all__ = ["captured"]


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
