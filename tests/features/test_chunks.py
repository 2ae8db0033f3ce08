"""Chunks are views at the right places, and silence is told from music."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrebeam.features.chunks import audible, chunk_count, chunks_of
from genrebeam.features.config import FrontEnd

FRONT_END = FrontEnd()


def ramp(frames):
    return np.repeat(np.arange(frames, dtype=np.uint32) % 251, 128).reshape(frames, 128).astype(np.uint8)


@given(st.integers(86, 2000))
def test_chunk_i_begins_at_frame_43_i_and_at_most_one_step_of_tail_is_left(frames):
    log_mel = ramp(frames)
    chunks = chunks_of(log_mel, FRONT_END)
    assert len(chunks) == chunk_count(frames, FRONT_END)
    for i, chunk in enumerate(chunks):
        np.testing.assert_array_equal(chunk, log_mel[43 * i : 43 * i + 86])
    assert 0 <= frames - (43 * (len(chunks) - 1) + 86) < 43


def test_chunks_are_views():
    log_mel = ramp(500)
    assert np.shares_memory(chunks_of(log_mel, FRONT_END), log_mel)


@given(st.integers(1, 85))
def test_a_short_track_is_repeated_until_it_fills_one_chunk(frames):
    log_mel = ramp(frames)
    (chunk,) = chunks_of(log_mel, FRONT_END)
    np.testing.assert_array_equal(chunk, log_mel[np.arange(86) % frames])


def test_no_frames_no_chunks():
    assert chunks_of(ramp(0), FRONT_END).shape == (0, 86, 128)


@pytest.mark.parametrize("frames", [0, 20, 200])
def test_other_values_are_cut_into_the_same_chunks(frames):
    rate = np.arange(frames, dtype=np.float32)[:, np.newaxis] / 1000
    chunks = chunks_of(rate, FRONT_END)
    assert chunks.dtype == np.float32
    np.testing.assert_array_equal(np.rint(chunks * 1000), chunks_of(ramp(frames)[:, :1], FRONT_END))


def test_hiss_below_16_bits_is_silence_and_a_quiet_tone_is_not():
    chunks = np.zeros((3, 86, 128), np.uint8)
    chunks[1, 40, 7] = 80  # -40 dB: not above the threshold
    chunks[2, 40, 7] = 81
    assert audible(chunks, FRONT_END).tolist() == [False, False, True]
