"""`sofia-node store`: look at a store, bring it up to date, move everything to another one, replay what is left.

A store is given as a DSN, as `@file` (a file that holds the DSN, which then appears in no list of processes), or left out
where `--conf` names a configuration that has one.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ha.settings import ENVIRONMENT, from_environment
from node.config import ConfigurationError
from node.config.load import load
from store.errors import StoreError
from store.interface import Description, Factory, Outcome, Put, Store, opened
from store.journal import stems
from store.orphans import give
from store.records import Registration

if TYPE_CHECKING:
    from store.records import CallRecord

LOT = 200
"Records that are copied in one commit."
LOOKS = 20
"Times that a store is asked for the time, to see how long it takes."
FAR_OFF = 1.0
"Seconds of difference between clocks that are worth a word."


class Unsuitable(Exception):
    """It cannot be done; the text says why in one sentence."""


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb and its parts to those of the command line."""
    store = verbs.add_parser("store", help="look at a store, bring it up to date, move to another one")
    parts = store.add_subparsers(required=True, metavar="check | migrate | copy | replay")
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("dsn", nargs="?", default="", help="a DSN, or @file that holds it; else the configuration's")
    one.add_argument("--conf", type=Path, help="directory of freeswitch.xml")
    one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a preprocessor variable")
    one.add_argument("--set-from-environment", **ENVIRONMENT)
    one.add_argument("--run-dir", type=Path, help="where a store without a path lies: <run-dir>/db")

    part = parts.add_parser("check", parents=[one], help="connect, and say how it stands")
    part.set_defaults(run=_run(check))
    part = parts.add_parser("migrate", parents=[one], help="bring its tables up to date, as a node does when it starts")
    part.add_argument("--dry-run", action="store_true", help="only say what would be done")
    part.set_defaults(run=_run(migrate))
    part = parts.add_parser("copy", help="give another store all records, epochs and secrets of one")
    part.add_argument("source", metavar="FROM", help="a DSN, or @file that holds it")
    part.add_argument("target", metavar="TO", help="the same")
    part.add_argument("--run-dir", type=Path, help="where a store without a path lies: <run-dir>/db")
    part.add_argument("--live", action="store_true", help="even while a node is active on either of them")
    part.set_defaults(run=_run(copy))
    part = parts.add_parser(
        "replay", parents=[one], help="give it what the journals of this host hold and nobody replays"
    )
    part.set_defaults(run=_run(replay))


