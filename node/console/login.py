"""Where the command `sofia` connects to, as whom, and how; and doing it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from node.console.connection import CannotConnect, Connection
from node.console.protocol import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Where to connect, as whom, and how."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    line: str
    "The one command to run; empty: interactive."
    log_level: str
    quiet: bool
    retry: bool
    "Try until somebody listens."
    reconnect: bool
    debug: int
    timeout: float
    "Seconds for an answer; 0: as long as it takes."
    connect_timeout: float
    keys: Mapping[str, str]
    "Commands on function keys: `key_f1`, ..."


async def connect(options: Options, on_message: Callable[[Message], None] = lambda message: None) -> Connection:
    """Connected and logged in. Raises CannotConnect."""
    while True:
        try:
            connection = await Connection.open(
                options.host,
                options.port,
                within=options.connect_timeout,
                on_message=on_message,
                trace=_trace(options),
            )
            break
        except CannotConnect as error:
            if not options.retry:
                raise
            print(f"sofia: {error}; trying again", file=sys.stderr)
            await asyncio.sleep(1)
    await connection.login(options.password, options.user)
    return connection


def _trace(options: Options) -> Callable[[str], None]:
    if not options.debug:
        return lambda text: None
    return lambda text: print(text, file=sys.stderr)
