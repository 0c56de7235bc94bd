"""User names that come hashed (RFC 7616 3.4.4): whose they are, and who may ask."""

from __future__ import annotations

import pytest

from node.config.directory import DirectorySection, DomainSection, GroupSection, UserSection
from node.directory import Directory
from node.profiles.userhash import HiddenNames
from node.registrar.admission import Refusal
from node.sip import auth
from node.sip.auth import Credentials
from tests.node.profiles.test_screen import (  # noqa: F401
    FLOW,
    URI,
    admitted,
    loaded,
    refused,
    request,
    screen,
)
from tests.node.rig import PASSWORD

NOBODY = "<sip:anonymous@pbx.test>;tag=f"


def hiding(challenge: str, method: str = "INVITE", *, user: str = "1000", password: str = PASSWORD, nc: int = 1) -> str:
    """The credentials of a client that hides its name, whether or not it was told that it may."""
    text = challenge if "userhash" in challenge else f"{challenge}, userhash=true"
    return auth.answer(text, username=user, password=password, method=method, uri=URI, nc=nc)


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "SHA-512-256", "SHA-256-sess"])
@pytest.mark.parametrize("caller", ["<sip:1000@pbx.test>;tag=f", NOBODY])
def test_who_hides_its_name_is_known_all_the_same(loaded, algorithm: str, caller: str) -> None:  # type: ignore[no-untyped-def] # noqa: F811
    gate = screen(loaded, auth_algorithms=(algorithm,), auth_userhash=True)
    first = gate.invite(request(From=caller), FLOW)
    assert isinstance(first, Refusal)
    assert first.headers[0][1].endswith("userhash=true")
    given = hiding(first.headers[0][1])
    assert '"1000"' not in given
    outcome = admitted(gate.invite(request(From=caller, Proxy_Authorization=given), FLOW))
    assert outcome.user is not None
    assert (outcome.user.id, outcome.username, outcome.digest) == ("1000", "1000", True)
    assert outcome.variables["sip_auth_username"] == "1000"


def test_a_registration_with_a_hidden_name_must_be_for_that_name_where_names_must_match(loaded) -> None:  # type: ignore[no-untyped-def] # noqa: F811
    gate = screen(loaded, inbound_reg_force_matching_username=True)
    first = gate.register(request("REGISTER"), FLOW)
    assert isinstance(first, Refusal)
    given = hiding(first.headers[0][1], "REGISTER")
    assert admitted(gate.register(request("REGISTER", Authorization=given), FLOW)).username == "1000"
    others = hiding(first.headers[0][1], "REGISTER", user="1001", nc=2)
    assert refused(gate.register(request("REGISTER", Authorization=others), FLOW)) == 403


def test_a_hash_of_nobody_or_a_wrong_password_is_403(loaded) -> None:  # type: ignore[no-untyped-def] # noqa: F811
    gate = screen(loaded)
    first = gate.invite(request(), FLOW)
    assert isinstance(first, Refusal)
    assert "userhash" not in first.headers[0][1]
    for nc, wrong in enumerate(({"user": "nobody"}, {"password": "guessed"}), 1):
        given = hiding(first.headers[0][1], nc=nc, **wrong)
        assert refused(gate.invite(request(Proxy_Authorization=given), FLOW)) == 403


def test_names_are_hashed_for_realms_of_ours_only() -> None:
    users = (UserSection(id="1000", number_alias="ann"), UserSection(id="1001"))
    section = DirectorySection(domains=(DomainSection(name="pbx.test", groups=(GroupSection(users=users),)),))
    names = HiddenNames(Directory(section))

    def find(name: str, realm: str, *likely: str) -> str | None:
        hidden = Credentials(auth.hashed(name, realm), realm, "n", "u", "r", userhash=True)
        return names.find(hidden, "pbx.test", likely, ("ours",))

    assert find("1001", "pbx.test") == find("1001", "ours") == "1001"
    assert find("ann", "PBX.test") == "ann"
    assert find("1001", "theirs") is None
    assert find("1001", "theirs", "1000", "1001") == "1001"
    assert find("nobody", "pbx.test") is None
