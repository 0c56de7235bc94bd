"""Every debugging command on a real node: what each of them changes in the log, in the dump, and on the capture server."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import re
import shutil
import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from node import debug
from tests.node.transport.test_hep import chunks
from tests.support.node import DOMAIN, PASSWORD, ROOT, STRETCH, Node, loopback_address, shared_settings, until
from tests.support.phone import Phone
from tests.support.srtp import SecureLine, SecurePhone
from tests.support.stun import StunServer

pytestmark = pytest.mark.real


class Log:
    """What a node has written to its log since a moment."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._path = node.run_dir / "log" / "sofia-node.log"
        self._begin = self._path.stat().st_size

    def text(self) -> str:
        with self._path.open("rb") as file:
            file.seek(self._begin)
            return file.read().decode()

    def wait(self, *patterns: str, within: float = 10.0) -> str:
        """Until all of them are in it."""
        until(
            lambda: all(re.search(pattern, self.text(), re.MULTILINE) for pattern in patterns),
            within, f"{patterns} in the log", self.node,
        )  # fmt: skip
        return self.text()


def changed_conf(folder: Path, *params: str) -> Path:
    """The configuration that comes with the node, with these params in the global settings of sofia.conf."""
    conf = folder / "conf"
    shutil.copytree(ROOT / "conf", conf)
    path = conf / "autoload_configs" / "sofia.conf.xml"
    lines = [f'<param name="{name}" value="{value}"/>' for name, _, value in (each.partition("=") for each in params)]
    path.write_text(path.read_text().replace("</global_settings>", "\n".join([*lines, "</global_settings>"])))
    return conf


@contextlib.contextmanager
def running(
    folder: Path, *params: str, environment: Mapping[str, str] = MappingProxyType({}), **settings: str
) -> Iterator[Node]:
    shared = shared_settings(loopback_address(), folder / "store.db") | settings
    node = Node("solo", folder / "solo", shared, standalone=True, conf=changed_conf(folder, *params))
    node.environment |= environment
    with node.serving():
        yield node


def capture_server() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    sock.settimeout(10 * STRETCH)
    return sock


@pytest.fixture(scope="module")
def homer() -> Iterator[socket.socket]:
    """The capture server of the module's node."""
    with capture_server() as sock:
        yield sock


@pytest.fixture(scope="module")
def stun() -> Iterator[int]:
    """A STUN server that says 127.0.0.1; gives its port."""
    with StunServer("127.0.0.1") as server:
        yield server.port


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, homer: socket.socket, stun: int) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("debugging")
    server = f"capture-server=udp:127.0.0.1:{homer.getsockname()[1]};hep=3;capture_id=100"
    with running(folder, server, external_rtp_ip=f"stun:127.0.0.1:{stun}") as made:
        yield made


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> Iterator[None]:
    """The module's node is as it was at its start when a test is over."""
    yield
    if "node" in request.fixturenames:
        made = request.getfixturevalue("node")
        for line in ("global siptrace off", "global capture off", "global debug none", "loglevel all 0"):
            made.api(f"sofia {line}")
        made.api("sofia tracelevel console")


# ---- what makes the node speak -------------------------------------------------------------------------------------


def register(node: Node) -> None:
    async def scenario() -> None:
        async with Phone("1000", PASSWORD, node.sip, domain=DOMAIN) as phone:
            assert (await phone.register()).status == 200

    asyncio.run(scenario())


def call(node: Node) -> None:
    async def scenario() -> None:
        async with Phone("1000", PASSWORD, node.sip, domain=DOMAIN) as phone:
            line = await phone.call("9196")
            async with asyncio.timeout(10 * STRETCH):
                await line.answered.wait()
            await line.hangup()

    asyncio.run(scenario())


