"""What a newer release has put into records outlives this one's reading and writing them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from store.records import ESCAPED, DialogRecord, EarlyRecord, decode_call, decode_registration, encode
from tests.store.samples import call, registration

NEWS: dict[str, Any] = {"later": {"a": [1, 2, b"\x00\xff"]}, "sooner": "é"}


def call_of_tomorrow(*, odd: bool = False) -> dict[str, Any]:
    """A call's record with fields that nobody knows yet, at each level."""
    record = call(profile_name="caf\udce9" if odd else "internal")
    data = encode(record)
    values: dict[str, Any] = msgspec.msgpack.decode(data[1:] if odd else data)
    leg = values["legs"][0]
    leg["media"] = leg.get("media") or {"port": 20_000}
    for place in (values, leg, leg["dialog"], leg["media"]):
        place.update(NEWS)
    return values


def encoded(values: dict[str, Any], *, odd: bool = False) -> bytes:
    return (ESCAPED if odd else b"") + msgspec.msgpack.encode(values)


@pytest.mark.parametrize("odd", [False, True])
def test_unknown_fields_of_a_call_a_leg_its_dialog_and_its_media_are_written_again(odd: bool) -> None:
    written = call_of_tomorrow(odd=odd)
    record = decode_call(encoded(written, odd=odd))
    assert record.legs[0].beyond == NEWS
    record.version += 1
    again = encode(record)
    assert msgspec.msgpack.decode(again[1:] if odd else again) == written | {"version": record.version}
    assert decode_call(again) == record


def test_unknown_fields_of_an_early_dialog_are_written_again() -> None:
    record = call()
    record.legs[1].early = [EarlyRecord(dialog=DialogRecord(call_id="b", local_tag="l", remote_tag="r"))]
    written = msgspec.msgpack.decode(encode(record))
    written["legs"][1]["early"][0]["dialog"].update(NEWS)
    assert msgspec.msgpack.decode(encode(decode_call(encoded(written)))) == written


@pytest.mark.parametrize("user", ["1000", "10\udce9"])
def test_unknown_fields_of_a_registration_are_written_again(user: str) -> None:
    data = encode(registration(user))
    mark = data[:1] if data[:1] == ESCAPED else b""
    written = msgspec.msgpack.decode(data[len(mark) :]) | NEWS
    again = encode(decode_registration(mark + msgspec.msgpack.encode(written)))
    assert again[: len(mark)] == mark
    assert msgspec.msgpack.decode(again[len(mark) :]) == written


def test_what_is_unknown_of_something_that_does_not_last_is_passed_over() -> None:
    values = msgspec.msgpack.decode(encode(registration()))
    values["flow"]["later"] = 1
    assert decode_registration(msgspec.msgpack.encode(values)) == registration()


def test_a_record_that_this_release_knows_holds_nothing_more() -> None:
    for record in (call(), registration()):
        assert b"beyond" not in encode(record)
        assert record.beyond is None


def test_what_is_no_record_at_all_is_still_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_call(msgspec.msgpack.encode({"uuid": 5, "later": 1}))
