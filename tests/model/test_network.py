"""What the network hears and what it does not."""

import numpy as np
import pytest

from features.config import FrontEnd
from model.network import RelativeLevels, build_cnn


def levels(front_end, seed=0):
    shape = (2, front_end.chunk_frames, front_end.mel_bands)
    return np.random.default_rng(seed).integers(120, 200, shape).astype(np.uint8)


@pytest.mark.parametrize("hop_length", [1024, 2048])
def test_gain_makes_no_difference(hop_length):
    front_end = FrontEnd(hop_length=hop_length)
    network = build_cnn(front_end, ("a", "b", "c"), widths=(4, 4, 4, 4))
    chunks = levels(front_end)
    softer = chunks - np.uint8(40)  # 20 dB
    np.testing.assert_allclose(network(chunks), network(softer), atol=1e-4)
    assert not np.allclose(network(chunks), network(chunks[:, :, ::-1]), atol=1e-4)


def test_relative_levels_are_decibels_below_the_loudest_over_the_floor():
    chunk = np.array([[[200, 80, 140]]], np.uint8)  # 0, -60 and -30 dB in half-decibel steps
    np.testing.assert_allclose(np.ravel(RelativeLevels(0.5, 60.0)(chunk)), [1.0, 0.0, 0.5], atol=1e-6)


def test_the_floor_hides_what_is_below_it():
    chunk = np.array([[[200, 10, 0]]], np.uint8)
    np.testing.assert_array_equal(np.ravel(RelativeLevels(0.5, 60.0)(chunk)), [1.0, 0.0, 0.0])


def test_one_network_costs_the_same_at_either_hop():
    sizes = {
        build_cnn(FrontEnd(hop_length=hop), ("a", "b")).get_layer("stem_relu").output.shape[1] for hop in (1024, 2048)
    }
    assert sizes == {22}
