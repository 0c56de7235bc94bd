"""What a Redis accepted, overheard by MONITOR: it repeats each command that its scripts carry out, in order and with the time.

What lies where is said in `store/redis/scripts.py`; here it is read anew, by nothing of the store's own.
"""

from __future__ import annotations

import ast
import contextlib
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator

import msgspec

Row = tuple[int, float, str, str, str, int, str]
"Number, when, what (lease, call, binding), node, slot, epoch, item."

LINE = re.compile(rb"\+?(\d+\.\d+) \[\d+ (\S+)\] (.*)", re.DOTALL)
WORD = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
HEAD, LENGTH = 40, 6
WITHIN = 20.0


class Overheard:
    """Hears from when it is made until it is closed, or the server is gone."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.rows: list[Row] = []
        self._address, self._holder, self._number = address, "", 0
        self._marks: dict[bytes, threading.Event] = {}
        self._gone = threading.Event()
        self._socket = socket.create_connection(address, timeout=WITHIN)
        self._stream = self._socket.makefile("rb")
        self._socket.sendall(b"MONITOR\r\n")
        assert self._stream.readline() == b"+OK\r\n", "a Redis that lets itself be monitored"
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._listen, name="overheard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._stream.close()
        self._socket.close()

    def caught_up(self) -> float:
        """A moment of the time of day; all that was accepted until then is in `rows`. 0 where the server is gone."""
        mark, moment = secrets.token_hex(8).encode(), time.time()
        self._marks[mark] = heard = threading.Event()
        try:
            with socket.create_connection(self._address, timeout=WITHIN) as asking:
                asking.sendall(b"ECHO " + mark + b"\r\n")
                asking.recv(100)
        except OSError:
            return 0.0
        deadline = time.monotonic() + WITHIN
        while not heard.wait(0.05):
            if self._gone.is_set() or time.monotonic() > deadline:
                return 0.0
        return moment

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := self._stream.readline():
                self.take(line)
        self._gone.set()

    def take(self, line: bytes) -> None:
        """One line of the monitor."""
        found = LINE.match(line)
        if found is None:
            return
        words = [ast.literal_eval("b" + word.decode("ascii")) for word in WORD.findall(found[3])]
        if words[0].upper() == b"ECHO" and words[1] in self._marks:
            self._marks.pop(words[1]).set()
        if found[2] != b"lua":
            return
        for what, node, slot, epoch, item in self._read(words):
            self._number += 1
            self.rows.append((self._number, float(found[1]), what, node, slot, epoch, item))

    def _read(self, words: list[bytes]) -> Iterator[tuple[str, str, str, int, str]]:
        match words:
            case [b"HSET", key, b"holder", holder, *rest] if key.endswith(b":lease"):
                was, self._holder = self._holder, holder.decode()
                epoch = int(rest[1]) if rest[0] == b"epoch" else 0
                yield "lease", self._holder, "", epoch, was
            case [b"SET", key, value, *_]:
                yield from _written(key, value)
            case [b"MSET", *pairs]:
                for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                    yield from _written(key, value)


def _written(key: bytes, value: bytes) -> Iterator[tuple[str, str, str, int, str]]:
    """Of a registration neither node nor slot is known here."""
    _prefix, kind, item = (*key.split(b":", 2), b"", b"")[:3]
    if kind == b"r":
        yield "binding", "", "", int(value[:20]), item.decode(errors="replace")
    elif kind == b"c":
        length = int(value[HEAD : HEAD + LENGTH])
        node, slot, *_ = msgspec.msgpack.decode(value[HEAD + LENGTH : HEAD + LENGTH + length])
        yield "call", node, slot, int(value[:20]), item.decode()
