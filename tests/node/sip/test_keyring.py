from __future__ import annotations

import pytest

from node.sip import auth, compose
from node.sip.auth import Credentials, verify
from node.sip.keyring import ANSWERS, NONCES, Key, Keyring, again, challenged_realms
from node.sip.message import Request, Response, parse

ALICE = Key("alice", "secret")


def asked(body: bytes = b"", *headers: tuple[str, str]) -> Request:
    return compose.request(
        "INVITE",
        "sip:bob@b.test",
        from_="<sip:a@a>;tag=1",
        to="<sip:b@b>",
        call_id="c",
        cseq=7,
        headers=headers,
        body=body,
    )


def refusal(*challenges: str, status: int = 401, proxy: tuple[str, ...] = ()) -> Response:
    fields = "".join(f"WWW-Authenticate: {text}\r\n" for text in challenges)
    fields += "".join(f"Proxy-Authenticate: {text}\r\n" for text in proxy)
    head = (
        f"SIP/2.0 {status} No\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>;tag=2\r\n"
    )
    parsed = parse(f"{head}Call-ID: c\r\nCSeq: 7 INVITE\r\n{fields}\r\n".encode())
    assert isinstance(parsed, Response)
    return parsed


def offered(realm: str = "b.test", nonce: str = "n1", algorithm: str = "MD5", qop: str = "auth", more: str = "") -> str:
    return f'Digest realm="{realm}", nonce="{nonce}",{more} algorithm={algorithm}, qop="{qop}"'


def given(headers: list[tuple[str, str]] | None) -> list[Credentials]:
    assert headers is not None
    return [Credentials.parse(value) for _name, value in headers]


def test_the_strongest_of_one_realm_is_answered() -> None:
    for order in ((0, 1, 2), (2, 1, 0)):
        challenges = [offered(algorithm=name, nonce=name) for name in ("MD5", "SHA-256", "SHA-512-256")]
        (one,) = given(Keyring([ALICE]).answer(asked(), refusal(*[challenges[index] for index in order])))
        assert one.algorithm == "SHA-512-256"
        assert verify(one, "INVITE", password="secret")


def test_www_and_proxy_challenges_are_answered_in_their_own_fields() -> None:
    made = Keyring([ALICE]).answer(asked(), refusal(offered("peer"), proxy=(offered("one"), offered("two"))))
    assert made is not None
    assert [(name, Credentials.parse(value).realm) for name, value in made] == [
        ("Authorization", "peer"),
        ("Proxy-Authorization", "one"),
        ("Proxy-Authorization", "two"),
    ]


def test_counts_grow_with_each_use_of_a_nonce() -> None:
    keys = Keyring([ALICE])
    first = given(keys.answer(asked(), refusal(offered(nonce="x"))))[0]
    second = given(keys.answer(asked(), refusal(offered(nonce="x"))))[0]
    other = given(keys.answer(asked(), refusal(offered(nonce="y"))))[0]
    assert [each.nc for each in (first, second, other)] == ["00000001", "00000002", "00000001"]
    assert first.cnonce == second.cnonce != other.cnonce
    assert given(keys.prepared("BYE", "sip:bob@b.test"))[0].nc == "00000002"


def test_the_memory_of_nonces_is_bounded() -> None:
    keys = Keyring([ALICE])
    for number in range(100):
        keys.answer(asked(), refusal(offered(nonce=str(number))))
    assert len(keys._nonces) == NONCES


def test_auth_int_is_used_where_nothing_else_is_offered() -> None:
    (one,) = given(Keyring([ALICE]).answer(asked(b"v=0"), refusal(offered(qop="auth-int"))))
    assert one.qop == "auth-int"
    assert verify(one, "INVITE", password="secret", body=b"v=0")
    assert not verify(one, "INVITE", password="secret", body=b"v=1")
    (one,) = given(Keyring([ALICE]).answer(asked(b"v=0"), refusal(offered(qop="auth-int,auth"))))
    assert one.qop == "auth"


def test_a_key_for_a_realm_is_for_no_other() -> None:
    keys = Keyring([Key("alice", "secret", "B.test"), Key("al", "other", "proxy.test")])
    made = given(keys.answer(asked(), refusal(offered("b.test"), proxy=(offered("proxy.test"), offered("evil.test")))))
    assert [(each.username, each.realm) for each in made] == [("alice", "b.test"), ("al", "proxy.test")]
    assert keys.answer(asked(), refusal(offered("evil.test"))) is None


@pytest.mark.parametrize(
    "challenge", ["Basic realm=x", 'Digest realm="x"', offered(algorithm="MD4"), offered(qop="other"), "Digest", ""]
)
def test_what_cannot_be_answered_is_not(challenge: str) -> None:
    assert Keyring([ALICE]).answer(asked(), refusal(challenge)) is None
    assert Keyring([]).answer(asked(), refusal(offered())) is None


def test_refused_credentials_are_not_sent_again_but_a_stale_nonce_is_replaced() -> None:
    keys = Keyring([ALICE])
    first = keys.answer(asked(), refusal(offered()))
    assert first is not None
    second = asked(b"", *first)
    assert keys.answer(second, refusal(offered(nonce="n2")), 1) is None
    made = given(keys.answer(second, refusal(offered(nonce="n2", more=" stale=true,")), 1))
    assert [each.nonce for each in made] == ["n2"]


def test_a_server_that_always_finds_the_nonce_stale_is_left() -> None:
    keys = Keyring([ALICE])
    request, answers = asked(), 0
    while True:
        made = keys.answer(request, refusal(offered(nonce=f"n{answers}", more=" stale=true,")), answers)
        if made is None:
            break
        request, answers = again(request, made, request.cseq.number + 1), answers + 1
    assert answers == ANSWERS
    assert request.cseq.number == 7 + ANSWERS


def test_what_a_proxy_was_told_is_told_again_when_the_peer_asks() -> None:
    keys = Keyring([ALICE])
    first = keys.answer(asked(), refusal(status=407, proxy=(offered("proxy", "p"),)))
    assert first is not None
    second = again(asked(), first, 8)
    made = keys.answer(second, refusal(offered("peer", "w")), 1)
    assert made is not None
    third = again(second, made, 9)
    assert [(each.realm, each.nc) for each in given(made)] == [("proxy", "00000002"), ("peer", "00000001")]
    assert len(third.headers("Proxy-Authorization")) == len(third.headers("Authorization")) == 1
    assert third.cseq.number == 9
    assert third.header("Call-ID") == "c"
    assert keys.answer(third, refusal(offered("peer", "w2")), 2) is None


def test_the_realms_that_asked_are_told() -> None:
    assert challenged_realms(refusal(offered("b"), offered("a"), "Basic realm=x")) == ["a", "b"]


def test_an_answer_is_what_the_server_expects() -> None:
    made = Keyring([ALICE]).answer(asked(), refusal(auth.challenge("b.test", "n", algorithm="SHA-256-sess")))
    assert verify(given(made)[0], "INVITE", password="secret")
