"""The Redis forms that the contract runs on. Their servers are started when first asked for, and used by all tests."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.redis import RedisServer, Running, SecureRedisServer
from tests.support.sentinel import Guarded
from tests.support.tcpproxy import TcpProxy

_running = Running()
_places: list[tempfile.TemporaryDirectory[str]] = []
atexit.register(_running.close)


def _place(name: str) -> Path:
    _places.append(tempfile.TemporaryDirectory(prefix=f"sofia-{name}-", ignore_cleanup_errors=True))
    return Path(_places[-1].name)


def server() -> RedisServer:
    """The one plain server; who breaks it starts one of his own instead."""
    running: RedisServer = _running.get("plain", lambda: RedisServer(_place("redis")))
    return running


def _emptied(running: RedisServer) -> str:
    with running.client() as client:
        client.flushall()
    return running.dsn


@contextmanager
def plain(directory: Path) -> Iterator[str]:
    yield _emptied(server())


@contextmanager
def secure(directory: Path) -> Iterator[str]:
    yield _emptied(_running.get("secure", lambda: SecureRedisServer(_place("rediss"))))


@contextmanager
def guarded(directory: Path) -> Iterator[str]:
    """Behind Sentinel, and a call counts as stored when the replica has it."""
    running: Guarded = _running.get("guarded", lambda: Guarded(_place("sentinel")))
    _emptied(running.primary)
    yield f"{running.dsn}?wait=1&wait-timeout=5000"


@contextmanager
def distant(directory: Path) -> Iterator[str]:
    """Behind a network that takes a millisecond each way."""
    dsn = _emptied(server())
    with TcpProxy(server().address) as proxy:
        proxy.delay(0.001)
        yield dsn.replace(str(server().port), str(proxy.port))
