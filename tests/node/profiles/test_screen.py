"""Who may call: access lists, digest, blind trust, in mod_sofia's order."""

from __future__ import annotations

import dataclasses

import pytest

from node.config import Configuration, load
from node.config.profile import InboundAcl
from node.directory import Directory
from node.events import Event, EventStream
from node.profiles.screen import Screen
from node.registrar.admission import Admission, Refusal
from node.sip import auth
from node.sip.errors import SipError
from node.sip.flow import Flow
from node.sip.message import Request, parse
from tests.node.rig import CONF, PASSWORD
from tests.support.sipmessage import digest

FLOW = Flow("internal", "UDP", ("127.0.0.1", 5060), ("203.0.113.9", 5062))
URI = "sip:1001@pbx.test"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    values = {
        "sip_ip": "127.0.0.1",
        "domain": "pbx.test",
        "default_password": PASSWORD,
        "event_socket_password": "unused",
    }
    return load(CONF, values, run_dir=tmp_path_factory.mktemp("run"))


def screen(loaded: Configuration, clock: Clock | None = None, **settings: object) -> Screen:
    """With these settings of the profile `internal`."""
    defaults: dict[str, object] = {"apply_inbound_acl": (), "apply_nat_acl": (), "auth_calls": True}
    internal = dataclasses.replace(loaded.profiles["internal"], **{**defaults, **settings})  # type: ignore[arg-type]
    configuration = dataclasses.replace(loaded, profiles={**loaded.profiles, "internal": internal})
    made = Screen(configuration, Directory(configuration.directory), events=EventStream(), clock=clock or Clock())
    made.set_secret(b"x" * 32)
    return made


