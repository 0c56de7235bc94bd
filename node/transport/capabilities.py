"""What this node says of itself in its messages."""

from __future__ import annotations

from node.config.profile import ProfileSettings

METHODS = (
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "OPTIONS",
    "MESSAGE",
    "INFO",
    "UPDATE",
    "REGISTER",
    "REFER",
    "NOTIFY",
    "PRACK",
)
"Methods that are served here, in mod_sofia's order."
KNOWN = frozenset({*METHODS, "PUBLISH", "SUBSCRIBE"})
"Methods that have a meaning; any other is answered 501, and one of these that is not served 405."
ACCEPT = "application/sdp"
EVENTS = "refer"
"Event packages that somebody may be subscribed to here: what a REFER makes."
UNDERSTOOD = frozenset({"path", "norefersub", "tdialog", "replaces"})
"Option tags that a Require may name on any profile: what they ask for is done, or nothing has to be done for it."


def serves(settings: ProfileSettings, method: str) -> bool:
    """Whether a method is served on a profile."""
    if method == "UPDATE":
        return settings.allow_update
    if method == "REFER":
        return not settings.disable_transfer
    if method == "PRACK":
        return settings.enable_100rel
    if method == "MESSAGE":
        return settings.enable_chat
    return method in METHODS


def understands(settings: ProfileSettings, tag: str) -> bool:
    """Whether a profile knows what an option tag in a Require asks for."""
    match tag.lower():
        case "100rel":
            return settings.enable_100rel
        case "timer":
            return settings.enable_timer
        case "outbound":
            return settings.enable_rfc_5626
        case low:
            return low in UNDERSTOOD


def allow(settings: ProfileSettings) -> str:
    """What is told of it. A REGISTER that is not wanted is 403, as in mod_sofia."""
    unwanted = {"REGISTER"} if settings.disable_register else set()
    return ", ".join(method for method in METHODS if serves(settings, method) and method not in unwanted)


def supported(settings: ProfileSettings) -> str:
    tags = ["100rel"] if settings.enable_100rel else []
    if settings.enable_timer:
        tags.append("timer")
    tags += ["path", "replaces"]
    if settings.enable_rfc_5626:
        tags.append("outbound")
    return ", ".join(tags)


def standing(settings: ProfileSettings) -> list[tuple[str, str]]:
    """The header fields in every answer of a profile, in mod_sofia's order."""
    agent = [("User-Agent", settings.user_agent)] if settings.user_agent else []
    return [*agent, ("Allow", allow(settings)), ("Supported", supported(settings))]


def standing_lines(settings: ProfileSettings) -> str:
    """The same, ready to be sent: each line ended by CRLF."""
    return "".join([f"{name}: {value}\r\n" for name, value in standing(settings)])
