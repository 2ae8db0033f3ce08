"""What each container does with its tags: versions, paddings, offsets, page numbers, and damage."""

from __future__ import annotations

import os
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile as sf
import tagfiles
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen.asf import ASF
from mutagen.id3 import ID3, TIT2, ID3Tags
from mutagen.mp4 import MP4
from mutagen.oggvorbis import OggVorbis

from genrebeam.pipelines.tags import writer
from genrebeam.pipelines.tags.ape import Ape, parse_ape
from genrebeam.pipelines.tags.change import keep, with_genre, with_kept
from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.id3 import Id3v2, parse_id3v2
from genrebeam.pipelines.tags.model import GENRE, Field
from genrebeam.pipelines.tags.ogg import is_ogg_page
from genrebeam.pipelines.tags.parse import parse
from genrebeam.pipelines.tags.read import TagValues, read_genres, read_tags
from genrebeam.pipelines.tags.sniff import Kind, sniff
from genrebeam.pipelines.tags.vorbis import Comments, parse_comments

PROVENANCE = {"model": ("m",), "genre": ("Jazz", "Blüs"), "confidence": ("Jazz 0.83",)}
WRITTEN = TagValues(("Jazz", "Blüs"), PROVENANCE)


def rewrite(path: Path, make: Any, values: TagValues) -> tuple[Any, TagValues]:
    """Change a file's tags through the safe writer; returns what was kept for undo, and what was there."""
    with path.open("rb") as file:
        container = parse(file)
        before, kept = read_tags(file), keep(container)
        tags = make(container)
        status = os.fstat(file.fileno())
        change = writer.Change(
            path=str(path),
            identity=writer.Identity.of(status),
            tags=tuple(tags),
            values=values,
            splices=tuple(container.splices(tags)),
            temporary=".genrebeam-test.tmp",
            mtime_ns=status.st_mtime_ns,
            is_undo=values is not WRITTEN,
        )
    writer.write(change)
    return kept, before


def write_and_undo(path: Path) -> bytes:
    """Write WRITTEN and take it back, which has to give every byte; returns the file as it was in between."""
    original = path.read_bytes()
    kept, before = rewrite(path, lambda container: with_genre(container, WRITTEN.genres, PROVENANCE), WRITTEN)
    changed = path.read_bytes()
    assert read_genres(path) == WRITTEN.genres
    rewrite(path, lambda container: with_kept(container, kept, before), before)
    assert path.read_bytes() == original
    path.write_bytes(changed)
    return changed


# ID3v2


def frame(version: int, name: bytes, data: bytes, *, plain_size: bool = False) -> bytes:
    if version == 2:
        return name[:3] + len(data).to_bytes(3, "big") + data
    size = struct.pack(">I", len(data))
    if version == 4 and not plain_size:
        size = bytes(len(data) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return name + size + b"\0\0" + data


def id3v2(version: int, body: bytes, *, flags: int = 0, padding: int = 0) -> bytes:
    body += bytes(padding)
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, flags]) + size + body


@pytest.fixture
def mp3(tmp_path: Path) -> Path:
    return tagfiles.make(tmp_path, "mp3")


@pytest.mark.parametrize("version", [2, 3, 4])
def test_the_id3_version_stays(version: int, mp3: Path) -> None:
    names = {2: (b"TT2", b"TCO"), 3: (b"TIT2", b"TCON"), 4: (b"TIT2", b"TCON")}[version]
    body = frame(version, names[0], b"\0Title") + frame(version, names[1], b"\0(17)") + frame(version, b"ZZZZ", b"odd")
    mp3.write_bytes(id3v2(version, body, padding=20) + mp3.read_bytes())
    assert read_genres(mp3) == ("Rock",)
    data = write_and_undo(mp3)
    assert data[3] == version
    assert frame(version, b"ZZZZ", b"odd") in data
    assert ID3(mp3)["TIT2"].text == ["Title"]


