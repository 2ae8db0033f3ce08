"""Training learns, repeats itself, goes on after a kill, and says what is wrong."""

import csv
import dataclasses

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_shards

from genrebeam.features.chunks import segments_of
from genrebeam.features.errors import BundleError, UsageError
from genrebeam.model import bundle, dataset, targets, train
from genrebeam.model.augment import Augmentation
from genrebeam.model.lite import LiteNetwork
from genrebeam.model.predictor import BundlePredictor
from genrebeam.model.splits import fold_of
from genrebeam.model.train import TrainConfig

GENRES = tiny_shards.GENRES
TINY = TrainConfig(
    epochs=6,
    batch_size=8,
    crops_per_track=2,
    widths=(4, 4, 8, 8),
    learning_rate=1e-2,
    dropout=0.1,
    ema=0.5,
    # No shift along the frequency axis: where the energy lies is all that these genres differ in.
    augmentation=Augmentation(shift_bands=0, tilt_db=0, equaliser_db=0, mask_bands=3, mask_s=0.5),
)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_shards.write(tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def trained(shards, tmp_path_factory):
    return train.train(shards, tmp_path_factory.mktemp("bundle"), TINY, model_id="tiny")


FRONT_END = tiny_shards.FRONT_END
SEGMENT = (FRONT_END.chunk_step_frames, FRONT_END.mel_bands)


def logits(saved, seed=0):
    levels = np.random.default_rng(seed).integers(0, 255, (1, 5, *SEGMENT)).astype(np.uint8)
    return np.asarray(bundle.load_model(saved)(levels))


def answers(saved):
    """What a bundle calls new music of each genre."""
    network = bundle.load_model(saved)
    music = [segments_of(tiny_shards.log_mel(genre, 5000), FRONT_END)[None] for genre in GENRES]
    return [int(np.asarray(network(levels))[0, :, :-1].mean(axis=0).argmax()) for levels in music]


def test_it_learns_what_tells_the_genres_apart(trained):
    assert answers(trained) == [0, 1, 2]


def test_what_it_writes_runs_without_tensorflow(trained):
    predictor = BundlePredictor(bundle.load_config(trained.path))
    assert isinstance(predictor._network, LiteNetwork)
    for number, genre in enumerate(GENRES):
        scores = predictor.predict(segments_of(tiny_shards.log_mel(genre, 5000), FRONT_END))
        assert scores[:, : len(GENRES)].mean(axis=0).argmax() == number


def test_the_same_seed_gives_the_same_network(shards, trained, tmp_path):
    again = train.train(shards, tmp_path / "again", TINY, model_id="tiny")
    np.testing.assert_array_equal(logits(again), logits(trained))
    assert again.fingerprint == trained.fingerprint
    other = train.train(shards, tmp_path / "other", dataclasses.replace(TINY, seed=1), model_id="tiny")
    assert not np.allclose(logits(other), logits(trained), atol=1e-3)


class Kill(keras.callbacks.Callback):
    """Dies in the middle of an epoch, as a machine would."""

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) == 4 * 9 + 5:
            raise KeyboardInterrupt


