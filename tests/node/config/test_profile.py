from pathlib import Path

import pytest

from node.config import ConfigurationError, ProfileSettings, host, load
from node.config.profile import Binding, InboundAcl
from node.config.profile_params import INERT, PARAMETERS
from node.config.streams import StreamLimits
from tests.node.config.tree import plant, profile


def read(folder: Path, *lines: str) -> ProfileSettings:
    plant(folder, {"sip_profiles/internal.xml": profile("internal", *lines)})
    return load(folder).profiles["internal"]


def param(name: str, value: str) -> str:
    return f'<param name="{name}" value="{value}"/>'


VALUES = [
    ("auth-calls", "yes", "auth_calls", True),
    ("AUTH-Calls", "1", "auth_calls", True),
    ("auth-calls", "disabled", "auth_calls", False),
    ("sip-port", "auto", "sip_port", 0),
    ("nonce-ttl", "10", "nonce_ttl", 60),
    ("nonce-ttl", "90", "nonce_ttl", 90),
    ("multiple-registrations", "true", "multiple_registrations", "contact"),
    ("multiple-registrations", "call-id", "multiple_registrations", "call-id"),
    ("multiple-registrations", "false", "multiple_registrations", ""),
    ("bind-params", "transport=tcp", "transports", ("tcp",)),
    ("user-agent-string", "_undef_", "user_agent", ""),
    ("user-agent-string", "Test/1", "user_agent", "Test/1"),
    ("codec-prefs", "OPUS,PCMA@8000h@20i", "inbound_codec_prefs", ("OPUS", "PCMA@8000h@20i")),
    ("codec-prefs", "OPUS", "outbound_codec_prefs", ("OPUS",)),
    ("disable-auth-messages", "true", "auth_messages", False),
    (
        "apply-inbound-acl",
        "loopback.auto:inside:outside",
        "apply_inbound_acl",
        (InboundAcl("loopback.auto", "inside", "outside"),),
    ),
    ("apply-inbound-acl", "2001:db8::/32", "apply_inbound_acl", (InboundAcl("2001:db8::/32"),)),
    ("apply-register-acl", "10.0.0.0/8", "apply_register_acl", ("10.0.0.0/8",)),
    ("local-network-acl", "none", "local_network_acl", ""),
    ("ws-binding", ":5066", "ws_binding", Binding("", 5066)),
    ("wss-binding", "[::1]:7443", "wss_binding", Binding("::1", 7443)),
    ("rfc8760-auth-algorithms", "MD5,SHA-256", "auth_algorithms", ("SHA-256", "MD5")),
    ("dtmf-duration", "100", "dtmf_duration", 2000),
    ("send-message-query-on-register", "all", "send_message_query_on_register", "true"),
    ("NDLB-force-rport", "safe", "ndlb_force_rport", "safe"),
    ("ndlb-force-rport", "false", "ndlb_force_rport", "default"),
    ("manage-presence", "passive", "manage_presence", "passive"),
    ("enable-3pcc", "proxy", "enable_3pcc", "proxy"),
    ("tls-verify-policy", "in|out", "tls_verify_policy", ("in", "out")),
    ("ext-rtp-ip", "stun:stun.example.org", "ext_rtp_ip", "stun:stun.example.org"),
    ("ext-sip-ip", "autonat:192.0.2.1", "ext_sip_ip", "192.0.2.1"),
    ("ext-sip-ip", "autonat:192.0.2.1", "auto_nat", True),
    ("ext-rtp-ip", "autonat:192.0.2.1", "ext_sip_ip", "192.0.2.1"),
    ("ext-rtp-ip", "autonat:192.0.2.1", "ext_rtp_ip", "192.0.2.1"),
    ("ext-sip-ip", "STUN:stun.example.org:3479", "ext_sip_ip", "stun:stun.example.org:3479"),
    ("ext-sip-ip", "host:pbx.example.org", "external_ip", ""),
    ("ext-sip-ip", "auto-nat", "ext_sip_ip", ""),
    ("ext-sip-ip", "auto", "ext_sip_ip", host.local_ip_v4()),
    ("ext-rtp-ip", "AUTO", "ext_rtp_ip", host.local_ip_v4()),
    ("workers", "4", "workers", 4),
    ("sip-dscp", "CS3", "sip_dscp", 24),
    ("sip-dscp", "af31", "sip_dscp", 26),
    ("rtp-dscp", "EF", "rtp_dscp", 46),
    ("rtp-dscp", "63", "rtp_dscp", 63),
    ("udp-mtu", "0", "udp_mtu", 0),
    ("next-target-timeout", "2500", "next_target_timeout", 2500),
    ("media-engine", "rtpengine", "media_engine", "rtpengine"),
    ("media-engine", "builtin", "media_engine", "builtin"),
    ("rtpengine-ng", "192.0.2.1:2223", "rtpengine_ng", ("192.0.2.1:2223",)),
    ("rtpengine-ng", "[2001:DB8::1]:2223", "rtpengine_ng", ("[2001:db8::1]:2223",)),
    ("dead-target-time", "0", "dead_target_time", 0),
    ("watchdog-step-timeout", "30000", "watchdog_step_timeout", 30000),
    ("timer-T1", "250", "timer_t1", 250),
    ("recovery-reinvite", "never", "recovery_reinvite", "never"),
    ("emergency-numbers", "112, +4989112,*31#", "emergency_numbers", ("112", "+4989112", "*31#")),
    ("challenge-realm", "auto_from", "challenge_realm", "auto_from"),
]


