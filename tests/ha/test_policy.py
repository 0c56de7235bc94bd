"""The policy on every view there is, and on hundreds of histories of two nodes."""

from __future__ import annotations

import itertools
import random
import statistics

import pytest

from ha.policy import Holding, Order, Peer, Role, Step, View, decide, sentence
from ha.settings import LeaseSettings, PeerSettings
from ha.standing import Standing
from store.records import Lease
from tests.ha.simulator import LEASE as simulated
from tests.ha.simulator import SimulatedNode, World
from tests.support.history import violations

BOTH = (False, True)
VIEWS = [View(*values) for values in itertools.product(Role, Holding, Peer, Order, BOTH, BOTH, BOTH, BOTH, BOTH)]
ACTING = (Role.PROMOTING, Role.ACTIVE)


def where(**wanted: object) -> list[View]:
    return [view for view in VIEWS if all(getattr(view, name) in value for name, value in wanted.items())]  # type: ignore[operator]


def test_every_view_has_a_step_and_a_sentence():
    assert len(VIEWS) == 10_240
    for view in VIEWS:
        step = decide(view)
        assert sentence(view, step).endswith(step.value)


def test_an_active_that_nothing_covers_lets_go_or_waits_in_silence_for_the_stores_word():
    assert {decide(view) for view in where(role=ACTING, safe=(False,), hopeful=(False,))} == {Step.DEMOTE}
    for view in where(role=ACTING, safe=(False,), hopeful=(True,)):
        mine = view.holding in (Holding.MINE, Holding.LATE)
        waits = mine and view.peer is not Peer.ACTIVE and view.order in (Order.NONE, Order.PROMOTE)
        assert decide(view) is (Step.PAUSE if waits else Step.DEMOTE), sentence(view, decide(view))


def test_an_active_whose_lease_another_has_always_lets_go():
    assert {decide(view) for view in where(role=ACTING, holding=(Holding.OTHERS,))} == {Step.DEMOTE}


def test_an_active_without_a_lease_stays_only_when_it_is_alone():
    for view in where(role=ACTING, holding=(Holding.FREE, Holding.UNKNOWN), safe=(True,), order=(Order.NONE,)):
        stays = decide(view) in (Step.STAY, Step.CLAIM, Step.SERVE)
        assert stays == (view.peer is Peer.ALONE), sentence(view, decide(view))


def test_only_a_ready_standby_with_a_lease_in_good_time_is_promoted():
    for view in VIEWS:
        if decide(view) is Step.PROMOTE:
            assert view.role is Role.STANDBY
            assert view.ready
            assert view.order in (Order.NONE, Order.PROMOTE) or view.peer is Peer.ALONE
            assert (view.holding is Holding.MINE and view.safe) or view.peer is Peer.ALONE
            assert view.peer is not Peer.ACTIVE


def test_who_holds_the_lease_while_the_peer_still_acts_waits_for_the_peer_to_let_go():
    """Both claimed, and between the two the store was set back: each was told that the lease is its own."""
    both = view_of(holding=Holding.MINE, peer=Peer.ACTIVE, safe=True)
    assert decide(both) is Step.WAIT
    assert decide(both._replace(peer=Peer.STANDBY)) is Step.PROMOTE


def test_a_lease_is_claimed_only_when_it_is_free_and_nobody_is_owed_anything():
    for view in VIEWS:
        if decide(view) is Step.CLAIM:
            assert view.holding is Holding.FREE
            assert view.peer is Peer.ALONE or (not view.bound and view.peer is not Peer.ACTIVE)
            assert view.order is not Order.DEMOTE


def test_a_standby_never_disturbs_a_living_active():
    steps = {decide(view) for view in where(role=(Role.STANDBY,), peer=(Peer.ACTIVE,))}
    assert Step.CLAIM not in steps
    assert decide(view_of(peer=Peer.ACTIVE, holding=Holding.OTHERS, order=Order.PROMOTE)) is Step.REQUEST


def test_a_silent_peer_alone_is_no_reason_to_act():
    assert decide(view_of(peer=Peer.SILENT, holding=Holding.OTHERS)) is Step.WAIT
    assert decide(view_of(peer=Peer.SILENT, holding=Holding.UNKNOWN)) is Step.WAIT
    assert decide(view_of(peer=Peer.SILENT, holding=Holding.FREE)) is Step.CLAIM