def test_a_killed_run_goes_on_to_the_same_network(shards, trained, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train.train(shards, tmp_path, TINY, model_id="tiny", callbacks=[Kill()])
    with (tmp_path / "history.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 4
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    resumed = train.train(shards, tmp_path, TINY, model_id="tiny", callbacks=[watch])
    assert seen == [4, 5]
    np.testing.assert_allclose(logits(resumed), logits(trained), rtol=0, atol=1e-6)
    with (tmp_path / "history.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == list("123456")
    assert not (tmp_path / "training").exists()


def test_an_unfinished_run_of_another_recipe_is_not_continued(shards, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train.train(shards, tmp_path, TINY, model_id="tiny", callbacks=[Kill()])
    with pytest.raises(UsageError, match="unfinished training run"):
        train.train(shards, tmp_path, dataclasses.replace(TINY, seed=3), model_id="tiny")


def test_transfer_keeps_the_body_and_renews_the_last_layer_for_new_labels(shards, trained, tmp_path):
    renamed = dataclasses.replace(shards, labels=("middle", "low", "high"))
    network = train._network(renamed, TINY, trained, None).model
    source = bundle.load_model(trained)
    for layer, before in zip(network.layers, source.layers, strict=True):
        for new, old in zip(layer.get_weights(), before.get_weights(), strict=True):
            assert np.array_equal(new, old) != layer.name.endswith("_genres")
    with pytest.raises(BundleError, match="another shape"):
        train._network(shards, dataclasses.replace(TINY, widths=(4, 4, 8, 16)), trained, None)


def test_a_fold_is_held_out_and_named_in_the_bundle(shards, tmp_path):
    saved = train.train(shards, tmp_path, dataclasses.replace(TINY, fold=(1, 3), epochs=1), model_id="tiny")
    assert bundle.load_config(saved.path).provenance["recipe"]["fold"] == [1, 3]


def given(tmp_path, trained_on=(), metadata=None, **columns):
    """A table of targets for the training tracks of the tiny shards."""
    ids = [f"train/{number:03d}.wav" for number in range(36)]
    marked = [track_id in trained_on for track_id in ids]
    table = pa.table({"track_id": ids, "trained_on": marked, **columns}).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "targets.parquet")
    return targets.load(tmp_path / "targets.parquet")


def test_words_of_another_vocabulary_become_a_bundle_of_their_own(shards, tmp_path):
    sides = [["below"] if number < 12 else ["above"] if number >= 24 else [] for number in range(36)]
    learned = given(tmp_path, sides=sides, vector=[[float(number % 12 == 0), 1.0] for number in range(36)])
    saved = train.train(shards, tmp_path / "out", TINY, model_id="tiny", targets=learned)
    assert answers(saved) == [0, 1, 2]
    assert saved.provenance["targets"]["heads"] == {"sides": 3, "vector": 2}
    other = bundle.load_config(tmp_path / "out" / "sides")
    assert (other.model_id, other.labels) == ("tiny-sides", ("above", "below"))
    network = bundle.load_model(other)
    music = [segments_of(tiny_shards.log_mel(genre, 5000), FRONT_END)[None] for genre in GENRES]
    # Low is below, high is above, and the middle is none of these.
    assert [int(np.asarray(network(levels))[0].mean(axis=0).argmax()) for levels in music] == [1, 2, 0]


ONLY_TEACHES = {"genrebeam.not_in_bundle": "moods"}


def test_words_that_only_teach_fit_equally_and_leave_no_bundle(shards, tmp_path):
    moods = [["rare"]] + [["b", "a"], ["a"], None] * 11 + [[], []]
    sides = [["below"] if number < 18 else ["above"] for number in range(36)]
    learned = given(tmp_path, metadata=ONLY_TEACHES, moods=moods, sides=sides)
    assert learned.claims["moods"][1].tolist() == [1, 1, 0]  # a, b, rare: in no order
    assert np.isnan(learned.claims["moods"][3]).all()
    assert learned.claims["moods"][35].tolist() == [0, 0, 0]
    # Held out with its only track, a word of such a head is no mistake.
    held_out = next(fold for fold in range(3) if fold_of("artist train 0", 3) == fold)
    config = dataclasses.replace(TINY, fold=(held_out, 3), epochs=1)
    saved = train.train(shards, tmp_path / "out", config, model_id="tiny", targets=learned)
    assert saved.provenance["targets"]["heads"] == {"moods": 4, "sides": 3}
    assert (tmp_path / "out" / "sides").is_dir()
    assert not (tmp_path / "out" / "moods").exists()
    with pytest.raises(UsageError, match="no track left to learn rare from"):
        train.train(shards, tmp_path / "other", config, model_id="tiny", targets=given(tmp_path, moods=moods))


def test_words_that_only_teach_form_the_network(shards, trained, tmp_path):
    moods = [["a"] if number % 2 else ["b"] for number in range(36)]
    taught = train.train(
        shards, tmp_path, TINY, model_id="tiny", targets=given(tmp_path, metadata=ONLY_TEACHES, moods=moods)
    )
    assert not np.allclose(logits(taught), logits(trained), atol=1e-3)


def test_a_table_in_which_a_head_that_only_teaches_is_missing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not_in_bundle names moods, which has no column of words"):
        given(tmp_path, metadata=ONLY_TEACHES, vector=[[1.0]] * 36)


def test_targets_by_somebody_who_knows_the_held_out_labels_are_refused(shards, tmp_path):
    vector = [[float(number)] for number in range(36)]
    every = {f"train/{number:03d}.wav" for number in range(36)}
    with pytest.raises(UsageError, match=r"trained on .* held out"):
        told = given(tmp_path, every, vector=vector)
        train.train(shards, tmp_path / "out", dataclasses.replace(TINY, fold=(1, 3)), model_id="x", targets=told)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"vector": [1.0] * 36}, "no column with lists"),
        ({"vector": [[1.0]] * 35 + [[1.0, 2.0]]}, "same number of numbers"),
        ({"genres": [["a"]] * 36}, "cannot be called genres"),
    ],
)
def test_tables_that_teach_nothing_are_refused(tmp_path, columns, message):
    with pytest.raises(UsageError, match=message):
        given(tmp_path, **columns)


