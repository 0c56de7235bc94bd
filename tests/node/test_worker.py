"""The worker process: promotion, registration, the end of a worker and its successor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.rig import Rig, rig


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


def test_a_promoted_worker_registers_a_phone(node: Rig) -> None:
    node.serve()
    phone = node.phone()
    answer = phone.register()
    assert answer.status == 200, answer
    assert answer.get("Contact") == f"<sip:1000@127.0.0.1:{phone.port}>;expires=300"
    assert answer.get("Date").endswith("GMT")
