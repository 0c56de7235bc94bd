"""Flows of one phone (RFC 5626), the way through an edge proxy (RFC 3327), and Service-Route, through a worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.registrar.outbound import of_instance, one_flow_each, other_flow, uri_in
from node.sip import auth
from store.records import Registration
from tests.node.registrar.test_registrar import configured, contacts, rows
from tests.node.rig import PASSWORD, PhoneLine, Rig, rig, until
from tests.support.sipmessage import Sip, digest

URN = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"
EDGE = "<sip:edge.test;lr;ob>"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


def by_flow(
    phone: PhoneLine, reg_id: int, *, expires: int = 300, contact: str = "", urn: str = URN, **more: str
) -> Sip:
    uri = contact or f"sip:1000@127.0.0.1:{phone.port}"
    value = f'<{uri}>;reg-id={reg_id};+sip.instance="{urn}"'
    return phone.register(expires, Contact=value, Supported="path, outbound", **more)


def flows(node: Rig) -> list[object]:
    return sorted(row.get("reg_id", 0) for row in rows(node))  # type: ignore[type-var]


@pytest.mark.parametrize("mode", ["", "contact", "call-id"])
def test_each_flow_of_a_phone_is_a_binding_and_replaces_only_itself(node: Rig, mode: str) -> None:
    configured(node, enable_rfc_5626=True, multiple_registrations=mode, flow_timer=90)
    first, second = node.phone(), node.phone()
    answer = by_flow(first, 1)
    assert answer.status == 200
    assert answer.get("Require") == "outbound"
    assert answer.get("Flow-Timer") == "90"
    assert contacts(answer) == [f'<sip:1000@127.0.0.1:{first.port}>;expires=300;+sip.instance="{URN}";reg-id=1']
    assert len(contacts(by_flow(second, 2))) == 2
    anew = node.phone()
    assert len(contacts(by_flow(anew, 1))) == 2
    assert flows(node) == [1, 2]
    assert {row["network_port"] for row in rows(node)} == {str(anew.port), str(second.port)}
    by_flow(second, 2, expires=0)
    assert flows(node) == [1]


def test_two_flows_may_have_the_same_contact(node: Rig) -> None:
    configured(node, enable_rfc_5626=True, multiple_registrations="contact")
    phone = node.phone()
    by_flow(phone, 1, contact="sip:1000@phone.test")
    by_flow(phone, 2, contact="sip:1000@phone.test")
    assert flows(node) == [1, 2]
    assert {row["contact"] for row in rows(node)} == {
        f'"" <sip:1000@phone.test;fs_reg_id={number}>' for number in (1, 2)
    }


def test_where_a_user_may_have_one_phone_another_phone_drops_all_its_flows(node: Rig) -> None:
    configured(node, enable_rfc_5626=True, multiple_registrations="")
    phone, other = node.phone(), node.phone()
    by_flow(phone, 1)
    by_flow(phone, 2)
    by_flow(other, 1, urn="<urn:uuid:other>")
    assert [row["instance"] for row in rows(node)] == ["<urn:uuid:other>"]


def test_without_the_extension_a_reg_id_means_nothing(node: Rig) -> None:
    configured(node, enable_rfc_5626=False, multiple_registrations="contact")
    answer = by_flow(node.phone(), 1)
    assert not answer.get("Require")
    assert flows(node) == [0]


def test_a_phone_that_does_not_support_it_or_has_no_instance_makes_no_flow(node: Rig) -> None:
    configured(node, enable_rfc_5626=True, multiple_registrations="contact")
    phone = node.phone()
    uri = f"sip:1000@127.0.0.1:{phone.port}"
    assert not phone.register(Contact=f'<{uri}>;reg-id=1;+sip.instance="{URN}"').get("Require")
    assert not phone.register(Contact=f"<{uri}>;reg-id=1", Supported="outbound").get("Require")
    assert flows(node) == [0]


def test_one_request_makes_one_flow(node: Rig) -> None:
    configured(node, enable_rfc_5626=True)
    both = f'<sip:1@h>;reg-id=1;+sip.instance="{URN}", <sip:2@h>;reg-id=2;+sip.instance="{URN}"'
    assert node.phone().register(Contact=both, Supported="outbound").status == 400
    assert (
        node.phone().register(Contact=f'<sip:1@h>;reg-id=x;+sip.instance="{URN}"', Supported="outbound").status == 400
    )


def through_an_edge(phone: PhoneLine, path: str) -> dict[str, str]:
    via = f"SIP/2.0/UDP 127.0.0.1:{phone.port};rport;branch=z9hG4bK{os.urandom(8).hex()}"
    return {"Via": f"{via}\r\nVia: SIP/2.0/TCP 10.0.0.5:5060;branch=z9hG4bKp{phone.cseq}", "Path": path}


def registered_through_an_edge(phone: PhoneLine, path: str) -> Sip:
    """A challenge and an answer, each with a Via of its own."""
    answer = Sip("", [])
    value = f'<sip:1000@10.0.0.5>;reg-id=1;+sip.instance="{URN}"'
    authorization = ""
    for _ in range(2):
        fields = {**through_an_edge(phone, path), "Contact": value, "Supported": "path, outbound", "Expires": "300"}
        answer = phone.ask(phone.request("REGISTER", Authorization=authorization, **fields))
        if answer.status == 401:
            challenge = answer.get("WWW-Authenticate")
            authorization = digest(challenge, "1000", "s3cret", "REGISTER", "sip:pbx.test")
    return answer


def test_an_edge_that_keeps_the_flow_is_the_way_to_the_phone(node: Rig) -> None:
    configured(node, enable_rfc_5626=True)
    answer = registered_through_an_edge(node.phone(), f"<sip:core.test;lr>, {EDGE}")
    assert answer.status == 200
    assert answer.all("Path") == ["<sip:core.test;lr>", EDGE]
    (row,) = rows(node)
    assert str(row["contact"]).endswith(";fs_reg_id=1;fs_path=sip%3Acore.test%3Blr%2Csip%3Aedge.test%3Blr%3Bob>")


def test_an_edge_that_keeps_no_flow_is_439(node: Rig) -> None:
    configured(node, enable_rfc_5626=True)
    for path in ("<sip:edge.test;lr>", ""):
        answer = registered_through_an_edge(node.phone(), path)
        assert (answer.status, answer.start[12:]) == (439, "First Hop Lacks Outbound Support")


def test_the_path_is_told_again_to_who_supports_it(node: Rig) -> None:
    configured(node)
    phone = node.phone()
    assert phone.register(Path="<sip:edge.test;lr>", Supported="path").all("Path") == ["<sip:edge.test;lr>"]
    assert phone.register(Path="<sip:edge.test;lr>").all("Path") == []
    assert str(rows(node)[0]["contact"]).endswith(";fs_path=sip%3Aedge.test%3Blr>")


def test_the_service_route_is_told(node: Rig) -> None:
    configured(node, service_route=("<sip:a.test;lr>", "<sip:b.test;lr>"))
    assert node.phone().register().all("Service-Route") == ["<sip:a.test;lr>", "<sip:b.test;lr>"]


def test_a_successor_takes_the_next_count_of_a_registered_nonce_and_no_count_twice(node: Rig) -> None:
    """A refresh after a failover costs no challenge; a request captured before it is worth nothing."""
    configured(node)
    phone = node.phone()
    challenge = phone.ask(phone.request("REGISTER", Expires="300")).get("WWW-Authenticate")

    def refresh(count: int) -> Sip:
        given = auth.answer(
            challenge, username="1000", password=PASSWORD, method="REGISTER", uri="sip:pbx.test", nc=count
        )
        return phone.ask(phone.request("REGISTER", Expires="300", Authorization=given))

    assert refresh(1).status == 200
    node.workers[0].demote()
    node.serve()
    until(lambda: node.ask("stats")["registrations_known"] == 1)  # type: ignore[index]
    again = refresh(1)
    assert again.status == 401
    assert "stale=true" in again.get("WWW-Authenticate")
    assert refresh(2).status == 200
    assert refresh(2).status == 401
    assert rows(node)[0]["nonce_count"] == 2


# ---- by which flow -----------------------------------------------------------------------------------------------------


def binding(reg_id: int, version: int, *, instance: str = URN, contact: str = "") -> Registration:
    return Registration(
        call_id="c",
        sip_user="1000",
        sip_host="pbx.test",
        contact=contact or f"<sip:1000@h{reg_id}>",
        profile_name="internal",
        instance=instance,
        reg_id=reg_id,
        version=version,
    )


def test_a_phone_is_called_by_its_newest_flow_then_by_the_others() -> None:
    old, new, middle = binding(1, 10), binding(2, 30), binding(3, 20)
    plain, another = binding(0, 5, instance=""), binding(1, 1, instance="<urn:x>")
    everything = [old, plain, new, middle, another]
    assert one_flow_each(everything) == [new, plain, another]
    assert other_flow(new, [old, middle, plain, another]) is middle
    assert other_flow(middle, [old, plain, another]) is old
    assert other_flow(old, [plain, another]) is None


def test_a_gruu_names_one_phone() -> None:
    ours, other = binding(0, 1), binding(0, 2, instance="<urn:uuid:other>")
    assert of_instance([ours, other], URN.strip("<>").lower()) == [ours]
    assert of_instance([ours, other], "urn:uuid:nobody") == []


def test_a_path_value_is_a_name_addr_or_a_bare_uri() -> None:
    assert uri_in('"x" <sip:a;lr>;y=1') == "sip:a;lr"
    assert uri_in(" sip:a;lr ") == "sip:a;lr"
