"""Which nonces and counts are taken: by one worker, by its successor, and after much has been forgotten."""

from __future__ import annotations

import dataclasses

import pytest

from node.config.profile import ProfileSettings
from node.directory import Names, User
from node.profiles import secrets
from node.profiles.secrets import IN_FLIGHT, Account, NonceBook
from node.sip.auth import Credentials, ha1
from store.records import Registration
from tests.node.profiles.test_screen import Clock

SECRET = b"s" * 32


def book(clock: Clock, secret: bytes = SECRET, **settings: object) -> NonceBook:
    return NonceBook(dataclasses.replace(ProfileSettings(name="internal"), **settings), clock, secret)  # type: ignore[arg-type]


def credentials(nonce: str, count: int, response: str = "r") -> Credentials:
    nc = f"{count:08x}" if count else ""
    return Credentials("1000", "pbx.test", nonce, "sip:pbx.test", response, qop="auth" if count else "", nc=nc)


def test_a_count_is_taken_once_and_late_ones_within_the_window() -> None:
    ours = book(Clock())
    nonce = ours.make()
    for count in (1, 4, 2, 3):
        assert ours.judge(credentials(nonce, count)) == "good"
        ours.use(credentials(nonce, count), 0)
    assert [ours.judge(credentials(nonce, count)) for count in range(1, 6)] == ["replayed"] * 4 + ["good"]


def test_what_was_not_right_uses_nothing_up() -> None:
    ours = book(Clock())
    nonce = ours.make()
    assert ours.judge(credentials(nonce, 1)) == "good"
    assert ours.judge(credentials(nonce, 1)) == "good"
    assert len(ours) == 0


def test_a_nonce_lives_as_long_as_the_registration_and_no_longer() -> None:
    clock = Clock()
    ours = book(clock)
    nonce = ours.make()
    ours.use(credentials(nonce, 1), 600)
    clock.now += 659
    assert ours.judge(credentials(nonce, 2)) == "good"
    clock.now += 2
    assert ours.judge(credentials(nonce, 2)) == "stale"


def test_without_a_count_the_same_response_is_good_once() -> None:
    clock = Clock()
    ours = book(clock)
    nonce = ours.make()
    ours.use(credentials(nonce, 0, "AB"), 3600)
    assert ours.judge(credentials(nonce, 0, "ab")) == "replayed"
    assert ours.judge(credentials(nonce, 0, "cd")) == "good"
    clock.now += 61
    assert ours.judge(credentials(nonce, 0, "cd")) == "stale"


def test_max_auth_validity_ends_a_nonce() -> None:
    ours = book(Clock(), max_auth_validity=2)
    nonce = ours.make()
    ours.use(credentials(nonce, 1), 600)
    assert ours.judge(credentials(nonce, 2)) == "good"
    ours.use(credentials(nonce, 2), 600)
    assert ours.judge(credentials(nonce, 3)) == "stale"


def test_a_successor_takes_the_answer_to_a_challenge_of_its_predecessor() -> None:
    clock = Clock()
    dead, successor = book(clock), book(clock)
    nonce = dead.make()
    clock.now += IN_FLIGHT
    assert successor.judge(credentials(nonce, 1)) == "good"
    successor.use(credentials(nonce, 1), 0)
    assert successor.judge(credentials(nonce, 1)) == "stale"


def test_what_was_captured_before_a_failover_is_soon_worth_nothing() -> None:
    clock = Clock()
    dead, successor = book(clock), book(clock)
    nonce = dead.make()
    dead.use(credentials(nonce, 1), 3600)
    dead.use(credentials(nonce, 2), 3600)
    assert successor.judge(credentials(nonce, 2)) == "stale"
    clock.now += IN_FLIGHT + 1
    assert successor.judge(credentials(nonce, 1)) == "stale"


def test_a_successor_goes_on_from_the_count_in_the_registration() -> None:
    clock = Clock()
    dead, successor = book(clock), book(clock)
    nonce = dead.make()
    clock.now += 3000
    record = Registration(
        call_id="c",
        sip_user="1000",
        sip_host="pbx.test",
        contact="x",
        profile_name="internal",
        nonce=nonce,
        nonce_count=7,
    )
    judged = [successor.judge(credentials(nonce, count), lambda: [record]) for count in (1, 7, 8)]
    assert judged == ["stale", "stale", "good"]
    assert successor.judge(credentials(nonce, 8)) == "stale"