def test_growth_comes_out_of_the_padding(mp3: Path) -> None:
    mp3.write_bytes(id3v2(4, frame(4, b"TIT2", b"\0Title"), padding=2000) + mp3.read_bytes())
    size = mp3.stat().st_size
    write_and_undo(mp3)
    assert mp3.stat().st_size == size


@pytest.mark.parametrize("version", [2, 3])
def test_unsynchronised_tags_stay_so(version: int, mp3: Path) -> None:
    name = b"TT2" if version == 2 else b"TIT2"
    body = frame(version, name, b"\x01\xff\xfeT\0") + frame(version, b"PRIV", b"x\0\xff\xe0\xff\0\xff")
    stored = re.sub(rb"\xff(?=[\x00\xe0-\xff]|\Z)", b"\xff\x00", body)
    mp3.write_bytes(id3v2(version, stored, flags=0x80) + mp3.read_bytes())
    data = write_and_undo(mp3)
    tag = data[10 : 10 + parse_size(data)]
    assert not re.search(rb"\xff[\xe0-\xff]", tag)
    assert str(ID3(mp3)["TIT2"]) == "T"


def parse_size(data: bytes) -> int:
    return sum(byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))


def test_sizes_of_old_itunes(mp3: Path) -> None:
    """Version 2.4 with plain sizes: read the official way, the picture would end in the middle."""
    picture = frame(4, b"APIC", b"\0image/png\0\x03\0" + bytes(range(1, 256)) * 2, plain_size=True)
    mp3.write_bytes(id3v2(4, picture + frame(4, b"TIT2", b"\0Title")) + mp3.read_bytes())
    assert picture in write_and_undo(mp3)
    assert str(ID3(mp3)["TIT2"]) == "Title"


@pytest.mark.parametrize(
    "damage",
    [b"TPE1\x7f\x7f\x7f\x7f\0\0whatever", b"TT2 \0\0\0\x02\0\0\0T", b"TCO\0\0\0\0\x02\0\0\0R"],
    ids=["size", "blank after a name of 2.2", "zero after a name of 2.2"],
)
def test_a_tag_that_programs_read_in_different_ways_is_left_alone(damage: bytes, mp3: Path) -> None:
    broken = frame(4, b"TIT2", b"\0Title") + damage + frame(4, b"TALB", b"\0Album")
    mp3.write_bytes(id3v2(4, broken, padding=50) + mp3.read_bytes())
    with mp3.open("rb") as file, pytest.raises(BrokenTag, match="neither frames nor padding"):
        parse(file)


def test_a_tag_in_front_with_footer(mp3: Path) -> None:
    body = frame(4, b"TIT2", b"\0Title")
    size = bytes(len(body) >> shift & 0x7F for shift in (21, 14, 7, 0))
    mp3.write_bytes(b"ID3\x04\0\x10" + size + body + b"3DI\x04\0\x10" + size + mp3.read_bytes())
    audio = tagfiles.samples(mp3)
    data = write_and_undo(mp3)
    end = 10 + parse_size(data)
    assert data[end : end + 3] == b"3DI"
    assert data[end + 3 : end + 10] == data[3:10]
    assert tagfiles.samples(mp3) == audio


def test_several_genre_frames_become_one(mp3: Path) -> None:
    body = frame(3, b"TCON", b"\0Rock") + frame(3, b"TIT2", b"\0T") + frame(3, b"TCON", b"\0Pop")
    mp3.write_bytes(id3v2(3, body) + mp3.read_bytes())
    assert write_and_undo(mp3).count(b"TCON") == 1


def test_id3v2_3_lists_genres_with_zero_bytes_and_utf16(mp3: Path) -> None:
    mp3.write_bytes(id3v2(3, frame(3, b"TIT2", b"\0T")) + mp3.read_bytes())
    data = write_and_undo(mp3)
    assert "Jazz\0Blüs".encode("utf-16") in data


