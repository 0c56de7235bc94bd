"""What a node knows of the lease and of its peer, and until when it may act. Pure: time is an argument.

All moments are this host's monotonic clock. What the store or the peer grants is counted from the moment *before* it
was asked for, so it ends here before it ends there, whatever the clocks of the other machines say.

The store's word alone is not believed where it may have forgotten something (it was set back, or its clock has jumped):
when the lease is granted while the peer might have been granted it too, and when it is renewed for a node whose time was
over, for another one may have ruled meanwhile. Then the peer is asked: its promise says that it does not act, is not about
to, and under which epoch it ever did. A peer that does not answer is waited for until whatever it holds is over.
"""

from __future__ import annotations

import math
from itertools import count

from ha.policy import Holding, Order, Peer, Role, View
from ha.settings import LeaseSettings, PeerSettings
from store.records import Lease

BLIND = 2.0
"Seconds for which a node that is alone waits for a store that does not answer."
STALE = 8.0
"Polls after which what the store said is no longer taken for true."
ABSENT = 0.6
"Lives of the lease between two looks at it after which it is watched anew: it may have been us who stood still."
HOPE = 1.6
"Lives of the lease for which a node that nothing covers waits in silence for the store's word."
OVER = 8.0
"Lives of the lease after which one that does not move is free, however seldom we look."


