"""Refusals inside a dialog, by a whole worker: unknown methods, extensions and bodies, and what Allow says of a profile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.profiles.test_all_packets import calling, demanding, within
from tests.node.registrar.test_registrar import configured
from tests.node.rig import rig
from tests.support.sipmessage import uri_of


def test_what_is_refused_outside_of_a_dialog_is_refused_in_it(tmp_path: Path) -> None:
    with demanding(tmp_path, on=False) as node:
        phone = node.phone()
        answered = calling(phone)
        for method, status in (("FETCH", 501), ("PUBLISH", 405), ("REGISTER", 405), ("PRACK", 405)):
            refusal = within(phone, answered, method)
            assert refusal.status == status, method
            allowed = refusal.get("Allow").split(", ")
            assert "INVITE" in allowed
            assert (method in allowed) is (method == "REGISTER"), "it is served, but not in a dialog"
        for method in ("OPTIONS", "INFO", "UPDATE", "BYE"):
            refusal = within(phone, answered, method, Require="timer, teleport")
            assert (refusal.status, refusal.get("Unsupported")) == (420, "teleport"), method
        request = phone.request("UPDATE", uri_of(answered.get("Contact")), To=answered.get("To"), Content_Type="a/b")
        request.body = "?"
        refusal = phone.ask(request)
        assert (refusal.status, refusal.get("Accept")) == (415, "application/sdp")
        options = within(phone, answered, "OPTIONS")
        assert options.status == 200
        assert options.get("Accept") == "application/sdp"
        assert options.get("Supported")
        assert within(phone, answered, "BYE").status == 200


@pytest.mark.parametrize(
    ("settings", "method", "status"),
    [
        ({"allow_update": False}, "UPDATE", 405),
        ({"disable_transfer": True}, "REFER", 405),
        ({"enable_chat": False}, "MESSAGE", 405),
        ({"enable_100rel": False}, "PRACK", 405),
        ({"disable_register": True}, "REGISTER", 403),
    ],
)
def test_allow_tells_what_a_profile_serves(
    tmp_path: Path, settings: dict[str, object], method: str, status: int
) -> None:
    with rig(tmp_path) as node:
        phone = configured(node, **settings).phone()
        for asked in ("OPTIONS", method):
            answer = phone.ask(phone.request(asked, "sip:1001@pbx.test"))
            assert answer.status == (200 if asked == "OPTIONS" else status)
            assert method not in answer.get("Allow").split(", ")


@pytest.mark.parametrize(
    "settings", [{}, {"enable_100rel": True, "enable_chat": True, "allow_update": True, "disable_transfer": False}]
)
def test_nothing_that_allow_tells_is_refused_as_unknown(tmp_path: Path, settings: dict[str, object]) -> None:
    with rig(tmp_path) as node:
        phone = configured(node, **settings).phone()
        allowed = phone.ask(phone.request("OPTIONS", "sip:1001@pbx.test")).get("Allow").split(", ")
        assert {"INVITE", "ACK", "BYE", "CANCEL", "OPTIONS"} <= set(allowed)
        for method in set(allowed) - {"ACK", "INVITE"}:
            answer = phone.ask(phone.request(method, "sip:1001@pbx.test", To="<sip:1001@pbx.test>"))
            assert answer.status not in (405, 501), method