def test_a_holder_that_cannot_renew_asks_the_peer_and_stays():
    active = view_of(role=Role.ACTIVE, holding=Holding.LATE, peer=Peer.STANDBY)
    assert decide(active) is Step.ASK
    assert decide(active._replace(peer=Peer.SILENT)) is Step.STAY
    assert decide(active._replace(peer=Peer.SILENT, safe=False)) is Step.DEMOTE
    assert decide(active._replace(peer=Peer.SILENT, safe=False, hopeful=True)) is Step.PAUSE


def test_a_node_told_to_be_passive_stays_so():
    for view in where(role=(Role.STANDBY,), order=(Order.DEMOTE,)):
        assert decide(view) in (Step.WAIT, Step.RELEASE)


def test_letting_go_is_always_finished_before_anything_else():
    for view in where(role=(Role.DEMOTING,)):
        assert decide(view) is (Step.REST if view.done else Step.WAIT)


def view_of(**changes: object) -> View:
    view = View(
        Role.STANDBY,
        Holding.FREE,
        Peer.STANDBY,
        Order.NONE,
        safe=True,
        hopeful=False,
        bound=False,
        ready=True,
        done=False,
    )
    return view._replace(**changes)  # type: ignore[arg-type]


# ---- histories of two nodes ----------------------------------------------------------------------------------------


FAULTS = [
    "crash",
    "freeze",
    "freeze host",
    "cut link",
    "cut store",
    "cut all",
    "jump",
    "switchover",
    "keep",
    "set back",
]


def befall(world: World, chance: random.Random) -> None:
    """One fault by name, drawn by chance; it heals by itself."""
    node: SimulatedNode = chance.choice(world.nodes)
    seconds = chance.choice([0.05, 0.3, 0.6, 1.0, 3.0])
    match chance.choice(FAULTS):
        case "crash" if not node.down:
            node.crash(seconds)
        case "freeze":
            node.supervisor_frozen_until = world.now + seconds
        case "freeze host":
            node.host_frozen_until = world.now + seconds
        case "cut link":
            world.link_up = False
            world.later(seconds, lambda: setattr(world, "link_up", True))
        case "cut store":
            node.store_up = False
            world.later(seconds, lambda: setattr(node, "store_up", True))
        case "cut all":
            for each in world.nodes:
                each.store_up = False
                world.later(seconds, lambda each=each: setattr(each, "store_up", True))
        case "jump":
            world.jump(chance.choice([0.3, 600.0]))
        case "keep":
            world.keep()
        case "set back":
            world.set_back()
        case "switchover" if node.acting:
            node.standing.order = Order.HAND_OVER
            world.later(
                1.0, lambda: node.standing.order is Order.HAND_OVER and node.standing.__setattr__("order", Order.NONE)
            )


def calm(world: World, least: float, most: float) -> None:
    """For so long nothing befalls anybody, and then until one is active."""
    ends = world.now + most
    world.run(least)
    while world.active is None and world.now < ends:
        world.run(0.5)


def live_through(seed: int) -> int:
    """One history, judged; returns how many events it had."""
    world = World(seed)
    chance = random.Random(f"faults {seed}")
    calm(world, 0.5, 3.0)
    assert world.active, f"seed {seed}: nobody became active"
    for _ in range(6):
        befall(world, chance)
        world.run(chance.choice([0.1, 0.5, 2.0]))
    calm(world, 3.2, 9.0)
    assert world.active, f"seed {seed}: nobody is active after the last fault has healed"
    assert violations(world.history) == [], f"seed {seed}"
    return len(world.history)


@pytest.mark.parametrize("block", range(10))
def test_there_are_never_two_actives_and_soon_one_again(block: int):
    assert sum(live_through(seed) for seed in range(block * 100, block * 100 + 100)) > 100 * 50


RARE = {
    "both claim, and the store's clock jumps between the two grants": [3732, 11894],
    "the store is lost between the grant to one and the claim of the other": [8473, 10905, 11046],
    "the store is set back while a write of who had the lease before is under way": [18406],
    "who slept finds its lease again in a store that was set back, though another one has ruled": [
        *(1246, 1751, 2442, 3581, 7240, 8738, 8962, 12093, 13477, 14563, 15715, 17096, 18147, 19689),
    ],
}


