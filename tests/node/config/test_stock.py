"""A tree in the shape of FreeSWITCH's own sample loads as it is: what this node has not is named once, in a warning."""

from pathlib import Path

import pytest

from node.config import Configuration, check, load
from node.dialplan.route import Facts, route
from node.directory import Directory
from store.records import Step
from tests.node.config.tree import plant

FILES = {
    "freeswitch.xml": """\
<?xml version="1.0"?>
<document type="freeswitch/xml">
  <!-- written about <X-PRE-PROCESS> -- and with dashes -- in a comment -->
  <X-PRE-PROCESS cmd="include" data="vars.xml"/>
  <section name="configuration"><!-- all of it -->
    <X-PRE-PROCESS cmd="include" data="autoload_configs/*.xml"/>
  </section>
  <section name="dialplan">
    <X-PRE-PROCESS cmd="include" data="dialplan/*.xml"/>
  </section>
  <section name="chatplan"/>
  <section name="directory">
    <X-PRE-PROCESS cmd="include" data="directory/*.xml"/>
  </section>
  <section name="languages">
    <X-PRE-PROCESS cmd="include" data="lang/en/*.xml"/>
  </section>
</document>
""",
    "vars.xml": """\
<include>
  <X-PRE-PROCESS cmd="set" data="default_password=1234"/>
  <X-PRE-PROCESS cmd="set" data="domain=$${local_ip_v4}"/>
  <X-PRE-PROCESS cmd="set" data="domain_name=$${domain}"/>
  <X-PRE-PROCESS cmd="set" data="global_codec_prefs=OPUS,G722,PCMU,PCMA,H264,VP8"/>
  <X-PRE-PROCESS cmd="stun-set" data="external_rtp_ip=host:"/>
  <X-PRE-PROCESS cmd="stun-set" data="external_sip_ip=host:"/>
  <X-PRE-PROCESS cmd="set" data="internal_sip_port=5060"/>
  <X-PRE-PROCESS cmd="set" data="internal_auth_calls=true"/>
  <X-PRE-PROCESS cmd="set" data="us-ring=%(2000,4000,440,480)"/>
  <XX-PRE-PROCESS cmd="set" data="off=yes"/>
</include>
""",
    "autoload_configs/cdr_csv.conf.xml": '<configuration name="cdr_csv.conf"><settings><param name="a" value="b"/></settings></configuration>',
    "autoload_configs/sofia.conf.xml": """\
<configuration name="sofia.conf" description="sofia Endpoint">
  <global_settings>
    <param name="log-level" value="0"/>
    <!-- <param name="auto-restart" value="false"/> -->
    <param name="debug-presence" value="0"/>
  </global_settings>
  <profiles>
    <X-PRE-PROCESS cmd="include" data="../sip_profiles/*.xml"/>
  </profiles>
</configuration>
""",
    "autoload_configs/acl.conf.xml": """\
<configuration name="acl.conf"><network-lists>
  <list name="lan" default="allow">
    <node type="deny" cidr="192.168.42.0/24"/>
    <node type="allow" cidr="192.168.42.42/32"/>
  </list>
  <list name="domains" default="deny"><node type="allow" domain="$${domain}"/></list>
</network-lists></configuration>
""",
    "autoload_configs/event_socket.conf.xml": """\
<configuration name="event_socket.conf"><settings>
  <param name="nat-map" value="false"/>
  <param name="listen-ip" value="::"/>
  <param name="listen-port" value="8021"/>
  <param name="password" value="ClueCon"/>
</settings></configuration>
""",
    "autoload_configs/switch.conf.xml": """\
<configuration name="switch.conf">
  <cli-keybindings><key name="1" value="help"/></cli-keybindings>
  <default-ptimes></default-ptimes>
  <settings>
    <param name="colorize-console" value="true"/>
    <param name="max-db-handles" value="50"/>
    <param name="db-handle-timeout" value="10"/>
    <param name="max-sessions" value="1000"/>
    <param name="sessions-per-second" value="30"/>
    <param name="loglevel" value="debug"/>
    <param name="mailer-app" value="sendmail"/>
  </settings>
</configuration>
""",
    "sip_profiles/internal.xml": """\
<profile name="internal">
  <aliases><!-- <alias name="default"/> --></aliases>
  <gateways></gateways>
  <domains><domain name="all" alias="true" parse="false"/></domains>
  <settings>
    <param name="debug" value="0"/>
    <param name="sip-trace" value="no"/>
    <param name="shutdown-on-fail" value="true"/>
    <param name="context" value="public"/>
    <param name="rfc2833-pt" value="101"/>
    <param name="sip-port" value="$${internal_sip_port}"/>
    <param name="rtp-ip" value="$${local_ip_v4}"/>
    <param name="sip-ip" value="$${local_ip_v4}"/>
    <param name="hold-music" value="$${hold_music}"/>
    <param name="apply-nat-acl" value="nat.auto"/>
    <param name="apply-inbound-acl" value="domains"/>
    <param name="local-network-acl" value="localnet.auto"/>
    <param name="inbound-codec-prefs" value="$${global_codec_prefs}"/>
    <param name="delete-subs-on-register" value="false"/>
    <param name="manage-presence" value="true"/>
    <param name="presence-hosts" value="$${domain},$${local_ip_v4}"/>
    <param name="rtp-timer-name" value="soft"/>
    <param name="inbound-reg-force-matching-username" value="true"/>
    <param name="auth-calls" value="$${internal_auth_calls}"/>
    <param name="auth-all-packets" value="false"/>
    <param name="ext-rtp-ip" value="$${external_rtp_ip}"/>
    <param name="ext-sip-ip" value="$${external_sip_ip}"/>
    <param name="force-register-domain" value="$${domain}"/>
    <param name="ws-binding"  value=":5066"/>
    <param name="wss-binding" value=":7443"/>
    <param name="tls-version" value="$${sip_tls_version}"/>
    <param name="challenge-realm" value="auto_from"/>
    <param name="watchdog-enabled" value="no"/>
    <param name="from-another-module" value="1"/>
  </settings>
</profile>
""",
    "directory/default.xml": """\
<include>
  <domain name="$${domain}">
    <params>
      <param name="dial-string" value="{^^:presence_id=${dialed_user}@${dialed_domain}}${sofia_contact(*/${dialed_user}@${dialed_domain})}"/>
      <param name="jsonrpc-allowed-methods" value="verto"/>
    </params>
    <groups>
      <group name="default"><users>
        <user id="1000"><params><param name="password" value="$${default_password}"/><param name="vm-password" value="1000"/></params>
          <variables><variable name="user_context" value="default"/></variables></user>
      </users></group>
      <group name="sales"><users><user id="1000" type="pointer"/></users></group>
    </groups>
  </domain>
</include>
""",
    "dialplan/default.xml": """\
<?xml version="1.0" encoding="utf-8"?>
<include>
  <context name="default">
    <extension name="unloop">
      <condition field="${unroll_loops}" expression="^true$"/>
      <condition field="${sip_looped_call}" expression="^true$"><action application="deflect" data="${destination_number}"/></condition>
    </extension>
    <extension name="global" continue="true">
      <condition field="${call_debug}" expression="^true$" break="never"><action application="info"/></condition>
      <condition field="${default_password}" expression="^1234$" break="never"><action application="sleep" data="10000"/></condition>
      <condition field="${rtp_has_crypto}" expression="^($${rtp_sdes_suites})$" break="never">
        <action application="set" data="rtp_secure_media=true"/>
      </condition>
      <condition><action application="hash" data="insert/${domain_name}-spymap/${caller_id_number}/${uuid}"/></condition>
    </extension>
    <extension name="Local_Extension">
      <condition field="destination_number" expression="^(10[01][0-9])$">
        <action application="export" data="dialed_extension=$1"/>
        <!-- bind_meta_app can have these args <key> [a|b|ab] -- <app> -->
        <action application="bind_meta_app" data="1 b s execute_extension::dx XML features"/>
        <action application="set" data="ringback=${us-ring}"/>
        <action application="bridge" data="user/${dialed_extension}@${domain_name}"/>
      </condition>
    </extension>
  </context>
  <context name="public"/>
</include>
""",
}


