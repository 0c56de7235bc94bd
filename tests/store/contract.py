"""What every store must do. A backend's tests subclass this and give it a `factory`."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from store.errors import Fenced, LeaseLost, Unavailable
from store.interface import ANY_SLOT, Factory, Outcome, Put, Remove, Store, Write, opened
from store.records import CallRecord
from tests.store.samples import FAR, call, registration

STORED, STALE, FENCED = Outcome.STORED, Outcome.STALE, Outcome.FENCED


class StoreContract:
    @pytest.fixture
    def factory(self) -> Factory:
        raise NotImplementedError

    @pytest.fixture
    def store(self, factory: Factory) -> Iterator[Store]:
        with opened(factory) as store:
            yield store

    @pytest.fixture
    def other(self, factory: Factory) -> Iterator[Store]:
        """The same store, as another process opens it."""
        with opened(factory) as store:
            yield store

    # ---- writing ---------------------------------------------------------------------------------------------------

    def test_what_is_put_comes_back_whole(self, store: Store, other: Store) -> None:
        assert store.commit([Put(registration()), Put(call())]) == [STORED, STORED]
        assert other.registrations() == [registration()]
        assert other.calls() == [call()]

    def test_what_a_newer_release_put_into_records_is_kept_when_they_are_written_again(self, store: Store) -> None:
        news = {"later": {"a": [1, 2]}, "sooner": "é"}
        mine, bound = call(), registration()
        mine.beyond = mine.legs[0].beyond = bound.beyond = news
        store.commit([Put(mine), Put(bound)])
        (found,), (known,) = store.calls(), store.registrations()
        assert (found.beyond, found.legs[0].beyond, known.beyond) == (news, news, news)
        found.version, known.version = 2, 2
        store.commit([Put(found), Put(known)])
        assert (store.calls(), store.registrations()) == ([found], [known])

    def test_nothing_to_write_is_no_error(self, store: Store) -> None:
        assert store.commit([]) == []

    def test_a_put_keeps_the_record_as_it_was_when_it_was_made(self, store: Store) -> None:
        record = call()
        put = Put(record)
        record.state, record.version = "ended", 9
        record.legs.clear()
        store.commit([put])
        assert store.calls() == [call()]

    def test_a_newer_version_replaces_the_older(self, store: Store) -> None:
        store.commit([Put(registration(version=1, user_agent="old")), Put(call(version=1))])
        newer = [Put(registration(version=2, user_agent="new")), Put(call(version=2, state="ringing"))]
        assert store.commit(newer) == [STORED, STORED]
        assert [r.user_agent for r in store.registrations()] == ["new"]
        assert [c.state for c in store.calls()] == ["ringing"]

    @pytest.mark.parametrize("version", [4, 5])
    def test_an_older_or_equal_version_is_ignored(self, store: Store, version: int) -> None:
        store.commit([Put(registration(version=5, user_agent="kept")), Put(call(version=5))])
        late = [Put(registration(version=version, user_agent="late")), Put(call(version=version, state="ringing"))]
        assert store.commit(late) == [STALE, STALE]
        assert [r.user_agent for r in store.registrations()] == ["kept"]
        assert [c.state for c in store.calls()] == ["answered"]

    def test_a_stale_write_does_not_keep_its_neighbours_out(self, store: Store) -> None:
        store.commit([Put(registration("1001", version=5))])
        batch = [Put(registration(str(user), version=2)) for user in range(1000, 1100)]
        outcomes = store.commit(batch)
        assert [n for n, outcome in enumerate(outcomes) if outcome is not STORED] == [1]
        assert len(store.registrations()) == 100

    def test_the_last_of_several_writes_of_one_record_wins(self, store: Store) -> None:
        writes = [Put(registration(version=1)), Put(registration(version=2, user_agent="new")), Remove(call(version=3))]
        assert store.commit([*writes, Put(registration(version=1))]) == [STORED, STORED, STORED, STALE]
        assert [r.user_agent for r in store.registrations()] == ["new"]

    def test_bindings_differ_by_profile_user_host_and_contact(self, store: Store) -> None:
        several = [
            registration(),
            registration(profile_name="external"),
            registration("1001"),
            registration(sip_host="example.com"),
            registration(contact="<sip:1000@192.0.2.8>"),
        ]
        store.commit([Put(record) for record in several])
        assert len(store.registrations()) == 5

    def test_what_is_removed_is_gone(self, store: Store) -> None:
        store.commit([Put(registration()), Put(call())])
        assert store.commit([Remove(registration(version=2)), Remove(call(version=2))]) == [STORED, STORED]
        assert store.registrations() == []
        assert store.calls() == []
        assert store.call_by_call_id("call-1-a@sip") is None

    def test_a_removal_by_an_older_version_is_ignored(self, store: Store) -> None:
        store.commit([Put(registration(version=5))])
        assert store.commit([Remove(registration(version=4))]) == [STALE]
        assert len(store.registrations()) == 1

    def test_put_and_remove_in_one_batch_keep_their_order(self, store: Store) -> None:
        writes = [Put(call(version=1)), Remove(call(version=2)), Put(call("call-2")), Put(registration())]
        assert store.commit(writes) == [STORED] * 4
        assert [c.uuid for c in store.calls()] == ["call-2"]
        assert len(store.registrations()) == 1

    def test_a_large_batch_is_stored_whole(self, store: Store) -> None:
        writes = [Put(registration(str(n))) for n in range(1000)] + [Put(call(str(n))) for n in range(300)]
        assert set(store.commit(writes)) == {STORED}
        assert (len(store.registrations()), len(store.calls())) == (1000, 300)

    def test_bytes_that_are_no_utf8_come_back_as_they_were(self, store: Store) -> None:
        odd = b"caf\xe9".decode("utf-8", "surrogateescape")
        phone = registration(odd, user_agent=odd, contact=f"<sip:{odd}@192.0.2.7>")
        there = call(legs=[*call().legs], progress={odd: odd})
        there.legs[0].variables = {"sip_from_display": odd}
        assert there.legs[0].dialog is not None
        there.legs[0].dialog.call_id = f"{odd}@sip"
        assert store.commit([Put(phone), Put(there)]) == [STORED, STORED]
        assert store.registrations(user=odd) == [phone]
        assert store.call_by_call_id(f"{odd}@sip") == there

    def test_characters_of_all_planes_come_back_as_they_were(self, store: Store) -> None:
        odd = "Zoë \U0001f4de \uf780 'quoted' \"twice\" ; -- %s ?"
        store.commit([Put(registration(user_agent=odd))])
        assert [r.user_agent for r in store.registrations()] == [odd]

    def test_long_texts_of_all_planes_come_back_whole(self, store: Store) -> None:
        phones = [
            registration(str(n), user_agent="".join(chr(0x4E00 + (n * 7919 + k * k * 31) % 20000) for k in range(600)))
            for n in range(64)
        ]
        assert store.commit([Put(phone) for phone in phones]) == [STORED] * 64
        assert sorted(store.registrations(), key=lambda each: int(each.sip_user)) == phones

    # ---- registrations ---------------------------------------------------------------------------------------------

    def test_registrations_are_found_by_user_host_and_profile(self, store: Store) -> None:
        for profile in ("internal", "external"):
            store.commit([Put(registration(user, profile_name=profile)) for user in ("1000", "1001")])
        assert len(store.registrations(user="1000", host="example.org")) == 2
        assert len(store.registrations(profile="internal")) == 2
        assert [r.key for r in store.registrations(profile="external", user="1001")] == [
            registration("1001", profile_name="external").key
        ]
        assert store.registrations(user="1002") == []

    def test_a_registration_past_due_is_not_found(self, store: Store) -> None:
        now = int(store.clock())
        store.commit([Put(registration("past", expires=now - 1)), Put(registration("coming", expires=now + 60))])
        assert [r.sip_user for r in store.registrations()] == ["coming"]

    def test_expiring_removes_and_returns_those_past_due(self, store: Store, other: Store) -> None:
        now = int(store.clock())
        past = [registration(str(n), expires=now - 1) for n in range(450)]
        store.commit([Put(r) for r in past])
        store.commit([Put(registration("coming")), Put(registration("for ever", expires=0))])
        store.commit([Put(registration("elsewhere", expires=now - 1, profile_name="external"))])
        assert sorted(r.sip_user for r in store.expire_registrations("internal")) == sorted(r.sip_user for r in past)
        assert other.expire_registrations("internal") == []
        assert {r.sip_user for r in store.registrations()} == {"coming", "for ever"}
        assert [r.sip_user for r in other.expire_registrations("external")] == ["elsewhere"]

    # ---- calls -----------------------------------------------------------------------------------------------------

    def test_calls_are_found_by_slot(self, store: Store) -> None:
        store.commit([Put(call(str(n), slot=f"internal#{n % 2}")) for n in range(6)])
        store.commit([Put(call("over", state="ended", expires=FAR))])
        assert {c.uuid for c in store.calls(slots=["internal#1"])} == {"1", "3", "5"}
        assert len(store.calls(slots=["internal#0", "internal#1"])) == len(store.calls()) == 6
        assert store.calls(slots=[]) == []
        assert store.call_slots() == {"internal#0": 3, "internal#1": 3}

    def test_a_call_is_found_by_the_call_id_of_either_leg(self, store: Store) -> None:
        store.commit([Put(call()), Put(call("call-2"))])
        for call_id in ("call-2-a@sip", "call-2-b@sip"):
            found = store.call_by_call_id(call_id)
            assert found is not None
            assert found.uuid == "call-2"
        assert store.call_by_call_id("nobody@sip") is None

    def test_a_leg_that_comes_later_is_found_too(self, store: Store) -> None:
        record = call(legs=call().legs[:1])
        store.commit([Put(record)])
        assert store.call_by_call_id("call-1-b@sip") is None
        store.commit([Put(call(version=2))])
        found = store.call_by_call_id("call-1-b@sip")
        assert found is not None
        assert found.version == 2

    def test_a_tombstone_answers_until_it_is_past_due(self, store: Store) -> None:
        now = store.clock()
        past = now - 0.01  # by more than SQLite's days round to
        store.commit(
            [Put(call("fresh", state="ended", expires=now + 60)), Put(call("old", state="ended", expires=past))]
        )
        found = store.call_by_call_id("fresh-a@sip")
        assert found is not None
        assert found.state == "ended"
        assert store.call_by_call_id("old-a@sip") is None

    def test_the_sweep_deletes_only_tombstones_past_due(self, store: Store) -> None:
        now = store.clock()
        store.commit([Put(call(f"old-{n}", state="ended", expires=now - 1)) for n in range(450)])
        store.commit([Put(call("fresh", state="ended", expires=now + 60)), Put(call("live", expires=now - 1))])
        assert store.sweep_calls() == 450
        assert store.sweep_calls() == 0
        assert store.call_by_call_id("fresh-a@sip") is not None
        assert [c.uuid for c in store.calls()] == ["live"]

    def test_flushing_deletes_the_calls_of_a_profile_or_all(self, store: Store) -> None:
        store.commit([Put(call("1")), Put(call("2", profile_name="external")), Put(call("3"))])
        assert store.flush_calls("internal") == 2
        assert [c.uuid for c in store.calls()] == ["2"]
        assert store.flush_calls(None) == 1
        assert store.calls() == []

    def test_a_call_that_was_flushed_is_found_again_after_its_next_write(self, store: Store, other: Store) -> None:
        store.commit([Put(call())])
        other.flush_calls(None)
        store.commit([Put(call(version=2))])
        assert store.call_by_call_id("call-1-b@sip") is not None

    # ---- fences and claims -----------------------------------------------------------------------------------------

    def test_who_has_lost_the_lease_raises_no_fence(self, store: Store, other: Store) -> None:
        """It has slept, and finds its workers gone."""
        mine = store.acquire_lease("alpha", 60.0)
        assert mine is not None
        epoch = store.raise_fence("internal#0", mine)
        assert epoch > mine.epoch
        store.release_lease(mine)
        theirs = other.acquire_lease("beta", 60.0)
        assert theirs is not None
        with pytest.raises(LeaseLost):
            store.raise_fence("internal#0", mine)
        assert other.commit([Put(call(epoch=theirs.epoch))]) == [Outcome.STORED]
        assert other.raise_fence("internal#0", theirs) > theirs.epoch

    def test_epochs_only_grow(self, store: Store, other: Store) -> None:
        epochs = [store.raise_fence("internal#0"), other.raise_fence("external#0"), store.raise_fence(ANY_SLOT)]
        epochs.append(other.raise_fence("internal#0"))
        assert epochs == sorted(set(epochs))
        assert epochs[0] > 0

    def test_a_write_under_an_older_epoch_is_refused(self, store: Store, other: Store) -> None:
        epoch = store.raise_fence("internal#0")
        assert store.commit([Put(call(epoch=epoch)), Put(registration(epoch=epoch))]) == [STORED, STORED]
        other.raise_fence("internal#0")
        late = [Put(call(epoch=epoch, version=2)), Remove(registration(epoch=epoch, version=2))]
        assert store.commit(late) == [FENCED, FENCED]
        assert [c.version for c in other.calls()] == [1]
        assert len(other.registrations()) == 1

    def test_a_fence_stands_before_its_slot_only(self, store: Store) -> None:
        store.raise_fence("internal#0")
        assert store.commit([Put(call(slot="internal#1")), Put(call("call-2"))]) == [STORED, FENCED]

    def test_the_fence_of_all_slots_stands_before_each(self, store: Store) -> None:
        old = store.raise_fence("internal#0")
        new = store.raise_fence(ANY_SLOT)
        assert store.commit([Put(call(epoch=old)), Put(call(slot="new#0", epoch=old))]) == [FENCED, FENCED]
        assert store.commit([Put(call(epoch=new))]) == [STORED]

    def test_a_refresh_may_reach_a_worker_of_an_older_epoch(self, store: Store) -> None:
        first, second = store.raise_fence("internal#0"), store.raise_fence("internal#1")
        store.commit([Put(registration(slot="internal#1", epoch=second, version=10))])
        assert store.commit([Put(registration(slot="internal#0", epoch=first, version=11))]) == [STORED]

    def test_of_a_call_the_newer_epoch_wins_over_any_version(self, store: Store) -> None:
        first, second = store.raise_fence("internal#0"), store.raise_fence("internal#1")
        store.commit([Put(call(epoch=first, version=10))])
        assert store.commit([Put(call(slot="internal#1", epoch=second, version=3))]) == [STORED]
        assert store.commit([Put(call(epoch=first, version=11))]) == [FENCED]
        assert [(c.slot, c.version) for c in store.calls()] == [("internal#1", 3)]

    def test_claimed_calls_carry_their_new_owner(self, store: Store, other: Store) -> None:
        store.commit([Put(call(version=7)), Put(call("other", slot="external#0"))])
        epoch = other.raise_fence("internal#0")
        claimed = other.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch)
        assert claimed == [call(node="b", epoch=epoch, version=8)]
        assert store.calls(slots=["internal#0"]) == claimed
        assert other.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch) == []
        assert store.commit([Put(call(version=9))]) == [FENCED]
        assert store.commit([Put(call(node="b", epoch=epoch, version=9))]) == [STORED]

    def test_a_claim_into_another_slot_fences_the_old_one(self, store: Store) -> None:
        store.commit([Put(call())])
        epoch = store.raise_fence("internal#1")
        assert [c.slot for c in store.claim(["internal#0"], node="a", slot="internal#1", epoch=epoch)] == ["internal#1"]
        assert store.commit([Put(call("new"))]) == [FENCED]
        assert store.call_slots() == {"internal#1": 1}

    def test_a_claim_goes_by_batches_until_nothing_is_left(self, store: Store) -> None:
        store.commit([Put(call(str(n), slot=f"internal#{n % 3}")) for n in range(50)])
        epoch = store.raise_fence(ANY_SLOT)
        slots = ["internal#0", "internal#1", "internal#2"]
        sizes = []
        while batch := store.claim(slots, node="b", slot="internal#0", epoch=epoch, limit=20):
            sizes.append(len(batch))
        assert sizes == [20, 20, 10]

    def test_tombstones_are_not_claimed(self, store: Store) -> None:
        store.commit([Put(call(state="ended", expires=FAR))])
        epoch = store.raise_fence("internal#0")
        assert store.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch) == []

    def test_a_claim_under_an_epoch_that_is_over_is_refused(self, store: Store) -> None:
        store.commit([Put(call())])
        epoch = store.raise_fence("internal#0")
        store.raise_fence(ANY_SLOT)
        with pytest.raises(Fenced):
            store.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch)
        assert store.calls() == [call()]

    def test_of_two_claimers_only_one_gets_each_call(self, store: Store, factory: Factory) -> None:
        store.commit([Put(call(str(n))) for n in range(400)])
        epoch = store.raise_fence("internal#0")
        claimed: list[list[CallRecord]] = [[], []]
        start = threading.Barrier(2)

        def claim(mine: list[CallRecord]) -> None:
            with opened(factory) as claimer:
                start.wait()
                while batch := claimer.claim(["internal#0"], node="b", slot="internal#0", epoch=epoch, limit=25):
                    mine += batch

        threads = [threading.Thread(target=claim, args=(mine,)) for mine in claimed]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(c.uuid for mine in claimed for c in mine) == sorted(str(n) for n in range(400))

    # ---- what a crashed worker left ------------------------------------------------------------------------------------

    def test_what_a_crashed_worker_left_is_taken_up_by_its_own_node(self, store: Store) -> None:
        lease = store.acquire_lease("a", 60)
        assert lease is not None
        store.commit([Put(call(epoch=lease.epoch)), Put(call("gone", epoch=lease.epoch))])
        store.commit([Put(registration(node="a", epoch=lease.epoch))])
        epoch = store.raise_fence("internal#0")
        left: list[Write] = [
            Put(call(epoch=lease.epoch, version=2)),
            Put(call("new", epoch=lease.epoch)),
            Remove(call("gone", epoch=lease.epoch, version=2)),
            Put(registration(node="a", epoch=lease.epoch, version=2, user_agent="new")),
        ]
        assert store.commit(left) == [FENCED] * 4
        assert store.commit(_inherited("a", left)) == [STORED] * 4
        assert [r.user_agent for r in store.registrations()] == ["new"]
        claimed = store.claim(["internal#0"], node="a", slot="internal#0", epoch=epoch)
        assert {(c.uuid, c.version, c.epoch) for c in claimed} == {("call-1", 3, epoch), ("new", 2, epoch)}

    def test_what_it_left_never_replaces_a_newer_version_or_a_newer_claim(self, store: Store) -> None:
        lease = store.acquire_lease("a", 60)
        assert lease is not None
        store.commit([Put(call(epoch=lease.epoch, version=3)), Put(call("other", epoch=lease.epoch))])
        epoch = store.raise_fence("internal#0")
        assert store.commit(_inherited("a", [Put(call(epoch=lease.epoch, version=2))])) == [STALE]
        store.claim(["internal#0"], node="a", slot="internal#1", epoch=epoch)
        late: list[Write] = [
            Put(call("other", epoch=lease.epoch, version=9)),
            Remove(call(epoch=lease.epoch, version=9)),
        ]
        assert store.commit(_inherited("a", late)) == [FENCED, FENCED]
        assert {(c.uuid, c.version, c.slot) for c in store.calls()} == {
            ("call-1", 4, "internal#1"),
            ("other", 2, "internal#1"),
        }

    def test_what_it_left_is_over_once_another_node_has_ruled(self, store: Store, other: Store) -> None:
        lease = store.acquire_lease("a", 0)
        assert lease is not None
        assert other.acquire_lease("b", 0) is not None
        left: list[Write] = [Put(call(epoch=lease.epoch))]
        assert store.commit(_inherited("a", left)) == [FENCED]
        again = store.acquire_lease("a", 60)
        assert again is not None
        assert store.commit(_inherited("a", left)) == [FENCED]
        assert store.commit(_inherited("a", [Put(call(epoch=again.epoch))])) == [STORED]

    def test_a_node_that_starts_again_takes_up_what_it_left(self, store: Store) -> None:
        before = store.acquire_lease("b", 0)
        lease, again = store.acquire_lease("a", 60), store.acquire_lease("a", 60)
        assert before is not None
        assert lease is not None
        assert again is not None
        assert store.commit(_inherited("a", [Put(call(epoch=lease.epoch))])) == [STORED]
        claimed = store.claim(["internal#0"], node="a", slot="internal#0", epoch=again.epoch)
        assert [c.uuid for c in claimed] == ["call-1"]

    def test_what_another_node_wrote_has_no_heir_here(self, store: Store) -> None:
        lease = store.acquire_lease("a", 60)
        assert lease is not None
        store.raise_fence("internal#0")
        assert store.commit(_inherited("a", [Put(call(node="b", epoch=lease.epoch))])) == [FENCED]

    # ---- lease and secrets -----------------------------------------------------------------------------------------

    def test_a_live_lease_keeps_others_away(self, store: Store, other: Store) -> None:
        lease = store.acquire_lease("a", 60)
        assert lease is not None
        assert lease.holder == "a"
        assert 59 < lease.until - lease.now <= 60
        assert other.acquire_lease("b", 60) is None
        seen = other.read_lease()
        assert seen is not None
        assert (seen.holder, seen.epoch, seen.until) == ("a", lease.epoch, lease.until)

    def test_nobody_holds_a_new_lease(self, store: Store) -> None:
        assert store.read_lease() is None

    def test_a_lease_that_has_run_out_is_free(self, store: Store, other: Store) -> None:
        old = store.acquire_lease("a", 0)
        new = other.acquire_lease("b", 60)
        assert old is not None
        assert new is not None
        assert new.epoch > old.epoch
        with pytest.raises(LeaseLost):
            store.renew_lease(old, 60)

    def test_renewing_keeps_the_epoch_and_prolongs(self, store: Store) -> None:
        lease = store.acquire_lease("a", 1)
        assert lease is not None
        renewed = store.renew_lease(lease, 60)
        assert (renewed.holder, renewed.epoch) == ("a", lease.epoch)
        assert renewed.until > lease.until

    def test_a_lease_that_ran_out_but_was_not_taken_is_renewed(self, store: Store) -> None:
        lease = store.acquire_lease("a", 0)
        assert lease is not None
        assert store.renew_lease(lease, 60).epoch == lease.epoch

    def test_a_released_lease_is_free_at_once(self, store: Store, other: Store) -> None:
        lease = store.acquire_lease("a", 60)
        assert lease is not None
        store.release_lease(lease)
        assert store.read_lease() is None
        assert other.acquire_lease("b", 60) is not None
        store.release_lease(lease)
        assert other.read_lease() is not None

    def test_taking_the_lease_fences_all_that_was_written_before(self, store: Store, other: Store) -> None:
        first = store.acquire_lease("a", 0)
        assert first is not None
        assert store.commit([Put(call(epoch=first.epoch))]) == [STORED]
        second = other.acquire_lease("b", 60)
        assert second is not None
        assert store.commit([Put(call(epoch=first.epoch, version=2))]) == [FENCED]
        assert other.commit([Put(call(epoch=second.epoch, version=2))]) == [STORED]

    def test_taking_ones_own_lease_again_begins_a_new_epoch(self, store: Store) -> None:
        first, second = store.acquire_lease("a", 60), store.acquire_lease("a", 60)
        assert first is not None
        assert second is not None
        assert second.epoch > first.epoch
        with pytest.raises(LeaseLost):
            store.renew_lease(first, 60)

    def test_of_many_who_want_the_lease_one_gets_it(self, factory: Factory) -> None:
        start = threading.Barrier(4)
        won: list[str] = []

        def run(name: str) -> None:
            with opened(factory) as mine:
                start.wait()
                if mine.acquire_lease(name, 60) is not None:
                    won.append(name)

        threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1

    def test_a_secret_is_made_once_and_shared(self, store: Store, other: Store) -> None:
        secret = store.secret("nonce")
        assert len(secret) == 32
        assert other.secret("nonce") == secret
        assert other.secret("peer") != secret

    # ---- being given up --------------------------------------------------------------------------------------------

    def test_an_abandoned_store_commits_nothing_until_it_is_opened_again(self, store: Store, other: Store) -> None:
        store.abandon()
        with pytest.raises(Unavailable):
            store.commit([Put(call())])
        assert other.calls() == []
        store.close()
        store.open()
        assert store.commit([Put(call())]) == [STORED]


def _inherited(node: str, writes: list[Write]) -> list[Write]:
    """As the journal's replay offers them once they were refused."""
    for write in writes:
        write.heir = node
    return writes
