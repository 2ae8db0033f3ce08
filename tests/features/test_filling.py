"""A file far away is read where its stretches are, and no more than that."""

import os

import numpy as np
import pytest
import synth
from hypothesis import given
from hypothesis import strategies as st

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import UnreadableFile
from genrebeam.features.filling import FillingFile
from genrebeam.features.isolated import IsolatedExtractor
from genrebeam.features.limits import ExtractLimits

FRONT_END = FrontEnd()
LIMITS = ExtractLimits(coverage_s=12.0)


class FarAway:
    """A file to be filled with another one's bytes; counts them."""

    def __init__(self, original, path):
        self.original, self.path, self.bytes, self.asked, self.most = original, path, 0, 0, 0
        path.write_bytes(b"")
        os.truncate(path, original.stat().st_size)

    def fill(self, start, stop):
        with self.original.open("rb") as file, self.path.open("r+b") as copy:
            file.seek(start)
            copy.seek(start)
            copy.write(file.read(stop - start))
        self.bytes += stop - start
        self.asked += 1
        self.most = max(self.most, stop - start)


@pytest.fixture
def extractor():
    extractor = IsolatedExtractor(FRONT_END, LIMITS, tag_reader="genrebeam.pipelines.tags.read:tags_in")
    yield extractor
    extractor.close()


@pytest.mark.parametrize(("suffix", "most"), [("flac", 0.5), ("wav", 0.5), ("m4a", 0.6), ("ogg", 0.9), ("mp3", 1.0)])
def test_stretches_of_a_file_far_away(extractor, tmp_path, suffix, most):
    sound = np.random.default_rng(5).normal(0, 0.1, (6 * 60 * 44_100, 2)).astype(np.float32)
    original = synth.write(tmp_path / f"x.{suffix}", sound, sample_rate_hz=44_100)
    there = FarAway(original, tmp_path / "copy")
    levels, info, genres = extractor.extract(there.path, there.fill)
    expected, expected_info, expected_genres = extractor.extract(original)
    np.testing.assert_array_equal(levels, expected)
    assert info == expected_info
    assert len(info.stretches_s) > 1
    assert genres == expected_genres
    assert there.bytes <= most * original.stat().st_size


def test_a_short_track_far_away_is_heard_as_a_whole(extractor, tmp_path):
    original = synth.write(tmp_path / "x.mp3", synth.music(8.0, seed=3))
    there = FarAway(original, tmp_path / "copy")
    levels, info, _ = extractor.extract(there.path, there.fill)
    expected, expected_info, _ = extractor.extract(original)
    np.testing.assert_array_equal(levels, expected)
    assert info == expected_info
    assert there.path.read_bytes() == original.read_bytes()


def test_what_cannot_be_fetched_costs_one_track(extractor, tmp_path):
    original = synth.write(tmp_path / "x.flac", synth.music(60.0, seed=3))
    there = FarAway(original, tmp_path / "copy")

    def fails(start, stop):
        raise UnreadableFile("no such object (404)")

    with pytest.raises(UnreadableFile, match="no such object"):
        extractor.extract(there.path, fails)
    levels, _, _ = extractor.extract(there.path, there.fill)
    np.testing.assert_array_equal(levels, extractor.extract(original)[0])


@given(
    size=st.integers(0, 5_000_000),
    reads=st.lists(st.tuples(st.integers(0, 5_200_000), st.integers(0, 700_000)), max_size=20),
)
def test_reads_like_the_file_that_it_is_a_copy_of(tmp_path_factory, size, reads):
    folder = tmp_path_factory.mktemp("filling")
    data = np.random.default_rng(size).bytes(size)
    (folder / "original").write_bytes(data)
    there = FarAway(folder / "original", folder / "copy")
    with FillingFile(str(there.path), there.fill) as file:
        for at, count in reads:
            file.seek(at)
            assert file.read(count) == data[at : at + count]
            assert file.tell() == at + len(data[at : at + count])
        assert there.bytes <= size  # nothing twice
        file.seek(0)
        assert file.read() == data
    assert there.bytes == size


@pytest.mark.parametrize("at_once", [4096, 50_000_000])
def test_reading_on_and_on_asks_seldom_and_never_for_very_much(tmp_path, at_once):
    (tmp_path / "original").write_bytes(bytes(50_000_000))
    there = FarAway(tmp_path / "original", tmp_path / "copy")
    with FillingFile(str(there.path), there.fill) as file:
        while file.read(at_once):
            pass
    assert there.asked < 15
    assert there.most <= 1 << 24
