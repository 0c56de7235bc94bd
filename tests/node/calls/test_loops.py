"""Calls that come back, calls that multiply, and phones with several flows or a GRUU."""

from __future__ import annotations

import secrets
import time

import pytest

from node.calls.dial_string import Target
from node.calls.loops import divided, exhausted
from store.records import Registration
from tests.node.calls.peer import OFFER, Peer, said
from tests.node.calls.rig import DOMAIN, Cast, Rig, extension, until
from tests.node.calls.scene import play
from tests.support.sipmessage import Sip

OUT = extension("7000", ("bridge", "sofia/gateway/carrier/555")) + extension(
    "7001", ("bridge", "sofia/gateway/carrier/556")
)
URN = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"


def sent_back(peer: Peer, invite: Sip, number: str, **more: str) -> Sip:
    """What a proxy makes of it that routes it to where it came from."""
    via = f"SIP/2.0/UDP {peer.host}:{peer.port};rport;branch=z9hG4bK{secrets.token_hex(8)}"
    fields = [("Via", via), *invite.fields, *((name.replace("_", "-"), value) for name, value in more.items())]
    return Sip(f"INVITE sip:{number}@{DOMAIN} SIP/2.0", fields, invite.body)


def test_a_call_that_comes_back_unchanged_is_a_loop() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        proxy = await Peer.open(rig.stage.internal, rig.stage.carrier)
        ours = await (await cast.phone("1000")).call("7000")
        invite = await proxy.expect("INVITE")
        back = sent_back(proxy, invite, "7000")
        proxy.send(back)
        refusal = await proxy.expect(482)
        assert refusal.call_id == invite.call_id
        proxy.send(refusal_ack(back, refusal))
        proxy.server = rig.stage.external
        proxy.answer(invite, 482)
        await proxy.expect("ACK")
        await until(ours.ended.is_set)
        proxy.close()

    play(scene, OUT)


def test_a_spiral_is_a_new_call_until_it_closes() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        proxy = await Peer.open(rig.stage.internal, rig.stage.carrier)
        ours = await (await cast.phone("1000")).call("7000")
        first = await proxy.expect("INVITE")
        around = sent_back(proxy, first, "7001")
        proxy.send(around)
        await proxy.expect(100)
        second = await proxy.expect("INVITE")
        assert second.start.startswith("INVITE sip:556@")
        closing = sent_back(proxy, second, "7000")
        proxy.send(closing)
        refusal = await proxy.expect(482)
        proxy.send(refusal_ack(closing, refusal))
        proxy.server = rig.stage.external
        proxy.answer(second, 482)
        answer = await proxy.expect(482)
        proxy.server = rig.stage.internal
        proxy.send(refusal_ack(around, answer))
        proxy.server = rig.stage.external
        proxy.answer(first, 482)
        await until(ours.ended.is_set)
        proxy.close()

    play(scene, OUT)


def refusal_ack(invite: Sip, refusal: Sip) -> Sip:
    kept = [pair for pair in invite.fields if pair[0] in ("From", "Call-ID", "Max-Forwards")]
    fields = [("Via", invite.get("Via")), *kept, ("To", refusal.get("To")), ("CSeq", f"{refusal.cseq} ACK")]
    return Sip(invite.start.replace("INVITE", "ACK", 1), fields)


# ---- breadth -----------------------------------------------------------------------------------------------------------


def targets(count: int, **variables: str) -> list[Target]:
    return [Target("sofia", f"internal/{number}@h", dict(variables)) for number in range(count)]


@pytest.mark.parametrize(
    ("given", "count", "shares"),
    [("60", 1, [None]), (None, 1, [None]), ("7", 3, ["3", "2", "2"]), ("2", 3, ["1", "1", "0"]), (None, 3, ["20"] * 3)],
)
def test_the_breadth_is_divided(given: str | None, count: int, shares: list[str | None]) -> None:
    variables = {"max_breadth": given} if given is not None else {}
    made = divided(targets(count), variables)
    assert [each.variables.get("max_breadth") for each in made] == shares
    assert [exhausted(each, variables) for each in made] == [share == "0" for share in shares]


def test_a_group_larger_than_any_breadth_is_called_where_nobody_set_a_limit() -> None:
    assert not any(exhausted(each, {}) for each in divided(targets(100), {}))


def test_what_a_name_stands_for_shares_what_the_name_had() -> None:
    made = divided(targets(2, max_breadth="3"), {"max_breadth": "60"})
    assert [each.variables["max_breadth"] for each in made] == ["2", "1"]


