"""Memory per held call: what all processes of a node that was fresh before grow by while so many calls are up."""

from __future__ import annotations

from pathlib import Path

from tests.bench import cpu
from tests.bench.call import new_callee, new_caller, register_callee, run_calls
from tests.bench.figures import Figure
from tests.bench.node import measured_node
from tests.support.node import Node, until

WARM_UP, HELD, RATE = 50, 500, 100
TALK = 20.0
"Seconds each caller stays: longer than it takes until all are up."


def measure(directory: Path) -> list[Figure]:
    with measured_node(directory) as node:
        server = (node.settings["sip_ip"], 5060)
        register_callee(server)
        run_calls(server, WARM_UP, RATE, "uac_hangs_up")
        before = _memory(node)
        held = _memory_with_calls(node, server)
    note = f"{HELD} calls of two legs, their transactions still alive; sockets' buffers, the kernel's, not counted"
    return [Figure("call_memory", "KiB per held call, all processes", (held - before) / HELD / 1024, note=note)]


def _memory_with_calls(node: Node, server: tuple[str, int]) -> float:
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


def _memory(node: Node) -> float:
    assert node.process is not None
    return float(sum(cpu.resident(pid) for pid in cpu.family(node.process.pid)))