def test_a_new_id3v2_tag_does_not_hide_what_id3v1_says(mp3: Path) -> None:
    mp3.write_bytes(mp3.read_bytes() + tagfiles.id3v1(genre=17))
    data = write_and_undo(mp3)
    tags = ID3(mp3)
    said = [str(tags[name]) for name in ("TIT2", "TPE1", "TALB", "TDRC", "TRCK")]
    assert said == ["Old title", "Artist", "Album", "1999", "7"]
    assert data[-128:-1] == tagfiles.id3v1()[:-1]
    assert data[-1] == 8, "Jazz, which is in ID3v1's list"


def test_an_ape_tag_beside_id3_says_the_same_afterwards(mp3: Path) -> None:
    tagfiles.fill(mp3, "mp3", "Rock")
    tagfiles._fill_ape(mp3, "Rock")
    mp3.write_bytes(mp3.read_bytes() + tagfiles.id3v1(genre=17))
    write_and_undo(mp3)
    with mp3.open("rb") as file:
        ape = parse(file).tags[1]
    assert isinstance(ape, Ape)
    assert [f.raw.split(b"\0")[-2:] for f in ape.fields if f.key == GENRE] == [[b"Jazz", "Blüs".encode()]]
    assert not any(f.key.startswith("GENREBEAM") for f in ape.fields)


def test_lyrics3_stays_between_audio_and_id3v1(mp3: Path) -> None:
    lyrics = b"LYRICSBEGININD0000200" + b"LYR00005hello"
    lyrics += b"%06dLYRICS200" % len(lyrics)
    tagfiles._fill_ape(mp3, "Rock")
    mp3.write_bytes(mp3.read_bytes() + lyrics + tagfiles.id3v1())
    assert write_and_undo(mp3).endswith(lyrics + tagfiles.id3v1(genre=8))


def test_our_frames_are_known_again_in_the_form_of_other_writers(mp3: Path) -> None:
    """Frame-wise unsynchronised with a data length, as some write 2.4."""
    body = b"\x03GENREBEAM_MODEL\0old\xc3\xbf"
    ours = b"TXXX" + bytes([0, 0, 0, len(body) + 4]) + b"\0\x03" + bytes([0, 0, 0, len(body)]) + body
    mp3.write_bytes(id3v2(4, frame(4, b"TIT2", b"\0T") + ours) + mp3.read_bytes())
    assert b"old" not in write_and_undo(mp3)


def test_frames_that_mutagen_cannot_read_are_kept(mp3: Path) -> None:
    """mutagen drops such frames when it saves; this is why it does not save here."""
    odd = frame(4, b"TYER", b"\x09not an encoding") + frame(4, b"APIC", b"\0") + frame(4, b"TPE2", b"\x01\xff")
    mp3.write_bytes(id3v2(4, frame(4, b"TIT2", b"\0T") + odd, padding=10) + mp3.read_bytes())
    assert odd in write_and_undo(mp3)


NAMES = st.from_regex(r"[A-Z][A-Z0-9]{3}", fullmatch=True).filter(lambda name: name not in ("TCON", "TXXX"))


@settings(deadline=None)
@given(
    st.sampled_from([3, 4]),
    st.lists(st.tuples(NAMES, st.binary(min_size=1, max_size=200)), max_size=6),
    st.integers(0, 300),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40),
)
def test_any_id3_tag_comes_back_as_it_was(
    version: int, frames: list[tuple[str, bytes]], padding: int, genre: str
) -> None:
    data = id3v2(version, b"".join(frame(version, n.encode(), d) for n, d in frames), padding=padding)
    tag = parse_id3v2(data)
    assert tag.render() == data
    fields = (*tag.fields, *tag.encode(GENRE, [genre]))
    changed = parse_id3v2(writer.dataclasses.replace(tag, fields=fields).render())
    assert changed.fields == fields
    assert changed.slack == tag.slack


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_noise_is_a_broken_tag_and_nothing_else(noise: bytes) -> None:
    for act in (
        lambda: parse_id3v2(b"ID3\x04\0\0" + bytes([0, 0, len(noise) >> 7, len(noise) & 0x7F]) + noise),
        lambda: parse_comments(noise),
        lambda: parse_ape(noise + Ape().render()[-32:]),
    ):
        try:
            tag = act()
        except BrokenTag:
            continue
        if isinstance(tag, Id3v2):
            assert len(tag.render()) == len(noise) + 10


