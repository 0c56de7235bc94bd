from __future__ import annotations

from pathlib import Path

import pytest

from node.media.errors import MediaError
from node.media.sources import Library, Source
from tests.node.media.test_wave import file


def frames(source: Source, limit: int = 1000) -> list[bytes]:
    found = []
    while (frame := source.next()) is not None and len(found) < limit:
        found.append(frame)
    return found


def test_loops_repeat_the_whole_and_end() -> None:
    library = Library()
    once = frames(library.open("tone_stream://%(40,20,440)", "PCMU"))
    assert len(once) == 3
    assert frames(library.open("tone_stream://%(40,20,440);loops=3", "PCMU")) == once * 3
    assert len(frames(library.open("tone_stream://%(40,20,440);loops=-1", "PCMU"))) == 1000


def test_the_last_frame_is_filled_up_with_silence(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    path.write_bytes(file(b"\xd5" * 200, encoding=6, bits=8))
    assert [set(frame) for frame in frames(Library().open(str(path), "PCMA"))] == [{0xD5}, {0xD5}]
    assert frames(Library().open(str(path), "PCMU"))[1][40:] == b"\xff" * 120


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    library, path = Library(), tmp_path / "sound.wav"
    path.write_bytes(file(b"\xff" * 160, encoding=7, bits=8))
    assert len(frames(library.open(str(path), "PCMU"))) == 1
    path.write_bytes(file(b"\xff" * 480, encoding=7, bits=8))
    assert len(frames(library.open(str(path), "PCMU"))) == 3


def test_a_long_file_is_read_by_each_listener_for_itself(tmp_path: Path) -> None:
    library, path = Library(), tmp_path / "long.wav"
    path.write_bytes(file(bytes(range(160)) * 50 * 121, encoding=7, bits=8))
    one, other = library.open(str(path), "PCMU"), library.open(str(path), "PCMU")
    assert [one.next(), one.next(), one.next()] == [other.next(), other.next(), other.next()]
    assert library._clips == {}


def test_a_folder_or_no_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=f"cannot play {tmp_path}: not a file"):
        Library().open(str(tmp_path), "PCMU")
    with pytest.raises(MediaError, match="unknown kind of source 'local_stream://moh'"):
        Library().open("local_stream://moh", "PCMU")


def test_a_file_is_played_from_the_second_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "steps.wav"
    path.write_bytes(file(b"\x10" * 8000 + b"\x20" * 8000 + b"\x30" * 8000, encoding=7, bits=8))
    library = Library()
    whole = frames(library.open(str(path), "PCMU"))
    assert len(whole) == 150
    assert frames(library.open(str(path), "PCMU", 1.5)) == whole[75:]
    assert library.open(str(path), "PCMU", 99.0).next() is None


def test_tones_go_on_in_the_round_and_at_the_frame_where_they_were() -> None:
    library = Library()
    script = "tone_stream://%(100,60,440);loops=3"
    whole = frames(library.open(script, "PCMU"))
    assert len(whole) == 24
    for heard in (0.0, 0.04, 0.16, 0.3, 0.46):
        assert frames(library.open(script, "PCMU", heard)) == whole[round(heard / 0.02) :]
    assert library.open(script, "PCMU", 0.48).next() is None
    endless = library.open("tone_stream://%(100,60,440);loops=-1", "PCMU", 160.02)
    assert endless.next() == whole[1]
