"""The comparison: known features of known sounds, and a leak that shows."""

import numpy as np
import pytest
import tiny_shards

from features.config import FrontEnd
from model import compare
from model.compare import Chunks

FRONT_END = FrontEnd()


def test_features_do_not_hear_gain():
    levels = np.random.default_rng(0).integers(100, 200, (3, 40, 128)).astype(np.uint8)
    for compute in compare.FEATURES.values():
        found = compute(levels, FRONT_END)
        assert found.shape[0] == 3
        np.testing.assert_allclose(found, compute(levels - np.uint8(50), FRONT_END), atol=1e-3)


def test_centroid_and_roll_off_of_one_bright_band_are_that_band():
    levels = np.zeros((1, 10, 128), np.uint8)
    levels[:, :, 40] = 200
    found = compare.spectral_statistics(levels, FRONT_END)[0]
    assert found[0] == pytest.approx(40, abs=0.01)  # centroid
    assert found[1] == pytest.approx(0, abs=0.1)  # bandwidth
    assert found[2] == 40  # roll-off
    assert found[10:].max() == 0  # nothing changes in time


def test_mfccs_are_librosas():
    librosa = pytest.importorskip("librosa")
    levels = np.random.default_rng(0).integers(100, 200, (1, 40, 128)).astype(np.uint8)
    ours = compare.mfcc_statistics(levels, FRONT_END)[0, :20]
    theirs = librosa.feature.mfcc(S=compare.decibels(levels, FRONT_END)[0].T, n_mfcc=20).mean(axis=1)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def songs(count, seed):
    """Each song is a random spectrum with a little noise, its genre drawn blindly: nothing can be learned but songs."""
    random = np.random.default_rng(seed)
    levels, genre, track = [], [], []
    for number in range(count):
        spectrum = random.integers(60, 200, (1, 1, 16))
        levels.append(np.clip(spectrum + random.integers(-3, 4, (10, 15, 16)), 0, 255))
        genre += [random.integers(0, 3)] * 10
        track += [number] * 10
    return Chunks(np.concatenate(levels).astype(np.uint8), np.array(genre), np.array(track))


def test_the_leaky_protocol_makes_an_oracle_of_a_fool():
    train, test = songs(60, 1), songs(60, 2)
    only = ["k-NN"]
    honest = compare.compare(train, test, tiny_shards.FRONT_END, protocol="honest", only=only)
    leaky = compare.compare(*compare.leaky_split(train), tiny_shards.FRONT_END, protocol="LEAKY", only=only)
    assert max(row.track_accuracy for row in honest) < 0.6
    assert leaky[0].track_accuracy > 0.9
    table = compare.markdown(honest + leaky)
    assert table.count("LEAKY") == len(leaky)


def test_chunks_come_from_tracks_of_one_genre(tmp_path):
    shards = tiny_shards.write(tmp_path, train=2, valid=1, extra=(("low", "high"), ()))
    chunks = compare.read_chunks(shards, ["train"])
    assert len(set(chunks.track)) == 6
    assert chunks.levels.shape[1:] == (shards.front_end.chunk_frames, 16)
    assert np.bincount(chunks.genre).tolist() == [8, 8, 8]  # 60 frames: 4 chunks of each of two tracks
