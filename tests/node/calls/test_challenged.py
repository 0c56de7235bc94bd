"""Who gets an answer to a challenge: the gateway we called, and nobody else who asks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType

from node.sip.auth import Credentials, verify
from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, extension, node, until
from tests.support.phone import Line
from tests.support.sipmessage import Sip

GATEWAY = extension("7000", ("bridge", "sofia/gateway/carrier/555"))
DIRECT = extension(
    "7000", ("bridge", "[sip_auth_username=us,sip_auth_password=secret]sofia/external/555@127.0.0.1:CARRIER")
)
STRANGER = "127.0.0.77"


def play(
    scene: Callable[[Rig, Cast], Awaitable[None]],
    extensions: str = "",
    params: Mapping[str, str] = MappingProxyType({}),
) -> None:
    async def run() -> None:
        async with node(extensions, params=params) as (rig, cast):
            await scene(rig, cast)

    asyncio.run(run())


def challenge(
    realm: str = "carrier.test", nonce: str = "n1", *, field: str = "Proxy", more: str = ""
) -> tuple[str, str]:
    name = "Proxy-Authenticate" if field == "Proxy" else "WWW-Authenticate"
    return name, f'Digest realm="{realm}", nonce="{nonce}",{more} algorithm=MD5, qop="auth"'


def proves(value: str, method: str, password: str = "secret") -> bool:
    return verify(Credentials.parse(value), method, password=password)


@contextlib.asynccontextmanager
async def through_the_gateway(rig: Rig, cast: Cast) -> AsyncIterator[tuple[Line, Peer]]:
    """A call that the carrier has challenged and answered."""
    ours = await (await cast.phone("1000")).call("7000")
    peer = await Peer.open(rig.stage.external, rig.stage.carrier)
    peer.answer(await peer.expect("INVITE"), 407, headers=[challenge()])
    await peer.expect("ACK")
    again = await peer.expect("INVITE")
    assert proves(again.get("Proxy-Authorization"), "INVITE")
    peer.answer(again, 200, sdp=OFFER)
    ack = await peer.expect("ACK")
    assert ack.get("Proxy-Authorization") == again.get("Proxy-Authorization")
    await until(ours.answered.is_set)
    try:
        yield ours, peer
    finally:
        peer.close()


def test_a_bye_that_the_gateway_challenges_is_sent_again_with_the_credentials() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        async with through_the_gateway(rig, cast) as (ours, peer):
            await ours.hangup()
            bye = await peer.expect("BYE")
            peer.answer(bye, 407, headers=[challenge(nonce="n2")])
            again = await peer.expect("BYE")
            assert again.cseq == bye.cseq + 1
            assert again.call_id == bye.call_id
            assert proves(again.get("Proxy-Authorization"), "BYE")
            peer.answer(again, 200)
            await rig.idle()

    play(scene, GATEWAY)


def test_a_reinvite_that_the_gateway_challenges_is_sent_again() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        async with through_the_gateway(rig, cast) as (ours, peer):
            holding = asyncio.create_task(ours.reinvite("sendonly"))
            invite = await peer.expect("INVITE")
            peer.answer(invite, 401, headers=[challenge(nonce="n2", field="WWW")])
            await peer.expect("ACK")
            again = await peer.expect("INVITE")
            assert again.cseq == invite.cseq + 1
            assert again.body == invite.body
            assert proves(again.get("Authorization"), "INVITE")
            peer.answer(again, 200, sdp=OFFER.replace("a=fmtp", "a=recvonly\r\na=fmtp"))
            ack = await peer.expect("ACK")
            assert ack.cseq == again.cseq
            assert (await holding).status == 200
            await ours.hangup()
            peer.answer(await peer.expect("BYE"), 200)
            await rig.idle()

    play(scene, GATEWAY)


def test_wrong_credentials_are_not_tried_twice() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        async with through_the_gateway(rig, cast) as (ours, peer):
            await ours.hangup()
            peer.answer(await peer.expect("BYE"), 407, headers=[challenge(nonce="n2")])
            peer.answer(await peer.expect("BYE"), 407, headers=[challenge(nonce="n3")])
            await rig.idle()
            assert not said(peer, "BYE")

    play(scene, GATEWAY)


def test_a_successor_answers_the_gateways_challenges_too() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        async with through_the_gateway(rig, cast) as (ours, peer):
            await until(lambda: any(leg.credentials for call in rig.stored() for leg in call.legs))
            other, _results = rig.succeed("never")
            try:
                await ours.hangup()
                peer.answer(await peer.expect("BYE"), 407, headers=[challenge(nonce="n2")])
                again = await peer.expect("BYE")
                assert proves(again.get("Proxy-Authorization"), "BYE")
                peer.answer(again, 200)
                await other.idle()
            finally:
                other.bury()

    play(scene, GATEWAY)


def test_a_reinvite_with_from_and_to_changed_that_is_challenged_has_an_ack_like_it_and_no_cseq_twice() -> None:
    """`sip_recovery_break_rfc`."""

    async def scene(rig: Rig, cast: Cast) -> None:
        async with through_the_gateway(rig, cast) as (ours, peer):
            await until(lambda: rig.live[0].legs[0].pending is None)
            called = rig.live[0].legs[1]
            assert rig.switchboard.setvar(called.uuid, "sip_recovery_break_rfc", "true")
            await until(lambda: any(leg.credentials for call in rig.stored() for leg in call.legs))
            other, _results = rig.succeed("always")
            try:
                invite = await peer.expect("INVITE")
                peer.answer(invite, 407, headers=[challenge(nonce="n2")])
                again = await peer.expect("INVITE")
                assert (again.get("From"), again.cseq) == (invite.get("From"), invite.cseq + 1)
                peer.answer(again, 200, sdp=OFFER)
                while (ack := await peer.expect("ACK")).cseq != again.cseq:
                    pass  # the one of the challenge
                assert (ack.get("From"), ack.get("To")) == (again.get("From"), again.get("To"))
                await ours.hangup()
                bye = await peer.expect("BYE")
                assert bye.cseq > again.cseq
                peer.answer(bye, 200)
                await other.idle()
            finally:
                other.bury()

    play(scene, GATEWAY)


def test_a_stranger_whose_contact_came_from_the_gateway_gets_no_answer() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        rig.stream.want(["ALL"])
        ours = await (await cast.phone("1000")).call("7000")
        peer = await Peer.open(rig.stage.external, rig.stage.carrier)
        thief = await Peer.open(rig.stage.external, host=STRANGER)
        contact = [("Contact", f"<{thief.contact}>")]
        peer.answer(await peer.expect("INVITE"), 200, sdp=OFFER, headers=contact)
        await thief.expect("ACK")
        await until(ours.answered.is_set)
        await ours.hangup()
        thief.answer(await thief.expect("BYE"), 407, headers=[challenge()])
        await rig.idle()
        assert not said(thief, "BYE")
        told = [dict(each.headers) for each in rig.events if each.subclass == "sofia::gateway_invalid_digest_req"]
        assert told == [{"Gateway": "carrier", "profile-name": "external", "realm": "carrier.test"}]
        peer.close()
        thief.close()

    play(scene, GATEWAY)


def test_a_redirection_does_not_take_the_credentials_along() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        peer = await Peer.open(rig.stage.external, rig.stage.carrier)
        thief = await Peer.open(rig.stage.external, host=STRANGER)
        peer.answer(await peer.expect("INVITE"), 407, headers=[challenge()])
        again = await peer.expect("INVITE")
        peer.answer(again, 302, headers=[("Contact", f"<{thief.contact}>")])
        invite = await thief.expect("INVITE")
        assert not invite.get("Proxy-Authorization")
        thief.answer(invite, 407, headers=[challenge(nonce="n2")])
        await thief.expect("ACK")
        await until(ours.ended.is_set)
        assert ours.refused is not None
        assert ours.refused.status == 603
        assert not said(thief, "INVITE")
        peer.close()
        thief.close()

    play(scene, GATEWAY)


def test_a_caller_who_challenges_our_bye_gets_no_answer() -> None:
    """The attack: call, let the other side hang up, and ask who it is."""

    async def scene(rig: Rig, cast: Cast) -> None:
        thief = await Peer.open(rig.stage.internal)
        bob = await cast.phone("1001")
        thief.invite("1001", "1000", sdp=OFFER)
        theirs = await bob.answer_next()
        thief.ack(await thief.expect(200))
        await until(lambda: rig.live[0].legs[0].pending is None)
        await theirs.hangup()
        for realm in ("pbx.test", "carrier.test"):
            thief.answer(await thief.expect("BYE"), 407, headers=[challenge(realm)])
            break
        await rig.idle()
        assert not said(thief, "BYE")
        thief.close()

    play(scene)


def test_credentials_of_a_dial_string_are_for_its_own_target() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        peer = await Peer.open(rig.stage.external, rig.stage.carrier)
        stale = challenge(nonce="n2", more=" stale=true,")
        peer.answer(await peer.expect("INVITE"), 407, headers=[challenge()])
        peer.answer(await peer.expect("INVITE"), 407, headers=[stale])
        again = await peer.expect("INVITE")
        assert 'nonce="n2"' in again.get("Proxy-Authorization")
        peer.answer(again, 603)
        await until(ours.ended.is_set)
        peer.close()

    play(scene, DIRECT)


# ---- whatever we ask in a dialog -----------------------------------------------------------------------------------------

RELIABLY = extension(
    "7000", ("bridge", "[sip_auth_username=us,sip_auth_password=secret]sofia/internal/555@127.0.0.1:CARRIER")
)
RELIABLE = {"enable-100rel": "true"}


def reliably(rseq: int) -> list[tuple[str, str]]:
    return [("Require", "100rel"), ("RSeq", str(rseq))]


async def asked_again(peer: Peer, method: str) -> tuple[Sip, Sip]:
    """A request that is challenged, and the same with what was asked for; it is not answered yet."""
    first = await peer.expect(method)
    peer.answer(first, 407, headers=[challenge(nonce=f"of-{method}")])
    if method == "INVITE":
        await peer.expect("ACK")
    again = await peer.expect(method)
    assert again.cseq > first.cseq
    assert again.body == first.body
    assert proves(again.get("Proxy-Authorization"), method)
    return first, again


def test_a_prack_that_is_challenged_is_sent_again_with_the_credentials() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        peer = await Peer.open(rig.stage.internal, rig.stage.carrier)
        _first, invite = await asked_again(peer, "INVITE")
        peer.answer(invite, 180, headers=reliably(7))
        first, again = await asked_again(peer, "PRACK")
        assert again.get("RAck") == first.get("RAck") == f"7 {invite.cseq} INVITE"
        peer.answer(again, 200)
        peer.answer(invite, 200, sdp=OFFER)
        await peer.expect("ACK")
        await until(ours.answered.is_set)
        await ours.hangup()
        bye = await peer.expect("BYE")
        assert bye.cseq > again.cseq
        peer.answer(bye, 200)
        await rig.idle()
        peer.close()

    play(scene, RELIABLY, RELIABLE)


def test_a_prack_is_not_explained_to_a_stranger() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        peer = await Peer.open(rig.stage.internal, rig.stage.carrier)
        thief = await Peer.open(rig.stage.internal, host=STRANGER)
        invite = await peer.expect("INVITE")
        peer.answer(invite, 180, headers=[*reliably(7), ("Contact", f"<{thief.contact}>")])
        thief.answer(await thief.expect("PRACK"), 407, headers=[challenge()])
        await until(lambda: not rig.live[0].legs[1].early[0].prack)
        assert not said(thief, "PRACK")
        peer.answer(invite, 486)
        await until(ours.ended.is_set)
        assert not said(thief, "PRACK")
        peer.close()
        thief.close()

    play(scene, RELIABLY, RELIABLE)


def test_a_successor_answers_the_challenge_to_a_prack() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        peer = await Peer.open(rig.stage.internal, rig.stage.carrier)
        invite = await peer.expect("INVITE")
        peer.answer(invite, 180, headers=reliably(7))
        first = await peer.expect("PRACK")
        other, _results = rig.succeed("never")
        try:
            repeated, again = await asked_again(peer, "PRACK")
            assert repeated.cseq == first.cseq
            peer.answer(again, 200)
            peer.answer(invite, 200, sdp=OFFER)
            await peer.expect("ACK")
            await until(ours.answered.is_set)
            await ours.hangup()
            peer.answer(await peer.expect("BYE"), 200)
            await other.idle()
        finally:
            other.bury()
        peer.close()

    play(scene, RELIABLY, RELIABLE)


def test_a_passed_on_info_that_is_challenged_is_sent_again() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        async with through_the_gateway(rig, cast) as (ours, peer):
            info = ours._request("INFO", [], "Signal=5\r\n")
            info.fields[-1] = ("Content-Type", "application/dtmf-relay")
            asking = asyncio.create_task(ours.phone.request(info))
            _first, again = await asked_again(peer, "INFO")
            assert again.body == "Signal=5\r\n"
            peer.answer(again, 200)
            assert (await asking).status == 200
            await ours.hangup()
            peer.answer(await peer.expect("BYE"), 200)
            await rig.idle()

    play(scene, GATEWAY)


def test_a_refer_that_is_challenged_is_sent_again() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        async with through_the_gateway(rig, cast) as (_ours, peer):
            assert rig.switchboard.deflect(rig.live[0].legs[1].uuid, "sip:1005@elsewhere.test")
            _first, again = await asked_again(peer, "REFER")
            assert again.get("Refer-To") == "<sip:1005@elsewhere.test>"
            peer.answer(again, 202)
            rig.switchboard.hupall()
            peer.answer(await peer.expect("BYE"), 200)
            await rig.idle()

    play(scene, GATEWAY)


def test_an_update_that_is_challenged_is_sent_again() -> None:
    """The refresh of a session, and what follows it."""

    async def scene(rig: Rig, cast: Cast) -> None:
        ours = await (await cast.phone("1000")).call("7000")
        peer = await Peer.open(rig.stage.internal, rig.stage.carrier)
        allowed = [("Allow", "INVITE, ACK, BYE, UPDATE"), ("Session-Expires", "90;refresher=uac")]
        peer.answer(await peer.expect("INVITE"), 200, sdp=OFFER, headers=allowed)
        await peer.expect("ACK")
        await until(ours.answered.is_set)
        call = rig.live[0]
        call.post(call.on_session_due, call.legs[1])
        _first, again = await asked_again(peer, "UPDATE")
        peer.answer(again, 200, headers=[("Session-Expires", "90;refresher=uac")])
        await ours.hangup()
        peer.answer(await peer.expect("BYE"), 200)
        await rig.idle()
        peer.close()

    play(scene, RELIABLY, {"session-timeout": "90"})
