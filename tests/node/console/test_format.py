"""Events and tables, against what FreeSWITCH wrote."""

from __future__ import annotations

import json

import pytest

from node.console import format
from node.console.format import Origin, stamp, url_encode
from node.events import Event
from tests.node.console.transcripts import headers_of, transcript

CAPTURED = [
    "event_sofia_register",
    "event_sofia_expire",
    "event_CHANNEL_ANSWER",
    "event_PRESENCE_IN",
    "event_sofia_profile_start",
]


@pytest.mark.parametrize("name", CAPTURED)
def test_a_captured_event_is_escaped_byte_for_byte_as_freeswitch_did(name: str):
    text = transcript(name)
    assert format.plain(headers_of(text)) == text


@pytest.mark.parametrize("name", CAPTURED)
def test_the_common_headers_stand_in_freeswitchs_order(name: str):
    captured = [header for header, _ in headers_of(transcript(name))]
    subclass = "sofia::register" if captured[0] == "Event-Subclass" else ""
    event = Event(name="CUSTOM" if subclass else "PRESENCE_IN", subclass=subclass, at=1_795_406_027_191_892)
    names = [header for header, _ in stamp(event, Origin("uuid", "vm", "fsanchor"), 894)]
    assert names == captured[: len(names)]
    assert names[-1] == "Event-Sequence"


def test_the_dates_are_those_of_the_timestamp():
    event = Event(name="HEARTBEAT", at=1_795_406_027_191_892)
    headers = dict(stamp(event, Origin("uuid", "vm", "fsanchor"), 7))
    assert headers["Event-Date-GMT"] == "Mon, 23 Nov 2026 03:53:47 GMT"
    assert headers["Event-Date-Timestamp"] == "1795406027191892"
    assert headers["Event-Sequence"] == "7"


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("a b", "a%20b"),
        ("sip:1000@127.0.0.1", "sip%3A1000%40127.0.0.1"),
        ("a,b/c(d)'e'!$*-_.~", "a,b/c(d)'e'!$*-_.~"),
        ("50% more", "50%25%20more"),
        ("done%20already", "done%20already"),
        ("ü\r\n", "%C3%BC%0D%0A"),
        ("\udcff", "%FF"),
    ],
)
def test_values_are_percent_encoded_as_freeswitch_does(text: str, encoded: str):
    assert url_encode(text) == encoded


def test_an_empty_value_is_undefined_in_plain_text():
    assert format.plain([("A", "")]) == "A: _undef_\n\n"


def test_a_header_that_comes_twice_makes_an_array():
    headers = [("X", "a"), ("Y", "1"), ("X", "b")]
    assert format.plain(headers) == "X: ARRAY%3A%3Aa%7C%3Ab\nY: 1\n\n"
    assert format.as_json(headers) == '{"X":["a","b"],"Y":"1"}'


def test_the_body_of_an_event_comes_after_its_length():
    headers = [("Event-Name", "BACKGROUND_JOB")]
    assert format.plain(headers, "+OK\n") == "Event-Name: BACKGROUND_JOB\nContent-Length: 4\n\n+OK\n"
    assert json.loads(format.as_json(headers, "+OK\n")) == {
        "Event-Name": "BACKGROUND_JOB",
        "Content-Length": "4",
        "_body": "+OK\n",
    }
    assert format.as_xml(headers, "<ok>") == (
        "<event>\n  <headers>\n    <Event-Name>BACKGROUND_JOB</Event-Name>\n  </headers>\n"
        "  <Content-Length>4</Content-Length>\n  <body>&lt;ok&gt;</body>\n</event>\n"
    )


def rows_of(name: str) -> tuple[list[str], list[dict[str, str]]]:
    head, *lines = transcript(name).split("\n\n")[0].split("\n")
    columns = head.split(",")
    return columns, [dict(zip(columns, line.split(","), strict=True)) for line in lines]


@pytest.mark.parametrize("name", ["show_channels.1call", "show_calls.1call", "show_registrations.2"])
def test_a_table_is_written_byte_for_byte_as_freeswitch_did(name: str):
    assert format.delimited(*rows_of(name)) == transcript(name)


def test_an_empty_table_is_its_total():
    assert format.delimited(["a"], []) == transcript("show_channels.0") == transcript("show_registrations.0")


def test_a_count_is_the_total_alone():
    assert format.count(2) == transcript("show_channels_count.1call")


def test_a_table_as_json_is_written_byte_for_byte():
    assert format.json_table(*rows_of("show_channels.1call")) == transcript("show_channels_as_json.1call")


@pytest.mark.parametrize("name", ["show_channels", "show_registrations"])
def test_a_table_as_xml_is_written_byte_for_byte(name: str):
    kind = "1call" if name == "show_channels" else "2"
    assert format.xml_table(*rows_of(f"{name}.{kind}")) == transcript(f"{name}_as_xml.{kind}")


def test_pretty_json_is_laid_out_as_cjson_does():
    text = transcript("sofia_jsonstatus")
    assert format.pretty(json.loads(text)) + "\n" == text


def test_an_uptime_counts_years_to_microseconds():
    assert format.uptime(1_629_557) == transcript("status").split("\n")[0].removeprefix("UP ")
