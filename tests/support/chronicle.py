"""The history of a pair as it really was: what its nodes sent, and what its store accepted.

The nodes are not asked. Each sends copies of its messages (HEP, by the environment variable TPORT_CAPT) to a socket of
ours on its own host, where the kernel stamps them; and triggers in the store note each write that was accepted, in the
order of acceptance (a Redis is overheard: `tests/support/overheard.py`). Both clocks are this machine's.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import sqlite3
import struct
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.history import Event, Kind, Reign, reigns, violations
from tests.support.node import Node
from tests.support.overheard import Overheard, Row
from tests.support.postgres import postgres

RECEIVE_TIMESTAMPS = 35
"SO_TIMESTAMPNS, which Python does not name."
TIMESPEC = struct.Struct("qq")
SUCCESS = re.compile(rb"SIP/2\.0 (2\d\d) ")
METHOD = re.compile(rb"\nCSeq: *\d+ +(\S+)", re.IGNORECASE)

_COLUMNS = "id, at, what, node, slot, epoch, item"
_READ = f"SELECT {_COLUMNS} FROM written ORDER BY id"

SQLITE = """
CREATE TABLE written (id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL, what TEXT, node TEXT, slot TEXT, epoch INTEGER, item TEXT);
INSERT INTO written (at, what, node, slot, epoch, item) SELECT 0, 'lease', holder, '', epoch, '' FROM sofia_lease WHERE holder <> '';
""" + "".join(
    f"CREATE TRIGGER written_{name} AFTER {event} BEGIN INSERT INTO written (at, what, node, slot, epoch, item) "
    f"VALUES ((julianday('now') - 2440587.5) * 86400.0, {values}); END;\n"
    for name, event, values in (
        ("lease", "UPDATE OF holder, epoch ON sofia_lease", "'lease', NEW.holder, '', NEW.epoch, OLD.holder"),
        ("call", "INSERT ON recovery", "'call', NEW.hostname, NEW.slot, NEW.epoch, NEW.uuid"),
        ("call_again", "UPDATE ON recovery", "'call', NEW.hostname, NEW.slot, NEW.epoch, NEW.uuid"),
        ("binding", "INSERT ON sip_registrations", "'binding', '', NEW.slot, NEW.epoch, NEW.sip_user"),
        ("binding_again", "UPDATE ON sip_registrations", "'binding', '', NEW.slot, NEW.epoch, NEW.sip_user"),
    )
)
POSTGRESQL = """
CREATE TABLE written (id BIGSERIAL PRIMARY KEY, at DOUBLE PRECISION, what TEXT, node TEXT, slot TEXT, epoch BIGINT, item TEXT);
INSERT INTO written (at, what, node, slot, epoch, item) SELECT 0, 'lease', holder, '', epoch, '' FROM sofia_lease WHERE holder <> '';
""" + "".join(
    f"CREATE FUNCTION written_{table}() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ BEGIN "
    "INSERT INTO written (at, what, node, slot, epoch, item) VALUES "
    f"(extract(epoch FROM clock_timestamp()), {values}); RETURN NULL; END $$; "
    f"CREATE TRIGGER written_{table} AFTER {event} ON {table} FOR EACH ROW EXECUTE FUNCTION written_{table}();\n"
    for table, event, values in (
        ("sofia_lease", "UPDATE OF holder, epoch", "'lease', NEW.holder, '', NEW.epoch, OLD.holder"),
        ("recovery", "INSERT OR UPDATE", "'call', NEW.hostname, NEW.slot, NEW.epoch, NEW.uuid"),
        ("sip_registrations", "INSERT OR UPDATE", "'binding', '', NEW.slot, NEW.epoch, NEW.sip_user"),
    )
)

ASIDE: dict[str, tuple[str, int]] = {}
"Where the store of a DSN is reached besides the cable that the nodes use."


class Chronicle:
    """Hears nodes from before they start; `note` looks into their store, `verdict` judges. Use as a context manager."""

    def __init__(self) -> None:
        self.answers: list[Event] = []
        self.rows: list[Row] = []
        "What the store has noted, in its order."
        self.offsets: dict[str, float] = {}
        "Of nodes whose clock is wrong: by how many seconds it goes ahead. What they do in a file carries their time."
        self.horizon = 0.0
        "When the store was looked at last; what came later is not judged."
        self._sockets: dict[str, socket.socket] = {}
        self._overheard: Overheard | None = None
        self._sources: dict[str, bytes] = {}
        self._dsn = ""
        self._past: list[Row] = []
        "What a store had noted before it was set back."
        self._after = 0
        "The last number it has kept of that."
        self._reader = threading.Thread(target=self._listen, name="chronicle", daemon=True)
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Chronicle:
        self._reader.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._reader.join()
        for sock in self._sockets.values():
            sock.close()
        if self._overheard is not None:
            self._overheard.close()

    # ---- what the test says -----------------------------------------------------------------------------------------

    def hear(self, node: Node) -> None:
        """Before a node is started: have it send copies here."""
        sock = self._sockets.get(node.name)
        if sock is None:
            with node.host.inside() if node.host else contextlib.nullcontext():
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, RECEIVE_TIMESTAMPS, 1)
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), 32 << 20)
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
            address = node.settings["sip_ip"]
            self._sources[node.name] = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            self._sockets[node.name] = sock
        dsn = node.settings.get("core_db_dsn", "")
        if dsn.startswith("redis://") and self._overheard is None:
            there = urlsplit(dsn)
            with contextlib.suppress(OSError):
                self._overheard = Overheard(ASIDE.get(dsn) or (there.hostname or "", there.port or 6379))
        node.environment["TPORT_CAPT"] = f"udp:127.0.0.1:{sock.getsockname()[1]};hep=3;capture_id=1"

    def note(self, node: Node) -> None:
        """Look into the node's store; the first time, have it note what it accepts from now on. Others than these are passed over."""
        dsn = node.settings.get("core_db_dsn", "")
        if self._overheard is not None:
            self.horizon = self._overheard.caught_up() or self.horizon
            self.rows = list(self._overheard.rows)
        elif dsn.startswith(("sqlite://", "pgsql://")) and (self._dsn in ("", dsn) or dsn.startswith("pgsql://")):
            moment = time.time()
            with contextlib.suppress(sqlite3.Error) if dsn.startswith("sqlite") else contextlib.nullcontext():
                rows = [row for row in self._ask(dsn) if row[0] > self._after]
                self.rows, self.horizon, self._dsn = [*self._past, *rows], moment, dsn

    def set_back(self, node: Node, restore: Callable[[], None]) -> None:
        """Let the node's store be what it was before; what it noted since is kept here."""
        self.note(node)
        restore()
        kept = self._ask(node.settings["core_db_dsn"])
        self._after = max((row[0] for row in kept), default=0)
        self._past = [*self.rows, (0, time.time(), "set back", "", "", 0, "")]

    # ---- what is to be said of it -----------------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """All that is known, in order."""
        written = list(self._written())
        with self._lock:
            answers = [event for event in self.answers if event.at <= self.horizon]
        return sorted([*written, *answers], key=lambda event: event.at)

    def verdict(self) -> list[str]:
        return violations(self.events()) if self.rows else []

    def reigns(self) -> list[Reign]:
        return reigns(self.events()) if self.rows else []

    def _written(self) -> Iterator[Event]:
        last, epochs, holders = 0.0, [0], [""]
        for _id, at, what, node, slot, epoch, item in self.rows:
            if what == "set back":
                kind = Kind.SET_BACK
            elif what == "lease":
                kind = Kind.TAKEN if node else Kind.RELEASED
                node = node or item
                if kind is Kind.TAKEN:
                    epochs.append(epoch)
                    holders.append(node)
                else:
                    epoch = 0
            else:
                kind = Kind.WRITE
                # Of a binding the store has no node. Epochs are counted by one counter, which only the holder raises.
                node = node or holders[bisect_right(epochs, epoch) - 1]
            last = max(last, at - self.offsets.get(node, 0.0))
            yield Event(last, node, kind, epoch, slot, f"{what} {item}" if kind is Kind.WRITE else "")

    # ---- the store --------------------------------------------------------------------------------------------------

    def _ask(self, dsn: str) -> list[Row]:
        if dsn.startswith("pgsql://"):
            return _ask_postgres(dsn)
        path = Path(urlsplit(dsn).path)
        if not path.exists():
            return self.rows
        with contextlib.closing(sqlite3.connect(path, timeout=5.0, isolation_level=None)) as connection:
            if not connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'written'").fetchone()[0]:
                connection.executescript(f"BEGIN IMMEDIATE;\n{SQLITE}\nCOMMIT;")
            return connection.execute(_READ).fetchall()

    # ---- the wire ---------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        while not self._over.is_set():
            names = dict(self._sockets)
            ready = select.select(list(names.values()), [], [], 0.05)[0]
            for name, sock in names.items():
                if sock in ready:
                    self._drain(name, sock)

    def _drain(self, name: str, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, ancillary, _flags, _from = sock.recvmsg(65535, 64)
                answer = _sent_success(packet, self._sources[name])
                if answer:
                    seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2][: TIMESPEC.size])
                    event = Event(seconds + nanoseconds / 1e9, name, Kind.ANSWER, what=answer)
                    with self._lock:
                        self.answers.append(event)


def _sent_success(packet: bytes, own: bytes) -> str:
    """Of a HEP packet that is a 2xx sent from this address, its status and method."""
    at, end, source = 6, len(packet), b""
    while at + 6 <= end:
        _vendor, kind, length = struct.unpack_from(">HHH", packet, at)
        if kind in (3, 5):
            source = packet[at + 6 : at + length]
        elif kind == 15:
            found = SUCCESS.match(packet, at + 6)
            method = METHOD.search(packet, at + 6)
            return f"{found[1].decode()} to {method[1].decode()}" if found and method and source == own else ""
        at += max(6, length)
    return ""


def _ask_postgres(dsn: str) -> list[Row]:
    found = re.search(r"search_path=(\w+)", dsn)
    assert found, dsn
    server, schema = postgres(), found[1]
    made = server.query(f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}' AND tablename = 'written'")
    if made == "0":
        server.query(POSTGRESQL, schema)
    rows = []
    for line in server.query(_READ, schema).splitlines():
        number, at, what, node, slot, epoch, item = line.split("|")
        rows.append((int(number), float(at), what, node, slot, int(epoch), item))
    return rows
