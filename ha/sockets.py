"""The kept sockets: opened by the supervisor, so that they outlive the worker that reads them."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ha.loop import Loop
from node.config.profile import ProfileSettings
from node.link import SocketName

log = logging.getLogger(__name__)

RETRY = 0.02
"Seconds between two attempts to bind: a dead predecessor's processes may not have let go yet."
BACKLOG = 1024
RECEIVE_BUFFER = 4 << 20
SO_RCVBUFFORCE, SO_SNDBUFFORCE = 33, 32
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
FREE, FREE_IPV6 = (socket.IPPROTO_IP, 15), (socket.IPPROTO_IPV6, 78)
"IP_FREEBIND and IPV6_FREEBIND: an address may be bound before it is here (ip(7))."
WAITABLE = (errno.EADDRINUSE, errno.EADDRNOTAVAIL)


class CannotBind(Exception):
    """A profile's address cannot be had; the text names profile, transport, address and reason."""


@dataclass(frozen=True, slots=True)
class KeptSocket:
    name: SocketName
    socket: socket.socket


class KeptSockets:
    """The open sockets of each profile, by its name."""

    def __init__(self, loop: Loop, give_up: float = 4.0, foreign: str = "") -> None:
        """`foreign`: an address that is bound also while this host does not have it."""
        self._loop, self._give_up, self._foreign = loop, give_up, foreign
        self._kept: dict[str, list[KeptSocket]] = {}
        self._wanted: dict[str, object] = {}
        self._parked: dict[str, list[KeptSocket]] = {}

    def open(self, profile: ProfileSettings, then: Callable[[CannotBind | None], None]) -> None:
        """Bind all of a profile's sockets, trying again for a while; `then` hears how it went, perhaps at once."""
        attempt = self._wanted[profile.name] = object()
        self._try(profile, then, attempt, self._loop.now() + self._give_up)

    def has(self, profile: str) -> bool:
        return profile in self._kept

    def for_worker(self, profile: str, slot: str) -> list[KeptSocket]:
        """What the worker of a slot gets: its own udp socket, one of each other profile to send on, its listeners."""
        own = [kept for kept in self._kept.get(profile, []) if kept.name.slot in (slot, "")]
        return own + [kept for other in self._kept if other != profile for kept in self.to_send_on(other)]

    def to_send_on(self, profile: str) -> list[KeptSocket]:
        return [kept for kept in self._kept.get(profile, []) if kept.name.kind == "udp"][:1]

    def listener(self, profile: str) -> SocketName | None:
        """The first listening socket of a profile."""
        return next((kept.name for kept in self._kept.get(profile, []) if kept.name.kind != "udp"), None)

    def park(self, profile: str) -> None:
        """A profile is stopped, the node goes on: other workers still send on its udp sockets, but nothing comes in.

        Closing them here would not free the port, for the workers hold duplicates. They are taken up again by `open`.
        """
        self._wanted.pop(profile, None)
        for kept in self._kept.pop(profile, []):
            if kept.name.kind == "udp":
                _deaf(kept.socket)
                self._parked.setdefault(profile, []).append(kept)
            else:
                kept.socket.close()

    def deafen_listeners(self) -> None:
        """Nobody connects here any more: who tries hears nothing, and tries again where the address is by then."""
        for kept in (each for profile in self._kept.values() for each in profile if each.name.kind != "udp"):
            _deaf(kept.socket)

    def close_all(self) -> None:
        self._wanted.clear()
        for held in (self._kept, self._parked):
            for each in held.values():
                for kept in each:
                    kept.socket.close()
            held.clear()

    def _try(
        self, profile: ProfileSettings, then: Callable[[CannotBind | None], None], attempt: object, until: float
    ) -> None:
        if self._wanted.get(profile.name) is not attempt:
            return
        try:
            self._kept[profile.name] = bind(profile, self._unpark(profile), foreign=self._foreign)
        except CannotBind as error:
            cause = error.__cause__
            if isinstance(cause, OSError) and cause.errno in WAITABLE and self._loop.now() < until:
                self._loop.after(RETRY, lambda: self._try(profile, then, attempt, until))
                return
            self._wanted.pop(profile.name, None)
            then(error)
        else:
            then(None)

    def _unpark(self, profile: ProfileSettings) -> list[KeptSocket]:
        """The parked udp sockets, if the profile still wants these; else they are closed."""
        parked = self._parked.pop(profile.name, [])
        names = {(kept.name.host, kept.name.port) for kept in parked}
        if (
            "udp" in profile.transports
            and len(parked) == profile.workers
            and names == {(profile.sip_ip, profile.sip_port)}
        ):
            for kept in parked:
                kept.socket.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            return parked
        for kept in parked:
            kept.socket.close()
        return []