@pytest.mark.parametrize("what", RARE)
def test_what_befalls_one_history_in_a_thousand_makes_no_two_actives_either(what: str):
    for seed in RARE[what]:
        live_through(seed)


def test_dead_actives_are_replaced_within_half_a_second_most_of_the_time_and_never_much_later():
    took = sorted(replaced_after(seed) for seed in range(40))
    assert statistics.median(took) < 0.5
    assert took[-1] < 0.6


def replaced_after(seed: int) -> float:
    """Seconds from the death of the active to the first act of the other one, in a world where nothing else is wrong."""
    world = World(seed)
    world.hiccups = 0.0
    world.run(3.0 + seed / 97)
    first = next(node for node in world.nodes if node.acting)
    first.crash(60.0)
    died = world.now
    while world.active is None and world.now < died + 2:
        world.run(0.005)
    assert world.active == first.peer.name
    return world.now - died


@pytest.mark.parametrize("seed", range(10))
def test_an_active_without_the_store_stays_as_long_as_the_peer_promises(seed: int):
    world = World(seed)
    world.run(3.0)
    first = next(node for node in world.nodes if node.acting)
    first.store_up = False
    for _ in range(100):
        world.run(0.1)
        assert world.active == first.name
    world.link_up = False
    world.run(3.0)
    assert world.acted == [first.name, first.peer.name]


@pytest.mark.parametrize("seed", range(10))
def test_without_store_and_without_peer_nobody_is_active(seed: int):
    world = World(seed)
    world.run(3.0)
    for node in world.nodes:
        node.store_up = False
    world.link_up = False
    world.run(0.7)
    assert world.active is None
    for node in world.nodes:
        node.store_up = True
    calm(world, 2.5, 3.5)
    assert world.active is not None


# ---- the bookkeeping below -----------------------------------------------------------------------------------------

LEASE = LeaseSettings(ttl=0.7, renew=0.15, margin=0.2, poll=0.06)
PEER = PeerSettings(address=("192.0.2.1", 1), listen=("192.0.2.2", 1))


def lease(holder: str = "alpha", left: float = 0.7, epoch: int = 1, now: float = 5000.0) -> Lease:
    return Lease(holder=holder, epoch=epoch, until=now + left, now=now)


def test_a_lease_covers_from_before_it_was_asked_for_until_the_margin():
    standing = Standing("alpha", LEASE, PEER, alone=False, now=0.0)
    standing.on_acquired(lease(), began=10.0, now=10.3)
    assert standing.until == pytest.approx(10.5)


def test_a_promise_counts_from_the_asking_and_only_once():
    standing = Standing("alpha", LEASE, PEER, alone=False, now=0.0)
    standing.on_acquired(lease(), began=10.0, now=10.0)
    number = standing.ask(10.4)
    standing.on_promise(number, 0.7, 0, 10.41)
    standing.on_promise(number, 99.0, 0, 10.42)
    assert standing.until == pytest.approx(10.9)


def test_nothing_is_promised_while_a_claim_is_under_way_or_after_it():
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    standing.claiming = True
    assert not standing.promise(0.7, 5.0)
    standing.on_acquired(lease("beta"), began=5.0, now=5.0)
    assert not standing.promise(0.7, 5.0)


def test_a_newborn_waits_for_what_its_former_life_may_have_promised():
    standing = Standing("beta", LEASE, PEER, alone=False, now=100.0)
    assert standing.view(100.6, ready=True, done=False).bound
    assert not standing.view(100.71, ready=True, done=False).bound


def still(standing: Standing, first: float, last: float, *, over: bool, step: float = 0.06) -> None:
    """Look at alpha's lease, which does not move, again and again."""
    now = first
    while now < last + 0.001:
        standing.on_read(Lease(holder="alpha", epoch=1, until=5000.7, now=6000.0 if over else 5000.1), now - 0.001, now)
        now += step


def test_a_lease_that_the_stores_clock_calls_over_must_also_have_been_still_for_its_whole_life():
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    still(standing, 10.0, 10.06, over=False)
    still(standing, 10.1, 10.6, over=True)
    assert standing.holding(10.61) is Holding.OTHERS
    still(standing, 10.66, 10.72, over=True)
    assert standing.holding(10.73) is Holding.FREE


