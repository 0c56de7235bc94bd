"""A real name server of the test's own, UDP and TCP on one port of the loopback: answers, or misbehaves as it is told."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterable

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class NameServer:
    """Serves `zone`: (name with its last dot, kind) to records, each `TTL IN KIND data`."""

    def __init__(
        self, zone: dict[tuple[str, str], str | Iterable[str]] | None = None, address: str = "127.0.0.1"
    ) -> None:
        self.zone = dict(zone or {})
        self.asked: list[str] = []
        "`name kind`, by UDP; a question by TCP with ` tcp` behind."
        self.silent: set[str] = set()
        "Names, or `name kind`, that are never answered; `*`: none is."
        self.failing: set[str] = set()
        "Names that get SERVFAIL."
        self.truncated: set[str] = set()
        "Names whose answers come whole only by TCP."
        self.delays: dict[str, float] = {}
        self.soa: str = ""
        "Put into the authority section of what is not there: `name TTL minimum`."
        self._udp, self._tcp = _pair(address)
        self.address = self._udp.getsockname()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._serve_udp, self._serve_tcp)]
        for thread in self._threads:
            thread.start()

    @property
    def text(self) -> str:
        """As the param `dns-servers` wants it."""
        return f"{self.address[0]}:{self.address[1]}"

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()
        for sock in (self._udp, self._tcp):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _serve_udp(self) -> None:
        while not self._closed.is_set():
            try:
                data, source = self._udp.recvfrom(4096)
            except OSError:
                return
            if data:
                threading.Thread(target=self._answer_udp, args=(data, source), daemon=True).start()

    def _answer_udp(self, data: bytes, source: tuple[str, int]) -> None:
        answer = self._answer(data, "")
        if answer is None:
            return
        if str(answer.question[0].name) in self.truncated:
            answer.answer.clear()
            answer.flags |= dns.flags.TC
        with contextlib.suppress(OSError):
            self._udp.sendto(answer.to_wire(), source)

    def _serve_tcp(self) -> None:
        while not self._closed.is_set():
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, struct.error):
                connection.settimeout(5)
                (length,) = struct.unpack("!H", connection.recv(2))
                answer = self._answer(connection.recv(length), " tcp")
                if answer is not None:
                    wire = answer.to_wire()
                    connection.sendall(struct.pack("!H", len(wire)) + wire)

    def _answer(self, data: bytes, how: str) -> dns.message.Message | None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = str(question.name).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}{how}")
        if self.silent & {"*", name, f"{name} {kind}"}:
            return None
        time.sleep(self.delays.get(name, 0.0))
        answer = dns.message.make_response(query)
        if name in self.failing:
            answer.set_rcode(dns.rcode.SERVFAIL)
            return answer
        self._fill(answer, name, kind)
        return answer

    def _fill(self, answer: dns.message.Message, name: str, kind: str) -> None:
        owner = name
        if alias := self.zone.get((name, "CNAME")):
            answer.answer.append(_rrset(name, "CNAME", [str(alias)]))
            owner = str(alias).rsplit(" ", 1)[1]
        found = self.zone.get((owner, kind), ())
        rows = [found] if isinstance(found, str) else list(found)
        if rows:
            answer.answer.append(_rrset(owner, kind, rows))
            return
        if not any(key == owner for key, _kind in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if self.soa:
            zone, ttl, minimum = self.soa.split()
            text = f"ns.{zone} admin.{zone} 1 2 3 4 {minimum}"
            answer.authority.append(dns.rrset.from_text(zone, int(ttl), "IN", "SOA", text))


def _rrset(name: str, kind: str, rows: Iterable[str]) -> dns.rrset.RRset:
    parts = [row.split(" ", 3) for row in rows]
    return dns.rrset.from_text(name, int(parts[0][0]), "IN", kind, *(part[3] for part in parts))


def _pair(address: str) -> tuple[socket.socket, socket.socket]:
    """A UDP socket and a TCP listener on the same free port."""
    for _ in range(50):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind((address, 0))
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tcp.bind(udp.getsockname())
        except OSError:
            udp.close()
            tcp.close()
            continue
        tcp.listen(16)
        return udp, tcp
    raise AssertionError("no port free for both")
