"""The long run: a million mutants, within this process, in calls in virtual time, and on a running node.

`make fuzz ARGS="--seed 7"`. In slices: `--mutants`, `--calls` and `--node` say how many of each kind, 0 for none of it.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import hunt

GROWTH = 65_536
"KiB that calls in virtual time may leave behind: what is remembered of lately read URIs, Vias and descriptions."


def main() -> int:
    words = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    words.add_argument(
        "--seed",
        type=int,
        default=int(time.time()) % 1_000_000,
        help="another seed, another series; default: by the clock",
    )
    words.add_argument("--mutants", type=int, default=720_000, help="within this process, over all targets")
    words.add_argument("--target", action="append", choices=list(hunt.hunts()), help="of these only these")
    words.add_argument("--calls", type=int, default=300_000, help="in calls in virtual time")
    words.add_argument("--node", type=int, default=40_000, help="sent to a running node, in dialogs and as streams")
    given = words.parse_args()
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # so that no node is left behind
    print(f"seed {given.seed}", flush=True)
    sent, finds = _hunts(given.seed, given.mutants, given.target or list(hunt.hunts())) if given.mutants else (0, 0)
    for part, mutants in ((_calls, given.calls), (_node, given.node)):
        if mutants:
            more, found = part(given.seed, mutants)
            sent, finds = sent + more, finds + found
    print(f"{sent} mutants in all, {finds} finds", flush=True)
    return 1 if finds else 0


def _hunts(seed: int, mutants: int, names: list[str]) -> tuple[int, int]:
    """Mutants and finds."""
    sent = finds = 0
    for name in names:
        target, material = hunt.hunts()[name]
        try:
            figures = hunt.hunt(name, target, material, seed=seed, mutants=mutants // len(names))
        except hunt.Found as found:
            path = Path(tempfile.gettempdir()) / f"fuzz-{name}-{seed}.bin"
            path.write_bytes(found.data)
            cause = f"{type(found.__cause__).__name__}: {found.__cause__}"
            print(f"FOUND {found}\n{cause}; all of it in {path}", flush=True)
            finds += 1
            continue
        sent += figures.mutants
        print(figures, flush=True)
    return sent, finds


def _calls(seed: int, mutants: int) -> tuple[int, int]:
    from tests.fuzz import theatre

    figures = theatre.season(seed=seed, mutants=mutants)
    print(figures, flush=True)
    return figures.mutants, len(figures.finds) + (figures.grown > GROWTH)


def _node(seed: int, mutants: int) -> tuple[int, int]:
    from tests.fuzz import dialogs

    with tempfile.TemporaryDirectory(prefix="sofia-fuzz-") as folder:
        well = False
        try:
            figures = dialogs.run(Path(folder), seed=seed, mutants=mutants)
            well = figures.well
            print(figures, flush=True)
        finally:
            if not well:
                print(f"its log is kept in {_kept(Path(folder) / 'run')}", flush=True)
    return figures.mutants, int(not well)


def _kept(run_dir: Path) -> Path:
    kept = Path(tempfile.mkdtemp(prefix="sofia-fuzz-log-"))
    for path in (run_dir / "output", *(run_dir / "log").glob("*.log")):
        if path.exists():
            shutil.copy(path, kept)
    return kept


if __name__ == "__main__":
    sys.exit(main())
