"""Mistakes an operator makes, each with the file and line it must be said at."""

from pathlib import Path

import pytest

from node.config import ConfigurationError, check, load
from tests.node.config.tree import SOFIA, configuration, context, domain, plant, profile, said

USER = '<user id="1000"><params><param name="password" value="x7Kq-secret-9"/></params></user>'


def general(*lines: str) -> str:
    """A sofia.conf whose global params stand from line 3 on."""
    params = "\n".join(lines)
    rest = SOFIA.partition("\n")[2]
    return f'<configuration name="sofia.conf">\n  <global_settings>\n{params}\n  </global_settings>\n{rest}'


MISTAKES = [
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="auth-calls" value="ture"/>')},
        "sip_profiles/internal.xml:5: auth-calls must be true or false, not 'ture'",
        id="a wrong boolean",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", "", '<param name="nonce-ttl" value="a minute"/>')},
        "sip_profiles/internal.xml:6: nonce-ttl must be a whole number, not 'a minute'",
        id="a wrong number",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile(port=70000)},
        "sip_profiles/internal.xml:4: sip-port must be 1 to 65535, not 70000",
        id="a wrong port",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="rtp-ip" value="10.0.0.300"/>')},
        "sip_profiles/internal.xml:5: rtp-ip is no IP address: '10.0.0.300'",
        id="a wrong address",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="codec-prefs" value="PCMU,PC MA"/>')},
        "sip_profiles/internal.xml:5: codec-prefs has a codec not written as NAME[@rateh][@ptimei]: 'PC MA'",
        id="a codec written wrongly",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="codec-prefs" value="PCMU,PCMB"/>')},
        "sip_profiles/internal.xml:5: codec-prefs names a codec that is not known and left out: 'PCMB'",
        id="an unknown codec",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="bind-params" value="transport=udp,tpc"/>')},
        "sip_profiles/internal.xml:5: bind-params does not know 'tpc': it takes udp, tcp, tls, ws, wss, sctp",
        id="an unknown transport",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="apply-inbound-acl" value="domians"/>')},
        "sip_profiles/internal.xml:5: apply-inbound-acl names access list 'domians', which does not exist: "
        "nobody passes it",
        id="an access list that is not there",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="apply-register-acl" value="10.0.0.0/33"/>')},
        "sip_profiles/internal.xml:5: apply-register-acl '10.0.0.0/33' is no CIDR such as 192.0.2.0/24",
        id="a wrong CIDR in place of a list",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="user-agent-filter" value="Snom("/>')},
        "sip_profiles/internal.xml:5: user-agent-filter is no regular expression: missing ), unterminated subpattern "
        "at position 4",
        id="a wrong regular expression in a profile",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="track-cals" value="true"/>')},
        "sip_profiles/internal.xml:5: profile param 'track-cals' is not known to this node and has no effect",
        id="a param that is not known",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": '<profile name="internal">\n</profile>\n'},
        "sip_profiles/internal.xml:1: profile 'internal' has no <settings>",
        id="a profile without settings",
    ),
    pytest.param(
        {"sip_profiles/second.xml": "\n" + profile("internal", port=5070)},
        "sip_profiles/second.xml:2: profile 'internal' is already defined at {tree}/sip_profiles/internal.xml:1",
        id="a profile defined twice",
    ),
    pytest.param(
        {"sip_profiles/second.xml": profile("second")},
        "sip_profiles/second.xml:4: 127.0.0.1:5060 is already taken by profile 'internal'",
        id="two profiles on the same address and port",
    ),
    pytest.param(
        {
            "sip_profiles/internal.xml": '<profile name="internal">\n<settings/>\n<gateways>\n'
            '<gateway name="a b"><param name="register" value="false"/></gateway>\n</gateways>\n</profile>'
        },
        "sip_profiles/internal.xml:4: 'a b' is no name for a gateway: letters, digits, `.`, `-` and `_`",
        id="a gateway with a blank in its name",
    ),
    pytest.param(
        {
            "sip_profiles/internal.xml": '<profile name="internal">\n<settings/>\n<gateways>\n'
            '<gateway name="g"><param name="register" value="false"/></gateway>\n'
            '<gateway name="g"><param name="register" value="false"/></gateway>\n</gateways>\n</profile>'
        },
        "sip_profiles/internal.xml:5: gateway 'g' is already defined at {tree}/sip_profiles/internal.xml:4",
        id="a gateway defined twice",
    ),
    pytest.param(
        {
            "sip_profiles/internal.xml": '<profile name="internal">\n<settings/>\n<gateways>\n'
            '<gateway name="g"><param name="username" value="u"/></gateway>\n</gateways>\n</profile>'
        },
        "sip_profiles/internal.xml:4: gateway 'g' registers and needs password",
        id="a gateway that registers without a password",
    ),
    pytest.param(
        {"directory/default.xml": domain(USER, USER)},
        "directory/default.xml:3: user '1000' is already defined at {tree}/directory/default.xml:2",
        id="a user defined twice",
    ),
    pytest.param(
        {"directory/default.xml": domain(USER, '<user id="1001"/>')},
        "directory/default.xml:3: user '1001' has no password: FreeSWITCH would let anybody in by that name",
        id="a user without a password",
    ),
    pytest.param(
        {"directory/default.xml": domain('<user id="1000" cidr="10.0.0.0/8,1.2.3"><params/></user>')},
        "directory/default.xml:2: cidr: '1.2.3' is no CIDR such as 192.0.2.0/24",
        id="a wrong CIDR of a user",
    ),
    pytest.param(
        {
            "autoload_configs/acl.conf.xml": '<configuration name="acl.conf">\n<network-lists>\n<list name="lan">\n'
            '<node type="allow" cidr="192.168.1.0/244"/>\n</list>\n</network-lists>\n</configuration>'
        },
        "autoload_configs/acl.conf.xml:4: '192.168.1.0/244' is no CIDR such as 192.0.2.0/24",
        id="a wrong CIDR in an access list",
    ),
    pytest.param(
        {
            "dialplan/default.xml": context(
                '<extension name="e">',
                '<condition field="destination_number" expression="^(10[01]$">',
                '<action application="answer"/></condition></extension>',
            )
        },
        "dialplan/default.xml:3: expression is no regular expression: missing ), unterminated subpattern at position 1",
        id="a wrong expression in the dialplan",
    ),
    pytest.param(
        {
            "dialplan/default.xml": context(
                "<extension>", '<condition wday="sun-sat,8">', '<action application="answer"/></condition></extension>'
            )
        },
        "dialplan/default.xml:3: wday must be 1 to 7, not '8'",
        id="a day that is none",
    ),
    pytest.param(
        {"dialplan/default.xml": context("<extension><condition>", '<action data="x"/></condition></extension>')},
        "dialplan/default.xml:3: <action> needs an application",
        id="an action without an application",
    ),
    pytest.param(
        {
            "dialplan/default.xml": context(
                "<extension><condition>", '<action application="brigde" data="x"/></condition></extension>'
            )
        },
        "dialplan/default.xml:3: application 'brigde' is not known to this node and has no effect",
        id="an unknown application",
    ),
    pytest.param(
        {
            "dialplan/default.xml": context(name="default"),
            "sip_profiles/internal.xml": profile("internal", '<param name="context" value="pubic"/>'),
        },
        "sip_profiles/internal.xml:5: context 'pubic' is not in the dialplan: calls would go nowhere",
        id="a context that is not there",
    ),
    pytest.param(
        {"vars.xml": '\n\n<X-PRE-PROCESS cmd="include" data="vars-of-ours.xml"/>\n'},
        "vars.xml:3: include: there is no file 'vars-of-ours.xml'",
        id="an include of a file that is not there",
    ),
    pytest.param(
        {"vars.xml": "<X-PRE-PROCESS cmd='set' data='a=b'/>\n"},
        'vars.xml:1: X-PRE-PROCESS needs cmd="..." and data="..." on the same line, double-quoted',
        id="a preprocessor line in single quotes",
    ),
    pytest.param(
        {"vars.xml": '<X-PRE-PROCESS cmd="exec-set" data="ip=curl ifconfig.example"/>\n'},
        "vars.xml:1: running a command at load is not allowed here (allow it with --allow-exec)",
        id="a command to be run at load",
    ),
    pytest.param(
        {"vars.xml": '<X-PRE-PROCESS cmd="set" data="a=$${b"/>\n'},
        "vars.xml:1: unterminated $${..}: a } is missing",
        id="a variable without its closing brace",
    ),
    pytest.param(
        {"autoload_configs/ha.conf.xml": configuration("ha.conf", '<param name="lease-margin" value="800"/>')},
        "autoload_configs/ha.conf.xml:3: lease-margin (800 ms) must be below lease-ttl (440 ms): the holder would let go "
        "of the lease at once",
        id="a margin that eats the lease",
    ),
    pytest.param(
        {"autoload_configs/ha.conf.xml": configuration("ha.conf", "", '<param name="lease-renew" value="300"/>')},
        "autoload_configs/ha.conf.xml:4: lease-renew (300 ms) is too slow: two renewals must fit into lease-ttl less "
        "lease-margin (300 ms), or one late answer costs the lease",
        id="a lease renewed too slowly",
    ),
    pytest.param(
        {"autoload_configs/ha.conf.xml": configuration("ha.conf", '<param name="address-mode" value="netlink"/>')},
        "autoload_configs/ha.conf.xml:3: address-mode netlink needs shared-address and interface",
        id="an address to be moved that is not told",
    ),
    pytest.param(
        {
            "autoload_configs/ha.conf.xml": configuration(
                "ha.conf",
                '<param name="peer-listen" value="127.0.0.1:7001"/>',
                '<param name="peer-address" value="127.0.0.1:7002"/>',
            )
        },
        "autoload_configs/ha.conf.xml:4: a pair needs one store for both nodes: set core-db-dsn in switch.conf",
        id="a pair without a store in common",
    ),
    pytest.param(
        {"autoload_configs/switch.conf.xml": configuration("switch.conf", '<param name="rtp-end-port" value="1000"/>')},
        "autoload_configs/switch.conf.xml:3: rtp-end-port must be 1024 to 65535, not 1000",
        id="a media port too low",
    ),
    pytest.param(
        {"autoload_configs/event_socket.conf.xml": configuration("event_socket.conf")},
        "autoload_configs/event_socket.conf.xml:1: the event socket needs a password",
        id="an event socket without a password",
    ),
    pytest.param(
        {"autoload_configs/z.xml": "<configuration name='x.conf'>\n<settings>\n</configuration>\n"},
        "autoload_configs/z.xml:3: <settings>, opened at line 2, is closed by another tag",
        id="a tag that is not closed",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": "<profile name='internal'>\n<settings>\n</settings>\n"},
        "sip_profiles/internal.xml:1: <profile> is never closed",
        id="an included file that does not close its tag",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile() + "</profile>\n"},
        "sip_profiles/internal.xml:8: a tag is closed here that this file does not open",
        id="an included file that closes too much",
    ),
    pytest.param(
        {"dialplan/default.xml": context('<extension name="a<b"/>')},
        "dialplan/default.xml:2: not well-formed: a < inside a value must be written &lt;",
        id="a bracket inside a value",
    ),
    pytest.param(
        {"dialplan/default.xml": context('<extension name="a>', "</extension>")},
        "dialplan/default.xml:2: not well-formed: a quote is not closed",
        id="a quote that is not closed",
    ),
    pytest.param(
        {"sip_profiles/internal.xml": profile("internal", '<param name="tls" value="true"')},
        "sip_profiles/internal.xml:5: not well-formed: this tag is not finished",
        id="a tag that is not finished",
    ),
    pytest.param(
        {"autoload_configs/sofia.conf.xml": general('<param name="tracelevel" value="loud"/>')},
        "autoload_configs/sofia.conf.xml:3: tracelevel must be one of console, alert, crit, err, warning, notice, info, "
        "debug, not 'loud'",
        id="an unknown tracelevel",
    ),
    pytest.param(
        {"autoload_configs/sofia.conf.xml": general('<param name="capture-server" value="homer:9060"/>')},
        "autoload_configs/sofia.conf.xml:3: capture-server must be udp:host:port;hep=3;capture_id=100, not 'homer:9060'",
        id="a wrong capture server",
    ),
    pytest.param(
        {"autoload_configs/sofia.conf.xml": general('<param name="log-level" value="10"/>')},
        "autoload_configs/sofia.conf.xml:3: log-level must be 0 to 9, not 10",
        id="a wrong log level",
    ),
    pytest.param(
        {"autoload_configs/sofia.conf.xml": general('<param name="trace-secrets" value="true"/>')},
        "autoload_configs/sofia.conf.xml:3: trace-secrets is on: traces, dumps and captures show passwords' proofs and "
        "keys to who reads them",
        id="secrets shown",
    ),
]