class Standing:
    """Fed with what store and peer say; asked for the view that the policy decides from."""

    def __init__(
        self, node: str, lease: LeaseSettings, peer: PeerSettings, *, alone: bool, now: float, ordered: bool = False
    ) -> None:
        """`ordered`: others say who is active. Without their order this node stays out."""
        self.node = node
        self.role = Role.STANDBY
        self._ordered = ordered
        self.order = Order.DEMOTE if ordered else Order.NONE
        self.claiming = False
        "An acquire is under way: until it is answered nothing may be promised."
        self.lease: Lease | None = None
        "The lease that this node holds."
        self.ruled = 0
        "The newest epoch that it has had in this life."
        self.seen: Lease | None = None
        "The lease as the store showed it last."
        self.seen_at = -math.inf
        self._looked_at = -math.inf
        self._settings, self._peer_settings = lease, peer
        self._alone = alone
        self._leased_until = -math.inf
        self._renewed_at = -math.inf
        self._unsure_until = -math.inf
        "Until when the peer might act under a lease that the store has lost, unless it says that it does not."
        self._told: tuple[float, float, float] | None = None
        "The store's clock as it was told last, and between which two moments of ours."
        self._granted_at = -math.inf
        self._sure_at = -math.inf
        "When the lease was ours last without any doubt."
        self._changed_at = self._watched_since = now
        self._doubtful_since: float | None = None
        "Since when nothing covers us, as far as we have noticed."
        self._confirmed_at: float | None = None
        "When the store said first that the lease is ours all the same."
        self._vouched = False
        "The peer has said since that nobody else has had it."
        self._beat_at = -math.inf
        self._others_at = -math.inf
        "When the lease was last seen in another node's hands."
        self._peer_acts = False
        self._peer_gone = False
        self._handed_over = False
        "The peer has said that it let go, and nothing of it was seen since."
        self._promised_until = -math.inf
        "Until when the peer has promised not to claim."
        # A former life of this node may have promised something: wait as long as a promise can last.
        self.bound_until = now + (BLIND if alone else lease.ttl if peer.configured else 0.0)
        self._asked: dict[int, float] = {}
        self._numbers = count(1)

    # ---- what the store says ---------------------------------------------------------------------------------------

    def on_acquired(self, lease: Lease, began: float, now: float) -> None:
        self.claiming = False
        # Both may have claimed, and the store may have forgotten the other one's grant, or called it over, meanwhile.
        watched = now - self._watched_since >= self._settings.ttl and self.peer(now) is Peer.SILENT
        settled = self._alone or self._handed_over or (watched and self._goes_on(lease, began, now))
        self._unsure_until = -math.inf if settled else now + self._settings.ttl
        self._hear(lease, began, now)
        self._leased_until = began + (lease.until - lease.now)
        self._granted_at, self._sure_at, self._doubtful_since = now, began, None

    def on_renewed(self, lease: Lease, began: float, now: float) -> None:
        if self.lease is None:
            return
        self._look(now)
        if self._unbroken(lease, began, now):
            self._doubtful_since = None
        self._hear(lease, began, now)
        self._leased_until = max(self._leased_until, began + (lease.until - lease.now))
        if self._doubtful_since is not None and began >= self._doubtful_since and self._confirmed_at is None:
            self._confirmed_at = now
        self._settle(now)
        if self._doubtful_since is None:
            self._sure_at = began

    def on_claim_failed(self) -> None:
        self.claiming = False

    def on_lost(self) -> None:
        """The store says that the lease is not ours any more: neither it nor a promise covers us."""
        self.lease = None
        self._leased_until = self._promised_until = -math.inf
        self._doubtful_since = None

    def on_released(self) -> None:
        self.on_lost()
        self.seen_at = -math.inf

    def on_read(self, lease: Lease | None, began: float, now: float) -> None:
        """How the lease stands for anybody. One whose end moves is alive, whatever the store's clock says of it.

        Where we have not looked for a while (both hosts may have been starved, or the store), it is watched anew: its
        holder, who wakes with us, gets the time to renew it.
        """
        if lease is not None:
            self._told = lease.now, began, now
        if lease is not None and lease.holder != self.node:
            self._handed_over, self._others_at = False, now
            if self.role is Role.STANDBY and self.order is Order.NONE and lease.until > lease.now:
                self.relax()  # Who lost the role by itself may take it again only until another one has been ordered to.
        if self.seen_at == -math.inf or _identity(lease) != _identity(self.seen):
            self._changed_at = self._watched_since = now
        elif began - self._looked_at > ABSENT * self._settings.ttl:
            self._watched_since = now
        self.seen, self.seen_at, self._looked_at = lease, now, began

    # ---- what the peer says ----------------------------------------------------------------------------------------

    def on_beat(self, role: Role, now: float) -> None:
        """Who is letting go still acts."""
        self._beat_at, self._peer_gone = now, False
        self._peer_acts = role is not Role.STANDBY
        self._handed_over = self._handed_over and not self._peer_acts

    def on_peer_closed(self) -> None:
        """The link is closed. No proof of anything: the lease is only looked at more often."""
        self._peer_gone = True

    def ask(self, now: float) -> int:
        """A number for a promise to be asked for now."""
        number = next(self._numbers)
        self._asked = {n: at for n, at in self._asked.items() if now - at < self._settings.ttl}
        self._asked[number] = now
        return number

    def on_promise(self, number: int, seconds: float, ruled: int, now: float) -> None:
        """The peer will not claim for so many seconds from the moment it was asked. It neither acts nor is about to.

        `ruled`: the newest epoch that it ever had; where that is newer than ours, ours is of a store that was set back.
        """
        asked = self._asked.pop(number, None)
        if asked is None or self.lease is None:
            return
        self._look(now)
        if ruled > self.lease.epoch:
            self.on_lost()
            return
        self._promised_until = max(self._promised_until, asked + seconds)
        if asked >= self._granted_at:
            self._unsure_until = -math.inf
        if self._doubtful_since is not None and asked >= self._doubtful_since:
            self._vouched = True
        self._settle(now)

    def promise(self, seconds: float, now: float) -> bool:
        """Promise the peer not to claim for a while, if that can be kept."""
        if self.role is not Role.STANDBY or self.lease is not None or self.claiming:
            return False
        self.bound_until = max(self.bound_until, now + min(seconds, 2 * self._settings.ttl))
        return True

    def on_handed_over(self, now: float) -> None:
        """The peer has let go and released the lease: what was promised to it is settled, and it has had its chance."""
        if self._alone:
            return
        self.bound_until = -math.inf
        if self.order is Order.HAND_OVER:
            self.relax()
        if self.lease is None:
            # Nobody has it: that need not be read from the store first, which judges the claim anyway.
            self.seen, self.seen_at = None, now
            self._handed_over = True

    # ---- what is ordered -------------------------------------------------------------------------------------------

    def relax(self) -> None:
        """What was ordered is done, or is not to be: who acts goes on, who does not waits, for an order where those rule."""
        out = self._ordered and self.role in (Role.STANDBY, Role.DEMOTING)
        self.order = Order.DEMOTE if out else Order.NONE

    # ---- what follows ----------------------------------------------------------------------------------------------

    @property
    def until(self) -> float:
        """The moment at which this node must have let go."""
        if self._alone:
            return math.inf
        if self._doubtful_since is not None:
            return -math.inf
        return max(self._leased_until, self._promised_until) - self._settings.margin

    @property
    def epoch(self) -> int:
        return self.lease.epoch if self.lease is not None else 0

    def holding(self, now: float) -> Holding:
        if self.lease is not None:
            late = now - self._renewed_at > 2 * self._settings.renew
            late = late or (self.role is Role.STANDBY and now < self._unsure_until)
            return Holding.LATE if late else Holding.MINE
        if now - self.seen_at > STALE * self._settings.poll + self._settings.renew:
            return Holding.UNKNOWN
        return Holding.FREE if self._free(now) else Holding.OTHERS

    def peer(self, now: float) -> Peer:
        if self._alone:
            return Peer.ALONE
        if self._peer_gone or now - self._beat_at > self._peer_settings.dead:
            return Peer.SILENT
        return Peer.ACTIVE if self._peer_acts else Peer.STANDBY

    def poll(self, now: float) -> float:
        """Seconds between two looks at the lease."""
        alert = self.peer(now) is Peer.SILENT and self.role is Role.STANDBY
        return self._settings.poll_alert if alert else self._settings.poll

    def overtaken(self, now: float) -> bool:
        """May others have ruled since our epoch began, for all that is known? Then the lease is to be taken anew.

        The store says that it is ours, and the peer, which might know better, has not answered for so long that it cannot
        act any more.
        """
        if self._doubtful_since is None or self._confirmed_at is None or self._vouched:
            return False
        return self.role is Role.ACTIVE and now - self._confirmed_at >= self._settings.ttl

    def view(self, now: float, *, ready: bool, done: bool) -> View:
        self._look(now)
        safe = now < self.until
        doubtful = self._doubtful_since
        return View(
            role=self.role,
            holding=self.holding(now),
            peer=self.peer(now),
            order=self.order,
            safe=safe,
            hopeful=doubtful is not None and now - doubtful < HOPE * self._settings.ttl,
            bound=now < self.bound_until,
            ready=ready,
            done=done,
        )

    def _hear(self, lease: Lease, began: float, now: float) -> None:
        """The store has said that we hold the lease."""
        self.lease, self._renewed_at, self._told = lease, now, (lease.now, began, now)
        self.ruled = max(self.ruled, lease.epoch)

    def _look(self, now: float) -> None:
        """Notice that nothing covers us any more: from then on neither a renewal nor a promise alone does."""
        if self.lease is not None and self._doubtful_since is None and now >= self.until:
            self._doubtful_since, self._confirmed_at, self._vouched = now, None, False

    def _settle(self, now: float) -> None:
        """Is there no doubt any more? The lease is ours, and nobody else had it meanwhile, nor can have it now."""
        if self._confirmed_at is not None and self._vouched and now < self._promised_until:
            self._doubtful_since = None

    def _unbroken(self, lease: Lease, began: float, now: float) -> bool:
        """Was the lease renewed before it was over in the store, and only its answer late?"""
        return now - self._sure_at < self._settings.ttl and self._goes_on(lease, began, now)

    def _goes_on(self, lease: Lease, began: float, now: float) -> bool:
        """Has the store's clock gone on like ours since it was told last? Each answer is as old as its call was long."""
        if self._told is None:
            return False
        clock, asked, heard = self._told
        slack = self._settings.margin / 2
        return began - heard - slack <= lease.now - clock <= now - asked + slack

    def _free(self, now: float) -> bool:
        """Free by the store's clock; and, for that clock may jump, not seen to move for its whole life by ours.

        A lease that is nobody's was given back, or its store was lost, or set back to a day before: who held it acts on
        for as long as it may. Unless the peer itself says that it does not act, that time is waited for too; what it said
        before it was seen to have the lease is no answer.
        """
        lease = self.seen
        ttl = self._settings.ttl
        if self._alone or not self._peer_settings.configured:
            return lease is None or not lease.holder or lease.holder == self.node or lease.until <= lease.now
        if lease is None or not lease.holder or lease.holder == self.node:
            if self._handed_over or (self.peer(now) is Peer.STANDBY and self._beat_at > self._others_at):
                return True
        elif lease.until > lease.now:
            return False
        return now - self._watched_since >= ttl or now - self._changed_at >= OVER * ttl


def _identity(lease: Lease | None) -> tuple[str, int, float] | None:
    return None if lease is None else (lease.holder, lease.epoch, lease.until)
