from __future__ import annotations

import subprocess
import sys

import pytest

from store.errors import UnknownStore
from store.redis.dsn import is_redis, parse
from tests.support.node import ROOT


def test_a_server_alone_is_enough() -> None:
    settings = parse("redis://127.0.0.1")
    assert settings.servers == (("127.0.0.1", 6379),)
    assert (settings.database, settings.user, settings.password, settings.tls, settings.primary) == (
        0,
        "",
        "",
        False,
        "",
    )


def test_all_parts_are_read() -> None:
    settings = parse(
        "rediss://sofia:p%40ss%3Aword@[2001:db8::1]:6380/3?timeout=700&connect-timeout=200&wait=1&wait-timeout=50"
        "&prefix=pbx:&feed=100&ca=/etc/ca.pem&certificate=/etc/own.pem&key=/etc/own.key&verify=no"
    )
    assert settings.servers == (("2001:db8::1", 6380),)
    assert (settings.database, settings.user, settings.password, settings.tls) == (3, "sofia", "p@ss:word", True)
    assert (settings.timeout, settings.connect_timeout, settings.wait, settings.wait_timeout) == (0.7, 0.2, 1, 0.05)
    assert (settings.prefix, settings.feed, settings.ca, settings.verify) == ("pbx:", 100, "/etc/ca.pem", False)
    assert (settings.certificate, settings.key) == ("/etc/own.pem", "/etc/own.key")


def test_options_may_be_parted_so_that_they_need_no_escape_in_xml() -> None:
    settings = parse("redis://host?wait=1;wait-timeout=50;timeout=700")
    assert (settings.wait, settings.wait_timeout, settings.timeout) == (1, 0.05, 0.7)


def test_sentinels_name_the_primary() -> None:
    settings = parse("redis+sentinel://:secret@one,two:26380,three/pbx/2?sentinel-password=other")
    assert settings.servers == (("one", 26379), ("two", 26380), ("three", 26379))
    assert (settings.primary, settings.database, settings.password) == ("pbx", 2, "secret")
    assert settings.sentinel_password == "other"


@pytest.mark.parametrize(
    "dsn",
    [
        "redis://sofia:hunter2@redis.example.org/0",
        "redis+sentinel://:hunter2@one,two/pbx?sentinel-password=hunter2",
        "redis://:hun@ter2:hunter2@redis.example.org/0",
    ],
)
def test_neither_its_place_nor_its_representation_shows_a_password(dsn: str) -> None:
    settings = parse(dsn)
    for text in (settings.place, repr(settings)):
        assert "hunter2" not in text
        assert "ter2" not in text


@pytest.mark.parametrize(
    "dsn",
    [
        "redis://",
        "redis://host:0",
        "redis://host:70000",
        "redis://host/x",
        "redis://one,two/0",
        "redis+sentinel://one,two",
        "redis://host?wait=-1",
        "redis://host?timeout=0",
        "redis://host?verify=maybe",
        "redis://host?ca=/ca.pem",
        "rediss://host?key=/own.key",
        "redis://host?no-such-option=1",
        "redis://host?feed=0",
        "mysql://host",
    ],
)
def test_what_is_wrong_is_refused(dsn: str) -> None:
    with pytest.raises(UnknownStore):
        parse(dsn)


def test_who_only_names_the_store_does_not_pay_for_its_driver() -> None:
    script = (
        "import sys; from store.backends import open_store; open_store('redis://host'); print('redis' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_other_stores_are_not_taken_for_it() -> None:
    assert not any(map(is_redis, ("redis", "pgsql://redis", "redis:user:password", "sqlite:///redis://", "")))
    assert all(map(is_redis, ("redis://a", "REDISS://a", "redis+sentinel://a/b", "rediss+sentinel://a/b")))
