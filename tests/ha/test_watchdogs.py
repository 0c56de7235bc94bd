"""The seed's watchdog on real nodes: whom it watches, what it does first, and what it does when that has not helped."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ha.rig import Running, logged, loopback_address, pair, profile, running, say, tree, until, who

QUICK = '<param name="watchdog-event-timeout" value="600"/>'
BEATS = '<param name="heartbeat-timeout" value="400"/>'


@contextmanager
def watching(tmp_path: Path, host: str, *, more: str = "", ha: str = "") -> Iterator[tuple[Running, Running]]:
    """A pair, alpha active, beta ready."""
    alpha, beta = pair(tmp_path, tree(tmp_path, profile(host=host, more=more), ha=ha))
    with running(alpha, beta):
        alpha.start().wait("active")
        beta.start().wait("standby")

        def ready() -> bool:
            return beta.ask("status")["ready"] and alpha.ask("status")["peer"]["ready"]

        until(ready, 10, "a ready pair", alpha, beta)
        until(lambda: answers(host), 5, "an answer", alpha)
        yield alpha, beta


def answers(host: str) -> str:
    """The pid that answers, empty: none."""
    return (say(host, 5060) or ["", "", "", ""])[3]


def replaced(host: str, before: str, *nodes: Running) -> None:
    until(lambda: answers(host) not in ("", before), 15, "another worker to answer", *nodes)


def test_workers_that_stand_still_again_are_not_replaced_for_ever(tmp_path: Path):
    """First another worker, then another node."""
    host = loopback_address()
    with watching(tmp_path, host, ha=BEATS) as (alpha, beta):
        first = who(host)[3]
        say(host, 5060, b"freeze")
        replaced(host, first, alpha)
        assert (alpha.role, beta.role) == ("active", "standby")
        # So soon after each other they would count as one.
        time.sleep(2.2)
        until(lambda: alpha.ask("status")["peer"]["ready"], 5, "the peer", alpha)
        say(host, 5060, b"freeze")
        until(lambda: (say(host, 5060) or [""])[0] == "beta", 15, "the other node to answer", alpha, beta)
        logged(alpha, "stand still again and again; the peer shall take over")
        roles = [each for name, each in alpha.notices() if name == "sofia::ha_role"]
        assert roles[-1]["reason"] == "workers of profile internal stand still again and again"


def test_a_profile_that_answers_no_probe_again_costs_the_role(tmp_path: Path):
    host = loopback_address()
    with watching(tmp_path, host, more=QUICK) as (alpha, beta):
        first = who(host)[3]
        say(host, 5060, b"deaf")
        replaced(host, first, alpha)
        assert (alpha.role, beta.role) == ("active", "standby")
        until(lambda: alpha.ask("status")["peer"]["ready"], 5, "the peer", alpha)
        say(host, 5060, b"deaf")
        until(lambda: (say(host, 5060) or [""])[0] == "beta", 15, "the other node to answer", alpha, beta)
        logged(alpha, "and new workers have not helped; the peer shall take over")


def test_without_a_peer_that_could_the_role_is_kept(tmp_path: Path):
    host = loopback_address()
    node = Running("alpha", tmp_path, tree(tmp_path, profile(host=host, more=QUICK)))
    with running(node):
        node.start().wait("active")
        for _ in range(2):
            until(lambda: answers(host), 10, "an answer", node)
            before = who(host)[3]
            say(host, 5060, b"deaf")
            replaced(host, before, node)
        logged(node, "there is no peer that could take over")
        assert node.role == "active"


def test_a_node_that_stood_still_as_a_whole_does_not_take_its_profiles_for_dead(tmp_path: Path):
    host = loopback_address()
    node = Running("alpha", tmp_path, tree(tmp_path, profile(host=host, more=QUICK)))
    with running(node):
        node.start().wait("active")
        until(lambda: answers(host), 10, "an answer", node)
        before = who(host)[3]
        for _ in range(3):
            os.killpg(node.pid, signal.SIGSTOP)
            time.sleep(1.0)
            os.killpg(node.pid, signal.SIGCONT)
            until(lambda: answers(host), 5, "an answer", node)
        time.sleep(0.5)
        assert who(host)[3] == before, node.log()
        assert "answered no probe" not in node.log()


def test_it_is_switched_for_one_profile_and_for_all(tmp_path: Path):
    host = loopback_address()
    node = Running("alpha", tmp_path, tree(tmp_path, profile(host=host, more=QUICK)))
    with running(node):
        node.start().wait("active")
        until(lambda: answers(host), 10, "an answer", node)
        before = who(host)[3]
        assert node.console("watchdog", "off", "internal") == "+OK\n"
        say(host, 5060, b"deaf")
        time.sleep(2.0)
        assert not answers(host), "nobody looks"
        assert "answered no probe" not in node.log()
        node.console("watchdog", "on")
        replaced(host, before, node)
        assert node.ask("demote")["ok"]
        assert node.ask("status")["watchdogs"] == "off"
        assert node.ask("promote")["ok"]
        assert node.ask("status")["watchdogs"] == "on"


def test_a_profile_that_comes_later_is_watched_as_its_settings_say_when_all_were_turned_off(tmp_path: Path):
    hosts = [loopback_address() for _ in range(3)]
    enabled = '<param name="watchdog-enabled" value="true"/>'
    profiles = (profile(host=hosts[0]), profile("one", host=hosts[1], more=enabled), profile("two", host=hosts[2]))
    taken = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock, host in zip(taken, hosts[1:], strict=True):
        sock.bind((host, 5060))
    node = Running("alpha", tmp_path, tree(tmp_path, *profiles))
    with running(node):
        node.start().wait("active")
        node.console("watchdog", "off")
        for sock in taken:
            sock.close()

        def states() -> list[str]:
            return [each["state"] for each in node.ask("status")["profiles"].values()]

        until(lambda: states() == ["RUNNING"] * 3, 15, "both to be bound", node)
        shown = {name: each["watchdog"] for name, each in node.ask("status")["profiles"].items()}
        assert shown == {"internal": "off", "one": "on", "two": "off"}


def test_another_limit_counts_from_the_next_rescan_on(tmp_path: Path):
    host = loopback_address()
    conf = tree(tmp_path, profile(host=host, more='<param name="watchdog-event-timeout" value="60000"/>'))
    node = Running("alpha", tmp_path, conf)
    with running(node):
        node.start().wait("active")
        until(lambda: answers(host), 10, "an answer", node)
        time.sleep(2.0)
        before = who(host)[3]
        tree(tmp_path, profile(host=host, more=QUICK))
        assert "+OK scan complete" in node.console("profile", "rescan", "internal")
        # The last answer is from a probe of before, which were five seconds apart.
        time.sleep(1.5)
        assert who(host)[3] == before, "a healthy profile must not fall to a shorter limit"
        say(host, 5060, b"deaf")
        replaced(host, before, node)
        logged(node, "answered no probe for 0.6 s")
