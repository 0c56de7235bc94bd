"""The long run: a million mutants within this process, and the running node. `make fuzz ARGS="--seed 7 --mutants 100000"`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz import hunt


def main() -> int:
    words = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    words.add_argument(
        "--seed",
        type=int,
        default=int(time.time()) % 1_000_000,
        help="another seed, another series; default: by the clock",
    )
    words.add_argument("--mutants", type=int, default=1_080_000, help="within this process, over all targets")
    words.add_argument("--node", type=int, default=40_000, help="sent to a running node, in dialogs")
    given = words.parse_args()
    print(f"seed {given.seed}", flush=True)
    total = whole = 0
    for name, (target, material) in hunt.hunts().items():
        try:
            figures = hunt.hunt(name, target, material, seed=given.seed, mutants=given.mutants // len(hunt.hunts()))
        except hunt.Found as found:
            path = Path(tempfile.gettempdir()) / f"fuzz-{name}-{given.seed}.bin"
            path.write_bytes(found.data)
            print(
                f"FOUND {found}\n{type(found.__cause__).__name__}: {found.__cause__}; all of it in {path}", flush=True
            )
            total += 1
            continue
        whole += figures.mutants
        print(figures, flush=True)
    print(f"{whole} mutants within this process, {total} finds", flush=True)
    return 1 if total or (given.node and not _node(given.seed, given.node)) else 0


def _node(seed: int, mutants: int) -> bool:
    from tests.fuzz import dialogs

    with tempfile.TemporaryDirectory(prefix="sofia-fuzz-") as folder:
        figures = dialogs.run(Path(folder), seed=seed, mutants=mutants)
        print(figures, flush=True)
        if not figures.well:
            kept = shutil.copytree(
                Path(folder) / "run" / "log", tempfile.mkdtemp(prefix="sofia-fuzz-log-"), dirs_exist_ok=True
            )
            print(f"its log is kept in {kept}", flush=True)
    return figures.well


if __name__ == "__main__":
    sys.exit(main())
