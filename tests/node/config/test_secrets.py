import stat
from pathlib import Path

from node.config import secrets


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    first = secrets.ensure(tmp_path)
    assert set(first) == set(secrets.NAMES)
    assert secrets.ensure(tmp_path) == first


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    secrets.ensure(tmp_path)
    assert stat.S_IMODE((tmp_path / secrets.FILE).stat().st_mode) == 0o600


def test_each_run_directory_has_its_own(tmp_path: Path) -> None:
    assert secrets.ensure(tmp_path / "a") != secrets.ensure(tmp_path / "b")


def test_one_written_by_hand_is_kept_and_the_other_added(tmp_path: Path) -> None:
    (tmp_path / secrets.FILE).write_text("default_password=mine=really\n")
    kept = secrets.ensure(tmp_path)
    assert kept["default_password"] == "mine=really"
    assert len(kept["event_socket_password"]) >= 24
