"""Looks over the shoulder of a phone: is what the node says in a dialog right before and after a failover?"""

from __future__ import annotations

from tests.support.phone import Line
from tests.support.sipmessage import Sip, parameter, uri_of


class Witness:
    """Begins when the call is established; `complaints` tells what was wrong with any message of the dialog seen since."""

    def __init__(self, line: Line, transport: str, hops: int) -> None:
        """`hops`: how many Vias a request of the node has when it is here: 1, and one for each proxy."""
        self.line, self.transport, self.hops = line, transport, hops
        self.us, self.them = line.local, line.remote
        self.contact = _plain(line.target)
        self.addresses = {_plain(line.phone.contact)}
        "Where this phone may be addressed: a connection made anew has another port."

    def moved(self) -> None:
        """The phone has connected anew."""
        self.addresses.add(_plain(self.line.phone.contact))

    def complaints(self) -> list[str]:
        mine = [m for _at, m in self.line.phone.seen if m.call_id == self.line.call_id]
        requests = [m for m in mine if not m.is_response and m.method not in ("CANCEL",)]
        found = [text for message in mine for text in self._common(message)]
        found += [text for request in requests if self._in_dialog(request) for text in self._request(request)]
        return [f"{self.line.phone.user}: {text}" for text in [*found, *self._order(requests)]]

    def _common(self, message: Sip) -> list[str]:
        """From, To and their tags: of a request the node's are From, of a response to ours they are To."""
        if message.is_response:
            ours, theirs = message.get("From"), message.get("To")
            if message.status < 180 or message.status >= 300:
                return []
        else:
            ours, theirs = message.get("To"), message.get("From")
            if not self._in_dialog(message):
                return []
        return [
            f"{message.start} has {got}, its dialog {wanted}"
            for got, wanted in ((ours, self.us), (theirs, self.them))
            if (uri_of(got), parameter(got, "tag")) != (uri_of(wanted), parameter(wanted, "tag"))
        ] + self._contact(message)

    def _contact(self, message: Sip) -> list[str]:
        """The node stays where it was: its Contact does not change."""
        target = uri_of(message.get("Contact"))
        if not target or message.method not in ("INVITE", "UPDATE") or _plain(target) == self.contact:
            return []
        return [f"{message.start} has the Contact {target}, before it was {self.contact}"]

    def _request(self, request: Sip) -> list[str]:
        vias, found = _split(request.all("Via")), []
        top = vias[0].split()[0].rpartition("/")[2].upper()
        if top != self.transport:
            found.append(f"{request.start} came by {top}, not {self.transport}")
        if len(vias) != self.hops:
            found.append(f"{request.start} came by {len(vias)} hops, not {self.hops}")
        if request.all("Route"):
            found.append(f"{request.start} still has a Route: {request.all('Route')}")
        target = request.start.split()[1]
        if _plain(target) not in self.addresses:
            found.append(f"{request.start} is for {target}, not {sorted(self.addresses)}")
        return found

    def _order(self, requests: list[Sip]) -> list[str]:
        """CSeqs rise from transaction to transaction; an ACK has that of its INVITE."""
        found, highest, last = [], 0, ""
        for request in requests:
            if request.method == "ACK":
                continue
            if request.branch != last and request.cseq <= highest:
                found.append(f"{request.start} has CSeq {request.cseq} after {highest}")
            highest, last = max(highest, request.cseq), request.branch
        return found

    def _in_dialog(self, request: Sip) -> bool:
        return bool(parameter(request.get("To"), "tag"))


def _plain(uri: str) -> str:
    """User, host and port, and the transport; what proxies add for themselves is left out."""
    head, *parameters = uri.split(";")
    transport = next((p.lower() for p in parameters if p.lower().startswith("transport=")), "")
    return f"{head};{transport}".lower()


def _split(values: list[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",")]
