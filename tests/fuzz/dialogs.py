"""Valid dialogs with a running node, on every transport, with mutants of each message before it; and clean calls in between.

A mutant may well end the dialog it belongs to, so what becomes of that is not judged, only that every valid request is
answered. The clean calls, of which no mutant knows, must all succeed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.fuzz import streams
from tests.fuzz.agent import Agent, Tally
from tests.fuzz.crowd import Crowd, percentile
from tests.fuzz.effort import Effort
from tests.fuzz.hunt import STALL
from tests.fuzz.scripts import SCRIPTS
from tests.fuzz.wires import UdpAgent
from tests.support.node import STRETCH, Node, loopback_address
from tests.support.open_node import resident, trouble_of, wait_settled

ROUND = 12
"Dialogs between two looks at the node."
GROWTH = 24
"KiB for each dialog and clean call, which are remembered for a minute, and for what mutants make of them."
STREAMS_OF = 4
"Hostile streams after each dialog."


@dataclass(slots=True)
class Figures(Tally):
    """What a run came to."""

    seed: int = 0
    streams: int = 0
    "Of the mutants: those of framing, TLS records and WebSocket frames."
    dialogs: int = 0
    through: int = 0
    "Dialogs that got to their end in spite of everything."
    failed: list[str] = field(default_factory=list)
    "Clean calls that did not succeed."
    clean: int = 0
    probes: list[float] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    replaced: bool = False
    grown: int = 0
    seconds: float = 0.0

    @property
    def well(self) -> bool:
        return not (self.unanswered or self.failed or self.trouble or self.replaced) and self.bounded and self.prompt

    @property
    def bounded(self) -> bool:
        return self.grown < GROWTH * (self.dialogs + self.clean) + 16_384

    @property
    def prompt(self) -> bool:
        """Was OPTIONS answered between the mutants, soon? And did nothing take long, by the worker's own time?"""
        return (
            bool(self.probes)
            and self.longest < STALL
            and percentile(self.probes, 0.5) < 0.1 * STRETCH
            and percentile(self.probes, 0.99) < STRETCH
        )

    @property
    def longest(self) -> float:
        """Seconds of its own time that the worker was not heard of."""
        return self.effort.most if self.effort is not None else 0.0

    def __str__(self) -> str:
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        return (
            f"node          seed {self.seed:<6} {self.mutants:9} mutants, {self.streams} of them of streams, in {self.dialogs} dialogs, {self.through} of them through; "
            f"{self.clean} clean calls, {len(self.failed)} failed; {len(self.unanswered)} unanswered; answers {statuses}; OPTIONS median "
            f"{percentile(self.probes, 0.5) * 1000:.1f} ms, p99 {percentile(self.probes, 0.99) * 1000:.1f} ms; "
            f"longest work {self.longest * 1000:.1f} ms; memory {self.grown:+} KiB; {self.seconds:.0f} s; {len(self.trouble)} lines of trouble{', worker replaced' if self.replaced else ''}"
            + "".join(f"\n  {line[:300]}" for line in (self.unanswered + self.failed + self.trouble)[:10])
        )


def run(folder: Path, *, seed: int, mutants: int, each: int = 6, hostile: int = STREAMS_OF) -> Figures:
    """So many mutants, `each` before every valid message and `hostile` streams after every dialog, against a node of its own."""
    listening = streams.listening_node(folder)
    node = listening.node
    node.start()
    figures = Figures(seed=seed)
    try:
        node.wait_role("active")
        worker = wait_settled(node)
        _talk(listening, figures, worker, mutants=mutants, each=each, hostile=hostile)
        figures.replaced = node.worker_pid("internal#0") != worker
        figures.trouble += trouble_of(node)
    finally:
        node.stop()
    return figures


def _talk(
    listening: streams.Listening, figures: Figures, worker: int, *, mutants: int, each: int, hostile: int
) -> None:
    node, random = listening.node, Random(figures.seed)
    effort = figures.effort = Effort(worker)
    crowd = Crowd(node.sip, loopback_address(), effort=effort)
    agents: list[Agent] = [UdpAgent(node.sip, figures, each, figures.seed)]
    agents += [listening.agent(transport, figures, each, figures.seed) for transport in streams.TRANSPORTS]
    enemy = streams.Enemy(listening, figures.seed)
    before, begun = 0, time.monotonic()
    try:
        while figures.mutants < mutants:
            for _ in range(ROUND):
                agent = random.choice((agents[0], *agents))
                figures.dialogs += 1
                figures.through += random.choice(SCRIPTS)(agent, random)
                _provoke(enemy, random.choice(agents), figures, hostile)
                crowd.call(f"after dialog {figures.dialogs}")
                crowd.finish()
            if not before and figures.mutants > mutants // 4:
                before = resident(worker)
            _look(node, figures)
            effort.heard()
    finally:
        figures.clean, figures.probes = len(crowd.done), crowd.probes
        figures.failed = [f"{call.name} {call.state} {call.statuses}" for call in crowd.failed]
        figures.seconds = time.monotonic() - begun
        for each_one in (crowd, *agents):
            each_one.close()
    figures.grown = resident(worker) - before


def _provoke(enemy: streams.Enemy, witness: Agent, figures: Figures, hostile: int) -> None:
    """Streams that are framed wrongly, and somebody else who must be answered after them."""
    for _ in range(hostile):
        figures.mutants += 1
        figures.streams += 1
        figures.unanswered += enemy.attack()
    if hostile:
        witness.ask(witness.ping())


def _look(node: Node, figures: Figures) -> None:
    """What mutants have called themselves is shown too."""
    for command in ("show channels", "show registrations", "hupall"):
        answer = node.api(command)
        figures.trouble += [f"{command}: {answer}"] if answer.startswith("-ERR") else []
