"""Batches across tracks give every track the scores it would have had alone."""

import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
import synth
from hypothesis import given, settings
from hypothesis import strategies as st

from genrebeam.features.chunks import segments_of
from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import BundleError
from genrebeam.features.extract import extract
from genrebeam.model import bundle
from genrebeam.model import predictor as predictors
from genrebeam.model.decision import decide
from genrebeam.model.lite import LiteNetwork
from genrebeam.model.predictor import BatchedScorer, BundlePredictor, PlaceholderPredictor, TensorFlowNetwork
from genrebeam.model.voting import chunk_scores

FRONT_END = FrontEnd()


class Counting(PlaceholderPredictor):
    """Counts calls and refuses any batch but the full fixed shape."""

    calls = 0

    def predict(self, segments):
        assert segments.shape == (self.batch_size, 43, 128)
        self.calls += 1
        return super().predict(segments)


def random_segments(count, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, 43, 128), dtype=np.uint8)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 25), max_size=8), st.integers(2, 16), st.booleans())
def test_every_track_gets_its_own_scores_in_few_batches(lengths, batch_size, on_gpu):
    predictor = Counting(("a", "b", "c"), FRONT_END, batch_size=batch_size)
    predictor.on_gpu = on_gpu
    scorer = BatchedScorer(predictor)
    tracks = {i: random_segments(n, seed=i) for i, n in enumerate(lengths)}
    done = {}
    for key, segments in tracks.items():
        done.update(scorer.push(key, segments))
    done.update(scorer.flush())
    # A batch of n segments has n - 1 chunks; one more is lost at each end of a track.
    assert predictor.calls <= -(-sum(lengths) // (batch_size - 1))
    assert done.keys() == tracks.keys()
    for key, scores in done.items():
        whole = PlaceholderPredictor(("a", "b", "c"), FRONT_END, batch_size=len(tracks[key]))
        assert len(scores) == max(0, len(tracks[key]) - 1)
        if len(scores):
            np.testing.assert_allclose(scores, whole.predict(tracks[key]), rtol=1e-5)


def test_a_finished_scorer_starts_afresh():
    scorer = BatchedScorer(PlaceholderPredictor(("a", "b"), FRONT_END, batch_size=4))
    assert not dict(scorer.push("x", random_segments(2, 0)))
    assert dict(scorer.flush()).keys() == {"x"}
    assert not dict(scorer.flush())
    assert dict(scorer.push("y", random_segments(4, 0))).keys() == {"y"}


class Waiting(PlaceholderPredictor):
    """Predicts when it is told to."""

    on_gpu = True
    go = threading.Event()

    def predict(self, segments):
        assert self.go.wait(60)
        return super().predict(segments)


def test_the_next_batch_is_filled_while_one_is_predicted():
    scorer = BatchedScorer(Waiting(("a", "b"), FRONT_END, batch_size=4))
    first, second = random_segments(4, 1), random_segments(2, 2)
    assert not dict(scorer.push("first", first))  # a full batch, which is being predicted now
    assert not dict(scorer.push("second", second))
    Waiting.go.set()
    done = dict(scorer.flush())
    for key, segments in (("first", first), ("second", second)):
        whole = PlaceholderPredictor(("a", "b"), FRONT_END, batch_size=len(segments))
        np.testing.assert_allclose(done[key], whole.predict(segments), rtol=1e-5)


class Failing(PlaceholderPredictor):
    on_gpu = True

    def predict(self, segments):
        raise RuntimeError("no memory on the device")


def test_what_fails_on_the_thread_is_raised():
    scorer = BatchedScorer(Failing(("a", "b"), FRONT_END, batch_size=4))
    assert not dict(scorer.push("x", random_segments(4, 0)))
    with pytest.raises(RuntimeError, match="no memory"):
        dict(scorer.flush())


def test_a_batch_must_hold_a_chunk():
    with pytest.raises(ValueError, match="at least the 2 segments"):
        BatchedScorer(PlaceholderPredictor(("a", "b"), FRONT_END, batch_size=1))


@pytest.fixture(scope="module", params=bundle.SHIPPED)
def shipped_bundle(request):
    return bundle.load_config(bundle.SHIPPED[request.param])


def predictor_by(engine, loaded, **options):
    """LiteRT runs the exported network, TensorFlow a bundle that has none."""
    predictor = BundlePredictor(dataclasses.replace(loaded, is_exported=engine == "LiteRT"), **options)
    assert isinstance(predictor._network, LiteNetwork if engine == "LiteRT" else TensorFlowNetwork)
    return predictor


@pytest.fixture
def unchecked(monkeypatch):
    """Bundles may be said to have no exported network, which their fingerprints contradict."""
    monkeypatch.setattr(bundle, "check", lambda bundle: None)


@pytest.fixture(params=["LiteRT", "TensorFlow"])
def engine(request, unchecked):
    return request.param


@pytest.fixture
def shipped(shipped_bundle, engine):
    return predictor_by(engine, shipped_bundle, batch_size=8)


def music(predictor, segments, seed=0):
    """Noise in the shape of a spectrum that falls and pulses: uint8 [segments, chunk_step_frames, mel_bands]."""
    front_end = predictor.front_end
    frames = segments * front_end.chunk_step_frames
    pulse = 20 * (np.arange(frames) % 5 == 0)[:, None]
    noise = np.random.default_rng(seed).integers(0, 40, (frames, front_end.mel_bands))
    levels = 180 - np.arange(front_end.mel_bands) * 0.6 + pulse + noise - 40
    return levels.astype(np.uint8).reshape(segments, front_end.chunk_step_frames, front_end.mel_bands)


def test_the_shipped_networks_answer_probabilities(shipped):
    columns = len(shipped.labels) + 1
    answers = shipped.predict(music(shipped, 8))
    scores = answers[:, :columns]
    assert answers.shape == (7, columns + shipped.embedding.size)
    assert scores.shape == (7, len(shipped.labels) + 1)
    assert (scores >= 0).all()
    assert (scores <= 1).all()


def test_scores_are_those_of_the_logits(shipped_bundle, unchecked):
    shipped = predictor_by("TensorFlow", shipped_bundle, batch_size=8)
    segments = music(shipped, 8)
    logits = np.asarray(bundle.load_model(shipped_bundle)(segments[None]))[0]
    np.testing.assert_allclose(
        shipped.predict(segments)[:, : logits.shape[1]], chunk_scores(logits, shipped_bundle.calibration), atol=1e-5
    )


@pytest.mark.parametrize("batch_size", [2, 5, 8, 31, 64, 100])
def test_scores_do_not_depend_on_how_stretches_are_cut(shipped_bundle, engine, batch_size):
    predictor = predictor_by(engine, shipped_bundle, batch_size=batch_size)
    tracks = {name: music(predictor, count, seed=count) for name, count in (("long", 129), ("short", 3), ("other", 12))}
    scorer = BatchedScorer(predictor)
    done = {key: scores for name, levels in tracks.items() for key, scores in scorer.push(name, levels)}
    done |= dict(scorer.flush())
    for name, levels in tracks.items():
        whole = predictor_by(engine, shipped_bundle, batch_size=len(levels)).predict(levels)
        np.testing.assert_allclose(done[name], whole, atol=5e-5)


def test_both_engines_say_the_same_of_a_track(shipped_bundle, unchecked, tmp_path):
    """The tolerance that model/lite.py states; docs/models.md has it for 3,824 tracks of real music."""
    engines = [predictor_by(engine, shipped_bundle, batch_size=20) for engine in ("LiteRT", "TensorFlow")]
    for seed in range(6):
        song = synth.write(tmp_path / f"{seed}.wav", synth.music(40, seed=seed))
        log_mel, _ = extract(song, shipped_bundle.front_end)
        segments = segments_of(log_mel, shipped_bundle.front_end)
        assert len(segments) == 20
        lite, full = (decide(engine, engine.predict(segments), log_mel) for engine in engines)
        assert lite.vote.genre == full.vote.genre
        assert lite.vote.confidence == pytest.approx(full.vote.confidence, abs=0.02)
        assert lite.vote.unknown == pytest.approx(full.vote.unknown, abs=0.02)
        assert np.abs(lite.embedding.astype(int) - full.embedding).max() <= 3


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_do_not_change_what_is_said(shipped_bundle, threads):
    segments = music(shipped_bundle, 64)
    one, many = (BundlePredictor(shipped_bundle, threads=n).predict(segments) for n in (1, threads))
    np.testing.assert_array_equal(one, many)


def test_tensorflow_runs_it_where_there_is_a_gpu(shipped_bundle, monkeypatch):
    monkeypatch.setattr(predictors, "_may_have_gpu", lambda: True)
    monkeypatch.setattr(predictors, "_gpus", list)  # a driver, and nothing that TensorFlow can use
    assert isinstance(BundlePredictor(shipped_bundle)._network, LiteNetwork)
    monkeypatch.setattr(predictors, "_gpus", lambda: ["the first one"])
    monkeypatch.setattr(predictors, "TensorFlowNetwork", lambda bundle, **options: options)
    predictor = BundlePredictor(shipped_bundle, batch_size=32)
    assert predictor._network == {"batch_size": 32, "threads": 1}
    assert predictor.on_gpu
    assert predictors.runtime_of(shipped_bundle) == "genrebeam.model.keras_import"


def test_what_nothing_here_can_run_says_what_to_install(shipped_bundle, monkeypatch):
    monkeypatch.setattr(predictors.lite, "is_installed", lambda: False)
    monkeypatch.setitem(sys.modules, "genrebeam.model.keras_import", None)
    with pytest.raises(BundleError, match="pip install ai-edge-litert") as error:
        BundlePredictor(shipped_bundle)
    assert "\n" not in str(error.value)


def test_libraries_say_nothing_where_the_user_reads(shipped_bundle):
    code = (
        "from genrebeam.model.bundle import DEFAULT, load_config; "
        "from genrebeam.model.predictor import BundlePredictor; "
        "BundlePredictor(load_config(DEFAULT))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout + run.stderr == ""


def test_the_shipped_networks_do_not_care_how_loud_the_music_is(shipped):
    segments = music(shipped, 8)
    np.testing.assert_allclose(shipped.predict(segments), shipped.predict(segments + np.uint8(20)), atol=1e-3)


def test_the_network_is_traced_once(shipped_bundle, unchecked):
    predictor = predictor_by("TensorFlow", shipped_bundle, batch_size=8)
    for seed in range(3):
        predictor.predict(music(predictor, 8, seed))
    assert predictor._network.answers.experimental_get_tracing_count() == 1
