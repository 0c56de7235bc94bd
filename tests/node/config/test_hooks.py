"""`<hooks>` of ha.conf: what they become, and what is said of wrong ones, with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import load
from node.config.hooks import Hook
from tests.node.config.tree import plant, said

FILE = "autoload_configs/ha.conf.xml"


def ha(*lines: str) -> dict[str, str]:
    """An ha.conf whose hooks stand from line 3 on."""
    return {FILE: '<configuration name="ha.conf">\n<hooks>\n' + "\n".join(lines) + "\n</hooks>\n</configuration>\n"}


def hook(on: str = "after-promote", command: str = "/bin/true", **more: str) -> str:
    attributes = {"on": on, "command": command} | {name.replace("_", "-"): value for name, value in more.items()}
    return "<hook " + " ".join(f'{name}="{value}"' for name, value in attributes.items()) + "/>"


def test_hooks_are_read_in_their_order(tmp_path: Path) -> None:
    plant(
        tmp_path,
        ha(
            hook("before-promote", "/bin/echo 'one word' two", timeout="250", on_failure="abort"),
            hook("after-demote"),
            hook("before-promote", "/bin/true"),
        ),
    )
    assert load(tmp_path).ha.hooks == (
        Hook(moment="before-promote", command=("/bin/echo", "one word", "two"), timeout=250, on_failure="abort"),
        Hook(moment="after-demote", command=("/bin/true",), timeout=5000),
        Hook(moment="before-promote", command=("/bin/true",), timeout=1000),
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            hook("promote"),
            "on must be one of before-promote, after-promote, before-demote, after-demote, not 'promote'",
        ),
        (hook(command="script.sh"), "command must begin with the whole path of a program, not 'script.sh'"),
        (hook(command=""), "command must begin with the whole path of a program, not ''"),
        (hook(command="/bin/echo 'a"), "command cannot be read: No closing quotation"),
        (
            hook(command="/bin/is-not-there"),
            "command /bin/is-not-there is not there or cannot be executed on this host",
        ),
        (hook(timeout="soon"), "timeout must be a number of milliseconds above 0, not 'soon'"),
        (hook(timeout="0"), "timeout must be a number of milliseconds above 0, not '0'"),
        (hook("before-demote", timeout="4001"), "the hooks before-demote may take 4000 ms in all, not more"),
        (hook("before-promote", on_failure="retry"), "on-failure must be abort or continue, not 'retry'"),
        (
            hook("after-promote", on_failure="abort"),
            "on-failure abort is for before-promote: nothing can be called off after-promote",
        ),
        (hook(user="root"), "a hook has no attribute 'user'"),
        ("<run/>", "hooks holds <hook on=... command=...>, not <run>"),
    ],
)
def test_a_wrong_hook_is_said_with_its_place(tmp_path: Path, line: str, sentence: str) -> None:
    assert said(tmp_path, ha(hook(), line)) == [f"{FILE}:4: {sentence}"]


def test_hooks_of_one_moment_share_its_time(tmp_path: Path) -> None:
    one = hook("before-demote", timeout="2001")
    assert said(tmp_path, ha(one, one)) == [f"{FILE}:4: the hooks before-demote may take 4000 ms in all, not more"]


@pytest.mark.parametrize(
    ("param", "value", "sentence"),
    [
        ("election", "pacemaker", "election must be lease, ordered, not 'pacemaker'"),
        ("watchdog-device-timeout", "500", "watchdog-device-timeout must be 2000 to 600000, not 500"),
    ],
)
def test_a_wrong_param_is_said_with_its_place(tmp_path: Path, param: str, value: str, sentence: str) -> None:
    text = f'<configuration name="ha.conf">\n<settings>\n<param name="{param}" value="{value}"/>\n</settings>\n</configuration>\n'
    assert said(tmp_path, {FILE: text}) == [f"{FILE}:3: {sentence}"]
