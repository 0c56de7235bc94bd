"""The parts of a body (RFC 2046 5.1, RFC 5621; pure): a session description that travels with something else."""

from __future__ import annotations

import re
from collections.abc import Iterator

MULTIPART = ("multipart/mixed", "multipart/alternative", "multipart/related")
"Those in which a description is looked for: beside, instead of or among other parts."

_BOUNDARY = re.compile(r';\s*boundary\s*=\s*(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_TYPE = re.compile(r"^(?:content-type|c)[ \t]*:[ \t]*([^\s;]+)", re.IGNORECASE | re.MULTILINE)


def part(content_type: str, body: str, kind: str) -> str:
    """The first part of that type in a body whose Content-Type field is given; empty if there is none."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        return ""
    for head, content in _parts(body, found[1] or found[2]):
        named = _TYPE.search(head)
        if named is not None and named[1].lower() == kind:
            return content
    return ""


def _parts(body: str, boundary: str) -> Iterator[tuple[str, str]]:
    """Headers and content of each part, without preamble and epilogue. A line that only begins like a boundary is none."""
    delimiter = re.compile(r"(?:^|\r\n)--" + re.escape(boundary) + r"(--)?[ \t]*(?:\r\n|$)")
    opened = delimiter.search(body)
    while opened is not None and not opened[1]:
        # The line break before a delimiter is its own, also right after the one before: a part may be empty.
        closed = delimiter.search(body, opened.end() - 2)
        text = body[opened.end() : closed.start() if closed is not None else len(body)]
        head, _, content = ("\r\n" + text).partition("\r\n\r\n")
        yield head.lstrip("\r\n"), content
        opened = closed
