"""Features by hand: known figures of known sounds, and librosa's where librosa has the same."""

import dataclasses

import librosa
import numpy as np
import pytest
import synth

from genrebeam.features.chunks import chunks_of
from genrebeam.features.config import FrontEnd
from genrebeam.features.mel import log_mel
from genrebeam.model import handcrafted

FRONT_END = FrontEnd()
PITCHES = "C C# D D# E F F# G G# A A# B".split()


def noise_levels(chunks=1, frames=40):
    return np.random.default_rng(0).integers(100, 200, (chunks, frames, 128)).astype(np.uint8)


KINDS = handcrafted.names(audio=True)


@pytest.mark.parametrize("name", KINDS)
def test_features_do_not_hear_gain(name):
    levels, crossings = noise_levels(3), np.random.default_rng(0).random((3, 40), np.float32)
    found = handcrafted.of_chunks(name, levels, FRONT_END, crossings)
    assert found.shape[0] == 3
    assert np.isfinite(found).all()
    softer = handcrafted.of_chunks(name, levels - np.uint8(50), FRONT_END, crossings)
    np.testing.assert_allclose(found, softer, atol=1e-3)


@pytest.mark.parametrize("name", KINDS)
def test_silence_has_features_too(name):
    levels, crossings = np.zeros((1, 40, 128), np.uint8), np.zeros((1, 40), np.float32)
    assert np.isfinite(handcrafted.of_chunks(name, levels, FRONT_END, crossings)).all()


def test_all_are_the_others_side_by_side_and_zero_crossings_only_where_there_is_audio():
    levels, crossings = noise_levels(2), np.random.default_rng(0).random((2, 40), np.float32)
    assert [*handcrafted.names(audio=False)[:-1], "zero crossings", "all"] == KINDS
    parts = [handcrafted.of_chunks(kind, levels, FRONT_END, crossings) for kind in KINDS[:-1]]
    heard = handcrafted.of_chunks("all", levels, FRONT_END, crossings)
    np.testing.assert_array_equal(heard, np.concatenate(parts, axis=1))
    np.testing.assert_array_equal(handcrafted.of_chunks("all", levels, FRONT_END), heard[:, :-3])


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


def cut(samples, seed):
    """The samples in blocks of any length, none and one among them."""
    at = np.sort(np.random.default_rng(seed).integers(0, len(samples), 20))
    return np.split(samples, [0, 0, 1, *at, at[-1], len(samples)])


def sounds():
    """Noise, a tone, and what is nearly or exactly nothing; they begin and end below zero."""
    quiet = np.array([-0.0, 0.0, -1e-11, 1e-11, -1e-9, 1e-9] * 700, np.float32)
    return np.concatenate([-synth.sine(700, 0.7)[1:], quiet, synth.noise(1.3, seed=1), quiet - 0.1])


@pytest.mark.parametrize("samples", [1, 1000, 1024, 5000, None])
@pytest.mark.parametrize(("n_fft", "hop_length"), [(2048, 512), (2048, 1024), (2048, 2048), (1001, 300)])
def test_zero_crossings_are_librosas_wherever_the_signal_is_cut(n_fft, hop_length, samples):
    front_end = FrontEnd(n_fft=n_fft, hop_length=hop_length)
    signal = sounds()[:samples]
    theirs = librosa.feature.zero_crossing_rate(signal, frame_length=n_fft, hop_length=hop_length)[0]
    for blocks in ([signal], cut(signal, seed=1), cut(signal, seed=2)):
        found = handcrafted.zero_crossing_rate(blocks, front_end)
        np.testing.assert_allclose(found, theirs, atol=1e-7)
    assert len(found) == len(log_mel(signal, front_end))


def test_a_tone_crosses_zero_twice_a_period_and_noise_at_every_other_sample():
    tone, hiss = (
        handcrafted.zero_crossing_rate([samples], FRONT_END)[1:-1]  # the first and the last frame are half empty
        for samples in (synth.sine(1000, 4.0), synth.noise(4.0, seed=0))
    )
    np.testing.assert_allclose(tone, 2 * 1000 / 22_050, atol=1 / 2048)
    np.testing.assert_allclose(hiss, 0.5, atol=0.05)


def test_zero_crossings_become_mean_deviation_and_deviation_of_the_difference():
    crossings = np.array([[0.1, 0.3, 0.1, 0.3], [0.2, 0.2, 0.2, 0.2]], np.float32)
    found = handcrafted.of_chunks("zero crossings", noise_levels(2, 4), FRONT_END, crossings)
    spread = np.std([0.2, -0.2, 0.2])
    np.testing.assert_allclose(found, [[0.2, 0.1, spread], [0.2, 0, 0]], atol=1e-6)
