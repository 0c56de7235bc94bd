"""Measure, say so while it lasts, print the table and write the file: python -m tests.bench [--only PART] [--output FILE]."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench import call, durable, memory, message, recovery, register, rtp, stored, worker
from tests.bench.figures import Figure, table, write

PARTS: dict[str, Callable[[Path], list[Figure]]] = {
    "message": message.measure,
    "worker": worker.measure,
    "register": register.measure,
    "durable": durable.measure,
    "stored": stored.measure,
    "call": call.measure,
    "call_memory": memory.measure,
    "rtp_packet": rtp.measure,
    "recovered_leg": recovery.measure,
}

EXCERPT = 3000
"Characters of an error that are shown: a node that fails can have said much."


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="What a unit of work costs.")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("results.json"), metavar="FILE")
    options = parser.parse_args(arguments)
    figures, broken = measure(options.only or list(PARTS))
    print(f"\n{table(figures)}\n")
    write(figures, options.output)
    for name, why in broken.items():
        print(f"not measured: {name}: {why}", file=sys.stderr)
    return 1 if broken else 0


def measure(names: Sequence[str]) -> tuple[list[Figure], dict[str, str]]:
    """The figures of these parts, and why there are none of others: one that breaks does not keep the rest from us."""
    figures: list[Figure] = []
    broken: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name} ...", end=" ", flush=True)
        began = time.monotonic()
        try:
            with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
                found = PARTS[name](Path(directory))
        except Exception as error:
            broken[name] = f"{type(error).__name__}: {error}"[:EXCERPT]
            print("failed", flush=True)
            continue
        print(f"{', '.join(map(_short, found))} ({time.monotonic() - began:.0f} s)", flush=True)
        figures += found
    return figures, broken


def _short(figure: Figure) -> str:
    return f"{figure.name} {figure.ours:.2f}" + (f" ({figure.ratio}x)" if figure.ratio is not None else "")


if __name__ == "__main__":
    sys.exit(main())
