"""The shipped image by itself: what an operator meets who runs it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from docker.models.containers import Container

from tests.support.engine import NAME, engine, run
from tests.support.node import PASSWORD, STRETCH
from tests.support.redis import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]


def said(*words: str, **environment: str) -> str:
    """What a command in a container of its own says."""
    given = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
    return run("docker", "run", "--rm", "--pull=never", "--network=none", *given, engine().node(), *words)


@pytest.fixture
def alone() -> Iterator[Container]:
    """A node without a peer, with a file for its store."""
    container = engine().client.containers.run(
        engine().node(),
        ["run", "--standalone"],
        detach=True,
        environment={"SOFIA_SET_default_password": PASSWORD, "SOFIA_SET_sip_ip": "127.0.0.1"},
        labels={NAME: str(os.getpid())},
        healthcheck={"test": ["CMD", "sofia-node", "status", "--run-dir", "/var/lib/sofia-node"], "interval": 10**9},
    )
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


def test_its_configuration_is_sound_and_its_commands_are_there() -> None:
    assert said("check", "--conf", "/etc/sofia-node") == "/etc/sofia-node: no errors, no warnings\n"
    assert "promote" in said("sofia-node", "--help")
    assert "usage: sofia" in said("sofia", "--help")


def test_it_has_the_drivers_of_every_store_that_the_readme_names() -> None:
    drivers = said("python3", "-c", "import json, pyodbc, redis; print(json.dumps(pyodbc.drivers()))")
    assert {"PostgreSQL Unicode", "MariaDB Unicode", "SQLite3"} <= set(json.loads(drivers))


def test_it_holds_no_tests_and_no_secrets() -> None:
    found = said("sh", "-c", "ls /opt/sofia-node/lib/python3*/site-packages; ls /var/lib/sofia-node; ls /src || true")
    assert "node" in found.splitlines()
    assert not {"tests", "secrets"} & set(found.splitlines())


def test_a_node_alone_becomes_healthy_and_ends_well(alone: Container) -> None:
    def healthy() -> bool:
        alone.reload()
        assert alone.status == "running", alone.logs(tail=40).decode()
        return bool(alone.attrs["State"]["Health"]["Status"] == "healthy")

    def active() -> bool:
        answer = alone.exec_run(["sofia-node", "status", "--run-dir", "/var/lib/sofia-node", "--json"])[1]
        return bool(json.loads(answer)["role"] == "active")

    wait_until(healthy, "a healthy container", 60 * STRETCH)
    wait_until(active, "an active node", 60 * STRETCH)
    assert alone.exec_run(["sofia", "status"])[1].decode().startswith("                     Name")
    alone.stop(timeout=round(20 * STRETCH))
    assert alone.wait()["StatusCode"] == 0


def test_what_cannot_work_is_said_in_one_line() -> None:
    with pytest.raises(AssertionError, match=r"sofia-node: the configuration cannot be used"):
        said("run", SOFIA_CONF="/nowhere")
