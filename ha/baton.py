"""Two nodes swap their roles in calm: the shared address changes hosts last, when nothing is missing on the other side.

    who lets go     workers finish and leave | lease given back, HandedOver |  relays forward  | beat heard: FORWARDING | let go
    who takes over                           claims, loads the calls, opens their ports | address, announced, beat | serves

Who lets go keeps the address, its sockets unread, and its relays forwarding; it has no workers any more, so it answers
nobody and writes nothing, and its lease is given back. Who takes over loads the calls and opens their ports, and only then
takes the address. For a moment both have it: what the network still brings to the old place is forwarded there. Each side
waits for the other one for a moment only, and nothing else is begun meanwhile: spare workers can wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from ha.address import SharedAddress
from ha.duty import Duty
from ha.fence import LettingGo
from ha.fleet import Fleet
from ha.loop import Alarm, Loop
from node.link import Instruct

log = logging.getLogger(__name__)

KEPT = 1.5
"Seconds for which the address is kept for a peer that does not take it."
LOADING = 0.4
"Seconds that a peer's address is left to it while our calls are loaded: SIP waits meanwhile."
FORWARDING = 0.06
"Seconds for which relays go on when the peer has the address: until its announcement has reached everybody, and not so\nlong that its repetitions (`ha.address.REPEATS`) could not correct who was misled by our still having it."
OWN = 10.0
"Seconds for which relays on an address of their own go on: so long phones may take to hear of the other node."


class Baton:
    """One side of a swap: `keep` and `pass_on` when letting go, `expect` and `take` when taking over."""

    def __init__(
        self,
        loop: Loop,
        *,
        address: SharedAddress,
        duty: Duty,
        fleet: Fleet,
        covered: Callable[[], bool],
        taken: Callable[[], None],
    ) -> None:
        """`covered`: may this node act now? `taken`: told when the shared address is here after all."""
        self._loop, self._address, self._duty, self._fleet = loop, address, duty, fleet
        self._covered, self._taken = covered, taken
        self._kept: LettingGo | None = None
        self._keeping: Alarm | None = None
        self._passing = False
        "The peer has the address already."
        self._offered_until = loop.now()
        self._loading_until = 0.0

    # ---- who lets go -----------------------------------------------------------------------------------------------

    @property
    def keeping(self) -> bool:
        return self._kept is not None

    def keep(self, letting_go: LettingGo) -> None:
        """The workers are gone; the rest stays until the peer has the address."""
        self._kept, self._passing = letting_go, False
        self._keeping = self._loop.after(KEPT, self._give_up)
        self._address.keep_quiet()
        self._fleet.hold_back(LOADING)

    def taken(self) -> None:
        """The peer has the address and has said so to everybody; what is still under way to us is forwarded."""
        if self._kept is None or self._passing:
            return
        self._passing = True
        if self._keeping is not None:
            self._keeping.cancel()
        self._keeping = self._loop.after(FORWARDING, self.pass_on)

    def pass_on(self) -> None:
        """From now on nothing of the former duty is left here: the address is the peer's, or we want it ourselves."""
        if self._kept is None:
            return
        if self._keeping is not None:
            self._keeping.cancel()
        kept, self._kept, self._keeping = self._kept, None, None
        kept.let_go()
        self.drop_media()
        self._fleet.go_on()

    def drop_media(self) -> None:
        """The relays forward no more: their ports are free for whoever has the address."""
        media = self._fleet.of_kind("media")
        if media is not None:
            self._fleet.send(media, Instruct(number=0, verb="release"))

    def drop_media_later(self, unless: Callable[[], bool]) -> None:
        """The same for a node with an address of its own."""
        self._loop.after(OWN, lambda: None if unless() else self.drop_media())

    def _give_up(self) -> None:
        log.warning("the peer has not taken the address within %.1f s, letting go of it", KEPT)
        self.pass_on()

    # ---- who takes over --------------------------------------------------------------------------------------------

    def expect(self) -> None:
        """The peer has let go of everything but the address."""
        self._offered_until = self._loop.now() + KEPT

    def take(self) -> None:
        """On promotion: the address now, or, where the peer keeps it for us, when our calls are loaded."""
        self.pass_on()
        now = self._loop.now()
        if now >= self._offered_until or not self._address.wanted:
            self._address.take()
            return
        self._offered_until = now
        self._loading_until = now + LOADING
        self._fleet.hold_back(LOADING + FORWARDING)
        self._loop.after(LOADING, self.look)

    def look(self) -> None:
        """Each turn of the loop: is all there that was waited for?"""
        if not self._loading_until:
            return
        if self._duty.on and not self._covered():
            return  # We stood still: the peer may have the address again.
        now = self._loop.now()
        loaded = self._duty.done and all(slot.revived is not None for slot in self._duty.slots())
        if loaded or now >= self._loading_until or not self._duty.on:
            begun, self._loading_until = self._loading_until - LOADING, 0.0
            if self._duty.on:
                self._address.take()
                log.info("the calls were %s in %.0f ms", "loaded" if loaded else "not loaded", (now - begun) * 1000)
                self._taken()
            self._loop.after(FORWARDING, self._fleet.go_on)
