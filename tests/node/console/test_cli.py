"""The command `sofia`, as an operator runs it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from node.console import cli
from node.console.shell import completions
from tests.node.console.rig import STRETCH, Console
from tests.node.console.tree import PASSWORD
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
RUN = [sys.executable, "-m", "node.console.cli"]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SOFIA_NODE_")}
    return kept | {"HOME": str(home), "TERM": "xterm", **more}


def sofia(home: Path, *words: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *words],
        cwd=ROOT,
        env=environment(home, **more),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30 * STRETCH,
    )


@pytest.fixture
def here(console: Console, tmp_path: Path) -> tuple[Console, Path]:
    return console, tmp_path


def test_words_are_one_sofia_command(here: tuple[Console, Path]):
    console, home = here
    done = sofia(home, "-P", str(console.port), "status", "profile", "nosuch", SOFIA_NODE_PASSWORD=PASSWORD)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Invalid Profile!\n", "")


def test_any_command_can_be_run_and_its_failure_is_the_exit_status(here: tuple[Console, Path]):
    console, home = here
    port = str(console.port)
    assert sofia(home, "-P", port, "-p", PASSWORD, "-x", "echo a b").stdout == "a b\n"
    bad = sofia(home, "-P", port, "-p", PASSWORD, "-x", "nosuch thing")
    assert (bad.returncode, bad.stdout) == (1, "-ERR nosuch Command not found!\n")


def test_the_password_is_found_in_the_run_directory(here: tuple[Console, Path]):
    console, home = here
    run_dir = home / "other"
    run_dir.mkdir()
    (run_dir / "secrets").write_text(f"default_password=x\nevent_socket_password={PASSWORD}\n")
    assert sofia(home, "-P", str(console.port), "--run-dir", str(run_dir), "-x", "echo in").stdout == "in\n"
    again = sofia(home, "-P", str(console.port), "-x", "echo in", SOFIA_NODE_RUN_DIR=str(run_dir))
    assert again.stdout == "in\n"


def test_a_configuration_file_in_fs_clis_form_says_where_to_go(here: tuple[Console, Path]):
    console, home = here
    (home / ".fs_cli_conf").write_text(
        f"[default]\nport => 1\npassword => none\n[mine]\n; a comment\nport => {console.port}\npassword => {PASSWORD}\n"
    )
    assert sofia(home, "--profile", "mine", "-x", "echo in").stdout == "in\n"
    wrong = sofia(home, "--profile", "other", "-x", "echo in")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "has no section [other]" in wrong.stderr


def test_a_wrong_password_is_said_in_a_sentence(here: tuple[Console, Path]):
    console, home = here
    done = sofia(home, "-P", str(console.port), "-p", "wrong", "status")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "sofia: the node refuses the password\n")


def test_no_password_is_said_before_anything_is_tried(tmp_path: Path):
    done = sofia(tmp_path, "--run-dir", str(tmp_path), "status")
    assert done.returncode == 1
    assert done.stderr.startswith("sofia: no password: give it with -p")


def test_nobody_there_is_said_in_a_sentence(tmp_path: Path):
    port = free_port()
    done = sofia(tmp_path, "-P", str(port), "-p", "x", "status")
    assert done.returncode == 1
    assert done.stderr == (
        f"sofia: cannot connect to 127.0.0.1:{port}: Connection refused. "
        "Is the node running, and is this its event socket?\n"
    )


def test_a_host_that_is_not_allowed_hears_why(tmp_path: Path):
    console = Console(tmp_path, acl="rfc1918.auto")
    try:
        done = sofia(tmp_path, "-P", str(console.port), "-p", PASSWORD, "status")
        assert done.returncode == 1
        assert "does not allow this host" in done.stderr
    finally:
        console.end()


def test_lines_from_a_pipe_are_run_one_after_the_other(here: tuple[Console, Path]):
    console, home = here
    lines = "# a comment\necho one\n/event json CUSTOM my::word\n/frobnicate\necho two\n/exit\necho three\n"
    done = sofia(home, "-P", str(console.port), "-p", PASSWORD, stdin=lines)
    assert done.stdout.splitlines() == [
        "one",
        "+OK event listener enabled json",
        "-ERR command not found",
        "two",
    ]
    assert done.returncode == 0


def test_the_answer_of_a_slow_command_is_not_waited_for_longer_than_told(here: tuple[Console, Path]):
    console, home = here
    console.answers["node"] = lambda: time.sleep(1) or "{}"
    done = sofia(home, "-P", str(console.port), "-p", PASSWORD, "-t", "200", "-x", "node")
    assert (done.returncode, done.stderr) == (1, "sofia: no answer within 0.2 s\n")


class Terminal:
    """The interactive console on a terminal of its own."""

    def __init__(self, home: Path, port: int, *words: str) -> None:
        self.text = ""
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execvpe(RUN[0], [*RUN, "-P", str(port), "-p", PASSWORD, *words], environment(home))
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 20 * STRETCH
        while text not in self.text:
            assert time.monotonic() < deadline, f"waited for {text!r} in:\n{self.text}"
            readable, _, _ = select.select([self._fd], [], [], 0.2)
            if readable:
                try:
                    data = os.read(self._fd, 65536)
                except OSError:
                    break
                self.text += data.decode("utf-8", "replace")
                if b"\x1b[6n" in data:
                    # What a terminal answers when it is asked where the cursor is.
                    os.write(self._fd, b"\x1b[1;1R")
        assert text in self.text, self.text

    def end(self) -> int:
        deadline = time.monotonic() + 10 * STRETCH
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self._fd)
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        raise AssertionError(f"sofia did not end:\n{self.text}")


def test_the_prompt_completes_runs_and_remembers(here: tuple[Console, Path]):
    console, home = here
    terminal = Terminal(home, console.port, "-q")
    terminal.wait_for("sofia@fsanchor>")
    terminal.type("switchn\t")
    terminal.wait_for("ame")
    terminal.type("\r")
    terminal.type("toupper good bye\r")
    terminal.wait_for("GOOD BYE")
    terminal.type("/exit\r")
    assert terminal.end() == 0
    assert "+toupper good bye" in (home / ".sofia_history").read_text()


def test_a_lost_connection_ends_the_prompt_with_status_1(here: tuple[Console, Path]):
    console, home = here
    terminal = Terminal(home, console.port, "-q")
    terminal.wait_for("sofia@fsanchor>")
    console.end()
    terminal.wait_for("the node has closed the connection")
    assert terminal.end() == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", []),
        ("-ERR no reply\n", []),
        ("\n\nwrite=3:status ", [("status ", 3)]),
        ("\n[                 reg]\t[                user]\t\n\n\nwrite=1:", [("reg", 1), ("user", 1)]),
    ],
)
def test_the_nodes_completions_are_read(answer: str, expected: list[tuple[str, int]]):
    assert completions(answer) == expected


@pytest.mark.parametrize(
    ("text", "status"),
    [("+OK\n", 0), ("anything", 0), ("-ERR no reply\n", 0), ("-ERR No such channel!\n", 1), ("-USAGE: x\n", 1)],
)
def test_the_exit_status_says_whether_it_worked(text: str, status: int):
    assert cli.status_of(text) == status
