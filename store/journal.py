"""What could not be committed, on the local disk until the store is back.

Append-only segments `<stem>.<number>.journal`. A frame is length, CRC-32 of the payload, payload; the payload is one
letter for the operation, one for the kind of record, and the record as the store keeps it. A crash may tear the last
frame off: reading stops there. Segments are replayed in the order of their numbers and deleted when they are done; a
crash in between replays one again, which changes nothing, for the store ignores versions that it has.
"""

from __future__ import annotations

import errno
import logging
import os
import struct
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from store.errors import StoreError
from store.interface import Put, Remove, Write
from store.records import CallRecord, Registration, decode_call, decode_registration
from store.settings import JournalSettings

log = logging.getLogger(__name__)

FRAME = struct.Struct(">II")
LETTERS = {
    (Put, Registration): b"Pr",
    (Put, CallRecord): b"Pc",
    (Remove, Registration): b"Rr",
    (Remove, CallRecord): b"Rc",
}
OPERATIONS: dict[bytes, type[Write]] = {b"P": Put, b"R": Remove}
BEGINS = b"Bc"
"Before a call's Call-UUID: the next frame took the place of its first version. A release that does not know it passes it over."
SUFFIX = ".journal"
GIVEN = ".given"
"In place of `SUFFIX`: the file that says how far the replay of a segment has come."
ASIDE = ".torn"
"What follows the name of a segment of which something could not be read."
PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
"What may keep us from reading a segment that is quite well."


class JournalFailed(StoreError):
    """The local disk does not take it."""


class Lot(NamedTuple):
    """Some writes to be replayed together, and by what the journal knows them."""

    number: int
    writes: list[Write]
    torn: int = 0
    "Bytes that could not be read."
    given: int = 0
    "How many of the latest of them the store has had, when their replay was cut short."


def latest(writes: Sequence[Write]) -> list[Write]:
    """Without those that a later one of the same record replaces; the others in their order."""
    kept: dict[int, Write] = {}
    last: dict[str, int] = {}
    for number, write in enumerate(writes):
        record = write.record
        before = last.get(record.key)
        if before is not None:
            older = kept[before].record
            if (record.epoch, record.version) > (older.epoch, older.version):
                del kept[before]
        last[record.key] = number
        kept[number] = write
    return list(kept.values())


def stems(directory: Path) -> list[Path]:
    """Of the journals that lie here and hold anything; each for `Journal`."""
    numbered = (path.name.removesuffix(SUFFIX).rpartition(".") for path in directory.glob(f"*.*{SUFFIX}"))
    return sorted({directory / name for name, dot, number in numbered if dot and number.isdecimal()})


class Spill(Protocol):
    """Where the writer puts what it cannot commit."""

    @property
    def pending(self) -> bool:
        """Whether there is anything to be replayed."""

    def open(self) -> None: ...
    def close(self) -> None: ...

    def append(self, writes: Sequence[Write]) -> list[Write]:
        """Keep them behind what is there; returns older ones that had to be dropped for it."""

    def flush(self) -> None:
        """To the disk itself with what was appended."""

    def oldest(self) -> Lot | None:
        """What has to be replayed next; the same again until it is forgotten."""

    def more_than(self, lot: Lot | None) -> bool:
        """Is there anything but this?"""

    def note_given(self, lot: Lot, count: int) -> None:
        """The store has had so many of the latest writes of this lot: see `store.orphans`."""

    def forget(self, lot: Lot) -> None: ...


