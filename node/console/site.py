"""What the commands may reach: the node, its workers, its store, its supervisor. The server gives it to them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from node.config import Configuration
from node.config.identity import Identity
from node.console.format import Origin
from node.console.gauge import Gauge
from node.directory import Directory
from node.events import Event
from store.records import Registration

COMPONENTS = (
    "all", "default", "tport", "iptsec", "nea", "nta", "nth_client", "nth_server", "nua", "soa", "sresolv", "stun",
)  # fmt: skip
"Parts of the stack that have a log level of their own in FreeSWITCH."


@dataclass(slots=True)
class Switches:
    """What operators turn on and off and the console remembers: it tells them again to workers that are born later."""

    log_levels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMPONENTS, 0))
    tracelevel: str = "CONSOLE"
    siptrace: dict[str, bool] = field(default_factory=dict)
    "By profile."
    capture: dict[str, bool] = field(default_factory=dict)
    standby: bool = False
    debug_presence: bool = False
    debug_sla: bool = False

    def orders(self) -> Iterator[tuple[str, list[str]]]:
        """Verbs and words that bring a worker with everything off to this state."""
        for component, level in self.log_levels.items():
            if level:
                yield "loglevel", [component, str(level)]
        if self.tracelevel != "CONSOLE":
            yield "tracelevel", [self.tracelevel]
        for verb, state in (("siptrace", self.siptrace), ("capture", self.capture)):
            for profile, on in state.items():
                if on:
                    yield verb, ["on", profile]
        if self.standby:
            yield "standby", ["on"]
        if self.debug_presence or self.debug_sla:
            yield "debug", ["on" if flag else "off" for flag in (self.debug_presence, self.debug_sla)]


@dataclass(frozen=True, slots=True)
class ProfileState:
    """What the supervisor says of a profile."""

    running: bool
    since: float = 0.0
    workers: tuple[str, ...] = ()


class Silent(Exception):
    """Whoever was asked did not answer in time; the text says who. Becomes the `-ERR` that the operator sees."""


class Refused(Silent):
    """It did answer, and will not do it."""


class Workers(Protocol):
    """The workers as the commands see them: asked all at once, the answers merged."""

    async def ask_all(self, verb: str, words: Sequence[str] = ()) -> list[Any]:
        """The values of those that answered well."""
        ...

    async def ask_profile(self, profile: str, verb: str, words: Sequence[str] = (), *, within: float = 2.0) -> Any:
        """The answer of one worker of that profile (any one). Raises Silent."""
        ...


class Site(Protocol):
    """Where a command runs."""

    identity: Identity
    configuration: Configuration
    directory: Directory
    origin: Origin
    switches: Switches
    gauge: Gauge

    @property
    def workers(self) -> Workers: ...

    async def measure(self) -> None:
        """Bring the gauge up to date."""
        ...

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    async def ask(self, verb: str, words: Sequence[str] = (), *, within: float = 5.0) -> str:
        """The supervisor's answer. Raises Silent."""
        ...

    async def instruct(self, verb: str, words: Sequence[str] = ()) -> None:
        """Have every worker do something, now, by way of the supervisor."""
        ...

    async def profile_states(self) -> dict[str, ProfileState]: ...

    async def registrations(self, profile: str | None = None) -> list[Registration]: ...

    async def remove(self, registrations: Iterable[Registration]) -> None: ...

    def fire(self, event: Event) -> None: ...

    def reload(self) -> str:
        """Read the configuration anew. Gives back `Success`, or what is wrong with it (the old one then stays)."""
        ...

    async def run(self, line: str) -> str:
        """Run another command line."""
        ...

    async def complete(self, text: str, cursor: int | None = None) -> list[str]: ...

    def commands(self) -> Iterable[Any]: ...
