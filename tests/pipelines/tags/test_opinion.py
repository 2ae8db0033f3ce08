"""The second opinion: FFmpeg may die of a file, and has to be asked about the same sound before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tagfiles
from commandline import rows_of

from genrebeam.pipelines.tags import opinion
from genrebeam.pipelines.tags.model import Splice
from genrebeam.pipelines.tags.parse import parse
from genrebeam.pipelines.tags.player import look, middle


@pytest.fixture
def dangerous(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    opinion.close()
    monkeypatch.setattr(opinion, "_LOOKING", "misbehave:looking")
    monkeypatch.setattr(opinion, "_STALL_S", 1.0)
    yield
    opinion.close()


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [("segfault", "DecoderCrashed", "SIGSEGV"), ("hang", "DecoderHung", "1 s"), ("exit", "DecoderCrashed", "code 3")],
)
@pytest.mark.usefixtures("dangerous")
def test_a_file_that_ffmpeg_dies_of_costs_itself_only(name: str, error: str, says: str, tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    bad, good = tagfiles.make(music, "flac", f"a {name}"), tagfiles.make(music, "mp3", "good")
    before = bad.read_bytes()
    tagfiles.results(tmp_path, {bad: [("blues", 0.9)], good: [("blues", 0.9)]}, root=music)

    report = tagfiles.apply_all(tmp_path)

    assert (report.written, dict(report.errors)) == (1, {error: 1})
    assert bad.read_bytes() == before
    assert sorted(path.name for path in music.iterdir()) == [bad.name, good.name]
    (row,) = rows_of(tmp_path, "rejects")
    assert row["message"].startswith(f"{bad}: FFmpeg ") and says in row["message"]


def test_a_long_mp3_is_compared_at_both_ends_of_its_sound(tmp_path: Path) -> None:
    old = tagfiles.make(tmp_path, "mp3", "old")
    old.write_bytes(old.read_bytes() * 40)
    data, tag = old.read_bytes(), b"ID3\4\0\0\0\0\0\x0a" + bytes(10)
    splices = [Splice(0, 0, tag)]

    def heard(changed: bytes) -> bool:
        new = tmp_path / "new.mp3"
        new.write_bytes(changed)
        with old.open("rb") as before, new.open("rb") as after:
            was, is_now = opinion.look(before, after, parse(before), splices)
        return bool(was.sound) and was.sound == is_now.sound

    assert heard(tag + data)
    for at in (2000, len(data) - 2000):
        assert not heard(tag + data[:at] + bytes(600) + data[at + 600 :])


def test_tags_with_large_pictures_are_whole_for_ffmpeg(tmp_path: Path) -> None:
    """Only sound is left out: not the middle of a second tag in front, nor of one behind."""
    import families
    from mutagen.apev2 import APEBinaryValue, APEv2

    path = tmp_path / "song.aac"
    families.muxed(path, "adts", "aac")
    path.write_bytes(path.read_bytes() * 60)
    families.add_ape(path)
    tags = APEv2(path)
    tags["Cover Art (Front)"] = APEBinaryValue(b"front.png\0" + bytes(range(256)) * 2000)
    tags.save()
    big = b"ID3\3\0\0" + bytes([0, 31, 0, 0]) + b"PRIV\0\x07\0\0\0\0"
    path.write_bytes(families.id3v2() + big.ljust(10 + (31 << 14), b"x") + path.read_bytes())
    with path.open("rb") as before, path.open("rb") as after:
        was, _ = opinion.look(before, after, parse(before), [])
    assert was.sound and was.fields["FFmpeg"]["title"] == "Title" and was.genres


@pytest.mark.parametrize("kind", tagfiles.DECODABLE)
def test_nothing_left_out_is_the_whole_file(kind: str, tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, kind)
    size = path.stat().st_size
    assert look(str(path), str(path), 0, 0) == look(str(path), str(path), size, size)
    assert look(str(path), str(path), 0, 0)[1]


def test_what_is_left_out_lies_in_the_longest_stretch() -> None:
    assert middle([(0, 10), (20, 100)], keep=30) == (50, 70)
    assert middle([(0, 10), (20, 80)], keep=30) == (0, 0)
    assert middle([]) == (0, 0)