def request(method: str = "INVITE", **fields: str) -> Request:
    values = {
        "Via": "SIP/2.0/UDP 203.0.113.9:5062;branch=z9hG4bKa",
        "From": "<sip:1000@pbx.test>;tag=f",
        "To": "<sip:1001@pbx.test>" if method == "INVITE" else "<sip:1000@pbx.test>",
        "Call-ID": "c",
        "CSeq": f"1 {method}",
        "Contact": "<sip:1000@203.0.113.9:5062>",
        **{name.replace("_", "-"): value for name, value in fields.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in values.items())
    parsed = parse(f"{method} {URI} SIP/2.0\r\n{lines}Content-Length: 0\r\n\r\n".encode())
    assert isinstance(parsed, Request)
    return parsed


def credentials(refusal: Admission | Refusal, password: str = PASSWORD, method: str = "INVITE") -> str:
    assert isinstance(refusal, Refusal)
    return digest(refusal.headers[0][1], "1000", password, method, URI)


def admitted(outcome: Admission | Refusal) -> Admission:
    assert isinstance(outcome, Admission), outcome
    return outcome


def refused(outcome: Admission | Refusal) -> int:
    assert isinstance(outcome, Refusal), outcome
    return outcome.status


def test_a_call_is_challenged_and_let_in(loaded: Configuration) -> None:
    gate = screen(loaded)
    first = gate.invite(request(), FLOW)
    assert refused(first) == 407
    admission = admitted(gate.invite(request(Proxy_Authorization=credentials(first)), FLOW))
    assert admission.user is not None
    assert admission.user.id == "1000"
    assert admission.variables["sip_authorized"] == "true"
    assert admission.variables["sip_auth_username"] == "1000"


def test_a_wrong_password_is_403(loaded: Configuration) -> None:
    gate = screen(loaded)
    given = credentials(gate.invite(request(), FLOW), "guess")
    assert refused(gate.invite(request(Proxy_Authorization=given), FLOW)) == 403


def test_an_old_nonce_is_stale(loaded: Configuration) -> None:
    clock = Clock()
    gate = screen(loaded, clock)
    given = credentials(gate.invite(request(), FLOW))
    clock.now += 1000
    again = gate.invite(request(Proxy_Authorization=given), FLOW)
    assert refused(again) == 407
    assert isinstance(again, Refusal)
    assert "stale=true" in again.headers[0][1]


def test_a_nonce_lives_as_long_as_the_registration(loaded: Configuration) -> None:
    clock = Clock()
    gate = screen(loaded, clock)
    first = gate.register(request("REGISTER", Expires="600"), FLOW)
    assert isinstance(first, Refusal)
    text = digest(first.headers[0][1], "1000", PASSWORD, "REGISTER", URI)
    assert admitted(gate.register(request("REGISTER", Expires="600", Authorization=text), FLOW)).digest
    clock.now += 500
    assert refused(gate.register(request("REGISTER", Expires="600", Authorization=text), FLOW)) == 401
    # The same count again was refused; the next one would have been taken, 500 s later.
    cut = text.replace("nc=00000001", "nc=00000002")
    assert refused(gate.register(request("REGISTER", Expires="600", Authorization=cut), FLOW)) == 403


def test_credentials_that_cannot_be_read_are_challenged_again(loaded: Configuration) -> None:
    assert refused(screen(loaded).invite(request(Proxy_Authorization="Digest nonsense"), FLOW)) == 407


def test_without_auth_calls_a_stranger_may_call(loaded: Configuration) -> None:
    assert admitted(screen(loaded, auth_calls=False).invite(request(), FLOW)).user is None


def test_an_access_list_lets_in_without_a_password(loaded: Configuration) -> None:
    gate = screen(loaded, apply_inbound_acl=(InboundAcl("203.0.113.0/24", "trusted"),))
    admission = admitted(gate.invite(request(), FLOW))
    assert admission.context == "trusted"
    assert admission.variables["sip_acl_authed_by"] == "203.0.113.0/24"


def test_an_access_list_that_fails_leads_to_the_digest(loaded: Configuration) -> None:
    gate = screen(loaded, apply_inbound_acl=(InboundAcl("192.0.2.0/24"),))
    assert refused(gate.invite(request(), FLOW)) == 407
    only = screen(loaded, apply_inbound_acl=(InboundAcl("192.0.2.0/24"),), auth_calls_acl_only=True)
    assert refused(only.invite(request(), FLOW)) == 403


def test_without_auth_calls_a_failed_list_is_403_or_another_context(loaded: Configuration) -> None:
    closed = screen(loaded, auth_calls=False, apply_inbound_acl=(InboundAcl("192.0.2.0/24"),))
    assert refused(closed.invite(request(), FLOW)) == 403
    named = screen(loaded, auth_calls=False, apply_inbound_acl=(InboundAcl("192.0.2.0/24", "", "strangers"),))
    assert admitted(named.invite(request(), FLOW)).context == "strangers"


def test_a_token_names_the_user(loaded: Configuration) -> None:
    acl = (InboundAcl("203.0.113.0/24"),)
    gate = screen(loaded, apply_inbound_acl=acl, apply_inbound_acl_x_token="X-User", auth_require_user=True)
    user = admitted(gate.invite(request(X_User="1002@pbx.test"), FLOW)).user
    assert user is not None
    assert user.id == "1002"
    assert refused(gate.invite(request(X_User="7777@pbx.test"), FLOW)) == 480


def test_a_trusted_proxy_tells_the_address_it_saw(loaded: Configuration) -> None:
    gate = screen(
        loaded, apply_inbound_acl=(InboundAcl("192.0.2.0/24"),), apply_proxy_acl=("203.0.113.9/32",), auth_calls=True
    )
    admission = admitted(gate.invite(request(X_AUTH_IP="192.0.2.55"), FLOW))
    assert admission.variables["sip_acl_authed_by"] == "192.0.2.0/24"
    assert refused(gate.invite(request(X_AUTH_IP="198.51.100.1"), FLOW)) == 407
    stranger = FLOW._replace(remote=("203.0.113.10", 5062))
    assert refused(gate.invite(request(X_AUTH_IP="192.0.2.55"), stranger)) == 407


def test_blind_trust_takes_the_user_of_from(loaded: Configuration) -> None:
    user = admitted(screen(loaded, accept_blind_auth=True).invite(request(), FLOW)).user
    assert user is not None
    assert user.id == "1000"
    strict = screen(loaded, accept_blind_auth=True, enforce_blind_auth_result=True, blind_auth_reply_403=True)
    assert refused(strict.invite(request(From="<sip:7777@pbx.test>;tag=f"), FLOW)) == 403


def test_a_call_from_our_own_socket_is_our_own(loaded: Configuration) -> None:
    gate = screen(loaded)
    gate.sockets = lambda: {FLOW.remote}
    assert admitted(gate.invite(request(), FLOW)).variables["sip_looped_call"] == "true"


def test_stronger_digests_are_offered_in_their_order(loaded: Configuration) -> None:
    gate = screen(loaded, auth_algorithms=("SHA-256", "MD5"))
    first = gate.invite(request(), FLOW)
    assert isinstance(first, Refusal)
    assert ["algorithm=SHA-256" in value for _name, value in first.headers] == [True, False]
    assert admitted(gate.invite(request(Proxy_Authorization=credentials(first)), FLOW)).digest


def test_both_nodes_take_each_others_nonces(loaded: Configuration) -> None:
    one, other = screen(loaded), screen(loaded)
    given = credentials(one.invite(request(), FLOW))
    assert admitted(other.invite(request(Proxy_Authorization=given), FLOW)).digest


def test_the_events_of_an_attempt_are_mod_sofias(loaded: Configuration) -> None:
    events = EventStream()
    events.want(["ALL"])
    seen: list[Event] = []
    events.listen(seen.append)
    gate = screen(loaded)
    gate.digest._events = events
    first = gate.register(request("REGISTER", Expires="300"), FLOW)
    assert isinstance(first, Refusal)
    given = digest(first.headers[0][1], "1000", PASSWORD, "REGISTER", URI)
    gate.register(request("REGISTER", Expires="300", Authorization=given), FLOW)
    assert [event.subclass for event in seen] == ["sofia::pre_register", "sofia::register_attempt"]
    names = [
        "profile-name",
        "from-user",
        "from-host",
        "contact",
        "call-id",
        "rpid",
        "status",
        "expires",
        "to-user",
        "to-host",
        "network-ip",
        "network-port",
    ]
    assert [name for name, _value in seen[0].headers] == [*names, "user-agent"]
    assert [name for name, _value in seen[1].headers] == [*names, "username", "realm", "user-agent", "auth-result"]
    assert dict(seen[1].headers)["auth-result"] == "RENEWED"
    assert dict(seen[0].headers)["contact"] == '"" <sip:1000@203.0.113.9:5062>'


def answered(
    value: str, method: str = "INVITE", *, uri: str = URI, nc: int = 1, body: bytes = b"", **other: str
) -> str:
    """Our own client's answer, for what the phone of the tests does not know."""
    return auth.answer(
        value, username="1000", password=other.get("password", PASSWORD), method=method, uri=uri, nc=nc, body=body
    )


def test_a_captured_request_is_not_taken_again(loaded: Configuration) -> None:
    for what, status in (("challenge", 407), ("forbid", 403)):
        gate = screen(loaded, replayed_nonce_count=what)
        given = credentials(gate.invite(request(), FLOW))
        assert admitted(gate.invite(request(Proxy_Authorization=given), FLOW)).digest
        elsewhere = FLOW._replace(remote=("198.51.100.66", 5060))
        assert refused(gate.invite(request(Proxy_Authorization=given), elsewhere)) == status


def test_a_replay_with_another_count_is_no_longer_right(loaded: Configuration) -> None:
    gate = screen(loaded)
    given = credentials(gate.invite(request(), FLOW))
    admitted(gate.invite(request(Proxy_Authorization=given), FLOW))
    counted = given.replace("nc=00000001", "nc=00000002")
    assert refused(gate.invite(request(Proxy_Authorization=counted), FLOW)) == 403


def test_a_replay_on_the_other_node_is_challenged(loaded: Configuration) -> None:
    clock = Clock()
    one, other = screen(loaded, clock), screen(loaded, clock)
    given = credentials(one.invite(request(), FLOW))
    admitted(one.invite(request(Proxy_Authorization=given), FLOW))
    clock.now += 33
    assert refused(other.invite(request(Proxy_Authorization=given), FLOW)) == 407


def test_a_body_is_protected_by_auth_int(loaded: Configuration) -> None:
    gate = screen(loaded, auth_qop="auth-int")
    first = gate.invite(request(), FLOW)
    assert isinstance(first, Refusal)
    challenge = first.headers[0][1]
    assert 'qop="auth-int"' in challenge
    good = request(Proxy_Authorization=answered(challenge, body=b"v=0"))
    good.body = b"v=0"
    assert admitted(gate.invite(good, FLOW)).digest
    forged = request(Proxy_Authorization=answered(challenge, body=b"v=0", nc=2))
    forged.body = b"v=1"
    assert refused(gate.invite(forged, FLOW)) == 403
    weaker = answered(challenge.replace("auth-int", "auth"), nc=3)
    assert refused(gate.invite(request(Proxy_Authorization=weaker), FLOW)) == 407


def test_auth_int_is_taken_where_it_was_not_asked_for(loaded: Configuration) -> None:
    gate = screen(loaded)
    first = gate.invite(request(), FLOW)
    assert isinstance(first, Refusal)
    given = answered(first.headers[0][1].replace('qop="auth"', 'qop="auth-int"'), body=b"")
    assert admitted(gate.invite(request(Proxy_Authorization=given), FLOW)).digest


@pytest.mark.parametrize("algorithm", ["MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512-256", "SHA-512-256-sess"])
def test_each_algorithm_that_is_offered_is_taken(loaded: Configuration, algorithm: str) -> None:
    gate = screen(loaded, auth_algorithms=(algorithm, "MD5"))
    first = gate.invite(request(), FLOW)
    assert isinstance(first, Refusal)
    assert [value.split("algorithm=")[1].split(",")[0] for _name, value in first.headers] == [algorithm, "MD5"]
    for nc in (1, 2):
        given = answered(first.headers[0][1], nc=nc)
        assert admitted(gate.invite(request(Proxy_Authorization=given), FLOW)).digest
    assert (
        refused(gate.invite(request(Proxy_Authorization=answered(first.headers[0][1], nc=3, password="x")), FLOW))
        == 403
    )


def test_an_algorithm_that_was_not_offered_is_403(loaded: Configuration) -> None:
    gate = screen(loaded, auth_algorithms=("SHA-256",))
    first = gate.invite(request(), FLOW)
    assert isinstance(first, Refusal)
    weaker = answered(first.headers[0][1].replace("SHA-256", "MD5"))
    assert refused(gate.invite(request(Proxy_Authorization=weaker), FLOW)) == 403


def test_the_uri_is_looked_at_where_that_is_asked_for(loaded: Configuration) -> None:
    for strict in (False, True):
        gate = screen(loaded, auth_check_uri=strict)
        first = gate.invite(request(), FLOW)
        assert isinstance(first, Refusal)
        same = answered(first.headers[0][1], uri="sip:%31001@PBX.test")
        assert admitted(gate.invite(request(Proxy_Authorization=same), FLOW)).digest
        other = request(Proxy_Authorization=answered(first.headers[0][1], uri="sip:1@elsewhere", nc=2))
        if not strict:
            assert admitted(gate.invite(other, FLOW)).digest
            continue
        with pytest.raises(SipError) as caught:
            gate.invite(other, FLOW)
        assert caught.value.status == 400


def test_credentials_for_a_proxy_on_the_way_are_passed_over(loaded: Configuration) -> None:
    gate = screen(loaded)
    given = credentials(gate.invite(request(), FLOW))
    foreign = answered('Digest realm="proxy", nonce="theirs", qop="auth"')
    both = request(Proxy_Authorization=f"{foreign}\r\nProxy-Authorization: {given}")
    assert admitted(gate.invite(both, FLOW)).digest


def test_a_registration_is_admitted_with_its_nonce(loaded: Configuration) -> None:
    gate = screen(loaded)
    first = gate.register(request("REGISTER"), FLOW)
    assert isinstance(first, Refusal)
    given = answered(first.headers[0][1], "REGISTER")
    admission = admitted(gate.register(request("REGISTER", Authorization=given), FLOW))
    assert (admission.nonce, admission.nonce_count) == (auth.terms(first.headers[0][1])[1], 1)


def test_a_realm_is_the_host_of_to_or_from_or_what_is_written(loaded: Configuration) -> None:
    for setting, realm in (("auto_to", "pbx.test"), ("auto_from", "from.test"), ("office", "office")):
        gate = screen(loaded, challenge_realm=setting)
        first = gate.invite(request(From="<sip:1000@from.test>;tag=f"), FLOW)
        assert isinstance(first, Refusal)
        assert first.headers[0][1].startswith(f'Digest realm="{realm}", ')
