"""Framing of the event socket."""

from __future__ import annotations

import pytest

from node.console.protocol import (
    STRANGER_LINES,
    Command,
    CommandReader,
    Message,
    MessageReader,
    TooMuch,
    api_response,
    auth_request,
    command,
    command_reply,
    event_message,
    log_data,
    rude_rejection,
)


def trusted() -> CommandReader:
    reader = CommandReader()
    reader.trust()
    return reader


def read(reader: CommandReader, data: bytes) -> list[Command]:
    reader.feed(data)
    commands = []
    while (found := reader.next()) is not None:
        commands.append(found)
    return commands


def test_a_command_ends_with_an_empty_line():
    reader = CommandReader()
    assert read(reader, b"api status\n") == []
    assert read(reader, b"\n") == [Command("api status")]


def test_carriage_returns_are_ignored():
    assert read(CommandReader(), b"api status\r\nconsole_execute: true\r\n\r\n") == [
        Command("api status", (("console_execute", "true"),))
    ]


def test_leading_empty_lines_are_passed_over():
    assert read(CommandReader(), b"\n\r\n\nexit\n\n") == [Command("exit")]


def test_two_commands_in_one_packet_are_two():
    assert read(CommandReader(), b"api a\n\napi b\r\n\r\napi c\n\n") == [
        Command("api a"),
        Command("api b"),
        Command("api c"),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_commands_come_whole_however_they_are_cut(size: int):
    data = b"sendevent CUSTOM\r\nEvent-Subclass: my::one\r\nContent-Length: 5\r\n\r\nhello" + b"api status\n\n"
    reader, found = trusted(), []
    for start in range(0, len(data), size):
        found += read(reader, data[start : start + size])
    assert found == [
        Command("sendevent CUSTOM", (("Event-Subclass", "my::one"), ("Content-Length", "5")), "hello"),
        Command("api status"),
    ]


def test_a_stranger_may_not_send_long_lines():
    with pytest.raises(TooMuch):
        read(CommandReader(), b"a" * (STRANGER_LINES + 1))


def test_a_stranger_may_not_send_a_body():
    with pytest.raises(TooMuch):
        read(CommandReader(), b"auth x\nContent-Length: 1\n\n")


@pytest.mark.parametrize("length", ["-1", "99999999999", "twelve"])
def test_a_senseless_length_ends_the_connection(length: str):
    with pytest.raises(TooMuch):
        read(trusted(), f"api x\nContent-Length: {length}\n\n".encode())


def test_the_messages_of_the_server_read_as_the_client_reads_them():
    reader = MessageReader()
    data = (
        auth_request()
        + command_reply("+OK Job-UUID: 1", [("Job-UUID", "1")])
        + api_response("näh\n\nsecond")
        + event_message("json", "{}")
    )
    found = [message for index in range(len(data)) for message in reader.feed(data[index : index + 1])]
    assert found == [
        Message({"Content-Type": "auth/request"}),
        Message({"Content-Type": "command/reply", "Reply-Text": "+OK Job-UUID: 1", "Job-UUID": "1"}),
        Message({"Content-Type": "api/response", "Content-Length": "12"}, "näh\n\nsecond"),
        Message({"Content-Length": "2", "Content-Type": "text/event-json"}, "{}"),
    ]


def test_an_empty_answer_says_so():
    assert api_response("") == b"Content-Type: api/response\nContent-Length: 14\n\n-ERR no reply\n"


def test_who_is_not_allowed_hears_it_in_freeswitchs_words():
    assert rude_rejection() == b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"


def test_a_log_line_carries_its_level():
    assert log_data("hello\n", 4, file="node.worker") == (
        b"Content-Type: log/data\nContent-Length: 6\nLog-Level: 4\nText-Channel: 0\nLog-File: node.worker\n"
        b"Log-Func: \nLog-Line: 0\nUser-Data: \n\nhello\n"
    )


def test_a_command_of_two_lines_is_refused_before_it_is_sent():
    assert command("api x", [("console_execute", "true")]) == b"api x\nconsole_execute: true\n\n"
    with pytest.raises(ValueError, match="one line"):
        command("api x\nauth y")