def ask(node: Node, method: str, *fields: str, body: str = "", port: int = 5060, tcp: bool = False) -> str:
    """A request of somebody without credentials; the first line of the answer."""
    kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.settimeout(10 * STRETCH)
        sock.connect((node.sip[0], port))
        ip, own = sock.getsockname()
        lines = [
            f"{method} sip:1001@{DOMAIN} SIP/2.0",
            f"Via: SIP/2.0/{'TCP' if tcp else 'UDP'} {ip}:{own};rport;branch=z9hG4bK{os.urandom(8).hex()}",
            f"From: <sip:1000@{DOMAIN}>;tag={os.urandom(4).hex()}",
            f"To: <sip:1001@{DOMAIN}>",
            f"Call-ID: {os.urandom(8).hex()}",
            f"CSeq: 1 {method}",
            f"Contact: <sip:1000@{ip}:{own}>",
            "Max-Forwards: 70",
            *fields,
            f"Content-Length: {len(body)}",
        ]
        sock.send(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
        return sock.recv(65535).decode().partition("\r\n")[0]


def options(node: Node) -> None:
    assert ask(node, "OPTIONS") == "SIP/2.0 200 OK"


def subscribe(node: Node) -> None:
    ask(node, "SUBSCRIBE", "Event: presence", "Expires: 300")


def dial_a_name(node: Node) -> None:
    node.api("originate {originate_timeout=1}sofia/internal/1000@localhost:9 &echo")


def rescan(node: Node) -> None:
    assert node.api("sofia profile internal rescan") == "Reload XML [Success]\n+OK scan complete\n"


def status(node: Node) -> None:
    assert "internal" in node.api("sofia status")


def everything_since(log: Log) -> str:
    """All that the first worker and the console have written until now: lines of one process keep their order."""
    for line in ("loglevel default 5", "loglevel nth_server 5", "loglevel default 4"):
        log.node.api(f"sofia {line}")
    text = log.wait(r"internal#0 sofia\.default: told to loglevel default 4", r"sofia\.nth_server: connection")
    for name in ("default", "nth_server"):
        log.node.api(f"sofia loglevel {name} 0")
    return text


# ---- sofia loglevel ------------------------------------------------------------------------------------------------

COMPONENTS = {
    "default": (rescan, "told to rescan"),
    "tport": (options, r"received \d+ bytes from internal/udp"),
    "iptsec": (register, r"REGISTER from internal/udp \S+ \S+ by 1000: good"),
    "nea": (subscribe, r"SUBSCRIBE sip:1001@\S+ \(.*\), event presence"),
    "nta": (options, r"received OPTIONS sip:1001@\S+ \(CSeq 1 OPTIONS"),
    "nth_client": (status, r"asks the supervisor: profiles"),
    "nth_server": (status, r"runs sofia status"),
    "nua": (register, r"REGISTER of sip:1000@\S+ from internal/udp \S+ \S+: 200"),
    "soa": (call, r"answer of our own: "),
    "sresolv": (dial_a_name, r"localhost is reached at "),
    "stun": (rescan, r"stun:127\.0\.0\.1:\d+ is 127\.0\.0\.1"),
}
"What each component speaks of, and in which words."


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_speaks_when_its_level_is_raised_and_no_other_does(node: Node, component: str) -> None:
    stimulus, words = COMPONENTS[component]
    log = Log(node)
    stimulus(node)
    assert not re.search(rf" sofia\.{component}: .*{words}", everything_since(log))
    log = Log(node)
    answer = node.api(f"sofia loglevel {component} 9")
    assert answer == f"Sofia log level for component [{component}] has been set to [9]"
    stimulus(node)
    text = log.wait(rf"\[CONSOLE\] \S+ sofia\.{component}: .*{words}")
    others = {name: said for name, (_stimulus, said) in COMPONENTS.items() if name != component}
    assert [name for name, said in others.items() if re.search(rf" sofia\.{name}: .*{said}", text)] == []


def test_higher_levels_say_more(node: Node) -> None:
    lines = []
    for level in (3, 5, 7, 9, 0):
        log = Log(node)
        node.api(f"sofia loglevel nta {level}")
        everything_since(log)
        log = Log(node)
        register(node)
        said = re.findall(r" sofia\.nta: (.*)", everything_since(log))
        lines.append(
            {re.sub(r"z9hG4bK\w+|Call-ID \w+|:\d+", "", line) for line in said}
        )  # the same of a repeated request
    assert lines[0] == lines[4] == set()
    assert lines[1] < lines[2] <= lines[3]
    assert lines[1]


def test_all_speak_at_once(node: Node) -> None:
    node.api("sofia loglevel all 9")
    log = Log(node)
    for stimulus, _words in COMPONENTS.values():
        stimulus(node)
    log.wait(*(rf" sofia\.{name}: .*{words}" for name, (_stimulus, words) in COMPONENTS.items()))
    node.api("sofia loglevel all 0")
    everything_since(log)
    log = Log(node)
    for stimulus in (register, subscribe, options):
        stimulus(node)
    spoken = set(re.findall(r" sofia\.(\w+): ", everything_since(log)))
    assert spoken <= {"default", "nth_server"}, "but for those by which it is known that nothing more comes"


# ---- the message trace ---------------------------------------------------------------------------------------------


def test_siptrace_of_one_profile_shows_its_messages_without_their_secrets(node: Node) -> None:
    log = Log(node)
    register(node)
    assert node.api("sofia profile internal siptrace on") == "Enabled sip debugging on internal"
    register(node)
    ask(node, "OPTIONS", port=5080)
    text = log.wait(r"send \d+ bytes to udp/\[127\.0\.0\.1\]:\d+ at [\d:.]+:\n-{72}\nSIP/2\.0 200 OK")
    assert re.search(r"recv \d+ bytes from udp/\[127\.0\.0\.1\]:\d+ at [\d:.]+:\n-{72}\nREGISTER sip:", text)
    assert 'response="***"' in text
    assert not re.search(r'response="?[0-9a-f]', text)
    assert "OPTIONS sip:1001" not in text
    assert node.api("sofia profile internal siptrace off") == "Disabled sip debugging on internal"
    log = Log(node)
    register(node)
    assert "bytes from" not in everything_since(log)


def test_global_siptrace_shows_all_profiles_and_transports(node: Node) -> None:
    assert node.api("sofia global siptrace on") == "+OK Global siptrace on"
    log = Log(node)
    ask(node, "OPTIONS", "X-Trace: one", port=5080)
    ask(node, "OPTIONS", "X-Trace: two", "Subject: \x1b[31m\xff", tcp=True)
    text = log.wait("^X-Trace: one", "^X-Trace: two", r"send \d+ bytes to tcp/\[127\.")
    assert re.search(r"recv \d+ bytes from tcp/\[127\.", text)
    assert "Subject: \\x1b[31m\xff" in text
    assert node.api("sofia global siptrace off") == "+OK Global siptrace off"
    log = Log(node)
    for port in (5060, 5080):
        ask(node, "OPTIONS", "X-Trace: three", port=port)
    assert "X-Trace: three" not in everything_since(log)


def test_no_secret_is_told_however_loud_all_speak(node: Node) -> None:
    """A call between phones that encrypt, everything on: neither password nor answer to a challenge nor key is told."""
    secrets: set[str] = {PASSWORD}

    async def scenario() -> None:
        async with (
            SecurePhone("1000", PASSWORD, node.sip, domain=DOMAIN) as alice,
            SecurePhone("1001", PASSWORD, node.sip, domain=DOMAIN) as bob,
        ):
            await alice.register()
            await bob.register()
            line = await alice.call("1001")
            heard = await bob.answer_next(10 * STRETCH)
            async with asyncio.timeout(10 * STRETCH):
                await line.answered.wait()
            for each in (line, heard):
                assert isinstance(each, SecureLine)
                secrets.add(base64.b64encode(each.secure.key).decode())
            secrets.update(re.findall(r'response="(\w+)"', line._invite.encode().decode() if line._invite else ""))
            assert (await line.hangup()).status == 200

    for command in ("global siptrace on", "global debug presence", "loglevel all 9"):
        node.api(f"sofia {command}")
    log = Log(node)
    asyncio.run(scenario())
    text = log.wait(r"sofia\.siptrace: send \d+ bytes(.|\n)*\nBYE sip:")
    assert len(secrets) == 4
    assert "Proxy-Authorization: Digest" in text
    assert "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" in text
    assert [each for each in secrets if each in text] == []
    assert set(re.findall(r'response="?([^",\s]*)', text)) == {"***"}


def test_the_trace_goes_out_at_the_tracelevel(node: Node) -> None:
    node.api("sofia global siptrace on")
    log = Log(node)
    for number, (level, answer) in enumerate(
        [("6", "INFO"), ("alert", "ALERT"), ("debug", "DEBUG"), ("disable", "DISABLE")]
    ):
        assert node.api(f"sofia tracelevel {level}") == f"+OK tracelevel is {answer}"
        ask(node, "OPTIONS", f"X-Trace: {number}")
    node.api("sofia tracelevel console")
    ask(node, "OPTIONS", "X-Trace: last")
    text = log.wait("^X-Trace: last")
    assert [each for each in ("0", "1", "2", "3") if f"X-Trace: {each}\n" in text] == ["0", "1"]  # the log is at info
    assert re.findall(r"\[(\w+)\] \S+ sofia\.siptrace: recv", text) == ["INFO", "ALERT", "CONSOLE"]


# ---- sofia global debug --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("area", "event", "other"), [("presence", "presence", "call-info"), ("sla", "call-info", "presence")]
)
def test_debugging_of_presence_and_shared_lines(node: Node, area: str, event: str, other: str) -> None:
    log = Log(node)
    ask(node, "SUBSCRIBE", f"Event: {event}")
    answer = node.api(f"sofia global debug {area}")
    assert answer.startswith(f"+OK Debugging {area}\n+OK Debugging summary: ")
    ask(node, "SUBSCRIBE", f"Event: {other}")
    for method in ("NOTIFY", "PUBLISH", "SUBSCRIBE"):
        ask(node, method, f"Event: {event}", "Expires: 60", "Content-Type: text/plain", body="a body")
    text = log.wait(rf"sofia\.{area}: SUBSCRIBE ", r"^a body")
    told = re.findall(rf"sofia\.{area}: (\w+) sip:\S+ \(CSeq", text)
    assert told == ["NOTIFY", "PUBLISH", "SUBSCRIBE"]
    assert f"event {other}" not in text
    assert node.api("sofia global debug none").endswith("presence: off sla: off\n")
    log = Log(node)
    ask(node, "SUBSCRIBE", f"Event: {event}")
    assert f"sofia.{area}: " not in everything_since(log)


