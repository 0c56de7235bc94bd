"""Memory per held call: what all processes of a node that was fresh before grow by while so many calls are up.

Counted is proportional memory, so a page that processes share counts once. It grows evenly (1000 calls need twice what
500 need), and does not shrink when the transactions of the calls' beginnings end: Python keeps what it once had.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.bench import cpu
from tests.bench.call import new_callee, new_caller, register_callee, run_calls
from tests.bench.figures import Figure
from tests.bench.node import measured_node
from tests.support.node import STRETCH, Node, until

WARM_UP, HELD, RATE = 50, 500, 100
TALK = 30.0 * STRETCH
"Seconds each caller would stay: longer than it takes until all are up."


def measure(directory: Path) -> list[Figure]:
    with measured_node(directory) as node:
        server = (node.settings["sip_ip"], 5060)
        register_callee(server)
        run_calls(server, WARM_UP, RATE, "uac_hangs_up")
        before = _memory(node)
        grown = _memory_with_calls(node, server)
        grown.subtract(before)
    shares = {kind: size / HELD / 1024 for kind, size in grown.items()}
    note = f"{HELD} calls of two legs: " + ", ".join(f"{kind} {size:.1f}" for kind, size in sorted(shares.items()))
    return [
        Figure("call_memory", "KiB per held call", sum(shares.values()), note=f"{note}; kernel's buffers not counted")
    ]


def _memory_with_calls(node: Node, server: tuple[str, int]) -> Counter[str]:
    callee = new_callee(server, HELD, "uas_is_hung_up")
    caller = new_caller(server, HELD, RATE, "uac_hangs_up", pause=TALK)
    try:
        until(lambda: _legs(node) == 2 * HELD, 20, "the calls to be up", node)
        return _memory(node)
    finally:
        caller.stop()
        callee.stop()


def _legs(node: Node) -> int:
    return int(node.api("show channels count").split()[0])


def _memory(node: Node) -> Counter[str]:
    """Bytes, by the kind of process."""
    assert node.process is not None
    children = node.status()["children"]
    assert isinstance(children, list)
    kinds = {int(child["pid"]): str(child["kind"]) for child in children} | {node.process.pid: "supervisor"}
    sizes: Counter[str] = Counter()
    for pid in cpu.family(node.process.pid):
        sizes[kinds.get(pid, "other")] += cpu.resident(pid)
    return sizes