def bind(profile: ProfileSettings, parked: list[KeptSocket] | None = None, *, foreign: str = "") -> list[KeptSocket]:
    """All sockets of a profile or none; raises CannotBind. `parked`: its udp sockets, where they are open already."""
    with contextlib.ExitStack() as stack:
        kept: list[KeptSocket] = [*(parked or [])]
        for each in kept:
            stack.enter_context(each.socket)
        port = kept[0].name.port if kept else profile.sip_port
        if "udp" in profile.transports and not kept:
            for number in range(profile.workers):
                udp = stack.enter_context(_udp(profile, port, first=number == 0, foreign=foreign))
                port = udp.getsockname()[1]
                name = SocketName(profile.name, "udp", profile.sip_ip, port, f"{profile.name}#{number}")
                kept.append(KeptSocket(name, udp))
        for kind, host, number in listeners(profile, port):
            sock = stack.enter_context(_listening(profile, kind, host, number, foreign=foreign))
            kept.append(KeptSocket(SocketName(profile.name, kind, host, sock.getsockname()[1]), sock))
        stack.pop_all()
    return kept


def listeners(profile: ProfileSettings, port: int) -> Iterator[tuple[str, str, int]]:
    """Kind, address and port of each listening socket; TCP has the port of UDP, the others their own."""
    if "tcp" in profile.transports:
        yield "tcp", profile.sip_ip, port
    if "tls" in profile.transports:
        yield "tls", profile.sip_ip, profile.tls_sip_port
    for kind, binding in (("ws", profile.ws_binding), ("wss", profile.wss_binding)):
        if binding is not None and kind in profile.transports:
            yield kind, binding.host or profile.sip_ip, binding.port


def _udp(profile: ProfileSettings, port: int, *, first: bool, foreign: str) -> socket.socket:
    shared = profile.workers > 1
    if shared and first and port:
        # Sharing would hide a foreign process that shares the port too: it must be ours alone for a moment.
        _bound(profile, socket.SOCK_DGRAM, port, foreign=foreign).close()
    sock = _bound(profile, socket.SOCK_DGRAM, port, reuse=socket.SO_REUSEPORT if shared else 0, foreign=foreign)
    for force, polite in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, RECEIVE_BUFFER)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, polite, RECEIVE_BUFFER)
    return sock


def _listening(profile: ProfileSettings, kind: str, host: str, port: int, *, foreign: str) -> socket.socket:
    reuse = socket.SO_REUSEADDR
    sock = _bound(profile, socket.SOCK_STREAM, port, reuse=reuse, host=host, transport=kind, foreign=foreign)
    sock.listen(BACKLOG)
    return sock


def _bound(
    profile: ProfileSettings,
    kind: socket.SocketKind,
    port: int,
    *,
    reuse: int = 0,
    host: str = "",
    transport: str = "udp",
    foreign: str = "",
) -> socket.socket:
    host = host or profile.sip_ip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, reuse, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if host == foreign:
            sock.setsockopt(*(FREE_IPV6 if family == socket.AF_INET6 else FREE), 1)
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise CannotBind(
            f"profile {profile.name} cannot listen on {transport} {host} port {port}: {error.strerror}"
        ) from error
    return sock


def _deaf(sock: socket.socket) -> None:
    """Let the kernel drop what comes in, on this socket and all its duplicates: a filter that keeps 0 bytes."""
    drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(drop_all))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