@pytest.mark.parametrize(("name", "text", "field", "value"), VALUES)
def test_a_param_fills_its_field(tmp_path: Path, name: str, text: str, field: str, value: object) -> None:
    assert getattr(read(tmp_path, param(name, text)), field) == value


def test_defaults_are_those_of_mod_sofia(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert (settings.auth_calls, settings.challenge_realm, settings.nonce_ttl) == (False, "auto_to", 60)
    assert (settings.context, settings.dialplan, settings.track_calls) == ("default", "XML", False)
    assert (settings.registration_thread_frequency, settings.sip_expires_late_margin) == (30, 60)
    assert (settings.timer_t1, settings.timer_t1x64, settings.timer_t2, settings.timer_t4) == (500, 32000, 4000, 5000)
    assert (settings.local_network_acl, settings.caller_id_type, settings.workers) == ("localnet.auto", "rpid", 1)
    assert (settings.rtp_start_port, settings.rtp_end_port) == (16384, 32768)


def test_every_field_that_a_param_fills_exists() -> None:
    helpers = {"codec_prefs", "disable_auth_messages", "disable_auth_subscriptions"}
    helpers |= {f"stream_{name}" for name in StreamLimits.__dataclass_fields__}
    assert {parameter.field for parameter in PARAMETERS.values()} - helpers <= set(ProfileSettings.__dataclass_fields__)


def test_what_is_inert_is_not_also_read() -> None:
    assert not INERT & set(PARAMETERS)


def test_inert_params_of_stock_profiles_are_taken_without_a_word(tmp_path: Path) -> None:
    lines = [param(name, "whatever") for name in ("delete-subs-on-register", "max-calls", "vad", "stun-enabled")]
    plant(tmp_path, {"sip_profiles/internal.xml": profile("internal", *lines)})
    assert load(tmp_path).warnings == ()


def test_the_last_param_of_a_name_wins(tmp_path: Path) -> None:
    assert read(tmp_path, param("context", "a"), param("context", "b")).context == "b"


def test_access_lists_and_media_addresses_add_up(tmp_path: Path) -> None:
    settings = read(
        tmp_path,
        param("apply-proxy-acl", "loopback.auto"),
        param("apply-proxy-acl", "rfc1918.auto"),
        param("rtp-ip", "127.0.0.2"),
        param("rtp-ip", "127.0.0.3"),
    )
    assert settings.apply_proxy_acl == ("loopback.auto", "rfc1918.auto")
    assert (settings.rtp_ips, settings.rtp_ip) == (("127.0.0.2", "127.0.0.3"), "127.0.0.2")


def test_none_empties_what_was_gathered(tmp_path: Path) -> None:
    settings = read(tmp_path, param("apply-nat-acl", "nat.auto"), param("apply-nat-acl", "none"))
    assert settings.apply_nat_acl == ()


def test_all_params_are_kept_as_written(tmp_path: Path) -> None:
    settings = read(tmp_path, param("NDLB-Force-Rport", "Safe"))
    assert settings.param("ndlb-force-rport") == settings.param("NDLB-force-rport") == "Safe"


def test_no_address_means_the_hosts_own(tmp_path: Path) -> None:
    plant(tmp_path, {"sip_profiles/internal.xml": '<profile name="internal"><settings/></profile>'})
    settings = load(tmp_path).profiles["internal"]
    assert settings.sip_ip == settings.rtp_ip == host.local_ip_v4()


@pytest.mark.parametrize("text", ["interface:lo", "interface:auto/lo", "interface:ipv4/lo"])
def test_an_address_may_be_that_of_an_interface(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, param("rtp-ip", text)).rtp_ip == "127.0.0.1"


def test_urls_are_those_sofia_status_prints(tmp_path: Path) -> None:
    plain = read(tmp_path)
    assert plain.url == "sip:mod_sofia@127.0.0.1:5060"
    assert plain.bind_url == "sip:mod_sofia@127.0.0.1:5060;transport=udp,tcp"
    behind = read(tmp_path, param("ext-sip-ip", "192.0.2.1"), param("bind-params", "transport=udp"))
    assert behind.url == "sip:mod_sofia@192.0.2.1:5060"
    assert behind.bind_url == "sip:mod_sofia@192.0.2.1:5060;maddr=127.0.0.1;transport=udp"


def test_an_ipv6_address_stands_in_brackets_in_urls() -> None:
    assert ProfileSettings(name="six", sip_ip="2001:db8::1").url == "sip:mod_sofia@[2001:db8::1]:5060"


def test_media_ports_of_the_node_are_those_of_a_profile_without_its_own(tmp_path: Path) -> None:
    switch = '<configuration name="switch.conf"><settings><param name="rtp-start-port" value="20000"/></settings></configuration>'
    plant(tmp_path, {"autoload_configs/switch.conf.xml": switch})
    assert load(tmp_path).profiles["internal"].rtp_start_port == 20000


GATEWAYS = """\
<profile name="external"><settings/><gateways>
  <gateway name="one">
    <param name="username" value="u"/><param name="password" value="p"/><param name="proxy" value="sip.example.org"/>
    <param name="expire-seconds" value="3"/>
    <variables><variable name="a" value="1" direction="inbound"/><variable name="b" value="2"/></variables>
  </gateway>
  <gateway name="two"><params><param name="register" value="false"/></params></gateway>
</gateways></profile>
"""


def test_a_gateways_defaults_fall_back_to_one_another(tmp_path: Path) -> None:
    plant(tmp_path, {"sip_profiles/internal.xml": GATEWAYS})
    one, two = load(tmp_path).profiles["external"].gateways
    assert (one.realm, one.auth_username, one.from_user, one.from_domain) == (
        "sip.example.org",
        "u",
        "u",
        "sip.example.org",
    )
    assert (one.expire_seconds, one.retry_seconds, one.transport) == (3600, 30, "udp")
    assert (dict(one.inbound_variables), dict(one.outbound_variables)) == ({"a": "1", "b": "2"}, {"b": "2"})
    assert (two.register, two.username, two.proxy) == (False, "FreeSWITCH", "two")


USERS_GATEWAY = """\
<domain name="example.org"><groups><group name="g"><users>
  <user id="1000"><params><param name="password" value="not-shown-here"/></params>
    <gateways><gateway name="of-1000"><param name="register" value="false"/></gateway></gateways></user>
</users></group></groups></domain>
"""


def test_a_domain_lends_its_name_and_its_users_gateways_to_the_profile_that_asks(tmp_path: Path) -> None:
    tagged = profile().replace(
        "<settings>", '<domains><domain name="all" alias="true" parse="true"/></domains><settings>'
    )
    plant(tmp_path, {"sip_profiles/internal.xml": tagged, "directory/d.xml": USERS_GATEWAY})
    configuration = load(tmp_path)
    assert configuration.profiles["internal"].aliases == ("example.org",)
    assert [gateway.name for gateway in configuration.profiles["internal"].gateways] == ["of-1000"]
    assert configuration.profile("example.org") is configuration.profiles["internal"]


def test_profiles_keep_the_order_of_the_document(tmp_path: Path) -> None:
    plant(tmp_path, {"sip_profiles/b.xml": profile("b", port=5062), "sip_profiles/a.xml": profile("z", port=5061)})
    assert list(load(tmp_path).profiles) == ["z", "b", "internal"]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("sip-dscp", "64", "sip-dscp must be a DSCP"),
        ("rtp-dscp", "AF44", "rtp-dscp must be a DSCP"),
        ("udp-mtu", "-1", "udp-mtu must be 0 to 65535"),
        ("next-target-timeout", "100", "next-target-timeout must be 500 to 32000"),
        ("media-engine", "proxy", "media-engine must be builtin, rtpengine, not"),
        ("rtpengine-ng", "engine.example:2223", "rtpengine-ng must be address:port"),
        ("rtpengine-ng", "192.0.2.1", "rtpengine-ng must be address:port"),
        ("rtpengine-ng", "::1:2223", "rtpengine-ng must be address:port"),
        ("rtpengine-ng", "192.0.2.1:0", "rtpengine-ng must be address:port"),
        ("dead-target-time", "301", "dead-target-time must be 0 to 300"),
        ("ext-sip-ip", "stun:", "ext-sip-ip must name a server"),
        ("ext-rtp-ip", "stun:x:0", "ext-rtp-ip must name a server"),
        ("ext-sip-ip", "host:", "ext-sip-ip must name a host"),
        ("ext-sip-ip", "autonat:here", "ext-sip-ip is no IP address"),
        ("emergency-numbers", "112,help", "emergency-numbers has what is no number to dial: 'help'"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_place(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(tmp_path, param(name, text))
    (complaint,) = (each for each in refused.value.complaints if each.severity == "error")
    assert complaint.text.startswith(sentence)
    assert complaint.file.name == "internal.xml"
