"""Who is at the other end now: told to legs that did not call each other, in the words each of them understands."""

from __future__ import annotations

import pytest

from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import Cast, Rig, until
from tests.node.calls.scene import play
from tests.support.sipmessage import Sip

UPDATES = [("Allow", "INVITE, ACK, BYE, UPDATE, INFO")]
Fields = list[tuple[str, str]]


async def calling(rig: Rig, number: str, user: str, caller: Fields, callee: Fields) -> tuple[Peer, Peer, Sip]:
    """A call through the node; the caller's 200."""
    one, other = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
    rig.stage.register(number, other.contact)
    one.invite(number, user, sdp=OFFER, headers=caller)
    other.answer(await other.expect("INVITE"), 200, sdp=OFFER, headers=callee)
    ok = await one.expect(200)
    one.ack(ok)
    await other.expect("ACK")
    return one, other, ok


def uuid(rig: Rig, peer: Peer) -> str:
    return next(leg.uuid for call in rig.live for leg in call.legs if leg.flow and leg.flow.remote[1] == peer.port)


async def joined(rig: Rig, alice: Fields, dave: Fields) -> tuple[Peer, Peer, Sip]:
    """Alice called Bob, Carol called Dave; Alice and Dave are bridged with each other."""
    one, bob, ok = await calling(rig, "1001", "1000", alice, [])
    carol, other, _ok = await calling(rig, "1003", "1002", [], dave)
    await until(lambda: all(leg.pending is None for call in rig.live for leg in call.legs))
    assert rig.switchboard.bridge(uuid(rig, one), uuid(rig, other))
    for gone in (bob, carol):
        gone.answer(await gone.expect("BYE"), 200)
        gone.close()
    return one, other, ok


async def over(alice: Peer, ok: Sip, dave: Peer) -> None:
    alice.bye(ok)
    dave.answer(await dave.expect("BYE"), 200)
    await alice.expect(200)
    alice.close()
    dave.close()


def test_who_allows_updates_is_told_by_one_with_the_asserted_identity() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        rig.stream.want(["ALL"])
        alice, dave, ok = await joined(rig, UPDATES, UPDATES)
        for peer, shown in ((alice, '"Extension 1003" <sip:1003@127.0.0.1>'), (dave, '"1000" <sip:1000@127.0.0.1>')):
            update = await peer.expect("UPDATE")
            assert update.get("P-Asserted-Identity") == shown
            assert update.get("Contact")
            assert not update.body
            peer.answer(update, 200)
        told = [dict(event.headers) for event in rig.events if event.name == "CALL_UPDATE"]
        assert [(each["Direction"], each["Sent-Callee-ID-Number"]) for each in told] == [
            ("SEND", "1003"),
            ("SEND", "1000"),
        ]
        await over(alice, ok, dave)

    play(scene)


@pytest.mark.parametrize(
    ("agent", "body"),
    [
        ("snom870/8.7.3.19", 'From: "Extension 1003" 1003\r\nTo:\r\n'),
        ("snom320/8.4.18", 'From:\r\nTo: "Extension 1003" 1003\r\n'),
        ("snom", 'From:\r\nTo: "Extension 1003" 1003\r\n'),
    ],
)
def test_snom_is_told_by_info(agent: str, body: str) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, dave, ok = await joined(rig, [*UPDATES, ("User-Agent", agent)], [])
        info = await alice.expect("INFO")
        assert (info.get("Content-Type"), info.body) == ("message/sipfrag", body)
        alice.answer(info, 200)
        assert not said(dave, "UPDATE"), "who does not allow it is told nothing"
        await over(alice, ok, dave)

    play(scene)


def test_another_freeswitch_is_told_in_its_own_words() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        support = ("X-FS-Support", "update_display,send_info")
        alice, dave, ok = await joined(rig, [support], [support])
        for peer, name, number in ((alice, "Extension 1003", "1003"), (dave, "1000", "1000")):
            info = await peer.expect("INFO")
            assert info.get("Content-Type") == "message/update_display"
            assert (info.get("X-FS-Display-Name"), info.get("X-FS-Display-Number")) == (name, number)
            peer.answer(info, 200)
        await over(alice, ok, dave)

    play(scene)


def test_who_wants_to_be_unknown_is_not_told_of() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, dave, ok = await joined(rig, [("Privacy", "id")], UPDATES)
        update = await dave.expect("UPDATE")
        assert update.get("P-Asserted-Identity") == '"Anonymous" <sip:anonymous@anonymous.invalid>'
        dave.answer(update, 200)
        await over(alice, ok, dave)

    play(scene)


def test_a_profile_may_say_that_nobody_is_told() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, dave, ok = await joined(rig, UPDATES, UPDATES)
        await until(lambda: not {"align", "display"} & set(rig.live[0].progress))
        assert not said(alice, "UPDATE")
        assert not said(dave, "UPDATE")
        await over(alice, ok, dave)

    play(scene, params={"send-display-update": "false"})