# ---- captures ------------------------------------------------------------------------------------------------------


def captured(homer: socket.socket, last: bytes) -> list[dict[int, bytes]]:
    """What comes until a message holds `last`, but for the OPTIONS by which the node watches itself."""
    heard: list[dict[int, bytes]] = []
    while not heard or last not in heard[-1][15]:
        message = chunks(homer.recv(65535))
        if b"branch=z9hG4bKprobe" not in message[15]:
            heard.append(message)
    return heard


def test_captures_go_to_the_capture_server_without_secrets(node: Node, homer: socket.socket) -> None:
    register(node)
    assert node.api("sofia profile internal capture on") == "Enabled sip capturing on internal"
    register(node)
    heard = captured(homer, b"SIP/2.0 200")
    assert [each[15].split(b" ")[0] for each in heard] == [b"REGISTER", b"SIP/2.0", b"REGISTER", b"SIP/2.0"]
    assert b'response="***"' in heard[2][15]
    first, second = heard[:2]
    assert first[4] == second[3] == socket.inet_aton(node.sip[0])
    assert first[8] == second[7] == struct.pack(">H", 5060)
    assert first[12] == struct.pack(">I", 100)
    assert node.api("sofia profile internal capture off") == "Disabled sip capturing on internal"


def test_global_capture_is_switched_on_and_off(node: Node, homer: socket.socket) -> None:
    assert node.api("sofia global capture on") == "+OK Global capture on"
    ask(node, "OPTIONS", "Subject: one", port=5080)
    assert node.api("sofia global capture off") == "+OK Global capture off"
    ask(node, "OPTIONS", "Subject: two", port=5080)
    node.api("sofia global capture on")
    ask(node, "OPTIONS", "Subject: three")
    heard = b"".join(each[15] for each in captured(homer, b"Subject: three"))
    assert (heard.count(b"Subject: one"), heard.count(b"Subject: two")) == (1, 0)


