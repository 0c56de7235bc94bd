from __future__ import annotations

from pathlib import Path

import pytest

from node.config import check, load
from tests.node.config.tree import configuration, plant, profile

PASSWORD = "hunter2-hunter2"
CORE = f"pgsql://hostaddr=192.0.2.9 dbname=sip user=bob password={PASSWORD}"
OTHER = f"mariadb://Server=192.0.2.9;Database=sip;Uid=bob;Pwd={PASSWORD};"


def tree(folder: Path, *, core: str = "", own: str = "", second: str = "") -> Path:
    """A tree whose core, and whose two profiles, name these databases; the params stand on line 3 and line 5."""

    def named(param: str, dsn: str) -> list[str]:
        return [f'<param name="{param}" value="{dsn}"/>'] if dsn else []

    return plant(
        folder,
        {
            "autoload_configs/switch.conf.xml": configuration("switch.conf", *named("core-db-dsn", core)),
            "sip_profiles/internal.xml": profile("internal", *named("odbc-dsn", own)),
            "sip_profiles/zexternal.xml": profile("zexternal", *named("odbc-dsn", second), port=5080),
        },
    )


@pytest.mark.parametrize(
    "dsn",
    [CORE, OTHER, f"odbc://source:bob:{PASSWORD}", f"source:bob:{PASSWORD}", f"postgresql://bob:{PASSWORD}@db/sip"],
)
def test_every_form_is_taken_from_the_core_or_else_from_a_profile(tmp_path: Path, dsn: str) -> None:
    for folder, where in (("core", {"core": dsn}), ("own", {"own": dsn}), ("both", {"own": dsn, "second": dsn})):
        loaded = load(tree(tmp_path / folder, **where))
        assert loaded.switch.database == dsn
        assert loaded.warnings == ()


def test_a_profile_may_name_a_file_as_ever(tmp_path: Path) -> None:
    loaded = load(tree(tmp_path, own="sofia_reg_internal"))
    assert loaded.switch.database == "core"
    assert loaded.warnings == ()


def test_a_profile_with_another_database_is_told_that_it_is_not_used(tmp_path: Path) -> None:
    for folder, where in (("core", {"core": CORE, "second": OTHER}), ("own", {"own": CORE, "second": OTHER})):
        loaded = load(tree(tmp_path / folder, **where))
        assert loaded.switch.database == CORE
        (warning,) = map(str, loaded.warnings)
        assert "sip_profiles/zexternal.xml:5: " in warning
        assert "odbc-dsn of profile 'zexternal' is another database than that of the node" in warning
        assert PASSWORD not in warning


@pytest.mark.parametrize(
    ("dsn", "wrong"),
    [
        (f"pgsql://host=db password='{PASSWORD}", "cannot be read behind 'host'"),
        (f"postgresql://bob:{PASSWORD}@db:port/sip", "has a host that cannot be read"),
        (f"mariadb://Server=db;Uid=bob;Pwd={PASSWORD};", "names no database"),
        (f"odbc://:bob:{PASSWORD}", "names no data source"),
    ],
)
def test_what_cannot_be_read_is_named_by_its_line_and_without_its_password(
    tmp_path: Path, dsn: str, wrong: str
) -> None:
    for folder, where, place in (
        ("core", {"core": dsn}, "autoload_configs/switch.conf.xml:3: "),
        ("own", {"own": dsn}, "sip_profiles/internal.xml:5: "),
    ):
        (complaint,) = map(str, check(tree(tmp_path / folder, **where)))
        assert place in complaint
        assert wrong in complaint
        assert PASSWORD not in complaint
