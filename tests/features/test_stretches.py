"""Stretches of a track are what the whole has at those moments, in every format; what is damaged is heard whole."""

import numpy as np
import pytest
import synth
from hypothesis import given
from hypothesis import strategies as st

from genrebeam.features.chunks import chunk_count, stretch_starts_s, whole_chunks
from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import NotAudio, TooShort
from genrebeam.features.extract import extract
from genrebeam.features.limits import ExtractLimits

FRONT_END = FrontEnd()
STRETCH_FRAMES = 129
SUFFIXES = ("mp3", "flac", "ogg", "opus", "m4a", "wav", "wv")


def sweep(duration_s, sample_rate_hz=44_100):
    """A tone that rises all the time, so that the loudest band says when it was; float32 [samples, 2]."""
    time_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    rise = np.log(6000 / 300) / duration_s
    tone = 0.5 * np.sin(2 * np.pi * 300 / rise * (np.exp(rise * time_s) - 1))
    return np.stack([tone, tone], axis=1).astype(np.float32)


def in_stretches(path, coverage_s):
    return extract(path, FRONT_END, ExtractLimits(coverage_s=coverage_s))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_stretches_sound_like_those_moments_of_the_whole(tmp_path, suffix):
    rate = 48_000 if suffix == "opus" else 44_100
    path = synth.write(tmp_path / f"x.{suffix}", sweep(60, rate), sample_rate_hz=rate)
    whole, all_of_it = extract(path, FRONT_END)
    levels, info = in_stretches(path, 18)
    assert levels.shape == (3 * STRETCH_FRAMES, 128)
    assert info.coverage_s == 18
    assert info.duration_s == pytest.approx(all_of_it.duration_s, abs=0.1)
    assert info.stretches_s == pytest.approx([7, 27, 47], abs=0.1)
    for stretch, start_s in zip(levels.reshape(3, STRETCH_FRAMES, 128), info.stretches_s, strict=True):
        first = round(start_s * FRONT_END.frames_per_s)
        moments = whole[first : first + STRETCH_FRAMES].argmax(axis=1).astype(int)
        assert np.abs(stretch.argmax(axis=1) - moments).max() <= 1
        assert stretch.max(axis=1).min() > stretch.max() - 20  # no frame reaches into a silence that is not there


@pytest.mark.parametrize("front_end", [FRONT_END, FrontEnd(hop_length=2048)])
def test_each_stretch_gives_two_chunks(tmp_path, front_end):
    path = synth.write(tmp_path / "x.wav", synth.music(60, seed=1))
    levels, info = extract(path, front_end, ExtractLimits(coverage_s=18))
    chunks = chunk_count(len(levels), front_end)
    whole, starts_s = whole_chunks(chunks, front_end, info.stretches_s)
    assert len(starts_s) == whole.sum() == 6


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_track_that_the_stretches_would_fill_is_heard_whole(tmp_path, suffix):
    path = synth.write(tmp_path / f"x.{suffix}", synth.music(13, seed=1))
    levels, info = in_stretches(path, 60)
    assert info.coverage_s is None
    assert info.stretches_s == ()
    np.testing.assert_array_equal(levels, extract(path, FRONT_END)[0])


@pytest.mark.parametrize("suffix", ["mp3", "flac", "ogg", "m4a", "wav"])
def test_of_a_damaged_track_everything_is_heard_that_the_whole_has(tmp_path, suffix):
    path = synth.write(tmp_path / f"x.{suffix}", synth.music(40, seed=2, channels=2))
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    if suffix == "m4a":
        data[half : half + 20_000] = bytes(20_000)  # without its end it is no M4A
    else:
        del data[half:]
    path.write_bytes(data)
    whole, all_of_it = extract(path, FRONT_END)
    levels, info = in_stretches(path, 18)
    if info.coverage_s is None:
        np.testing.assert_array_equal(levels, whole)
        assert info == all_of_it
    else:  # the damage lies between the stretches, or the length is known to be shorter
        assert levels.shape == (3 * STRETCH_FRAMES, 128)
        assert max(info.stretches_s) + 6 < info.duration_s


@pytest.mark.parametrize(("make", "error"), [(lambda: bytes(5000), NotAudio), (None, TooShort)])
def test_what_cannot_be_heard_is_refused_as_ever(tmp_path, make, error):
    path = tmp_path / "x.wav"
    if make:
        path.write_bytes(make())
    else:
        synth.write(path, synth.sine(440, 0.5))
    with pytest.raises(error):
        in_stretches(path, 6)


@given(st.floats(0, 40_000), st.floats(6, 3600))
def test_stretches_lie_apart_within_the_track_and_cover_no_more_than_asked(length_s, coverage_s):
    starts_s = np.array(stretch_starts_s(length_s, coverage_s, FRONT_END))
    if len(starts_s):
        stretch_s = STRETCH_FRAMES / FRONT_END.frames_per_s
        assert starts_s[0] > 0
        assert starts_s[-1] + stretch_s < length_s
        assert (np.diff(starts_s) > stretch_s).all()
        assert coverage_s - stretch_s < len(starts_s) * stretch_s <= coverage_s
        np.testing.assert_allclose(np.diff(starts_s), length_s / len(starts_s))
    else:
        assert length_s < coverage_s * 1.1 + 1


@pytest.mark.parametrize("front_end", [FRONT_END, FrontEnd(hop_length=2048)])
def test_chunks_across_two_stretches_are_left_out_and_the_others_know_their_time(front_end):
    step_s = front_end.chunk_step_frames / front_end.frames_per_s
    whole, starts_s = whole_chunks(8, front_end, (10.0, 50.0, 90.0))
    assert whole.tolist() == [True, True, False] * 2 + [True, True]
    np.testing.assert_allclose(starts_s, [10, 10 + step_s, 50, 50 + step_s, 90, 90 + step_s])
    whole, starts_s = whole_chunks(3, front_end)
    assert whole.all()
    np.testing.assert_allclose(starts_s, [0, step_s, 2 * step_s])
