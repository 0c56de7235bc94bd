"""Whose a message is: told by the tag or branch that came back to us."""

from __future__ import annotations

import re

from node.sip.message import Request, Response
from node.sip.token import owner

_REPLACED = re.compile(r";\s*to-tag\s*=\s*([^;,\s]+)", re.IGNORECASE)


def owner_of(message: Request | Response) -> str | None:
    """The slot token of the owner; None for what starts something new, or names nobody we know.

    A request in a dialog (or the ACK to a refusal of ours) bears our tag in To; a response our branch in its top Via.
    An INVITE that is to replace a dialog of ours belongs to that dialog's owner (RFC 3891).
    A CANCEL bears neither before the answer: it comes the way its INVITE came, so to the same worker.
    """
    if isinstance(message, Response):
        return owner(message.branch)
    tag = message.to_tag
    if not tag and message.method == "INVITE" and (text := message.header("Replaces")) is not None:
        match = _REPLACED.search(text)
        tag = match[1] if match else ""
    return owner(tag) if tag else None
