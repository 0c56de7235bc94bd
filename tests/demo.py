"""The demo: a pair on loopback, two phones in a call, the active node killed, the call goes on.

`python -m tests.demo` prints a timeline and ends with one line of figures; `--stay` leaves the pair up instead.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.node import DOMAIN, EVENT_SOCKET_PASSWORD, PASSWORD, Node, Pair, until
from tests.support.phone import Phone

ADDRESS = "127.0.0.50"
BAR = 30


class Timeline:
    """Lines with the seconds since the start, and on a terminal one line that shows the work in hand."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def say(self, text: str, *, at: float | None = None) -> None:
        moment = (time.monotonic() if at is None else at) - self.began
        print(f"{moment:8.3f} s  {text}", flush=True)

    @contextlib.contextmanager
    def working(self, text: str, steps: float) -> Iterator[None]:
        """Show progress towards the usual duration while a step runs."""
        if not sys.stdout.isatty():
            yield
            return
        over = threading.Event()

        def draw() -> None:
            began = time.monotonic()
            while not over.wait(0.1):
                done = min(BAR, int(BAR * (time.monotonic() - began) / steps))
                print(f"\r            {text} [{'#' * done}{'.' * (BAR - done)}]", end="", flush=True)
            print("\r" + " " * (len(text) + BAR + 18) + "\r", end="", flush=True)

        drawing = threading.Thread(target=draw)
        drawing.start()
        try:
            yield
        finally:
            over.set()
            drawing.join()


async def play(pair: Pair, timeline: Timeline) -> dict[str, object]:
    """The story itself; returns the figures of the last line."""
    figures: dict[str, object] = {"registered": 0, "answered": 0, "legs_recovered": 0, "hangup": "failed"}
    async with (
        Phone("1000", PASSWORD, pair.sip, domain=DOMAIN) as alice,
        Phone("1001", PASSWORD, pair.sip, domain=DOMAIN) as bob,
    ):
        for phone in (alice, bob):
            await phone.register()
            figures["registered"] = int(str(figures["registered"])) + 1
            timeline.say(f"phone {phone.user} is registered (digest, stored before the 200)")
        out = await alice.call("1001")
        incoming = await bob.next_line()
        timeline.say("1000 calls 1001: it rings")
        incoming.answer()
        async with asyncio.timeout(10):
            await out.answered.wait()
            await incoming.answered.wait()
        figures["answered"] = 1
        assert out.audio is not None
        assert incoming.audio is not None
        await asyncio.gather(out.audio.heard(50, 10), incoming.audio.heard(50, 10))
        timeline.say("answered; both hear each other (50 numbered packets a second, each way)")
        standby = pair.standby
        killed = pair.active.kill()
        timeline.say(f"the active node is killed: SIGKILL to every process; {standby.name} stands by", at=killed)
        figures["sip_gap_ms"] = round(1000 * await sip_gap(alice, killed))
        timeline.say(f"{standby.name} answers SIP, {figures['sip_gap_ms']} ms after the kill")
        await asyncio.gather(out.audio.heard(50, 10), incoming.audio.heard(50, 10))
        gap = max(line.audio.longest_gap(since=killed - 0.5) for line in (out, incoming) if line.audio)
        figures["audio_gap_ms"] = round(1000 * gap)
        timeline.say(f"both phones hear each other again; the silence was {figures['audio_gap_ms']} ms")
        figures["legs_recovered"] = recovered_legs(standby)
        timeline.say(f"legs recovered by {standby.name}: {figures['legs_recovered']}")
        answer = await out.hangup()
        async with asyncio.timeout(10):
            await incoming.ended.wait()
        if answer.status == 200 and incoming.ended_by == "them":
            figures["hangup"] = "ok"
        timeline.say(f"1000 hangs up: {answer.start}; 1001 gets the BYE")
    return figures


async def sip_gap(phone: Phone, since: float) -> float:
    """Seconds from the kill to the first right answer to a REGISTER sent meanwhile, again and again."""
    attempts: set[asyncio.Task[object]] = set()
    while True:
        attempts.add(asyncio.create_task(phone.register()))
        done, _pending = await asyncio.wait(attempts, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
        if any(task.exception() is None for task in done):
            answered = time.monotonic()
            for task in attempts - done:
                task.cancel()
            return answered - since
        if time.monotonic() - since > 20:
            raise TimeoutError("no node answers SIP")


def recovered_legs(node: Node) -> int:
    """Legs the new active node has revived, once it has gone through all records."""
    until(lambda: len(node.revived()) == 2, 5, "both profiles to have revived their calls", node)
    return sum(count["legs"] for count in node.revived().values())


def usage(pair: Pair) -> str:
    console = f".venv/bin/sofia -P {pair.nodes[0].console_port} -p {EVENT_SOCKET_PASSWORD}"
    return f"""
The pair is up: alpha and beta share {pair.address}, run directories under {pair.directory}.

Point a SIP phone on this machine (UDP or TCP) at it:
    server {pair.address}:5060   domain {DOMAIN}   users 1000 to 1019   password {PASSWORD}
    dial another user, 9196 (echo), 9197 (tone)

What to type next, in another terminal:
    {console} status
    {console} status profile internal reg
    {console} -x "show channels"
    .venv/bin/sofia-node status --run-dir {pair.directory}/alpha
    .venv/bin/sofia-node switchover --run-dir {pair.directory}/alpha
    kill -9 -$(cat {pair.directory}/alpha/sofia-node.pid)     # every process of alpha: beta takes over

Ctrl-C ends both nodes.
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.demo", description=__doc__)
    parser.add_argument("--stay", action="store_true", help="leave the pair up until Ctrl-C")
    options = parser.parse_args()
    # Whoever ends the demo ends its nodes too.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))
    timeline, directory = Timeline(), Path(tempfile.mkdtemp(prefix="sofia-demo-"))
    pair = Pair(directory, address=ADDRESS)
    try:
        with timeline.working("starting two nodes", 4.0):
            pair.start()
        timeline.say(f"alpha is active on {pair.address}:5060, beta stands by, one SQLite store")
        if options.stay:
            print(usage(pair), flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
            return 0
        figures = asyncio.run(play(pair, timeline))
    except Exception as error:
        print(f"demo failed: {type(error).__name__}: {error}", file=sys.stderr)
        print("".join(node.output() for node in pair.nodes), file=sys.stderr)
        return 1
    finally:
        pair.__exit__()
        shutil.rmtree(directory, ignore_errors=True)
    print("demo: " + " ".join(f"{name}={value}" for name, value in in_order(figures).items()))
    passed = figures["registered"] == 2 and figures["legs_recovered"] == 2 and figures["hangup"] == "ok"
    return 0 if passed else 1


def in_order(figures: dict[str, object]) -> dict[str, object]:
    names = ("registered", "answered", "legs_recovered", "sip_gap_ms", "audio_gap_ms", "hangup")
    return {name: figures[name] for name in names}


if __name__ == "__main__":
    sys.exit(main())
