"""TLS on real sockets: which certificate is shown and which is asked for, handshakes in a crowd, and rubbish."""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
from pathlib import Path

import pytest

from node.config.streams import StreamLimits
from node.transport.streams import SHAKES
from node.transport.tls import TlsLayer
from tests.node.transport.site import WITHIN, Site, message, run, site, until
from tests.support.certificates import Authority


async def shown(there: Site, kind: str, trust: ssl.SSLContext, name: str = "") -> list[str]:
    """The DNS names of the certificate that the server shows."""
    _reader, writer = await asyncio.open_connection(*there.at(kind), ssl=trust, server_hostname=name)
    names = [value for kind, value in writer.get_extra_info("peercert")["subjectAltName"] if kind == "DNS"]
    writer.close()
    return names


def test_each_server_name_is_shown_its_certificate(certificates: Path, authority: Authority) -> None:
    (certificates / "agent.one.test.pem").write_text(authority.issue("one.test"))
    (certificates / "agent._.many.test.pem").write_text(authority.issue("*.many.test"))
    (certificates / "wss.one.test.pem").write_text(authority.issue("web.one.test"))

    async def scenario() -> None:
        trust = authority.trusting()
        async with site(certificates) as bob:
            assert await shown(bob, "tls", trust) == ["a.test"]
            assert await shown(bob, "tls", trust, "ONE.test") == ["one.test"]
            assert await shown(bob, "tls", trust, "x.many.test") == ["*.many.test"]
            assert await shown(bob, "tls", trust, "x.y.many.test") == ["a.test"]
            assert await shown(bob, "tls", trust, "nobody.test") == ["a.test"]
            assert await shown(bob, "wss", trust) == ["web.test"]
            assert await shown(bob, "wss", trust, "one.test") == ["web.one.test"]

    run(scenario())