@pytest.mark.parametrize(("files", "sentence"), MISTAKES)
def test_a_mistake_is_said_with_its_file_and_line(tmp_path: Path, files: dict[str, str], sentence: str) -> None:
    assert sentence.replace("{tree}", str(tmp_path)) in said(tmp_path, files)


def test_a_sound_tree_gives_no_complaint(tmp_path: Path) -> None:
    assert said(tmp_path, {}) == []


def test_one_pass_says_all_that_is_wrong_in_all_files(tmp_path: Path) -> None:
    complaints = said(
        tmp_path,
        {
            "vars.xml": '<X-PRE-PROCESS cmd="include" data="gone.xml"/>',
            "sip_profiles/internal.xml": profile("internal", '<param name="tls" value="si"/>'),
            "sip_profiles/second.xml": "<profile",
            "dialplan/default.xml": context("<extension><condition><action/></condition></extension>"),
            "directory/default.xml": domain('<user id="1000"/>'),
        },
    )
    assert [complaint.split(": ")[0] for complaint in complaints] == [
        "dialplan/default.xml:2",
        "sip_profiles/internal.xml:5",
        "sip_profiles/second.xml:1",
        "vars.xml:1",
        "directory/default.xml:2",
    ]


def test_without_the_root_file_nothing_can_be_said_but_that(tmp_path: Path) -> None:
    assert [str(complaint) for complaint in check(tmp_path)] == [
        f"{tmp_path}/freeswitch.xml:1: cannot be read: No such file or directory"
    ]


