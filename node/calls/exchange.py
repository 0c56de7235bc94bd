"""What all calls of a worker share: the services around them, the clocks, and where their dialogs are found."""

from __future__ import annotations

import os
import random
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from node.calls.moving import media_named
from node.config import Configuration
from node.config.profile import ProfileSettings
from node.directory import Directory
from node.events import EventStream
from node.media.engines import Media
from node.registrar.location import Location
from node.sip.flow import Flow
from node.sip.token import Names, token
from node.sip.uri import Uri
from node.transport.capabilities import standing
from node.transport.endpoint import Endpoint
from store.writer import Writer

if TYPE_CHECKING:
    from node.calls.call import Call
    from node.calls.leg import Leg

MEMORY = 64.0
"Seconds for which the end of a dialog is remembered: twice as long as any retransmission lasts (64*T1)."

Headers = tuple[tuple[str, str], ...]


class Extension(NamedTuple):
    """A dialog's entry in the index."""

    call: Call
    leg: Leg


class Exchange:
    """Services, clocks and index. Calls come and go in it; it decides nothing."""

    def __init__(
        self,
        *,
        slot: str,
        node: str,
        epoch: int,
        endpoint: Endpoint,
        media: Media,
        writer: Writer,
        configuration: Configuration,
        directory: Directory,
        location: Location,
        events: EventStream,
        core_uuid: str,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.slot = slot
        self.node = node
        self.epoch = epoch
        self.endpoint = endpoint
        self.media = media
        self.writer = writer
        self.configuration = configuration
        self.directory = directory
        self.location = location
        self.events = events
        self.core_uuid = core_uuid
        self.wall = wall
        self.names = Names(token(slot))
        self.calls: dict[str, Call] = {}
        self.dialogs: dict[str, Extension] = {}
        "By our tag, which is random and ours alone."
        self.counters: dict[str, int] = {}
        "Counters of `sofia status profile`: `internal.calls_in`, `internal.failed_calls_in`, ..."
        self.number = 0
        "`session_id` of the newest leg."
        self._departed: dict[str, float] = {}
        self._departures: deque[str] = deque()
        self._headers: dict[str, Headers] = {}
        self._once_claimed: list[Callable[[], None]] = []

    # ---- the index -------------------------------------------------------------------------------------------------

    def enrol(self, call: Call, leg: Leg) -> None:
        """A dialog of this leg may be asked for from now on."""
        if leg.dialog is not None:
            self.dialogs[leg.dialog.local_tag] = Extension(call, leg)

    def depart(self, leg: Leg) -> None:
        """The leg is over; its dialog is remembered a while, so that a belated BYE gets its 200."""
        if leg.dialog is None or self.dialogs.pop(leg.dialog.local_tag, None) is None:
            return
        now = self.endpoint.now()
        self._departed[leg.dialog.local_tag] = now + MEMORY
        self._departures.append(leg.dialog.local_tag)
        while self._departures and self._departed.get(self._departures[0], 0.0) <= now:
            self._departed.pop(self._departures.popleft(), None)

    def departed(self, tag: str) -> bool:
        """Whether the dialog of this tag of ours was live a moment ago."""
        return tag in self._departed

    # ---- a claim ---------------------------------------------------------------------------------------------------

    def once_claimed(self, then: Callable[[], None]) -> None:
        """When all records of a claim that is under way are here. May be never: nobody may wait for this alone."""
        self._once_claimed.append(then)

    def claimed(self) -> None:
        """They are."""
        waiting, self._once_claimed = self._once_claimed, []
        for then in waiting:
            then()

    # ---- small services --------------------------------------------------------------------------------------------

    def profile(self, name: str) -> ProfileSettings | None:
        return self.configuration.profile(name)

    def configure(self, configuration: Configuration, directory: Directory) -> None:
        """Go by another configuration from now on. As in FreeSWITCH, the profiles count from zero again."""
        self.configuration = configuration
        self.directory = directory
        self.counters.clear()
        self._headers.clear()

    def headers(self, profile: str) -> Headers:
        """User-Agent, Allow and Supported of everything we send on a profile."""
        found = self._headers.get(profile)
        if found is None:
            settings = self.profile(profile)
            found = self._headers[profile] = tuple(standing(settings)) if settings is not None else ()
        return found

    def contact(self, leg: Leg, user: str = "") -> str:
        """Our Contact towards this leg."""
        assert leg.flow is not None, "a leg without a flow has no Contact"
        secure = (
            leg.dialog.secure if leg.dialog is not None else leg.variables.get("sip_destination_url", "")[:5] == "sips:"
        )
        return self.endpoint.contact(leg.flow, user or "mod_sofia", secure=secure)

    def media_address(self, leg: Leg) -> str:
        """The address that our descriptions name towards this leg."""
        settings = self.profile(leg.profile)
        assert settings is not None, "media on a profile that is not there"
        return media_named(settings, self.configuration.acl, leg.flow.remote[0] if leg.flow is not None else "")

    def send(self, request: Any, flow: Flow) -> None:
        """A request outside any transaction: the ACK to a 2xx."""
        self.endpoint.send(self.endpoint.layer.with_via(request, flow).encode(), flow)

    def count(self, profile: str, what: str) -> None:
        key = f"{profile}.{what}"
        self.counters[key] = self.counters.get(key, 0) + 1


_random = random.Random()
# Processes forked from one another must not make the same UUIDs.
os.register_at_fork(after_in_child=_random.seed)


def new_uuid() -> str:
    """A random UUID (RFC 9562 version 4). It need only be unlike all others, so no system call is made for it."""
    text = f"{_random.getrandbits(128):032x}"
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{'89ab'[int(text[16], 16) & 3]}{text[17:20]}-{text[20:]}"


def numeric(uri: Uri) -> bool:
    """Whether the host is an address already, and needs no resolver."""
    host = uri.host
    return host.startswith("[") or (host.replace(".", "").isdigit() and host.count(".") == 3)
