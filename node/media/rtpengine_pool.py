"""The rtpengines that a worker has to do with: those that profiles name, and those that sessions have or may go to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from node.media.ng import Loop, NgClient


class Pool:
    """One client for each engine, by its address."""

    def __init__(self, loop: Loop, on_back: Callable[[NgClient], None]) -> None:
        """`on_back`: an engine answers after it did not."""
        self._loop = loop
        self._on_back = on_back
        self._clients: dict[str, NgClient] = {}

    def __iter__(self) -> Iterator[NgClient]:
        return iter(list(self._clients.values()))

    def __bool__(self) -> bool:
        return bool(self._clients)

    def at(self, address: str) -> NgClient:
        """The engine at this address."""
        client = self._clients.get(address)
        if client is None:
            client = self._clients[address] = NgClient(address, self._loop)
            client.on_back = partial(self._on_back, client)
        return client

    def close(self) -> None:
        """Ask none of them anything any more, whoever wants it."""
        for client in self._clients.values():
            client.close()

    def keep(self, addresses: Iterable[str]) -> None:
        """Ask the others nothing any more."""
        for address in self._clients.keys() - set(addresses):
            self._clients.pop(address).close()
