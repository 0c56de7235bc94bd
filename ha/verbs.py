"""What others may ask of the supervisor: the console by its link, operators by the control socket."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ha.duty import Post, Slot
from ha.errands import Errands
from ha.fleet import Member
from ha.lease import CallSlots, Reply
from ha.policy import Order, Role
from ha.reading import Reading
from ha.status import Told, profiles, status
from node.config import Configuration, ConfigurationError, ProfileSettings
from node.link import Answer, Ask, Done, Instruct

log = logging.getLogger(__name__)

YOUNG = 10.0
"mod_sofia stops no profile that is up for less than so many seconds."
RECOVERY = 55.0
"Seconds that a recovery by command may take."
GIVE_UP = 10.0
"Seconds that a change of role by command may take, unless the caller names another limit."

LOADING = 2.0
"Seconds that a switchover waits for a peer that is still loading."

Say = Callable[[str], None]


class Node(Told, Protocol):
    """What the verbs need of the supervisor."""

    errands: Errands
    stopping: bool
    reading: Reading

    def hand_over(self) -> None: ...
    def instruct(
        self, members: list[Member], verb: str, words: list[str], then: Callable[[list[Done]], None]
    ) -> None: ...


@dataclass(slots=True, eq=False)
class Waiting:
    """Somebody who waits for a role."""

    holds: Callable[[], bool]
    until: float
    answer: Callable[[dict[str, Any]], None]
    promotion: bool = False


class Verbs:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._stopped: set[str] = set()
        "Profiles that the operator has stopped."
        self._waiting: list[Waiting] = []

    def wanted(self) -> list[ProfileSettings]:
        """The profiles that this node serves when it is active."""
        return [one for name, one in self._node.configuration.profiles.items() if name not in self._stopped]

    # ---- the console's -----------------------------------------------------------------------------------------------

    def on_ask(self, member: Member, ask: Ask) -> None:
        def say(text: str) -> None:
            if member in self._node.fleet.members:
                self._node.fleet.send(member, Answer(number=ask.number, text=text))

        match ask.verb:
            case "node":
                say(json.dumps(status(self._node)))
            case "profiles":
                say(json.dumps(profiles(self._node)))
            case "profile":
                self._profile(ask.words, say)
            case "recover" if ask.words[-1:] == ["flush"]:
                self.flush(ask.words[:-1], say)
            case "recover":
                self.recover(ask.words, say)
            case "watchdog":
                self._watchdog(ask.words, say)
            case "switches":
                say(json.dumps(self._node.duty.switches.orders()))
            case "instruct" if ask.words:
                self._node.duty.switches.note(ask.words[0], ask.words[1:])
                serving = self._node.fleet.serving()
                self._node.instruct(serving, ask.words[0], ask.words[1:], lambda _done: say("+OK\n"))
            case _:
                say(f"-ERR the supervisor knows no verb {ask.verb!r}\n")

    def reload(self, then: Callable[[str], None]) -> None:
        """Read the configuration again; `then` hears `Success`, or what is wrong with it, where the one before stays."""

        def on_read(read: Configuration | ConfigurationError) -> None:
            if isinstance(read, ConfigurationError):
                log.error("the configuration is not taken over: %s", read)
                then(str(next((c for c in read.complaints if c.severity == "error"), read)))
                return
            if read is not self._node.configuration:
                alike = set(read.profiles) == set(self._node.configuration.profiles)
                self._node.configuration = read
                self._node.fleet.renew(alike=alike)
            then("Success")

        self._node.reading.begin(on_read)

    # ---- profiles ----------------------------------------------------------------------------------------------------

    def _profile(self, words: list[str], say: Say) -> None:
        match words:
            case ["restart", "all"]:
                self.reload(lambda _text: self._restart_all(say))
            case ["start", name, *_]:
                self.reload(lambda text: self._start(name, f"Reload XML [{text}]\n", say))
            case ["stop" | "restart" as verb, name, *_]:
                self._stop(name, say, again=verb == "restart")
            case ["rescan", name, *_]:
                self.reload(lambda text: self._rescan(name, f"Reload XML [{text}]\n", say))
            case _:
                say("Invalid Args!\n")

    def _restart_all(self, say: Say) -> None:
        for name, post in list(self._node.duty.posts.items()):
            if self._young(post):
                log.warning("profile %s is up for less than %.0f s, not restarted", name, YOUNG)
            else:
                self._end(name, again=True)
        say("")

    def _start(self, name: str, reloaded: str, say: Say) -> None:
        known = self._node.configuration.profiles
        found = next((one for real, one in known.items() if real.lower() == name.lower()), None)
        if found is None:
            say(f"{reloaded}Failure starting {name}\n")
            return
        self._stopped.discard(found.name)
        post = self._node.duty.posts.get(found.name)
        if post is not None and post.state != "DOWN":
            self._read_again(found.name)
        elif self._node.duty.on:
            self._node.duty.start(found)
        say(f"{reloaded}{name} started successfully\n")

    def _stop(self, name: str, say: Say, *, again: bool) -> None:
        found = self._node.configuration.profile(name)
        if found is None or found.name in self._stopped:
            say(f"Invalid Profile [{name}]")
            return
        post = self._node.duty.posts.get(found.name)
        young = self._young(post) if post is not None else 0
        if young:
            say(
                f"Profile {found.name} must be up for at least {YOUNG:.0f} seconds to stop/restart.\n"
                f"Please wait {young} second{'' if young == 1 else 's'}\n"
            )
            return

        def on_read(text: str) -> None:
            if not again:
                self._stopped.add(found.name)
            if found.name in self._node.duty.posts:
                self._end(found.name, again=again)
            say(f"Reload XML [{text}]\n{'restarting' if again else 'stopping'}: {found.name}")

        self.reload(on_read)

    def _end(self, name: str, *, again: bool) -> None:
        """End the profile's calls, then its workers; start it again if that is wanted."""
        node, post = self._node, self._node.duty.posts[name]

        def stop(_done: list[Done]) -> None:
            if node.duty.posts.get(name) is not post:
                return
            node.duty.stop(name, "the profile is stopped")
            if again:
                node.loop.after(1.0, start)

        def start() -> None:
            settings = node.configuration.profiles.get(name)
            if settings is not None and node.duty.on and name not in node.duty.posts:
                node.duty.start(settings)

        members = [slot.member for slot in post.slots if slot.member is not None]
        node.instruct(members, "hupall", ["MANAGER_REQUEST"], stop)

    def _young(self, post: Post) -> int:
        """Seconds that the profile must still be up before it may be stopped; 0: it may."""
        if post.state != "RUNNING":
            return 0
        return max(0, math.ceil(post.up_at + YOUNG - self._node.loop.now()))

    def _rescan(self, name: str, reloaded: str, say: Say) -> None:
        found = self._node.configuration.profile(name)
        if found is None:
            say(f"{reloaded}-ERR cannot find config for profile {name}\n")
            return
        self._read_again(found.name)
        say(f"{reloaded}+OK scan complete\n")

    def _read_again(self, name: str) -> None:
        """Every worker holds every profile's settings, so each of them reads the configuration again."""
        post = self._node.duty.posts.get(name)
        if post is not None:
            post.settings = self._node.configuration.profiles[name]
        self._node.instruct(self._node.fleet.serving(), "rescan", [name], lambda _done: None)

    # ---- calls -------------------------------------------------------------------------------------------------------

    def flush(self, names: list[str], say: Say) -> None:
        """Delete the call records of these profiles, or of all; one worker of each profile does it."""
        orders = []
        for name, post in self._posts(names).items():
            first = next((slot.member for slot in post.slots if slot.member is not None), None)
            if first is not None:
                orders.append((first, Instruct(number=0, verb="flush", words=[name])))
        self._node.errands.send(orders, lambda _done: say("+OK\n"), 5.0)

    def recover(self, names: list[str], say: Say) -> None:
        """Have the calls claimed that are still the fallen's; says how many legs came back."""
        node = self._node
        if not node.duty.on:
            say("-ERR this node is not active")
            return
        slots = [slot for post in self._posts(names).values() for slot in post.slots if slot.member is not None]

        def on_slots(reply: Reply) -> None:
            for slot in slots:
                slot.claims = node.duty.claims(slot, reply.slots)
            owing = [slot for slot in slots if slot.owes]
            pending = set(owing)
            for slot in owing:
                node.duty.fence(slot, lambda slot=slot: fenced(slot, pending))  # type: ignore[misc]
            if not owing:
                self._recover(slots, say)

        def fenced(slot: Slot, pending: set[Slot]) -> None:
            pending.discard(slot)
            if not pending:
                self._recover(slots, say)

        node.keeper.ask(CallSlots(), on_slots)

    def _recover(self, slots: list[Slot], say: Say) -> None:
        orders = [
            (slot.member, Instruct(number=0, verb="recover", words=slot.claims, epoch=slot.epoch))
            for slot in slots
            if slot.member is not None and not slot.owes
        ]
        self._node.errands.send(orders, lambda done: say(str(sum(one.count for one in done))), RECOVERY)

    def _posts(self, names: list[str]) -> dict[str, Post]:
        posts = self._node.duty.posts
        if not names:
            return dict(posts)
        found = self._node.configuration.profile(names[0])
        return {found.name: posts[found.name]} if found is not None and found.name in posts else {}

    def _watchdog(self, words: list[str], say: Say) -> None:
        name: str | None = None
        if len(words) > 1:
            found = self._node.configuration.profile(words[1])
            name = found.name if found is not None else words[1]
        if words[:1] == ["on"]:
            self._node.watchdogs_on = self._node.watchdogs_on or name is None
            self._node.guard.arm(name)
        else:
            self._node.watchdogs_on = self._node.watchdogs_on and name is not None
            self._node.guard.disarm(name)
        say("+OK\n")

    # ---- the operator's ----------------------------------------------------------------------------------------------

    def on_control(self, request: dict[str, Any], answer: Callable[[dict[str, Any]], None]) -> None:
        node, standing = self._node, self._node.standing
        within = request.get("within", GIVE_UP)
        until = node.loop.now() + (within if isinstance(within, int | float) else GIVE_UP)
        match request.get("verb"):
            case "status":
                answer(status(node))
            case "demote":
                standing.order = Order.DEMOTE
                self._wait(lambda: standing.role is Role.STANDBY and standing.lease is None, until, answer)
            case "promote":
                self._promote(until, answer)
            case "switchover" if standing.role is Role.ACTIVE:
                self._switch_over(until, answer)
            case "switchover":
                self._promote(until, answer)
            case verb:
                answer({"ok": False, "error": f"no verb {verb!r}: status, promote, demote or switchover"})

    def settle(self) -> None:
        """After each cycle: answer those whose role has come, or whose time is over."""
        now = self._node.loop.now()
        for waiting in list(self._waiting):
            if waiting.holds():
                self._waiting.remove(waiting)
                waiting.answer({"ok": True, "role": self._node.standing.role.value})
            elif now > waiting.until:
                self._waiting.remove(waiting)
                if self._node.standing.order is Order.PROMOTE:
                    self._node.standing.relax()
                role = self._node.standing.role.value
                waiting.answer({"ok": False, "role": role, "error": f"not in time: {self._node.decision}"})

    def refuse(self, why: str) -> None:
        """A promotion is not to be: whoever waits for it hears why."""
        for waiting in [one for one in self._waiting if one.promotion]:
            self._waiting.remove(waiting)
            waiting.answer({"ok": False, "role": self._node.standing.role.value, "error": why})

    def _promote(self, until: float, answer: Callable[[dict[str, Any]], None]) -> None:
        standing = self._node.standing
        if self._node.stopping:
            answer({"ok": False, "role": standing.role.value, "error": "the node stops"})
            return
        if standing.role in (Role.STANDBY, Role.DEMOTING):
            standing.order = Order.PROMOTE
        else:
            # It may be about to let go: that is called off.
            standing.order = Order.NONE
        self._waiting.append(Waiting(lambda: standing.role is Role.ACTIVE, until, answer, promotion=True))

    def _switch_over(self, until: float, answer: Callable[[dict[str, Any]], None]) -> None:
        """Hand over to a peer that is ready, or will be in a moment."""
        node, standing = self._node, self._node.standing
        ready_by = min(until, node.loop.now() + LOADING)

        def attempt() -> None:
            if node.partner.fit:
                node.hand_over()
                self._wait(lambda: standing.role is Role.STANDBY and node.partner.active, until, answer)
            elif node.loop.now() < ready_by:
                node.loop.after(0.05, attempt)
            else:
                refusal = "the peer is not there, or not ready to take over"
                answer({"ok": False, "role": standing.role.value, "error": refusal})

        attempt()

    def _wait(self, holds: Callable[[], bool], until: float, answer: Callable[[dict[str, Any]], None]) -> None:
        self._waiting.append(Waiting(holds, until, answer))
