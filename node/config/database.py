"""DSNs, and the one database that a node has.

FreeSWITCH gives each profile a database of its own (`odbc-dsn`), beside that of the core. Here all rests in one, for one
lease and one fence guard it; so a profile's is taken when the core names none, and must be the core's when it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from node.config.complaints import Complaints, Place
from node.config.profile import ProfileSettings
from node.config.sections import SwitchSettings
from store.errors import UnknownStore
from store.redis import dsn as redis_dsn
from store.sql import dsn as sql_dsn

SCHEMES = (*sql_dsn.POSTGRESQL_SCHEMES, *sql_dsn.MARIADB_SCHEMES, "odbc", "sqlite", "memory")
SCHEMES_OF_OURS = redis_dsn.SCHEMES


def core_dsn(text: str) -> str:
    """A database: `scheme://...` or `dsn:user:pass`. Its text may hold a password and is not repeated."""
    scheme, parted, _rest = text.partition("://")
    if parted and scheme.lower() not in (*SCHEMES, *SCHEMES_OF_OURS):
        raise ValueError(f"has an unknown scheme {scheme!r}: there are {', '.join((*SCHEMES, *SCHEMES_OF_OURS))}")
    if text and not parted and not sql_dsn.is_server(text):
        raise ValueError("must be scheme://... or dsn:user:pass")
    return profile_dsn(text)


def profile_dsn(text: str) -> str:
    """The same; what is none of these is the name of a SQLite file, as FreeSWITCH takes it."""
    try:
        if redis_dsn.is_redis(text):
            redis_dsn.parse(text)
        elif sql_dsn.is_server(text):
            sql_dsn.target(text)
    except UnknownStore as error:
        raise ValueError(f"is wrong: {error}") from None
    return text


def one_database(
    switch: SwitchSettings,
    profiles: Mapping[str, ProfileSettings],
    places: Mapping[str, Place],
    complaints: Complaints,
) -> SwitchSettings:
    """The core's settings, with the database of the profiles where it names none itself. Places are those of the params."""
    for name, profile in profiles.items():
        own = profile.odbc_dsn
        if not _is_shared(own) or own == switch.core_db_dsn:
            continue
        if not switch.core_db_dsn:
            switch = replace(switch, core_db_dsn=own)
        else:
            complaints.warning(
                places[name],
                f"odbc-dsn of profile {name!r} is another database than that of the node, which alone is used: "
                "one fence guards what all profiles write",
            )
    return switch


def _is_shared(dsn: str) -> bool:
    return redis_dsn.is_redis(dsn) or sql_dsn.is_server(dsn)
