"""Applications that a successor takes up: where they were, not where they began."""

from __future__ import annotations

import asyncio
import math
import struct
import time
import wave
from pathlib import Path

from node.media.g711 import decode
from tests.node.calls.rig import Cast, Rig, extension, stage, until

WITHIN = 15.0


def ramp(path: Path, seconds: int) -> None:
    """A WAV file that is louder each second: what is heard tells where it is."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        for second in range(seconds):
            loudness = 1000 * (second + 1)
            samples = [int(loudness * math.sin(at * math.pi / 8)) for at in range(8000)]
            file.writeframes(struct.pack("<8000h", *samples))


def second_of(frame: bytes) -> int:
    """Which second of the ramp a PCMU frame is from."""
    return round(max(decode(frame, "PCMU")) / 1000) - 1


class Heard(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.frames: list[tuple[float, bytes]] = []

    def datagram_received(self, data: bytes, addr: object) -> None:
        if len(data) == 172:
            self.frames.append((time.monotonic(), data[12:]))


def test_playback_goes_on_at_its_place(tmp_path: Path) -> None:
    ramp(tmp_path / "ramp.wav", 20)
    extensions = extension("7010", ("answer", ""), ("playback", str(tmp_path / "ramp.wav")))

    async def play() -> None:
        with stage(extensions) as made:
            rig, cast = Rig(made), Cast(made)
            alice = await cast.phone("1000")
            ours = await alice.call("7010")
            await asyncio.wait_for(ours.answered.wait(), WITHIN)
            await until(lambda: rig.live[0].progress.get("since"))
            assert ours.audio is not None
            began = float(rig.live[0].progress["since"])
            await ours.audio.heard(75, WITHIN)
            # The next one hears the phone at a socket of the test's own.
            ours.audio.close()
            loop = asyncio.get_running_loop()
            transport, ear = await loop.create_datagram_endpoint(Heard, local_addr=("127.0.0.1", ours.audio.port))
            rig, results = rig.succeed()
            assert [result.cause for result in results] == ["revived"]
            taken = time.time()
            ear.frames.clear()
            await until(lambda: len(ear.frames) > 60)
            heard = [second_of(frame) for _at, frame in ear.frames[5:50]]
            assert heard == sorted(heard)
            assert abs(heard[0] - (taken - began)) < 1.5
            assert heard[0] >= 1
            assert float(rig.live[0].progress["since"]) == began
            transport.close()
            rig.switchboard.hupall()
            await asyncio.wait_for(ours.ended.wait(), WITHIN)
            await cast.close()
            rig.bury()

    asyncio.run(play())


def test_sleep_ends_when_it_would_have_and_echo_goes_on(tmp_path: Path) -> None:
    extensions = extension("7011", ("answer", ""), ("sleep", "1500"), ("echo", ""))

    async def play() -> None:
        with stage(extensions) as made:
            rig, cast = Rig(made), Cast(made)
            alice = await cast.phone("1000")
            ours = await alice.call("7011")
            await asyncio.wait_for(ours.answered.wait(), WITHIN)
            await until(lambda: rig.live[0].progress.get("until"))
            end = float(rig.live[0].progress["until"])
            rig, _results = rig.succeed()
            assert float(rig.live[0].progress["until"]) == end
            assert ours.audio is not None
            await ours.audio.heard(5, WITHIN)
            assert time.time() >= end - 0.05
            rig, _results = rig.succeed()
            await ours.audio.heard(20, WITHIN)
            assert (await ours.hangup()).status == 200
            await rig.idle()
            await cast.close()
            rig.bury()

    asyncio.run(play())