def test_a_dialog_that_is_gone_ends_the_call() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, dave, _ok = await joined(rig, UPDATES, [])
        alice.answer(await alice.expect("UPDATE"), 481)
        dave.answer(await dave.expect("BYE"), 200)
        await rig.idle()
        alice.close()
        dave.close()

    play(scene)


def test_a_reinvite_that_is_due_says_it_along() -> None:
    """Alice is on hold as the two are bridged: the re-INVITE that takes her off it names the other one."""

    async def scene(rig: Rig, cast: Cast) -> None:
        one, bob, ok = await calling(rig, "1001", "1000", UPDATES, [])
        carol, other, _ok = await calling(rig, "1003", "1002", [], [])
        held = OFFER + "a=sendonly\r\n"
        call = next(call for call in rig.live if call.leg(uuid(rig, bob)))
        assert call.legs[1].dialog is not None
        dialog = call.legs[1].dialog
        ours = [("From", dialog.remote_field), ("To", dialog.local_field), ("Call-ID", dialog.call_id)]
        bob.within(
            Sip("SIP/2.0 200 OK", [*ours, ("Contact", f"<sip:x@127.0.0.1:{bob.server[1]}>")]),
            "INVITE",
            body=held,
            kind="application/sdp",
        )
        reinvite = await one.expect("INVITE")
        one.answer(reinvite, 200, sdp=OFFER + "a=recvonly\r\n")
        await one.expect("ACK")
        answered = await bob.expect(200)
        bob.ack(answered)
        await until(lambda: all(leg.pending is None for call in rig.live for leg in call.legs))
        assert rig.switchboard.bridge(uuid(rig, one), uuid(rig, other))
        again = await one.expect("INVITE")
        assert again.get("P-Asserted-Identity") == '"Extension 1003" <sip:1003@127.0.0.1>'
        one.answer(again, 200, sdp=OFFER)
        await one.expect("ACK")
        for gone in (bob, carol):
            gone.answer(await gone.expect("BYE"), 200)
            gone.close()
        await until(lambda: "display" not in rig.live[0].progress)
        assert not said(one, "UPDATE")
        await over(one, ok, other)

    play(scene)


@pytest.mark.parametrize("method", ["UPDATE", "INVITE"])
def test_who_says_who_it_is_by_now_is_passed_on(method: str) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        rig.stream.want(["ALL"])
        alice, bob, ok = await calling(rig, "1001", "1000", [], UPDATES)
        identity = [("P-Asserted-Identity", '"Zoe" <sip:2000@pbx.test>')]
        body = OFFER if method == "INVITE" else ""
        alice.within(ok, method, headers=identity, body=body, kind="application/sdp")
        if body:
            bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
            alice.ack(await alice.expect(200))
        update = await bob.expect("UPDATE")
        assert update.get("P-Asserted-Identity") == '"Zoe" <sip:2000@127.0.0.1>'
        bob.answer(update, 200)
        if not body:
            await alice.expect(200)
        assert next(row["cid_num"] for row in rig.switchboard.channels()) == "2000"
        told = [dict(event.headers)["Direction"] for event in rig.events if event.name == "CALL_UPDATE"]
        assert told == ["RECV", "SEND"]
        await over(alice, ok, bob)

    play(scene)


def test_a_stranger_asserts_nothing() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok = await calling(rig, "1001", "1000", [], UPDATES)
        alice.within(ok, "UPDATE", headers=[("P-Asserted-Identity", "<sip:2000@pbx.test>")])
        await alice.expect(200)
        assert not said(bob, "UPDATE")
        await over(alice, ok, bob)

    play(scene, params={"auth-calls": "true"})


def test_a_callee_says_who_answered() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        named = [("P-Asserted-Identity", '"The Desk" <sip:1009@pbx.test>')]
        alice, bob, ok = await calling(rig, "1001", "1000", [], named)
        assert '"The Desk" <sip:1009@' in (ok.get("Remote-Party-ID") or ok.get("P-Asserted-Identity"))
        await over(alice, ok, bob)

    play(scene, params={"pass-callee-id": "true"})


@pytest.mark.parametrize("value", ["", ",", "<sip:", '"Zoe', "<sip:pbx.test>", "tel:+1"])
def test_an_identity_that_names_nobody_changes_nothing(value: str) -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        alice, bob, ok = await calling(rig, "1001", "1000", [("P-Asserted-Identity", value)], UPDATES)
        alice.within(ok, "UPDATE", headers=[("P-Asserted-Identity", value), ("Remote-Party-ID", value)])
        assert (await alice.expect(200)).method == "UPDATE"
        if value != "tel:+1":
            assert next(row["cid_num"] for row in rig.switchboard.channels()) == "1000"
            assert not said(bob, "UPDATE")
        await over(alice, ok, bob)

    play(scene)
