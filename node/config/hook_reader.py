"""`<hooks>` of ha.conf: how they are read.

<hooks>
  <hook on="before-promote" command="/etc/sofia-node/claim-route --fast" timeout="2000" on-failure="abort"/>
</hooks>
"""

from __future__ import annotations

import os
import shlex
from typing import Literal, cast

from node.config.complaints import Complaints
from node.config.document import Element
from node.config.hooks import MOMENTS, Hook, Moment

TIMEOUTS: dict[Moment, tuple[int, int]] = {
    "before-promote": (1000, 30000),
    "after-promote": (10000, 60000),
    "before-demote": (1000, 4000),
    "after-demote": (5000, 60000),
}
"""Milliseconds by default and at most, of all hooks of the moment together.

A hook before a demotion holds up a switchover, and the end of the node, both of which are given up after 8 s."""
ATTRIBUTES = frozenset(("on", "command", "timeout", "on-failure"))


def read_hooks(section: Element, complaints: Complaints) -> tuple[Hook, ...]:
    """In the order of the document, in which those of one moment are run."""
    hooks: list[Hook] = []
    for element in (child for parent in section.all("hooks") for child in parent.children):
        if element.name != "hook":
            complaints.error(element.place, f"hooks holds <hook on=... command=...>, not <{element.name}>")
            continue
        hook = _hook(element, complaints)
        if hook is None:
            continue
        hooks.append(hook)
        longest = TIMEOUTS[hook.moment][1]
        if sum(each.timeout for each in hooks if each.moment == hook.moment) > longest:
            complaints.error(element.place, f"the hooks {hook.moment} may take {longest} ms in all, not more")
    return tuple(hooks)


def _hook(element: Element, complaints: Complaints) -> Hook | None:
    wrong = [f"a hook has no attribute {name!r}" for name in element.attributes if name not in ATTRIBUTES]
    moment, on_failure = element.get("on"), element.get("on-failure", "continue")
    if moment not in MOMENTS:
        wrong.append(f"on must be one of {', '.join(MOMENTS)}, not {moment!r}")
    if on_failure not in ("abort", "continue"):
        wrong.append(f"on-failure must be abort or continue, not {on_failure!r}")
    elif on_failure == "abort" and moment in MOMENTS and moment != "before-promote":
        wrong.append(f"on-failure abort is for before-promote: nothing can be called off {moment}")
    command = _command(element, complaints, wrong)
    timeout = element.get("timeout")
    if timeout and not (timeout.isdecimal() and int(timeout)):
        wrong.append(f"timeout must be a number of milliseconds above 0, not {timeout!r}")
    for sentence in wrong:
        complaints.error(element.place, sentence)
    if wrong:
        return None
    known = cast(Moment, moment)
    return Hook(
        moment=known,
        command=command,
        timeout=int(timeout) if timeout else TIMEOUTS[known][0],
        on_failure=cast(Literal["abort", "continue"], on_failure),
    )


def _command(element: Element, complaints: Complaints, wrong: list[str]) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(element.get("command")))
    except ValueError as error:
        wrong.append(f"command cannot be read: {error}")
        return ()
    if not words or not os.path.isabs(words[0]):
        wrong.append(f"command must begin with the whole path of a program, not {element.get('command')!r}")
    elif not (os.path.isfile(words[0]) and os.access(words[0], os.X_OK)):
        complaints.warning(element.place, f"command {words[0]} is not there or cannot be executed on this host")
    return words
