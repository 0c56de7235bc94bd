"""Whole nodes as real processes, with children small enough to see through."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.ha.rig import Running, logged, loopback_address, pair, profile, running, say, tree, until, who
from tests.support.node import ROOT

pytestmark = pytest.mark.real


@pytest.fixture
def host() -> str:
    return loopback_address()


def alone(directory: Path, host: str, *more: str, **settings: str) -> Running:
    return Running("alpha", directory, tree(directory, profile(host=host), *more), **settings).start()


# ---- one node ------------------------------------------------------------------------------------------------------


def test_a_node_alone_is_active_at_once_and_serves_every_slot(tmp_path: Path, host: str):
    node = alone(tmp_path, host, profile("external", host, 5080, workers=2))
    with running(node):
        node.wait("active")
        assert who(host)[:2] == ["alpha", "internal#0"]
        until(lambda: say(host, 5080)[1:2] == ["external#0"], 5, "the first worker to answer", node)
        until(lambda: say(host, 5080)[1:2] == ["external#1"], 5, "the second worker to answer", node)
        assert len(node.children("spare")) == 1


def test_a_crashed_worker_is_replaced_within_100_ms_and_what_came_meanwhile_is_answered(tmp_path: Path, host: str):
    node = alone(tmp_path, host)
    with running(node):
        node.wait("active")
        _name, _slot, epoch, pid, _claims = who(host)
        until(lambda: node.children("spare") and all(c["ready"] for c in node.ask("status")["children"]), 5, "a spare")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.settimeout(2)
            phone.connect((host, 5060))
            began = time.monotonic()
            phone.send(b"crash")
            phone.send(b"who")
            answer = phone.recv(4096).decode().rpartition("\r\n")[2].split(" ")
        print(f"answered again after {(time.monotonic() - began) * 1000:.0f} ms")
        assert time.monotonic() - began < 0.1
        assert answer[1] == "internal#0"
        assert answer[3] != pid
        assert int(answer[2]) > int(epoch)
        until(lambda: len(node.children("spare")) == 1, 5, "a new spare", node)


def test_who_follows_a_worker_that_could_not_be_fenced_off_claims_nothing_before_it_is(tmp_path: Path, host: str):
    """Under the epoch of the dead one its calls are not to be had, and to look for them in vain would end their audio."""
    node = alone(tmp_path, host)
    with running(node):
        node.wait("active")
        _node, _slot, epoch, pid, claims = who(host)
        assert claims == "internal#0"
        until(lambda: node.children("spare") and all(c["ready"] for c in node.ask("status")["children"]), 5, "a spare")
        store = sqlite3.connect(tmp_path / "store.db", isolation_level=None, timeout=10)
        store.execute("BEGIN EXCLUSIVE")
        try:
            say(host, 5060, b"crash")
            until(lambda: say(host, 5060)[3:4] not in ([], [pid]), 5, "another worker", node)
            assert [who(host)[index] for index in (2, 4)] == [epoch, ""]
        finally:
            store.close()
        logged(node, "legs recovered now that the store answers: 1")
        assert max(child.get("epoch", 0) for child in node.ask("status")["children"]) > int(epoch)


def test_a_frozen_worker_is_killed_and_replaced(tmp_path: Path, host: str):
    node = alone(tmp_path, host)
    with running(node):
        node.wait("active")
        frozen = int(who(host)[3])
        say(host, 5060, b"freeze")
        until(lambda: say(host, 5060), 5, "an answer again", node)
        assert not alive(frozen)
        until(lambda: "no answer to a beat for" in node.log(), 5, "the log to say so", node)


def test_a_worker_that_beats_but_answers_nothing_is_found_by_the_probe(tmp_path: Path, host: str):
    watched = '<param name="watchdog-enabled" value="true"/><param name="watchdog-event-timeout" value="600"/>'
    node = Running("alpha", tmp_path, tree(tmp_path, profile(host=host, more=watched))).start()
    with running(node):
        node.wait("active")
        first = who(host)[3]
        time.sleep(1.5)
        assert who(host)[3] == first, "an idle profile must not fall to its watchdog"
        say(host, 5060, b"deaf")
        until(lambda: say(host, 5060), 5, "an answer again", node)
        assert who(host)[3] != first
        until(lambda: "answered no probe for 0.6 s" in node.log(), 5, "the log to say so", node)


@pytest.mark.parametrize("kind", ["media", "console", "spare", "lease"])
def test_a_killed_child_is_started_again_and_nobody_notices(tmp_path: Path, host: str, kind: str):
    node = alone(tmp_path, host)
    with running(node):
        node.wait("active")
        before = who(host)
        (pid,) = node.children(kind)
        os.kill(pid, signal.SIGKILL)
        until(lambda: node.children(kind) not in ([], [pid]), 5, f"another {kind}", node)
        assert who(host) == before
        assert node.role == "active"


def test_a_stuck_lease_keeper_is_killed_and_the_node_goes_on(tmp_path: Path, host: str):
    node = alone(tmp_path, host)
    with running(node):
        node.wait("active")
        (pid,) = node.children("lease")
        os.kill(pid, signal.SIGSTOP)
        until(lambda: node.children("lease") not in ([], [pid]), 6, "another keeper", node)
        until(lambda: not alive(pid), 5, "the old one to be gone", node)
        assert who(host)


def test_no_child_outlives_a_killed_supervisor(tmp_path: Path, host: str):
    node = alone(tmp_path, host)
    with running(node):
        node.wait("active")
        pids = [child["pid"] for child in node.ask("status")["children"]]
        os.kill(node.pid, signal.SIGKILL)
        node.process.wait()
        until(lambda: not any(alive(pid) for pid in pids), 3, "all children to end")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((host, 5060))


def test_sigterm_ends_a_node_in_order(tmp_path: Path, host: str):
    node = alone(tmp_path, host)
    with running(node):
        node.wait("active")
        pids = [child["pid"] for child in node.ask("status")["children"]]
        assert node.stop() == 0
        until(lambda: not any(alive(pid) for pid in pids), 3, "all children to end")
        assert not (node.run_dir / "control").exists()
        with sqlite3.connect(tmp_path / "store.db") as store:
            assert [row[0] for row in store.execute("SELECT holder FROM sofia_lease")] in ([], [""])


def test_a_taken_port_takes_down_its_profile_only_until_it_is_free(tmp_path: Path, host: str):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.bind((host, 5080))
        node = alone(tmp_path, host, profile("external", host, 5080))
        with running(node):
            until(lambda: say(host, 5060), 15, "the other profile to answer", node)
            node.wait("active")
            external = node.ask("status")["profiles"]["external"]
            assert external["state"] == "DOWN"
            assert external["error"] == (
                f"profile external cannot listen on udp {host} port 5080: Address already in use"
            )
            until(lambda: external["error"] in node.log(), 2, "the log to say so", node)
            foreign.close()
            until(lambda: say(host, 5080), 8, "the profile to come up", node)


def test_shared_ports_are_not_shared_with_strangers(tmp_path: Path, host: str):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        foreign.bind((host, 5060))
        node = Running("alpha", tmp_path, tree(tmp_path, profile(host=host, workers=2))).start()
        with running(node):
            node.wait("active")
            assert node.ask("status")["profiles"]["internal"]["state"] == "DOWN"


def test_a_second_node_in_the_same_run_directory_is_refused(tmp_path: Path, host: str):
    node = alone(tmp_path, host)
    with running(node):
        node.wait("active")
        second = Running("alpha", tmp_path, node.conf).start()
        assert second.process.wait(10) == 1
        assert f"another node runs in {node.run_dir} (pid {node.pid})" in second.log()
        assert who(host)


def run_once(*words: str) -> tuple[int, str]:
    done = subprocess.run([sys.executable, "-m", "ha", *words], cwd=ROOT, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def test_what_cannot_work_is_refused_in_a_sentence(tmp_path: Path, host: str):
    conf = str(tree(tmp_path, profile(host=host)))
    settings = ["--set", f"store={tmp_path}/s.db", "--set", "peer_address=", "--set", "peer_listen="]
    (tmp_path / "file").write_text("")
    status, text = run_once("run", "--conf", conf, "--run-dir", str(tmp_path / "file"), *settings)
    assert status == 1
    assert f"the run directory {tmp_path / 'file'} cannot be used" in text
    long = tmp_path / ("long" * 30)
    status, text = run_once("run", "--conf", conf, "--run-dir", str(long), *settings)
    assert status == 1
    assert "is too long by" in text
    status, text = run_once("status", "--run-dir", str(tmp_path / "nowhere"))
    assert (status, text) == (1, f"sofia-node: no node runs in {tmp_path / 'nowhere'}\n")
    (tmp_path / "conf" / "freeswitch.xml").write_text("<document><broken></document>")
    status, text = run_once("run", "--conf", conf, "--run-dir", str(tmp_path / "r"), *settings)
    assert status == 1
    assert "freeswitch.xml:1: " in text


def test_check_refuses_times_that_cannot_be_safe(tmp_path: Path, host: str):
    conf = tree(tmp_path, profile(host=host), ha='<param name="lease-margin" value="390"/>')
    words = ["--set", "store=/tmp/x.db", "--set", "peer_address=", "--set", "peer_listen="]
    status, text = run_once("check", "--conf", str(conf), *words)
    assert status == 1
    assert "lease-renew (80 ms) is too slow" in text


# ---- two nodes -----------------------------------------------------------------------------------------------------


class Duo:
    """A pair, and who has answered when."""

    def __init__(self, directory: Path, host: str, ha: str = "") -> None:
        self.host = host
        self.alpha, self.beta = pair(directory, tree(directory, profile(host=host), ha=ha))
        self.nodes = (self.alpha, self.beta)

    def start(self) -> Duo:
        self.alpha.start().wait("active")
        self.beta.start().wait("standby")
        until(lambda: self.beta.ask("status")["ready"], 10, "the standby to be ready", *self.nodes)
        until(lambda: self.beta.ask("status")["peer"]["state"] == "active", 10, "the peers to be linked", *self.nodes)
        return self

    def answers(self, name: str) -> bool:
        return say(self.host, 5060, within=0.05)[:1] == [name]

    def serves(self, name: str) -> bool:
        """Now, and not only soon."""
        return who(self.host)[:1] == [name]

    def wait_for(self, node: Running, within: float = 5.0) -> float:
        return until(lambda: self.answers(node.name), within, f"{node.name} to answer", *self.nodes)


@pytest.fixture
def duo(tmp_path: Path, host: str):
    duo = Duo(tmp_path, host)
    with running(*duo.nodes):
        yield duo


def test_of_two_started_at_once_exactly_one_becomes_active(duo: Duo):
    for node in duo.nodes:
        node.start()

    def roles() -> list[str]:
        return sorted(node.role for node in duo.nodes)

    # Of the two, one may be up long before the other.
    until(lambda: all(now := roles()) and "active" in now, 15, "both to be up and one to be active", *duo.nodes)
    for _ in range(50):
        assert roles() == ["active", "standby"]
        time.sleep(0.02)


def test_a_standby_that_loses_its_workers_has_enough_of_them_again(tmp_path: Path, host: str):
    nodes = pair(tmp_path, tree(tmp_path, profile(host=host, workers=2)))
    with running(*nodes):
        nodes[0].start().wait("active")
        beta = nodes[1].start().wait("standby")
        until(lambda: len(beta.children("spare")) == 3 and beta.ask("status")["ready"], 10, "the standby", *nodes)
        killed = beta.children("spare")
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        until(lambda: len(set(beta.children("spare")) - set(killed)) == 3, 10, "three others", *nodes)
        until(lambda: beta.ask("status")["ready"], 10, "the standby to be ready again", *nodes)


def test_a_killed_active_is_replaced_within_a_second(duo: Duo):
    duo.start()
    began = time.monotonic()
    duo.alpha.kill()
    duo.wait_for(duo.beta)
    print(f"the standby answers {(time.monotonic() - began) * 1000:.0f} ms after the kill")
    assert time.monotonic() - began < 1.0
    assert who(duo.host)[4] == "internal#0"
    duo.alpha.start()
    duo.alpha.wait("standby")
    assert duo.beta.role == "active"


def test_a_killed_supervisor_alone_is_replaced_too(duo: Duo):
    duo.start()
    began = time.monotonic()
    os.kill(duo.alpha.pid, signal.SIGKILL)
    duo.alpha.process.wait()
    duo.wait_for(duo.beta)
    assert time.monotonic() - began < 1.0


def test_a_frozen_supervisor_loses_the_role_and_is_passive_when_it_wakes(duo: Duo):
    duo.start()
    os.kill(duo.alpha.pid, signal.SIGSTOP)
    began = time.monotonic()
    until(lambda: not duo.answers("alpha"), 2, "its workers to fall silent")
    assert time.monotonic() - began < 0.7
    # Its processes live and hold the port: the standby has the role, and the sockets as soon as they let go.
    until(lambda: duo.beta.role in ("promoting", "active"), 2, "the standby to take the role", *duo.nodes)
    os.kill(duo.alpha.pid, signal.SIGCONT)
    duo.wait_for(duo.beta)
    duo.alpha.wait("standby")
    assert duo.serves("beta")


def test_a_supervisor_that_was_merely_slow_keeps_its_role_and_its_workers(duo: Duo):
    """Both are starved at once for longer than either may act or hope: no role changes hands, no worker is replaced."""
    duo.start()
    before = say(duo.host, 5060, within=1.0)
    for seconds in (0.6, 1.2, 2.5):
        for node in duo.nodes:
            os.killpg(node.pid, signal.SIGSTOP)
        time.sleep(seconds)
        for node in (duo.beta, duo.alpha):
            os.killpg(node.pid, signal.SIGCONT)
        duo.wait_for(duo.alpha)
        time.sleep(1.0)
        assert (duo.alpha.role, duo.beta.role) == ("active", "standby"), duo.alpha.log() + duo.beta.log()
        assert say(duo.host, 5060, within=1.0) == before
    assert "let go" not in duo.alpha.log()


def test_sigterm_hands_over_without_waiting_for_the_lease_to_end(duo: Duo):
    duo.start()
    began = time.monotonic()
    duo.alpha.process.terminate()
    duo.wait_for(duo.beta)
    print(f"the standby answers {(time.monotonic() - began) * 1000:.0f} ms after SIGTERM to the active")
    assert time.monotonic() - began < 0.5
    assert duo.alpha.stop() == 0


def test_a_switchover_swaps_the_roles_and_back(duo: Duo):
    duo.start()
    assert duo.alpha.ask("switchover") == {"ok": True, "role": "standby"}
    assert duo.serves("beta")
    until(lambda: duo.alpha.ask("status")["ready"], 10, "alpha to be ready again", *duo.nodes)
    assert duo.alpha.ask("promote") == {"ok": True, "role": "active"}
    assert duo.serves("alpha")
    assert duo.beta.role == "standby"


def test_a_demoted_node_stays_out_until_promoted(duo: Duo):
    duo.start()
    assert duo.alpha.ask("demote") == {"ok": True, "role": "standby"}
    duo.wait_for(duo.beta)
    duo.beta.kill()
    time.sleep(1.5)
    assert duo.alpha.role == "standby"
    assert duo.alpha.ask("promote") == {"ok": True, "role": "active"}
    assert duo.serves("alpha")


def test_a_switchover_without_a_peer_is_refused(duo: Duo):
    duo.start()
    duo.beta.kill()
    until(lambda: duo.alpha.ask("status")["peer"]["state"] == "silent", 5, "the peer to be missed")
    answer = duo.alpha.ask("switchover")
    assert not answer["ok"]
    assert answer["error"] == "the peer is not there, or not ready to take over"
    assert duo.serves("alpha")


def test_without_the_store_the_active_stays_by_the_peers_promise_and_lets_go_without_it(duo: Duo, tmp_path: Path):
    duo.start()
    store = sqlite3.connect(tmp_path / "store.db", isolation_level=None, timeout=10)
    store.execute("BEGIN EXCLUSIVE")
    try:
        ends = time.monotonic() + 3
        while time.monotonic() < ends:
            assert say(duo.host, 5060, within=1)[:1] == ["alpha"], duo.alpha.log()
            assert duo.beta.role == "standby"
        duo.beta.kill()
        until(lambda: not duo.answers("alpha"), 2, "alpha to let go", *duo.nodes)
    finally:
        store.close()
    duo.wait_for(duo.alpha)


def test_two_nodes_of_one_name_do_not_believe_each_other(duo: Duo):
    duo.beta.name = "alpha"
    duo.alpha.start().wait("active")
    duo.beta.start()
    until(lambda: "it calls itself 'alpha', as this node does" in duo.alpha.log(), 10, "the refusal", *duo.nodes)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