def test_a_nonce_of_nobody_is_stale_whatever_a_registration_says() -> None:
    ours = book(Clock())
    forged = book(Clock(), b"x" * 32).make()
    record = Registration(
        call_id="c",
        sip_user="1000",
        sip_host="pbx.test",
        contact="x",
        profile_name="internal",
        nonce=forged,
        nonce_count=1,
    )
    assert ours.judge(credentials(forged, 2), lambda: [record]) == "stale"
    assert ours.judge(credentials("", 1)) == "stale"


def test_nonces_that_are_over_are_forgotten_little_by_little() -> None:
    clock = Clock()
    ours = book(clock)
    for _ in range(1000):
        ours.use(credentials(ours.make(), 1), 0)
    assert len(ours) == 1000
    clock.now += 120
    for _ in range(1000):
        ours.use(credentials(ours.make(), 1), 0)
    assert len(ours) == 1000


def test_forgetting_for_want_of_room_lets_nothing_be_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "REMEMBERED", 100)
    clock = Clock()
    ours = book(clock)
    given = [credentials(ours.make(), 1) for _ in range(300)]
    clock.now += 1
    for each in given:
        ours.use(each, 3600)
    assert len(ours) <= 101
    assert {ours.judge(each) for each in given} == {"replayed", "stale"}
    assert ours.judge(credentials(ours.make(), 1)) == "good"


def test_more_phones_than_are_remembered_register_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as that within the time of their registrations: who has just been challenged is not put off with the old."""
    monkeypatch.setattr(secrets, "REMEMBERED", 100)
    clock = Clock()
    ours = book(clock)
    used: list[Credentials] = []
    under_way: list[Credentials] = []
    for _ in range(500):
        asked = [credentials(ours.make(), 1) for _ in range(5)]
        clock.now += 0.7
        assert {ours.judge(each) for each in under_way} <= {"good"}
        for each in under_way:
            ours.use(each, 3600)
        assert len(ours) <= 101
        used += under_way
        under_way = asked
    assert "good" not in {ours.judge(each) for each in used}


def test_a_nonce_of_another_worker_that_had_to_be_forgotten_is_not_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "REMEMBERED", 100)
    clock = Clock()
    ours, others = book(clock), book(clock)
    given = credentials(others.make(), 1)
    assert ours.judge(given) == "good"
    ours.use(given, 3600)
    clock.now += 1
    for _ in range(200):
        ours.use(credentials(ours.make(), 1), 3600)
    assert ours.judge(given) == "stale"


@pytest.mark.parametrize("nc", ["00000001", "zz", "-1", "+1", "1_0", "", "f" * 4000])
def test_any_count_is_read_or_taken_for_none(nc: str) -> None:
    ours = book(Clock())
    given = Credentials("1000", "r", ours.make(), "sip:x", "r", qop="auth", nc=nc)
    assert ours.judge(given) == "good"
    ours.use(given, 0)
    assert ours.judge(given) == "replayed"


def test_a_hash_is_kept_for_each_algorithm(user_with) -> None:  # type: ignore[no-untyped-def]
    md5, sha = ha1("1000", "pbx.test", "p"), ha1("1000", "pbx.test", "p", "SHA-256")
    given = credentials("n", 1)
    assert Account(user_with({"a1-hash": md5.upper(), "a1-hash-sha256": sha})).hashed(given, "MD5") == md5
    assert Account(user_with({"a1-hash": md5, "a1-hash-sha256": sha})).hashed(given, "SHA-256-sess") == sha
    assert Account(user_with({"a1-hash": md5})).hashed(given, "SHA-256") == ""
    assert Account(user_with({"a1-hash": sha})).hashed(given, "SHA-256") == sha
    assert Account(user_with({"a1-hash": md5, "password": "p"})).hashed(given, "SHA-256") == sha
    account = Account(user_with({"a1-hash": md5, "a1-hash-sha256": sha}))
    assert [account.hashed(given, each) for each in ("MD5", "SHA-256", "MD5")] == [md5, sha, md5]


@pytest.fixture
def user_with():  # type: ignore[no-untyped-def]
    return lambda params: User(id="1000", domain="pbx.test", params=Names(params), variables=Names())
