"""What `sofia recover --dry-run` says of records: by whose they are, by where we are, and by how the leg stands."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from node.calls.forecast import Duties, forecast
from node.calls.urgency import rank
from node.config import Configuration, load
from store.records import CallRecord, CallState, DialogRecord, FlowRecord, LegRecord, LegState, MediaRecord, Transport

HERE, THERE = "192.0.2.1", "192.0.2.2"
STANDBY = Duties(active=False, slots={}, profiles=frozenset())
ACTIVE = Duties(active=True, slots={"internal#0": 7}, profiles=frozenset({"internal"}))

CONF = """<document type="freeswitch/xml"><section name="configuration">
<configuration name="ha.conf"><settings><param name="emergency-numbers" value="112, 911"/>{ha}</settings></configuration>
<configuration name="sofia.conf"><profiles><profile name="internal"><settings>
<param name="sip-ip" value="192.0.2.1"/><param name="rtp-ip" value="192.0.2.1"/>{profile}
</settings></profile></profiles></configuration></section></document>"""


def configured(folder: Path, profile: str = "", ha: str = "") -> Configuration:
    (folder / "freeswitch.xml").write_text(CONF.format(profile=profile, ha=ha))
    return load(folder)


def leg(
    state: LegState = "answered",
    *,
    at: str = HERE,
    profile: str = "internal",
    transport: Transport = "UDP",
    cause: str = "",
    destination: str = "1001",
    direction: Literal["inbound", "outbound"] = "inbound",
) -> LegRecord:
    return LegRecord(
        uuid="leg",
        direction=direction,
        profile=profile,
        state=state,
        flow=FlowRecord(profile=profile, transport=transport, local_host=at, local_port=5060, remote_host="192.0.2.9"),
        dialog=DialogRecord(call_id="id", local_tag="x"),
        media=MediaRecord(address=at, advertised=at, port=20000, local_sdp="v=0"),
        cause=cause,
        destination=destination,
    )


def call(*legs: LegRecord, slot: str = "internal#0", epoch: int = 5, state: CallState = "answered") -> CallRecord:
    profile = slot.partition("#")[0]
    return CallRecord(uuid="call", slot=slot, epoch=epoch, state=state, profile_name=profile, legs=list(legs))


@pytest.mark.parametrize(
    ("record", "duties", "action", "why"),
    [
        (call(leg()), STANDBY, "revive", "nothing changes for it"),
        (call(leg()), ACTIVE, "revive", "nothing changes for it"),
        (call(leg(), epoch=7), ACTIVE, "none", "lives here"),
        (call(leg(), slot="internal#3"), ACTIVE, "revive", "nothing changes for it"),
        (call(leg(), slot="other#0"), ACTIVE, "none", "profile other does not run here"),
        (call(leg(), slot="other#0"), STANDBY, "none", "no profile other here"),
        (call(leg(profile="other")), STANDBY, "lose", "there is no profile other"),
        (call(leg("ringing"), state="ringing"), STANDBY, "revive", "ringing: its INVITE goes on"),
        (
            call(leg("ringing", at=THERE, direction="outbound"), state="ringing"),
            STANDBY,
            "revive",
            f"ringing: called anew, for its answer would go to {THERE}",
        ),
        (
            call(leg("ringing", at=THERE), state="ringing"),
            STANDBY,
            "revive",
            f"ringing: its INVITE goes on; Contact moves from {THERE} to {HERE}",
        ),
        (call(leg(cause="NORMAL_CLEARING")), STANDBY, "end", "its BYE is repeated: NORMAL_CLEARING"),
        (call(leg(transport="TLS")), STANDBY, "revive", "nothing changes for it; waits for its new connection"),
        (
            call(leg(at=THERE)),
            STANDBY,
            "reinvite",
            f"Contact moves from {THERE} to {HERE}; media moves from {THERE} to {HERE}",
        ),
        (call(leg(destination="112")), STANDBY, "revive", "emergency, nothing changes for it"),
    ],
)
def test_each_leg_is_told_what_and_why(
    tmp_path: Path, record: CallRecord, duties: Duties, action: str, why: str
) -> None:
    (told,) = forecast(record, configured(tmp_path), duties)
    assert (told.action, told.why) == (action, why)
    assert (told.uuid, told.call, told.call_id, told.direction) == ("leg", "call", "id", record.legs[0].direction)


def test_a_leg_that_is_over_is_no_leg(tmp_path: Path) -> None:
    assert forecast(call(leg("ended")), configured(tmp_path), STANDBY) == []


@pytest.mark.parametrize(
    ("wish", "action", "why"),
    [
        ("always", "reinvite", "recovery-reinvite is always"),
        ("never", "revive", "nothing changes for it"),
    ],
)
def test_the_profile_says_whether_legs_are_reinvited(tmp_path: Path, wish: str, action: str, why: str) -> None:
    configuration = configured(tmp_path, f'<param name="recovery-reinvite" value="{wish}"/>')
    (told,) = forecast(call(leg()), configuration, STANDBY)
    assert (told.action, told.why) == (action, why)


def test_a_leg_that_is_over_may_be_of_a_profile_that_is_gone(tmp_path: Path) -> None:
    (told,) = forecast(call(leg(), leg("ended", profile="gone")), configured(tmp_path), STANDBY)
    assert told.action == "revive"


def test_the_profile_that_serves_a_call_says_so_of_both_its_legs(tmp_path: Path) -> None:
    both = (
        '<param name="recovery-reinvite" value="always"/></settings></profile><profile name="external"><settings>'
        '<param name="sip-ip" value="192.0.2.1"/><param name="rtp-ip" value="192.0.2.1"/><param name="sip-port" value="5080"/>'
    )
    (told,) = forecast(call(leg(profile="external")), configured(tmp_path, both), STANDBY)
    assert told.action == "reinvite"


@pytest.mark.parametrize(
    ("binding", "at", "action"),
    [
        ("192.0.2.5:5066", "192.0.2.5", "revive"),
        ("0.0.0.0:5066", "192.0.2.5", "revive"),
        (":5066", HERE, "revive"),
        ("192.0.2.5:5066", "192.0.2.6", "reinvite"),
    ],
)
def test_a_websocket_of_an_address_of_its_own_has_not_moved(tmp_path: Path, binding: str, at: str, action: str) -> None:
    one = leg(transport="WS", at=at)
    assert one.media is not None
    one.media.address = one.media.advertised = HERE
    configuration = configured(tmp_path, f'<param name="ws-binding" value="{binding}"/>')
    (told,) = forecast(call(one), configuration, STANDBY)
    assert told.action == action


def test_what_moved_and_must_not_be_told_is_said(tmp_path: Path) -> None:
    configuration = configured(tmp_path, '<param name="recovery-reinvite" value="never"/>')
    (told,) = forecast(call(leg(at=THERE)), configuration, STANDBY)
    assert told.action == "revive"
    assert told.why.endswith("; recovery-reinvite is never")


def test_behind_a_public_address_that_stays_only_the_media_says_that_we_moved(tmp_path: Path) -> None:
    configuration = configured(tmp_path, '<param name="ext-sip-ip" value="203.0.113.1"/>')
    (told,) = forecast(call(leg(at=THERE)), configuration, STANDBY)
    assert told.why == f"media moves from {THERE} to {HERE}"


def test_a_profile_may_have_emergency_numbers_of_its_own(tmp_path: Path) -> None:
    assert configured(tmp_path).emergency_numbers("internal") == ("112", "911")
    own = configured(tmp_path, '<param name="emergency-numbers" value="999"/>')
    assert own.emergency_numbers("internal") == ("999",)
    assert own.emergency_numbers("other") == ("112", "911")


def test_answered_calls_come_first_then_emergencies_then_the_oldest() -> None:
    def made(name: str, created: float, number: str, state: CallState = "answered") -> CallRecord:
        return CallRecord(uuid=name, state=state, created=created, legs=[leg(destination=number)])

    calls = [
        made("rings for 112", 1.0, "112", "ringing"),
        made("young", 9.0, "1001"),
        made("old", 2.0, "1001"),
        made("112", 8.0, "112"),
    ]
    assert [one.uuid for one in sorted(calls, key=lambda one: rank(one, ("112",)))] == [
        "112",
        "old",
        "young",
        "rings for 112",
    ]
