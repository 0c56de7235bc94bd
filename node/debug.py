"""What `sofia loglevel`, `sofia tracelevel` and `sofia global debug` turn on and off, in the words of the Sofia stack.

Ordinary log lines go by the level of switch.conf. What is said here is said on top of them, when asked for: each
component has a level from 0 (silent) to 9 (everything), and a line is guarded where it would be said, so that it costs
one comparison while nobody listens:

    if nta.level >= 7:
        nta.say("%s: %s -> %s", branch, old, new)

3: what went wrong; 5: what came, went and was decided; 7: each step of it; 9: everything, contents too (masked).
All of it, and the message trace, goes out at one level of the log, the tracelevel.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

TRACE_LEVELS: Mapping[str, int] = {
    "CONSOLE": 60,
    "ALERT": 55,
    "CRIT": logging.CRITICAL,
    "ERR": logging.ERROR,
    "WARNING": logging.WARNING,
    "NOTICE": 25,
    "INFO": logging.INFO,
    "DEBUG": logging.DEBUG,
}
"FreeSWITCH's log levels, in the order of their numbers, as Python's. CONSOLE is always heard."
DISABLE = "DISABLE"
"The tracelevel at which nothing goes out."

for _name in ("CONSOLE", "ALERT", "NOTICE"):
    logging.addLevelName(TRACE_LEVELS[_name], _name)


class Component:
    """A part of the stack whose lines can be asked for."""

    __slots__ = ("_log", "level", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.level = 0
        "0: says nothing; 9: says everything. Looked at by who wants to say something."
        self._log = logging.getLogger(f"sofia.{name}")

    @property
    def heard(self) -> bool:
        """Would a line be written at the present tracelevel? Asked before one that costs much is made."""
        return _output.level > 0 and self._log.isEnabledFor(_output.level)

    def say(self, text: str, *values: object) -> None:
        """Write a line at the tracelevel. Arguments as for `logging`."""
        level = _output.level
        if level > 0:
            self._log.log(level, text, *values)


class _Output:
    """Where all components' lines go."""

    __slots__ = ("level", "name")

    def __init__(self) -> None:
        self.name = "CONSOLE"
        self.level = TRACE_LEVELS["CONSOLE"]


_output = _Output()

default = Component("default")
"What has no name of its own: worker, promotion, recovery, store. SU_DEBUG sets it too."
tport = Component("tport")
"Sockets, connections, messages as they come and go, the bus between workers: node/transport."
iptsec = Component("iptsec")
"Challenges and credentials, access lists."
nea = Component("nea")
"SUBSCRIBE, NOTIFY, PUBLISH."
nta = Component("nta")
"Transactions: node/sip."
nth_client = Component("nth_client")
"What the console asks of workers and supervisor."
nth_server = Component("nth_server")
"Clients of the event socket and what they ask."
nua = Component("nua")
"Calls and registrations."
soa = Component("soa")
"Offers and answers, and the media they lead to."
sresolv = Component("sresolv")
"Where requests go: names and addresses."
stun = Component("stun")
"Our public address."

COMPONENTS: Mapping[str, Component] = {
    each.name: each
    for each in (default, tport, iptsec, nea, nta, nth_client, nth_server, nua, soa, sresolv, stun)
}  # fmt: skip

siptrace = Component("siptrace")
"The message trace; which profiles have one is known to their endpoints."
presence = Component("presence")
"`sofia global debug presence`: level 0 or 9."
sla = Component("sla")
"`sofia global debug sla`: level 0 or 9."

VARIABLES: Mapping[str, tuple[str, ...]] = {
    "SU_DEBUG": ("default",),
    "TPORT_DEBUG": ("tport",),
    "IPTSEC_DEBUG": ("iptsec",),
    "NEA_DEBUG": ("nea",),
    "NTA_DEBUG": ("nta",),
    "NTH_DEBUG": ("nth_client", "nth_server"),
    "NUA_DEBUG": ("nua",),
    "SOA_DEBUG": ("soa",),
    "SRESOLV_DEBUG": ("sresolv",),
    "STUN_DEBUG": ("stun",),
}
"Environment variables, and the components they set. SOFIA_DEBUG sets all that have none of their own."


def levels_at_start(log_level: int, environment: Mapping[str, str]) -> dict[str, int]:
    """The level of each component by the environment, or else by `log-level` of sofia.conf."""
    levels = dict.fromkeys(COMPONENTS, _digit(environment.get("SOFIA_DEBUG"), log_level))
    for variable, names in VARIABLES.items():
        for name in names:
            levels[name] = _digit(environment.get(variable), levels[name])
    return levels


def set_level(name: str, level: int) -> None:
    """Set one component, or `all`. An unknown name is ignored: another version may know it."""
    chosen = COMPONENTS.values() if name == "all" else filter(None, [COMPONENTS.get(name)])
    for component in chosen:
        component.level = level


def set_tracelevel(name: str) -> None:
    """Let everything go out at this level of FreeSWITCH's, or nowhere (DISABLE)."""
    _output.name = name
    _output.level = 0 if name == DISABLE else TRACE_LEVELS.get(name, TRACE_LEVELS["CONSOLE"])


def tracelevel() -> str:
    return _output.name


def tracelevel_of(text: str) -> str:
    """A tracelevel by its name in any case, or its number; empty when there is none such."""
    word = text.strip().upper()
    if word.isdecimal():
        names = tuple(TRACE_LEVELS)
        return names[int(word)] if int(word) < len(names) else ""
    return word if word in TRACE_LEVELS or word == DISABLE else ""


def begin(
    log_level: int, tracelevel: str, *, presence_on: bool, sla_on: bool, environment: Mapping[str, str]
) -> None:  # fmt: skip
    """What a process that has just been born says: by sofia.conf, and by the environment."""
    for name, level in levels_at_start(log_level, environment).items():
        set_level(name, level)
    set_tracelevel(tracelevel)
    presence.level, sla.level = 9 * presence_on, 9 * sla_on


def _digit(text: str | None, otherwise: int) -> int:
    """A level from 0 to 9; larger ones are 9. What is no number is passed over."""
    return min(int(text), 9) if text is not None and text.strip().isdecimal() else otherwise
