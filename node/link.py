"""The link between the supervisor and a child, and what is said on it.

A SOCK_SEQPACKET pair: every message arrives whole, file descriptors ride along. End of file means that the other
side is gone: a child then lets go of its sockets and exits.
"""

from __future__ import annotations

import array
import os
import socket

import msgspec

MAXIMUM = 1 << 20
"Bytes of one message; longer ones are refused by the sender."
MAXIMUM_DESCRIPTORS = 250


class SocketName(msgspec.Struct, frozen=True):
    """What a kept socket is for. `slot` is empty for a listening socket, which all workers of the profile share."""

    profile: str
    kind: str
    "`udp` for datagrams, or a listening socket: `tcp`, `tls`, `ws`, `wss`."
    host: str
    port: int
    slot: str = ""


# ---- from the supervisor -------------------------------------------------------------------------------------------


class Promote(msgspec.Struct, tag=True, kw_only=True):
    """Become the owner of a slot. The descriptors of `sockets` ride along in the same order.

    A worker receives on the udp socket of its own slot, sends on every one, and accepts on the listening sockets of
    its own profile. It claims the call records of `claims` under `epoch` and revives them if `recover` is set.
    """

    slot: str
    epoch: int
    claims: list[str]
    sockets: list[SocketName]
    recover: bool = True
    owed: bool = False
    "Its predecessor was not fenced off: there are calls, and they will be claimed under a newer epoch."
    lease_until: float = 0.0
    orders: list[tuple[str, list[str]]] = []
    "What operators have switched: verbs and words, carried out before anything is read."


class Demote(msgspec.Struct, tag=True, kw_only=True):
    """Let go: stop reading, write what is to be written within `within` seconds, close without BYE, exit."""

    reason: str
    within: float = 0.2


class Lease(msgspec.Struct, tag=True):
    """The node may act until this moment of CLOCK_MONOTONIC; a worker that hears nothing newer lets go then."""

    until: float
    "Infinite for a node without a peer."
    epoch: int = 0
    "The epoch under which this worker's slot writes from now on; 0: as before."


class Sockets(msgspec.Struct, tag=True):
    """Sockets of profiles that were started later, to send on; they replace what the worker had under their names."""

    sockets: list[SocketName]


class Beat(msgspec.Struct, tag=True):
    """Answered by the loop that does the work, with the same number."""

    number: int


class Instruct(msgspec.Struct, tag=True, kw_only=True):
    """Something to be done by a worker, answered with `Done`.

    `recover`: claim the records of the slots in `words` and revive them; `Done.count` legs. `flush`: delete the call
    records of the profile in `words`. `rescan`: read the configuration again. `hupall`: end all calls, cause in `words`.
    `release`, to the media process and not answered: close all legs.
    """

    number: int
    verb: str
    words: list[str] = []
    epoch: int = 0
    "With `recover`: claim, and write from now on, under this epoch; 0: the one of the promotion."


class Answer(msgspec.Struct, tag=True, kw_only=True):
    """The supervisor's answer to the console's `Ask`."""

    number: int
    text: str


class Notice(msgspec.Struct, tag=True):
    """To the console: a CUSTOM event of the supervisor's, for whoever listens."""

    subclass: str
    headers: list[tuple[str, str]]


# ---- from a child --------------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, tag=True):
    """Loaded, and waiting to be promoted (or, for media and console: serving)."""

    pid: int


class Beaten(msgspec.Struct, tag=True):
    number: int


class Promoted(msgspec.Struct, tag=True, kw_only=True):
    """The slot is served: its sockets are read. `legs` is how many legs were revived, once that is known."""

    slot: str
    epoch: int


class Follows(msgspec.Struct, tag=True, kw_only=True):
    """A standby worker keeps up with the registrations that the other node writes."""

    lag: float
    "Seconds by which it may be behind the store."
    registrations: int


class Stores(msgspec.Struct, tag=True, kw_only=True):
    """How a worker stands with its store. Counts are of writes, since it began."""

    queued: int = 0
    "That wait now."
    gone: bool = False
    "Whether the store is left alone, because it does not answer."
    behind: bool = False
    "Whether the journal holds what the store has not got."
    commits: int = 0
    "Transactions."
    batch: float = 0.0
    "Writes in one, on the average of the last second that had any; as are the next two."
    latency: float = 0.0
    "Seconds that one took."
    slowest: float = 0.0
    "Seconds that the longest took."
    at_risk: int = 0
    refused: int = 0
    lost: int = 0
    journaled: int = 0
    replayed: int = 0
    error: str = ""
    "What the store said last, while it fails."


class Revived(msgspec.Struct, tag=True, kw_only=True):
    """All records of the claim are revived or given up."""

    slot: str
    calls: int
    legs: int
    failed: int
    seconds: float


class Fenced(msgspec.Struct, tag=True):
    """The store refused this slot's write: a newer epoch rules. The node must not be active any more."""

    slot: str
    epoch: int


class Done(msgspec.Struct, tag=True, kw_only=True):
    """The answer to `Instruct`."""

    number: int
    text: str = ""
    count: int = 0


class Ask(msgspec.Struct, tag=True, kw_only=True):
    """The console asks the supervisor: `profile start|stop|restart|rescan X`, `recover`, `watchdog`, `switches`, `node`."""

    number: int
    verb: str
    words: list[str] = []


class Failed(msgspec.Struct, tag=True):
    """A child cannot go on, and says why in one sentence, for the log and the operator."""

    reason: str


Message = (
    Promote
    | Demote
    | Lease
    | Sockets
    | Beat
    | Instruct
    | Answer
    | Notice
    | Ready
    | Beaten
    | Promoted
    | Follows
    | Revived
    | Stores
    | Fenced
    | Done
    | Ask
    | Failed
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)


class LinkClosed(Exception):
    """The other side is gone."""


class Link:
    """One end of the link. Non-blocking: `receive` returns None when nothing waits."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock

    @classmethod
    def pair(cls) -> tuple[Link, Link]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAXIMUM)
        return cls(ours), cls(theirs)

    def fileno(self) -> int:
        return self._sock.fileno()

    def send(self, message: Message, descriptors: list[int] | None = None) -> None:
        """Send one message, with descriptors. Raises LinkClosed when the peer is gone, BlockingIOError when it is stuck."""
        self.send_bytes(_encoder.encode(message), descriptors)

    def receive(self) -> tuple[Message, list[int]] | None:
        """The next message and its descriptors, or None when none waits. Raises LinkClosed at end of file."""
        received = self.receive_bytes()
        return received and (_decoder.decode(received[0]), received[1])

    # ---- for ends that speak a language of their own

    def send_bytes(self, data: bytes, descriptors: list[int] | None = None) -> None:
        ancillary = []
        if descriptors:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        try:
            self._sock.sendmsg([data], ancillary)
        except BlockingIOError:
            raise
        except OSError as error:
            raise LinkClosed(str(error)) from error

    def receive_bytes(self) -> tuple[bytes, list[int]] | None:
        space = socket.CMSG_SPACE(MAXIMUM_DESCRIPTORS * array.array("i").itemsize)
        try:
            data, ancillary, _flags, _address = self._sock.recvmsg(MAXIMUM, space)
        except BlockingIOError:
            return None
        except OSError as error:
            raise LinkClosed(str(error)) from error
        descriptors = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
        if not data:
            for descriptor in descriptors:
                os.close(descriptor)
            raise LinkClosed("end of file")
        return data, list(descriptors)

    def close(self) -> None:
        self._sock.close()