def test_who_has_slept_too_watches_the_lease_anew_before_taking_it():
    """Both hosts starved: the holder wakes at the same moment, and renews."""
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    still(standing, 10.0, 10.3, over=False)
    still(standing, 12.5, 13.1, over=True)
    assert standing.holding(13.11) is Holding.OTHERS
    still(standing, 13.16, 13.3, over=True)
    assert standing.holding(13.31) is Holding.FREE


def test_who_hardly_ever_wakes_takes_what_has_long_been_over_all_the_same():
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    still(standing, 10.0, 15.0, over=True, step=0.5)
    assert standing.holding(15.01) is Holding.OTHERS
    still(standing, 15.7, 15.7, over=True)
    assert standing.holding(15.71) is Holding.FREE


def test_a_lease_that_is_nobodys_is_watched_as_long_as_its_holder_may_act_if_the_peer_is_silent():
    """The store may have been lost: who held the lease does not know yet."""
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    standing.on_read(lease(), 9.9, 9.9)
    for now in (10.0, 10.2, 10.4, 10.6):
        standing.on_read(None, now, now)
    assert standing.holding(10.61) is Holding.OTHERS
    standing.on_read(None, 10.7, 10.7)
    assert standing.holding(10.71) is Holding.FREE


def test_who_hardly_ever_wakes_takes_a_lease_that_has_long_been_nobodys():
    """A starved machine on which the first of two nodes starts."""
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    for number in range(11):
        standing.on_read(None, 10.0 + number * 0.5, 10.0 + number * 0.5)
    assert standing.holding(15.01) is Holding.OTHERS
    standing.on_read(None, 15.7, 15.7)
    assert standing.holding(15.71) is Holding.FREE


@pytest.mark.parametrize("told", ["a beat of a standby", "that it has handed over"])
def test_a_lease_that_is_nobodys_is_free_at_once_when_the_peer_says_that_it_does_not_act(told: str):
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    standing.on_read(lease(), 9.9, 9.9)
    if told == "that it has handed over":
        standing.on_handed_over(9.95)
        standing.on_peer_closed()
    else:
        standing.on_beat(Role.STANDBY, 9.95)
    standing.on_read(None, 10.0, 10.0)
    assert standing.holding(10.01) is Holding.FREE


def test_what_a_peer_said_before_it_had_the_lease_does_not_free_one_that_is_nobodys():
    """The store was lost in the moment in which the peer became active: its beat that says so is still under way."""
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    standing.on_beat(Role.STANDBY, 9.85)
    standing.on_read(lease(), 9.9, 9.9)
    standing.on_read(None, 9.95, 9.95)
    assert standing.holding(9.96) is Holding.OTHERS
    standing.on_beat(Role.STANDBY, 9.97)
    assert standing.holding(9.98) is Holding.FREE


@pytest.mark.parametrize("word", ["a promise", "none within a life of the lease"])
def test_a_lease_nobody_had_is_used_when_the_peer_has_said_since_that_it_does_not_act(word: str):
    """Both claim, and the store is lost between the two grants: the other one may act already."""
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    standing.on_beat(Role.STANDBY, 9.95)
    standing.on_read(None, 10.0, 10.0)
    standing.on_acquired(lease("beta"), 10.01, 10.02)
    assert standing.holding(10.03) is Holding.LATE
    standing.on_beat(Role.STANDBY, 10.04)
    assert standing.holding(10.04) is Holding.LATE, "it may be about to act"
    if word == "a promise":
        standing.on_promise(standing.ask(10.03), 0.7, 0, 10.05)
        assert standing.holding(10.06) is Holding.MINE
    else:
        standing.on_renewed(lease("beta", now=5000.7), 10.7, 10.71)
        assert standing.holding(10.71) is Holding.LATE
        assert standing.holding(10.73) is Holding.MINE


def test_a_peer_that_is_letting_go_still_acts():
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    standing.on_beat(Role.DEMOTING, 10.0)
    assert standing.peer(10.1) is Peer.ACTIVE


def test_what_the_store_said_long_ago_is_unknown():
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    standing.on_beat(Role.STANDBY, 10.0)
    standing.on_read(None, 10.0, 10.0)
    standing.on_beat(Role.STANDBY, 10.5)
    assert standing.holding(10.1) is Holding.FREE
    assert standing.holding(10.6) is Holding.FREE
    assert standing.holding(10.7) is Holding.UNKNOWN


