"""What a running node is asked on its control socket: `sofia-node status`, `health`, `promote`, `demote`, `switchover`.

Cluster managers call these every second and in the midst of a failover, so nothing is imported here but what they need.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

VERBS = ("status", "health", "promote", "demote", "switchover")

STANDBY, ACTIVE, DOWN = 0, 8, 7
"Exit statuses of `health`, those of an OCF resource agent: a standby that could take over, active, not running."
SILENT, LOADING, UNFIT = 1, 3, 9
"It does not answer; it is passive and could not take over at once; it is active and serves not one profile."
PATIENCE = 5.0
"Seconds that a node may take to say how it stands."


class Unusable(Exception):
    """The node cannot be started or reached; the text says why in one sentence."""


class NotRunning(Unusable):
    """There is no node in this run directory."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="sofia-node", description=__doc__)
    add_to(parser.add_subparsers(required=True, metavar=" | ".join(VERBS)))
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except Unusable as error:
        print(f"sofia-node: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return status


def add_to(verbs: Any) -> None:
    """The command line of these verbs; `verbs` is what `ArgumentParser.add_subparsers` gave."""
    running = argparse.ArgumentParser(add_help=False)
    running.add_argument("--run-dir", type=Path, required=True, help="directory of its sockets, journal and log")
    verb = verbs.add_parser("status", parents=[running], help="how a running node stands")
    verb.add_argument("--json", action="store_true")
    verb.set_defaults(run=run_status)
    verb = verbs.add_parser(
        "health",
        parents=[running],
        help="how it stands, as exit status: 0 standby, 8 active, 7 not running, 3 standby and not ready, 9 active "
        "without a profile, 1 no answer",
    )
    verb.add_argument("--within", type=float, default=PATIENCE, metavar="SECONDS")
    verb.set_defaults(run=run_health)
    for name, text in (
        ("promote", "make it active; an active peer is asked to hand over"),
        ("demote", "make it passive, and keep it so until promoted"),
        ("switchover", "swap the roles of the pair"),
    ):
        verb = verbs.add_parser(name, parents=[running], help=text)
        verb.add_argument("--within", type=float, default=10.0, metavar="SECONDS")
        verb.set_defaults(run=run_order, verb=name)


def run_status(options: argparse.Namespace) -> int:
    answer = ask(options.run_dir, {"verb": "status"}, within=PATIENCE)
    if options.json:
        print(json.dumps(answer, indent=2))
        return 0
    lease, peer = answer["lease"], answer["peer"]
    print(f"{answer['node']}: {answer['role']} for {answer['for_seconds']:.0f} s, epoch {answer['epoch']}")
    print(f"  {answer['decision']}")
    print(f"  lease: {lease['view']}, holder {lease['holder'] or 'nobody'}, epoch {lease['epoch']}")
    if not answer["standalone"]:
        print(f"  peer: {peer['name'] or 'not seen yet'}, {peer['state']}")
    for name, profile in answer["profiles"].items():
        print(f"  profile {name}: {profile['state']} {' '.join(profile['workers'])}{profile['error']}")
    for child in answer["children"]:
        print(
            f"  {child['kind']} pid {child['pid']} {child['slot']}{'' if child['ready'] else ' (loading)'}{_lag(child)}"
        )
        if "store" in child and child["slot"]:
            print(f"    store: {_store(child['store'])}")
    return 0


def _lag(child: dict[str, Any]) -> str:
    if "lag" not in child:
        return ""
    return f" follows {child['registrations']} registrations, {child['lag']:.1f} s behind the store at most"


def _store(told: dict[str, Any]) -> str:
    state = f"gone ({told['error']})" if told["gone"] else "given what it has missed" if told["behind"] else "level"
    return (
        f"{state}, {told['queued']} writes wait, {told['batch']:g} a commit of {told['latency'] * 1000:.1f} ms (longest "
        f"{told['slowest'] * 1000:.1f} ms); at risk {told['at_risk']}, journaled {told['journaled']}, replayed "
        f"{told['replayed']}, refused {told['refused']}, lost {told['lost']}"
    )


def run_health(options: argparse.Namespace) -> int:
    """One line, and an exit status that a cluster manager understands."""
    try:
        answer = ask(options.run_dir, {"verb": "status"}, within=options.within)
    except NotRunning as error:
        print(error)
        return DOWN
    except Unusable as error:
        print(error)
        return SILENT
    role, order = answer["role"], answer["order"]
    print(f"{answer['node']}: {role}{'' if order == 'none' else f', ordered to {order}'}")
    if role in ("active", "promoting"):
        profiles = answer["profiles"].values()
        idle = role == "active" and profiles and all(profile["state"] == "DOWN" for profile in profiles)
        return UNFIT if idle else ACTIVE
    return STANDBY if role == "standby" and answer["ready"] else LOADING


def run_order(options: argparse.Namespace) -> int:
    """promote, demote, switchover: exit status 0 when the role has come."""
    answer = ask(options.run_dir, {"verb": options.verb, "within": options.within}, within=options.within + 5.0)
    if not answer.get("ok"):
        raise Unusable(f"{options.verb}: {answer.get('error', 'refused')}")
    print(f"{options.verb}: {answer['role']}")
    return 0


def ask(run_dir: Path, request: dict[str, Any], within: float) -> dict[str, Any]:
    """Put one request to the node of a run directory; raises Unusable."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(within)
            sock.connect(str(run_dir / "control"))
            sock.sendall(json.dumps(request).encode() + b"\n")
            with sock.makefile("rb") as answers:
                answer: dict[str, Any] = json.loads(answers.readline())
                return answer
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotRunning(f"no node runs in {run_dir}") from None
    except (OSError, ValueError) as error:
        raise Unusable(f"the node in {run_dir} does not answer: {error}") from error
