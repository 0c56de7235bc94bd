from __future__ import annotations

import itertools
import struct
import time
from array import array
from math import pi, sin
from pathlib import Path

import pytest

from node.media import g711
from node.media.control import CodecName
from node.media.errors import MediaError, MediaStopped
from node.media.playback import Voice
from node.media.rtp import Packet
from tests.node.media.spectrum import loudest
from tests.node.media.stage import Phone, Worker


def opened(worker: Worker, phone: Phone, leg: str = "a") -> int:
    port = worker.open(leg)
    worker.client.remote(leg, phone.address, phone.port, phone.port + 1)
    return port


def heard(worker: Worker, phone: Phone, ended: list[MediaError | None]) -> list[Packet]:
    """All packets of a playback, once it has ended well."""
    worker.loop.until(lambda: ended, within=5)
    assert ended == [None]
    packets = [Packet.parse(data) for data in phone.received()]
    return [packet for packet in packets if packet is not None]


def sound(packets: list[Packet], codec: CodecName = "PCMU") -> array[int]:
    return g711.decode(b"".join(packet.payload for packet in packets), codec)


@pytest.mark.parametrize(("codec", "payload_type"), [("PCMU", 0), ("PCMA", 8)])
def test_a_tone_sounds_at_its_frequency(worker: Worker, alice: Phone, codec: CodecName, payload_type: int) -> None:
    opened(worker, alice)
    packets = heard(worker, alice, worker.play("a", "tone_stream://%(400,0,440)", codec))
    assert len(packets) == 20
    assert {packet.payload_type for packet in packets} == {payload_type}
    assert loudest(sound(packets, codec)) == pytest.approx(440, abs=5)


def test_the_stream_to_a_leg_is_continuous_over_all_that_is_played(worker: Worker, alice: Phone) -> None:
    opened(worker, alice)
    first = heard(worker, alice, worker.play("a", "tone_stream://%(100,0,440)"))
    second = heard(worker, alice, worker.play("a", "tone_stream://%(100,0,880)"))
    packets = first + second
    assert len({packet.ssrc for packet in packets}) == 1
    steps = [(later.sequence - packet.sequence) & 0xFFFF for packet, later in itertools.pairwise(packets)]
    assert steps == [1] * (len(packets) - 1)
    stamps = [(later.timestamp - packet.timestamp) & 0xFFFFFFFF for packet, later in itertools.pairwise(first)]
    assert stamps == [160] * (len(first) - 1)
    gap = (second[0].timestamp - first[-1].timestamp) & 0xFFFFFFFF
    assert gap % 160 == 0
    assert 160 <= gap < 10 * 8000, "as long as nothing was played"


def test_another_node_goes_on_with_the_stream_where_the_first_one_stopped() -> None:
    first, second = Voice("leg", now=50.0, wall=1e9), Voice("leg", now=7000.0, wall=1e9 + 5)
    for frame in range(250):
        last = Packet.parse(first.next(0, 50.0 + frame * 0.02))
    following = Packet.parse(second.next(0, 7000.0))
    assert last is not None
    assert following is not None
    assert following.ssrc == last.ssrc
    assert (following.sequence - last.sequence) & 0xFFFF == 1
    assert (following.timestamp - last.timestamp) & 0xFFFFFFFF == 160


def test_packets_come_every_20_ms(worker: Worker, alice: Phone) -> None:
    opened(worker, alice)
    began = time.monotonic()
    ended = worker.play("a", "tone_stream://%(1000,0,440)")
    worker.loop.until(lambda: worker.counters("a").played >= 10)
    assert worker.counters("a").played <= (time.monotonic() - began) / 0.02 + 5, "not all at once"
    heard(worker, alice, ended)


def test_a_file_is_played_to_its_end(worker: Worker, alice: Phone, tmp_path: Path) -> None:
    samples = array("h", [int(12000 * sin(2 * pi * 1000 * at / 16000)) for at in range(16000 * 3 // 10)])
    path = tmp_path / "tone.wav"
    path.write_bytes(_wav(samples, 16000))
    opened(worker, alice)
    packets = heard(worker, alice, worker.play("a", str(path)))
    assert len(packets) == 15
    assert loudest(sound(packets)) == pytest.approx(1000, abs=5)


def test_two_listeners_hear_the_same_file(worker: Worker, alice: Phone, bob: Phone, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(_wav(array("h", [at * 7 % 9000 for at in range(1600)]), 8000))
    opened(worker, alice)
    opened(worker, bob, "b")
    one, other = worker.play("a", str(path)), worker.play("b", str(path))
    assert sound(heard(worker, alice, one)) == sound(heard(worker, bob, other))


def test_a_missing_file_is_named(worker: Worker, alice: Phone) -> None:
    opened(worker, alice)
    ended = worker.play("a", "/no/such/file.wav")
    worker.loop.until(lambda: ended)
    assert str(ended[0]) == "cannot play /no/such/file.wav: no such file"


@pytest.mark.parametrize(
    "source",
    [
        "",
        "/",
        "/etc/passwd",
        "/dev/null",
        "local_stream://moh",
        "tone_stream://",
        "tone_stream://%(1)",
        "tone_stream://%(a,b,c)",
        "silence_stream://x",
        "\0",
    ],
)
def test_what_cannot_be_played_is_refused(worker: Worker, alice: Phone, source: str) -> None:
    opened(worker, alice)
    ended = worker.play("a", source)
    worker.loop.until(lambda: ended)
    assert isinstance(ended[0], MediaError)
    assert not isinstance(ended[0], MediaStopped)


def test_an_endless_tone_ends_when_it_is_stopped(worker: Worker, alice: Phone) -> None:
    opened(worker, alice)
    ended = worker.play("a", "tone_stream://%(40,20,440);loops=-1")
    worker.loop.until(lambda: worker.counters("a").played > 10)
    worker.client.stop("a")
    worker.loop.until(lambda: ended)
    assert isinstance(ended[0], MediaStopped)
    played = worker.counters("a").played
    alice.received()
    assert alice.received(wait=0.1) == []
    assert worker.counters("a").played == played


def test_a_join_ends_the_playback(worker: Worker, alice: Phone, bob: Phone) -> None:
    a = opened(worker, alice)
    opened(worker, bob, "b")
    ended = worker.play("a", "tone_stream://%(1000,0,440);loops=-1")
    worker.client.join("a", "b")
    worker.loop.until(lambda: ended)
    assert isinstance(ended[0], MediaStopped)
    assert bob.receive_after(lambda: alice.send(a)) == alice.last


def test_another_play_takes_the_place_of_the_first(worker: Worker, alice: Phone) -> None:
    opened(worker, alice)
    first = worker.play("a", "tone_stream://%(1000,0,440);loops=-1")
    second = worker.play("a", "silence_stream://60")
    worker.loop.until(lambda: second)
    assert isinstance(first[0], MediaStopped)
    assert second == [None]


def test_closing_the_leg_ends_the_playback(worker: Worker, alice: Phone) -> None:
    opened(worker, alice)
    ended = worker.play("a", "silence_stream://-1")
    worker.counters("a")
    worker.client.close("a")
    worker.loop.until(lambda: ended)
    assert isinstance(ended[0], MediaStopped)


def _wav(samples: array[int], rate: int) -> bytes:
    data = samples.tobytes()
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVE" + b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body
