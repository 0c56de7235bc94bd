"""What the directory says about one user's registrations, read once for each user."""

from __future__ import annotations

from dataclasses import dataclass

from node.directory import User


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRules:
    """Variables and params of a user, by their effect; empty or 0 where there is none."""

    forced_user: str = ""
    forced_extension: str = ""
    forced_contact: str = ""
    expires: int = 0
    expires_min: int = 0
    expires_max: int = 0
    spread: int = 0
    single: bool = False
    "`sip-allow-multiple-registrations` is false."
    limit: int = 0
    "`max-registrations-per-extension`."
    mailbox: str = ""
    mail_host: str = ""
    metadata: str = ""
    force_ping: int = 0


NONE = UserRules()


class Rulebook:
    """The rules of the users that have been here."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[User, UserRules]] = {}

    def of(self, user: User | None) -> UserRules:
        if user is None:
            return NONE
        known = self._known.get(id(user))
        if known is None or known[0] is not user:
            rules = read(user)
            known = self._known[id(user)] = user, NONE if rules == NONE else rules
        return known[1]


def read(user: User) -> UserRules:
    mailbox, _, mail_host = _named(user, "mwi-account").partition("@")
    return UserRules(
        forced_user=_named(user, "sip-force-user"),
        forced_extension=_named(user, "sip-force-extension"),
        forced_contact=_named(user, "sip-force-contact"),
        expires=_number(user, "sip-force-expires"),
        expires_min=_number(user, "sip-force-expires-min"),
        expires_max=_number(user, "sip-force-expires-max"),
        spread=_number(user, "sip-expires-max-deviation"),
        single=_named(user, "sip-allow-multiple-registrations").lower() in ("false", "no", "off", "0"),
        limit=_number(user, "max-registrations-per-extension"),
        mailbox=mailbox,
        mail_host=mail_host,
        metadata=_named(user, "registration_metadata"),
        force_ping=int(_named(user, "force_ping").lower() in ("true", "yes", "on", "1")),
    )


def _named(user: User, name: str) -> str:
    """The variable, else the param of that name."""
    return user.variables.get(name) or user.params.get(name) or ""


def _number(user: User, name: str) -> int:
    text = _named(user, name)
    return int(text) if text.isdigit() else 0