# ---- who keeps it --------------------------------------------------------------------------------------------------


def test_what_was_switched_outlives_worker_and_console(node: Node) -> None:
    for line in ("profile internal siptrace on", "loglevel nua 5", "tracelevel info", "global debug presence"):
        node.api(f"sofia {line}")
    old, console = node.worker_pid("internal#0"), node.child_pid("console")
    os.kill(old, signal.SIGKILL)
    until(lambda: node.worker_pid("internal#0") not in (0, old), 15, "another worker", node)
    log = Log(node)
    register(node)
    subscribe(node)
    log.wait(
        r"\[INFO\] internal#0 sofia\.siptrace: recv",
        r"\[INFO\] internal#0 sofia\.nua: REGISTER of .*: 200",
        r"\[INFO\] internal#0 sofia\.presence: SUBSCRIBE",
    )
    os.kill(console, signal.SIGKILL)
    until(lambda: _answer(node, "sofia loglevel nua") == "Sofia-sip loglevel for [nua] is [5]", 15, "the console", node)
    assert node.api("sofia tracelevel") == "+OK tracelevel is INFO"
    assert node.api("sofia global debug") == "+OK Debugging summary: presence: on sla: off\n"


def _answer(node: Node, line: str) -> str:
    try:
        return node.api(line)
    except (OSError, AssertionError, ValueError):
        return ""


