r"""Dialplan expressions: PCRE as FreeSWITCH writes it, translated to `re`.

What differs and is translated: `(?<name>..)`, `\z`, `\Z`, `\h`, `\R`, `\e`, `\Q..\E`, `\x{..}`, POSIX classes as
`[[:digit:]]`, and ASCII meaning of `\d \w \s` (PCRE's default). Refused with a reason: `\K`, `\G`, `\p{..}`,
branch reset `(?|..)`, recursion and callouts, none of which `re` has. Two forms of FreeSWITCH's own stand beside
plain patterns: `/pattern/flags` and Asterisk's `_NXX.`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

FLAGS = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}

POSIX = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": r"\x21-\x7e",
    "lower": "a-z",
    "print": r"\x20-\x7e",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t\r\n\f\v",
    "upper": "A-Z",
    "word": r"\w",
    "xdigit": "0-9A-Fa-f",
}

ESCAPES = {"z": r"\Z", "Z": r"(?=\n?\Z)", "h": r"[ \t]", "R": r"(?:\r\n|\n|\r)", "e": r"\x1b", "N": r"[^\n]"}

ESCAPES_IN_CLASS = {"h": r" \t", "e": r"\x1b"}

MISSING = {"K": r"\K", "G": r"\G", "p": r"\p{..}", "P": r"\P{..}", "X": r"\X", "C": r"\C"}

TOKEN = re.compile(
    r"""
      \\Q(?P<quoted>.*?)(?:\\E|\Z)
    | \\x\{(?P<code>[0-9A-Fa-f]+)\}
    | \\(?P<escape>.)
    | \[:(?P<posix>\^?\w+):\]
    | \(\?(?P<special><(?![=!])|\||R|&|C|\d)
    | (?P<open>\[\^?\]?)
    | (?P<close>\])
    | .
    """,
    re.VERBOSE | re.DOTALL,
)

ASTERISK = {"N": "[2-9]", "X": "[0-9]", "Z": "[1-9]", ".": ".+", "!": ".*"}


class BadExpression(ValueError):
    """Why an expression cannot be used."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression as written; compiled at load unless it holds `${..}`, which only the call can tell."""

    text: str
    pattern: re.Pattern[str] | None = None

    @classmethod
    def parse(cls, text: str) -> Expression:
        """Raises BadExpression."""
        return cls(text) if "${" in text else cls(text, compiled(text))

    @property
    def captures(self) -> bool:
        """Whether `$1` is replaced in the actions: only when there is a parenthesis, as FreeSWITCH looks at it."""
        return "(" in self.text


@lru_cache(maxsize=4096)
def compiled(text: str) -> re.Pattern[str]:
    """The pattern of an expression in any of its three forms. Raises BadExpression."""
    flags = re.ASCII
    pattern = text
    if text.startswith("_"):
        pattern = asterisk(text[1:])
    elif text.startswith("/"):
        end = text.rfind("/")
        if end > 0:
            pattern, letters = text[1:end], text[end + 1 :]
            for letter in letters:
                flags |= FLAGS.get(letter.lower(), re.ASCII)
    try:
        return re.compile(translated(pattern), flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadExpression(str(error)) from error


def translated(pattern: str) -> str:
    """PCRE to `re`."""
    out = []
    within = False
    at = 0
    while at < len(pattern):
        match = TOKEN.match(pattern, at)
        assert match is not None, "the last alternative matches any character"
        at = match.end()
        kind = match.lastgroup
        if kind == "quoted":
            out.append(re.escape(match["quoted"]))
        elif kind == "code":
            out.append(re.escape(chr(int(match["code"], 16))))
        elif kind == "escape":
            out.append(_escape(match["escape"], within=within))
        elif kind == "posix" and within:
            out.append(_posix(match["posix"]))
        elif kind == "posix":
            # Outside of a class it is an ordinary class of these characters: begin again behind the bracket.
            at = match.start() + 1
            out.append("[")
            within = True
        elif kind == "special" and not within:
            out.append(_special(match["special"]))
        elif kind == "open" and not within:
            within = True
            out.append(match[0].replace("]", r"\]"))
        elif kind == "open":
            # A bracket inside a class stands for itself; one more character may have been taken with it.
            at = match.start() + 1
            out.append(r"\[")
        elif kind == "close":
            within = False
            out.append("]")
        else:
            out.append(match[0])
    return "".join(out)


def _escape(letter: str, *, within: bool) -> str:
    if letter in MISSING:
        raise BadExpression(f"{MISSING[letter]} is not supported")
    known = ESCAPES_IN_CLASS if within else ESCAPES
    if letter in known:
        return known[letter]
    # PCRE takes an escaped character without a meaning of its own for that character; `re` refuses letters.
    if letter.isalpha() and letter not in "abBdDsSwWnrtfvxA":
        return letter
    return "\\" + letter


def _posix(name: str) -> str:
    if name.startswith("^") or name not in POSIX:
        raise BadExpression(f"character class [:{name}:] is not supported")
    return POSIX[name]


def _special(kind: str) -> str:
    if kind == "<":
        return "(?P<"
    raise BadExpression(f"(?{kind} is not supported")


def asterisk(pattern: str) -> str:
    """`NXX.` of a dialplan in the manner of Asterisk: N 2-9, X 0-9, Z 1-9, `.` one or more, `!` none or more."""
    out = []
    within = False
    for character in pattern:
        if within or character in "[]":
            within = character != "]"
            out.append(character)
        else:
            out.append(ASTERISK.get(character.upper(), re.escape(character)))
    return "^" + "".join(out) + "$"
