"""The ways to a URI: what the resolver names, as flows of a profile, those that failed lately last."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from node.config.profile import ProfileSettings
from node.sip.errors import SipError, Unresolvable
from node.sip.flow import Address, Flow
from node.sip.layer import ClientTransaction, Failure
from node.sip.message import Response
from node.sip.targets import Target, host_of
from node.sip.uri import Uri
from node.transport.outages import Outages, retry_after
from node.transport.resolver import Reach, Resolver
from store.records import Transport

Located = Callable[[list[Flow] | SipError], None]


class Connections(Protocol):
    """The stream connections there are."""

    def connection_to(self, profile: str, transport: str, remote: Address, host: str = "") -> str: ...


class Routes:
    """Finds ways, and remembers which of them led nowhere. Shared by all calls of a worker."""

    def __init__(
        self,
        resolver: Resolver,
        settings: Mapping[str, ProfileSettings],
        connections: Connections,
        *,
        now: Callable[[], float],
        locals_of: Callable[[str], list[Address]],
    ) -> None:
        """`locals_of`: the addresses a profile sends by, its own first."""
        self.outages = Outages()
        self.resolver = resolver
        self._settings = settings
        self._now = now
        self._connections = connections
        self._locals_of = locals_of
        self._reach: dict[str, Reach] = {}

    def configure(self, settings: Mapping[str, ProfileSettings]) -> None:
        """Go by another configuration, or by other sockets."""
        self._settings = settings
        self._reach.clear()

    def locate(self, uri: Uri, profile: str, then: Located, by_udp: Callable[[Flow], None] | None = None) -> None:
        """Where a request to `uri` goes (RFC 3263), best first. Called back at once for what is numeric or remembered.

        `by_udp` hears of the ways for which the URI wants UDP by name.
        """
        reach = self._reach.get(profile) or self._find_reach(profile)
        if reach is None:
            then(Unresolvable(f"no profile {profile}"))
            return

        def found(targets: list[Target] | SipError) -> None:
            if isinstance(targets, SipError):
                then(targets)
                return
            host = host_of(uri)
            ways = [self._flow(profile, each, host) for each in targets if each.transport in reach.transports]
            flows = [flow for flow in ways if flow is not None]
            if len(flows) > 1:
                flows = self.outages.last(flows, self._now())
            if by_udp is not None and flows and uri.transport == "UDP":
                for flow in flows:
                    by_udp(flow)
            then(flows or Unresolvable(f"profile {profile} has no way to {uri}"))

        self.resolver.locate(uri, found, reach)

    def _find_reach(self, profile: str) -> Reach | None:
        settings = self._settings.get(profile)
        if settings is None:
            return None
        ipv4, ipv6 = (self._towards(profile, ipv6=six) is not None for six in (False, True))
        reach = self._reach[profile] = Reach(
            spoken(settings), ipv4=ipv4, ipv6=ipv6, naptr=not settings.disable_naptr, srv=not settings.disable_srv
        )
        return reach

    def _flow(self, profile: str, target: Target, host: str) -> Flow | None:
        local = self._towards(profile, ipv6=":" in target.address[0])
        if local is None:
            return None
        connection = ""
        if target.transport != "UDP":
            connection = self._connections.connection_to(profile, target.transport, target.address, host)
            if not connection and target.transport in ("WS", "WSS"):
                return None  # only the phone can connect
        return Flow(profile, target.transport, local, target.address, connection)

    def _towards(self, profile: str, *, ipv6: bool) -> Address | None:
        """Our address of that family on a profile."""
        return next((each for each in self._locals_of(profile) if (":" in each[0]) == ipv6), None)

    # ---- what became of it -------------------------------------------------------------------------------------------

    def heard(self, response: Response, transaction: ClientTransaction) -> None:
        """A response came. Need not be called unless it is a 503 or `outages` has something."""
        if response.status != 503:
            self.outages.forget(transaction.flow)
        elif self.passes_over(response, transaction.flow.profile):
            seconds = retry_after(response, self._memory(transaction.flow.profile))
            self.outages.note(transaction.flow, seconds, self._now())

    def unreached(self, transaction: ClientTransaction, cause: Failure) -> None:
        """It failed: by the transport, or because no answer came in time."""
        if cause == "transport" or not transaction.status:
            flow = transaction.flow
            self.outages.note(flow, self._memory(flow.profile), self._now())

    def passes_over(self, response: Response, profile: str) -> bool:
        """Does this answer mean that the next target is to be tried (RFC 3263 4.3)?"""
        settings = self._settings.get(profile)
        return response.status == 503 and (settings is None or not settings.disable_srv503)

    def patience(self, profile: str) -> float:
        """Seconds that a target may be silent while others are left."""
        settings = self._settings.get(profile)
        return settings.next_target_timeout / 1000 if settings is not None else 4.0

    def _memory(self, profile: str) -> float:
        settings = self._settings.get(profile)
        return float(settings.dead_target_time) if settings is not None else 30.0


def spoken(settings: ProfileSettings) -> tuple[Transport, ...]:
    """The transports of a profile in the order in which they are preferred where nothing else says so."""
    offered = settings.transports
    has: tuple[tuple[Transport, bool], ...] = (
        ("UDP", "udp" in offered and not settings.tls_only),
        ("TCP", "tcp" in offered and not settings.tls_only),
        ("TLS", "tls" in offered or settings.tls),
        ("WS", "ws" in offered or settings.ws_binding is not None),
        ("WSS", "wss" in offered or settings.wss_binding is not None),
    )
    return tuple(name for name, there in has if there)
