"""Reading the configuration again, beside the loop: a large directory takes longer than a lease may go unrenewed."""

from __future__ import annotations

import gc
import logging
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from ha.loop import Loop
from node.config import Complaint, Configuration, ConfigurationError

log = logging.getLogger(__name__)

Read = Configuration | ConfigurationError


class Reading:
    """One reading at a time, each in a thread of its own; who asks meanwhile gets the one after.

    Workers may be forked while it runs: it imports nothing, asks no name server and loads no OpenSSL, so it holds no lock
    that a child would find taken for ever. (Those of logging and of the allocator are seen to by the fork itself.)
    """

    def __init__(self, loop: Loop, read: Callable[[], Configuration]) -> None:
        self._loop, self._read = loop, read
        self._asked: list[Callable[[Read], None]] = []
        self._serving: list[Callable[[Read], None]] = []
        self._result: Read | None = None
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        loop.watch(self._ours, self._on_done)

    def begin(self, then: Callable[[Read], None]) -> None:
        """Read what is on the disk now; `then` gets it, or what is wrong with it, never before `begin` returns."""
        self._asked.append(then)
        self._start()

    def close(self) -> None:
        """What is still being read is for nobody any more."""
        self._loop.forget(self._ours)
        self._ours.close()
        if not self._serving:
            self._theirs.close()

    def _start(self) -> None:
        if self._serving or not self._asked:
            return
        self._serving, self._asked = self._asked, []
        threading.Thread(target=self._run, name="reading", daemon=True).start()

    def _run(self) -> None:
        """In the thread. A collection of so much that is only being made would hold up the loop for half a second."""
        gc.disable()
        try:
            self._result = self._read()
        except ConfigurationError as error:
            self._result = error
        except Exception as error:
            log.exception("reading the configuration broke")
            self._result = ConfigurationError([Complaint(Path(), 0, str(error))])
        finally:
            gc.enable()
            try:
                self._theirs.send(b".")
            except OSError:
                self._theirs.close()

    def _on_done(self) -> None:
        self._ours.recv(16)
        result, self._result = self._result, None
        serving, self._serving = self._serving, []
        assert result is not None, "told when it is there"
        try:
            for then in serving:
                then(result)
        finally:
            # Only now: the next one is compared with what has been taken over, and nobody is forked for this one any more.
            self._start()
