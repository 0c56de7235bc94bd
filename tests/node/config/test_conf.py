"""The tree we ship."""

from pathlib import Path

import pytest

from node.config import Configuration, SwitchSettings, check, load
from node.directory import Directory

CONF = Path(__file__).parents[3] / "conf"

OVERRIDES = {
    "sip_ip": "127.0.0.50",
    "rtp_ip": "127.0.0.51",
    "external_sip_ip": "127.0.0.52",
    "internal_sip_port": "5160",
    "external_sip_port": "5180",
    "domain": "sofia.test",
    "default_password": "chosen-by-us",
    "event_socket_ip": "127.0.0.53",
    "event_socket_port": "8121",
    "event_socket_password": "also-chosen",
    "peer_listen": "127.0.0.1:7001",
    "peer_address": "127.0.0.1:7002",
    "address_mode": "netlink",
    "shared_address": "192.0.2.10/24",
    "shared_interface": "eth0",
    "rtp_start_port": "20000",
    "rtp_end_port": "21000",
    "workers": "2",
    "switchname": "pair",
    "core_db_dsn": "sqlite:///shared.db",
    "recovery_reinvite": "always",
    "recover_on_promote": "false",
    "lease_ttl": "900",
    "lease_renew": "100",
    "lease_margin": "250",
}


@pytest.fixture(scope="module")
def shipped() -> Configuration:
    return load(CONF, OVERRIDES)


def test_it_loads_as_shipped_without_a_complaint() -> None:
    assert check(CONF) == []


def test_it_loads_with_every_variable_overridden_without_a_complaint() -> None:
    assert check(CONF, OVERRIDES) == []


def test_every_override_arrives_where_it_belongs(shipped: Configuration) -> None:
    internal, external, ha = shipped.profiles["internal"], shipped.profiles["external"], shipped.ha
    assert (internal.sip_ip, internal.sip_port, internal.rtp_ip) == ("127.0.0.50", 5160, "127.0.0.51")
    assert (internal.ext_sip_ip, internal.ext_rtp_ip, external.sip_port) == ("127.0.0.52", "127.0.0.52", 5180)
    assert (internal.workers, internal.rtp_start_port, internal.rtp_end_port) == (2, 20000, 21000)
    assert (shipped.switch.switchname, shipped.switch.core_db_dsn) == ("pair", "sqlite:///shared.db")
    socket = shipped.event_socket
    assert (socket.listen_ip, socket.listen_port, socket.password) == ("127.0.0.53", 8121, "also-chosen")
    assert (ha.peer_listen, ha.peer_address) == ("127.0.0.1:7001", "127.0.0.1:7002")
    assert (ha.address_mode, ha.shared_address, ha.interface) == ("netlink", "192.0.2.10/24", "eth0")
    assert (ha.lease_ttl, ha.lease_renew, ha.lease_margin) == (900, 100, 250)
    assert (ha.recovery_reinvite, ha.recover_on_promote) == ("always", False)


def test_all_twenty_users_have_the_password_that_was_set(shipped: Configuration) -> None:
    directory = Directory(shipped.directory)
    users = [directory.find(str(number), "sofia.test") for number in range(1000, 1020)]
    assert {user.password for user in users if user is not None} == {"chosen-by-us"}
    assert None not in users


def test_nobody_gets_in_without_authentication(shipped: Configuration) -> None:
    internal, external = shipped.profiles["internal"], shipped.profiles["external"]
    assert internal.auth_calls
    assert not internal.accept_blind_reg
    assert not internal.accept_blind_auth
    assert external.disable_register
    assert [shipped.acl[acl.name].check("192.0.2.1")[0] for acl in external.apply_inbound_acl] == [False]
    assert [shipped.acl[name].check("192.0.2.1")[0] for name in shipped.event_socket.apply_inbound_acl] == [False]


def test_a_password_nobody_set_is_made_up_and_differs_each_time() -> None:
    passwords = {load(CONF).globals["default_password"] for _ in range(3)}
    assert len(passwords) == 3
    assert min(map(len, passwords)) >= 24


def test_with_a_run_directory_the_made_up_passwords_stay(tmp_path: Path) -> None:
    first, second = load(CONF, run_dir=tmp_path / "run"), load(CONF, run_dir=tmp_path / "run")
    assert first.globals["default_password"] == second.globals["default_password"]
    assert first.event_socket.password == second.event_socket.password != ""


def test_the_domain_is_a_name_of_the_internal_profile(shipped: Configuration) -> None:
    assert shipped.profile("sofia.test") is shipped.profiles["internal"]


def test_the_example_gateway_is_disabled(shipped: Configuration) -> None:
    assert shipped.profiles["external"].gateways == ()


def test_calls_of_both_profiles_are_tracked(shipped: Configuration) -> None:
    assert [profile.track_calls for profile in shipped.profiles.values()] == [True, True]


def test_without_a_dsn_every_process_opens_the_file_of_the_same_name() -> None:
    assert SwitchSettings(core_db_name="calls").database == "calls"
    assert SwitchSettings(core_db_name="calls", core_db_dsn="sqlite:///shared.db").database == "sqlite:///shared.db"