class Journal:
    """The journal of one slot. What a crashed predecessor left under the same stem is ours to replay.

    One thread may append, one flush, and one replay, all at once.
    """

    def __init__(self, stem: Path, settings: JournalSettings | None = None) -> None:
        self._stem = stem
        self._settings = settings or JournalSettings()
        self._lock = threading.Lock()
        "Held for bookkeeping and while something is appended; not while it is flushed or read."
        self._sizes: dict[int, int] = {}
        "Bytes of each segment, by number, oldest first."
        self._next = 1
        self._file: int | None = None
        "Descriptor of the newest segment, while we append to it."
        self._full: dict[int, int] = {}
        "Descriptors of segments that are complete and not flushed yet, by number."

    @property
    def pending(self) -> bool:
        return bool(self._sizes)

    @property
    def size(self) -> int:
        return sum(self._sizes.values())

    def open(self) -> None:
        try:
            self._stem.parent.mkdir(parents=True, exist_ok=True)
            found = [(number, path) for path in self._stem.parent.iterdir() if (number := self._number(path))]
            self._sizes = {number: path.stat().st_size for number, path in sorted(found)}
        except OSError as error:
            raise JournalFailed(f"{self._stem}: no place for the journal ({error})") from error
        self._next = max(self._sizes, default=0) + 1

    def close(self) -> None:
        with self._lock:
            self._end_segment()
            full, self._full = self._full, {}
        for descriptor in full.values():
            os.close(descriptor)

    def append(self, writes: Sequence[Write]) -> list[Write]:
        data = b"".join(_frame(write) for write in writes)
        with self._lock:
            try:
                dropped = self._make_room(len(data))
                if self._file is None:
                    self._begin_segment()
                self._write(data)
            except OSError as error:
                raise JournalFailed(f"{self._stem}: cannot be written ({error})") from error
            if self._sizes[self._next - 1] >= self._settings.segment:
                self._end_segment()
        return dropped

    def flush(self) -> None:
        with self._lock:
            # A duplicate of our own: the segment may be ended while the disk takes its time.
            newest = [os.dup(self._file)] if self._file is not None and self._settings.sync else []
            full, self._full = self._full, {}
        failed: OSError | None = None
        for descriptor in (*full.values(), *newest):
            try:
                os.fdatasync(descriptor)
            except OSError as error:
                failed = error
            os.close(descriptor)
        if failed is not None:
            raise failed

    def oldest(self) -> Lot | None:
        with self._lock:
            number = next(iter(self._sizes), None)
            if number is None:
                return None
            if number == self._next - 1:
                # What comes while it is replayed goes to a segment of its own.
                self._end_segment()
        return self._read(number)

    def more_than(self, lot: Lot | None) -> bool:
        with self._lock:
            return any(lot is None or number != lot.number for number in self._sizes)

    def note_given(self, lot: Lot, count: int) -> None:
        if lot.number not in self._sizes:
            return
        try:
            self._path(lot.number).with_suffix(GIVEN).write_text(str(count))
        except OSError as error:
            log.debug("how far the replay has come cannot be noted: %s", error)

    def forget(self, lot: Lot) -> None:
        with self._lock:
            self._forget(lot)

    # ---- for who reads what nobody writes any more -------------------------------------------------------------------

    def lots(self) -> Iterator[Lot]:
        """All of it, the oldest first; nothing is forgotten. Raises `JournalFailed` where a segment cannot be read."""
        for number in list(self._sizes):
            yield self._parsed(number, self._data(number))._replace(given=self._given(number))

    def set_aside(self, lot: Lot) -> Path:
        """In place of `forget`: it is not replayed again, and kept for who can make more of it; where."""
        path = self._path(lot.number)
        aside = path.with_name(path.name + ASIDE)
        try:
            path.rename(aside)
        except OSError as error:
            raise JournalFailed(f"{path}: cannot be set aside ({error})") from error
        self._sizes.pop(lot.number, None)
        return aside

    # ---- below -------------------------------------------------------------------------------------------------------

    def _path(self, number: int) -> Path:
        return self._stem.with_name(f"{self._stem.name}.{number:08d}{SUFFIX}")

    def _number(self, path: Path) -> int | None:
        name = path.name
        middle = name[len(self._stem.name) + 1 : -len(SUFFIX)]
        return int(middle) if name == f"{self._stem.name}.{middle}{SUFFIX}" and middle.isdecimal() else None

    def _read(self, number: int) -> Lot:
        try:
            data = self._data(number)
        except JournalFailed as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in PASSING:
                raise
            log.error("journal segment is passed over: %s", error)
            data = b""
        return self._parsed(number, data)

    def _given(self, number: int) -> int:
        try:
            return int(self._path(number).with_suffix(GIVEN).read_text())
        except (OSError, ValueError):
            return 0

    def _data(self, number: int) -> bytes:
        path = self._path(number)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            # Somebody else has replayed it.
            return b""
        except OSError as error:
            now = " now" if error.errno in PASSING else ""
            raise JournalFailed(f"{path}: cannot be read{now} ({error})") from error

    def _forget(self, lot: Lot) -> None:
        # The disk need not take any more what the store has: while it hangs, descriptors would heap up here.
        unflushed = self._full.pop(lot.number, None)
        if unflushed is not None:
            os.close(unflushed)
        if self._sizes.pop(lot.number, None) is not None:
            self._remove(self._path(lot.number))
            with suppress(OSError):
                self._path(lot.number).with_suffix(GIVEN).unlink(missing_ok=True)

    def _remove(self, path: Path) -> None:
        """Never raises: the store has what was in it. Replayed once more by a successor, it might bring back what is gone."""
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            try:
                os.truncate(path, 0)
            except OSError:
                log.error("journal segment %s is done and cannot be removed, remove it by hand: %s", path, error)
            else:
                log.warning("journal segment %s is done and cannot be removed, emptied instead: %s", path, error)

    def _end_segment(self) -> None:
        if self._file is not None and self._settings.sync:
            self._full[self._next - 1] = self._file
        elif self._file is not None:
            os.close(self._file)
        self._file = None

    def _begin_segment(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        while True:
            number, self._next = self._next, self._next + 1
            try:
                self._file = os.open(self._path(number), flags, 0o600)
            except FileExistsError:
                # A predecessor that is not quite dead took the number after we looked.
                self._sizes[number] = 0
                continue
            self._sizes[number] = 0
            return

    def _write(self, data: bytes) -> None:
        assert self._file is not None, "a segment is begun before it is written"
        number = self._next - 1
        before = self._sizes[number]
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._file, view) :]
        except OSError:
            # Half a frame would hide all that follows it.
            os.ftruncate(self._file, before)
            raise
        self._sizes[number] = before + len(data)

    def _make_room(self, need: int) -> list[Write]:
        dropped: list[Write] = []
        while self._sizes and self.size + need > self._settings.limit:
            number = next(iter(self._sizes))
            if number == self._next - 1:
                self._end_segment()
            lot = self._read(number)
            self._forget(lot)
            dropped += lot.writes
            log.error("journal %s is full: dropped the oldest %d writes", self._stem, len(lot.writes))
        return dropped

    def _parsed(self, number: int, data: bytes) -> Lot:
        path, writes = self._path(number), []
        at, torn, begins = 0, 0, False
        while at < len(data):
            payload = _payload(data, at)
            if payload is None:
                torn += len(data) - at
                log.warning("journal segment %s ends torn, %d bytes passed over", path, len(data) - at)
                break
            at += FRAME.size + len(payload)
            if payload.startswith(BEGINS):
                begins = True
                continue
            write = _write_of(payload)
            if write is None:
                torn += len(payload)
                log.warning("journal segment %s has a write that cannot be read, passed over", path)
            else:
                write.instead_of_first = begins
                writes.append(write)
            begins = False
        return Lot(number, writes, torn)


