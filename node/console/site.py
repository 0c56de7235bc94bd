"""What the commands may reach: the node, its workers, its store, its supervisor. The server gives it to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from node.config import Configuration
from node.config.identity import Identity
from node.config.sections import GlobalSettings
from node.console.format import Origin
from node.console.gauge import Gauge
from node.debug import levels_at_start
from node.directory import Directory
from node.events import Event
from store.records import CallRecord, Registration

COMPONENTS = (
    "all", "default", "tport", "iptsec", "nea", "nta", "nth_client", "nth_server", "nua", "soa", "sresolv", "stun",
)  # fmt: skip
"Parts of the stack that have a log level of their own in FreeSWITCH."


@dataclass(slots=True)
class Switches:
    """What operators turn on and off, as far as a command shows it. The supervisor remembers it for new workers."""

    log_levels: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COMPONENTS[1:], 0))
    tracelevel: str = "CONSOLE"
    debug_presence: bool = False
    debug_sla: bool = False
    standby: bool = False

    def begin(self, general: GlobalSettings, environment: Mapping[str, str]) -> None:
        """As the workers begin: by the global settings of sofia.conf and the environment."""
        self.log_levels.update(levels_at_start(general.log_level, environment))
        self.tracelevel = general.tracelevel
        self.debug_presence, self.debug_sla = general.debug_presence > 0, general.debug_sla > 0

    def replay(self, verb: str, words: Sequence[str]) -> None:
        """What was ordered of the workers before this process was born."""
        match verb, list(words):
            case "loglevel", [component, level]:
                self.set_level(component, int(level))
            case "tracelevel", [level]:
                self.tracelevel = level
            case "debug", [presence, sla]:
                self.debug_presence, self.debug_sla = presence == "on", sla == "on"
            case "standby", [word]:
                self.standby = word == "on"

    def set_level(self, component: str, level: int) -> None:
        names = COMPONENTS[1:] if component == "all" else (component,)
        self.log_levels.update(dict.fromkeys(names, level))


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

    async def calls(self) -> list[CallRecord]:
        """The calls on record, whoever has them. Raises Silent."""
        ...

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
