"""The params of digest and registrar that mod_sofia has not."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import check
from tests.node.config.test_profile import param, read
from tests.node.config.tree import plant, profile

VALUES = [
    ("auth-algorithms", "MD5,SHA-256-sess", "auth_algorithms", ("MD5", "SHA-256-sess")),
    ("auth-algorithms", "sha512-256, md5", "auth_algorithms", ("SHA-512-256", "MD5")),
    ("auth-qop", "auth,auth-int", "auth_qop", "auth,auth-int"),
    ("auth-check-uri", "true", "auth_check_uri", True),
    ("replayed-nonce-count", "forbid", "replayed_nonce_count", "forbid"),
    ("flow-timer", "120", "flow_timer", 120),
    ("service-route", "sip:edge.test;lr", "service_route", ("<sip:edge.test;lr>",)),
    ("service-route", "&lt;sip:edge.test;lr&gt;", "service_route", ("<sip:edge.test;lr>",)),
]


@pytest.mark.parametrize(("name", "text", "field", "value"), VALUES)
def test_a_param_fills_its_field(tmp_path: Path, name: str, text: str, field: str, value: object) -> None:
    assert getattr(read(tmp_path, param(name, text)), field) == value


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("auth-algorithms", "MD4", "does not know 'MD4'"),
        ("auth-algorithms", "MD5-session", "does not know 'MD5-session'"),
        ("auth-qop", "none", "must be auth, auth-int"),
        ("replayed-nonce-count", "maybe", "must be challenge, forbid"),
        ("flow-timer", "soon", "must be"),
        ("service-route", "edge.test", "must be a SIP URI"),
        ("service-route", "sip:edge.test", "must be the URI of a loose router"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    plant(tmp_path, {"sip_profiles/internal.xml": profile("internal", param(name, text))})
    (complaint,) = [str(each) for each in check(tmp_path) if name in str(each)]
    assert "sip_profiles/internal.xml:5: " in complaint
    assert sentence in complaint


def test_several_service_routes_add_up(tmp_path: Path) -> None:
    settings = read(tmp_path, param("service-route", "sip:a;lr"), param("service-route", "sip:b;lr"))
    assert settings.service_route == ("<sip:a;lr>", "<sip:b;lr>")
