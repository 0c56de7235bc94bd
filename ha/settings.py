"""What the supervisor is told: the times and addresses of ha.conf, in seconds, refused where they cannot be safe."""

from __future__ import annotations

import ipaddress
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Literal

from node.config.sections import HaSection


class Unsafe(ValueError):
    """A combination of settings that could make two nodes active, or none for long; says so to the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """How long a holder may be silent."""

    ttl: float = 0.44
    "Seconds after which a silent holder has lost the lease."

    renew: float = 0.08
    "Seconds between two renewals."

    margin: float = 0.14
    "Seconds before the end at which a holder lets go by itself."

    poll: float = 0.03
    "Seconds between two looks of a standby at the lease."

    poll_alert: float = 0.02
    "The same, while the peer is silent."

    stuck: float = 1.5
    "Seconds after which a store call that has not returned is given up, and its process with it."

    def __post_init__(self) -> None:
        if self.renew <= 0 or self.ttl <= 0 or self.margin <= 0:
            raise Unsafe("lease-ttl, lease-renew and lease-margin must be greater than 0")
        if self.margin >= self.ttl:
            raise Unsafe(f"lease-margin {_ms(self.margin)} leaves nothing of lease-ttl {_ms(self.ttl)}")
        if self.ttl - self.margin < 2 * self.renew:
            raise Unsafe(
                f"lease-renew {_ms(self.renew)} is too slow: two renewals must fit into lease-ttl minus lease-margin "
                f"({_ms(self.ttl - self.margin)}), or one lost renewal makes the node let go"
            )
        if self.margin < 0.05:
            raise Unsafe(f"lease-margin {_ms(self.margin)} is shorter than letting go takes (50 ms)")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """The link to the other supervisor; no address means that there is none."""

    address: tuple[str, int] | None = None
    "Where the other node listens."

    listen: tuple[str, int] | None = None
    "Where this node listens for the other one."

    beat: float = 0.1
    dead: float = 0.3
    "Seconds of silence after which the peer is taken for dead: the lease is then looked at more often."

    secret: bytes = field(default=b"", repr=False)
    "Shared by both nodes; empty: taken from the store."

    def __post_init__(self) -> None:
        if (self.address is None) != (self.listen is None):
            raise Unsafe("peer-address and peer-listen must both be set, or neither")
        if self.beat <= 0 or self.dead < 2 * self.beat:
            raise Unsafe(f"peer-dead {_ms(self.dead)} must be at least twice peer-beat {_ms(self.beat)}")

    @property
    def configured(self) -> bool:
        return self.address is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressSettings:
    """The address that moves with the role."""

    mode: Literal["none", "netlink"] = "none"
    address: str = ""
    "With its prefix: `192.0.2.10/24`."
    interface: str = ""

    @property
    def foreign(self) -> str:
        """What sockets are bound to before this host has it."""
        return self.address.partition("/")[0] if self.mode == "netlink" else ""

    lifetime: int = 3
    "Seconds after which the kernel drops the address by itself, unless it is set again; the belt for a frozen node."

    def __post_init__(self) -> None:
        if self.mode == "none":
            return
        if not self.address or not self.interface:
            raise Unsafe("address-mode netlink needs shared-address (with its prefix) and interface")
        try:
            ipaddress.ip_interface(self.address)
        except ValueError as error:
            raise Unsafe(f"shared-address: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSettings:
    """How the processes of the node are watched."""

    heartbeat: float = 0.05
    "Seconds between two beats to a worker that serves."

    heartbeat_timeout: float = 1.0
    "Seconds after which an unanswered beat means frozen."

    loading: float = 30.0
    "Seconds a child may take from its fork to `Ready`."

    leaving: float = 0.15
    "Seconds a worker has to leave by itself when the role is given up."

    def __post_init__(self) -> None:
        if self.heartbeat <= 0 or self.heartbeat_timeout < 2 * self.heartbeat:
            raise Unsafe(
                f"heartbeat-timeout {_ms(self.heartbeat_timeout)} must be at least twice heartbeat "
                f"{_ms(self.heartbeat)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HaSettings:
    """Everything of ha.conf that the supervisor itself acts on."""

    lease: LeaseSettings = LeaseSettings()
    peer: PeerSettings = PeerSettings()
    address: AddressSettings = AddressSettings()
    child: ChildSettings = ChildSettings()
    recover_on_promote: bool = True

    def __post_init__(self) -> None:
        if self.peer.configured and self.peer.dead >= self.lease.ttl:
            raise Unsafe(
                f"peer-dead {_ms(self.peer.dead)} must be shorter than lease-ttl {_ms(self.lease.ttl)}, "
                "or a dead peer is noticed only after its lease has ended"
            )

    @classmethod
    def read(cls, section: HaSection, *, standalone: bool = False) -> HaSettings:
        """The settings of a section; raises Unsafe. `standalone` leaves the peer out."""
        return cls(
            lease=LeaseSettings(
                ttl=section.lease_ttl / 1000, renew=section.lease_renew / 1000, margin=section.lease_margin / 1000
            ),
            peer=PeerSettings(beat=section.peer_beat / 1000, dead=section.peer_dead / 1000)
            if standalone
            else PeerSettings(
                address=endpoint("peer-address", section.peer_address),
                listen=endpoint("peer-listen", section.peer_listen),
                beat=section.peer_beat / 1000,
                dead=section.peer_dead / 1000,
                secret=section.params.get("peer-secret", "").encode(),
            ),
            address=AddressSettings(
                mode=section.address_mode, address=section.shared_address, interface=section.interface
            ),
            child=ChildSettings(heartbeat=section.heartbeat / 1000, heartbeat_timeout=section.heartbeat_timeout / 1000),
            recover_on_promote=section.recover_on_promote,
        )


def endpoint(name: str, text: str) -> tuple[str, int] | None:
    """`192.0.2.1:5070` or `[2001:db8::1]:5070`; empty text is None."""
    if not text:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Unsafe(f"{name} {text!r} is not host:port")
    return host.strip("[]"), int(port)


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


ENVIRONMENT: Any = {
    "default": "",
    "metavar": "PREFIX",
    "help": "each variable of the environment that begins so is a preprocessor variable, as if it was --set; for secrets, "
    "which others on the machine could read on a command line",
}


def from_environment(prefix: str, environment: MutableMapping[str, str]) -> dict[str, str]:
    """Preprocessor variables, from variables of the environment whose names begin so; taken out of it.

    Others on the machine can read a command line, but not an environment.
    """
    names = [name for name in environment if prefix and name.startswith(prefix)]
    return {name.removeprefix(prefix): environment.pop(name) for name in names}
