"""What is said of certificates before anybody needs them: with file and line, and without stopping the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.config import check, load
from node.config.certificates import by_server_name, key_pair
from tests.node.config.tree import plant, profile
from tests.support.certificates import Authority


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def certs(tmp_path: Path, authority: Authority) -> Path:
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "agent.pem").write_text(authority.issue("a.test"))
    (folder / "wss.pem").write_text(authority.issue("a.test"))
    return folder


def param(name: str, value: str) -> str:
    return f'<param name="{name}" value="{value}"/>'


def said(tmp_path: Path, certs: Path, *more: tuple[str, str]) -> list[str]:
    """The complaints of `sofia-node check`, without the folder. The params are one a line, `tls` the first."""
    params = [("tls", "true"), ("wss-binding", ":7443"), ("tls-cert-dir", str(certs)), *more]
    plant(tmp_path, {"sip_profiles/internal.xml": profile("internal", *(param(*each) for each in params))})
    complaints = check(tmp_path)
    assert all(complaint.severity == "warning" for complaint in complaints)
    load(tmp_path)
    return [str(complaint).replace(f"{tmp_path}/", "") for complaint in complaints]


def line_of(tmp_path: Path, name: str) -> str:
    text = (tmp_path / "sip_profiles/internal.xml").read_text().splitlines()
    return next(str(number) for number, line in enumerate(text, 1) if f'name="{name}"' in line)


def test_good_certificates_are_taken_without_a_word(tmp_path: Path, certs: Path) -> None:
    assert said(tmp_path, certs) == []


def test_a_file_that_is_missing_is_named_with_the_line_that_wants_it(tmp_path: Path, certs: Path) -> None:
    (certs / "agent.pem").unlink()
    found = said(tmp_path, certs)
    line = line_of(tmp_path, "tls")
    assert found == [
        f"sip_profiles/internal.xml:{line}: TLS does not start: certs/agent.pem: No such file or directory"
    ]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "there is no CERTIFICATE in it"),
        ("-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "its CERTIFICATE is no base64"),
        ("-----BEGIN CERTIFICATE-----\nAB\xffC\n-----END CERTIFICATE-----\n", "its CERTIFICATE is no base64"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "there is no PRIVATE KEY in it"),
    ],
)
def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path, certs: Path, text: str, why: str) -> None:
    (certs / "wss.pem").write_text(text)
    found = said(tmp_path, certs)
    line = line_of(tmp_path, "wss-binding")
    assert found == [f"sip_profiles/internal.xml:{line}: WSS does not start: certs/wss.pem: {why}"]
    assert [str(each).partition(": ")[2] for each in load(tmp_path).warnings] == [
        f"WSS does not start: {certs / 'wss.pem'}: {why}"
    ]


def test_a_key_of_another_certificate_is_found_out(tmp_path: Path, certs: Path, authority: Authority) -> None:
    one, other = authority.issue("a.test"), authority.issue("b.test")
    key, _end, _rest = one.partition("-----BEGIN CERTIFICATE-----")
    (certs / "agent.pem").write_text(key + other[other.index("-----BEGIN CERTIFICATE-----") :])
    assert said(tmp_path, certs)[0].endswith("TLS does not start: certs/agent.pem: the key is not the certificate's")


def test_a_wrong_passphrase_is_found_out(tmp_path: Path, certs: Path, authority: Authority) -> None:
    (certs / "agent.pem").write_text(authority.issue("a.test", passphrase="open sesame"))
    assert said(tmp_path, certs, ("tls-passphrase", "open sesame")) == []
    found = said(tmp_path, certs, ("tls-passphrase", "open barley"))
    assert found[0].endswith(
        "certs/agent.pem: it cannot be read; if the key is encrypted, tls-passphrase does not open it"
    )
    assert "barley" not in "".join(found)


def test_who_verifies_needs_to_know_whom_to_trust(tmp_path: Path, certs: Path, authority: Authority) -> None:
    (found,) = said(tmp_path, certs, ("tls-verify-policy", "in|out"))
    line = line_of(tmp_path, "tls-verify-policy")
    assert found.startswith(f"sip_profiles/internal.xml:{line}: TLS does not start: certs/cafile.pem is not there")
    (certs / "cafile.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "certs/cafile.pem" in said(tmp_path, certs, ("tls-verify-policy", "in"))[0]
    (certs / "cafile.pem").write_text(authority.text)
    assert said(tmp_path, certs, ("tls-verify-policy", "in")) == []


def test_ciphers_that_nobody_has_are_found_out(tmp_path: Path, certs: Path) -> None:
    assert "names no cipher that OpenSSL has: 'ROT13'" in said(tmp_path, certs, ("tls-ciphers", "ROT13"))[0]


def test_a_certificate_of_a_server_name_is_looked_at_too(tmp_path: Path, certs: Path) -> None:
    (certs / "agent.b.test.pem").write_text("nothing")
    assert "certs/agent.b.test.pem: there is no CERTIFICATE in it" in said(tmp_path, certs)[0]


def test_the_names_of_the_files_say_what_they_are_for(tmp_path: Path) -> None:
    for name in ("agent.B.test.pem", "agent._.c.test.pem", "wss.b.test.pem", "agent.pem", "wss.crt", "other.pem"):
        (tmp_path / name).touch()
    assert set(by_server_name(tmp_path, "TLS")) == {"b.test", "*.c.test"}
    assert set(by_server_name(tmp_path, "WSS")) == {"b.test"}
    assert key_pair(tmp_path, "TLS").certificate.name == "agent.pem"
    # Half a pair is none; without wss.pem the certificate of TLS serves.
    assert key_pair(tmp_path, "WSS").certificate.name == "agent.pem"
    (tmp_path / "wss.key").touch()
    assert (key_pair(tmp_path, "WSS").certificate.name, key_pair(tmp_path, "WSS").key.name) == ("wss.crt", "wss.key")
    (tmp_path / "agent.pem").unlink()
    (tmp_path / "tls.pem").touch()
    assert key_pair(tmp_path, "TLS").certificate.name == "tls.pem"


def test_transports_follow_from_the_params(tmp_path: Path, certs: Path) -> None:
    said(tmp_path, certs, ("ws-binding", "[::1]:5066"), ("tls-only", "true"), ("stream-idle-timeout", "77"))
    settings = load(tmp_path).profiles["internal"]
    assert settings.transports == ("tls", "ws", "wss")
    assert settings.streams.idle_timeout == 77
    assert settings.tls_bind_url.endswith(":5061;transport=tls")
    said(tmp_path, certs, ("tls-bind-params", "lr"), ("tls-sip-port", "5099"))
    settings = load(tmp_path).profiles["internal"]
    assert settings.transports == ("udp", "tcp", "tls", "wss")
    assert settings.tls_bind_url.endswith(":5099;lr;transport=tls")


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("tls-bind-params", "transport=udp", "cannot name another transport than tls: 'transport=udp'"),
        ("stream-max-unsent", "100", "must be 65535 or more, not 100"),
        ("stream-idle-timeout", "0", "must be 1 or more, not 0"),
        ("tls-verify-policy", "in|sometimes", "does not know 'sometimes'"),
        ("tls-version", "tlsv9", "does not know 'tlsv9'"),
        ("ws-binding", "5066", "must be host:port, not '5066'"),
    ],
)
def test_wrong_values_are_errors(tmp_path: Path, certs: Path, name: str, value: str, why: str) -> None:
    plant(tmp_path, {"sip_profiles/internal.xml": profile("internal", param(name, value))})
    errors = [str(each) for each in check(tmp_path) if each.severity == "error"]
    assert len(errors) == 1
    assert f"{name} {why}" in errors[0]