class MemoryJournal:
    """The same in memory, for a process that has no place on disk."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._lots: deque[Lot] = deque()
        self._number = 0

    @property
    def pending(self) -> bool:
        return bool(self._lots)

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def append(self, writes: Sequence[Write]) -> list[Write]:
        dropped: list[Write] = []
        with self._lock:
            # Below zero: never the number of a segment on disk.
            self._number -= 1
            self._lots.append(Lot(self._number, list(writes)))
            while len(self._lots) > 1 and sum(len(lot.writes) for lot in self._lots) > self._limit:
                dropped += self._lots.popleft().writes
        return dropped

    def flush(self) -> None:
        pass

    def oldest(self) -> Lot | None:
        with self._lock:
            return self._lots[0] if self._lots else None

    def more_than(self, lot: Lot | None) -> bool:
        with self._lock:
            return any(lot is None or each.number != lot.number for each in self._lots)

    def note_given(self, lot: Lot, count: int) -> None:
        pass

    def forget(self, lot: Lot) -> None:
        with self._lock:
            if self._lots and self._lots[0].number == lot.number:
                self._lots.popleft()


def _frame(write: Write) -> bytes:
    frame = _framed(LETTERS[type(write), type(write.record)] + write.data)
    return (
        _framed(BEGINS + write.record.key.encode(errors="surrogateescape")) + frame if write.instead_of_first else frame
    )


def _framed(payload: bytes) -> bytes:
    return FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def _payload(data: bytes, at: int) -> bytes | None:
    """The payload of the frame that begins here; None if it is not whole."""
    if at + FRAME.size > len(data):
        return None
    length, checksum = FRAME.unpack_from(data, at)
    payload = data[at + FRAME.size : at + FRAME.size + length]
    return payload if len(payload) == length and length and zlib.crc32(payload) == checksum else None


def _write_of(payload: bytes) -> Write | None:
    operation, kind, data = OPERATIONS.get(payload[:1]), payload[1:2], payload[2:]
    try:
        if operation is not None and kind == b"r":
            return operation.restored(decode_registration(data), data)
        if operation is not None and kind == b"c":
            return operation.restored(decode_call(data), data)
    except msgspec.MsgspecError:
        pass
    return None