def test_a_tree_without_profiles_is_refused(tmp_path: Path) -> None:
    plant(tmp_path)
    (tmp_path / "sip_profiles/internal.xml").unlink()
    with pytest.raises(ConfigurationError, match=r"sofia\.conf has no profile"):
        load(tmp_path)


def test_warnings_alone_do_not_keep_a_tree_from_loading(tmp_path: Path) -> None:
    plant(tmp_path, {"directory/default.xml": domain('<user id="1001"/>')})
    assert [complaint.severity for complaint in load(tmp_path).warnings] == ["warning"]


def test_what_is_unknown_is_said_once_for_each_name(tmp_path: Path) -> None:
    complaints = said(
        tmp_path,
        {
            "sip_profiles/internal.xml": profile("internal", '<param name="nonsense" value="1"/>'),
            "sip_profiles/second.xml": profile("second", '<param name="nonsense" value="2"/>', port=5070),
        },
    )
    assert len(complaints) == 1


def test_no_complaint_ever_shows_a_secret(tmp_path: Path) -> None:
    password = "hunter2-hunter2"
    complaints = said(
        tmp_path,
        {
            "vars.xml": f'<X-PRE-PROCESS cmd="set" data="default_password={password}"/>',
            "autoload_configs/event_socket.conf.xml": configuration(
                "event_socket.conf",
                '<param name="listen-port" value="$${default_password}"/>',
                f'<param name="password" value="{password}"/>',
            ),
            "autoload_configs/switch.conf.xml": configuration(
                "switch.conf", f'<param name="core-db-dsn" value="oracle://u:{password}@h/d"/>'
            ),
            "directory/default.xml": domain(f'<user id="1000"><params><param name="password" value="{password}"/>'),
        },
    )
    assert len(complaints) == 3
    assert not [complaint for complaint in complaints if password in complaint]


