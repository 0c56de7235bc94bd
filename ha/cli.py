"""`sofia-node`: run a node, check a configuration, ask a running node or tell it what to be."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from ha import orders, store_verbs
from ha.orders import Unusable
from ha.process import EntryPoints
from ha.settings import ENVIRONMENT, HaSettings, Unsafe, from_environment
from ha.supervisor import Supervisor
from node import debug
from node import log as node_log
from node.config import Complaint, Configuration, ConfigurationError, Identity
from node.config.identity import core_uuid
from node.config.load import check, load

log = logging.getLogger(__name__)

LONGEST_PATH = 107
"Bytes of a Unix socket's path (unix(7))."
LEVELS = {"debug": "DEBUG", "warning": "WARNING", "err": "ERROR", "error": "ERROR", "crit": "CRITICAL"}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except Unusable as error:
        print(f"sofia-node: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 1
    return status


# ---- run -----------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace, entry_points: EntryPoints | None = None) -> int:
    """Run the node in the foreground until SIGTERM."""
    run_dir: Path = options.run_dir.absolute()
    # What hooks and commands of the configuration are started with is not to have them.
    overrides = from_environment(options.set_from_environment, os.environ) | _overrides(options.set)
    # The run directory holds secrets, call records with their keys, and the sockets that command this node.
    os.umask(0o077)
    read = functools.partial(load, options.conf, overrides, run_dir=run_dir, allow_exec=options.allow_exec)
    with _locked(run_dir):
        _begin_debugging(0, debug.tracelevel())
        configuration = _loaded(read)
        _begin_debugging(configuration.sofia.log_level, configuration.sofia.tracelevel)
        settings = _settings(configuration, standalone=options.standalone)
        _check_paths(run_dir, configuration)
        level = LEVELS.get(configuration.switch.loglevel.lower(), "INFO")
        try:
            node_log.setup(run_dir, level, "supervisor")
        except OSError as error:
            raise Unusable(f"the log cannot be written: {error}") from error
        _warn(configuration)
        identity = Identity(
            node=options.node or configuration.ha.node_name or socket.gethostname(),
            core_uuid=core_uuid(),
            started=time.time(),
            # Without a peer link there may still be another node at the same store: only the lease says who acts.
            standalone=options.standalone or not configuration.ha.configured,
        )
        log.info("node %s starts in %s (pid %d)", identity.node, run_dir, os.getpid())
        supervisor = Supervisor(
            configuration,
            identity,
            run_dir,
            settings=settings,
            entry_points=entry_points or EntryPoints(),
            reload=functools.partial(read, patient=False),
        )
        try:
            return supervisor.run()
        except OSError as error:
            raise Unusable(f"cannot listen: {error}") from error
        finally:
            logging.shutdown()


def _begin_debugging(log_level: int, tracelevel: str) -> None:
    """The first time by the environment alone: reading the configuration may ask a STUN server."""
    debug.begin(log_level, tracelevel, presence_on=False, sla_on=False, environment=os.environ)


def _loaded(read: functools.partial[Configuration]) -> Configuration:
    try:
        return read()
    except ConfigurationError as error:
        for complaint in error.complaints:
            print(_line(complaint), file=sys.stderr)
        raise Unusable("the configuration cannot be used") from error


def _settings(configuration: Configuration, *, standalone: bool) -> HaSettings:
    try:
        return HaSettings.read(configuration.ha, standalone=standalone)
    except Unsafe as error:
        raise Unusable(f"ha.conf: {error}") from error


def _warn(configuration: Configuration) -> None:
    for complaint in configuration.warnings:
        log.warning("%s", complaint)


@contextlib.contextmanager
def _locked(run_dir: Path) -> Iterator[TextIO]:
    """Make the run directory ours alone, by a lock that ends with this process."""
    pid_file = run_dir / "sofia-node.pid"
    try:
        for name in ("workers", "bus", "journal", "log", "db"):
            (run_dir / name).mkdir(parents=True, exist_ok=True)
        opened = pid_file.open("a+")
    except OSError as error:
        raise Unusable(f"the run directory {run_dir} cannot be used: {error.strerror}") from error
    with opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            opened.seek(0)
            pid = opened.read().strip()
            raise Unusable(f"another node runs in {run_dir} (pid {pid or 'unknown'})") from None
        opened.truncate(0)
        opened.write(f"{os.getpid()}\n")
        opened.flush()
        try:
            yield opened
        finally:
            pid_file.unlink(missing_ok=True)


def _check_paths(run_dir: Path, configuration: Configuration) -> None:
    """A Unix socket's path has a limit, and a long one fails late and darkly."""
    longest = max([len(name) for name in configuration.profiles], default=0) + len("workers/.00") + 1
    length = len(os.fsencode(run_dir)) + 1 + max(longest, len("control"))
    if length > LONGEST_PATH:
        raise Unusable(
            f"the run directory {run_dir} is too long by {length - LONGEST_PATH} bytes: paths of its Unix sockets may "
            f"have {LONGEST_PATH}"
        )


def _overrides(items: Sequence[str]) -> dict[str, str]:
    overrides = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise Unusable(f"--set wants name=value, not {item!r}")
        overrides[name] = value
    return overrides


# ---- check ---------------------------------------------------------------------------------------------------------


def run_check(options: argparse.Namespace) -> int:
    """Print every complaint, then one line that sums up."""
    overrides = from_environment(options.set_from_environment, os.environ) | _overrides(options.set)
    complaints = check(options.conf, overrides, allow_exec=options.allow_exec)
    if not any(complaint.severity == "error" for complaint in complaints):
        complaints += _unsafe(options, overrides)
    for complaint in complaints:
        print(_line(complaint))
    errors = sum(complaint.severity == "error" for complaint in complaints)
    print(f"{options.conf}: {_counted(errors, 'error')}, {_counted(len(complaints) - errors, 'warning')}")
    return 1 if errors else 0


def _unsafe(options: argparse.Namespace, overrides: dict[str, str]) -> list[Complaint]:
    """What only the supervisor's settings refuse: times that are each right, but not together."""
    configuration = load(options.conf, overrides, allow_exec=options.allow_exec)
    try:
        HaSettings.read(configuration.ha)
    except Unsafe as error:
        found = sorted(options.conf.rglob("ha.conf.xml"))
        return [Complaint(found[0] if found else options.conf, 1, str(error))]
    return []


def _line(complaint: Complaint) -> str:
    return str(complaint) if complaint.severity == "error" else f"{complaint} (warning)"


def _counted(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


# ---- the command line ----------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sofia-node", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar=f"run | check | {' | '.join(orders.VERBS)} | store")
    configured = argparse.ArgumentParser(add_help=False)
    configured.add_argument("--conf", type=Path, required=True, help="directory of freeswitch.xml")
    configured.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a preprocessor variable")
    configured.add_argument("--set-from-environment", **ENVIRONMENT)
    configured.add_argument("--allow-exec", action="store_true", help="let X-PRE-PROCESS run commands")

    verb = verbs.add_parser("run", parents=[configured], help="run a node in the foreground")
    verb.add_argument("--run-dir", type=Path, required=True, help="directory of its sockets, journal and log")
    verb.add_argument("--node", default="", help="its name, which its peer must not have")
    verb.add_argument("--standalone", action="store_true", help="without a peer: active at once")
    verb.set_defaults(run=run)
    verb = verbs.add_parser("check", parents=[configured], help="say all that is wrong with a configuration")
    verb.set_defaults(run=run_check)
    orders.add_to(verbs)
    store_verbs.add_to(verbs)
    return parser


if __name__ == "__main__":
    sys.exit(main())
