"""Real Redis servers on loopback, each in a directory of its own, and what can befall them."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support.certificates import Authority
from tests.support.node import STRETCH
from tests.support.ports import free_port

LIMIT = 20.0 * STRETCH
"Seconds that anything here may take at most."

PASSWORD = "open:sesame@redis/1"
"With characters that a URL must escape."
ESCAPED = "open%3Asesame%40redis%2F1"


def wait_until(holds: Callable[[], object], what: str, within: float = LIMIT) -> None:
    until = time.monotonic() + within
    while not holds():
        assert time.monotonic() < until, f"not in time: {what}"
        time.sleep(0.02)


class RedisServer:
    """One `redis-server`; `options` are lines of its configuration."""

    program = ("redis-server",)

    def __init__(self, directory: Path, *, port: int = 0, **options: str) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.options = {"appendonly": "yes", "appendfsync": "always", "save": '""'} | {
            name.replace("_", "-"): value for name, value in options.items()
        }

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def dsn(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "redis.conf"
        if not configuration.exists():
            lines = {"bind": "127.0.0.1", "port": str(self.port), "dir": str(self.directory), **self.options}
            configuration.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        with (self.directory / "log").open("ab") as output:
            self.process = subprocess.Popen(
                [*self.program, str(configuration), *self.arguments], stdout=output, stderr=output, cwd=self.directory
            )
        wait_until(self.answers, f"a Redis on port {self.port}\n{self.directory / 'log'}")

    @property
    def arguments(self) -> tuple[str, ...]:
        return ()

    def answers(self) -> bool:
        assert self.process is not None, "started"
        assert self.process.poll() is None, (self.directory / "log").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError):
            return False

    @contextmanager
    def client(self, **options: Any) -> Iterator[redis.Redis]:
        """A client of the test's own, beside the store."""
        client = redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=LIMIT, **(self._login | options))
        try:
            yield client
        finally:
            client.close()

    @property
    def _login(self) -> dict[str, Any]:
        return {}

    # ---- what can befall it ------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """As a power cut does, save that the kernel's buffers live on."""
        assert self.process is not None, "started"
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        assert self.process is not None, "started"
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None, "started"
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()

    def configure(self, **values: str) -> None:
        with self.client() as client:
            for name, value in values.items():
                client.config_set(name.replace("_", "-"), value)

    def details(self, section: str = "") -> Mapping[str, Any]:
        with self.client() as client:
            return dict(client.info(section) if section else client.info())


class SecureRedisServer(RedisServer):
    """Over TLS and with a password; nothing else gets in."""

    def __init__(self, directory: Path, **options: str) -> None:
        self.authority = Authority(directory / "ca")
        whole = directory / "server.pem"
        whole.write_text(self.authority.issue("127.0.0.1"))
        super().__init__(
            directory,
            tls_cert_file=str(whole),
            tls_key_file=str(whole),
            tls_ca_cert_file=str(self.authority.certificate),
            tls_auth_clients="no",
            requirepass=f'"{PASSWORD}"',
            **options,
        )
        self.options["tls-port"] = str(self.port)

    @property
    def arguments(self) -> tuple[str, ...]:
        # On the same port there must be no plain listener.
        return ("--port", "0")

    @property
    def dsn(self) -> str:
        return f"rediss://:{ESCAPED}@127.0.0.1:{self.port}/0?ca={self.authority.certificate}"

    @property
    def _login(self) -> dict[str, Any]:
        return {"password": PASSWORD, "ssl": True, "ssl_ca_certs": str(self.authority.certificate)}


class Running:
    """Servers that are started when first asked for, and used by many tests until the process ends."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._there: dict[str, Any] = {}

    def get(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._there:
            server = make()
            self._stack.callback(server.stop)
            server.start()
            self._there[name] = server
        return self._there[name]

    def close(self) -> None:
        self._stack.close()
        self._there.clear()
