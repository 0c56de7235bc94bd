"""What the log does not show of variables and dial strings."""

from __future__ import annotations

import pytest

from node.calls.secrecy import masked, without_secrets
from tests.node.calls.rig import Cast, Rig, extension
from tests.node.calls.scene import happens, play


def test_variables_that_name_a_password_are_masked() -> None:
    given = {
        "sip_auth_username": "us",
        "sip_auth_password": "s3cret",
        "current_application_data": "[sip_auth_password=s3cret]x",
    }
    assert "s3cret" not in str(masked(given))
    assert masked(given)["sip_auth_username"] == "us"


@pytest.mark.parametrize("secret", ["us:s3cret", "s3cret", ":s3cret", "us:s3/c@ret", "us:s3%20cret", "us:"])
def test_a_url_loses_its_credentials_and_nothing_else(secret: str) -> None:
    text = f"cannot play https://{secret}@media.test:8443/a.wav!b@c.wav"
    assert without_secrets(text.partition("!")[0]) == "cannot play https://***@media.test:8443/a.wav"
    assert "cret" not in without_secrets(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://media.test:8443/a.wav",
        "tone_stream://%(200,0,400)",
        "/sounds/to@bob.wav",
        "http://media.test/to@bob.wav",
    ],
)
def test_what_has_no_credentials_is_shown_as_it_is(text: str) -> None:
    assert without_secrets(text) == text


def test_what_cannot_be_played_is_named_without_its_credentials(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        await happens(ours.ended)

    play(scene, extension("7000", ("answer", ""), ("playback", "https://us:s3cret@media.test/a.wav")))
    (line,) = (each.getMessage() for each in caplog.records if "cannot play" in each.getMessage())
    assert "['https://***@media.test/a.wav']: unknown kind of source 'https://***@media.test/a.wav'" in line
    assert "cret" not in caplog.text


def test_a_dial_string_loses_its_passwords_and_nothing_else() -> None:
    text = "{a=b,sip_auth_password=s3cret,c=d}[sip_auth_password='s,3}cret']sofia/internal/1001@pbx.test"
    shown = without_secrets(text)
    assert shown == "{a=b,sip_auth_password=***,c=d}[sip_auth_password=***]sofia/internal/1001@pbx.test"
    assert "cret" not in without_secrets("sofia/internal/sip:u:s3cret@host")
    assert without_secrets(r"[sip_auth_password=s3\,cret,a=b]") == "[sip_auth_password=***,a=b]"
    assert without_secrets(r"[sip_auth_password='s3\'cret',a=b]") == "[sip_auth_password=***,a=b]"
