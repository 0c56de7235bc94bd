"""From the text of a param to its value: one small reader a kind, each with a sentence for what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from node.config import host, stun
from node.config.complaints import Complaints, Place
from node.config.document import Element
from node.config.regex import BadExpression, compiled

TRUE = frozenset(("yes", "on", "true", "t", "enabled", "active", "allow"))
FALSE = frozenset(("no", "off", "false", "f", "disabled", "inactive", "disallow", "deny"))
SECRET = re.compile(r"password|passphrase|-pass\b|secret|-hash\b|dsn", re.IGNORECASE)
"Names whose value is never shown."

CODECS = re.compile(
    r"PCM[UA]|G722|OPUS|GSM|SPEEX|ILBC|G72[389]|AMR(-WB)?|L16|CELT|SILK|BV(16|32)|G7221|SIREN|(AAL2-)?G726-(16|24|32|40)"
    r"|DVI4|LPC|EVS|CODEC2|ISAC|H26[1345]|H263-(1998|2000)|VP[89]|AV1|MP4V-ES|THEORA|T140|RED|PROXY(-VID)?|PASSTHRU|CN"
    r"|TELEPHONE-EVENT",
    re.IGNORECASE,
)
"The names FreeSWITCH's own modules give."
NUMBER = re.compile(r"\+?[0-9*#]{1,32}", re.ASCII)
CODEC = re.compile(r"(?:\w+\.)?(?P<name>[A-Za-z0-9-]+)(?:@\d+[hibkc])*(?:~.*)?")

Reader = Callable[[str], Any]


AUTO_NAT = "autonat:"


class Notice(Exception):
    """A value that is usable but worth a warning: (value, sentence)."""

    def __init__(self, value: Any, sentence: str) -> None:
        super().__init__(sentence)
        self.value = value
        self.sentence = sentence


@dataclass(frozen=True, slots=True)
class Parameter:
    """How a param is read, and the field it fills."""

    field: str
    read: Reader
    gathers: bool = False
    "Each further param of the name adds to a tuple; `none` empties it."


@dataclass(slots=True)
class Values:
    """What the params of one section said."""

    fields: dict[str, Any] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    "By param name, lower case: where it stands last."
    entries: list[tuple[str, str, Place]] = field(default_factory=list)
    "Every param: name, text, place."

    def place(self, name: str, otherwise: Place) -> Place:
        return self.places.get(name, otherwise)


def read_params(
    elements: Iterable[Element],
    table: Mapping[str, Parameter],
    complaints: Complaints,
    *,
    kind: str,
    inert: frozenset[str] = frozenset(),
) -> Values:
    """Read the `<param>`s of a section; says what is wrong with each, and which names this node has not."""
    values = Values()
    for element in elements:
        if element.name != "param":
            if element.name != "variable":
                complaints.warning(
                    element.place, f"<{element.name}> is not expected among the params and has no effect"
                )
            continue
        name, text = element.get("name").strip().lower(), element.get("value").strip()
        if not name or "value" not in element.attributes:
            complaints.error(element.place, "a param needs name and value")
            continue
        values.params[name] = text
        values.places[name] = element.place
        values.entries.append((name, text, element.place))
        if SECRET.search(name):
            complaints.hide(text)
        parameter = table.get(name)
        if parameter is not None:
            _take(values.fields, name, parameter, text, element.place, complaints)
        elif name not in inert:
            complaints.unknown(element.place, kind, name)
    return values


def _take(fields: dict[str, Any], name: str, parameter: Parameter, text: str, place: Place, said: Complaints) -> None:
    if parameter.gathers and text.lower() == "none":
        fields[parameter.field] = ()
        return
    try:
        value = parameter.read(text)
    except Notice as notice:
        said.warning(place, f"{name} {notice.sentence}")
        value = notice.value
    except ValueError as error:
        said.error(place, f"{name} {error}")
        return
    if value is None:
        return
    if parameter.gathers:
        fields[parameter.field] = (*fields.get(parameter.field, ()), value)
    else:
        fields[parameter.field] = value


# ---- readers: None keeps the default; ValueError's sentence goes behind the param's name -----------------------------


def is_true(text: str) -> bool:
    """FreeSWITCH's own reading of any text."""
    word = text.strip().lower()
    return word in TRUE or (word.lstrip("-").isdecimal() and int(word) != 0)


def boolean(text: str) -> bool:
    word = text.lower()
    if word in TRUE or word in FALSE or word.isdecimal():
        return is_true(word)
    if not word:
        raise Notice(False, "is empty and taken as false")
    raise ValueError(f"must be true or false, not {text!r}")


def unless(text: str) -> bool:
    """The value of a `disable-...` form."""
    return not boolean(text)


def string(text: str) -> str:
    return text


def whole(least: int = 0, most: int | None = None) -> Reader:
    """A whole number between two bounds."""

    def read(text: str) -> int | None:
        if not text:
            raise Notice(None, "is empty: the default stays")
        if not re.fullmatch(r"-?\d+", text):
            raise ValueError(f"must be a whole number, not {text!r}")
        number = int(text)
        if number < least or (most is not None and number > most):
            raise ValueError(f"must be {least} {f'to {most}' if most is not None else 'or more'}, not {number}")
        return number

    return read


