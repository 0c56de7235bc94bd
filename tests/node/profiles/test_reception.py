"""Refusals over a socket, each with what its RFC wants in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.registrar.test_registrar import configured
from tests.node.rig import PhoneLine, Rig, rig
from tests.support.sipmessage import Sip, parameter


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    path: Path = tmp_path_factory.mktemp("run")
    with rig(path) as made:
        yield configured(made, enable_rfc_5626=False)


def asked(phone: PhoneLine, method: str, uri: str = "sip:1001@pbx.test", **fields: str) -> Sip:
    fields.setdefault("To", "<sip:1001@pbx.test>")
    return phone.ask(phone.request(method, uri, **fields))


def test_an_unknown_method_is_501_and_one_not_served_405_with_allow(node: Rig) -> None:
    for method, status in (("FETCH", 501), ("PUBLISH", 405)):
        answer = asked(node.phone(), method)
        assert answer.status == status
        assert "INVITE" in answer.get("Allow").split(", ")
        assert method not in answer.get("Allow").split(", ")
        assert parameter(answer.get("To"), "tag")


@pytest.mark.parametrize("field", ["Require", "Proxy_Require"])
@pytest.mark.parametrize("method", ["INVITE", "OPTIONS", "REGISTER"])
def test_an_unknown_extension_is_420_and_named(node: Rig, field: str, method: str) -> None:
    answer = asked(node.phone(), method, **{field: "path, teleport, Time-Travel"})
    assert answer.status == 420
    assert answer.get("Unsupported") == "teleport, Time-Travel"


def test_flows_can_be_required_only_where_they_are_made(node: Rig) -> None:
    assert asked(node.phone(), "REGISTER", Require="outbound").get("Unsupported") == "outbound"


def test_privacy_may_be_required_of_the_proxy(node: Rig) -> None:
    assert asked(node.phone(), "OPTIONS", Proxy_Require="privacy").status == 200


def test_a_request_that_has_gone_too_far_is_483(node: Rig) -> None:
    assert asked(node.phone(), "INVITE", Max_Forwards="0").status == 483


def test_another_scheme_is_416_and_another_version_505(node: Rig) -> None:
    assert asked(node.phone(), "INVITE", "http://pbx.test").status == 416
    phone = node.phone()
    request = phone.request("OPTIONS")
    request.start = request.start.replace("SIP/2.0", "SIP/3.0")
    assert phone.ask(request).status == 505


def test_the_same_request_by_two_ways_is_482(node: Rig) -> None:
    phone = node.phone()
    request = phone.request("OPTIONS", To="<sip:1001@pbx.test>")
    assert phone.ask(request).status == 200
    again = Sip(
        request.start, [(name, value.replace("z9hG4bK", "z9hG4bKx")) for name, value in request.fields], request.body
    )
    assert phone.ask(again).status == 482


def test_a_body_that_nobody_reads_is_415_with_what_is(tmp_path: Path) -> None:
    with rig(tmp_path) as node:
        phone = configured(node, auth_calls=False, apply_inbound_acl=()).phone()
        request = phone.request("INVITE", "sip:1001@pbx.test", To="<sip:1001@pbx.test>", Content_Type="text/plain")
        request.body = "hello"
        answer = phone.ask(request)
        assert (answer.status, answer.get("Accept")) == (415, "application/sdp")
