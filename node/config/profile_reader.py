"""`sofia.conf`: its global settings, and one `ProfileSettings` for each profile."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from node.config import host
from node.config.capture import CaptureServer
from node.config.complaints import Complaints, Place
from node.config.document import Element
from node.config.gateway import GatewaySettings
from node.config.nameservers import name_servers
from node.config.profile import DomainTag, ProfileSettings
from node.config.profile_params import INERT, PARAMETERS, transports
from node.config.sections import GlobalSettings, SwitchSettings
from node.config.streams import StreamLimits
from node.config.values import AUTO_NAT, Notice, Parameter, Values, boolean, choice, is_true, read_params, string, whole
from node.debug import TRACE_LEVELS, tracelevel_of

GATEWAY_NAME = re.compile(r"[\w.\-]+")
PROFILE_CHILDREN = frozenset(("settings", "gateways", "aliases", "domains"))


def _tracelevel(text: str) -> str:
    level = tracelevel_of(text)
    if not level:
        raise ValueError(f"must be one of {', '.join(name.lower() for name in TRACE_LEVELS)}, not {text!r}")
    return level


def _capture_server(text: str) -> str:
    if text:
        CaptureServer.parse(text)
    return text


def _trace_secrets(text: str) -> bool:
    if boolean(text):
        raise Notice(True, "is on: traces, dumps and captures show passwords' proofs and keys to who reads them")
    return False


GLOBAL_PARAMETERS = {
    "log-level": Parameter("log_level", whole(0, 9)),
    "tracelevel": Parameter("tracelevel", _tracelevel),
    "debug-presence": Parameter("debug_presence", whole()),
    "debug-sla": Parameter("debug_sla", whole()),
    "auto-restart": Parameter("auto_restart", boolean),
    "abort-on-empty-external-ip": Parameter("abort_on_empty_external_ip", boolean),
    "dns-servers": Parameter("dns_servers", name_servers),
    "capture-server": Parameter("capture_server", _capture_server),
    "trace-secrets": Parameter("trace_secrets", _trace_secrets),
    "max-reg-threads": Parameter("max_reg_threads", whole()),
    "reg-deny-binding-fetch-and-no-lookup": Parameter("reg_deny_binding_fetch_and_no_lookup", boolean),
    "rewrite-multicasted-fs-path": Parameter("rewrite_multicasted_fs_path", string),
}
STIR_SHAKEN = ("as-key", "as-url", "vs-ca-dir", "vs-cert-path-check", "vs-require-date")
GLOBAL_INERT = frozenset(f"stir-shaken-{name}" for name in STIR_SHAKEN)


def _at_least(least: int, otherwise: int) -> Any:
    def read(text: str) -> int:
        number = int(whole()(text) or 0)
        return number if number >= least else otherwise

    return read


def _ping(text: str) -> int:
    number = int(whole()(text) or 0)
    if 1 <= number <= 4:
        raise ValueError("must be 5 seconds or more")
    return number


GATEWAY_PARAMETERS = {
    name: Parameter(name.replace("-", "_"), string)
    for name in """username password auth-username realm proxy register-proxy outbound-proxy from-user from-domain
    extension contact-params contact-host context destination-prefix""".split()  # noqa: SIM905
} | {
    "register": Parameter("register", boolean),
    "caller-id-in-from": Parameter("caller_id_in_from", boolean),
    "extension-in-contact": Parameter("extension_in_contact", boolean),
    "contact-in-ping": Parameter("contact_in_ping", boolean),
    "distinct-to": Parameter("distinct_to", boolean),
    "register-transport": Parameter("transport", choice("udp", "tcp", "tls", "sctp")),
    "expire-seconds": Parameter("expire_seconds", _at_least(5, 3600)),
    "retry-seconds": Parameter("retry_seconds", _at_least(5, 30)),
    "retry_seconds": Parameter("retry_seconds", _at_least(5, 30)),
    "timeout-seconds": Parameter("timeout_seconds", _at_least(5, 60)),
    "ping": Parameter("ping", _ping),
    "ping-max": Parameter("ping_max", whole()),
    "ping-min": Parameter("ping_min", whole()),
    "gw-auth-acl": Parameter("auth_acl", string),
}
GATEWAY_INERT = frozenset(
    ("cid-type", "dtmf-type", "scheme", "908-retry-seconds", "ping-user-agent", "ping-monitoring", "rfc-5626", "reg-id")
)


def read_globals(section: Element | None, complaints: Complaints) -> GlobalSettings:
    """`<global_settings>`."""
    found = None if section is None else section.first("global_settings")
    if found is None:
        return GlobalSettings()
    values = read_params(found.children, GLOBAL_PARAMETERS, complaints, kind="global param", inert=GLOBAL_INERT)
    return GlobalSettings(**values.fields, params=MappingProxyType(values.params))


class ProfileReader:
    """Reads all profiles; knows what they share: names that must differ, addresses that must differ."""

    def __init__(
        self,
        complaints: Complaints,
        switch: SwitchSettings,
        codec_prefs: tuple[str, ...] | None,
        certs_dir: str = "",
    ) -> None:
        """What profiles without prefs of their own get, and those without a `tls-cert-dir`."""
        self._complaints = complaints
        self._switch = switch
        self._codec_prefs = codec_prefs
        self._certs_dir = certs_dir
        self._gateways: dict[str, Place] = {}
        self.profiles: dict[str, ProfileSettings] = {}
        self.places: dict[str, Place] = {}
        self.values: dict[str, Values] = {}

    def read(self, section: Element) -> None:
        """All `<profile>`s of `sofia.conf`."""
        for child in section.children:
            if child.name not in ("global_settings", "profiles"):
                self._complaints.unknown(child.place, "element", child.name)
        profiles = [profile for child in section.all("profiles") for profile in child.children]
        for element in profiles:
            if element.name != "profile":
                self._complaints.unknown(element.place, "element", element.name)
                continue
            self._profile(element)

    def _profile(self, element: Element) -> None:
        name = element.get("name").strip()
        place = element.place
        if not name:
            self._complaints.error(place, "a profile needs a name")
            return
        if name in self.places:
            self._complaints.error(place, f"profile {name!r} is already defined at {self.places[name]}")
            return
        settings = element.first("settings")
        if settings is None:
            self._complaints.error(place, f"profile {name!r} has no <settings>")
            return
        self.places[name] = place
        for child in element.children:
            if child.name not in PROFILE_CHILDREN:
                self._complaints.unknown(child.place, "element", child.name)
        values = read_params(settings.children, PARAMETERS, self._complaints, kind="profile param", inert=INERT)
        self.values[name] = values
        self._derive(values, place)
        self.profiles[name] = ProfileSettings(
            name=name,
            domain=element.get("domain"),
            aliases=tuple(alias.get("name") for tag in element.all("aliases") for alias in tag.all("alias")),
            domains=self._domains(element),
            gateways=self.gateways(gateway for tag in element.all("gateways") for gateway in tag.children),
            params=MappingProxyType(values.params),
            **values.fields,
        )

    def _derive(self, values: Values, place: Place) -> None:
        """What follows from several params together, and defaults that are not constants."""
        fields = values.fields
        fields.setdefault("sip_ip", host.local_ip_v4())
        rtp_ips = fields.setdefault("rtp_ips", (host.local_ip_v4(),)) or (host.local_ip_v4(),)
        fields["rtp_ip"] = rtp_ips[0]
        _auto_nat(fields)
        self._transports(values, place)
        both = fields.pop("codec_prefs", None) or self._codec_prefs
        if both:
            fields.setdefault("inbound_codec_prefs", both)
            fields.setdefault("outbound_codec_prefs", both)
        for form in ("auth_messages", "auth_subscriptions"):
            if (disabled := fields.pop(f"disable_{form}", None)) is not None:
                fields[form] = not disabled
        for form in ("send_message_query_on_register", "send_presence_on_register"):
            if fields.get(form) == "all":
                fields[form] = "true"
        fields.setdefault("rtp_start_port", self._switch.rtp_start_port)
        fields.setdefault("rtp_end_port", self._switch.rtp_end_port)
        at = values.place("rtp-end-port", values.place("rtp-start-port", place))
        if fields["rtp_end_port"] - fields["rtp_start_port"] < 2:
            self._complaints.error(at, "rtp-end-port must be above rtp-start-port")

    def _transports(self, values: Values, place: Place) -> None:
        """What is listened on, where the certificates lie, and what connections may take."""
        fields = values.fields
        if fields.get("tls_only") and not fields.get("tls"):
            self._complaints.error(values.place("tls-only", place), "tls-only without tls leaves nothing to listen on")
        plain = () if fields.get("tls_only") else transports(fields.get("bind_params", ""))
        wanted = {"tls": fields.get("tls"), "ws": fields.get("ws_binding"), "wss": fields.get("wss_binding")}
        fields["transports"] = (*plain, *(name for name, there in wanted.items() if there and name not in plain))
        fields["tls_cert_dir"] = fields.get("tls_cert_dir") or self._certs_dir
        names = [name for name in fields if name.startswith("stream_")]
        fields["streams"] = StreamLimits(**{name.removeprefix("stream_"): fields.pop(name) for name in names})

    def _domains(self, element: Element) -> tuple[DomainTag, ...]:
        tags = []
        for domain in (tag for parent in element.all("domains") for tag in parent.all("domain")):
            if not domain.get("name"):
                self._complaints.error(domain.place, "a domain needs a name")
                continue
            tags.append(DomainTag(domain.get("name"), is_true(domain.get("alias")), is_true(domain.get("parse"))))
        return tuple(tags)

    # ---- gateways ----------------------------------------------------------------------------------------------------

    def gateways(self, elements: Iterable[Element]) -> tuple[GatewaySettings, ...]:
        """Those that can be used; their names differ over all profiles."""
        found = (self._gateway(element) for element in elements if element.name == "gateway")
        return tuple(gateway for gateway in found if gateway is not None)

    def _gateway(self, element: Element) -> GatewaySettings | None:
        name, place = element.get("name"), element.place
        if not GATEWAY_NAME.fullmatch(name):
            self._complaints.error(place, f"{name!r} is no name for a gateway: letters, digits, `.`, `-` and `_`")
            return None
        if name in self._gateways:
            self._complaints.error(place, f"gateway {name!r} is already defined at {self._gateways[name]}")
            return None
        self._gateways[name] = place
        params, variables = _flattened(element)
        values = read_params(params, GATEWAY_PARAMETERS, self._complaints, kind="gateway param", inert=GATEWAY_INERT)
        fields = values.fields
        if fields.get("register", True):
            for needed in ("username", "password"):
                if not fields.get(needed):
                    self._complaints.error(place, f"gateway {name!r} registers and needs {needed}")
        _gateway_defaults(name, fields)
        return GatewaySettings(
            name=name,
            inbound_variables=_directed(variables, "inbound"),
            outbound_variables=_directed(variables, "outbound"),
            params=MappingProxyType(values.params),
            **fields,
        )


def _auto_nat(fields: dict[str, Any]) -> None:
    """`autonat:`, which `ext-rtp-ip` says for SIP too where nothing else is said."""
    for name in ("ext_rtp_ip", "ext_sip_ip"):
        address = fields.get(name, "")
        if address.startswith(AUTO_NAT):
            fields[name] = address.removeprefix(AUTO_NAT)
            fields["auto_nat"] = True
            fields.setdefault("ext_sip_ip", fields[name])


def _flattened(gateway: Element) -> tuple[list[Element], list[Element]]:
    """Params and variables: directly under the gateway, or in `<params>` and `<variables>`."""
    params: list[Element] = []
    variables: list[Element] = []
    for child in gateway.children:
        if child.name in ("params", "variables"):
            (params if child.name == "params" else variables).extend(child.children)
        else:
            (variables if child.name == "variable" else params).append(child)
    return params, variables


def _directed(variables: Iterable[Element], direction: str) -> Mapping[str, str]:
    chosen = (v for v in variables if v.get("direction", direction) == direction)
    return MappingProxyType({variable.get("name"): variable.get("value") for variable in chosen})


def _gateway_defaults(name: str, fields: dict[str, Any]) -> None:
    """Each falls back to the one before it."""
    fields["username"] = fields.get("username") or "FreeSWITCH"
    fields["realm"] = fields.get("realm") or fields.get("proxy") or name
    for field, source in (
        ("proxy", "realm"),
        ("auth_username", "username"),
        ("from_user", "username"),
        ("extension", "username"),
        ("from_domain", "proxy"),
    ):
        fields[field] = fields.get(field) or fields[source]
