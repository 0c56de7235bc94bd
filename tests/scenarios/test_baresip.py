"""Two real phones through the node: they register, talk, and hear the right thing."""

from __future__ import annotations

import pytest

from tests.support.baresip import Baresip
from tests.support.node import DOMAIN, PASSWORD, Node, until

pytestmark = [pytest.mark.real, pytest.mark.peers]


def test_two_baresips_register_call_and_hear_each_others_tone(solo: Node) -> None:
    server = solo.sip
    with (
        Baresip("1000", PASSWORD, DOMAIN, server, port=15600, tone=440) as caller,
        Baresip("1001", PASSWORD, DOMAIN, server, port=15900, tone=700) as callee,
    ):
        caller.says("200 OK")
        callee.says("200 OK")
        caller.command("dial", f"sip:1001@{DOMAIN}")
        caller.says("Call established")
        callee.says("Call established")
        until(lambda: "1001" in solo.api("show channels"), 5, "the call to be listed", solo)
        until(lambda: 690 < caller.heard() < 710 and 430 < callee.heard() < 450, 15, "both tones to be heard", solo)
        caller.command("hangup")
        callee.says("session closed")
        until(lambda: "\n0 total" in solo.api("show channels count"), 5, "the call to be gone", solo)