# ---- what is set before the start ----------------------------------------------------------------------------------


def test_the_environment_is_asked_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stun: int) -> None:
    """TPORT_LOG, TPORT_DUMP, TPORT_CAPT, SOFIA_DEBUG and the variable of one component; and `trace-secrets`."""
    dump, homer = tmp_path / "dump", capture_server()
    monkeypatch.setenv("TPORT_LOG", "1")
    monkeypatch.setenv("TPORT_DUMP", str(dump))
    monkeypatch.setenv("TPORT_CAPT", f"udp:127.0.0.1:{homer.getsockname()[1]};hep=2;capture_id=7")
    monkeypatch.setenv("SOFIA_DEBUG", "5")
    monkeypatch.setenv("NTA_DEBUG", "0")
    monkeypatch.setenv("STUN_DEBUG", "9")
    params = ("trace-secrets=true", "tracelevel=notice", "debug-sla=1", "log-level=1")
    with running(tmp_path, *params, external_rtp_ip=f"stun:127.0.0.1:{stun}") as node:
        assert node.api("sofia loglevel nua") == "Sofia-sip loglevel for [nua] is [5]"
        assert node.api("sofia loglevel nta") == "Sofia-sip loglevel for [nta] is [0]"
        assert node.api("sofia tracelevel") == "+OK tracelevel is NOTICE"
        assert node.api("sofia global debug").endswith("presence: off sla: on\n")
        register(node)
        ask(node, "SUBSCRIBE", "Event: call-info")
        path = node.run_dir / "log" / "sofia-node.log"
        until(lambda: "sofia.sla: SUBSCRIBE" in path.read_text(), 10, "the SUBSCRIBE", node)
        text = path.read_text()
        for words in (
            r"\[NOTICE\] \S+ sofia\.siptrace: recv",
            r"\[NOTICE\] \S+ sofia\.nua: REGISTER",
            r"sofia\.default: .* promoted",
            "trace-secrets is on",
        ):
            assert re.search(words, text), words
        assert " sofia.nta: " not in text
        assert re.search(r'response="[0-9a-f]{8,}"', text)
        assert re.search(r"stun:127\.0\.0\.1:\d+ is 127\.0\.0\.1", (node.run_dir / "output").read_text())
        dumped = dump.read_bytes()
        assert dumped.startswith(b"dump started at ")
        assert re.search(rb'REGISTER sip:\S+ SIP/2\.0\r\n(?:.+\r\n)*Authorization: .*response="[0-9a-f]{8,}"', dumped)
        data = b""
        while not data[28:].startswith(b"REGISTER"):
            data = homer.recv(65535)
            assert data[0] == 2
    homer.close()


@pytest.mark.parametrize("variable", [*debug.VARIABLES, "SOFIA_DEBUG"])
def test_each_variable_lets_its_components_speak_and_no_other(tmp_path: Path, variable: str, stun: int) -> None:
    names = debug.VARIABLES.get(variable, tuple(COMPONENTS))
    with running(tmp_path, environment={variable: "9"}, external_rtp_ip=f"stun:127.0.0.1:{stun}") as node:
        log = Log(node)
        for stimulus, _words in COMPONENTS.values():
            stimulus(node)
        text = log.wait(*(rf"\[CONSOLE\] \S+ sofia\.{name}: .*{COMPONENTS[name][1]}" for name in names))
        assert set(re.findall(r" sofia\.(\w+): ", text)) == set(names)


def test_params_turn_trace_and_capture_on_at_start(tmp_path: Path) -> None:
    homer = capture_server()
    conf = f"capture-server=udp:127.0.0.1:{homer.getsockname()[1]}"
    shared = shared_settings(loopback_address(), tmp_path / "store.db")
    node = Node("solo", tmp_path / "solo", shared, standalone=True, conf=changed_conf(tmp_path, conf, "log-level=5"))
    path = node.conf / "sip_profiles" / "internal.xml"
    trace = '<param name="sip-trace" value="no"/>'
    assert trace in path.read_text()
    path.write_text(
        path.read_text().replace(
            trace, trace.replace("no", "yes") + trace.replace("trace", "capture").replace("no", "yes")
        )
    )
    with homer, node.serving():
        log = Log(node)
        options(node)
        log.wait(r"sofia\.siptrace: recv \d+ bytes", r"sofia\.nta: received OPTIONS")
        assert captured(homer, b"OPTIONS sip:1001@")