@pytest.fixture
def stock(tmp_path: Path) -> Path:
    return plant(tmp_path, FILES)


@pytest.fixture
def configuration(stock: Path) -> Configuration:
    return load(stock)


def test_it_loads_without_an_error_and_each_warning_has_its_place(stock: Path) -> None:
    assert [str(complaint).removeprefix(f"{stock}/") for complaint in check(stock)] == [
        "autoload_configs/cdr_csv.conf.xml:1: configuration 'cdr_csv.conf' is not known to this node and has no effect",
        "autoload_configs/event_socket.conf.xml:5: the event socket is open to the network with a well-known password",
        "directory/default.xml:9: user '1000' (the first of them) has a password that everybody knows",
        "freeswitch.xml:11: section 'chatplan' is not known to this node and has no effect",
        "freeswitch.xml:15: section 'languages' is not known to this node and has no effect",
        "sip_profiles/internal.xml:26: ext-rtp-ip is empty: no public address is known, the local one is used",
        "sip_profiles/internal.xml:27: ext-sip-ip is empty: no public address is known, the local one is used",
        "sip_profiles/internal.xml:30: WSS does not start: /var/run/sofia-node/certs/wss.pem: No such file or directory",
        "sip_profiles/internal.xml:34: profile param 'from-another-module' is not known to this node and has no effect",
        "vars.xml:6: external_rtp_ip is left unset, 'host:' gives no address: it must name a server",
        "vars.xml:7: external_sip_ip is left unset, 'host:' gives no address: it must name a server",
    ]


def test_its_profile_is_what_it_says(configuration: Configuration) -> None:
    internal = configuration.profiles["internal"]
    assert (internal.auth_calls, internal.context, internal.manage_presence) == (True, "public", "true")
    assert internal.inbound_codec_prefs == ("OPUS", "G722", "PCMU", "PCMA", "H264", "VP8")
    assert internal.tls_version == ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")


def test_its_users_are_found(configuration: Configuration) -> None:
    user = Directory(configuration.directory).find("1000", configuration.globals["domain"])
    assert user is not None
    assert (user.password, user.context, user.group) == ("1234", "default", "default")


def test_its_dialplan_routes_as_in_freeswitch(configuration: Configuration) -> None:
    facts = Facts(destination_number="1000", variables={"default_password": "1234"})
    assert route(configuration.dialplan, "default", facts) == [
        Step("sleep", "10000"),
        # An unset variable against an expression that is empty but for its brackets: FreeSWITCH says yes, too.
        Step("set", "rtp_secure_media=true"),
        Step("hash", "insert/${domain_name}-spymap/${caller_id_number}/${uuid}"),
        Step("export", "dialed_extension=1000"),
        Step("bind_meta_app", "1 b s execute_extension::dx XML features"),
        Step("set", "ringback=${us-ring}"),
        Step("bridge", "user/${dialed_extension}@${domain_name}"),
    ]
