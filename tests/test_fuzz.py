"""Whatever a file holds, it costs at most itself: properties, and a short form of `make torture`'s fuzzing."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Iterator
from pathlib import Path

import families
import fuzz
import pytest
import synth
import tagfiles
from hypothesis import given, settings
from hypothesis import strategies as st
from mutagen.id3 import ID3, TIT2, TRCK

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import NotTaggable, RecordError, TrackError, UsageError
from genrebeam.features.isolated import IsolatedExtractor
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.records import count_records, encode, first_record, parse
from genrebeam.features.schema import AudioInfo, FileTags, Track, TrackFeatures
from genrebeam.pipelines.library.discover import discover
from genrebeam.pipelines.library.manifest import MANIFEST_SUFFIXES
from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.parse import parse as parse_tags
from genrebeam.pipelines.tags.read import read_genres, read_tags

SEEDS = st.integers(0, 2**32)
COUNTED = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    return fuzz.samples(tmp_path_factory.mktemp("fuzz") / "samples")


def damaged(samples: list[list[Path]], seed: int, path: Path) -> Path:
    rng = random.Random(seed)
    path.write_bytes(fuzz.mutant(rng.choice(samples[0]).read_bytes(), rng))
    return path


@pytest.mark.slow
def test_mutants_through_all_policies_and_back(samples: list[list[Path]]) -> None:
    run = fuzz.Fuzz(7, samples)
    run.run(range(60))
    assert not run.failures
    assert run.counts["changed"] > 60 and run.counts["BrokenTag"]


@COUNTED
@given(seed=SEEDS)
def test_reading_tags_ends_in_values_or_a_reason(
    seed: int, samples: list[list[Path]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = damaged(samples, seed, tmp_path_factory.getbasetemp() / "read")
    read_genres(path)
    for reader in (read_tags, parse_tags):
        with path.open("rb") as file:
            try:
                reader(file)
            except (BrokenTag, NotTaggable) as error:
                assert str(path) in str(error)


@pytest.fixture(scope="module")
def extractor() -> Iterator[IsolatedExtractor]:
    extractor = IsolatedExtractor(FrontEnd(), ExtractLimits(stall_s=20))
    yield extractor
    extractor.close()


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, suffix=st.sampled_from(("mp3", "flac", "ogg", "opus", "m4a", "wav", "aiff", "wma", "wv")))
def test_decoding_ends_in_levels_or_a_reason(
    seed: int, suffix: str, extractor: IsolatedExtractor, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.getbasetemp() / f"sound.{suffix}"
    if not base.exists():
        synth.write(base, synth.music(4.0, seed=1))
    path = base.with_name(f"damaged.{suffix}")
    path.write_bytes(fuzz.mutant(base.read_bytes(), random.Random(seed)))
    try:
        levels, audio, _ = extractor.extract(path)
    except TrackError as error:
        assert not type(error).__name__.startswith("Decoder"), "neither crash nor hang"
    else:
        assert len(levels) and audio.duration_s >= 1 and (audio.undecoded_s or 0) >= 0


@COUNTED
@given(seed=SEEDS)
def test_a_damaged_record_is_refused_or_whole(seed: int) -> None:
    import numpy as np

    front_end = FrontEnd()
    log_mel = np.zeros((3, 128), np.uint8)
    info = AudioInfo("mp3", "mp3", 4.25, 44_100, 2)
    track = Track("/m/a.mp3", "a.mp3", 7, 1.5)
    record = encode(TrackFeatures(track, info, log_mel, front_end.fingerprint(), FileTags(("Rock",))))
    changed = fuzz.mutant(record, random.Random(seed))
    try:
        features, _ = parse(changed, front_end)
    except RecordError:
        pass
    else:
        assert features.log_mel.shape[1] == 128
    file = struct.pack("<QI", len(record), 0) + record + bytes(4)
    for reader in (first_record, lambda file: count_records(file, "x")):
        try:
            reader(io.BytesIO(fuzz.mutant(file, random.Random(seed))))
        except RecordError:
            pass


@COUNTED
@given(data=st.binary(max_size=200) | st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass")))
@pytest.mark.parametrize("suffix", [suffix for suffix in MANIFEST_SUFFIXES if suffix != ".parquet"])
def test_any_manifest_is_files_rejects_or_a_usage_error(
    suffix: str, data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"list{suffix}"
    for content in (data, b"uri,track_id\n" + data):
        path.write_bytes(content)
        try:
            found = discover([str(path)])
        except UsageError as error:
            assert "\n" not in str(error)
        else:
            for track in [*found.tracks, *(rejection.track for rejection in found.rejections)]:
                assert track.uri and track.track_id


# What fuzzing has found, each with the smallest file that shows it.


def refused(path: Path, tmp_path: Path) -> str:
    """The reason why a file is left alone, which it has to be."""
    import pyarrow.parquet as pq

    before = path.read_bytes()
    tagfiles.results(tmp_path / "out", {path: [("blues", 0.9)]}, root=path.parent)
    assert tagfiles.apply_all(tmp_path / "out").failed == 1
    assert path.read_bytes() == before
    (row,) = (r for file in (tmp_path / "out" / "rejects").iterdir() for r in pq.read_table(file).to_pylist())
    assert row["error"] == "BrokenTag", row["message"]
    return str(row["message"])


def test_list_info_whose_sizes_lie_is_not_hidden_by_a_new_chunk(tmp_path: Path) -> None:
    path = families.make(tmp_path, "wav: LIST INFO")
    path.write_bytes(path.read_bytes().replace(b"IART\x07\0\0\0", b"IART\x07\0\x40\0"))
    assert "LIST INFO" in refused(path, tmp_path)


@pytest.mark.parametrize(("padding", "says"), [(50, "neither frames nor padding"), (200, "in two ways")])
def test_a_frame_size_with_a_bit_that_programs_mask_or_not(padding: int, says: str, tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "mp3")
    tags = ID3()
    tags.add(TIT2(encoding=0, text=["T" * 20]))
    tags.add(TRCK(encoding=0, text=["1"]))
    tags.save(path, v1=0, padding=lambda info: padding)
    path.write_bytes(path.read_bytes().replace(b"TIT2\0\0\0\x16", b"TIT2\0\0\0\x96"))
    assert says in refused(path, tmp_path)


@pytest.mark.parametrize(("old", "new"), [(b"\xd0\x07", b"\xd1\x07"), (b"\0\0\0\x80", b"\0\0\0\xa0")])
def test_an_ape_footer_that_is_not_known_is_a_tag_all_the_same(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = families.make(tmp_path, "wv: APEv2")
    data = path.read_bytes()
    path.write_bytes(data[:-32] + data[-32:].replace(old, new, 1))
    assert "footer" in refused(path, tmp_path)


def test_the_end_of_an_ape_tag_is_no_id3v1_whatever_its_header(tmp_path: Path) -> None:
    path = tagfiles.make(tmp_path, "mp3")
    items = struct.pack("<II", 53, 0) + b"Title\0" + b"x" * 53
    end = struct.pack("<IIII8x", 2000, len(items) + 32, 1, 1 << 31)
    start = struct.pack("<IIII8x", 2000, len(items) + 32, 1, 1 << 31 | 1 << 29)
    tag = b"APETAGE?" + start + items + b"APETAGEX" + end
    assert len(tag) == 131 and tag[3:6] == b"TAG"
    path.write_bytes(path.read_bytes() + tag)
    assert "header" in refused(path, tmp_path)
