"""Small requests in a dialog: passed on with what belongs to them, or judged by us where nobody is behind the leg."""

from __future__ import annotations

import pytest

from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, extension, until
from tests.node.calls.scene import play
from tests.node.calls.test_display import calling, over
from tests.support.sipmessage import Sip

ECHO = extension("7000", ("answer", ""), ("echo", ""))


async def alone(rig: Rig) -> tuple[Peer, Sip]:
    """A caller with an application behind it; its 200."""
    alice = await Peer.open(rig.stage.internal)
    alice.invite("7000", "1000", sdp=OFFER)
    ok = await alice.expect(200)
    alice.ack(ok)
    await until(lambda: rig.live[0].legs[0].pending is None)
    return alice, ok


@pytest.mark.parametrize(
    ("method", "kind", "fields", "status", "said"),
    [
        ("INFO", "", [], 200, ("", "")),
        ("INFO", "application/dtmf-relay", [], 200, ("", "")),
        ("INFO", "application/media_control+xml", [], 200, ("", "")),
        ("INFO", "freeswitch/data", [], 200, ("", "")),
        ("INFO", "application/x-secret", [], 415, ("Accept", "application/dtmf-relay")),
        ("INFO", "application/x-secret", [("Content-Disposition", "render;handling=optional")], 200, ("", "")),
        ("INFO", "application/x-secret", [("Info-Package", "secrets")], 469, ("Recv-Info", "")),
        ("MESSAGE", "text/plain", [], 200, ("", "")),
        ("MESSAGE", "application/x-secret", [], 415, ("Accept", "text/plain")),
    ],
)
def test_what_is_said_to_nobody_is_refused_where_it_wants_to_be_understood(
    method: str, kind: str, fields: list[tuple[str, str]], status: int, said: tuple[str, str]
) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, ok = await alone(rig)
        alice.within(ok, method, headers=fields, body="Signal=1\r\n" if kind else "", kind=kind)
        answer = await alice.expect(status)
        assert answer.method == method
        if said[0]:
            assert any(name == said[0] for name, _value in answer.fields)
            assert answer.get(said[0]).startswith(said[1])
        alice.bye(ok)
        await alice.expect(200)
        alice.close()

    play(scene, ECHO)


def test_a_partners_refusal_comes_back_with_what_explains_it() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok = await calling(rig, "1001", "1000", [], [])
        alice.within(ok, "INFO", body="?", kind="application/x-secret")
        info = await bob.expect("INFO")
        assert (info.get("Content-Type"), info.body) == ("application/x-secret", "?")
        bob.answer(info, 415, headers=[("Accept", "application/dtmf"), ("X-Own", "business")])
        refusal = await alice.expect(415)
        assert refusal.get("Accept") == "application/dtmf"
        assert not refusal.get("X-Own")
        alice.within(ok, "INFO", headers=[("Info-Package", "secrets")], body="?", kind="application/x-secret")
        info = await bob.expect("INFO")
        assert info.get("Info-Package") == "secrets"
        bob.answer(info, 469, headers=[("Recv-Info", "public")])
        assert (await alice.expect(469)).get("Recv-Info") == "public"
        await over(alice, ok, bob)

    play(scene)


@pytest.mark.parametrize(("said", "heard"), [(408, 504), (481, 500), (407, 403)])
def test_what_a_partner_says_of_its_own_dialog_or_transaction_is_not_said_to_the_other(said: int, heard: int) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok = await calling(rig, "1001", "1000", [], [])
        alice.within(ok, "INFO")
        bob.answer(await bob.expect("INFO"), said)
        assert (await alice.expect(heard)).method == "INFO"
        if said == 481:
            alice.answer(await alice.expect("BYE"), 200)
            alice.close()
            bob.close()
        else:
            await over(alice, ok, bob)

    play(scene)


def test_a_partner_that_hangs_up_and_then_does_not_know_a_request_any_more_ends_nothing_else() -> None:
    """The caller's dialplan goes on without it."""

    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        alice.invite("7001", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        dialog = bob.answer(invite, 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await bob.expect("ACK")
        await until(lambda: rig.live[0].legs[0].pending is None)
        alice.within(ok, "INFO")
        info = await bob.expect("INFO")
        theirs = [("From", dialog.get("To")), ("To", dialog.get("From")), ("Contact", invite.get("Contact"))]
        bob.bye(Sip("SIP/2.0 200 OK", [*theirs, ("Call-ID", dialog.call_id)]))
        await bob.expect(200)
        bob.answer(info, 481)
        assert (await alice.expect(500)).method == "INFO"
        assert [leg.live for leg in rig.live[0].legs] == [True, False]
        assert not said(alice, "BYE")
        alice.bye(ok)
        await alice.expect(200)
        alice.close()
        bob.close()

    play(scene, extension("7001", ("bridge", "user/1001"), ("park", "")))


def test_what_is_passed_on_has_one_hop_less_and_none_left_is_483() -> None:
    """RFC 7332: whoever goes in a circle through us comes to an end."""

    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok = await calling(rig, "1001", "1000", [], [])
        for hops, left in (("70", "69"), ("5", "4"), ("1", "0")):
            alice.within(ok, "INFO", hops=hops)
            passed = await bob.expect("INFO")
            assert passed.get("Max-Forwards") == left
            bob.answer(passed, 200)
            await alice.expect(200)
        alice.within(ok, "INFO", hops="0")
        assert (await alice.expect(483)).method == "INFO"
        await over(alice, ok, bob)

    play(scene)


def test_a_body_that_nobody_reads_in_a_prack_or_reinvite_is_415() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        alice.invite("1001", "1000", sdp=OFFER, headers=[("Supported", "100rel")])
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        ringing = await alice.expect(180)
        rack = [("RAck", f"{ringing.get('RSeq')} {ringing.cseq} INVITE")]
        alice.within(ringing, "PRACK", headers=rack, body="hello", kind="text/plain")
        assert (await alice.expect(415)).get("Accept") == "application/sdp"
        alice.within(ringing, "PRACK", headers=rack)
        assert (await alice.expect(200)).method == "PRACK"
        bob.answer(invite, 200, sdp=OFFER)
        ok = await alice.expect(200)
        alice.ack(ok)
        await bob.expect("ACK")
        reinvite = alice.within(ok, "INVITE", body="hello", kind="text/plain")
        refusal = await alice.expect(415)
        assert refusal.get("Accept") == "application/sdp"
        kept = [pair for pair in reinvite.fields if pair[0] in ("Via", "Max-Forwards", "From", "Call-ID")]
        alice.send(
            Sip(
                reinvite.start.replace("INVITE", "ACK", 1),
                [*kept, ("To", refusal.get("To")), ("CSeq", f"{refusal.cseq} ACK")],
            )
        )
        await over(alice, ok, bob)

    play(scene, params={"enable-100rel": "true"})
