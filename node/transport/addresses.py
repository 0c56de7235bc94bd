"""What a profile calls itself on each transport: in Via and Contact, by the address and ports it really has."""

from __future__ import annotations

from collections.abc import Mapping

from node.config.acl import AccessList, of_our_network
from node.config.profile import ProfileSettings, bracketed
from node.sip.flow import Address, Flow, endpoint_text


class Addresses:
    """The addresses of all profiles, as far as this worker has their sockets, else as they are configured."""

    def __init__(self, settings: Mapping[str, ProfileSettings]) -> None:
        self._settings = settings
        self._bound: dict[str, Address] = {}
        self._listening: dict[tuple[str, str], int] = {}
        self._named: dict[tuple[str, str], str] = {}
        self.lists: Mapping[str, AccessList] = {}
        "The access lists, for profiles with `autonat:`."

    def configure(self, settings: Mapping[str, ProfileSettings]) -> None:
        """Go by another configuration."""
        self._settings = settings
        self._named.clear()

    def bind(self, profile: str, address: Address) -> None:
        """This is where the profile's UDP socket is."""
        self._bound[profile] = address
        self._named.clear()

    def listen(self, profile: str, transport: str, port: int) -> None:
        """The profile listens on a port of its own for this transport."""
        if transport != "TCP":
            self._listening[profile, transport] = port
            self._named.clear()

    def has(self, profile: str) -> bool:
        """Is it known where the profile's UDP socket is?"""
        return profile in self._bound

    def public(self, profile: str, transport: str = "UDP", towards: str = "") -> Address:
        """What others should use: ext-sip-ip or sip-ip, and the port of the transport. `towards`: who (`autonat:`)."""
        settings = self._settings[profile]
        outside = not settings.auto_nat or not self._inside(settings, towards)
        host = settings.public_ip if outside else settings.sip_ip
        if transport in ("UDP", "TCP"):
            bound = self._bound.get(profile)
            return host, (settings.ext_sip_port if outside else 0) or (bound[1] if bound else settings.sip_port)
        return host, self._listening.get((profile, transport)) or _configured(settings, transport)

    def _inside(self, settings: ProfileSettings, host: str) -> bool:
        return not host or of_our_network(self.lists, settings.local_network_acl, host)

    def local(self, profile: str) -> Address:
        """Where a profile's UDP socket is bound, or would be."""
        bound = self._bound.get(profile)
        if bound is not None:
            return bound
        settings = self._settings.get(profile)
        return (settings.sip_ip, settings.sip_port) if settings is not None else ("", 0)

    def sent_by(self, flow: Flow) -> str:
        """The sent-by of our Via."""
        settings = self._settings.get(flow.profile)
        if settings is not None and settings.auto_nat:
            return endpoint_text(self.public(flow.profile, flow.transport, flow.remote[0]))
        named = self._named.get((flow.profile, flow.transport))
        if named is None:
            named = self._named[flow.profile, flow.transport] = endpoint_text(self.public(flow.profile, flow.transport))
        return named

    def contact(self, profile: str, transport: str, user: str, *, secure: bool, towards: str = "") -> str:
        """`<sip:mod_sofia@192.0.2.1:5060;transport=tcp>`; `secure`: with sips."""
        transport = transport.upper()
        host, port = self.public(profile, transport, towards)
        suffix = "" if transport == "UDP" else f";transport={transport.lower()}"
        return f"<{'sips' if secure else 'sip'}:{user}@{bracketed(host)}:{port}{suffix}>"


def _configured(settings: ProfileSettings, transport: str) -> int:
    """The port of a transport that has one of its own."""
    binding = {"WS": settings.ws_binding, "WSS": settings.wss_binding}.get(transport)
    return binding.port if binding is not None else settings.tls_sip_port
