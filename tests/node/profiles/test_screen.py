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
    gate._events = events
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
