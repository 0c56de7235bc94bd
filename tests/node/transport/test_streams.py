"""Streams of every kind on real sockets, in a worker of its own: who gets in, what is said, and who is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.node.rig import PASSWORD, Rig, rig
from tests.support.certificates import Authority
from tests.support.streams import StreamPhone

KINDS = ("tcp", "tls", "ws", "wss")
HOSTS = ("127.0.0.1", "::1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def node(folder: Path, authority: Authority, *, host: str = "127.0.0.1", **options: object) -> Iterator[Rig]:
    certificates = folder / "certs"
    certificates.mkdir(exist_ok=True)
    for name in ("agent.pem", "wss.pem"):
        (certificates / name).write_text(authority.issue("pbx.test", "127.0.0.1", "::1"))
    (certificates / "cafile.pem").write_text(authority.text)
    with rig(folder, kinds=KINDS, host=host, certs_dir=str(certificates), **options) as made:
        made.serve()
        yield made


def phone(made: Rig, kind: str, authority: Authority, user: str = "1000", **options: str) -> StreamPhone:
    host, _port = made.listening[kind]
    return StreamPhone(
        user,
        PASSWORD,
        made.listening[kind],
        kind.upper(),
        domain="pbx.test",
        trust=authority.trusting(),
        host=host,
        **options,
    )


def play(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


@pytest.mark.parametrize("host", HOSTS)
def test_a_phone_registers_on_each_transport(tmp_path: Path, authority: Authority, host: str) -> None:
    with node(tmp_path, authority, host=host) as made:

        async def scenario() -> None:
            for number, kind in enumerate(KINDS):
                async with phone(made, kind, authority, str(1000 + number)) as one:
                    assert (await one.register()).status == 200
                    rows = made.ask("registrations")
                    assert isinstance(rows, list)
                    row = next(row for row in rows if row["sip_user"] == one.user)
                    assert row["flow"]["transport"] == kind.upper()
                    assert row["flow"]["remote_host"] == host

        play(scenario)