def lenient(number: Reader, word: str, value: Any) -> Reader:
    """A number, or one word that stands for a value."""

    def read(text: str) -> Any:
        return value if text.lower() == word else number(text)

    return read


port = lenient(whole(1, 65535), "auto", 0)


def choice(*words: str, true: str | None = None, false: str | None = None) -> Reader:
    """One of some words; `true` and `false` are what FreeSWITCH's boolean words mean here."""

    def read(text: str) -> str:
        word = text.lower()
        if word in words:
            return word
        if true is not None and is_true(word):
            return true
        if false is not None and (word in FALSE or word in ("0", "")):
            return false
        known = [*words, *(["true"] if true else []), *(["false"] if false is not None else [])]
        raise ValueError(f"must be {', '.join(dict.fromkeys(known))}, not {text!r}")

    return read


def words(*known: str, separator: str = ",") -> Reader:
    """A list of known words (of any, when none are given)."""

    def read(text: str) -> tuple[str, ...] | None:
        found = tuple(part.strip() for part in text.split(separator) if part.strip())
        if not found:
            return None
        for word in found:
            if known and word.lower() not in known:
                raise ValueError(f"does not know {word!r}: it takes {', '.join(known)}")
        return found

    return read


def numbers(text: str) -> tuple[str, ...] | None:
    """A list of numbers as they are dialled: `112,911,+4989112`."""
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for part in found:
        if NUMBER.fullmatch(part) is None:
            raise ValueError(f"has what is no number to dial: {part!r}")
    return found or None


def local_address(text: str) -> str:
    """`sip-ip`, `rtp-ip`: an address, `auto`, `interface:[auto/|ipv4/|ipv6/]NAME`."""
    if text.lower() in ("auto", ""):
        return host.local_ip_v4()
    if text == "0.0.0.0":
        raise Notice(host.local_ip_v4(), "0.0.0.0 is no address to tell others: the host's own is taken")
    if text.lower().startswith("interface:"):
        family, slash, name = text[10:].partition("/")
        try:
            return host.interface_ip(name, family.lower()) if slash else host.interface_ip(family)
        except OSError as error:
            raise ValueError(f"names an interface without an address: {text[10:]!r}") from error
    return numeric_address(text)


def public_address(text: str) -> str | None:
    """`ext-sip-ip`, `ext-rtp-ip`: an address, or the host's own (`auto`); `auto-nat` leaves it open.

    `stun:` and `host:` are kept as they are written: who serves asks (`node/transport/outside.py`). So is `autonat:`, an
    address for those who are not of our network.
    """
    lower = text.lower()
    if not text:
        raise Notice(None, "is empty: no public address is known, the local one is used")
    if lower == "auto":
        return host.local_ip_v4()
    if lower == "auto-nat":
        return None
    if lower.startswith(AUTO_NAT):
        return AUTO_NAT + numeric_address(text[len(AUTO_NAT) :])
    if lower.startswith("stun:"):
        stun.server(text[5:])
        return lower[:5] + text[5:]
    if lower.startswith("host:"):
        if not text[5:]:
            raise ValueError("must name a host, as host:name")
        return lower[:5] + text[5:]
    return numeric_address(text)


def numeric_address(text: str) -> str:
    try:
        return str(ip_address(text.strip("[]")))
    except ValueError:
        raise ValueError(f"is no IP address: {text!r}") from None


def endpoint(text: str) -> str:
    """`host:port`, empty for none; the host may be a name."""
    if not text:
        return ""
    name, colon, number = text.rpartition(":")
    if not colon or not name or not number.isdecimal() or not 1 <= int(number) <= 65535:
        raise ValueError(f"must be host:port, not {text!r}")
    return text


def interface_address(text: str) -> str:
    """An address with its prefix, empty for none."""
    if text and "/" not in text:
        raise ValueError(f"needs its prefix, as 192.0.2.10/24: {text!r}")
    try:
        return text if not text else f"{ip_address(text.partition('/')[0])}/{ip_network(text, strict=False).prefixlen}"
    except ValueError:
        raise ValueError(f"is no address with a prefix: {text!r}") from None


def codecs(text: str) -> tuple[str, ...] | None:
    if not text:
        return None
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    unknown = []
    for part in found:
        match = CODEC.fullmatch(part)
        if match is None:
            raise ValueError(f"has a codec not written as NAME[@rateh][@ptimei]: {part!r}")
        if CODECS.fullmatch(match["name"]) is None:
            unknown.append(part)
    if unknown:
        raise Notice(
            tuple(part for part in found if part not in unknown),
            f"names a codec that is not known and left out: {', '.join(map(repr, unknown))}",
        )
    return found


def regex(text: str) -> str:
    try:
        compiled(text)
    except BadExpression as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return text
