"""The other node runs a newer release: what it wrote of a binding, and this one does not understand, outlives a refresh."""

from __future__ import annotations

from pathlib import Path

from store.backends import open_store
from store.interface import Outcome, Put, opened
from tests.node.rig import rig, until

NEWS = {"later": {"a": [1, 2]}}


def test_a_refresh_keeps_what_a_newer_release_has_written_of_the_binding(tmp_path: Path) -> None:
    with rig(tmp_path) as node, opened(open_store(f"sqlite://{node.run_dir / 'core.db'}")) as store:
        worker, phone = node.serve(), node.phone()
        assert phone.register().status == 200
        (record,) = store.registrations()
        worker.kill()
        record.beyond = NEWS
        record.version += 1
        assert store.commit([Put(record)]) == [Outcome.STORED]
        node.serve()
        assert phone.register().status == 200

        def refreshed() -> bool:
            (now,) = store.registrations()
            return now.version > record.version and now.beyond == NEWS

        until(refreshed)
