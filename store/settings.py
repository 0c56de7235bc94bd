"""Settings of the store's parts, with the values that hold unless an operator says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerSettings:
    """When to stop asking a store that does not answer, and how to try again."""

    failures: int = 2
    "Failures in a row after which it opens."

    first_pause: float = 0.25
    "Seconds until the first probe."

    longest_pause: float = 5.0
    "Seconds between probes at most; each pause is twice the last one, give or take the spread."

    spread: float = 0.2
    "Share of a pause that is left to chance, so that the processes of a node do not probe in step."


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterSettings:
    """How the writer collects, how long others wait for it, and how long it waits for the store."""

    window: float = 0.005
    "Seconds between two commits, unless there is a full batch. The first write after a rest never waits."

    wide_window: float = 0.02
    """The same while registrations come in a crowd: each commit costs as much as many writes, here and in the store. Who
    calls is not kept waiting for them."""

    crowd: int = 6
    "Writes in a window that make a crowd."

    batch: int = 64
    "Writes that make a full batch."

    batch_limit: int = 256
    "Writes in one transaction at most, when more have come than a batch."

    queue: int = 20_000
    "Writes that may wait in memory; when there are more, all of them go to the journal."

    deadline: float = 0.2
    "Seconds after which who waits for a write is told that it is at risk."

    detour: float = 0.8
    "Share of the deadline after which what waits goes to the journal: who is told at the deadline has it there."

    hang: float = 2.0
    "Seconds one call to the store may take; then its thread is given up and replaced."

    hung_threads: int = 4
    "Threads that may hang in the store before no more are started until one comes back."

    clock_interval: float = 5.0
    "Seconds between two looks at the store's clock."

    breaker: BreakerSettings = field(default_factory=BreakerSettings)

    def __post_init__(self) -> None:
        if self.deadline > self.hang:
            raise ValueError(
                "the writer's deadline must not be longer than the time after which the store counts as hung"
            )
        if not 0 < self.detour <= 1:
            raise ValueError("the writer's detour must be a share of its deadline")
        if not 0 < self.batch <= self.batch_limit <= self.queue:
            raise ValueError("the writer's batch, batch limit and queue must grow in this order")


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """How much of what could not be committed is kept on the local disk."""

    limit: int = 256 << 20
    "Bytes on disk at most; beyond that the oldest segment is dropped, loudly."

    segment: int = 4 << 20
    "Bytes after which a new segment is begun."

    sync: bool = True
    "Flush to the disk itself soon after each batch, so that it survives a power cut, not only a crash."


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteSettings:
    """How to share one file among the processes of two nodes."""

    wait: float = 1.5
    "Seconds to wait for the file's lock, all tries together."

    synchronous: str = "FULL"
    "FULL: committed means that it survives a power cut. NORMAL: only a crash."

    checkpoint: int = 2000
    "Pages in the write-ahead log after which they are moved into the file."


@dataclass(frozen=True, slots=True, kw_only=True)
class OdbcSettings:
    """How long a database server may take, all in seconds. The writer's deadlines are shorter and its own."""

    connect: int = 2
    "For a connection to be made."

    network: float = 2.0
    "For what was sent to arrive; of MariaDB, also between two pieces of an answer."

    lock: float = 1.5
    "To wait for others who have locked what we want."

    row: float = 0.04
    """Of PostgreSQL: to wait for a row while others write too; then it is tried again while nobody does. It looks for who
    waits crosswise only after a second, and who waits for us has 200 ms."""

    silence: float = 1.0
    "A client may be silent in a transaction: frozen, it must not keep the next owner from its fence."

    statement: float = 30.0
    "For one statement."
