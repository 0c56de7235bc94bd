"""Many calls of different shapes on one pair of nodes, one failover or two for all of them, and what each came to."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.failover.conftest import chronicling
from tests.failover.matrix import Cell
from tests.failover.report import Mark
from tests.failover.witness import Witness
from tests.support.certificates import Authority
from tests.support.chronicle import Chronicle
from tests.support.kamailio import Edge
from tests.support.netns import Island
from tests.support.node import DOMAIN, PASSWORD, ROOT, STRETCH, Pair
from tests.support.phone import Line, Phone
from tests.support.sounder import Sounder
from tests.support.streams import StreamPhone

PORTS = {"UDP": 5060, "TCP": 5060, "TLS": 5061, "WS": 5066}
FIRST_USER = 2000
CALLS = 2
"Of each cell: one is ended by its caller, one by its callee."
WAIT = 15.0 * STRETCH


@dataclass(frozen=True)
class Addresses:
    """Of one family: where the pair is, where phones are, and the proxies by the transport they speak to the node."""

    node: str
    phones: str
    edges: dict[str, str]


PLACES = {
    "IPv4": Addresses("127.0.0.10", "127.0.0.20", {"udp": "127.0.0.31", "tcp": "127.0.0.32", "tls": "127.0.0.33"}),
    "IPv6": Addresses("fd99::10", "fd99::20", {"udp": "fd99::31", "tcp": "fd99::32", "tls": "fd99::33"}),
}


def far(transport: str) -> str:
    """How a proxy goes on to the node: no proxy opens a WebSocket."""
    return {"WS": "tcp"}.get(transport, transport.lower())


@dataclass
class Outcome:
    """What became of one cell."""

    complaints: list[str] = field(default_factory=list)
    lost: int = 0
    "Of its calls."
    seconds: float = 0.0
    "From the kill until both calls were ended."
    audio_gap: float | None = None


@dataclass
class Result:
    """What became of a batch."""

    outcomes: dict[Cell, Outcome]
    sip_gap: float
    violations: list[str]
    began: float
    marks: list[Mark]


class Play:
    """One cell: two phones, two calls between them, and what was seen of each."""

    def __init__(self, cell: Cell, caller: Phone, callee: Phone) -> None:
        self.cell, self.caller, self.callee = cell, caller, callee
        self.lines: list[tuple[Line, Line]] = []
        self.witnesses: list[Witness] = []
        self.outcome = Outcome()

    @property
    def phones(self) -> tuple[Phone, Phone]:
        return self.caller, self.callee

    # ---- before ------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Register, call twice, and come into the state of the cell."""
        await asyncio.gather(*(phone.register() for phone in self.phones))
        for _ in range(CALLS):
            out = await self.caller.call(self.callee.user)
            incoming = await self.callee.answer_next(WAIT)
            async with asyncio.timeout(WAIT):
                await out.answered.wait()
                await incoming.answered.wait()
            for line in (out, incoming):
                assert line.audio is not None
                line.audio.interval = 0.2
            self.lines.append((out, incoming))
        for out, incoming in self.lines:
            match self.cell.state:
                case "held by A":
                    await self._offer(out, incoming, "sendonly")
                case "held by B":
                    await self._offer(incoming, out, "sendonly")
                case "re-INVITEd by A":
                    await self._offer(out, incoming, "sendrecv")
                case "re-INVITEd by B":
                    await self._offer(incoming, out, "sendrecv")
            proxied = self.cell.leg if self.cell.path == "Kamailio" else ""
            transports = [self.cell.transport if self.cell.leg == leg else "UDP" for leg in ("caller", "callee")]
            self.witnesses += [
                Witness(line, transport, 2 if proxied == leg else 1)
                for line, transport, leg in zip((out, incoming), transports, ("caller", "callee"), strict=True)
            ]

    # ---- after -------------------------------------------------------------------------------------------------------

    async def return_(self) -> None:
        """Whose connection ended with the node makes another one, and registers by it."""
        for phone in self.phones:
            if isinstance(phone, StreamPhone) and self.cell.path == "direct":
                async with asyncio.timeout(WAIT):
                    await phone.gone.wait()
                await phone.reconnect(WAIT)
                await phone.register()
        for witness in self.witnesses:
            witness.moved()

    async def pass_by(self) -> None:
        """The first of two failovers: the calls go on, each side says something."""
        for out, incoming in self.lines:
            await self._offer(out, incoming, "sendrecv")
            await self._offer(incoming, out, "sendrecv")

    async def end(self, killed: float) -> None:
        """Both sides offer, who held first; both are heard; then each ends one of the calls. Complaints are kept."""
        for number, (out, incoming) in enumerate(self.lines):
            first, second = (incoming, out) if self.cell.state == "held by B" else (out, incoming)
            try:
                await self._offer(first, second, "sendrecv")
                await self._offer(second, first, "sendrecv")
                assert out.audio is not None
                assert incoming.audio is not None
                await asyncio.gather(out.audio.heard(2, WAIT), incoming.audio.heard(2, WAIT))
                await self._offer(second, first, "sendonly")
                await self._hang_up(*((out, incoming) if number == 0 else (incoming, out)))
            except Exception as error:
                self.outcome.lost += 1
                self.outcome.complaints.append(f"call {number + 1}: {type(error).__name__}: {error}")
        self.outcome.complaints += [text for witness in self.witnesses for text in witness.complaints()]
        for phone in self.phones:
            bad = [status for status in phone.statuses() if status in (481, 500)]
            self.outcome.complaints += [f"{phone.user} was answered {status}" for status in bad]
        self.outcome.seconds = time.monotonic() - killed

    async def _offer(self, by: Line, to: Line, direction: str) -> None:
        seen = to.reinvited
        async with asyncio.timeout(WAIT):
            while (answer := await by.reinvite(direction)).status == 491:
                await asyncio.sleep(0.2)
        assert answer.status == 200, f"{by.phone.user} was answered {answer.start} to its re-INVITE ({direction})"
        assert to.reinvited > seen, f"the re-INVITE of {by.phone.user} did not reach {to.phone.user}"
        assert f"a={direction}" in to.remote_sdp, f"{to.phone.user} was not offered {direction}: {to.remote_sdp}"

    async def _hang_up(self, by: Line, other: Line) -> None:
        async with asyncio.timeout(WAIT):
            answer = await by.hangup()
            assert answer.status == 200, f"{by.phone.user} was answered {answer.start} to its BYE"
            await other.ended.wait()
        assert other.ended_by == "them", other.ended_by


