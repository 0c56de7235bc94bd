"""Secrets of a node that nobody has set: made at random, once, kept in its run directory, never shipped.

They stand below everything the tree says: a `set` line of the same name wins over them, `--set` over both.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

FILE = "secrets"
NAMES = ("default_password", "event_socket_password")
"The variables of `conf/vars.xml` that a node makes up when they are not set."


def ensure(run_dir: Path) -> Mapping[str, str]:
    """The secrets of this run directory, made at the first call. The file is readable by its owner only."""
    run_dir.mkdir(parents=True, exist_ok=True)
    file = run_dir / FILE
    kept = _read(file)
    missing = [name for name in NAMES if name not in kept]
    if missing:
        kept.update((name, secrets.token_urlsafe(18)) for name in missing)
        _write(file, kept)
        kept = _read(file)
    return kept


def placeholder() -> Mapping[str, str]:
    """For a check without a run directory: as good as the real ones, and gone with the process."""
    return {name: secrets.token_urlsafe(18) for name in NAMES}


def _read(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}


def _write(file: Path, kept: Mapping[str, str]) -> None:
    """All or nothing, and never readable by others, not even for a moment."""
    fresh = file.with_name(f"{FILE}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.writelines(f"{name}={value}\n" for name, value in kept.items())
    if file.exists():
        os.replace(fresh, file)
        return
    try:
        # A link, not a rename: if another process was faster, its secrets are the ones that all use.
        os.link(fresh, file)
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
