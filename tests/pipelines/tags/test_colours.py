"""Colours of genres: fixed, and told apart by those who see fewer colours."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.tags.colours import colour_of
from genrebeam.pipelines.tags.policy import spelled

LABELS = load_config(DEFAULT).labels
# Machado, Oliveira and Fernandes (2009), severity 1.0, on sRGB values.
SEEN_WITH = {
    "all cones": np.eye(3),
    "no red cones": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green cones": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


def oklab(srgb):
    """Ottosson's Oklab: distances of 0.02 are just seen. float [3] from sRGB in 0 to 1."""
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    cones = np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]) @ linear
    to_lab = [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]
    return np.array(to_lab) @ np.cbrt(cones)


def rgb(genre):
    return np.array(list(bytes.fromhex(colour_of(genre)[1:]))) / 255


@pytest.mark.parametrize("eyes", SEEN_WITH)
def test_no_two_genres_look_alike(eyes):
    seen = {label: oklab(np.clip(np.array(SEEN_WITH[eyes]) @ rgb(label), 0, 1)) for label in LABELS}
    for one, other in itertools.combinations(LABELS, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 0.06, (one, other)


def test_every_genre_has_a_grey_of_its_own():
    greys = sorted(oklab(rgb(label))[0] for label in LABELS)
    assert min(np.diff(greys)) > 0.02


@pytest.mark.parametrize("label", LABELS)
def test_a_spelling_does_not_change_the_colour(label):
    assert colour_of(spelled(label)) == colour_of(label)


@given(st.text())
def test_any_word_has_a_colour_and_keeps_it(word):
    assert colour_of(word) == colour_of(word)
    assert len(bytes.fromhex(colour_of(word).removeprefix("#"))) == 3
