"""Following the node's log."""

from __future__ import annotations

from pathlib import Path

from node.console.tail import BEHIND, Line, Tail

HEAD = "2026-11-23 03:53:47.191"


def test_only_what_comes_after_the_start_is_told(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text(f"{HEAD} [INFO] console node.a: before\n")
    tail = Tail(path)
    tail.start()
    with path.open("a") as file:
        file.write(f"{HEAD} [ERROR] worker:internal#0 node.b: broke\nTraceback (most recent call last):\nhalf a li")
    assert tail.read() == [
        Line(f"{HEAD} [ERROR] worker:internal#0 node.b: broke\n", 3, "node.b"),
        Line("Traceback (most recent call last):\n", 3, "node.b"),
    ]
    with path.open("a") as file:
        file.write("ne\n")
    assert [line.text for line in tail.read()] == ["half a line\n"]
    assert tail.read() == []


def test_a_rotated_log_is_read_from_its_beginning(tmp_path: Path):
    path = tmp_path / "log"
    path.write_text("old\n" * 10)
    tail = Tail(path)
    tail.start()
    path.rename(tmp_path / "log.1")
    path.write_text("new\n")
    assert [line.text for line in tail.read()] == ["new\n"]


def test_a_flood_is_cut_to_its_end(tmp_path: Path):
    path = tmp_path / "log"
    tail = Tail(path)
    tail.start()
    path.write_text("x" * 99 + "\n" + ("y" * 99 + "\n") * (BEHIND // 50))
    assert sum(len(line.text) for line in tail.read()) <= BEHIND


def test_a_log_that_is_not_there_is_an_empty_one(tmp_path: Path):
    assert Tail(tmp_path / "none").read() == []
