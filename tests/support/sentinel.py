"""A primary, its replicas and the sentinels that watch them: a Redis that fails over by itself."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import redis

from tests.support.redis import LIMIT, RedisServer, wait_until

NAME = "sofia"

FORMED = 3 * LIMIT
"Seconds until the sentinels know each other, at most."


class Sentinel(RedisServer):
    def __init__(self, directory: Path, primary: RedisServer, *, quorum: int, down_after: int) -> None:
        super().__init__(directory)
        self.options = {
            "sentinel monitor": f"{NAME} 127.0.0.1 {primary.port} {quorum}",
            "sentinel down-after-milliseconds": f"{NAME} {down_after}",
            "sentinel failover-timeout": f"{NAME} 3000",
            "sentinel parallel-syncs": f"{NAME} 1",
        }

    @property
    def arguments(self) -> tuple[str, ...]:
        return ("--sentinel",)

    def knows(self) -> tuple[int, int]:
        """How many replicas and other sentinels it knows."""
        with self.client() as client:
            state = client.sentinel_master(NAME)
            return int(state["num-slaves"]), int(state["num-other-sentinels"])

    def primary(self) -> int:
        """The port of the server it takes for the primary."""
        with self.client() as client:
            return int(client.sentinel_get_master_addr_by_name(NAME)[1])


class Guarded:
    """So many servers, the first of them the primary, under so many sentinels."""

    def __init__(self, directory: Path, *, servers: int = 2, sentinels: int = 3, down_after: int = 1000) -> None:
        self.servers = [RedisServer(directory / f"redis-{n}", repl_diskless_sync_delay="0") for n in range(servers)]
        first = self.servers[0]
        for server in self.servers[1:]:
            server.options["replicaof"] = f"127.0.0.1 {first.port}"
        self.sentinels = [
            Sentinel(directory / f"sentinel-{n}", first, quorum=sentinels // 2 + 1, down_after=down_after)
            for n in range(sentinels)
        ]

    @property
    def dsn(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{NAME}/0"

    @property
    def primary(self) -> RedisServer:
        port = self.sentinels[0].primary()
        return next(server for server in self.servers if server.port == port)

    def start(self) -> None:
        for server in (*self.servers, *self.sentinels):
            server.start()
        wait_until(self._formed, "the sentinels know each other and the replicas", FORMED)

    def stop(self) -> None:
        for server in (*self.sentinels, *self.servers):
            server.stop()

    def wait_for_another(self, than: RedisServer) -> RedisServer:
        """Until the sentinels have made another server the primary."""

        def moved() -> bool:
            with suppress(redis.exceptions.RedisError):
                return all(sentinel.primary() != than.port for sentinel in self.sentinels) and self._is_primary()
            return False

        wait_until(moved, "another primary", FORMED)
        return self.primary

    def _is_primary(self) -> bool:
        with self.primary.client() as client:
            return client.info("replication")["role"] == "master"

    def _formed(self) -> bool:
        wanted = len(self.servers) - 1, len(self.sentinels) - 1
        with suppress(redis.exceptions.RedisError):
            return all(sentinel.knows() == wanted for sentinel in self.sentinels) and self._replicating()
        return False

    def _replicating(self) -> bool:
        return all(server.details("replication").get("master_link_status") == "up" for server in self.servers[1:])
