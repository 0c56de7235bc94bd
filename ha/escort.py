"""The hooks around a change of role: what must be waited for before it, and what only follows it.

Before a promotion the node holds the lease and is still passive; it promotes itself when its hooks are done, and gives
the lease back when one of them says that it must not. Before an ordered demotion it goes on serving until its hooks are
done. A demotion that is not ordered waits for nothing: its hooks run beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from ha.hooks import Hooks, Outcome
from ha.loop import Loop
from ha.policy import Holding, Order, Peer, Role, Step, View
from node.config.hooks import Hook, Moment

log = logging.getLogger(__name__)

REFUSED = 5.0
"Seconds for which a node whose hook has said no leaves the lease to others."

DEMOTING = (Order.DEMOTE, Order.HAND_OVER)

Headers = list[tuple[str, str]]


class Escort:
    """Asked each time the policy says promote or demote, until it lets that happen."""

    def __init__(
        self,
        loop: Loop,
        hooks: Callable[[], Sequence[Hook]],
        *,
        facts: Callable[[], Mapping[str, str]],
        tell: Callable[[str, Headers], object],
        on_refused: Callable[[str], object],
    ) -> None:
        """`hooks`: those of the present configuration. `facts`: what they are told of the node, as environment."""
        self._loop, self._configured, self._facts = loop, hooks, facts
        self._tell, self._on_refused = tell, on_refused
        self._hooks = Hooks(loop, self._on_outcome)
        self._before: Literal["", "promote", "demote"] = ""
        "What the hooks under way are to be done before."
        self._passed = False
        self._epoch = 0
        self._reason = ""
        "Why the role was changed, or is about to be."
        self._refused_until = loop.now()

    @property
    def busy(self) -> bool:
        return self._hooks.busy

    @property
    def refuses(self) -> bool:
        """A hook has said lately that this node must not be active."""
        return self._loop.now() < self._refused_until

    def look(self) -> None:
        """After SIGCHLD."""
        self._hooks.look()

    def close(self) -> None:
        self._hooks.end()

    # ---- before ----------------------------------------------------------------------------------------------------

    def see(self, step: Step, order: Order) -> None:
        """Told each step before it is carried out: hooks before something that is not to happen any more are ended.

        A renewal or a beat that is late holds up what is ordered, and does not call it off.
        """
        promoting = self._before == "promote" and step not in (Step.PROMOTE, Step.MAKE_SURE, Step.WAIT)
        demoting = self._before == "demote" and step is not Step.DEMOTE and order not in DEMOTING
        if promoting or demoting:
            self._before = ""
            self._hooks.end()

    def may_promote(self, view: View, epoch: int) -> bool:
        """Whether all that comes before is done. Asked anew under each lease."""
        if self._before != "promote" or self._epoch != epoch:
            self._epoch, self._reason = epoch, why_promoted(view)
            self._begin("promote", Role.STANDBY, Role.ACTIVE)
        return self._lets(self._passed)

    def may_demote(self, view: View, reason: str, *, calm: bool) -> bool:
        """The same; where there is no time, or no calm, it may at once, and the hooks run beside."""
        planned = calm and view.order in DEMOTING and covered(view)
        if self._before != "demote":
            self._reason = reason
            self._begin("demote", view.role, Role.STANDBY)
        return self._lets(self._passed or not planned)

    def _lets(self, now: bool, /) -> bool:
        if now:
            self._before = ""
        return now

    def _begin(self, change: Literal["promote", "demote"], old: Role, new: Role) -> None:
        self._before, self._passed = change, False
        moment: Moment = "before-promote" if change == "promote" else "before-demote"
        if not any(hook.moment == moment for hook in self._configured()):
            self._hooks.end(keep=change)
            self._passed = True
            return
        self._hooks.begin(moment, self._configured(), self._environment(old, new), self._on_before)

    def _on_before(self, outcomes: list[Outcome]) -> None:
        failed = next((one for one in outcomes if one.result != "ok" and one.hook.on_failure == "abort"), None)
        if failed is None:
            self._passed = True
            return
        log.error("not promoted: %s; the lease is left to others for %.0f s", failed, REFUSED)
        self._before = ""
        self._refused_until = self._loop.now() + REFUSED
        self._on_refused(f"not promoted: {failed}")

    # ---- after -----------------------------------------------------------------------------------------------------

    def promoted(self) -> None:
        self._follow("after-promote", Role.STANDBY, Role.ACTIVE)

    def demoted(self) -> None:
        self._follow("after-demote", Role.ACTIVE, Role.STANDBY)

    def _follow(self, moment: Moment, old: Role, new: Role) -> None:
        headers = [("node", self._facts()["SOFIA_NODE"]), ("role-from", old.value), ("role-to", new.value)]
        self._tell("sofia::ha_role", [*headers, ("epoch", str(self._epoch)), ("reason", self._reason)])
        if any(hook.moment == moment for hook in self._configured()):
            self._hooks.begin(moment, self._configured(), self._environment(old, new))

    # ---- what they are told, and what is told of them ---------------------------------------------------------------

    def _environment(self, old: Role, new: Role) -> Mapping[str, str]:
        return {
            **self._facts(),
            "SOFIA_ROLE_FROM": old.value,
            "SOFIA_ROLE_TO": new.value,
            "SOFIA_EPOCH": str(self._epoch),
            "SOFIA_REASON": self._reason,
        }

    def _on_outcome(self, outcome: Outcome, environment: Mapping[str, str]) -> None:
        headers = [
            ("node", environment["SOFIA_NODE"]),
            ("hook", outcome.hook.moment),
            ("command", outcome.hook.command[0]),
            ("result", outcome.result),
            ("status", "" if outcome.status is None else str(outcome.status)),
            ("seconds", f"{outcome.seconds:.3f}"),
            ("role-from", environment["SOFIA_ROLE_FROM"]),
            ("role-to", environment["SOFIA_ROLE_TO"]),
            ("epoch", environment["SOFIA_EPOCH"]),
            ("reason", environment["SOFIA_REASON"]),
        ]
        self._tell("sofia::ha_hook", headers)


def covered(view: View) -> bool:
    """Nobody else may be active now: there is time for an orderly end."""
    if view.peer is Peer.ALONE:
        return view.holding is not Holding.OTHERS
    return view.safe and view.holding in (Holding.MINE, Holding.LATE)


def why_promoted(view: View) -> str:
    match view:
        case View(order=Order.PROMOTE):
            return "ordered"
        case View(peer=Peer.SILENT):
            return "the lease was free and the peer is silent"
        case _:
            return "the lease was free"


def why_demoted(view: View, asked: str) -> str:
    """`asked`: why it was ordered, where it was."""
    match view:
        case View(holding=Holding.OTHERS):
            return "the lease is another node's"
        case View() if not covered(view):
            return "nothing covers this node any more"
        case _:
            return asked
