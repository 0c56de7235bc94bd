"""Who calls and who may know it, and what header fields go through a bridge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from node.calls import identity
from node.calls.identity import OPEN, Privacy
from tests.node.calls.peer import OFFER, Peer
from tests.node.calls.rig import Cast, Rig, extension, node
from tests.support.sipmessage import Sip

EXTENSIONS = "".join(
    (
        extension(
            "7101", ("set", "sip_cid_type=pid"), ("export", "sip_cid_type=pid"), ("bridge", "user/1001@pbx.test")
        ),
        extension("7102", ("bridge", "{origination_privacy=hide_number}user/1001@pbx.test")),
        extension("7103", ("export", "sip_h_Diversion=&lt;sip:7103@pbx.test&gt;"), ("bridge", "user/1001@pbx.test")),
    )
)

Headers = list[tuple[str, str]]
HISTORY = "<sip:7@pbx.test>;index=1, <sip:8@pbx.test>;index=1.1"


def invited(headers: Headers, number: str = "7100", **params: str) -> Sip:
    """What the callee sees of an INVITE with these header fields."""
    seen: list[Sip] = []

    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite(number, "555", sdp=OFFER, headers=headers)
        seen.append(await bob.expect("INVITE"))
        bob.answer(seen[0], 486)
        peer.acknowledge_refusal(await peer.expect(486))
        peer.close()
        bob.close()

    play(scene, **params)
    return seen[0]


def play(scene: Callable[[Rig, Cast], Awaitable[None]], **params: str) -> None:
    async def everything() -> None:
        plain = extension("7100", ("bridge", "user/1001@pbx.test"))
        async with node(EXTENSIONS + plain, params=params) as (rig, cast):
            await scene(rig, cast)
            await rig.idle()

    asyncio.run(everything())


# ---- identity ------------------------------------------------------------------------------------------------------------


def test_an_asserted_identity_is_who_calls() -> None:
    invite = invited([("P-Asserted-Identity", '"Carol" <sip:4711@carrier.test>')])
    assert invite.get("From").startswith('"Carol" <sip:4711@')
    assert invite.get("Remote-Party-ID") == '"Carol" <sip:4711@pbx.test>;party=calling;screen=yes;privacy=off'
    assert not invite.get("P-Asserted-Identity")


def test_where_calls_are_authenticated_a_stranger_asserts_nothing() -> None:
    invite = invited([("P-Asserted-Identity", '"Carol" <sip:4711@carrier.test>')], **{"auth-calls": "true"})
    assert "4711" not in invite.encode().decode()


def test_a_caller_may_stay_unknown() -> None:
    fields = [("P-Asserted-Identity", '"Carol" <sip:4711@carrier.test>'), ("Privacy", "id")]
    invite = invited(fields)
    assert invite.get("From").startswith('"Anonymous" <sip:anonymous@anonymous.invalid>;tag=')
    assert invite.get("Remote-Party-ID") == '"Carol" <sip:4711@pbx.test>;party=calling;screen=yes;privacy=full'
    by_pid = invited(fields, "7101")
    assert by_pid.get("P-Asserted-Identity") == '"Carol" <sip:4711@pbx.test>'
    assert by_pid.get("Privacy") == "id"
    assert not by_pid.get("Remote-Party-ID")


def test_a_dialplan_may_hide_the_number() -> None:
    invite = invited([], "7102")
    assert "anonymous.invalid" in invite.get("From")
    assert invite.get("Remote-Party-ID").endswith(";party=calling;screen=no;privacy=full")


def test_the_profile_says_how_callers_are_told() -> None:
    invite = invited([], **{"caller-id-type": "pid"})
    assert (invite.get("Privacy"), bool(invite.get("P-Asserted-Identity"))) == ("none", True)
    invite = invited([], **{"caller-id-type": "none"})
    assert not invite.get("Remote-Party-ID")
    assert not invite.get("P-Asserted-Identity")


def test_who_wants_to_be_unknown_leaves_no_trail() -> None:
    fields = [("History-Info", HISTORY), ("Call-Info", "<http://a.test/me>"), ("Diversion", "<sip:7@pbx.test>")]
    invite = invited([*fields, ("Privacy", "user")])
    assert not {"History-Info", "Call-Info", "Diversion"} & {name for name, _value in invite.fields}


def test_a_critical_wish_that_nobody_understands_is_refused() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer = await Peer.open(rig.stage.internal)
        peer.invite("7100", "1000", sdp=OFFER, headers=[("Privacy", "cloak;critical")])
        peer.acknowledge_refusal(await peer.expect(500))
        peer.close()

    play(scene)


def test_a_caller_is_told_whom_it_reached_unless_the_profile_says_not_to() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("7100", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180)
        told.append((await peer.expect(180)).get("Remote-Party-ID"))
        bob.answer(invite, 486)
        peer.acknowledge_refusal(await peer.expect(486))
        peer.close()
        bob.close()

    told: list[str] = []
    play(scene)
    play(scene, **{"cid-in-1xx": "false"})
    play(scene, **{"pass-callee-id": "false"})
    assert [bool(text) for text in told] == [True, False, False]


@pytest.mark.parametrize(
    ("variables", "privacy"),
    [
        ({}, OPEN),
        ({"sip_Privacy": "none"}, OPEN),
        ({"sip_Privacy": "id"}, Privacy(True, True)),
        ({"sip_Privacy": "user;session"}, Privacy(True, True)),
        ({"sip_Remote-Party-ID": "<sip:1@h>;privacy=name"}, Privacy(True, False)),
        ({"sip_Remote-Party-ID": "<sip:1@h>;privacy=full;screen=no"}, Privacy(True, True, False)),
        ({"sip_Remote-Party-ID": "<sip:1"}, OPEN),
        ({"origination_privacy": "screen:hide_name"}, Privacy(True, False, True)),
        ({"origination_privacy": "hide_number", "sip_Privacy": "none"}, Privacy(False, True, False)),
    ],
)
def test_what_a_caller_asks_for(variables: dict[str, str], privacy: Privacy) -> None:
    assert identity.privacy_of(variables) == privacy
    assert identity.privacy_of(identity.inherited(variables)) == privacy


# ---- what goes through ---------------------------------------------------------------------------------------------------


def test_where_a_call_has_been_is_passed_on() -> None:
    fields = [
        ("History-Info", HISTORY),
        ("Diversion", "<sip:7@pbx.test>;reason=unconditional"),
        ("Call-Info", "<http://a.test/me>;purpose=icon"),
        ("Alert-Info", "<http://a.test/bell>"),
        ("Referred-By", "<sip:9@pbx.test>"),
        ("X-Colour", "red"),
    ]
    invite = invited(fields)
    assert [(name, invite.get(name)) for name, _value in fields] == fields


def test_a_dialplan_may_set_the_diversion() -> None:
    assert invited([], "7103").get("Diversion") == "<sip:7103@pbx.test>"


def test_a_refusal_brings_its_reason_and_foreign_fields_back() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("7100", "1000", sdp=OFFER)
        invite = await bob.expect("INVITE")
        bob.answer(invite, 180, headers=[("X-Bell", "soft")])
        assert (await peer.expect(180)).get("X-Bell") == "soft"
        reason = 'Q.850;cause=34;text="all circuits"'
        bob.answer(invite, 480, headers=[("Reason", reason), ("X-Why", "trunk")])
        refusal = await peer.expect(480)
        assert (refusal.get("Reason"), refusal.get("X-Why")) == (reason, "trunk")
        peer.acknowledge_refusal(refusal)
        peer.close()
        bob.close()

    play(scene)


def test_a_bye_and_a_cancel_bring_their_reason_to_the_other_side() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        reason = 'Q.850;cause=16;text="so long"'
        peer, bob = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        rig.stage.register("1001", bob.contact)
        peer.invite("7100", "1000", sdp=OFFER)
        bob.answer(await bob.expect("INVITE"), 200, sdp=OFFER)
        ok = await peer.expect(200)
        peer.ack(ok)
        await bob.expect("ACK")
        peer.within(ok, "BYE", headers=[("Reason", reason), ("X-Last", "word")])
        bye = await bob.expect("BYE")
        bob.answer(bye, 200)
        assert (bye.get("Reason"), bye.get("X-Last")) == (reason, "word")
        peer.close()
        bob.close()

    play(scene)
