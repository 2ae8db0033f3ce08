"""Embeddings: what a projection keeps, what a byte loses, what a head says of them."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
import tiny_shards

from genrebeam.features.chunks import segments_of
from genrebeam.features.errors import BundleError
from genrebeam.model import bundle as bundles
from genrebeam.model.decision import decide, score_stored, vote_stored
from genrebeam.model.embedding import EMBEDDING, HEAD, EmbeddingSpace, Head, Projection, fit_projection
from genrebeam.model.lite import LiteNetwork
from genrebeam.model.network import build_cnn, with_knowledge
from genrebeam.model.predictor import BundlePredictor
from genrebeam.model.voting import Calibration

LABELS = tiny_shards.GENRES


def numbers(count=200, size=40, seed=0):
    """Three causes behind forty numbers of very unlike size, and a little noise."""
    rng = np.random.default_rng(seed)
    causes = rng.normal(size=(count, 3))
    causes -= causes.mean(axis=0)
    mixed = causes @ rng.normal(size=(3, size)) + 0.01 * rng.normal(size=(count, size))
    return (mixed * np.logspace(-2, 2, size) + 7).astype(np.float32), causes


def test_components_hold_what_is_behind_the_numbers():
    knowledge, causes = numbers()
    projection, _ = fit_projection(knowledge, 3)
    embedding = projection(knowledge)
    found, *_ = np.linalg.lstsq(embedding, causes, rcond=None)
    assert np.abs(embedding @ found - causes).max() < 0.05
    np.testing.assert_allclose(embedding.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(np.corrcoef(embedding.T), np.eye(3), atol=1e-3)


def test_the_same_numbers_give_the_same_components_whatever_their_order():
    knowledge, _ = numbers()
    one, scale = fit_projection(knowledge, 3)
    other, other_scale = fit_projection(knowledge[::-1], 3)
    np.testing.assert_allclose(one(knowledge), other(knowledge), atol=1e-3)
    assert scale == pytest.approx(other_scale)


def test_no_more_components_than_tracks():
    knowledge, _ = numbers(count=5)
    projection, scale = fit_projection(knowledge, 128)
    assert projection.kernel.shape == (40, 5)
    assert np.isfinite(projection(knowledge)).all() and scale > 0


def test_a_byte_loses_half_a_step_at_most():
    knowledge, _ = numbers()
    projection, scale = fit_projection(knowledge, 3)
    space = EmbeddingSpace("t", 3, scale)
    embedding = projection(knowledge)
    stored = space.stored(embedding)
    assert stored.dtype == np.int8
    assert np.abs(stored).max() == 127
    assert np.abs(space.restored(stored) - embedding).max() <= scale / 2 * 1.001
    assert (space.stored(embedding * 100) >= -127).all()  # clipped, not wrapped


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    keras.utils.set_random_seed(0)
    network = build_cnn(tiny_shards.FRONT_END, LABELS, widths=(4, 4, 4, 4)).model
    levels = np.random.default_rng(1).integers(0, 255, (8, 4, *network.input_shape[2:])).astype(np.uint8)
    knowledge = np.asarray(with_knowledge(network)(levels)[1]).mean(axis=1)
    folder = tmp_path_factory.mktemp("base")
    embedding = fit_projection(knowledge, 6)
    return bundles.save(
        folder, network, model_id="base", labels=LABELS, front_end=tiny_shards.FRONT_END, embedding=embedding
    )


def learned(base, path, seed=0, labels=("Kölsch", "演歌")):
    rng = np.random.default_rng(seed)
    head = Head(rng.normal(size=(6, 3)).astype(np.float32), rng.normal(size=3).astype(np.float32))
    calibration = Calibration(1.2, 0.1, 0.4, further=1.3)
    return bundles.save_learned(
        path, base, head, model_id="mine", labels=labels, calibration=calibration, provenance={"learned": 1}
    )


def test_a_learned_bundle_is_a_bundle_of_the_same_trunk(base, tmp_path):
    mine = learned(base, tmp_path)
    assert bundles.load_config(tmp_path) == mine
    assert mine.embedding == base.embedding
    assert mine.fingerprint != base.fingerprint
    assert learned(base, tmp_path / "again", seed=1).fingerprint != mine.fingerprint


def track(seed=3, chunks=5):
    frames = tiny_shards.FRONT_END.chunk_step_frames * (chunks + 1)
    return np.random.default_rng(seed).integers(90, 255, (frames, tiny_shards.FRONT_END.mel_bands)).astype(np.uint8)


def test_a_track_is_said_to_be_the_same_when_it_is_heard_and_when_its_embedding_is_scored(base, tmp_path):
    mine = learned(base, tmp_path)
    log_mel = track()
    segments = segments_of(log_mel, tiny_shards.FRONT_END)
    predictor = BundlePredictor(mine, batch_size=len(segments))
    heard = decide(predictor, predictor.predict(segments), log_mel)
    scores = score_stored(heard.embedding[np.newaxis], mine.embedding, mine.head(), mine.calibration)
    (vote,) = vote_stored(scores, mine.labels, mine.calibration)
    assert vote.genre == heard.vote.genre
    assert [genre for genre, _ in vote.top] == [genre for genre, _ in heard.vote.top]
    np.testing.assert_allclose([s for _, s in vote.top], [s for _, s in heard.vote.top], rtol=1e-5)
    assert vote.unknown == pytest.approx(heard.vote.unknown, rel=1e-5)


def test_the_bundle_and_what_was_learned_on_it_make_the_same_embeddings(base, tmp_path):
    segments = segments_of(track(), tiny_shards.FRONT_END)
    one, other = (
        BundlePredictor(b, batch_size=len(segments)).predict(segments) for b in (base, learned(base, tmp_path))
    )
    np.testing.assert_allclose(one[:, len(LABELS) + 1 :], other[:, 3:], atol=1e-4)


def test_the_exported_network_goes_into_what_is_learned_on_it(base, tmp_path, monkeypatch):
    monkeypatch.setattr(bundles, "_SAME_ANSWERS", 0.0)  # an untrained network answers by a hair
    exported = bundles.load_config(shutil.copytree(base.path, tmp_path / "exported"))
    exported = bundles.save_config(bundles.with_export(exported, bundles.load_network(exported), [track()]))
    assert exported.is_exported and exported.fingerprint != base.fingerprint
    mine = learned(exported, tmp_path / "mine")
    segments = segments_of(track(chunks=70), tiny_shards.FRONT_END)
    one, other = (BundlePredictor(b, batch_size=len(segments)) for b in (exported, mine))
    assert isinstance(other._network, LiteNetwork)
    embedding, again = one.predict(segments)[:, len(LABELS) + 1 :], other.predict(segments)[:, 3:]
    np.testing.assert_array_equal(embedding, again)
    by_tensorflow = BundlePredictor(base, batch_size=len(segments)).predict(segments)[:, len(LABELS) + 1 :]
    assert np.corrcoef(embedding.ravel(), by_tensorflow.ravel())[0, 1] > 0.9


def test_silence_has_no_say_in_an_embedding(base):
    log_mel = track(chunks=8)
    quiet = np.concatenate([log_mel, np.zeros_like(log_mel)])
    decided = []
    for levels in (log_mel, quiet):
        segments = segments_of(levels, tiny_shards.FRONT_END)
        predictor = BundlePredictor(base, batch_size=len(segments))
        answers = predictor.predict(segments)
        decided.append(decide(predictor, answers, levels).embedding.astype(int))
        # One chunk lies across the border; the silent ones behind it would pull the mean far away.
    whole = base.embedding.stored(answers[:, len(LABELS) + 1 :].mean(axis=0)).astype(int)
    assert np.abs(decided[0] - decided[1]).max() < np.abs(decided[0] - whole).max()


def test_keras_says_of_a_learned_bundle_what_the_head_says(base, tmp_path):
    mine = learned(base, tmp_path)
    segments = segments_of(track(), tiny_shards.FRONT_END)
    logits = np.asarray(bundles.load_model(mine)(segments[np.newaxis]))[0]
    embedding = BundlePredictor(base, batch_size=len(segments)).predict(segments)[:, len(LABELS) + 1 :]
    np.testing.assert_allclose(logits, mine.head().logits(embedding), atol=1e-3)


@pytest.mark.parametrize("name", [EMBEDDING, HEAD])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "missing"),
        (lambda file: file.write_bytes(b"no zip"), "damaged"),
        (lambda file: file.write_bytes(b""), "damaged|cannot be read"),
        (lambda file: np.savez(file, kernel=np.zeros((6, 3)), bias=np.zeros(2)), "not a matrix"),
    ],
)
def test_damage_is_named_in_one_line(base, tmp_path, name, damage, message):
    mine = learned(base, tmp_path)
    damage(mine.path / name)
    with pytest.raises(BundleError, match=message) as error:
        bundles.check(bundles.load_config(mine.path))
    assert str(mine.path / name) in str(error.value)


@pytest.mark.parametrize("part", ["projection", "head"])
def test_a_file_of_another_bundle_is_refused(base, tmp_path, part):
    mine = learned(base, tmp_path)
    if part == "head":
        Head(mine.head().kernel + 1, mine.head().bias).save(mine.path)
    else:
        Projection(mine.projection().kernel * 2, mine.projection().bias).save(mine.path)
    with pytest.raises(BundleError, match="not written together"):
        bundles.check(mine)


def test_nothing_can_be_learned_on_a_bundle_without_embeddings(base, tmp_path):
    old = dataclasses.replace(base, embedding=None)
    with pytest.raises(BundleError, match="no embeddings"):
        learned(old, tmp_path)


@pytest.mark.parametrize("name", list(bundles.SHIPPED))
def test_the_bundles_that_ship_make_embeddings(name):
    bundle = bundles.load_config(bundles.SHIPPED[name])
    assert bundle.embedding is not None
    bundles.check(bundle)
