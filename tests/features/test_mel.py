"""Log-Mel levels are librosa's Mel spectrogram in half decibels, however the signal is cut."""

import itertools

import librosa
import numpy as np
import pytest
import synth
from hypothesis import given, settings
from hypothesis import strategies as st

from genrebeam.features.config import FrontEnd
from genrebeam.features.mel import LogMelStream, levels_of_power, log_mel, mel_filters

FRONT_ENDS = [FrontEnd(), FrontEnd(hop_length=2048), FrontEnd(n_fft=1024, hop_length=512, mel_bands=64)]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_filters_equal_librosas(front_end):
    expected = librosa.filters.mel(
        sr=front_end.sample_rate_hz, n_fft=front_end.n_fft, n_mels=front_end.mel_bands, fmax=front_end.fmax_hz
    )
    np.testing.assert_allclose(mel_filters(front_end), expected.T, atol=1e-8)


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("seed", range(3))
def test_levels_equal_librosas_to_one_step(front_end, seed):
    samples = synth.music(5.3, seed=seed)[:, 0]
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=front_end.sample_rate_hz,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.mel_bands,
        fmax=front_end.fmax_hz,
        center=True,
        pad_mode="constant",
    )
    decibels = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None).T
    expected = np.clip(np.rint((decibels + 80) / 0.5), 0, 255)
    ours = log_mel(samples, front_end).astype(float)
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() <= 1
    assert np.mean(ours != expected) < 0.01  # and only where a value lies on the edge between two levels


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 30_000), max_size=8))
def test_frames_do_not_depend_on_how_the_signal_is_cut(cuts):
    samples = synth.noise(30_000 / 22_050, seed=1)
    stream = LogMelStream(FrontEnd())
    edges = [0, *sorted(cuts), len(samples)]
    pieces = [stream.push(samples[a:b]) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate([*pieces, stream.finish()]), log_mel(samples, FrontEnd()))


@pytest.mark.parametrize("samples", [1, 500, 1024, 2048, 22_050])
def test_n_samples_make_one_frame_plus_one_per_hop(samples):
    assert log_mel(np.zeros(samples, np.float32), FrontEnd()).shape == (1 + samples // 1024, 128)


def test_a_sine_lights_the_band_it_lies_in():
    levels = log_mel(synth.sine(440, 1.0), FrontEnd()).astype(int)
    centres_hz = librosa.mel_frequencies(n_mels=130, fmax=11_025)[1:-1]
    assert abs(centres_hz[levels[10].argmax()] - 440) < 30


def test_full_scale_is_at_40_db_and_half_the_amplitude_6_db_less():
    loud = log_mel(synth.sine(1000, 1.0, amplitude=1.0), FrontEnd())[10].max()
    half = log_mel(synth.sine(1000, 1.0, amplitude=0.5), FrontEnd())[10].max()
    assert abs((loud * 0.5 - 80) - 40) < 1
    assert 11 <= int(loud) - int(half) <= 13


def test_silence_and_what_is_no_number_are_level_zero():
    assert log_mel(np.zeros(22_050, np.float32), FrontEnd()).max() == 0
    power = np.array([np.nan, -1.0, 0.0, np.inf], np.float32)
    assert levels_of_power(power, FrontEnd()).tolist() == [0, 0, 0, 255]