class Stage:
    """A pair on an island of its own, with proxies where cells need them. `run` plays all cells of a batch at once."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        families = {cell.family for cell in cells}
        assert len(families) == 1, "a pair speaks one family"
        self.cells, self.place = cells, PLACES[families.pop()]

    def run(self) -> Result:
        places = PLACES["IPv6"]
        with (
            tempfile.TemporaryDirectory(prefix="sofia-matrix-") as folder,
            Island(places.node, places.phones, *places.edges.values()) as island,
            island.inside(),
            Chronicle() as chronicle,
            chronicling(chronicle),
        ):
            return self._run(Path(folder), chronicle)

    def _run(self, folder: Path, chronicle: Chronicle) -> Result:
        began, marks = time.monotonic(), []
        self.authority = Authority(folder / "certs")
        address = self.place.node
        settings = self.authority.settings(address, DOMAIN) | {"internal_ws_binding": f":{PORTS['WS']}"}
        with contextlib.ExitStack() as stack:
            pair = Pair(folder, address=address, **settings)
            for node in pair.nodes:
                node.conf = configuration(folder / "conf", 2 * len(self.cells))
            self.edges = {name: stack.enter_context(self._edge(name)) for name in self._wanted()}
            stack.enter_context(pair)
            plays, gap = asyncio.run(self._play(pair, marks))
            for play in plays:
                astray = sum(edge.count("[astray") for edge in self.edges.values())
                if play.cell.path == "Kamailio" and astray:
                    play.outcome.complaints.append(f"{astray} requests came to a proxy astray")
        marks = [Mark(at - began, lane, text) for at, lane, text in marks]
        return Result({play.cell: play.outcome for play in plays}, gap, chronicle.verdict(), began, marks)

    def _wanted(self) -> list[str]:
        return sorted({far(cell.transport) for cell in self.cells if cell.path == "Kamailio"})

    def _edge(self, towards: str) -> Edge:
        return Edge(self.place.edges[towards], self.place.node, self.authority, towards=towards, web=True)

    async def _play(self, pair: Pair, marks: list[tuple[float, str, str]]) -> tuple[list[Play], float]:
        async with contextlib.AsyncExitStack() as stack:
            plays = [await self._cast(stack, number, cell) for number, cell in enumerate(self.cells)]
            sounder = await stack.enter_async_context(Sounder(pair.sip, host=self.place.phones))
            await together(play.begin() for play in plays)
            marks.append((time.monotonic(), "calls", f"{CALLS * len(plays)} calls are up"))
            once = [play for play in plays if play.cell.state != "second failover"]
            twice = [play for play in plays if play.cell.state == "second failover"]
            killed = await self._fail_over(pair, marks)
            await together(play.return_() for play in plays)
            await together([play.end(killed) for play in once] + [play.pass_by() for play in twice])
            marks.append((time.monotonic(), "calls", f"{CALLS * len(once)} calls are ended"))
            gap = sounder.gap(killed)
            if twice:
                await self._second(pair, twice, marks)
            return plays, gap

    async def _second(self, pair: Pair, plays: list[Play], marks: list[tuple[float, str, str]]) -> None:
        dead = next(node for node in pair.nodes if node.role != "active")
        dead.start()
        await asyncio.to_thread(dead.wait_ready, 60.0)
        killed = await self._fail_over(pair, marks)
        await together(play.return_() for play in plays)
        await together(play.end(killed) for play in plays)
        marks.append((time.monotonic(), "calls", f"{CALLS * len(plays)} calls are ended"))

    async def _fail_over(self, pair: Pair, marks: list[tuple[float, str, str]]) -> float:
        active, heir = pair.active, pair.standby
        killed = active.kill()
        marks.append((killed, active.name, "killed"))
        await asyncio.to_thread(heir.wait_role, "active")
        marks.append((time.monotonic(), heir.name, "active"))
        return killed

    async def _cast(self, stack: contextlib.AsyncExitStack, number: int, cell: Cell) -> Play:
        users = [str(FIRST_USER + 2 * number), str(FIRST_USER + 2 * number + 1)]
        phones = [
            await stack.enter_async_context(self._phone(user, cell if cell.leg == leg else None))
            for user, leg in zip(users, ("caller", "callee"), strict=True)
        ]
        return Play(cell, *phones)

    def _phone(self, user: str, cell: Cell | None) -> Phone:
        """With the transport and the way of a cell, or plain."""
        host, node = self.place.phones, self.place.node
        if cell is None:
            return Phone(user, PASSWORD, (node, PORTS["UDP"]), domain=DOMAIN, host=host)
        server = (node, PORTS[cell.transport])
        if cell.path == "Kamailio":
            server = self.edges[far(cell.transport)].address(cell.transport.lower())
        if cell.transport == "UDP":
            return Phone(user, PASSWORD, server, domain=DOMAIN, host=host)
        trust = self.authority.trusting() if cell.transport == "TLS" else None
        return StreamPhone(user, PASSWORD, server, cell.transport, domain=DOMAIN, host=host, trust=trust)


async def together(acts: Sequence[Awaitable[None]] | object) -> None:
    await asyncio.gather(*acts)  # type: ignore[misc]


def configuration(folder: Path, users: int) -> Path:
    """The shipped one, with more users than it has, who can be called."""
    if not folder.exists():
        shutil.copytree(ROOT / "conf", folder)
        numbers = range(FIRST_USER, FIRST_USER + users)
        made = "".join(
            f'<user id="{n}"><params><param name="password" value="$${{default_password}}"/></params>'
            '<variables><variable name="user_context" value="default"/></variables></user>\n'
            for n in numbers
        )
        (folder / "directory" / "default" / "matrix.xml").write_text(f"<include>\n{made}</include>\n")
        dialplan = folder / "dialplan" / "default.xml"
        text = dialplan.read_text()
        assert "^(10[01][0-9])$" in text
        dialplan.write_text(text.replace("^(10[01][0-9])$", "^(10[01][0-9]|2[0-9]{3})$", 1))
    return folder
