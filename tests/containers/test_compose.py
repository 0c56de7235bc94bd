"""What `deploy/docker/compose.yaml` promises: a pair under load, one node of it killed, and no call lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engine import NAME, engine
from tests.support.node import PASSWORD, ROOT, STRETCH
from tests.support.redis import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.long, pytest.mark.timeout(900)]
CALLS = 60


class Composed:
    """The services of the file, with images that were built here."""

    def __init__(self, folder: Path, store: str) -> None:
        engine().servers()
        # The official images bring a command of their own.
        override = {"services": {"postgres": {"command": "serve-postgres"}}}
        more = folder / "here.json"
        more.write_text(json.dumps(override))
        own = shutil.which("docker-compose")
        self._words = [own] if own else ["docker", "compose"]
        self._words += ["-p", f"{NAME}-{os.getpid()}", "-f", str(ROOT / "deploy/docker/compose.yaml"), "-f", str(more)]
        self._environment = {
            **os.environ,
            "SOFIA_IMAGE": engine().node(),
            "SOFIA_POSTGRES": engine().servers(),
            "SOFIA_REDIS": engine().servers(),
            "SOFIA_LOAD": engine().load(),
            "SOFIA_PASSWORD": PASSWORD,
            "SOFIA_CALLS": str(CALLS),
            "SOFIA_TALK": "8",
        }
        if store:
            self._environment["SOFIA_STORE"] = store

    def __call__(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(
            [*self._words, *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300 * STRETCH,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def status(self, node: str) -> dict[str, object]:
        said = self(
            "exec", "-T", node, "sofia-node", "status", "--run-dir", "/var/lib/sofia-node", "--json", check=False
        )
        answer: dict[str, object] = json.loads(said) if said.startswith("{") else {}
        return answer

    def ended(self, service: str) -> int | None:
        """Its exit status, once it has one."""
        identity = self("ps", "-q", service).strip()
        container = engine().client.containers.get(identity)
        return int(container.attrs["State"]["ExitCode"]) if container.status == "exited" else None


@pytest.fixture(params=["", "redis://172.30.77.21/0"], ids=["postgresql", "redis"])
def composed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Composed]:
    composed = Composed(tmp_path, request.param)
    try:
        yield composed
    finally:
        composed("down", "-v", "-t", "5", check=False)


def test_a_node_is_killed_under_load_and_no_call_is_lost(composed: Composed) -> None:
    composed("up", "-d", "--no-build")
    roles = {node: composed.status(node).get("role") for node in ("alpha", "beta")}
    assert sorted(map(str, roles.values())) == ["active", "standby"], roles
    active = next(node for node, role in roles.items() if role == "active")
    heir = next(node for node in roles if node != active)

    def under_load() -> bool:
        assert composed.ended("load") is None, composed("logs", "--no-color", "load")
        shown = composed("exec", "-T", active, "sofia", "--run-dir", "/var/lib/sofia-node", "-x", "show channels count")
        return int(shown.split()[0]) >= 40

    wait_until(under_load, "twenty calls", 60 * STRETCH)
    composed("kill", active)
    wait_until(lambda: composed.status(heir).get("role") == "active", f"{heir} to take over", 30 * STRETCH)
    wait_until(lambda: composed.ended("load") is not None, "the end of the load", 120 * STRETCH)
    said = composed("logs", "--no-color", "load")
    assert composed.ended("load") == 0, said
    print(said.strip().splitlines()[-3:])
