"""What a driver's complaint means; the texts are those that servers have given."""

from __future__ import annotations

import pytest

from store.errors import Crosswise, Full, ReadOnly, StoreError, Unavailable
from store.sql.refusals import refusal

MARIADB = "[ma-3.1.15][10.11.19-MariaDB-0+deb12u1]"


@pytest.mark.parametrize(
    ("server", "state", "text", "kind"),
    [
        ("PostgreSQL", "53100", 'ERROR: could not extend file "base/5/16388": No space left on device', Full),
        ("PostgreSQL", "58030", 'PANIC: could not write to file "pg_wal/xlogtemp.7": No space left on device', Full),
        ("PostgreSQL", "25006", "ERROR: cannot execute UPDATE in a read-only transaction;", ReadOnly),
        ("PostgreSQL", "40P01", "ERROR: deadlock detected;", Crosswise),
        ("PostgreSQL", "57P01", "FATAL: terminating connection due to administrator command", Unavailable),
        ("MariaDB", "HY000", f"{MARIADB}The table 'sip_registrations' is full (1114)", Full),
        (
            "MariaDB",
            "HY000",
            f"{MARIADB}Error writing file './ddl_recovery.log' (Errcode: 28 \"No space left on device\") (3)",
            Full,
        ),
        (
            "MariaDB",
            "HY000",
            f'{MARIADB}Got error 28 "No space left on device" from storage engine InnoDB (1030)',
            Full,
        ),
        ("MariaDB", "HY000", f"{MARIADB}The MariaDB server is running with the --read-only option (1290)", ReadOnly),
        ("MariaDB", "40001", f"{MARIADB}Deadlock found when trying to get lock; try restarting (1213)", Crosswise),
    ],
)
def test_a_complaint_is_of_the_right_kind(server: str, state: str, text: str, kind: type[StoreError]) -> None:
    error = refusal("the place", server, state, text)
    assert type(error) is kind
    assert str(error).startswith("the place: ")
    assert text in str(error)
