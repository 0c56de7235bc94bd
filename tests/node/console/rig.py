"""A real console process; the test holds the other end of its link and the inquiry sockets of its workers."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node import inquiry
from node.config import Identity, load
from node.console.protocol import Message, MessageReader, command
from node.events import Event
from node.link import Answer, Ask, Beat, Beaten, Link, LinkClosed, Notice, Ready
from tests.node.console import tree
from tests.support.ports import free_port

STRETCH = float(os.environ.get("TEST_STRETCH", "1"))
STARTED = 1_795_405_000.0


def until(holds: Callable[[], object], what: str, within: float = 10.0) -> None:
    deadline = time.monotonic() + within * STRETCH
    while not holds():
        assert time.monotonic() < deadline, f"waited {within * STRETCH:g} s for {what}"
        time.sleep(0.01)


class Worker:
    """The far end of an inquiry socket: answers by a script, in the neighbour's own frames."""

    def __init__(self, folder: Path, token: str, answers: dict[str, Any]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, list[str]]] = []
        self.wanted: list[str] = []
        self._path = folder / token
        self._path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.bind(str(self._path))
        self._server.listen()
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def fire(self, event: Event) -> None:
        for connection in self._connections:
            connection.sendall(inquiry.encode(inquiry.Happened(event)))

    @property
    def connected(self) -> bool:
        return bool(self._connections)

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
        for sock in (self._server, *self._connections):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        self._thread.join(5)

    def _serve(self) -> None:
        try:
            while True:
                connection, _ = self._server.accept()
                self._connections.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()
        except OSError:
            return

    def _talk(self, connection: socket.socket) -> None:
        frames = inquiry.Frames()
        try:
            while data := connection.recv(65536):
                for frame in frames.feed(data):
                    reply = self._take(frame)
                    if reply is not None:
                        connection.sendall(inquiry.encode(reply))
        except OSError:
            return

    def _take(self, frame: object) -> inquiry.Reply | None:
        if isinstance(frame, inquiry.Subscribe):
            self.wanted = frame.names
            return None
        assert isinstance(frame, inquiry.Question)
        self.asked.append((frame.verb, frame.words))
        if frame.verb == "channel_count" and isinstance(self.answers.get("channels"), list):
            self.answers[frame.verb] = len(self.answers["channels"])
        elif frame.verb == "channel_count" and "channels" in self.answers:
            self.answers[frame.verb] = self.answers["channels"]
        if frame.verb not in self.answers:
            return inquiry.Reply(frame.number, False, f"no verb {frame.verb}")
        answer = self.answers[frame.verb]
        value = answer(*frame.words) if callable(answer) else answer
        return None if value is SILENT else inquiry.Reply(frame.number, True, value)


SILENT = object()
"An answer that never comes."


class Console:
    """The process under test, seen from its supervisor."""

    def __init__(self, folder: Path, *, acl: str = "", answers: dict[str, Any] | None = None) -> None:
        self.port = free_port()
        self.run_dir = folder / "run"
        for name in ("workers", "log", "db"):
            (self.run_dir / name).mkdir(parents=True, exist_ok=True)
        self.conf_dir = tree.write(folder / "conf", port=self.port, acl=acl)
        self.store = f"sqlite://{folder / 'core.db'}"
        self.asked: list[tuple[str, list[str]]] = []
        self.beaten: list[int] = []
        self.answers: dict[str, Any] = {
            "profiles": json.dumps(
                {
                    name: {"state": "RUNNING", "since": STARTED, "workers": [f"{name}.0"]}
                    for name in ("external", "internal")
                }
            ),
            "node": json.dumps({"role": "active"}),
            "recover": "0",
            "watchdog": "+OK",
            "instruct": "+OK",
        } | (answers or {})
        self._ready = threading.Event()
        self._link, self.pid = self._start()
        self._thread = threading.Thread(target=self._supervise, daemon=True)
        self._thread.start()
        assert self._ready.wait(20 * STRETCH), self.log()

    def _start(self) -> tuple[Link, int]:
        configuration = load(self.conf_dir, run_dir=self.run_dir)
        configuration = _with_store(configuration, self.store)
        identity = Identity("alpha", "135b6ad0-9702-446e-87f6-5209c969955d", time.time())
        ours, theirs = Link.pair()
        pid = os.fork()
        if pid:
            theirs.close()
            return ours, pid
        status = 1
        try:
            ours.close()
            from node.console.server import main

            main(theirs, identity, configuration, self.run_dir)
            status = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def beat(self, number: int) -> None:
        self._link.send(Beat(number))

    def notice(self, subclass: str, headers: list[tuple[str, str]]) -> None:
        """An event of the supervisor's."""
        self._link.send(Notice(subclass, headers))

    def log(self) -> str:
        path = self.run_dir / "log" / "sofia-node.log"
        return path.read_text() if path.exists() else ""

    def client(self, *, login: bool = True) -> Client:
        return Client(self.port, login=login)

    def api(self, line: str) -> str:
        with self.client() as client:
            return client.api(line)

    def end(self) -> int:
        """Close the link, as the supervisor's death does; gives back the exit status."""
        if self.pid == 0:
            return 0
        self._link.close()
        deadline = time.monotonic() + 10 * STRETCH
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.pid = 0
        raise AssertionError("the console outlived its link\n" + self.log())

    def _supervise(self) -> None:
        try:
            while True:
                select.select([self._link], [], [], 0.5)
                received = self._link.receive()
                if received is not None:
                    self._take(received[0])
        except (LinkClosed, OSError, ValueError):
            return

    def _take(self, message: object) -> None:
        match message:
            case Ready():
                self._ready.set()
            case Beaten(number):
                self.beaten.append(number)
            case Ask(number=number, verb=verb, words=words):
                self.asked.append((verb, words))
                answer = self.answers.get(verb, "-ERR unknown\n")
                text = answer(*words) if callable(answer) else answer
                if text is not SILENT:
                    self._link.send(Answer(number=number, text=text))


def _with_store(configuration: Any, dsn: str) -> Any:
    from dataclasses import replace

    return replace(configuration, switch=replace(configuration.switch, core_db_dsn=dsn))


class Client:
    """A plain event socket client."""

    def __init__(self, port: int, *, login: bool = True) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), timeout=15 * STRETCH)
        self._reader = MessageReader()
        self._waiting: list[Message] = []
        self.events: list[Message] = []
        if login:
            assert self.next().kind == "auth/request"
            assert self.say(f"auth {tree.PASSWORD}") == "+OK accepted"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._sock.close()

    def send(self, line: str, *headers: tuple[str, str]) -> None:
        self._sock.sendall(command(line, headers))

    def send_bytes(self, data: bytes) -> None:
        self._sock.sendall(data)

    def next(self) -> Message:
        """The next message, whatever it is. Raises EOFError at the end."""
        while not self._waiting:
            data = self._sock.recv(65536)
            if not data:
                raise EOFError
            self._waiting += self._reader.feed(data)
        return self._waiting.pop(0)

    def answer(self) -> Message:
        """The next message that is not an event; events are kept."""
        while (message := self.next()).kind.startswith(("text/event", "log/data")):
            self.events.append(message)
        return message

    def say(self, line: str, *headers: tuple[str, str]) -> str:
        self.send(line, *headers)
        return self.answer().reply

    def api(self, line: str) -> str:
        self.send(f"api {line}", ("console_execute", "true"))
        return self.answer().body

    def event(self) -> Message:
        """The next event or log line."""
        if self.events:
            return self.events.pop(0)
        return self.next()
