"""`switch.conf`, `event_socket.conf`, `ha.conf` and `acl.conf`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, ip_network
from types import MappingProxyType

from node.config.acl import AccessList, AccessNode, built_in, cidr_list, parse_address
from node.config.complaints import Complaints, Place
from node.config.database import core_dsn
from node.config.directory import DirectorySection
from node.config.document import Element
from node.config.hook_reader import read_hooks
from node.config.sections import EventSocketSettings, HaSection, SwitchSettings
from node.config.values import (
    Parameter,
    Values,
    boolean,
    choice,
    endpoint,
    interface_address,
    is_true,
    numbers,
    port,
    read_params,
    string,
    whole,
)

WELL_KNOWN_PASSWORDS = frozenset(("ClueCon", "1234", ""))
SHORTEST_MARGIN = 50
"Milliseconds that letting go of the sockets takes."

rtp_port = whole(1024, 65535)


SWITCH_PARAMETERS = {
    "switchname": Parameter("switchname", string),
    "core-db-name": Parameter("core_db_name", string),
    "core-db-dsn": Parameter("core_db_dsn", core_dsn),
    "max-sessions": Parameter("max_sessions", whole(1)),
    "sessions-per-second": Parameter("sessions_per_second", whole(1)),
    "rtp-start-port": Parameter("rtp_start_port", rtp_port),
    "rtp-end-port": Parameter("rtp_end_port", rtp_port),
    "loglevel": Parameter("loglevel", string),
    "api-expansion": Parameter("api_expansion", boolean),
}
SWITCH_INERT = frozenset(
    """colorize-console dialplan-timestamps max-db-handles db-handle-timeout min-idle-cpu events-use-dispatch
    initial-event-threads dump-cores verbose-channel-events multiple-registrations auto-create-schemas auto-clear-sql
    core-dbtype core-non-sqlite-db-required rtp-enable-zrtp rtp-port-usage-robustness debug-level mailer-app
    mailer-app-args enable-early-hangup 1ms-timer enable-monotonic-timing enable-softtimer-timerfd
    enable-clock-nanosleep enable-cond-yield enable-timer-matrix threaded-system-exec tipping-point timer-affinity
    event-heartbeat-interval min-dtmf-duration max-dtmf-duration default-dtmf-duration max-audio-channels
    uuid-version spawn-instead-of-system enable-use-system-time rtp-retain-crypto-keys ice-resolve-candidate
    core-db-pre-trans-execute core-db-post-trans-execute core-db-inner-pre-trans-execute
    core-db-inner-post-trans-execute odbc-dsn odbc-skip-autocommit-flip certs_dir sql-buffer-len max-sql-buffer-len
    crash-protection session-thread-pool media-bug-answer-req""".split()  # noqa: SIM905
)

EVENT_SOCKET_PARAMETERS = {
    "listen-ip": Parameter("listen_ip", lambda text: _listen_ip(text)),
    "listen-port": Parameter("listen_port", port),
    "password": Parameter("password", string),
    "apply-inbound-acl": Parameter("apply_inbound_acl", string, gathers=True),
    "nat-map": Parameter("nat_map", boolean),
    "debug": Parameter("debug", whole()),
    "stop-on-bind-error": Parameter("stop_on_bind_error", boolean),
}

HA_PARAMETERS = {
    "node-name": Parameter("node_name", string),
    "lease-ttl": Parameter("lease_ttl", whole(1)),
    "lease-renew": Parameter("lease_renew", whole(1)),
    "lease-margin": Parameter("lease_margin", whole(1)),
    "peer-address": Parameter("peer_address", endpoint),
    "peer-listen": Parameter("peer_listen", endpoint),
    "peer-beat": Parameter("peer_beat", whole(1)),
    "peer-dead": Parameter("peer_dead", whole(1)),
    "address-mode": Parameter("address_mode", choice("none", "netlink")),
    "shared-address": Parameter("shared_address", interface_address),
    "interface": Parameter("interface", string),
    "recover-on-promote": Parameter("recover_on_promote", boolean),
    "recovery-reinvite": Parameter("recovery_reinvite", choice("auto", "always", "never")),
    "recovery-rate": Parameter("recovery_rate", whole(1, 100000)),
    "emergency-numbers": Parameter("emergency_numbers", numbers),
    "heartbeat": Parameter("heartbeat", whole(1)),
    "heartbeat-timeout": Parameter("heartbeat_timeout", whole(1)),
    "election": Parameter("election", choice("lease", "ordered")),
    "watchdog-device": Parameter("watchdog_device", string),
    "watchdog-device-timeout": Parameter("watchdog_device_timeout", whole(2000, 600000)),
}


def _listen_ip(text: str) -> str:
    if parse_address(text) is None:
        raise ValueError(f"is no IP address: {text!r}")
    return text.strip("[]")


def _settings(section: Element | None) -> Iterable[Element]:
    found = None if section is None else section.first("settings")
    return [] if found is None else found.children


def read_switch(section: Element | None, hostname: str, complaints: Complaints) -> SwitchSettings:
    values = read_params(
        _settings(section), SWITCH_PARAMETERS, complaints, kind="switch.conf param", inert=SWITCH_INERT
    )
    values.fields["switchname"] = values.fields.get("switchname") or hostname
    settings = SwitchSettings(**values.fields, params=MappingProxyType(values.params))
    if section is not None and settings.rtp_end_port - settings.rtp_start_port < 2:
        place = values.place("rtp-end-port", values.place("rtp-start-port", section.place))
        complaints.error(place, "rtp-end-port must be above rtp-start-port")
    return settings


def read_event_socket(section: Element | None, complaints: Complaints) -> tuple[EventSocketSettings, Values]:
    if section is None:
        return EventSocketSettings(), Values()
    values = read_params(_settings(section), EVENT_SOCKET_PARAMETERS, complaints, kind="event_socket.conf param")
    settings = EventSocketSettings(enabled=True, **values.fields, params=MappingProxyType(values.params))
    place = values.place("password", section.place)
    address = parse_address(settings.listen_ip)
    if not settings.password:
        complaints.error(place, "the event socket needs a password")
    elif settings.password in WELL_KNOWN_PASSWORDS and (address is None or not address.is_loopback):
        complaints.warning(place, "the event socket is open to the network with a well-known password")
    return settings, values


# ---- ha ---------------------------------------------------------------------------------------------------------------


def read_ha(section: Element | None, complaints: Complaints) -> tuple[HaSection, Values]:
    if section is None:
        return HaSection(), Values()
    values = read_params(_settings(section), HA_PARAMETERS, complaints, kind="ha.conf param")
    hooks = read_hooks(section, complaints)
    ha = HaSection(configured=True, **values.fields, hooks=hooks, params=MappingProxyType(values.params))
    for names, sentence in dangers(ha):
        place = next((values.places[name] for name in names if name in values.places), section.place)
        complaints.error(place, sentence)
    return ha, values


def dangers(ha: HaSection) -> list[tuple[tuple[str, ...], str]]:
    """Combinations that cannot be safe: the params they are about, and why."""
    found: list[tuple[tuple[str, ...], str]] = []
    if ha.lease_margin >= ha.lease_ttl:
        found.append(
            (
                ("lease-margin", "lease-ttl"),
                f"lease-margin ({ha.lease_margin} ms) must be below lease-ttl ({ha.lease_ttl} ms): "
                "the holder would let go of the lease at once",
            )
        )
    elif 2 * ha.lease_renew > ha.lease_ttl - ha.lease_margin:
        found.append(
            (
                ("lease-renew", "lease-ttl"),
                f"lease-renew ({ha.lease_renew} ms) is too slow: two renewals must fit into lease-ttl less "
                f"lease-margin ({ha.lease_ttl - ha.lease_margin} ms), or one late answer costs the lease",
            )
        )
    if 2 * ha.peer_beat > ha.peer_dead:
        found.append(
            (
                ("peer-dead", "peer-beat"),
                f"peer-dead ({ha.peer_dead} ms) must be at least two peer-beats ({ha.peer_beat} ms): "
                "one lost beat would count as the peer's death",
            )
        )
    if ha.lease_margin < SHORTEST_MARGIN:
        found.append(
            (("lease-margin",), f"lease-margin ({ha.lease_margin} ms) is shorter than letting go takes (50 ms)")
        )
    if ha.peer_address and ha.peer_dead >= ha.lease_ttl:
        found.append(
            (
                ("peer-dead", "lease-ttl"),
                f"peer-dead ({ha.peer_dead} ms) must be below lease-ttl ({ha.lease_ttl} ms), "
                "or a dead peer is noticed only after its lease has ended",
            )
        )
    if 2 * ha.heartbeat > ha.heartbeat_timeout:
        found.append((("heartbeat-timeout", "heartbeat"), "heartbeat-timeout must be at least two heartbeats"))
    if ha.peer_address and not ha.peer_listen:
        found.append(
            (("peer-address",), "peer-address without peer-listen: the peer could not hear this node's promise")
        )
    if ha.peer_listen and not ha.peer_address:
        found.append((("peer-listen",), "peer-listen without peer-address: there is no peer to listen for"))
    if ha.peer_address and ha.peer_address == ha.peer_listen:
        found.append((("peer-address",), "peer-address is this node's own peer-listen"))
    if ha.address_mode == "netlink" and not (ha.shared_address and ha.interface):
        found.append((("address-mode",), "address-mode netlink needs shared-address and interface"))
    return found


# ---- access lists -----------------------------------------------------------------------------------------------------


def read_acl(
    section: Element | None, directory: DirectorySection, own: Iterable[IPv4Network], complaints: Complaints
) -> dict[str, AccessList]:
    """The lists of `acl.conf` over the built-in ones; a later one of a name replaces the earlier."""
    lists = built_in(own)
    parents = [] if section is None else list(section.all("network-lists"))
    for element in (child for parent in parents for child in parent.children):
        name = element.get("name")
        if element.name != "list" or not name:
            complaints.error(element.place, "network-lists holds <list name=...>")
            continue
        default = is_true(element.get("default", "allow"))
        nodes = [node for child in element.children for node in _nodes(child, default, directory, complaints)]
        lists[name] = AccessList(name, default, tuple(nodes))
    return lists


def _nodes(
    element: Element, default: bool, directory: DirectorySection, complaints: Complaints
) -> Iterable[AccessNode]:
    if element.name != "node":
        complaints.error(element.place, f"a list holds <node>, not <{element.name}>")
        return
    allow = is_true(element.get("type")) if element.get("type") else default
    try:
        ports = _ports(element.attributes)
    except ValueError as error:
        complaints.error(element.place, str(error))
        return
    if element.get("domain"):
        yield from _domain_nodes(element.get("domain"), allow, ports, directory)
        return
    text = element.get("cidr") or (f"{element.get('host')}/{element.get('mask')}" if element.get("host") else "")
    if not text:
        complaints.error(element.place, "a node needs cidr, host and mask, or domain")
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            yield AccessNode(ip_network(part, strict=False), allow, "", ports)
        except ValueError:
            complaints.error(element.place, f"{part!r} is no CIDR such as 192.0.2.0/24")


def _domain_nodes(
    domain: str, allow: bool, ports: tuple[range, ...], directory: DirectorySection
) -> Iterable[AccessNode]:
    """The networks of a domain's own users; a user of the directory vouches with its cidr."""
    for section in directory.domains:
        if section.name.lower() != domain.lower():
            continue
        for user in (user for group in section.groups for user in group.users):
            for cidr in user.cidr:
                yield AccessNode(ip_network(cidr, strict=False), allow, f"{user.id}@{section.name}", ports)


def _ports(attributes: Mapping[str, str]) -> tuple[range, ...]:
    texts = [part for name in ("port", "ports") for part in attributes.get(name, "").split(",") if part.strip()]
    least, most = attributes.get("port-min", ""), attributes.get("port-max", "")
    try:
        ranges = [range(int(text), int(text) + 1) for text in texts]
        if least or most:
            ranges.append(range(int(least or 0), int(most or 65535) + 1))
    except ValueError:
        raise ValueError("port, ports, port-min and port-max must be numbers") from None
    return tuple(ranges)


def check_list(name: str, lists: Mapping[str, AccessList], place: Place, param: str, complaints: Complaints) -> None:
    """Say when a param names no access list. It works as in FreeSWITCH all the same: nobody passes."""
    if name in lists:
        return
    if "/" not in name:
        complaints.warning(place, f"{param} names access list {name!r}, which does not exist: nobody passes it")
        return
    try:
        cidr_list(name)
    except ValueError:
        complaints.error(place, f"{param} {name!r} is no CIDR such as 192.0.2.0/24")
