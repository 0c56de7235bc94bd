"""A loop whose clock a test can put forward: an hour of a session takes no time, sockets stay real."""

from __future__ import annotations

import asyncio


class LeapingLoop(asyncio.SelectorEventLoop):
    """Its time is the real one, and what it was put forward."""

    def __init__(self) -> None:
        super().__init__()
        self.ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def ahead() -> float:
    """How far the running loop was put forward; 0 for an ordinary one."""
    loop = asyncio.get_running_loop()
    return loop.ahead if isinstance(loop, LeapingLoop) else 0.0


async def leap(seconds: float, step: float = 0.1) -> None:
    """Let time pass in steps, with a moment in each for what it sets off. Nobody may wait under a limit meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, LeapingLoop), "a clock that cannot be put forward"
    end = loop.time() + seconds
    while (left := end - loop.time()) > 0:
        loop.ahead += min(step, left)
        await asyncio.sleep(0.002)
