"""Batches across tracks give every track the scores it would have had alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.config import FrontEnd
from model import bundle
from model.predictor import BatchedScorer, BundlePredictor, PlaceholderPredictor

FRONT_END = FrontEnd()


class Counting(PlaceholderPredictor):
    """Counts calls and refuses any batch but the full fixed shape."""

    calls = 0

    def predict(self, chunks):
        assert chunks.shape == (self.batch_size, 86, 128)
        self.calls += 1
        return super().predict(chunks)


def random_chunks(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 86, 128), dtype=np.uint8)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 25), max_size=8), st.integers(1, 16))
def test_every_track_gets_its_own_scores_in_as_few_batches_as_possible(lengths, batch_size):
    predictor = Counting(("a", "b", "c"), FRONT_END, batch_size=batch_size)
    scorer = BatchedScorer(predictor)
    tracks = {i: random_chunks(n, seed=i) for i, n in enumerate(lengths)}
    done = {}
    for key, chunks in tracks.items():
        done.update(scorer.push(key, chunks))
    done.update(scorer.flush())
    assert predictor.calls == -(-sum(lengths) // batch_size)
    assert done.keys() == tracks.keys()
    whole = PlaceholderPredictor(("a", "b", "c"), FRONT_END)
    for key, scores in done.items():
        np.testing.assert_allclose(scores, whole.predict(tracks[key]), rtol=1e-5)


def test_a_finished_scorer_starts_afresh():
    scorer = BatchedScorer(PlaceholderPredictor(("a", "b"), FRONT_END, batch_size=4))
    assert not dict(scorer.push("x", random_chunks(2, 0)))
    assert dict(scorer.flush()).keys() == {"x"}
    assert not dict(scorer.flush())
    assert dict(scorer.push("y", random_chunks(4, 0))).keys() == {"y"}


@pytest.fixture(scope="module")
def shipped():
    return BundlePredictor(bundle.load_config(bundle.DEFAULT), batch_size=8)


def test_the_shipped_network_answers_probabilities(shipped):
    scores = shipped.predict(random_chunks_of(shipped, 8))
    assert scores.shape == (8, len(shipped.labels))
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


def random_chunks_of(predictor, count):
    shape = (count, predictor.front_end.chunk_frames, predictor.front_end.mel_bands)
    return np.random.default_rng(0).integers(60, 200, shape, dtype=np.uint8)


def test_the_shipped_network_does_not_care_how_loud_the_music_is(shipped):
    chunks = random_chunks_of(shipped, 8)
    np.testing.assert_allclose(shipped.predict(chunks), shipped.predict(chunks + np.uint8(40)), atol=1e-3)


def test_the_network_is_traced_once(shipped):
    for seed in range(3):
        shipped.predict(random_chunks_of(shipped, 8) + np.uint8(seed))
    assert shipped._probabilities.experimental_get_tracing_count() == 1