# Vorbis comments


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=6), st.binary(max_size=20), st.binary(max_size=20))
def test_any_comment_block_comes_back_as_it_was(entries: list[bytes], vendor: bytes, suffix: bytes) -> None:
    fields = tuple(Field(entry.partition(b"=")[0].decode("latin-1").upper(), entry) for entry in entries)
    block = Comments(fields, vendor=vendor, suffix=suffix)
    assert parse_comments(block.render()) == block


@pytest.mark.parametrize("comment_bytes", [0, 400, 64_000, 65_100, 66_500, 400_000])
def test_ogg_pages_stay_whole_however_long_the_comments(comment_bytes: int, tmp_path: Path) -> None:
    """Around 64 KiB the comments need a page more, and all later pages another number."""
    path = tagfiles.make(tmp_path, "ogg")
    tags = OggVorbis(path)
    tags["picture"] = ["A" * comment_bytes]
    tags.save()
    decoded = sf.read(path)[0]
    data = write_and_undo(path)
    np.testing.assert_array_equal(sf.read(path)[0], decoded)
    assert_whole_pages(data)


def assert_whole_pages(data: bytes) -> None:
    at, sequence = 0, 0
    while at < len(data):
        lacing = data[at + 27 : at + 27 + data[at + 26]]
        stop = at + 27 + len(lacing) + sum(lacing)
        assert is_ogg_page(data[at:stop]), f"the page at byte {at} has a wrong checksum"
        assert struct.unpack_from("<I", data, at + 18) == (sequence,)
        at, sequence = stop, sequence + 1


def test_a_chained_ogg_keeps_its_second_stream(tmp_path: Path) -> None:
    path, second = tagfiles.make(tmp_path, "ogg", "a"), tagfiles.make(tmp_path, "opus", "b")
    tags = OggVorbis(path)
    tags["picture"] = ["A" * 65_100]
    tags.save()
    path.write_bytes(path.read_bytes() + second.read_bytes())
    assert write_and_undo(path).endswith(second.read_bytes())


def test_a_comment_that_is_no_utf8_stays(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "flac")
    tagfiles.fill(path, "flac", "Rock")
    path.write_bytes(path.read_bytes().replace(b"mood=odd", b"mood=\xe9\xff!"))
    assert b"mood=\xe9\xff!" in write_and_undo(path)


def test_flac_behind_an_id3_tag(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "flac")
    path.write_bytes(id3v2(4, frame(4, b"TIT2", b"\0T"), padding=30) + path.read_bytes())
    with path.open("rb") as file:
        assert sniff(file) is Kind.FLAC
    write_and_undo(path)
    assert len(sf.read(path)[0])


def test_flac_without_comments_and_without_padding(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "flac")
    data = path.read_bytes()
    end = 4
    while True:
        last, length = data[end] & 0x80, int.from_bytes(data[end + 1 : end + 4], "big")
        end += 4 + length
        if last:
            break
    decoded = sf.read(path)[0]
    path.write_bytes(b"fLaC" + bytes([0x80]) + data[5:42] + data[end:])  # STREAMINFO alone
    write_and_undo(path)
    np.testing.assert_array_equal(sf.read(path)[0], decoded)


# MP4


