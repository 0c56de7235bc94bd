"""Commands by name, the words of a command line, and completion."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from node.console.site import Site

Runner = Callable[[Site, str], Awaitable[str]]
Candidates = Callable[[Site], Awaitable[list[str]]]


@dataclass(frozen=True, slots=True)
class Command:
    """One api command. Lines of `completion` are words; one in angle brackets stands for a list (`<profile>`)."""

    name: str
    run: Runner
    syntax: str = ""
    description: str = ""
    completion: tuple[str, ...] = ()


class Registry:
    """All commands there are."""

    def __init__(self, commands: Iterable[Command], candidates: Mapping[str, Candidates]) -> None:
        self._commands = {command.name: command for command in commands}
        self._candidates = candidates

    def __iter__(self) -> Iterator[Command]:
        return iter(sorted(self._commands.values(), key=lambda command: command.name))

    async def run(self, site: Site, line: str) -> str:
        """Run a command line and give back what it writes."""
        name, _, rest = line.strip().partition(" ")
        command = self._commands.get(name.lower())
        if command is None:
            return f"-ERR {name} Command not found!\n"
        return await command.run(site, rest.strip())

    async def complete(self, site: Site, text: str) -> list[str]:
        """The words that may stand where the text ends."""
        *before, stem = text.lstrip().split(" ")
        before = [word for word in before if word]
        if not before:
            return sorted(name for name in self._commands if name.startswith(stem))
        command = self._commands.get(before[0].lower())
        if command is None:
            return []
        found: dict[str, None] = {}
        for line in command.completion:
            for word in await self._offers(site, line.split(), before[1:]):
                if word.lower().startswith(stem.lower()):
                    found[word] = None
        return list(found)

    async def _offers(self, site: Site, pattern: list[str], before: list[str]) -> list[str]:
        """What a pattern offers behind the words before, if they fit."""
        if len(pattern) <= len(before):
            return []
        for expected, word in zip(pattern, before, strict=False):
            if not expected.startswith("<") and word.lower() not in expected.split("|"):
                return []
        offer = pattern[len(before)]
        if not offer.startswith("<"):
            return offer.split("|")
        listed = self._candidates.get(offer.strip("<>"))
        return await listed(site) if listed is not None else []


def words(text: str, limit: int = 0) -> list[str]:
    """Split at blanks as FreeSWITCH does: single quotes group, a backslash takes the next character as it is."""
    found: list[str] = []
    word: list[str] = []
    quoted = started = False
    index = 0
    while index < len(text):
        char = text[index]
        if limit and len(found) == limit - 1 and not started and char != " ":
            found.append(text[index:].rstrip())
            return found
        if char == "\\" and index + 1 < len(text):
            index += 1
            word.append(text[index])
            started = True
        elif char == "'":
            quoted = not quoted
            started = True
        elif char == " " and not quoted:
            if started:
                found.append("".join(word))
            word, started = [], False
        else:
            word.append(char)
            started = True
        index += 1
    if started:
        found.append("".join(word))
    return found


TRUE = frozenset({"yes", "on", "true", "t", "enabled", "active", "allow"})


def is_true(text: str) -> bool:
    """FreeSWITCH's idea of true: some words, or a number that is not zero; everything else is false."""
    word = text.strip().lower()
    return word in TRUE or (word.lstrip("-").isdigit() and int(word) != 0)
