"""What the log does not show of variables and dial strings."""

from __future__ import annotations

from node.calls.secrecy import masked, without_secrets


def test_variables_that_name_a_password_are_masked() -> None:
    given = {
        "sip_auth_username": "us",
        "sip_auth_password": "s3cret",
        "current_application_data": "[sip_auth_password=s3cret]x",
    }
    assert "s3cret" not in str(masked(given))
    assert masked(given)["sip_auth_username"] == "us"


def test_a_dial_string_loses_its_passwords_and_nothing_else() -> None:
    text = "{a=b,sip_auth_password=s3cret,c=d}[sip_auth_password='s,3}cret']sofia/internal/1001@pbx.test"
    shown = without_secrets(text)
    assert shown == "{a=b,sip_auth_password=***,c=d}[sip_auth_password=***]sofia/internal/1001@pbx.test"
    assert "cret" not in without_secrets("sofia/internal/sip:u:s3cret@host")
    assert without_secrets(r"[sip_auth_password=s3\,cret,a=b]") == "[sip_auth_password=***,a=b]"
    assert without_secrets(r"[sip_auth_password='s3\'cret',a=b]") == "[sip_auth_password=***,a=b]"
