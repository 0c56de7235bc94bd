"""What operators and cluster managers call: the words, the exit statuses, and how little is loaded for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ha.rig import Running, loopback_address, pair, profile, running, tree, until
from tests.support.node import ROOT


def sofia_node(node: Running, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "ha", *words, "--run-dir", str(node.run_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_the_health_of_a_node_is_an_exit_status(tmp_path: Path) -> None:
    host = loopback_address()
    node = Running("alpha", tmp_path, tree(tmp_path, profile(host=host)))
    assert sofia_node(node, "health") == (7, f"no node runs in {node.run_dir}")
    with running(node):
        node.start().wait("active")
        assert sofia_node(node, "health") == (8, "alpha: active")
        assert sofia_node(node, "demote") == (0, "demote: standby")
        until(lambda: node.ask("status")["ready"], 10, "the spares to be loaded", node)
        assert sofia_node(node, "health") == (0, "alpha: standby, ordered to demote")
        assert sofia_node(node, "promote") == (0, "promote: active")
        assert sofia_node(node, "switchover", "--within", "0.5")[0] == 1
        node.kill()
        assert sofia_node(node, "health")[0] == 7


def test_a_node_that_serves_nothing_or_says_nothing_is_unhealthy(tmp_path: Path) -> None:
    # An address of no interface.
    node = Running("alpha", tmp_path, tree(tmp_path, profile(host="192.0.2.77")))
    with running(node):
        node.start().wait("active")
        until(lambda: sofia_node(node, "health")[0] == 9, 10, "it to be unfit", node)

        os.kill(node.pid, signal.SIGSTOP)
        assert sofia_node(node, "health", "--within", "0.5")[0] == 1
        os.kill(node.pid, signal.SIGCONT)


def test_orders_load_no_node() -> None:
    show = "import sys, ha.entry; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", show], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert [name for name in loaded.split() if name.startswith(("ha.", "node", "store"))] == ["ha.entry", "ha.orders"]


@pytest.mark.parametrize("words", [["--help"], ["status", "--help"], ["run", "--help"]])
def test_help_names_every_verb(words: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "ha", *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    if words == ["--help"]:
        assert "run | check | status | health | promote | demote | switchover | store" in " ".join(done.stdout.split())


def test_a_node_whose_election_is_ordered_waits_for_its_order(tmp_path: Path) -> None:
    """So that nobody but keepalived or Pacemaker says who is active; afterwards it keeps the role by itself."""
    conf = tree(tmp_path, profile(host=loopback_address()), ha='<param name="election" value="ordered"/>')
    alpha, beta = pair(tmp_path, conf)
    with running(alpha, beta):
        for node in (alpha, beta):
            node.start()
        until(lambda: all(each.role and each.ask("status")["ready"] for each in (alpha, beta)), 15, "two standbys")
        until(lambda: alpha.ask("status")["lease"]["view"] == "free", 5, "a free lease", alpha)
        assert (alpha.role, beta.role) == ("standby", "standby")
        assert alpha.ask("promote")["ok"]
        assert beta.ask("promote")["ok"], "the active one hands over"
        assert (alpha.role, beta.role) == ("standby", "active")


@pytest.mark.parametrize("failure", ["it takes too long", "its hook refuses"])
def test_where_the_election_is_ordered_a_promotion_that_failed_leaves_the_node_out(
    tmp_path: Path, failure: str
) -> None:
    """The lease is free, and whoever orders has been told that it did not work: the node is not to come back to it later."""
    command = "/bin/false" if failure == "its hook refuses" else "/bin/sleep 20"
    hooks = f'''<hooks><hook on="before-promote" command="{command}" timeout="20000" on-failure="abort"/></hooks>'''
    ordered = '<param name="election" value="ordered"/>'
    node = Running("alpha", tmp_path, tree(tmp_path, profile(host=loopback_address()), ha=ordered, hooks=hooks))
    with running(node):
        node.start()
        until(lambda: node.role and node.ask("status")["ready"], 15, "a standby", node)
        assert not node.ask("promote", within=1)["ok"]
        assert node.ask("status")["order"] == "demote"
        until(lambda: node.ask("status")["lease"]["view"] in ("free", "unknown"), 5, "a lease that is nobody's", node)
        assert "ordered to demote" in node.ask("status")["decision"]


def test_where_the_election_is_ordered_a_node_that_was_replaced_waits_for_its_order(tmp_path: Path) -> None:
    """The one that was ordered in its place dies; that makes nobody's order of this one."""
    conf = tree(tmp_path, profile(host=loopback_address()), ha='<param name="election" value="ordered"/>')
    alpha, beta = pair(tmp_path, conf)
    with running(alpha, beta):
        for node in (alpha, beta):
            node.start()
        until(lambda: all(each.role and each.ask("status")["ready"] for each in (alpha, beta)), 15, "two standbys")
        assert alpha.ask("promote")["ok"]
        assert beta.ask("promote")["ok"]
        until(lambda: alpha.ask("status")["order"] == "demote", 5, "the order to be over", alpha)
        beta.kill()
        until(lambda: alpha.ask("status")["lease"]["view"] == "free", 5, "a free lease", alpha)
        time.sleep(0.5)
        assert alpha.role == "standby"


def test_a_demoted_peer_is_none_to_hand_over_to(tmp_path: Path) -> None:
    """It would not claim, and the pair would be without an active node until the first one takes the role back."""
    alpha, beta = pair(tmp_path, tree(tmp_path, profile(host=loopback_address())))
    with running(alpha, beta):
        alpha.start().wait("active")
        beta.start().wait("standby")
        assert beta.ask("demote")["ok"]
        until(lambda: alpha.ask("status")["peer"]["state"] == "standby", 5, "the peer", alpha)
        until(lambda: not alpha.ask("status")["peer"]["ready"], 5, "it to be told", alpha, beta)
        answer = alpha.ask("switchover")
        assert answer["error"] == "the peer is not there, or not ready to take over"
        assert alpha.role == "active"
