"""Stores under a running node, and all that can befall them: each fault by name, with its beginning and its end."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.database import Database
from tests.support.mariadb import mariadb
from tests.support.postgres import postgres
from tests.support.redis import RedisServer
from tests.support.tcpproxy import TcpProxy

Fault = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class Victim:
    """A store as the node reaches it, and what can be done to it for the length of a `with`."""

    dsn: str
    direct: str
    "The same for the test itself, past what is between the node and it."
    faults: dict[str, Fault]
    proxy: TcpProxy | None = None
    "What is between the node and it."


@contextmanager
def _around(begin: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    begin()
    try:
        yield
    finally:
        end()


def _network(proxy: TcpProxy) -> dict[str, Fault]:
    return {
        "cut off": lambda: _around(proxy.cut, proxy.restore),
        "answers garbage": lambda: _around(proxy.garbage, proxy.restore),
        "packets vanish": lambda: _around(proxy.freeze, proxy.restore),
    }


@contextmanager
def redis_victim(directory: Path) -> Iterator[Victim]:
    server = RedisServer(directory / "redis")
    server.start()

    def fill() -> None:
        server.configure(maxmemory="1mb", maxmemory_policy="noeviction")

    def become(*of: str) -> Callable[[], None]:
        def order() -> None:
            with server.client() as client:
                client.replicaof(*of)

        return order

    try:
        with TcpProxy(server.address) as proxy:
            yield Victim(
                f"redis://127.0.0.1:{proxy.port}/0",
                server.dsn,
                {
                    "killed": lambda: _around(server.kill, server.start),
                    "frozen": lambda: _around(server.freeze, server.thaw),
                    **_network(proxy),
                    "read-only": lambda: _around(become("127.0.0.1", "1"), become("no", "one")),
                    "full": lambda: _around(fill, lambda: server.configure(maxmemory="0")),
                },
                proxy,
            )
    finally:
        server.stop()


@contextmanager
def postgres_victim(directory: Path) -> Iterator[Victim]:
    server = postgres()
    with server.fresh() as name, TcpProxy(("127.0.0.1", server.port)) as proxy:

        def read_only(wanted: str) -> None:
            server.query(f"ALTER SYSTEM SET default_transaction_read_only = {wanted}")
            server.query("SELECT pg_reload_conf()")

        yield Victim(
            server.dsn(name, port=proxy.port),
            server.dsn(name),
            _server(server)
            | _network(proxy)
            | {"read-only": lambda: _around(lambda: read_only("on"), lambda: read_only("off"))},
        )


@contextmanager
def mariadb_victim(directory: Path) -> Iterator[Victim]:
    server = mariadb()
    with server.fresh() as name, TcpProxy(("127.0.0.1", server.port)) as proxy:
        yield Victim(server.dsn(name, port=proxy.port), server.dsn(name), _server(server) | _network(proxy))


def _server(server: Database) -> dict[str, Fault]:
    return {
        "killed": lambda: _around(server.kill, server.start),
        "frozen": lambda: _around(server.freeze, server.thaw),
    }


@contextmanager
def sqlite_victim(directory: Path) -> Iterator[Victim]:
    path = directory / "core.db"

    @contextmanager
    def locked() -> Iterator[None]:
        holder = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        holder.execute("PRAGMA busy_timeout = 20000")
        holder.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            holder.execute("ROLLBACK")
            holder.close()

    def immutable(sign: str) -> None:
        """No process may write to the files any more, not even those that have them open."""
        files = [str(file) for file in (path, Path(f"{path}-wal")) if file.exists()]
        subprocess.run(["chattr", f"{sign}i", *files], check=True)

    dsn = f"sqlite://{path}"
    yield Victim(
        dsn, dsn, {"locked": locked, "read-only": lambda: _around(lambda: immutable("+"), lambda: immutable("-"))}
    )


@contextmanager
def disk_victim(directory: Path) -> Iterator[Victim]:
    """SQLite on a file system of its own, which can be full; the node's run directory is on it too."""
    place = directory / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], check=True)
    filler = place / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(os.urandom(1 << 16))

    try:
        dsn = f"sqlite://{place / 'core.db'}"
        yield Victim(dsn, dsn, {"full": lambda: _around(fill, filler.unlink)})
    finally:
        subprocess.run(["umount", "-l", str(place)], check=False)


VICTIMS: dict[str, Callable[[Path], AbstractContextManager[Victim]]] = {
    "redis": redis_victim,
    "postgres": postgres_victim,
    "mariadb": mariadb_victim,
    "sqlite": sqlite_victim,
    "disk": disk_victim,
}
NETWORK = ("cut off", "answers garbage", "packets vanish")
FAULTS = {
    "redis": ("killed", "frozen", *NETWORK, "read-only", "full"),
    "postgres": ("killed", "frozen", *NETWORK, "read-only"),
    "mariadb": ("killed", "frozen", *NETWORK),
    "sqlite": ("locked", "read-only"),
    "disk": ("full",),
}
"What befalls each of them."
