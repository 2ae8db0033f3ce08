"""Features by hand: known figures of known sounds, and librosa's where librosa has the same."""

import dataclasses

import librosa
import numpy as np
import pytest
import synth

from features.chunks import chunks_of
from features.config import FrontEnd
from features.mel import log_mel
from model import handcrafted

FRONT_END = FrontEnd()
PITCHES = "C C# D D# E F F# G G# A A# B".split()


def noise_levels(chunks=1, frames=40):
    return np.random.default_rng(0).integers(100, 200, (chunks, frames, 128)).astype(np.uint8)


@pytest.mark.parametrize("name", handcrafted.FEATURES)
def test_features_do_not_hear_gain(name):
    levels = noise_levels(3)
    found = handcrafted.of_chunks(name, levels, FRONT_END)
    assert found.shape[0] == 3
    assert np.isfinite(found).all()
    softer = handcrafted.of_chunks(name, levels - np.uint8(50), FRONT_END)
    np.testing.assert_allclose(found, softer, atol=1e-3)


@pytest.mark.parametrize("name", handcrafted.FEATURES)
def test_silence_has_features_too(name):
    assert np.isfinite(handcrafted.of_chunks(name, np.zeros((1, 40, 128), np.uint8), FRONT_END)).all()


def test_centroid_and_roll_off_of_one_bright_band_are_that_band():
    levels = np.zeros((1, 10, 128), np.uint8)
    levels[:, :, 40] = 200
    found = handcrafted.spectral_statistics(levels, FRONT_END)[0]
    assert found[0] == pytest.approx(40, abs=0.01)  # centroid
    assert found[1] == pytest.approx(0, abs=0.1)  # bandwidth
    assert found[2] == 40  # roll-off
    assert found[10:].max() == 0  # nothing changes in time


def test_mfccs_and_deltas_are_librosas():
    levels = noise_levels()
    mfcc = librosa.feature.mfcc(S=handcrafted.decibels(levels, FRONT_END)[0].T, n_mfcc=20)
    deltas = [librosa.feature.delta(mfcc, order=order) for order in (1, 2)]
    theirs = np.concatenate([part for x in (mfcc, *deltas) for part in (x.mean(axis=1), x.std(axis=1))])
    np.testing.assert_allclose(handcrafted.mfcc_with_deltas(levels, FRONT_END)[0], theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("frames", [3, 4, 8, 9])
def test_short_chunks_have_deltas_too(frames):
    assert handcrafted.mfcc_with_deltas(noise_levels(frames=frames), FRONT_END).shape == (1, 120)


@pytest.mark.parametrize("hop_length", [1024, 2048])
@pytest.mark.parametrize(
    ("hz", "pitch"), [(440.0, "A"), (523.25, "C"), (659.26, "E"), (739.99, "F#"), (987.77, "B"), (2093.0, "C")]
)
def test_a_pure_tone_lights_its_pitch_class(hz, pitch, hop_length):
    front_end = FrontEnd(hop_length=hop_length)
    levels = log_mel(synth.sine(hz, 4.0), front_end)[np.newaxis]
    strength = handcrafted.chroma_statistics(levels, front_end)[0, :12]
    assert PITCHES[strength.argmax()] == pitch
    assert strength.max() == pytest.approx(1)


def clicks(bpm, seconds, noise=0.0):
    """Short bursts of noise, `bpm` of them a minute."""
    random = np.random.default_rng(0)
    samples = random.normal(0, noise, int(seconds * 22_050)) if noise else np.zeros(int(seconds * 22_050))
    for beat in np.arange(0.1, seconds - 0.05, 60 / bpm):
        start = int(beat * 22_050)
        samples[start : start + 400] += random.normal(0, 0.3, 400)
    return samples.astype(np.float32)


@pytest.mark.parametrize(("hop_length", "tolerance"), [(512, 0.02), (1024, 0.03), (2048, 0.05)])
@pytest.mark.parametrize("bpm", [75, 90, 120, 137, 160])
def test_a_click_track_has_its_tempo(bpm, hop_length, tolerance):
    front_end = dataclasses.replace(FRONT_END, hop_length=hop_length)
    chunks = chunks_of(log_mel(clicks(bpm, 12.0, noise=0.001), front_end), front_end)
    tempo = handcrafted.rhythm_statistics(chunks, front_end)[:, 0]
    assert np.median(tempo) == pytest.approx(bpm, rel=tolerance)


def test_clicks_have_a_clearer_pulse_than_noise():
    beats, hiss = (
        chunks_of(log_mel(samples, FRONT_END), FRONT_END)
        for samples in (clicks(120, 12.0, noise=0.001), synth.noise(12.0, seed=0))
    )
    clear, vague = (handcrafted.rhythm_statistics(chunks, FRONT_END)[:, 1] for chunks in (beats, hiss))
    assert clear.min() > 0.6
    assert vague.max() < 0.5
    assert clear.max() <= 1.1