def faststart(path: Path, movflags: str = "faststart") -> None:
    """The same AAC with moov in front of mdat, as shops deliver it."""
    with av.open(str(path), "w", format="mp4", options={"movflags": movflags}) as output:
        stream = output.add_stream("aac", rate=tagfiles.RATE_HZ, layout="stereo")
        for start in range(0, 44_032, 1024):
            block = np.ascontiguousarray(tagfiles.tone(1.0)[start : start + 1024].T)
            sound = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            sound.sample_rate, sound.pts = tagfiles.RATE_HZ, start
            output.mux(stream.encode(sound))
        output.mux(stream.encode(None))


def test_mp4_with_the_tags_in_front_of_the_audio(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    faststart(path)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    decoded = tagfiles.samples(path)
    assert len(write_and_undo(path)) > len(data), "so the audio moved"
    assert tagfiles.samples(path) == decoded
    MP4(path)["\xa9nam"] = ["still a file for others"]


def test_fragments_with_relative_positions_may_move(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    faststart(path, movflags="frag_keyframe+empty_moov+default_base_moof+skip_trailer")
    decoded = tagfiles.samples(path)
    assert b"moof" in write_and_undo(path)
    assert tagfiles.samples(path) == decoded


def test_fragments_with_absolute_positions_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    faststart(path, movflags="frag_keyframe+empty_moov")
    with pytest.raises(BrokenTag, match="tfhd, tfra"):
        write_and_undo(path)


def test_mp4_gnre_counts_as_genre(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "m4a")
    tagfiles.fill(path, "m4a", "Rock")
    data = path.read_bytes()
    at = data.index(b"\xa9gen") - 4
    size = struct.unpack_from(">I", data, at)[0]  # 28: as long as a gnre atom with two bytes, padded
    gnre = struct.pack(">I4sI4sII", size, b"gnre", size - 8, b"data", 0, 0) + b"\0\x12" + bytes(size - 26)
    path.write_bytes(data[:at] + gnre + data[at + size :])
    assert b"gnre" not in write_and_undo(path)


def test_mp4_whose_offsets_lie_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from genrebeam.pipelines.tags import mp4

    path = tmp_path / "song.m4a"
    faststart(path)
    before = path.read_bytes()
    monkeypatch.setattr(mp4.Mp4, "_moved_offsets", lambda self, stop, growth: [])
    with pytest.raises(writer.VerificationFailed, match="offset"):
        rewrite(path, lambda container: with_genre(container, WRITTEN.genres, PROVENANCE), WRITTEN)
    assert path.read_bytes() == before


def test_mp4_whose_offsets_cannot_be_found_is_not_moved(tmp_path: Path) -> None:
    """As in QuickTime files with a compressed moov."""
    path = tmp_path / "song.m4a"
    faststart(path)
    path.write_bytes(path.read_bytes().replace(b"trak", b"cmov"))
    with path.open("rb") as file:
        container = parse(file)
        with pytest.raises(BrokenTag, match="was not found"):
            container.splices(with_genre(container, WRITTEN.genres, PROVENANCE))


# The others


@pytest.mark.parametrize(
    ("container", "codec"),
    [("matroska", "libmp3lame"), ("mpegts", "mp2"), ("mpeg", "mp2"), ("avi", "libmp3lame"), ("flv", "libmp3lame")],
)
def test_mpeg_audio_in_another_container_is_not_taken_for_an_mp3(container: str, codec: str, tmp_path: Path) -> None:
    path = tmp_path / "song"
    tagfiles._pyav(path, container=container, codec=codec, layout="s16" if codec == "mp2" else "fltp")
    assert len(tagfiles.samples(path))
    with path.open("rb") as file:
        assert sniff(file) is None


@pytest.mark.parametrize("dropped", [1, 100, 300])
def test_a_stream_that_begins_within_a_frame_is_an_mp3(dropped: int, mp3: Path) -> None:
    mp3.write_bytes(mp3.read_bytes()[dropped:])
    write_and_undo(mp3)


def test_adts_is_tagged_like_an_mp3(tmp_path: Path) -> None:
    path = tmp_path / "song.aac"
    tagfiles._pyav(path, container="adts", codec="aac")
    decoded = tagfiles.samples(path)
    write_and_undo(path)
    assert tagfiles.samples(path) == decoded


def test_asf_genres_in_the_metadata_library_follow(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "wma")
    file = ASF(path)
    file["WM/Genre"] = ["Rock", "Pop", "Folk"]  # mutagen puts the second and third into the library
    file["Author"] = ["One", "Two"]
    file.save()
    decoded = tagfiles.samples(path)
    write_and_undo(path)
    file = ASF(path)
    assert [str(value) for value in file["WM/Genre"]] == ["Jazz", "Blüs"]
    assert [str(value) for value in file["Author"]] == ["One", "Two"]
    assert tagfiles.samples(path) == decoded


def test_wav_keeps_its_list_info_and_odd_chunks(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "wav")
    data = path.read_bytes()
    info = b"INFO" + b"IGNR" + struct.pack("<I", 5) + b"Rock\0\0"
    extra = b"LIST" + struct.pack("<I", len(info)) + info + b"odd " + struct.pack("<I", 3) + b"abc"  # no pad byte
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8 + len(extra)) + data[8:] + extra)
    assert read_genres(path) == ("Rock",)
    original = path.read_bytes()
    rewrite(path, lambda container: with_genre(container, WRITTEN.genres, PROVENANCE), WRITTEN)
    changed = path.read_bytes()
    assert extra[-11:] + b"\0id3 " in changed
    assert struct.unpack_from("<I", changed, 4)[0] == len(changed) - 8
    assert len(sf.read(path)[0]) == len(tagfiles.tone())
    assert changed[8 : len(data)] == original[8 : len(data)]
    assert b"INFOIGNR\x0c\0\0\0" + "Jazz; Blüs".encode() + b"\0" in changed


