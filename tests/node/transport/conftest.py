"""Certificates for the tests of connections."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def certificates(tmp_path: Path, authority: Authority) -> Path:
    (tmp_path / "agent.pem").write_text(authority.issue("a.test", "sip:pbx.test"))
    (tmp_path / "wss.pem").write_text(authority.issue("web.test"))
    (tmp_path / "cafile.pem").write_text(authority.text)
    return tmp_path
