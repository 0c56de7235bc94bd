"""What can only be judged when all sections are known: references between them, and what must not go together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from node.config.certificates import wrongs
from node.config.complaints import Complaints, Place
from node.config.directory_reader import DirectoryReader
from node.config.profile import ProfileSettings
from node.config.profile_params import inbound_acl
from node.config.profile_reader import ProfileReader
from node.config.section_readers import check_list
from node.config.sections import Configuration
from node.config.values import Values

ACL_PARAMS = frozenset(f"apply-{kind}-acl" for kind in ("register", "proxy", "nat", "candidate")) | {
    "local-network-acl",
    "limits-exempt-acl",
}


def check_together(
    configuration: Configuration,
    *,
    profiles: ProfileReader,
    users: DirectoryReader,
    event_values: Values,
    ha_values: Values,
    made_up: frozenset[str],
    complaints: Complaints,
) -> None:
    """`made_up` are the passwords that this node made for itself."""
    _addresses(profiles, complaints)
    _aliases(profiles, complaints)
    for name, values in profiles.values.items():
        _lists(configuration, values, complaints)
        _domain(configuration, values, complaints)
        if name in profiles.profiles:
            _contexts(configuration, profiles.profiles[name], values, profiles.places[name], complaints)
    for param, text, place in event_values.entries:
        if param == "apply-inbound-acl" and text.lower() != "none":
            check_list(text, configuration.acl, place, param, complaints)
    for context, place in users.contexts.items():
        _context(configuration, context, place, f"user_context {context!r}", complaints)
    if configuration.ha.peer_address:
        _pair(configuration, profiles, ha_values, users.passwords & made_up, complaints)


def check_certificates(profiles: ProfileReader, complaints: Complaints, *, thorough: bool) -> None:
    """A profile whose certificates cannot be used serves without TLS or WSS, so these are warnings."""
    for name, profile in profiles.profiles.items():
        for param, text in wrongs(profile, thorough=thorough):
            complaints.warning(profiles.values[name].place(param, profiles.places[name]), text)


def _bindings(profile: ProfileSettings) -> Iterator[tuple[str, int, str]]:
    """(address, port, param) of each listener with a port of its own."""
    if not profile.tls_only:
        yield profile.sip_ip, profile.sip_port, "sip-port"
    if profile.tls:
        yield profile.sip_ip, profile.tls_sip_port, "tls-sip-port"
    for binding, param in ((profile.ws_binding, "ws-binding"), (profile.wss_binding, "wss-binding")):
        if binding is not None:
            yield binding.host or profile.sip_ip, binding.port, param


def _addresses(profiles: ProfileReader, complaints: Complaints) -> None:
    taken: dict[tuple[str, int], str] = {}
    for profile in profiles.profiles.values():
        for address, port, param in _bindings(profile):
            before = taken.setdefault((address, port), profile.name)
            values = profiles.values[profile.name]
            if port and (before != profile.name or _twice(profile, address, port)):
                place = values.place(param, profiles.places[profile.name])
                complaints.error(place, f"{address}:{port} is already taken by profile {before!r}")


def _twice(profile: ProfileSettings, address: str, port: int) -> bool:
    return sum((address, port) == (host, number) for host, number, _param in _bindings(profile)) > 1


def _aliases(profiles: ProfileReader, complaints: Complaints) -> None:
    owners = {name: name for name in profiles.profiles}
    for profile in profiles.profiles.values():
        for alias in profile.aliases:
            owner = owners.setdefault(alias, profile.name)
            if owner != profile.name:
                place = profiles.places[profile.name]
                complaints.warning(place, f"alias {alias!r} is already a name of profile {owner!r}, which keeps it")


def _lists(configuration: Configuration, values: Values, complaints: Complaints) -> None:
    for param, text, place in values.entries:
        if not text or text.lower() == "none":
            continue
        if param == "apply-inbound-acl":
            check_list(inbound_acl(text).name, configuration.acl, place, param, complaints)
        elif param in ACL_PARAMS:
            check_list(text, configuration.acl, place, param, complaints)


def _domain(configuration: Configuration, values: Values, complaints: Complaints) -> None:
    """Where registrations are looked up: a domain that is not there lets nobody in."""
    name = values.params.get("force-register-domain", "")
    known = {domain.name.lower() for domain in configuration.directory.domains}
    if name and known and name.lower() not in known:
        place = values.places["force-register-domain"]
        complaints.warning(place, f"force-register-domain {name!r} is no domain of the directory: nobody can register")


def _contexts(
    configuration: Configuration, profile: ProfileSettings, values: Values, place: Place, complaints: Complaints
) -> None:
    if profile.dialplan.split(",")[0].split(":")[0] != "XML":
        return
    _context(configuration, profile.context, values.place("context", place), f"context {profile.context!r}", complaints)
    for acl in profile.apply_inbound_acl:
        for context in filter(None, (acl.pass_context, acl.fail_context)):
            at = values.place("apply-inbound-acl", place)
            _context(configuration, context, at, f"context {context!r} of the access list", complaints)
    for gateway in profile.gateways:
        if gateway.context:
            _context(configuration, gateway.context, place, f"context of gateway {gateway.name!r}", complaints)


def _context(configuration: Configuration, name: str, place: Place, what: str, complaints: Complaints) -> None:
    """A dialplan without any context belongs to a node that only registers: nothing to say then."""
    contexts = configuration.dialplan.contexts
    if contexts and name not in contexts and "global" not in contexts and name != "_domain_":
        complaints.error(place, f"{what} is not in the dialplan: calls would go nowhere")


# ---- a pair -----------------------------------------------------------------------------------------------------------


def _pair(
    configuration: Configuration,
    profiles: ProfileReader,
    ha_values: Values,
    made_up: Iterable[str],
    complaints: Complaints,
) -> None:
    """What two nodes must have in common, or they are no pair."""
    place = ha_values.places["peer-address"]
    if not configuration.switch.core_db_dsn:
        complaints.error(place, "a pair needs one store for both nodes: set core-db-dsn in switch.conf")
    if set(made_up):
        complaints.error(
            place,
            "the users' password was made up by this node, and the other node has another one: "
            "set default_password alike on both (in vars.xml, or --set default_password=...)",
        )
    for name, profile in profiles.profiles.items():
        if not profile.track_calls:
            at = profiles.values[name].place("track-calls", profiles.places[name])
            complaints.warning(at, f"profile {name!r} has no track-calls: its calls are lost in a failover")
