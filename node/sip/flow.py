"""The way a message came, and the way it goes."""

from __future__ import annotations

from typing import NamedTuple

from store.records import FlowRecord, Transport

Address = tuple[str, int]
"Host (numeric, without brackets) and port."


class Flow(NamedTuple):
    """Profile, transport, both addresses, and the connection for streams. Used for receiving and for sending."""

    profile: str
    transport: Transport
    local: Address
    remote: Address
    connection: str = ""
    "Name of the stream connection on the worker that accepted it; empty for UDP and for «connect, please»."

    @property
    def reliable(self) -> bool:
        return self.transport != "UDP"

    @property
    def secure(self) -> bool:
        return self.transport in ("TLS", "WSS")

    def __str__(self) -> str:
        return f"{self.profile}/{self.transport.lower()} {endpoint_text(self.local)} {endpoint_text(self.remote)}"

    def to_record(self) -> FlowRecord:
        return FlowRecord(
            profile=self.profile,
            transport=self.transport,
            local_host=self.local[0],
            local_port=self.local[1],
            remote_host=self.remote[0],
            remote_port=self.remote[1],
            connection=self.connection,
        )

    @classmethod
    def from_record(cls, record: FlowRecord) -> Flow:
        local = (record.local_host, record.local_port)
        remote = (record.remote_host, record.remote_port)
        return cls(record.profile, record.transport, local, remote, record.connection)


def endpoint_text(address: Address) -> str:
    """`host:port`, an IPv6 host in brackets."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
