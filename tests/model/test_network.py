"""What the network hears and what it does not."""

import librosa
import numpy as np
import pytest

from genrebeam.features.config import FrontEnd
from genrebeam.model.network import RelativeLevels, Statistics, build_cnn
from genrebeam.model.targets import GENRES


def levels(front_end, segments=4, seed=0):
    shape = (2, segments, front_end.chunk_step_frames, front_end.mel_bands)
    return np.random.default_rng(seed).integers(120, 200, shape).astype(np.uint8)


@pytest.mark.parametrize("hop_length", [1024, 2048])
def test_gain_makes_no_difference(hop_length):
    front_end = FrontEnd(hop_length=hop_length)
    network = build_cnn(front_end, ("a", "b", "c"), widths=(4, 4, 4, 4)).model
    chunks = levels(front_end)
    softer = chunks - np.uint8(40)  # 20 dB
    np.testing.assert_allclose(network(chunks), network(softer), atol=1e-4)
    assert not np.allclose(network(chunks), network(chunks[..., ::-1]), atol=1e-4)


@pytest.mark.parametrize(("chunk_s", "width"), [(2.0, 1), (4.0, 2), (6.0, 3)])
def test_a_chunk_hears_its_own_segments_and_nothing_else(chunk_s, width):
    front_end = FrontEnd(hop_length=2048, chunk_s=chunk_s)
    network = build_cnn(front_end, ("a", "b"), widths=(4, 4, 4, 4)).model
    whole = levels(front_end, segments=8)
    said = np.asarray(network(whole))
    assert said.shape == (2, 8 - width + 1, 3)
    changed = whole.copy()
    changed[:, 3] = changed[:, 3, ::-1, ::-1]
    differs = ~np.isclose(np.asarray(network(changed)), said, atol=1e-5).all(axis=-1)
    assert [chunk for chunk in range(said.shape[1]) if differs[:, chunk].all()] == list(range(4 - width, 4))
    for start in range(8 - width + 1):
        alone = np.asarray(network(whole[:, start : start + width]))
        np.testing.assert_allclose(alone[:, 0], said[:, start], atol=1e-5)


def test_relative_levels_are_decibels_below_the_loudest_over_the_floor():
    chunk = np.array([[[200, 80, 140]]], np.uint8)  # 0, -60 and -30 dB in half-decibel steps
    np.testing.assert_allclose(np.ravel(RelativeLevels(0.5, 60.0)(chunk)), [1.0, 0.0, 0.5], atol=1e-6)


def test_the_floor_hides_what_is_below_it():
    chunk = np.array([[[200, 10, 0]]], np.uint8)
    np.testing.assert_array_equal(np.ravel(RelativeLevels(0.5, 60.0)(chunk)), [1.0, 0.0, 0.0])


def test_one_network_costs_the_same_at_either_hop():
    sizes = {
        build_cnn(FrontEnd(hop_length=hop), ("a", "b")).members.get_layer("stem_relu").output.shape[1]
        for hop in (1024, 2048)
    }
    assert sizes == {11}


def statistics(chunk, front_end):
    layer = Statistics(front_end.frames_per_s, 80.0)
    return np.asarray(layer((chunk.astype(np.float32) / 80 + 1)[None, :, :, None]))[0]


def test_statistics_are_those_of_numpy_and_librosa():
    front_end = FrontEnd(hop_length=2048)
    frames, bands = front_end.chunk_frames, front_end.mel_bands
    decibels = np.random.default_rng(1).uniform(-80, 0, (frames, bands))
    mfccs = librosa.feature.mfcc(S=decibels.T, n_mfcc=24).T
    found = statistics(decibels, front_end)
    first, at = found[: 3 * bands].reshape(3, bands), 3 * bands
    np.testing.assert_allclose(first[0], decibels.mean(axis=0), atol=1e-3)
    np.testing.assert_allclose(first[1], decibels.std(axis=0), atol=1e-3)
    np.testing.assert_allclose(first[2], np.diff(decibels, axis=0).std(axis=0), atol=1e-3)
    np.testing.assert_allclose(found[at : at + 24], mfccs.mean(axis=0), rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(found[at + 24 : at + 48], mfccs.std(axis=0), rtol=1e-3, atol=1e-2)
    at += 72
    pairs = np.corrcoef(mfccs.T)[np.triu_indices(24, 1)]
    np.testing.assert_allclose(found[at : at + len(pairs)], pairs, atol=0.01)
    lagged = found[at + len(pairs) :][: 16 * 16].reshape(16, 16)
    unit = (mfccs - mfccs.mean(axis=0)) / mfccs.std(axis=0)
    np.testing.assert_allclose(lagged, unit[:-1, :16].T @ unit[1:, :16] / frames, atol=0.01)


@pytest.mark.parametrize("hz", [0.5, 2.0, 4.0])
def test_the_modulation_spectrum_peaks_where_the_music_pulses(hz):
    front_end = FrontEnd(hop_length=2048)
    pulse = -40 + 10 * np.sin(2 * np.pi * hz * np.arange(front_end.chunk_frames) / front_end.frames_per_s)
    found = statistics(np.tile(pulse[:, None], (1, front_end.mel_bands)), front_end)
    spectrum = found[-16 * len(Statistics.MODULATION_HZ) :].reshape(16, -1)
    assert np.abs(np.array(Statistics.MODULATION_HZ)[spectrum.argmax(axis=1)] - hz).max() < 0.17


def test_silence_and_a_single_band_give_finite_statistics():
    front_end = FrontEnd(hop_length=2048)
    silent = np.full((front_end.chunk_frames, front_end.mel_bands), -80.0)
    assert np.isfinite(statistics(silent, front_end)).all()
    silent[:, 3] = 0
    assert np.isfinite(statistics(silent, front_end)).all()


def test_members_are_asked_together_and_each_has_a_say():
    front_end = FrontEnd(hop_length=2048)
    network = build_cnn(front_end, ("a", "b", "c"), heads={"tags": 5}, widths=(4, 4, 4, 4))
    chunks = levels(front_end)
    members = network.members(chunks)
    assert members["tags"].shape == (2, 3, 2, 5)
    of_each = np.asarray(members[GENRES], np.float64)
    np.testing.assert_allclose(network.model(chunks), of_each.mean(axis=2), atol=1e-4)
    assert not np.allclose(of_each[:, :, 0], of_each[:, :, 1], atol=1e-3)


def test_other_heads_are_not_in_what_a_bundle_holds():
    front_end = FrontEnd(hop_length=2048)
    network = build_cnn(front_end, ("a", "b"), heads={"tags": 5}, widths=(4, 4, 4, 4))
    plain = build_cnn(front_end, ("a", "b"), widths=(4, 4, 4, 4))
    assert network.model.count_params() == plain.model.count_params()
    assert network.members.count_params() > plain.members.count_params()


def test_the_same_network_has_the_same_names_whenever_it_is_built():
    front_end = FrontEnd(hop_length=2048)
    first, second = (build_cnn(front_end, ("a", "b"), widths=(4, 4, 4, 4)).model for _ in range(2))
    assert first.to_json() == second.to_json()
