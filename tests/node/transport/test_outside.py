"""What the world calls us, asked for beside the work: by real STUN servers and names, through their silences."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from node.config.host import local_ip_v4
from node.config.profile import ProfileSettings
from node.transport import outside as module
from node.transport.outside import Outside
from tests.node.rig import rig
from tests.node.rig import until as until_
from tests.support.nameserver import NameServer
from tests.support.node import STRETCH
from tests.support.stun import StunServer, coturn

PLAIN = ProfileSettings(name="internal", sip_ip="127.0.0.7", rtp_ip="127.0.0.8")


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(20 * STRETCH):
        while not holds():
            await asyncio.sleep(0.005)


class Seen:
    """An Outside, and what it knows of one profile."""

    def __init__(self, settings: ProfileSettings, *servers: tuple[str, int], hosts: Path = Path("/etc/hosts")) -> None:
        self.changes = 0
        self.profiles = {"internal": settings}
        self.outside = Outside(asyncio.get_running_loop(), self._changed, hosts=hosts)
        self.outside.configure(self.profiles, servers)

    def _changed(self) -> None:
        self.changes += 1

    @property
    def now(self) -> ProfileSettings:
        return self.outside.applied(self.profiles)["internal"]


def test_a_real_stun_server_is_asked_by_the_address_of_the_profile() -> None:
    async def test(port: int) -> None:
        seen = Seen(replace(PLAIN, ext_sip_ip=f"stun:127.0.0.1:{port}", ext_rtp_ip=f"stun:127.0.0.1:{port}"))
        assert (seen.now.public_ip, seen.now.public_rtp_ip) == ("127.0.0.7", "127.0.0.8")
        await until(lambda: seen.changes == 2)
        assert (seen.now.external_ip, seen.now.ext_rtp_address) == ("127.0.0.7", "127.0.0.8")
        seen.outside.close()

    with coturn() as port:
        asyncio.run(test(port))


def test_what_the_server_says_is_what_we_call_ourselves() -> None:
    async def test() -> None:
        with StunServer("203.0.113.9") as server:
            seen = Seen(replace(PLAIN, ext_sip_ip=f"stun:127.0.0.1:{server.port}"))
            await until(lambda: seen.changes)
            assert seen.now.public_ip == "203.0.113.9"
            assert seen.now.url == "sip:mod_sofia@203.0.113.9:5060"
            assert seen.now.bind_url == "sip:mod_sofia@203.0.113.9:5060;maddr=127.0.0.7;transport=udp,tcp"
            assert seen.now.public_rtp_ip == "127.0.0.8"
            seen.outside.close()

    asyncio.run(test())


def test_ipv6_has_its_own_answer() -> None:
    async def test() -> None:
        with StunServer("2001:db8::5", "::1") as server:
            seen = Seen(replace(PLAIN, sip_ip="::1", ext_sip_ip=f"stun:[::1]:{server.port}"))
            await until(lambda: seen.changes)
            assert seen.now.public_ip == "2001:db8::5"
            seen.outside.close()

    asyncio.run(test())


def test_a_name_is_looked_up_without_stopping_anything(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("192.0.2.44 here.example.org\n")

    async def test(names: NameServer) -> None:
        names.delays["slow.example.org."] = 0.3
        slow = Seen(replace(PLAIN, ext_sip_ip="host:slow.example.org"), names.address)
        local = Seen(replace(PLAIN, ext_sip_ip="host:here.example.org"), hosts=tmp_path / "hosts")
        await until(lambda: local.changes)
        assert local.now.public_ip == "192.0.2.44"
        assert not slow.changes
        await until(lambda: slow.changes)
        assert slow.now.public_ip == "192.0.2.33"
        slow.outside.close()
        local.outside.close()

    with NameServer({("slow.example.org.", "A"): "60 IN A 192.0.2.33"}) as names:
        asyncio.run(test(names))


def test_a_silent_server_is_told_of_once_and_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(module, "AGAIN", 0.05)

    async def test() -> None:
        with StunServer() as server:
            server.deaf = 3 * module.SENDINGS - 1
            seen = Seen(replace(PLAIN, ext_sip_ip=f"stun:127.0.0.1:{server.port}"))
            await until(lambda: seen.changes)
            assert seen.now.public_ip == "203.0.113.5"
            transactions = [request[8:20] for request in server.requests]
            assert len(set(transactions)) == 3
            assert len(transactions) == 3 * module.SENDINGS
            seen.outside.close()

    with caplog.at_level(logging.WARNING, "node.transport.outside"):
        asyncio.run(test())
    assert len(caplog.messages) == 1
    assert "the STUN server does not answer. Until it does, we call ourselves 127.0.0.7" in caplog.messages[0]


@pytest.mark.parametrize("trouble", ["refuses", "is not there", "has no name"])
def test_who_gives_no_address_leaves_the_local_one(trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        with StunServer() as server, NameServer() as names:
            server.error = 400
            text = {
                "refuses": f"stun:127.0.0.1:{server.port}",
                "is not there": "stun:127.0.0.1:9",
                "has no name": "stun:nowhere.example.org",
            }[trouble]
            seen = Seen(replace(PLAIN, ext_sip_ip=text), names.address)
            await until(lambda: caplog.messages)
            assert seen.now.public_ip == "127.0.0.7"
            seen.outside.close()

    with caplog.at_level(logging.WARNING, "node.transport.outside"):
        asyncio.run(test())
    assert "gives no address" in caplog.messages[0]


def test_an_address_that_changes_is_followed_and_one_that_was_known_outlives_its_servers_silence(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(module, "REFRESH", 0.05)

    async def test() -> None:
        with StunServer() as server:
            seen = Seen(replace(PLAIN, ext_sip_ip=f"stun:127.0.0.1:{server.port}"))
            await until(lambda: seen.changes)
            server.tells = "203.0.113.77"
            await until(lambda: seen.now.public_ip == "203.0.113.77")
            server.deaf = 1000
            await until(lambda: caplog.messages)
            assert seen.now.public_ip == "203.0.113.77"
            seen.outside.close()

    with caplog.at_level(logging.WARNING, "node.transport.outside"):
        asyncio.run(test())


def test_a_form_that_the_configuration_has_no_more_is_forgotten() -> None:
    async def test() -> None:
        with StunServer() as server:
            seen = Seen(replace(PLAIN, ext_sip_ip=f"stun:127.0.0.1:{server.port}"))
            await until(lambda: seen.changes)
            seen.outside.configure({"internal": PLAIN})
            assert seen.outside.known == {}
            assert seen.outside.applied({"internal": PLAIN}) == {"internal": PLAIN}
            seen.outside.close()

    asyncio.run(test())


def test_a_worker_is_up_at_once_and_names_itself_as_it_is_seen(tmp_path: Path) -> None:
    with StunServer("203.0.113.9") as server:
        server.deaf = 1000
        with rig(tmp_path, external_sip_ip=f"stun:127.0.0.1:{server.port}") as node:
            node.serve()
            phone = node.phone()
            answer = phone.ask(phone.request("OPTIONS"))
            assert "@127.0.0.1:" in answer.get("Contact"), "its server has not answered yet, the worker has"
            server.deaf = 0
            within = module.AGAIN + 10 * STRETCH
            until_(lambda: "@203.0.113.9:" in phone.ask(phone.request("OPTIONS")).get("Contact"), within)


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("host:here.example.org", "192.0.2.33"),
        ("auto", local_ip_v4()),
        ("auto-nat", "127.0.0.1"),
        ("autonat:203.0.113.9", "127.0.0.1"),
    ],
)
def test_each_form_gives_a_worker_its_name(tmp_path: Path, form: str, named: str) -> None:
    """The phone is of our network, so that it is not told what `autonat:` names."""
    with NameServer({("here.example.org.", "A"): "60 IN A 192.0.2.33"}) as names:
        with rig(tmp_path, external_sip_ip=form, dns_servers=names.text) as node:
            node.serve()
            phone = node.phone()
            until_(lambda: f"@{named}:" in phone.ask(phone.request("OPTIONS")).get("Contact"))
