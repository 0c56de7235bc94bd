"""Processes that set off at the same moment."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

from tests.store.sql import processes


def together(count: int, work: Callable[..., Any], *arguments: Any) -> dict[int, Any]:
    """Run `work` in so many processes that set off at the same moment; the result of each, by its number."""
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(count), context.SimpleQueue()
    workers = [
        context.Process(target=processes.run, args=(work, number, results, start, *arguments))
        for number in range(count)
    ]
    for worker in workers:
        worker.start()
    got = dict(results.get() for _ in workers)
    for number, worker in enumerate(workers):
        worker.join()
        assert worker.exitcode == 0, got[number]
    return got