def test_a_forked_call_passes_its_breadth_on_and_stops_where_it_ends() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        caller = await Peer.open(rig.stage.internal)
        phones = [await Peer.open(rig.stage.internal) for _ in range(3)]
        for phone in phones:
            rig.stage.register("1001", phone.contact)
        caller.invite("1001", "1000", sdp=OFFER, headers=[("Max-Breadth", "2")])
        await until(lambda: sum(said(phone, "INVITE") for phone in phones) == 2)
        for phone in phones:
            if said(phone, "INVITE"):
                invite = await phone.expect("INVITE")
                assert invite.get("Max-Breadth") == "1"
                phone.answer(invite, 486)
                await phone.expect("ACK")
        caller.acknowledge_refusal(await caller.expect(486))
        for each in (caller, *phones):
            each.close()

    play(scene)


# ---- flows and GRUUs ---------------------------------------------------------------------------------------------------


def flow(rig: Rig, phone: Peer | str, reg_id: int, version: int, instance: str = URN) -> None:
    contact = phone if isinstance(phone, str) else phone.contact
    rig.stage.location.learn(
        Registration(
            call_id=f"c{reg_id}{instance}",
            sip_user="1001",
            sip_host=DOMAIN,
            contact=f'"" <{contact};fs_reg_id={reg_id}>',
            profile_name="internal",
            expires=int(time.time()) + 600,
            version=version,
            instance=instance,
            reg_id=reg_id,
        )
    )


def test_a_phone_with_two_flows_rings_once_and_by_the_other_one_if_the_first_has_failed() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        caller, first, second = [await Peer.open(rig.stage.internal) for _ in range(3)]
        flow(rig, first, 1, 10)
        flow(rig, second, 2, 20)
        caller.invite("1001", "1000", sdp=OFFER)
        invite = await second.expect("INVITE")
        assert invite.start == f"INVITE {second.contact} SIP/2.0"
        assert not said(first, "INVITE")
        second.answer(invite, 430)
        again = await first.expect("INVITE")
        assert again.start == f"INVITE {first.contact} SIP/2.0"
        first.answer(again, 486)
        await first.expect("ACK")
        caller.acknowledge_refusal(await caller.expect(486))
        assert not said(second, "INVITE")
        for each in (caller, first, second):
            each.close()

    play(scene)


def test_a_busy_phone_is_not_called_again_by_its_other_flow() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        caller, first, second = [await Peer.open(rig.stage.internal) for _ in range(3)]
        flow(rig, first, 1, 10)
        flow(rig, second, 2, 20)
        caller.invite("1001", "1000", sdp=OFFER)
        second.answer(await second.expect("INVITE"), 486)
        caller.acknowledge_refusal(await caller.expect(486))
        assert not said(first, "INVITE")
        for each in (caller, first, second):
            each.close()

    play(scene)


def test_a_gruu_rings_its_own_phone_only() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        caller, meant, other = [await Peer.open(rig.stage.internal) for _ in range(3)]
        flow(rig, meant, 1, 10)
        flow(rig, other, 1, 20, "<urn:uuid:other>")
        request = caller.invite("1001", "1000", sdp="")
        for phone in (meant, other):
            phone.answer(await phone.expect("INVITE"), 486)
        caller.acknowledge_refusal(await caller.expect(486))
        gruu = f"sip:1001@pbx.test;gr={URN.strip('<>')}"
        fields = [(name, value.replace("1 INVITE", "2 INVITE")) for name, value in request.fields if name != "Via"]
        via = ("Via", f"SIP/2.0/UDP 127.0.0.1:{caller.port};rport;branch=z9hG4bK{secrets.token_hex(8)}")
        again = Sip(f"INVITE {gruu} SIP/2.0", [via, *fields])
        caller.send(again)
        meant.answer(await meant.expect("INVITE"), 486)
        caller.send(refusal_ack(again, await caller.expect(486)))
        assert not said(other, "INVITE")
        for each in (caller, meant, other):
            each.close()

    play(scene)


def test_a_phone_behind_an_edge_proxy_is_called_by_its_path() -> None:
    async def scene(rig: Rig, cast: Cast) -> None:
        caller, core = await Peer.open(rig.stage.internal), await Peer.open(rig.stage.internal)
        path = f"sip:127.0.0.1:{core.port};lr", "sip:edge.test;lr;ob"
        encoded = "%2C".join(each.replace(":", "%3A").replace(";", "%3B") for each in path)
        rig.stage.register("1001", f"sip:1001@10.9.9.9;ob;fs_path={encoded}")
        caller.invite("1001", "1000", sdp=OFFER)
        invite = await core.expect("INVITE")
        assert invite.start == "INVITE sip:1001@10.9.9.9;ob SIP/2.0"
        assert invite.all("Route") == [f"<{each}>" for each in path]
        core.answer(invite, 486)
        caller.acknowledge_refusal(await caller.expect(486))
        caller.close()
        core.close()

    play(scene)