def test_a_wav_whose_size_lies_is_left_alone(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "wav")
    data = path.read_bytes()
    path.write_bytes(data[:-1000])
    with path.open("rb") as file, pytest.raises(BrokenTag, match="left as it is"):
        parse(file)


@pytest.mark.parametrize("kind", sorted(tagfiles.MAKERS))
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_cut_and_scrambled_files_are_refused_or_changed_faithfully(kind: str, data: Any, tmp_path_factory: Any) -> None:
    """Bytes of the head are altered or the file is cut: then it is refused, or undo gives it back as it was."""
    folder = tmp_path_factory.mktemp("scrambled")
    path = tagfiles.make(folder, kind)
    tagfiles.fill(path, kind, "Rock")
    raw = bytearray(path.read_bytes())
    end = len(raw) if kind in ("ape", "mpc", "wv") else min(len(raw), 6000)
    start = max(0, len(raw) - 600) if kind in ("ape", "mpc", "wv") else 0
    for position in data.draw(st.lists(st.integers(start, end - 1), max_size=3)):
        raw[position] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(1, len(raw)))]
    path.write_bytes(raw)
    try:
        kept, before = rewrite(path, lambda container: with_genre(container, WRITTEN.genres, PROVENANCE), WRITTEN)
    except writer.TagError:
        assert path.read_bytes() == raw
    else:
        rewrite(path, lambda container: with_kept(container, kept, before), before)
        with path.open("rb") as file:
            assert read_tags(file) == before
    assert os.listdir(folder) == [path.name]
    shutil.rmtree(folder)


def test_id3_is_where_mutagen_looks_for_it(tmp_path: Path) -> None:
    """The new tag is an ordinary one: mutagen can go on working on it."""
    path = tagfiles.make(tmp_path, "mp3")
    write_and_undo(path)
    tags = ID3(path)
    tags.add(TIT2(encoding=3, text=["New"]))
    tags.save(path)
    assert isinstance(tags, ID3Tags)
    assert read_genres(path) == WRITTEN.genres
