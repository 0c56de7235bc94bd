"""Whose a message is: told by the tag or branch that came back to us."""

from __future__ import annotations

from node.sip.message import Request, Response
from node.sip.token import owner


def owner_of(message: Request | Response) -> str | None:
    """The slot token of the owner; None for what starts something new, or names nobody we know.

    A request in a dialog (or the ACK to a refusal of ours) bears our tag in To; a response our branch in its top Via.
    A CANCEL bears neither before the answer: it comes the way its INVITE came, so to the same worker.
    """
    if isinstance(message, Response):
        return owner(message.via.branch)
    tag = message.to_tag
    return owner(tag) if tag else None