@pytest.mark.parametrize(
    ("rest", "wrong"),
    [
        ("{password}@127.0.0.1:6379/sofia", "the database of a Redis is a whole number"),
        ("{password}@127.0.0.1:{password}", "the port of a Redis is a whole number"),
        ("{password}@one:6379,two:6379/0", "redis:// names one server"),
        ("{password}@127.0.0.1?{password}=1", "a Redis has the options timeout, "),
        ("{password}@127.0.0.1?wait=some", "option wait of a Redis is a whole number"),
        ("{password}@", "the DSN of a Redis names no host"),
        ("{password}@127.0.0.1?ca=/etc/ca.pem", "are for a Redis over TLS: rediss://"),
    ],
)
def test_a_wrong_redis_is_named_by_its_line_and_without_its_password(tmp_path: Path, rest: str, wrong: str) -> None:
    password = "hunter2-hunter2"
    dsn = f"redis://:{rest.format(password=password)}"
    files = {
        "autoload_configs/switch.conf.xml": configuration("switch.conf", f'<param name="core-db-dsn" value="{dsn}"/>')
    }
    (complaint,) = said(tmp_path, files)
    assert complaint.startswith("autoload_configs/switch.conf.xml:")
    assert wrong in complaint
    assert password not in complaint


def test_a_password_everybody_knows_is_warned_of_once(tmp_path: Path) -> None:
    user = '<user id="{}"><params><param name="password" value="1234"/></params></user>'
    complaints = said(tmp_path, {"directory/default.xml": domain(user.format(1000), user.format(1001))})
    assert complaints == [
        "directory/default.xml:2: user '1000' (the first of them) has a password that everybody knows"
    ]


def test_an_override_that_no_file_uses_is_pointed_out(tmp_path: Path) -> None:
    assert said(tmp_path, {}, siip_ip="127.0.0.1") == [
        "freeswitch.xml:1: variable 'siip_ip' was set from outside, but no file sets or uses it"
    ]


def test_a_pair_may_not_run_with_a_password_one_node_made_up(tmp_path: Path) -> None:
    files = {
        "autoload_configs/ha.conf.xml": configuration(
            "ha.conf",
            '<param name="peer-listen" value="127.0.0.1:7001"/>',
            '<param name="peer-address" value="127.0.0.1:7002"/>',
        ),
        "autoload_configs/switch.conf.xml": configuration(
            "switch.conf", '<param name="core-db-dsn" value="sqlite:///shared.db"/>'
        ),
        "sip_profiles/internal.xml": profile("internal", '<param name="track-calls" value="true"/>'),
        "directory/default.xml": domain(USER.replace("x7Kq-secret-9", "$${default_password}")),
    }
    (complaint,) = said(tmp_path, files)
    assert complaint.startswith("autoload_configs/ha.conf.xml:4: the users' password was made up by this node")
    assert said(tmp_path, files, default_password="chosen-by-us") == []