def test_whose_time_is_over_may_hope_for_a_while():
    standing = Standing("alpha", LEASE, PEER, alone=False, now=0.0)
    standing.on_acquired(lease(), began=10.0, now=10.0)
    standing.role = Role.ACTIVE
    seen = [standing.view(now, ready=True, done=True) for now in (10.4, 11.4, 12.5, 12.6)]
    assert [(view.safe, view.hopeful) for view in seen] == [(True, False), (False, True), (False, True), (False, False)]
    standing.on_renewed(lease(now=5002.6), began=12.6, now=12.61)
    assert not standing.view(12.62, ready=True, done=True).safe, (
        "others may have had it, and the store have forgotten them"
    )
    standing.on_promise(standing.ask(12.62), 0.7, 0, 12.63)
    assert standing.view(12.64, ready=True, done=True).safe


def slept(until: float) -> Standing:
    """Active; it stood still until then, when the store renews its lease all the same."""
    standing = Standing("alpha", LEASE, PEER, alone=False, now=0.0)
    standing.on_acquired(lease(epoch=5), began=10.0, now=10.0)
    standing.role = Role.ACTIVE
    standing.view(until, ready=True, done=True)
    standing.on_renewed(lease(epoch=5, now=4990.0 + until), began=until, now=until + 0.01)
    return standing


def test_an_answer_that_was_merely_late_leaves_no_doubt():
    standing = slept(10.6)
    assert standing.until == pytest.approx(11.1)


def test_who_has_slept_and_hears_of_a_newer_epoch_has_lost_its_lease_whatever_the_store_says():
    standing = slept(12.0)
    standing.on_promise(standing.ask(12.02), 0.7, 6, 12.03)
    assert standing.lease is None
    assert decide(standing.view(12.04, ready=True, done=True)) is Step.DEMOTE


def test_who_has_slept_and_hears_of_nobody_takes_the_lease_anew_when_nobody_can_act_any_more():
    standing = slept(12.0)
    assert not standing.overtaken(12.7)
    assert standing.overtaken(12.72)
    standing.on_acquired(lease(epoch=7, now=5002.72), began=12.72, now=12.73)
    assert (standing.epoch, standing.until) == (7, pytest.approx(13.22))
    assert not standing.overtaken(13.0)


def test_a_lease_granted_by_a_clock_that_has_jumped_is_not_used_before_the_former_one_is_over():
    """Both claim it, unlinked, and the store's clock jumps between the two grants: the first one acts already."""
    standing = Standing("beta", LEASE, PEER, alone=False, now=0.0)
    still(standing, 10.0, 11.0, over=True)
    standing.on_acquired(lease("beta", now=6600.0), began=11.01, now=11.02)
    assert standing.holding(11.03) is Holding.LATE
    standing.on_renewed(lease("beta", now=6600.7), began=11.7, now=11.71)
    assert standing.holding(11.73) is Holding.MINE


@pytest.mark.parametrize("seed", range(8))
def test_hosts_that_are_starved_alike_do_not_exchange_their_roles(seed: int):
    world = World(seed)
    world.hiccups = 0.0
    world.run(3.0)
    first = next(node for node in world.nodes if node.acting)
    chance = random.Random(seed)
    for seconds in (0.6, 1.0, 2.0, 3.0):
        for node in world.nodes:
            node.host_frozen_until = world.now + seconds + chance.uniform(0.0, 0.03)
        world.run(seconds + 1.5)
        assert world.active == first.name
    assert world.acted == [first.name]


@pytest.mark.parametrize("seed", range(8))
def test_a_supervisor_that_was_merely_slow_keeps_its_role_and_its_workers(seed: int):
    """It stands still for longer than it may act, but not for as long as its lease lasts."""
    may_act, lasts = simulated.ttl - simulated.margin - simulated.renew, simulated.ttl - simulated.renew
    world = World(seed)
    world.hiccups = 0.0
    world.run(3.0)
    first = next(node for node in world.nodes if node.acting)
    for _ in range(10):
        first.supervisor_frozen_until = world.now + random.Random(seed).uniform(may_act, lasts - 0.07)
        world.run(1.2)
        assert first.standing.role is Role.ACTIVE
        assert world.active == first.name
