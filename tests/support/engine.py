"""A docker engine for tests, and the images they need: the engine that runs here, or one started for this run.

No registry of images need be reachable: what stands in for Debian's image is made from packages. Images stay in a
directory of their own, so that the next run finds them.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import docker

from tests.support.node import ROOT, STRETCH
from tests.support.redis import wait_until

PLACE = Path(os.environ.get("SOFIA_TEST_DOCKER", "/var/tmp/sofia-node-docker"))
"Of our own engine: its socket, its images."
IMAGES = Path(__file__).parent / "images"
SOURCES = Path("/etc/apt/sources.list.d/debian.sources")
NAME = "sofia-node-test"
"Before the name of each image of ours; and the label of each container and network, with the process that made it."
BUILD_WITHIN = 600.0 * STRETCH


class Engine:
    """Use `engine()`: there is one for all tests of a run."""

    def __init__(self) -> None:
        self.own = False
        address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        if not answers(address):
            address = f"unix://{PLACE}/docker.sock"
            self.own = True
            self._join(address)
        # testcontainers, compose and the client all look here.
        os.environ["DOCKER_HOST"] = address
        self.client = docker.DockerClient(base_url=address, timeout=round(60 * STRETCH))
        self.clear(others=True)
        atexit.register(self._leave, os.getpid())

    def clear(self, *, others: bool = False) -> None:
        """Remove the containers and networks of this run, or those of runs that are no more."""
        for thing in (
            *self.client.containers.list(all=True, filters={"label": NAME}, ignore_removed=True),
            *self.client.networks.list(filters={"label": NAME}),
        ):
            labels = thing.labels if hasattr(thing, "labels") else thing.attrs["Labels"]
            mine = labels[NAME] == str(os.getpid())
            if mine != others and (mine or not Path(f"/proc/{labels[NAME]}").exists()):
                with contextlib.suppress(docker.errors.APIError):
                    thing.remove(**({"force": True, "v": True} if hasattr(thing, "image") else {}))

    # ---- images ------------------------------------------------------------------------------------------------------

    @cache  # noqa: B019
    def base(self) -> str:
        """What stands in for debian:bookworm-slim, with the Python packages of the node beside it."""
        script = IMAGES / "root.sh"
        mark = hashlib.sha256(script.read_bytes() + SOURCES.read_bytes()).hexdigest()[:12]
        root = f"{NAME}/root:{mark}"
        if not self.client.images.list(name=root):
            run("bash", str(script), root)
        context = PLACE / "base"
        context.mkdir(parents=True, exist_ok=True)
        needed = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
        fetched = context / "fetched"
        if not fetched.exists() or fetched.read_text() != needed:
            run(
                sys.executable,
                "-m",
                "pip",
                "download",
                "-q",
                "-d",
                str(context / "wheels"),
                f"{ROOT}[fast]",
                "hatchling",
            )
            fetched.write_text(needed)
        return self._build(IMAGES / "base.Dockerfile", context, "debian:bookworm-slim", ROOT=root)

    @cache  # noqa: B019
    def node(self) -> str:
        """The image of a node, as an operator builds it."""
        dockerfile = ROOT / "deploy" / "docker" / "Dockerfile"
        self._build(dockerfile, ROOT, "built", target="built", BASE=self.base())
        return self._build(dockerfile, ROOT, "node", BASE=self.base())

    @cache  # noqa: B019
    def servers(self) -> str:
        """PostgreSQL, MariaDB, Redis and sipp."""
        return self._build(IMAGES / "servers.Dockerfile", IMAGES, "servers", BASE=self.base())

    @cache  # noqa: B019
    def load(self) -> str:
        """Phones that call, as an operator builds them; sipp is among the servers already."""
        return self._build(ROOT / "deploy" / "docker" / "load.Dockerfile", ROOT, "load", BASE=self.servers())

    def _build(self, dockerfile: Path, context: Path, name: str, target: str = "", **arguments: str) -> str:
        """Returns its identity: another run may give the name to another one meanwhile."""
        words = ["docker", "build", "--quiet", "--network=host", "-f", str(dockerfile), "-t", f"{NAME}/{name}"]
        words += [word for pair in arguments.items() for word in ("--build-arg", "=".join(pair))]
        words += ["--target", target] if target else []
        began = time.monotonic()
        identity = run(*words, str(context)).strip().splitlines()[-1]
        print(f"container image {name}: {time.monotonic() - began:.1f} s")
        return identity

    # ---- our own engine ----------------------------------------------------------------------------------------------

    def _join(self, address: str) -> None:
        """Start it, if no other run has; the lock says who uses it."""
        PLACE.mkdir(parents=True, exist_ok=True)
        self._lock = (PLACE / "lock").open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Another run starts it, uses it, or stops it: it is ours too once it has started.
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        if not answers(address):
            words = [
                "dockerd",
                "--host",
                address,
                "--data-root",
                str(PLACE / "data"),
                "--exec-root",
                str(PLACE / "run"),
            ]
            # It leaves the packet filter of the machine as it is; nobody here needs more than a bridge.
            words += ["--pidfile", str(PLACE / "pid"), "--iptables=false", "--ip-masq=false"]
            with (PLACE / "log").open("wb") as log:
                try:
                    daemon = subprocess.Popen(
                        words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                    )
                except FileNotFoundError as error:
                    raise AssertionError("no docker engine runs here, and there is none to start: docker.io") from error

            def ready() -> bool:
                assert daemon.poll() is None, f"dockerd: {(PLACE / 'log').read_text()[-2000:]}"
                return answers(address)

            wait_until(ready, "dockerd", 60 * STRETCH)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _leave(self, pid: int) -> None:
        if os.getpid() != pid:
            return
        with contextlib.suppress(Exception):
            self.clear()
            if self.own:
                # Layers of images that were built anew; those with a name are the ones that are used again.
                self.client.images.prune(filters={"dangling": True})
            self.client.close()
        if not self.own:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Another run uses it still, and stops it.
            return
        with contextlib.suppress(OSError, ValueError):
            daemon = int((PLACE / "pid").read_text())
            os.kill(daemon, signal.SIGTERM)
            wait_until(lambda: not running(daemon), "the end of dockerd", 30 * STRETCH)
            subprocess.run(["ip", "link", "del", "docker0"], check=False, capture_output=True)


@cache
def engine() -> Engine:
    return Engine()


def answers(address: str) -> bool:
    try:
        client = docker.DockerClient(base_url=address, timeout=round(10 * STRETCH))
    except docker.errors.DockerException:
        return False
    with contextlib.closing(client):
        try:
            return bool(client.ping())
        except (docker.errors.DockerException, OSError):
            return False


def running(pid: int) -> bool:
    """Is it there, and not only waiting for somebody to ask how it ended?"""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=BUILD_WITHIN, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout
