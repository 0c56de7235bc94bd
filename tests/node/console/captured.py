"""The node that the transcripts were captured from, with its one call and its phones."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from store.backends import open_store
from store.interface import Put, opened
from store.records import Registration
from tests.node.console.rig import Console, Worker
from tests.node.console.test_format import rows_of
from tests.node.console.transcripts import headers_of, transcript

LEG = "5f95c2c2-d674-4176-9302-b9d5d1c26523"


@pytest.fixture(scope="module", name="node")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """The captured node with its one call: profile internal has a worker that knows it."""
    console = Console(tmp_path_factory.mktemp("node"))
    workers = console.run_dir / "workers"
    profile = {"in_use": 2, "calls_in": 4, "calls_out": 2, "failed_calls_in": 0, "failed_calls_out": 0}
    idle = dict.fromkeys(profile, 0)
    internal = Worker(
        workers,
        "internal.0",
        {
            "channels": rows_of("show_channels.1call")[1],
            "calls": rows_of("show_calls.1call")[1],
            "profile": lambda name: profile if name == "internal" else idle,
            "exists": lambda uuid: uuid == LEG,
            "dump": lambda uuid: headers_of(transcript("uuid_dump.aleg.1call"))[13:] if uuid == LEG else None,
            "kill": lambda uuid, cause: uuid == LEG,
            "simplify": lambda uuid: uuid == LEG,
            "transfer": lambda uuid, *words: uuid == LEG,
            "hupall": lambda cause: 2,
            "getvar": lambda uuid, name: "1000" if (uuid, name) == (LEG, "accountcode") else None,
            "setvar": lambda uuid, name, value: uuid == LEG,
            "originate": lambda line: "-ERR USER_BUSY" if "busy" in line else "+OK 27d1503f",
            "forget": lambda *keys: len(keys),
            "check_sync": lambda *keys: len(keys),
        },
    )
    external = Worker(
        workers,
        "external.0",
        {
            "channels": [],
            "calls": [],
            "profile": idle,
            **dict.fromkeys(("exists", "kill", "simplify", "transfer"), False),
            "dump": None,
        },
    )
    console.internal = internal  # type: ignore[attr-defined]
    with opened(open_store(console.store)) as store:
        store.commit([Put(phone(user)) for user in ("1000", "1001")])
    yield console
    internal.close()
    external.close()
    console.end()


def phone(user: str, *, version: int = 1) -> Registration:
    ip = f"127.0.0.1{int(user) - 999}"
    return Registration(
        call_id=f"reg-{user}-5062@{ip}",
        sip_user=user,
        sip_host="pbx.test",
        presence_hosts="pbx.test,127.0.0.1",
        contact=f'"" <sip:{user}@{ip}:5062>',
        profile_name="internal",
        expires=int(time.time()) + 356 + int(user) - 1000,
        user_agent="sipua/1.0",
        hostname="fsanchor",
        network_ip=ip,
        network_port="5062",
        sip_username=user,
        sip_realm="pbx.test",
        mwi_user=user,
        mwi_host="pbx.test",
        slot="internal#0",
        epoch=1,
        version=version,
    )
