"""The typed sections of a configuration, frozen: what `load` returns and every process of the node gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from node.config.acl import AccessList
from node.config.complaints import Complaint
from node.config.dialplan import DialplanSection
from node.config.directory import DirectorySection
from node.config.hooks import Hook
from node.config.profile import ProfileSettings


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchSettings:
    """switch.conf: what belongs to the node as a whole."""

    switchname: str = "freeswitch"
    "Value of every `hostname` column; the nodes of a pair set it alike."
    core_db_name: str = "core"
    core_db_dsn: str = field(default="", repr=False)
    "Empty: the SQLite file `db/<core-db-name>.db` of the run directory."
    max_sessions: int = 1000
    sessions_per_second: int = 30
    rtp_start_port: int = 16384
    rtp_end_port: int = 32768
    loglevel: str = "info"
    api_expansion: bool = True
    params: Mapping[str, str] = field(default_factory=_nothing)

    @property
    def database(self) -> str:
        """What names the store, the same for every process of the node: the DSN, else a SQLite file in `db/`."""
        return self.core_db_dsn or self.core_db_name


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalSettings:
    """`<global_settings>` of sofia.conf."""

    log_level: int = 0
    tracelevel: str = "CONSOLE"
    debug_presence: int = 0
    debug_sla: int = 0
    auto_restart: bool = True
    abort_on_empty_external_ip: bool = False
    capture_server: str = ""
    max_reg_threads: int = 0
    reg_deny_binding_fetch_and_no_lookup: bool = False
    rewrite_multicasted_fs_path: str = ""
    dns_servers: tuple[tuple[str, int], ...] = ()
    "Ours: name servers with their ports; none: those of resolv.conf."
    trace_secrets: bool = False
    "Ours: traces, dumps and captures show credentials and keys as they are."
    params: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSocketSettings:
    """event_socket.conf: the socket of `fs_cli`, `sofia` and event clients."""

    enabled: bool = False
    "False where the tree has no event_socket.conf: then nothing listens."
    listen_ip: str = "127.0.0.1"
    listen_port: int = 8021
    password: str = field(default="", repr=False)
    apply_inbound_acl: tuple[str, ...] = ()
    "All of them must allow the source."
    nat_map: bool = False
    debug: int = 0
    stop_on_bind_error: bool = False
    params: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class HaSection:
    """ha.conf: how the two nodes of a pair share the role. All times are milliseconds, as their params."""

    configured: bool = False
    "False where the tree has no ha.conf: a node for itself."
    node_name: str = ""
    "Name of this node; empty: the host's name."
    lease_ttl: int = 440
    "After this long a silent holder has lost the lease."
    lease_renew: int = 80
    lease_margin: int = 140
    "So long before the end of the lease a holder lets go by itself."
    peer_address: str = ""
    "`host:port` of the other node's peer link; empty: no peer."
    peer_listen: str = ""
    "`host:port` of our end of the peer link."
    peer_beat: int = 100
    peer_dead: int = 300
    "A peer silent for this long is taken for dead."
    address_mode: Literal["none", "netlink"] = "none"
    "Who moves the shared address: nobody or somebody else (`none`), or this node (`netlink`)."
    shared_address: str = ""
    "With its prefix: `192.0.2.10/24`."
    interface: str = ""
    recover_on_promote: bool = True
    recovery_reinvite: Literal["auto", "always", "never"] = "auto"
    recovery_rate: int = 200
    "re-INVITEs a second."
    emergency_numbers: tuple[str, ...] | None = None
    "Calls to these are recovered before others."
    heartbeat: int = 50
    "Between two beats of the supervisor to a worker."
    heartbeat_timeout: int = 1000
    "A worker that has not answered a beat for this long is replaced."
    election: Literal["lease", "ordered"] = "lease"
    "Who makes this node active: it makes itself when the lease is free, or nobody before `sofia-node promote`."
    watchdog_device: str = ""
    "As `/dev/watchdog`: the hardware that resets the host when an active node stands still; empty: none."
    watchdog_device_timeout: int = 10000
    "Rounded up to whole seconds."
    hooks: tuple[Hook, ...] = ()
    params: Mapping[str, str] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Everything the tree says."""

    conf_dir: Path
    profiles: Mapping[str, ProfileSettings]
    "By name, in the order of the document."
    sofia: GlobalSettings
    switch: SwitchSettings
    directory: DirectorySection
    dialplan: DialplanSection
    acl: Mapping[str, AccessList]
    event_socket: EventSocketSettings
    ha: HaSection
    globals: Mapping[str, str]
    "The preprocessor's variables."
    warnings: tuple[Complaint, ...] = ()
    "What was found suspicious at load."
    overrides: Mapping[str, str] = field(default_factory=_nothing, repr=False)
    "What was set from outside at load; to be given to the next load of the same tree."
    allow_exec: bool = False
    'Whether `X-PRE-PROCESS cmd="exec"` was allowed at load.'

    def emergency_numbers(self, profile: str) -> tuple[str, ...]:
        """Whose calls come before others: the profile's, or those of ha.conf."""
        found = self.profile(profile)
        own = found.emergency_numbers if found is not None else None
        return (self.ha.emergency_numbers if own is None else own) or ()

    def profile(self, name: str) -> ProfileSettings | None:
        """A profile by its name or one of its aliases."""
        found = self.profiles.get(name)
        if found is not None:
            return found
        return next((profile for profile in self.profiles.values() if name in profile.aliases), None)
