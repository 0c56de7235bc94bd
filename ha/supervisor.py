"""The supervisor: one loop that sees, decides and carries out. It keeps the lease, the sockets and the children.

It never waits for anything: the store is behind the lease keeper, the peer behind its link, the children behind theirs.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from ha import address
from ha.address import SharedAddress
from ha.baton import Baton
from ha.control import Control
from ha.duty import Duty, Post
from ha.errands import Errands
from ha.escort import Escort, why_demoted
from ha.fence import LettingGo
from ha.fleet import Fleet, Member
from ha.guard import Guard
from ha.hardware import HardwareWatchdog, KernelWatchdog
from ha.holder import Holder
from ha.lease import CallSlots, LeaseKeeper, keep
from ha.loop import Alarm, Loop
from ha.partner import Partner
from ha.policy import Order, Role, Step, View, decide, sentence
from ha.process import EntryPoints, Process, be_urgent, call, fork
from ha.reading import Reading
from ha.settings import HaSettings
from ha.sockets import KeptSockets
from ha.standing import Standing
from ha.systemd import Systemd
from ha.verbs import Verbs
from node import log as node_log
from node.config import Configuration, Identity
from node.link import Ask, Done, Fenced, Instruct, Link, Message, Notice

log = logging.getLogger(__name__)

PAY_AGAIN = 2.0
"Seconds between two tries to bring back the calls of workers that died while the store was gone."
CLAIMABLE = 0.25
"Seconds that a promotion waits for the store's list of calls."
CHANCE = 3.0
"Seconds for which a node that has handed over leaves the lease to its peer."
ORDERED = 8.0
"Seconds after which a switchover that cannot be is given up."
STUCK = 5.0
"Seconds after which a node that has not let go is given up: the watchdog of the hardware is not fed any more."
ENDING = 8.0
"Seconds for an orderly end; then the rest is killed."


class Supervisor:
    """Runs one node until it is told to stop."""

    def __init__(
        self,
        configuration: Configuration,
        identity: Identity,
        run_dir: Path,
        *,
        settings: HaSettings,
        entry_points: EntryPoints,
        reload: Callable[[], Configuration],
    ) -> None:
        self.configuration, self.identity, self.run_dir = configuration, identity, run_dir
        self.settings = settings
        self.loop = loop = Loop()
        self.reading = Reading(loop, lambda: self._read_again(reload))
        now = loop.now()
        ha = configuration.ha
        self.standing = Standing(
            identity.node,
            settings.lease,
            settings.peer,
            alone=identity.standalone,
            now=now,
            ordered=ha.election == "ordered",
        )
        self.keeper = LeaseKeeper(loop, self._fork_keeper, settings.lease.stuck)
        self.fleet = Fleet(loop, self._fork, settings.child, self, kinds=("media", "console"))
        self.sockets = KeptSockets(loop, foreign=settings.address.foreign)
        self.address = SharedAddress(loop, settings.address)
        self.duty = Duty(loop, self.fleet, self.sockets, self.keeper)
        self.duty.on_running = self._on_running
        self.guard = Guard(loop, self.duty, self.fleet, settings.child, self.on_hopeless)
        device = KernelWatchdog(ha.watchdog_device) if ha.watchdog_device else None
        self.hardware = HardwareWatchdog(loop, device, ha.watchdog_device_timeout / 1000, self._lets_go_in_time)
        self.errands = Errands(loop, self.fleet)
        self.escort = Escort(
            loop, lambda: self.configuration.ha.hooks, facts=self._facts, tell=self.tell, on_refused=self._on_refused
        )
        self.partner = Partner(
            loop,
            self.keeper,
            standing=self.standing,
            settings=settings,
            ready=lambda: self.ready and self.standing.order is not Order.DEMOTE,
            secret_file=run_dir / "peer.secret",
            addressed=lambda: self.address.held,
            home=lambda: self._home,
        )
        self.partner.on_promise = self.refresh
        self.partner.on_please = self._on_please
        self.holder = Holder(
            loop,
            self.keeper,
            standing=self.standing,
            settings=settings.lease,
            on_acquired=self._on_acquired,
            on_renewed=self._on_renewed,
        )
        self._paused = False
        self.baton = Baton(
            loop,
            address=self.address,
            duty=self.duty,
            fleet=self.fleet,
            covered=lambda: not self._paused and self.standing.until > loop.now(),
            taken=self.partner.say_beat,
        )
        self.partner.on_handed_over = self._on_handed_over
        self.partner.on_beat = self._on_peer_beat
        self.verbs = Verbs(self)
        self.control = Control(loop, run_dir / "control", self.verbs.on_control)
        self.systemd = Systemd()
        self.watchdogs_on = False
        self.decision = ""
        self._paid_at = 0.0
        self.since = now
        "When the role was taken up."
        self.promoted_in = 0.0
        "Seconds from the lease (or the end of the hooks before it) to the last slot served, at the last promotion."
        self.stopping = False
        self._entry_points = entry_points
        self._blind = False
        self._letting_go: LettingGo | None = None
        self._chance: Alarm | None = None
        "The end of the order to hand over."
        self._stop_by = 0.0
        self._asked, self._calm = "", True
        "Why the role is to be given up, and whether there is calm for it."

    # ---- life ------------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Until SIGTERM; returns the exit status. Raises OSError when its own sockets cannot be had."""
        self.partner.link.listen()
        self.control.listen()
        be_urgent()
        self._hear_signals()
        self.address.drop()
        self.hardware.calm()
        self.keeper.start()
        self.partner.start()
        self.fleet.spares = self._wanted() + 1
        self.fleet.fill()
        if self.systemd.interval:
            self.loop.every(self.systemd.interval, self.systemd.alive)
        self.systemd.ready("standby")
        while not self._ended():
            self._cycle()
            self.loop.turn(self.holder.idle_for)
        self._close()
        return 0

    def stop(self) -> None:
        """Let go in order, then end; a second time: at once."""
        if self.stopping:
            self._stop_by = 0.0
            return
        log.info("the node stops")
        self.systemd.stopping()
        self.stopping = True
        self._stop_by = self.loop.now() + ENDING
        self.standing.order = Order.DEMOTE

    def _ended(self) -> bool:
        if not self.stopping:
            return False
        if self.loop.now() > self._stop_by:
            return True
        passive = self.standing.role is Role.STANDBY and self.standing.lease is None and self.keeper.idle
        passive = passive and not self.escort.busy and not self.baton.keeping
        if passive and not self.fleet.closing:
            self.fleet.close(within=0.5)
        return passive and not self.fleet.members

    def _close(self) -> None:
        self.fleet.kill_all()
        self.escort.close()
        self.reading.close()
        self.hardware.disarm()
        self.address.drop()
        self.sockets.close_all()
        self.partner.link.close()
        self.control.close()
        self.keeper.close()
        for member in self.fleet.members:
            with contextlib.suppress(ChildProcessError):
                member.process.reap()
        self.loop.close()
        log.info("the node has stopped")
        signal.set_wakeup_fd(-1)
        for end in self._wakeup:
            end.close()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            # The interpreter's own end would make them deadly again.
            signal.signal(number, signal.SIG_IGN)

    def _hear_signals(self) -> None:
        """Signals become bytes on a socket that the loop reads; to the very end, so that none cuts the end short."""
        ours, theirs = self._wakeup = socket.socketpair()
        for end in self._wakeup:
            end.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda _number, _frame: None)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self.loop.watch(ours, lambda: self._on_signals(ours.recv(4096)))

    def _on_signals(self, received: bytes) -> None:
        for number in set(received):
            match number:
                case signal.SIGTERM | signal.SIGINT:
                    self.stop()
                case signal.SIGHUP:
                    self.verbs.reload(lambda text: log.info("%s", text))
                case signal.SIGCHLD:
                    self.fleet.look()
                    self.escort.look()

    # ---- children --------------------------------------------------------------------------------------------------

    def _fork(self, kind: str) -> Process:
        entry = getattr(self._entry_points, kind)
        main = call(entry, self.identity, self.configuration, self.run_dir)
        return fork(kind, self._logging(kind, main), self.loop.now())

    def _fork_keeper(self) -> Process:
        dsn, settings = self.configuration.switch.database, self.settings.address
        path = self.run_dir / "db"

        def main(link: Link) -> None:
            keep(link, dsn, path, lambda: address.drop(settings))

        # Not killed with its parent: where the supervisor is killed, it takes the address away.
        return fork("lease", self._logging("lease", main), self.loop.now(), guard=False)

    def _logging(self, kind: str, main: Callable[[Link], None]) -> Callable[[Link], None]:
        def logged(link: Link) -> None:
            node_log.setup(self.run_dir, logging.getLogger().level, kind)
            main(link)

        return logged

    def on_ready(self, member: Member) -> None:
        self.duty.fill()

    def on_ended(self, member: Member) -> None:
        self.errands.on_ended(member)
        self.guard.on_ended(member)
        self.duty.on_ended(member)

    def on_message(self, member: Member, message: Message) -> None:
        match message:
            case Ask():
                self.verbs.on_ask(member, message)
            case Done():
                self.errands.on_done(message)
            case Fenced(slot, epoch):
                self._on_fenced(slot, epoch)
            case _:
                self.duty.on_message(member, message)

    def _on_fenced(self, name: str, epoch: int) -> None:
        """A write was refused. Where this node itself has raised the fence that is no news."""
        ours = next((slot for slot in self.duty.slots() if slot.name == name), None)
        if ours is None or ours.fencing:
            return
        if epoch <= ours.epoch:
            # Of the epoch we know: a fence of ours has reached the store without our hearing of it. If the lease is still
            # ours, it is raised once more, and the worker goes on.
            ours.owes = ours.owes or epoch == ours.epoch
            return
        log.error("%s was refused by the store: epoch %d rules, ours is %d", name, epoch, ours.epoch)
        self.holder.lose()

    def _read_again(self, read: Callable[[], Configuration]) -> Configuration:
        """In a thread beside the loop: where nothing has changed, the present one itself."""
        present, fresh = self.configuration, read()
        return present if fresh == present else fresh

    def _wanted(self) -> int:
        return sum(profile.workers for profile in self.verbs.wanted())

    # ---- the cycle -------------------------------------------------------------------------------------------------

    def _cycle(self) -> None:
        try:
            now = self.loop.now()
            self.holder.look()
            view = self.standing.view(now, ready=self.ready, done=self._done)
            step = decide(view)
            self._tell(view, step)
            self._carry_out(step, view, now)
            self.baton.look()
            self.verbs.settle()
        except Exception:
            log.exception("a cycle of the supervisor failed, going on")

    @property
    def ready(self) -> bool:
        """Enough workers are loaded for every slot, and no hook has said no."""
        loaded = sum(member.ready for member in self.fleet.standby())
        media = self.fleet.of_kind("media")
        return loaded >= self._wanted() and media is not None and media.ready and not self.escort.refuses

    @property
    def _done(self) -> bool:
        if self._letting_go is not None:
            return self._letting_go.done
        return self.duty.done

    def _tell(self, view: View, step: Step) -> None:
        decision = sentence(view, step)
        if decision != self.decision:
            self.decision = decision
            log.info("%s", decision)

    def _carry_out(self, step: Step, view: View, now: float) -> None:
        self._be_paused(step is Step.PAUSE)
        if self._letting_go is not None and not view.safe:
            self._letting_go.hurry()
        self.escort.see(step, view.order)
        match step:
            case Step.CLAIM:
                self.holder.claim()
            case Step.RELEASE:
                self.holder.release()
            case Step.PROMOTE if self.escort.may_promote(view, self.standing.epoch):
                self._promote(now)
            case Step.SERVE:
                self._serve(now)
            case Step.DEMOTE if self.escort.may_demote(view, why_demoted(view, self._why), calm=self._calm):
                self._demote(now)
            case Step.REST:
                self._rest()
            case Step.ASK | Step.MAKE_SURE | Step.PAUSE:
                self.partner.ask_promise()
            case Step.REQUEST:
                self.partner.please_hand_over()

    def _be_paused(self, paused: bool, /) -> None:
        """While nobody knows whose the lease is, the address is nobody's: the peer may have taken it meanwhile."""
        if paused == self._paused:
            return
        self._paused = paused
        if paused:
            self.address.drop()
        elif self.standing.until > self.loop.now():
            self.address.take()

    def _promote(self, now: float) -> None:
        self._become(Role.PROMOTING)
        self.hardware.arm()
        # What `sofia global watchdog on` does.
        self.watchdogs_on = True
        self._blind = self.standing.lease is None
        if self._blind:
            log.error("active without the store: calls of a former life cannot be recovered until it answers")
        self.baton.take()
        self.duty.begin(
            self.verbs.wanted(),
            epoch=self.standing.epoch,
            until=self.standing.until,
            recover=self.settings.recover_on_promote,
        )
        self.keeper.ask(CallSlots(), lambda reply: self.duty.claimable(reply.slots))
        self.loop.after(CLAIMABLE, lambda: self.duty.claimable({}))

    def _serve(self, now: float) -> None:
        self.promoted_in = now - self.since
        self._become(Role.ACTIVE)
        self.standing.order = Order.NONE
        log.info("active %.0f ms after the lease", self.promoted_in * 1000)
        self.escort.promoted()
        if self.duty.useless:
            self.on_hopeless("not one profile could be started")

    def _demote(self, now: float) -> None:
        haste = now >= self.standing.until or self.standing.lease is None
        self._become(Role.DEMOTING)
        self.guard.disarm()
        self.watchdogs_on = False
        self._letting_go = LettingGo(
            self.fleet,
            self.sockets,
            self.address,
            reason="the node is not active any more",
            haste=haste,
            keep=not haste and self.address.held and self.partner.fit and self.partner.shares,
        )
        self.duty.end()

    def _lets_go_in_time(self) -> bool:
        return self.standing.role is not Role.DEMOTING or self.loop.now() - self.since < STUCK

    def _rest(self) -> None:
        kept = self._pass_on()
        self.hardware.disarm()
        self._become(Role.STANDBY)
        self._asked, self._calm = "", True
        self.escort.demoted()
        if self.standing.order is Order.HAND_OVER:
            self._give_chance(CHANCE)
        self.holder.release(lambda: self.partner.say_handed_over(kept=kept))
        if not self.stopping:
            self.fleet.spares = self._wanted() + 1
            self.fleet.fill()

    def _pass_on(self) -> bool:
        """The workers are gone: whether what is left stays until the peer has the address."""
        letting_go, self._letting_go = self._letting_go, None
        kept = letting_go is not None and letting_go.keep
        if letting_go is not None and kept:
            self.baton.keep(letting_go)
            return True
        if letting_go is not None:
            letting_go.let_go()
        if self.partner.shares:
            self.baton.drop_media()
        else:
            self.baton.drop_media_later(lambda: self.duty.on)
        return False

    def _become(self, role: Role) -> None:
        self.standing.role = role
        self.since = self.loop.now()
        self.systemd.status(role.value)
        self.partner.say_beat()

    # ---- orders ----------------------------------------------------------------------------------------------------

    def hand_over(self, why: str = "switchover", *, calm: bool = True) -> None:
        """`calm`: the hooks before it are waited for."""
        self._asked, self._calm = why, calm
        self.standing.order = Order.HAND_OVER
        self._give_chance(ORDERED)

    def _give_chance(self, seconds: float) -> None:
        """So long the order stands; what was set for an earlier one must not end it."""
        if self._chance is not None:
            self._chance.cancel()
        self._chance = self.loop.after(seconds, self._chance_over)

    def _chance_over(self) -> None:
        if self.standing.order is Order.HAND_OVER and self.standing.role is not Role.DEMOTING:
            self.standing.relax()

    def on_hopeless(self, why: str) -> None:
        """This node does not do its work: the other one shall, if it is there and ready."""
        fit = self.partner.fit
        log.error("%s; %s", why, "the peer shall take over" if fit else "there is no peer that could take over")
        if fit and self.standing.role is Role.ACTIVE:
            self.hand_over(why, calm=False)

    def _on_handed_over(self, kept: bool, /) -> None:
        if kept:
            self.baton.expect()
        self.holder.hurry()

    def _on_peer_beat(self) -> None:
        if self.partner.beat is not None and self.partner.beat.addressed:
            self.baton.taken()

    @property
    def _home(self) -> str:
        """The addresses of our profiles."""
        profiles = self.configuration.profiles.values()
        return " ".join(sorted({each for one in profiles for each in (one.sip_ip, one.rtp_ip)}))

    def _on_please(self) -> None:
        if self.standing.role is Role.ACTIVE:
            log.info("peer %s wants to be active", self.partner.link.name)
            self.hand_over("the peer wants to be active")

    def _on_running(self, post: Post) -> None:
        """A profile that is started in an active node is watched when all are, or when its own settings say so."""
        if self.watchdogs_on or post.settings.watchdog_enabled:
            self.guard.arm(post.settings.name)

    # ---- the hooks -------------------------------------------------------------------------------------------------

    def tell(self, subclass: str, headers: list[tuple[str, str]]) -> None:
        """An event, for whoever listens at the console."""
        console = self.fleet.of_kind("console")
        if console is not None and console.ready:
            self.fleet.send(console, Notice(subclass, headers))

    @property
    def _why(self) -> str:
        """Why the role is given up, where that was ordered."""
        if self.stopping:
            return "the node stops"
        return self._asked if self.standing.order is Order.HAND_OVER else "ordered"

    def _facts(self) -> dict[str, str]:
        ha = self.configuration.ha
        return {
            "SOFIA_NODE": self.identity.node,
            "SOFIA_RUN_DIR": str(self.run_dir),
            "SOFIA_PROFILES": " ".join(profile.name for profile in self.verbs.wanted()),
            "SOFIA_SHARED_ADDRESS": ha.shared_address,
            "SOFIA_INTERFACE": ha.interface,
        }

    def _on_refused(self, why: str) -> None:
        if self.standing.order is Order.PROMOTE:
            self.standing.relax()
        self.verbs.refuse(why)

    # ---- the lease -------------------------------------------------------------------------------------------------

    def _on_acquired(self) -> None:
        """Where workers serve already (a node alone, whose store was gone; one that has slept), they go on under the new epoch."""
        if self.standing.role not in (Role.PROMOTING, Role.ACTIVE):
            return
        self.duty.set_epoch(self.standing.epoch, self.standing.until)
        if self._blind and self.settings.recover_on_promote:
            self.verbs.recover([], lambda text: log.info("legs recovered now that the store answers: %s", text))
        self._blind = False

    def _on_renewed(self) -> None:
        """The store answers. Slots whose worker died while it did not are fenced now, and their calls brought back."""
        self.refresh()
        now = self.loop.now()
        owing = [slot for slot in self.duty.slots() if slot.owes and slot.recover and slot.served and not slot.fencing]
        if owing and self.settings.recover_on_promote and now - self._paid_at > PAY_AGAIN:
            self._paid_at = now
            self.verbs.recover([], lambda text: log.info("legs recovered now that the store answers: %s", text))

    def refresh(self) -> None:
        """Tell the workers until when they may act, whenever that has moved."""
        if self.duty.on and self.standing.until > self.duty.until:
            self.duty.refresh(self.standing.until)

    # ---- for the verbs ---------------------------------------------------------------------------------------------

    def instruct(self, members: list[Member], verb: str, words: list[str], then: Callable[[list[Done]], None]) -> None:
        """The same instruction to several workers."""
        orders = [(member, Instruct(number=0, verb=verb, words=words)) for member in members]
        self.errands.send(orders, then, within=5.0)
