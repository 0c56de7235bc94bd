"""What a gateway is told (`parse_gateways` of mod_sofia): typed, with its defaults filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """A remote SIP account or trunk, addressed as `sofia/gateway/<name>/<number>`. Times are seconds."""

    name: str
    register: bool = True
    username: str = "FreeSWITCH"
    password: str = field(default="", repr=False)
    auth_username: str = ""
    realm: str = ""
    proxy: str = ""
    "Request target: host[:port][;params]."
    register_proxy: str = ""
    outbound_proxy: str = ""
    from_user: str = ""
    from_domain: str = ""
    caller_id_in_from: bool = False
    extension: str = ""
    "Destination of inbound calls; `auto`, `auto_to_user` as mod_sofia."
    extension_in_contact: bool = False
    contact_params: str = ""
    contact_host: str = ""
    context: str = ""
    "Empty: the profile's."
    transport: str = "udp"
    "Param `register-transport`; used for calls too."
    expire_seconds: int = 3600
    retry_seconds: int = 30
    timeout_seconds: int = 60
    ping: int = 0
    "Seconds between OPTIONS; 0: off."
    ping_max: int = 1
    ping_min: int = 1
    contact_in_ping: bool = False
    destination_prefix: str = ""
    distinct_to: bool = False
    auth_acl: str = ""
    "Param `gw-auth-acl`."
    inbound_variables: Mapping[str, str] = field(default_factory=_nothing)
    outbound_variables: Mapping[str, str] = field(default_factory=_nothing)
    params: Mapping[str, str] = field(default_factory=_nothing)
