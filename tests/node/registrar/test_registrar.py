"""The registrar's rules, through a worker: what is stored, and what is answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node.rig import Rig, rig, until
from tests.support.sipmessage import Sip


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path) as made:
        yield made


def configured(node: Rig, **settings: object) -> Rig:
    """With other settings of the profile; served from now on."""
    profiles = dict(node.configuration.profiles)
    profiles["internal"] = dataclasses.replace(profiles["internal"], **settings)  # type: ignore[arg-type]
    node.configuration = dataclasses.replace(node.configuration, profiles=profiles)
    node.serve()
    return node


def rows(node: Rig) -> list[dict[str, object]]:
    answer = node.ask("registrations")
    assert isinstance(answer, list)
    return answer


def contacts(answer: Sip) -> list[str]:
    return sorted(answer.all("Contact"))


def test_the_row_has_the_columns_of_mod_sofia(node: Rig) -> None:
    configured(node)
    phone = node.phone()
    phone.register()
    (row,) = rows(node)
    expected = {
        "call_id": phone.call_id,
        "sip_user": "1000",
        "sip_host": "pbx.test",
        "contact": f'"" <sip:1000@127.0.0.1:{phone.port}>',
        "status": "Registered(UDP)",
        "rpid": "unknown",
        "user_agent": "rig",
        "server_user": "1000",
        "profile_name": "internal",
        "hostname": "sofia-node",
        "network_ip": "127.0.0.1",
        "network_port": str(phone.port),
        "sip_username": "1000",
        "sip_realm": "pbx.test",
        "mwi_user": "1000",
        "mwi_host": "pbx.test",
        "sub_host": "pbx.test",
        "slot": "internal#0",
        "epoch": 1,
    }
    # What has its default value is not in the record.
    defaults = {"status": "Registered(UDP)", "rpid": "unknown"}
    assert {name: row.get(name, defaults.get(name)) for name in expected} == expected


def test_a_refresh_replaces_the_row_and_removal_removes_it(node: Rig) -> None:
    configured(node)
    phone = node.phone()
    phone.register()
    phone.register(120)
    assert len(rows(node)) == 1
    answer = phone.register(0)
    assert answer.status == 200
    assert contacts(answer) == []
    assert rows(node) == []


def test_wrong_credentials_get_403_and_no_second_challenge(node: Rig) -> None:
    configured(node, log_auth_challenges=True)
    assert node.phone().register(password="guess").status == 403
    assert node.phone("7777").register().status == 403
    node.workers[0].demote()
    log = (node.run_dir / "log" / "sofia-node.log").read_text()
    assert "SIP auth challenge (REGISTER) on sofia profile 'internal' for [1000@pbx.test] from ip 127.0.0.1" in log
    assert "SIP auth failure (REGISTER) on sofia profile 'internal' for [1000@pbx.test] from ip 127.0.0.1" in log
    assert "Can't find user [7777@pbx.test] from 127.0.0.1" in log


def test_challenges_are_not_logged_where_only_failures_are_asked_for(node: Rig) -> None:
    configured(node, log_auth_challenges=False)
    assert node.phone().register().status == 200
    assert node.phone().register(password="guess").status == 403
    node.workers[0].demote()
    log = (node.run_dir / "log" / "sofia-node.log").read_text()
    assert "SIP auth challenge" not in log
    assert "SIP auth failure" in log


def test_the_challenge_is_mod_sofias(node: Rig) -> None:
    configured(node)
    phone = node.phone()
    answer = phone.ask(phone.request("REGISTER"))
    challenge = answer.get("WWW-Authenticate")
    assert challenge.startswith('Digest realm="pbx.test", nonce="')
    assert challenge.endswith('", algorithm=MD5, qop="auth"')


def test_a_nonce_count_that_does_not_grow_is_stale(node: Rig) -> None:
    configured(node)
    phone = node.phone()
    sent: list[Sip] = []
    original = phone.send

    def note(message: Sip | bytes) -> None:
        assert isinstance(message, Sip)
        sent.append(message)
        original(message)

    phone.send = note  # type: ignore[method-assign]
    assert phone.register().status == 200
    replayed = phone.request("REGISTER", Authorization=sent[-1].get("Authorization"))
    answer = phone.ask(replayed)
    assert answer.status == 401
    assert "stale=true" in answer.get("WWW-Authenticate")


def test_several_devices_of_a_user_are_all_listed(node: Rig) -> None:
    configured(node, multiple_registrations="contact")
    desk, mobile = node.phone(), node.phone()
    desk.register(300)
    listed = [value.partition(";")[0] for value in contacts(mobile.register(200))]
    assert listed == sorted(f"<sip:1000@127.0.0.1:{phone.port}>" for phone in (desk, mobile))


def test_a_single_registration_drops_the_other_device(node: Rig) -> None:
    configured(node, multiple_registrations="")
    desk, mobile = node.phone(), node.phone()
    desk.register()
    assert contacts(mobile.register()) == [f"<sip:1000@127.0.0.1:{mobile.port}>;expires=300"]
    assert len(rows(node)) == 1


def test_by_call_id_a_device_that_moved_replaces_itself(node: Rig) -> None:
    configured(node, multiple_registrations="call-id")
    phone = node.phone()
    phone.register()
    moved = phone.register(Contact="<sip:1000@127.0.0.1:9>")
    assert contacts(moved) == ["<sip:1000@127.0.0.1:9>;expires=300"]


def test_several_contacts_in_one_request_have_their_own_expires(node: Rig) -> None:
    configured(node, multiple_registrations="contact")
    phone = node.phone()
    both = "<sip:1000@127.0.0.1:7>;expires=100;q=0.5, <sip:1000@127.0.0.1:8>;expires=200"
    assert contacts(phone.register(Contact=both)) == [
        "<sip:1000@127.0.0.1:7>;expires=100",
        "<sip:1000@127.0.0.1:8>;expires=200",
    ]
    one_goes = "<sip:1000@127.0.0.1:7>;expires=0, <sip:1000@127.0.0.1:8>;expires=200"
    assert contacts(phone.register(Contact=one_goes)) == ["<sip:1000@127.0.0.1:8>;expires=200"]


def test_a_star_removes_all_and_must_say_expires_0(node: Rig) -> None:
    configured(node, multiple_registrations="contact")
    desk, mobile = node.phone(), node.phone()
    desk.register()
    mobile.register()
    assert desk.register(60, Contact="*").status == 400
    assert contacts(desk.register(0, Contact="*")) == []
    assert rows(node) == []


def test_a_request_without_contact_lists_the_bindings(node: Rig) -> None:
    configured(node)
    phone = node.phone()
    phone.register()
    answer = phone.register(Contact="")
    assert [value.partition(";")[0] for value in contacts(answer)] == [f"<sip:1000@127.0.0.1:{phone.port}>"]


def test_a_lower_cseq_of_the_same_call_id_is_refused(node: Rig) -> None:
    configured(node)
    phone = node.phone()
    phone.cseq = 50
    assert phone.register().status == 200
    phone.cseq = 10
    assert phone.register().status == 500


@pytest.mark.parametrize(
    ("settings", "asked", "granted"),
    [
        ({"sip_force_expires_min": 120}, 60, 120),
        ({"sip_force_expires_max": 120}, 3600, 120),
        ({"sip_force_expires": 90}, 3600, 90),
    ],
)
def test_the_profile_bounds_what_is_granted(node: Rig, settings: dict[str, int], asked: int, granted: int) -> None:
    configured(node, **settings)
    assert contacts(node.phone().register(asked))[0].endswith(f";expires={granted}")


def test_who_asks_too_little_may_be_refused_instead(node: Rig) -> None:
    configured(node, sip_force_expires_min=120, params={"reject-brief-registrations": "true"})
    answer = node.phone().register(60)
    assert (answer.status, answer.get("Min-Expires")) == (423, "120")


def test_the_limit_of_devices_is_kept(node: Rig) -> None:
    configured(node, multiple_registrations="contact", max_registrations_per_extension=1)
    first, second = node.phone(), node.phone()
    assert first.register().status == 200
    assert second.register().status == 403
    assert first.register().status == 200


def test_disable_register_refuses(node: Rig) -> None:
    configured(node, disable_register=True)
    assert node.phone().register().status == 403


def test_behind_a_nat_the_contact_tells_the_way(node: Rig) -> None:
    configured(node, apply_nat_acl=("10.0.0.0/8",), local_network_acl="")
    phone = node.phone()
    phone.register(Contact="<sip:1000@10.1.2.3:5060>")
    (row,) = rows(node)
    way = f"sip%3A1000%40127.0.0.1%3A{phone.port}"
    assert row["contact"] == f'"" <sip:1000@10.1.2.3:5060;fs_nat=yes;fs_path={way}>'
    assert row["status"] == "Registered(UDP-NAT)"
    assert contacts(phone.register(Contact=""))[0].startswith("<sip:1000@10.1.2.3:5060>;")


def test_a_register_acl_admits_without_a_password(node: Rig) -> None:
    configured(node, apply_register_acl=("127.0.0.0/8",))
    phone = node.phone("anybody")
    assert phone.ask(phone.request("REGISTER", Expires="60")).status == 200
    assert rows(node)[0]["sip_username"] == "unknown"


def test_a_register_acl_keeps_others_out(node: Rig) -> None:
    configured(node, apply_register_acl=("192.0.2.0/24",))
    phone = node.phone()
    assert phone.ask(phone.request("REGISTER")).status == 403


def test_flushing_removes_and_a_registration_past_due_goes(node: Rig) -> None:
    configured(node, registration_thread_frequency=1, sip_expires_late_margin=0)
    stays, goes, flushed = node.phone("1001"), node.phone("1002"), node.phone("1003")
    stays.register(300)
    flushed.register(300)
    goes.register(1)
    assert node.ask("flush_inbound_reg", "internal", "1003@pbx.test") == 1

    until(lambda: [row["sip_user"] for row in rows(node)] == ["1001"])
    stats = node.ask("stats")
    assert isinstance(stats, dict)
    until(lambda: node.ask("stats")["registrations_known"] == 1)  # type: ignore[index]


def test_check_sync_reaches_the_phone(node: Rig) -> None:
    configured(node)
    phone = node.phone()
    phone.register(User_Agent="snom360")
    key = f'internal|1000@pbx.test|"" <sip:1000@127.0.0.1:{phone.port}>'
    assert node.ask("check_sync", key) == 1
    notify = phone.receive()
    assert notify.method == "NOTIFY"
    assert notify.get("Event") == "check-sync;reboot=true"
    assert notify.call_id == phone.call_id
