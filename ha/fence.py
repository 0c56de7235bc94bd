"""Letting go: what a node does to be surely passive, in an order that leaves no moment with two of them.

Where nothing covers this node any more the address goes first, so that nothing new arrives and nobody else's is answered;
then the workers are told to leave without a BYE, and the sockets are closed here. With time for it the last words come first:
workers answer what they have in hand, and tell connections of their end, and for that the address must still be here; what
comes meanwhile waits unread in our sockets, and nobody is told that they are closed. When the workers are gone the address
goes, and only then the sockets: else the host itself would refuse what comes, on our behalf.
Whoever has not left in time is killed. Only when all of them are gone may the lease be given back.
"""

from __future__ import annotations

import logging

from ha.address import SharedAddress
from ha.fleet import Fleet, Member
from ha.sockets import KeptSockets

log = logging.getLogger(__name__)

CALM, HASTE = (0.5, 0.5), (0.08, 0.05)
"Seconds for the workers to leave by themselves, and then until they are killed: with a lease to count on, and without."


class LettingGo:
    """One demotion under way."""

    def __init__(
        self,
        fleet: Fleet,
        sockets: KeptSockets,
        address: SharedAddress,
        *,
        reason: str,
        haste: bool,
        keep: bool = False,
    ) -> None:
        """`keep`: address and sockets stay when the workers are gone, for a peer that takes over in calm."""
        self._fleet, self._sockets, self._address = fleet, sockets, address
        self.keep = keep
        # Those too that were told to leave before, as their profile was stopped.
        self._leaving: list[Member] = [member for member in fleet.members if member.slot]
        if haste:
            address.drop()
        else:
            sockets.deafen_listeners()
        within, patience = HASTE if haste else CALM
        for member in self._leaving:
            fleet.dismiss(member, reason, within, patience)
        if haste:
            sockets.close_all()

    def hurry(self) -> None:
        """The lease has run out meanwhile: the address may be somebody else's now."""
        self.keep = False
        self._address.drop()

    def let_go(self) -> None:
        """Of address and sockets. Twice is no error."""
        self._address.drop()
        self._sockets.close_all()

    @property
    def done(self) -> bool:
        """All who served are gone, and with them their duplicates of the sockets."""
        return not any(member in self._fleet.members for member in self._leaving)
