"""What this node says of itself in its messages."""

from __future__ import annotations

from node.config.profile import ProfileSettings

METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "UPDATE", "REGISTER", "NOTIFY")
"Methods that are served here."
KNOWN = frozenset({*METHODS, "MESSAGE", "REFER", "PUBLISH", "SUBSCRIBE", "PRACK"})
"Methods that have a meaning; any other is answered 501, and one of these that is not served 405."
ACCEPT = "application/sdp"
UNDERSTOOD = frozenset({"timer", "path", "outbound", "norefersub", "tdialog"})
"Option tags that a Require may name: what they ask for is done, or nothing has to be done for it."


def allow(settings: ProfileSettings) -> str:
    return ", ".join(method for method in METHODS if method != "UPDATE" or settings.allow_update)


def supported(settings: ProfileSettings) -> str:
    tags = ["timer"] if settings.enable_timer else []
    tags += ["path"]
    if settings.enable_rfc_5626:
        tags.append("outbound")
    return ", ".join(tags)


def standing(settings: ProfileSettings) -> list[tuple[str, str]]:
    """The header fields in every answer of a profile, in mod_sofia's order."""
    agent = [("User-Agent", settings.user_agent)] if settings.user_agent else []
    return [*agent, ("Allow", allow(settings)), ("Supported", supported(settings))]
