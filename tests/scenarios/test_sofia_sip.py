"""Small agents of the command line: sofia-sip's `sip-options`, and `sipsak`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.node import DOMAIN, PASSWORD, STRETCH, Node, loopback_address, shared_settings, until

pytestmark = [pytest.mark.real, pytest.mark.peers]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("sofia-sip")
    made = Node("solo", folder / "solo", shared_settings(loopback_address(), folder / "store.db"), standalone=True)
    with made.serving():
        yield made


def run(*words: str) -> tuple[int, str]:
    """What a program returns and says."""
    done = subprocess.run(words, capture_output=True, timeout=40 * STRETCH, check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_sofia_sip_asks_what_we_can(node: Node, transport: str) -> None:
    """The very stack that FreeSWITCH is made of takes our answer apart."""
    host, port = node.sip
    for hops in ("70", "0"):  # RFC 3261 11.2: we are meant, however few hops are left
        status, said = run(
            "sip-options",
            "--all",
            f"--max-forwards={hops}",
            "--from=sip:me@127.0.0.1",
            f"sip:{host}:{port};transport={transport}",
        )
        assert status == 0, said
        assert said.startswith("SIP/2.0 200 OK")
        assert "Accept: application/sdp" in said
        assert all(method in said for method in ("INVITE", "REFER", "UPDATE"))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_sipsak_pings_us(node: Node, transport: str) -> None:
    status, said = run("sipsak", "-E", transport, "-s", f"sip:{node.sip[0]}:{node.sip[1]}")
    assert status == 0, said


def test_sipsak_traces_the_route_to_us(node: Node) -> None:
    status, said = run("sipsak", "-T", "-s", f"sip:1000@{node.sip[0]}:{node.sip[1]}")
    assert status == 0, said
    assert "200 OK" in said


@pytest.mark.parametrize(("transport", "user"), [("udp", "1005"), ("tcp", "1006")])
def test_sipsak_registers_with_digest_and_not_with_a_wrong_password(node: Node, transport: str, user: str) -> None:
    register = (
        "sipsak",
        "-U",
        "-i",
        "-E",
        transport,
        "-u",
        user,
        "-x",
        "300",
        "-p",
        node.sip[0],
        "-s",
        f"sip:{user}@{DOMAIN}",
    )
    status, said = run(*register, "-a", "not this one")
    assert status != 0
    assert "403" in said
    status, said = run(*register, "-a", PASSWORD)
    assert status == 0, said
    until(lambda: f"{user}," in node.api("show registrations"), 10, "the registration", node)
