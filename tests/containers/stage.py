"""A pair from the shipped image on a network of its own, its store in a container beside it, phones on the host's side."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import tempfile
import time
from pathlib import Path

from docker.models.containers import Container
from docker.models.networks import Network
from docker.types import IPAMConfig, IPAMPool

from tests.support.engine import NAME, engine
from tests.support.node import DOMAIN, EVENT_SOCKET_PASSWORD, PASSWORD, STRETCH, Node, until
from tests.support.redis import wait_until

LABEL = {NAME: str(os.getpid())}
_networks = itertools.count(10 + os.getpid() % 200)
STORES = {
    "postgresql": ("serve-postgres", "pgsql://host={} dbname=sofia user=sofia password=sesame"),
    "redis": ("redis-server --bind 0.0.0.0 --protected-mode no --appendonly yes --appendfsync always", "redis://{}/0"),
}
"What serves it, and how nodes find it."


class Inside(Node):
    """A node in a container: its run directory is here, its processes, its network and its files are its own."""

    def __init__(self, name: str, run_dir: Path, settings: dict[str, str], network: Network, address: str) -> None:
        super().__init__(name, run_dir, settings)
        self.settings["event_socket_port"] = "8021"
        self.network, self.address = network, address
        self.container: Container | None = None

    @property
    def there(self) -> Container:
        assert self.container is not None, "started"
        return self.container

    def start(self) -> None:
        """As it was made; again too, after it was killed or stopped."""
        self.tell("started")
        if self.container is not None:
            self.container.start()
            return
        self.run_dir.mkdir(parents=True, exist_ok=True)
        client = engine().client
        environment = {f"SOFIA_SET_{name}": value for name, value in self.settings.items()}
        self.container = client.containers.create(
            engine().node(),
            name=f"{NAME}-{os.getpid()}-{self.network.name}-{self.name}",
            environment={**environment, "SOFIA_NODE": self.name, "SOFIA_RUN_DIR": "/var/lib/sofia-node"},
            labels=LABEL,
            network=self.network.name,
            networking_config={
                self.network.name: client.api.create_endpoint_config(ipv4_address=self.address),
            },
            cap_drop=["ALL"],
            cap_add=["NET_ADMIN", "NET_RAW", "KILL"],
            volumes={str(self.run_dir): {"bind": "/var/lib/sofia-node", "mode": "rw"}},
        )
        self.container.start()

    def run(self, *words: str) -> str:
        """A command in the container."""
        status, output = self.there.exec_run(list(words))
        text: str = output.decode(errors="replace")
        assert status == 0, f"{self.name}: {' '.join(words)}: {text}"
        return text

    def api(self, command: str) -> str:
        return self.run("sofia", "--run-dir", "/var/lib/sofia-node", "-x", command)

    def output(self) -> str:
        said = self.container.logs(tail=60).decode(errors="replace") if self.container is not None else ""
        return f"--- {self.name}: {said}\n{super().output()}"

    # ---- what befalls it --------------------------------------------------------------------------------------------

    def kill(self) -> float:
        moment = time.monotonic()
        self.tell("killed")
        self.there.kill()
        return moment

    def stop(self, within: float = 15.0) -> int:
        """As `docker stop`; returns the exit status."""
        if self.container is None:
            return 0
        self.tell("stopped")
        with contextlib.suppress(Exception):
            self.container.unpause()
        self.container.stop(timeout=round(within * STRETCH))
        status: int = self.container.wait()["StatusCode"]
        self.judge()
        return status

    def cut(self) -> None:
        """It still has its address, and hears nobody: packets to it vanish."""
        self._filter("-A")

    def mend(self) -> None:
        self._filter("-D")

    def _filter(self, what: str) -> None:
        self.there.reload()
        # The host's program in the container's network: the image has none.
        words = ["nsenter", "-t", str(self.there.attrs["State"]["Pid"]), "-n", "iptables", what, "INPUT"]
        subprocess.run([*words, "-i", "eth0", "-j", "DROP"], check=True, timeout=20 * STRETCH)


class Stage:
    """Use as a context manager: two nodes, alpha active and beta standing by."""

    def __init__(self, store: str = "postgresql", *, shared: bool = True, **settings: str) -> None:
        client = engine().client
        # Nothing leaves it; the host's end of it is the phones'.
        subnet = f"172.31.{next(_networks) % 256}"
        pool = IPAMPool(subnet=f"{subnet}.0/24", gateway=f"{subnet}.1")
        self.network = client.networks.create(
            f"{NAME}-{os.getpid()}-{subnet.rpartition('.')[2]}", ipam=IPAMConfig(pool_configs=[pool]), labels=LABEL
        )
        self.phones = f"{subnet}.1"
        "The address of the phones."
        self.address = f"{subnet}.100"
        self._directory = tempfile.TemporaryDirectory(prefix="sofia-")
        serve, self.dsn = STORES[store]
        self.store = self._serve(serve, f"{subnet}.20")
        addresses = [f"{subnet}.{n}" for n in (11, 12)]
        self.nodes = [
            Inside(
                name,
                Path(self._directory.name) / name,
                {
                    **(self._shared() if shared else self._own(addresses[n])),
                    "core_db_dsn": self.dsn.format(f"{subnet}.20"),
                    "peer_listen": f"{addresses[n]}:7001",
                    "peer_address": f"{addresses[1 - n]}:7001",
                    **settings,
                },
                self.network,
                addresses[n],
            )
            for n, name in enumerate(("alpha", "beta"))
        ]

    def __enter__(self) -> Stage:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        first, second = self.nodes
        first.start()
        first.wait_role("active", 60)
        second.start()
        second.wait_ready(60)

    def __exit__(self, *_exception: object) -> None:
        try:
            for node in self.nodes:
                node.stop()
        finally:
            for container in (*(node.container for node in self.nodes), self.store):
                if container is not None:
                    container.remove(force=True, v=True)
            self.network.remove()
            self._directory.cleanup()

    @property
    def active(self) -> Inside:
        return next(node for node in self.nodes if node.role == "active")

    def other(self, node: Inside) -> Inside:
        return next(each for each in self.nodes if each is not node)

    def wait_pair(self) -> None:
        """One active, one that stands by and is ready."""
        until(lambda: {str(node.role) for node in self.nodes} == {"active", "standby"}, 60, "a whole pair", *self.nodes)
        self.other(self.active).wait_ready(60)

    def _serve(self, command: str, address: str) -> Container:
        client = engine().client
        container = client.containers.create(
            engine().servers(),
            command,
            labels=LABEL,
            init=True,
            environment={"POSTGRES_USER": "sofia", "POSTGRES_PASSWORD": "sesame", "POSTGRES_DB": "sofia"},
            network=self.network.name,
            networking_config={self.network.name: client.api.create_endpoint_config(ipv4_address=address)},
        )
        container.start()
        port = "6379" if "redis" in command else "5432"
        probe = ["bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"]
        wait_until(lambda: container.exec_run(probe)[0] == 0, f"{command} in a container", 60 * STRETCH)
        return container

    def _shared(self) -> dict[str, str]:
        """The address that moves, and all else that both nodes have alike."""
        return self._own(self.address) | {
            "address_mode": "netlink",
            "shared_address": f"{self.address}/24",
            "shared_interface": "eth0",
        }

    def _own(self, address: str) -> dict[str, str]:
        return {
            "sip_ip": address,
            "rtp_ip": address,
            "external_sip_ip": address,
            "domain": DOMAIN,
            "default_password": PASSWORD,
            "event_socket_password": EVENT_SOCKET_PASSWORD,
            "switchname": "sofia-pair",
        }