@pytest.mark.parametrize(
    ("heard", "wanted", "message"),
    [
        ({"fold": None}, {"fold": (1, 3)}, "has heard tracks of fold 1/3"),
        ({"fold": [0, 3]}, {"fold": (1, 3)}, "give a bundle trained with --fold 1/3"),
        ({"splits": ["train", "valid"]}, {}, "has heard the split valid"),
        ({"splits": ["train", "valid"], "fold": [0, 3]}, {}, "has heard the split valid"),
        ({"fold": [1, 3]}, {"fold": (1, 3)}, None),
        ({"splits": ["train", "valid"]}, {"valid_split": None}, None),
        ({}, {}, None),
    ],
)
def test_what_is_held_out_must_not_be_known_to_another_network(shards, trained, heard, wanted, message, tmp_path):
    recipe = trained.provenance["recipe"] | heard
    other = dataclasses.replace(trained, provenance=trained.provenance | {"recipe": recipe})
    config = dataclasses.replace(TINY, **wanted)
    # Of other shards nothing is known to be the same track.
    elsewhere = dataclasses.replace(other, provenance=other.provenance | {"shards": "of somebody else"})
    train._must_not_have_heard(elsewhere, shards, config)
    if message is None:
        train._must_not_have_heard(other, shards, config)
        return
    with pytest.raises(UsageError, match=message):
        train.train(shards, tmp_path, config, model_id="tiny", init=other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": ("nowhere",)}, "no track of|no split"),
        ({"valid_split": "nowhere"}, "no split 'nowhere'"),
        ({"batch_size": 1000}, "do not fill one batch"),
    ],
)
def test_what_cannot_be_trained_is_said(shards, tmp_path, change, message):
    with pytest.raises(UsageError, match=message):
        train.train(shards, tmp_path, dataclasses.replace(TINY, **change), model_id="tiny")


@pytest.mark.parametrize("change", [{"epochs": 0}, {"dropout": 1.5}, {"fold": (5, 5)}, {"learning_rate": -1.0}])
def test_recipes_out_of_range_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(TINY, **change)


def loss_of(claimed, logits, *, weights=(1.0, 1.0, 1.0, 1.0), partner=None, share=1.0, smoothing=0.0):
    """The loss of one blended crop of which each member of the network says `logits`, the last one "none of these"."""
    claimed = np.array([claimed, claimed if partner is None else partner], np.float32)
    shares = np.array([share, share], np.float32)
    targets = np.asarray(dataset.pack_words(claimed, shares, np.array(weights, np.float32)))[:1]
    return float(train.words_loss(smoothing)(targets, np.array([[logits]], np.float32))[0, 0])


P = np.array([0.5, 0.3, 0.2, 0.1])
Z = np.log(P / (1 - P)).tolist()


def crossed(claimed):
    """Binary cross-entropy of P, summed."""
    return -sum(np.log(p if applies else 1 - p) for p, applies in zip(P, claimed, strict=True))


def test_each_genre_applies_or_does_not():
    assert loss_of([0, 1, 0], [Z]) == pytest.approx(crossed([0, 1, 0, 0]), abs=1e-5)
    assert loss_of([1, 0, 1], [Z]) == pytest.approx(crossed([1, 0, 1, 0]), abs=1e-5)


def test_music_of_no_genre_here_is_none_of_these_and_what_nobody_knows_costs_nothing():
    assert loss_of([0, 0, 0], [Z]) == pytest.approx(crossed([0, 0, 0, 1]), abs=1e-5)
    assert loss_of([np.nan] * 3, [Z]) == 0


def test_rare_genres_count_more():
    assert loss_of([1, 0, 1], [Z], weights=(2, 9, 4, 9)) == pytest.approx(3 * crossed([1, 0, 1, 0]), abs=1e-4)


def test_a_blend_owes_each_partner_its_share():
    expected = 0.7 * crossed([1, 0, 0, 0]) + 0.3 * crossed([0, 0, 1, 0])
    assert loss_of([1, 0, 0], [Z], partner=[0, 0, 1], share=0.7) == pytest.approx(expected, abs=1e-5)


def test_smoothing_keeps_targets_from_certainty():
    expected = 0.9 * crossed([1, 0, 0, 0]) + 0.1 * crossed([0, 1, 1, 1])
    assert loss_of([1, 0, 0], [Z], smoothing=0.1) == pytest.approx(expected, abs=1e-5)


def test_members_of_a_network_each_owe_the_loss():
    other = np.log([4.0, 1.0, 0.5, 0.1]).tolist()
    both = loss_of([0, 1, 0], [Z, other])
    assert both == pytest.approx(loss_of([0, 1, 0], [Z]) + loss_of([0, 1, 0], [other]), abs=1e-5)


def test_numbers_cost_their_mean_square_where_they_are_known():
    values = np.array([[1.0, 3.0], [np.nan, np.nan]], np.float32)
    said = np.array([[[[0.0, 0.0], [1.0, 3.0]]]] * 2, np.float32)
    packed = np.asarray(dataset.pack_numbers(values, np.ones(2, np.float32)))
    np.testing.assert_allclose(np.asarray(train.numbers_loss(packed, said))[:, 0], [5.0, 0.0], atol=1e-6)
