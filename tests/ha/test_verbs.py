"""What console and operators ask of a running node."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest

from tests.ha.rig import Running, loopback_address, profile, running, say, tree, until, who

pytestmark = pytest.mark.real


@pytest.fixture
def host() -> str:
    return loopback_address()


@pytest.fixture
def node(tmp_path: Path, host: str):
    conf = tree(tmp_path, profile(host=host, more='<param name="watchdog-event-timeout" value="30000"/>'))
    node = Running("alpha", tmp_path, conf)
    with running(node):
        node.start().wait("active")
        until(lambda: node.children("console"), 5, "a console", node)
        until(lambda: all(child["ready"] for child in node.ask("status")["children"]), 5, "all children", node)
        yield node


def add_external(node: Running, tmp_path: Path, host: str) -> None:
    tree(tmp_path, profile(host=host), profile("external", host, 5080))


def test_a_profile_that_was_added_is_started(node: Running, tmp_path: Path, host: str):
    add_external(node, tmp_path, host)
    assert node.console("profile", "start", "EXTERNAL") == "Reload XML [Success]\nEXTERNAL started successfully\n"
    until(lambda: say(host, 5080)[1:2] == ["external#0"], 5, "external to answer", node)
    assert node.console("profile", "start", "nosuch") == "Reload XML [Success]\nFailure starting nosuch\n"


def test_a_young_profile_is_not_stopped(node: Running, host: str):
    text = node.console("profile", "stop", "internal")
    assert text.startswith("Profile internal must be up for at least 10 seconds to stop/restart.\nPlease wait ")
    assert text.endswith(" seconds\n")
    assert node.console("profile", "restart", "all") == ""
    assert who(host)
    assert node.console("profile", "stop", "nosuch") == "Invalid Profile [nosuch]"


def test_a_profile_is_stopped_started_and_restarted(node: Running, host: str):
    first = who(host)[3]
    time.sleep(max(0.0, 10.2 - node.ask("status")["for_seconds"]))
    assert node.console("profile", "restart", "internal") == "Reload XML [Success]\nrestarting: internal"
    until(lambda: say(host, 5060)[3:4] not in ([], [first]), 5, "another worker to answer", node)
    time.sleep(10.1)
    assert node.console("profile", "stop", "internal") == "Reload XML [Success]\nstopping: internal"
    until(lambda: not say(host, 5060), 5, "it to fall silent", node)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, 5060), timeout=1)
    assert json.loads(node.console("profiles"))["internal"]["state"] == "DOWN"
    assert node.console("profile", "stop", "internal") == "Invalid Profile [internal]"
    assert node.console("profile", "start", "internal") == "Reload XML [Success]\ninternal started successfully\n"
    until(lambda: say(host, 5060), 5, "it to answer", node)


def test_a_broken_configuration_is_told_and_the_old_one_stays(node: Running, tmp_path: Path, host: str):
    path = tmp_path / "conf" / "freeswitch.xml"
    path.write_text("<document>")
    text = node.console("profile", "rescan", "internal")
    assert text.startswith(f"Reload XML [{path}:1: ")
    assert text.endswith("]\n+OK scan complete\n")
    assert who(host)


def test_a_rescan_gives_the_spare_the_new_configuration(node: Running, tmp_path: Path, host: str):
    spare = node.children("spare")
    add_external(node, tmp_path, host)
    assert node.console("profile", "rescan", "internal") == "Reload XML [Success]\n+OK scan complete\n"
    until(lambda: node.children("spare") not in ([], spare), 5, "another spare", node)


def test_recover_sums_what_the_workers_say(node: Running):
    # The small worker counts its words: the slots that it may claim.
    assert node.console("recover") == "1"
    assert node.console("recover", "internal") == "1"
    assert node.console("recover", "nosuch") == "0"
    assert node.console("recover", "flush") == "+OK\n"


def test_the_watchdog_is_armed_by_promotion_and_by_command(node: Running):
    assert node.ask("status")["profiles"]["internal"]["watchdog"] == "on"
    assert node.console("watchdog", "off", "internal") == "+OK\n"
    assert node.ask("status")["profiles"]["internal"]["watchdog"] == "off"
    assert node.ask("status")["watchdogs"] == "on"
    node.console("watchdog", "on")
    assert node.ask("status")["profiles"]["internal"]["watchdog"] == "on"
    node.console("watchdog", "off")
    assert node.ask("status")["watchdogs"] == "off"


def test_the_console_sees_the_node_as_the_operator_does(node: Running):
    seen, asked = json.loads(node.console("node")), node.ask("status")
    assert (seen["role"], seen["pid"]) == (asked["role"], asked["pid"])
    profiles = json.loads(node.console("profiles"))
    assert profiles["internal"]["state"] == "RUNNING"
    assert profiles["internal"]["workers"] == ["internal#0"]
    assert abs(profiles["internal"]["since"] - time.time()) < 60


def test_an_instruction_reaches_every_worker(node: Running):
    assert node.console("instruct", "siptrace", "on") == "+OK\n"
    assert node.console("nonsense").startswith("-ERR the supervisor knows no verb 'nonsense'")


def test_a_passive_node_recovers_nothing(node: Running):
    node.ask("demote")
    assert node.console("recover") == "-ERR this node is not active"


@pytest.mark.parametrize("line", [b"garbage\n", b"[]\n", b'{"verb": 7}\n', b'{"no": "verb"}\n'])
def test_nonsense_on_the_control_socket_is_an_error_and_no_more(node: Running, line: bytes):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(node.run_dir / "control"))
        sock.sendall(line)
        with sock.makefile() as answers:
            answer = json.loads(answers.readline())
    assert not answer["ok"]
    assert answer["error"]
    assert node.role == "active"
