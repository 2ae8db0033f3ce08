"""Chunks vote: what wins, by how much, and what the number is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from genrebeam.model.voting import METHODS, vote

LABELS = ("blues", "jazz", "rock")


def probabilities(*rows):
    return np.array(rows, np.float32)


@st.composite
def chunk_probabilities(draw):
    raw = draw(arrays(np.float32, (draw(st.integers(1, 12)), 3), elements=st.floats(2**-10, 1, width=32)))
    return raw / raw.sum(axis=1, keepdims=True)


@given(chunk_probabilities(), st.sampled_from(list(METHODS)))
def test_scores_are_shares_of_one_best_first(scores, method):
    result = vote(scores, LABELS, method=method, top_k=3)
    values = [score for _, score in result.top]
    assert sum(values) == pytest.approx(1, abs=1e-4)
    assert values == sorted(values, reverse=True)
    assert (result.genre, result.confidence) == result.top[0]


@given(chunk_probabilities(), st.sampled_from(list(METHODS)), st.randoms())
def test_the_order_of_chunks_does_not_matter(scores, method, random):
    shuffled = scores[random.sample(range(len(scores)), len(scores))]
    a, b = (dict(vote(s, LABELS, method=method).top) for s in (scores, shuffled))
    for genre in LABELS:
        assert a[genre] == pytest.approx(b[genre], abs=1e-5)


def test_the_three_ways_differ_where_they_should():
    scores = probabilities([0.40, 0.35, 0.25], [0.40, 0.35, 0.25], [0.02, 0.97, 0.01])
    assert vote(scores, LABELS, method="mean").genre == "jazz"
    assert vote(scores, LABELS, method="majority").genre == "blues"
    assert vote(scores, LABELS, method="confidence").genre == "jazz"
    mean = vote(scores, LABELS, method="mean").confidence
    assert mean == pytest.approx((0.35 + 0.35 + 0.97) / 3, abs=1e-6)
    assert vote(scores, LABELS, method="confidence").confidence > mean  # the sure chunk weighs more
    assert vote(scores, LABELS, method="majority").confidence == pytest.approx(2 / 3, abs=0.06)


@given(chunk_probabilities())
def test_what_is_not_the_best_counts_by_a_power(scores):
    plain, powered = (vote(scores, LABELS, top_k=3, further=power) for power in (1.0, 2.0))
    assert (powered.genre, powered.confidence) == (plain.genre, plain.confidence)
    first = plain.confidence
    assert dict(powered.top) == pytest.approx({g: s if s == first else s**2 for g, s in plain.top}, abs=1e-6)


@pytest.mark.parametrize("method", ["majority", "confidence"])
def test_only_the_mean_is_calibrated(method):
    scores = probabilities([0.40, 0.35, 0.25], [0.40, 0.35, 0.25], [0.02, 0.97, 0.01])
    assert vote(scores, LABELS, method=method, further=2.0) == vote(scores, LABELS, method=method)


def test_a_tied_majority_goes_to_the_higher_mean():
    scores = probabilities([0.51, 0.49, 0.0], [0.0, 0.9, 0.1])
    assert vote(scores, LABELS, method="majority").genre == "jazz"


def test_equal_scores_keep_the_order_of_the_labels():
    top = vote(probabilities([0.2, 0.4, 0.4]), LABELS, top_k=2).top
    assert [genre for genre, _ in top] == ["jazz", "rock"]


@pytest.mark.parametrize("scores", [np.zeros((0, 3), np.float32), np.zeros((2, 4), np.float32), np.zeros(3)])
def test_shapes_that_cannot_vote_are_refused(scores):
    with pytest.raises(ValueError, match="probabilities"):
        vote(scores, LABELS)


def test_an_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="mean, majority, confidence"):
        vote(probabilities([1, 0, 0]), LABELS, method="loudest")