def _run(verb: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        try:
            return verb(options)
        except (StoreError, Unsuitable) as error:
            print(f"sofia-node: store: {error}", file=sys.stderr)
            return 1

    return run


# ---- check, migrate ------------------------------------------------------------------------------------------------


def check(options: argparse.Namespace) -> int:
    """Exit status 0: a node can work with it as it is."""
    factory = _factory(_dsn(options), options.run_dir)
    described = factory().describe()
    print(described.server)
    print(f"  schema   {_schema(described)}")
    if described.usable and described.version >= described.wanted:
        with opened(factory) as store:
            _show(store)
    for remark in described.remarks:
        print(f"  ! {remark}")
    return 0 if described.usable else 1


def _show(store: Store) -> None:
    before = time.time()
    off = store.clock() - (before + time.time()) / 2
    ahead = "ahead of" if off >= 0 else "behind"
    took = sorted(_timed(store.clock) for _ in range(LOOKS))
    lease = store.read_lease()
    calls = store.call_slots()
    print(f"  latency  {statistics.median(took) * 1000:.2f} ms, at worst {took[-1] * 1000:.2f} ms, of {LOOKS}")
    print(f"  clock    {abs(off):.3f} s {ahead} this host's")
    print(f"  holds    {len(store.registrations())} registrations, {sum(calls.values())} live calls")
    if lease is None:
        print("  lease    nobody's")
    else:
        left = lease.until - lease.now
        state = f"{left:.1f} s left" if left > 0 else f"ended {-left:.0f} s ago"
        print(f"  lease    {lease.holder}, epoch {lease.epoch}, {state}")
    if abs(off) > FAR_OFF:
        print("  ! the clocks differ: expiries go by the store's, logs by this host's")


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _schema(described: Description) -> str:
    if described.version == described.wanted:
        return f"version {described.version}, as this release works with"
    if not described.version:
        return f"none yet: a node that starts makes version {described.wanted}"
    if described.version > described.wanted:
        can = "goes on with it" if described.usable else "cannot work with it"
        return f"version {described.version}; this release knows {described.wanted} and {can}"
    return f"version {described.version}: a node that starts brings it to {described.wanted}"


def migrate(options: argparse.Namespace) -> int:
    factory = _factory(_dsn(options), options.run_dir)
    described = factory().describe()
    if described.usable and described.version >= described.wanted:
        print(f"{described.server}: {_schema(described)}, nothing to do")
        return 0
    if not described.usable:
        raise Unsuitable(f"{described.server}: {_schema(described)}")
    for statement in described.steps:
        print(f"{statement};")
    if not options.dry_run:
        with opened(factory):
            print(f"{described.server}: brought to version {described.wanted}")
    return 0


# ---- copy ----------------------------------------------------------------------------------------------------------


def copy(options: argparse.Namespace) -> int:
    """Records keep owner, epoch and version: what the target has in a newer version stays, so it may be done twice."""
    source = _factory(_named(options.source), options.run_dir)
    target = _factory(_named(options.target), options.run_dir)
    if source().describe().version == 0:
        raise Unsuitable("FROM holds nothing: no node has ever used it")
    with opened(source) as old, opened(target) as new:
        for name, store in (("FROM", old), ("TO", new)):
            lease = store.read_lease()
            if lease is not None and lease.until > lease.now and not options.live:
                raise Unsuitable(f"node {lease.holder} is active on {name}: stop it first, or say --live")
        heritage = old.heritage()
        new.inherit(heritage)
        records: list[Registration | CallRecord] = [*old.registrations(), *old.calls()]
        outcomes = _copied(records, new)
        # Once more: epochs that were given out while records went over.
        new.inherit(old.heritage())
    counts = {outcome: outcomes.count(outcome) for outcome in Outcome}
    kinds = sum(isinstance(record, Registration) for record in records)
    print(f"{kinds} registrations and {len(records) - kinds} calls: {counts[Outcome.STORED]} copied", end="")
    print(f", {counts[Outcome.STALE]} there already" if counts[Outcome.STALE] else "", end="")
    print(f"; epochs go on above {heritage.epoch}, {len(heritage.secrets)} secrets")
    lost = counts[Outcome.FENCED] + counts[Outcome.AT_RISK]
    if lost:
        raise Unsuitable(f"{lost} records were refused: TO has been used under newer epochs")
    return 0


def _copied(records: Sequence[Registration | CallRecord], store: Store) -> list[Outcome]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("copying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    outcomes: list[Outcome] = []
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("copying", total=len(records))
        for start in range(0, len(records), LOT):
            lot = records[start : start + LOT]
            outcomes += store.commit([Put(record) for record in lot])
            progress.advance(task, len(lot))
    return outcomes


# ---- replay --------------------------------------------------------------------------------------------------------


def replay(options: argparse.Namespace) -> int:
    """For a host that died while the store was gone, and is back beside a new active."""
    if options.run_dir is None:
        raise Unsuitable("whose journals? Give --run-dir, the run directory of the node that left them")
    factory = _factory(_dsn(options), options.run_dir)
    journals = options.run_dir / "journal"
    served = [stem.name for stem in stems(journals) if _is_served(options.run_dir, stem.name)]
    for token in served:
        print(f"{token}: left to its worker, which is alive")
    with opened(factory) as store:
        given = give(store, journals, served=served)
    print(
        f"{given.stored} writes stored, {given.stale} it had already, "
        f"{given.refused} refused: another node has ruled since, and knows better"
    )
    if given.calls:
        print(
            f"  {given.calls} live calls among them that only this host knew of. Who is active takes one up when a phone "
            "of it says something, all of them with `sofia recover`"
        )
    for path, torn in given.torn:
        print(f"  ! {torn} bytes at the end of a segment could not be read: it is kept as {path}")
    return 0


def _is_served(run_dir: Path, token: str) -> bool:
    """Does a worker listen at its place on the bus?"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(str(run_dir / "bus" / token))
        except OSError:
            return False
    return True


# ---- which store ---------------------------------------------------------------------------------------------------


def _dsn(options: argparse.Namespace) -> str:
    if options.dsn:
        return _named(options.dsn)
    if options.conf is None:
        raise Unsuitable("which one? Give a DSN, or --conf with the directory of a configuration")
    overrides = from_environment(options.set_from_environment, os.environ)
    overrides |= dict(item.partition("=")[::2] for item in options.set)
    try:
        return load(options.conf, overrides).switch.database
    except ConfigurationError as error:
        raise Unsuitable(f"the configuration cannot be used: {error}") from error


def _named(text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text().strip()
    except OSError as error:
        raise Unsuitable(f"{text[1:]} cannot be read: {error.strerror}") from error


def _factory(dsn: str, run_dir: Path | None) -> Factory:
    from store.backends import open_store

    return open_store(dsn, db_dir=run_dir / "db" if run_dir is not None else None)