def test_a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not(
    certificates: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("node.transport.streams.SWEEP", 0.05)
    monkeypatch.setattr("node.transport.streams.SHORTEST_SWEEP", 0.05)

    async def scenario() -> None:
        trust = authority.trusting()
        async with site(certificates) as bob:
            reader, writer = await asyncio.open_connection(*bob.at("tls"), ssl=trust, server_hostname="")
            assert await shown(bob, "tls", trust) == ["a.test"]
            (certificates / "agent.pem").write_text("not a certificate")
            await until(lambda: "agent.pem" in caplog.text)
            assert "TLS goes on with the certificate it had" in caplog.text
            assert await shown(bob, "tls", trust) == ["a.test"]
            (certificates / "agent.pem").write_text(authority.issue("new.test"))
            async with asyncio.timeout(WITHIN):
                while await shown(bob, "tls", trust) != ["new.test"]:
                    await asyncio.sleep(0.02)
            # Who is connected notices nothing.
            bob.reply = message("still here")
            writer.write(message())
            assert await reader.readexactly(len(bob.reply)) == bob.reply
            writer.close()

    run(scenario())


def test_a_certificate_that_comes_later_opens_the_door_and_none_leaves_the_rest_open(
    certificates: Path, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    text = (certificates / "agent.pem").read_text()
    (certificates / "agent.pem").unlink()

    async def scenario() -> None:
        async with site(certificates) as bob:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await shown(bob, "tls", authority.trusting())
            assert f"TLS does not start: {certificates / 'agent.pem'}: No such file" in caplog.text
            _reader, writer = await asyncio.open_connection(*bob.at("tcp"))
            writer.write(message())
            await until(lambda: bob.came)
            writer.close()
            assert await shown(bob, "wss", authority.trusting()) == ["web.test"]
            (certificates / "agent.pem").write_text(text)
            bob.change()
            assert await shown(bob, "tls", authority.trusting()) == ["a.test"]

    run(scenario())


def test_a_key_is_opened_with_the_passphrase(certificates: Path, authority: Authority) -> None:
    (certificates / "agent.pem").write_text(authority.issue("secret.test", passphrase="open sesame"))

    async def scenario() -> None:
        async with site(certificates, tls_passphrase="open sesame") as bob:
            assert await shown(bob, "tls", authority.trusting()) == ["secret.test"]
        async with site(certificates, tls_passphrase="wrong") as bob:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await shown(bob, "tls", authority.trusting())

    run(scenario())


async def gets_in(there: Site, trust: ssl.SSLContext) -> bool:
    """Is a message heard? With TLS 1.3 a client learns only afterwards that its certificate was not taken."""
    before = len(there.came)
    try:
        reader, writer = await asyncio.open_connection(*there.at("tls"), ssl=trust, server_hostname="")
        writer.write(message())
        there.reply = message("in")
        answer = await asyncio.wait_for(reader.read(1000), WITHIN)
        writer.close()
    except (ssl.SSLError, ConnectionError):
        answer = b""
    assert bool(answer) == (len(there.came) > before)
    return bool(answer)


def test_who_must_show_a_certificate_is_let_in_by_policy(
    certificates: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "Stranger")
    intermediate = Authority(tmp_path_factory.mktemp("between"), "Between", under=authority)
    deeper = Authority(tmp_path_factory.mktemp("deeper"), "Deeper", under=intermediate)
    nobody = authority.trusting()
    known = authority.trusting(authority.issue("peer.test"))

    async def scenario() -> None:
        async with site(certificates) as bob:
            assert await gets_in(bob, nobody)
            bob.change(tls_verify_policy=("in",))
            assert not await gets_in(bob, nobody)
            assert await gets_in(bob, known)
            assert not await gets_in(bob, authority.trusting(stranger.issue("peer.test")))
            assert not await gets_in(bob, authority.trusting(authority.issue("peer.test", expired=True)))
            bob.change(tls_verify_date=False)
            assert await gets_in(bob, authority.trusting(authority.issue("peer.test", expired=True)))
            bob.change(tls_verify_depth=1)
            assert await gets_in(bob, authority.trusting(intermediate.issue("peer.test")))
            assert not await gets_in(bob, authority.trusting(deeper.issue("peer.test")))
            bob.change(tls_verify_depth=2)
            assert await gets_in(bob, authority.trusting(deeper.issue("peer.test")))
            bob.change(tls_verify_policy=("subjects_in",), tls_verify_in_subjects=("Peer.test", "sip:other.test"))
            assert await gets_in(bob, known)
            assert await gets_in(bob, authority.trusting(authority.issue("x.test", "sip:other.test")))
            assert await gets_in(bob, authority.trusting(authority.issue(common="peer.test")))
            assert not await gets_in(bob, authority.trusting(authority.issue("x.test", common="peer.test")))

    run(scenario())


def test_whom_we_call_must_be_who_was_meant_by_policy(
    certificates: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    foreign = tmp_path_factory.mktemp("foreign")
    stranger = Authority(foreign / "authority", "Stranger")
    (foreign / "agent.pem").write_text(stranger.issue("a.test"))
    (foreign / "wss.pem").write_text(stranger.issue("a.test"))

    async def scenario() -> None:
        async with site(certificates) as alice, site(certificates) as bob, site(foreign) as mallory:
            alice.change(tls_verify_policy=("out",))
            alice.streams.send(message(), alice.to(bob, "tls"))
            await until(lambda: bob.came)
            alice.streams.send(message(), alice.to(mallory, "tls"))
            await until(lambda: alice.lost)
            assert alice.lost.pop() == alice.to(mallory, "tls")
            alice.change(tls_verify_policy=("subjects_out",))
            # RFC 5922 7.3: what was made for nobody in particular serves no other name than the certificate's own.
            for host, heard in (("pbx.test", True), ("a.test", True), ("other.test", False)):
                before = len(bob.came)
                assert bool(alice.streams.connection_to("a", "TLS", bob.at("tls"), host)) == heard
                alice.streams.send(message(), alice.to(bob, "tls"))
                await until(lambda: len(bob.came) > before or alice.lost)  # noqa: B023
                assert (len(bob.came) > before, alice.lost != []) == (heard, not heard)
                alice.lost.clear()

    run(scenario())


def test_versions_and_ciphers_are_those_of_the_profile(certificates: Path, authority: Authority) -> None:
    async def scenario() -> None:
        async with site(certificates, tls_version=("tlsv1.2",), tls_ciphers="ECDHE-ECDSA-AES128-GCM-SHA256") as bob:
            trust = authority.trusting()
            _reader, writer = await asyncio.open_connection(*bob.at("tls"), ssl=trust, server_hostname="")
            assert writer.get_extra_info("cipher")[:2] == ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2")
            writer.close()
            trust.minimum_version = ssl.TLSVersion.TLSv1_3
            with pytest.raises(ssl.SSLError):
                await shown(bob, "tls", trust)

    run(scenario())


def client_hello(trust: ssl.SSLContext) -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trust.wrap_bio(incoming, outgoing, server_hostname="a.test").do_handshake()
    return outgoing.read()


def test_a_crowd_that_shakes_hands_at_once_leaves_the_loop_its_turns(
    certificates: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each handshake costs a signature: a hundred in one go would keep everybody else waiting."""
    steps, most = 0, 0
    feed = TlsLayer.feed

    def counted(layer: TlsLayer, data: bytes) -> bytes:
        nonlocal steps
        steps += 1
        return feed(layer, data)

    monkeypatch.setattr(TlsLayer, "feed", counted)

    async def scenario() -> None:
        nonlocal steps, most
        async with site(certificates, streams=StreamLimits(accept_rate_per_source=1000)) as bob:
            writers = [(await asyncio.open_connection(*bob.at("tls")))[1] for _ in range(100)]
            hello = client_hello(authority.trusting())
            for writer in writers:
                writer.write(hello)
            done = 0
            while done < len(writers):
                await asyncio.sleep(0)
                done, most, steps = done + steps, max(most, steps), 0
            assert most <= SHAKES
            for writer in writers:
                writer.close()

    run(scenario())


@pytest.mark.parametrize("seed", range(5))
def test_rubbish_instead_of_a_handshake_ends_nobody_else(seed: int, certificates: Path, authority: Authority) -> None:
    async def scenario() -> None:
        async with site(certificates) as bob:
            for kind in ("tls", "wss"):
                for _ in range(10):
                    _reader, writer = await asyncio.open_connection(*bob.at(kind))
                    writer.write(os.urandom(50 * (seed + 1)) if seed % 2 else b"\x16\x03\x01\x02\x00" + os.urandom(600))
                    writer.close()
            assert await gets_in(bob, authority.trusting())

    run(scenario())


def test_what_a_connection_speaks_is_said_when_asked_for(
    certificates: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with site(certificates) as bob:
            await shown(bob, "tls", authority.trusting())
            assert "TLSv1.3" not in caplog.text
            monkeypatch.setattr("node.debug.tport.level", 5)
            await shown(bob, "tls", authority.trusting())
            assert "TLSv1.3, TLS_AES_256_GCM_SHA384" in caplog.text
            assert ": accepted a/tls " in caplog.text

    run(scenario())
