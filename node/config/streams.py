"""How much of the node its stream connections may take. All ours: mod_sofia has no such params."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Limits of one worker on its TCP, TLS, WS and WSS connections: the params `stream-...` of a profile."""

    max_connections: int = 20_000
    "Held at once; more are closed as they come."
    max_connections_per_source: int = 1000
    "Accepted from one address."
    max_half_open: int = 2000
    "Connections whose handshake is not through, or that have not brought a message yet; the oldest gives way to a new one."
    max_half_open_per_source: int = 200
    handshake_timeout: int = 10
    "Seconds that TLS and WebSocket handshakes may take together."
    message_timeout: int = 20
    "Seconds that a peer may take over one message; over the first one, from the moment it connected."
    stall_timeout: int = 30
    "Seconds in which a peer that is to read something reads nothing, or its host acknowledges nothing."
    idle_timeout: int = 3600
    "Seconds of silence after which a connection is closed. For TLS the param `tls-timeout` says so."
    max_unsent: int = 1 << 20
    "Bytes that may wait for one peer to read."
    max_buffered: int = 64 << 20
    "Bytes of all halves of messages, and of all that waits to be read, together."
    accept_rate: int = 2000
    "Connections accepted in a second; the others wait in the kernel. One with TLS counts for four."
    accept_rate_per_source: int = 200
    "The same for one address; those beyond it (after a burst of twice as many) are closed as they come."
