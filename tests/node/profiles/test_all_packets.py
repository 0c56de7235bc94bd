"""`auth-all-packets` over a socket: whoever called must be who speaks in its call, with a successor too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from node.sip import auth
from tests.node.registrar.test_registrar import configured
from tests.node.rig import PASSWORD, PhoneLine, Rig, media_process, rig
from tests.support.sipmessage import Sip, digest, uri_of

OFFER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
    "a=rtpmap:0 PCMU/8000\r\n"
)


@contextlib.contextmanager
def demanding(run_dir: Path, *, on: bool = True) -> Iterator[Rig]:
    """A node with its media process."""
    with rig(run_dir) as node, media_process(node):
        yield configured(node, auth_all_packets=on, auth_calls=True, apply_inbound_acl=())


def calling(phone: PhoneLine) -> Sip:
    """1000 calls 9196, which answers, with its password; the 200."""
    fields = {"To": "<sip:9196@pbx.test>", "Content-Type": "application/sdp"}

    def invite(**more: str) -> Sip:
        request = phone.request("INVITE", "sip:9196@pbx.test", **{**fields, **more})
        request.body = OFFER
        return request

    challenge = phone.ask(invite())
    assert challenge.status == 407
    value = digest(challenge.get("Proxy-Authenticate"), phone.user, PASSWORD, "INVITE", "sip:9196@pbx.test")
    answer = phone.ask(invite(Proxy_Authorization=value))
    while answer.status < 200:
        answer = phone.receive()
    assert answer.status == 200
    phone.send(phone.request("ACK", uri_of(answer.get("Contact")), To=answer.get("To"), CSeq=f"{answer.cseq} ACK"))
    return answer


def within(phone: PhoneLine, answered: Sip, method: str, **fields: str) -> Sip:
    """A request in the dialog; its answer."""
    request = phone.request(method, uri_of(answered.get("Contact")), To=answered.get("To"), **fields)
    phone.send(request)
    while True:
        answer = phone.receive()
        if answer.is_response and answer.cseq == request.cseq and answer.method == method:
            return answer


def proof(answer: Sip, user: str, method: str, answered: Sip, password: str = PASSWORD) -> str:
    return digest(answer.get("WWW-Authenticate"), user, password, method, uri_of(answered.get("Contact")))


def test_each_request_of_a_dialog_proves_who_it_is_from(tmp_path: Path) -> None:
    with demanding(tmp_path) as node:
        phone = node.phone()
        answered = calling(phone)
        for method in ("OPTIONS", "INFO", "BYE"):
            challenge = within(phone, answered, method)
            assert challenge.status == 401, method
            wrong = proof(challenge, "1000", method, answered, "guessed")
            assert within(phone, answered, method, Authorization=wrong).status == 403
            challenge = within(phone, answered, method)
            others = proof(challenge, "1001", method, answered)
            assert within(phone, answered, method, Authorization=others).status == 403
            right = proof(within(phone, answered, method), "1000", method, answered)
            field = "Proxy_Authorization" if method == "INFO" else "Authorization"
            assert within(phone, answered, method, **{field: right}).status == 200


def test_a_phone_that_counts_on_is_not_asked_again(tmp_path: Path) -> None:
    """RFC 7616 3.3: the nonce of the INVITE is good for what follows, each time with another count."""
    with demanding(tmp_path) as node:
        phone = node.phone()
        answered = calling(phone)
        challenge = within(phone, answered, "INFO").get("WWW-Authenticate")
        for nc, method in enumerate(("INFO", "OPTIONS", "BYE"), 1):
            uri = uri_of(answered.get("Contact"))
            proof = auth.answer(challenge, username="1000", password=PASSWORD, method=method, uri=uri, nc=nc)
            assert within(phone, answered, method, Authorization=proof).status == 200


def test_a_successor_asks_too(tmp_path: Path) -> None:
    with demanding(tmp_path) as node:
        phone = node.phone()
        answered = calling(phone)
        node.workers[0].kill()
        node.serve()
        challenge = within(phone, answered, "BYE")
        assert challenge.status == 401
        right = proof(challenge, "1000", "BYE", answered)
        assert within(phone, answered, "BYE", Authorization=right).status == 200


def test_without_it_nobody_is_asked_again(tmp_path: Path) -> None:
    with demanding(tmp_path, on=False) as node:
        phone = node.phone()
        answered = calling(phone)
        assert within(phone, answered, "BYE").status == 200
