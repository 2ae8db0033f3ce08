"""Training learns, repeats itself, goes on after a kill, and says what is wrong."""

import csv
import dataclasses

import keras
import numpy as np
import pytest
import tiny_shards

from features.errors import BundleError, UsageError
from model import bundle, dataset, train
from model.augment import Augmentation
from model.network import MEMBERS
from model.train import TrainConfig

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


def logits(saved, seed=0):
    chunks = np.random.default_rng(seed).integers(0, 255, (4, *_shape())).astype(np.uint8)
    return np.asarray(bundle.load_model(saved)(chunks))


def _shape():
    return tiny_shards.FRONT_END.chunk_frames, tiny_shards.FRONT_END.mel_bands


def test_it_learns_what_tells_the_genres_apart(trained):
    network = bundle.load_model(trained)
    chunks = np.stack([tiny_shards.log_mel(genre, 5000)[: _shape()[0]] for genre in GENRES])
    assert np.asarray(network(chunks)).argmax(axis=1).tolist() == [0, 1, 2]


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
    network = train._network(renamed, TINY, trained)
    source = bundle.load_model(trained)
    for layer, before in zip(network.layers, source.layers, strict=True):
        for new, old in zip(layer.get_weights(), before.get_weights(), strict=True):
            is_new = layer.name in MEMBERS
            assert np.array_equal(new, old) != is_new
    with pytest.raises(BundleError, match="another shape"):
        train._network(shards, dataclasses.replace(TINY, widths=(4, 4, 8, 16)), trained)


def test_a_fold_is_held_out_and_named_in_the_bundle(shards, tmp_path):
    saved = train.train(shards, tmp_path, dataclasses.replace(TINY, fold=(1, 3), epochs=1), model_id="tiny")
    assert bundle.load_config(saved.path).provenance["recipe"]["fold"] == [1, 3]


def test_a_teacher_is_learned_from(shards, trained, tmp_path):
    taught = train.train(
        shards, tmp_path, dataclasses.replace(TINY, teacher_share=1.0), model_id="pupil", teachers=[trained]
    )
    assert taught.provenance["teachers"] == [trained.fingerprint]


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
    for network in ({"init": other}, {"teachers": [elsewhere, other]}):
        with pytest.raises(UsageError, match=message):
            train.train(shards, tmp_path, config, model_id="tiny", **network)


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


def loss_of(claimed, logits, *, partner=None, share=1.0, opinion=None, smoothing=0.0, teacher_share=0.5):
    claimed = np.array([claimed], np.float32)
    partner = claimed if partner is None else np.array([partner], np.float32)
    opinion = np.zeros_like(claimed) if opinion is None else np.array([opinion], np.float32)
    targets = dataset.pack(claimed, partner, np.array([share], np.float32), opinion)
    return float(train.claims_loss(smoothing, teacher_share)(targets, np.array([[logits]], np.float32))[0])


P = np.array([0.5, 0.3, 0.2])
Z = np.log(P).tolist()


def test_one_claim_costs_its_negative_log_probability():
    assert loss_of([0, 1, 0], Z) == pytest.approx(-np.log(0.3), abs=1e-5)


def test_several_claims_cost_that_of_their_sum():
    assert loss_of([1, 0, 1], Z) == pytest.approx(-np.log(0.7), abs=1e-5)
    assert loss_of([1, 1, 1], Z) == pytest.approx(0.0, abs=1e-5)


def test_a_blend_owes_each_partner_its_share():
    expected = -0.7 * np.log(0.5) - 0.3 * np.log(0.2)
    assert loss_of([1, 0, 0], Z, partner=[0, 0, 1], share=0.7) == pytest.approx(expected, abs=1e-5)


def test_teachers_share_the_say_with_claims_and_have_it_alone_without():
    opinion = [0.2, 0.2, 0.6]
    taught = -float(np.dot(opinion, Z))
    assert loss_of([1, 0, 0], Z, opinion=opinion) == pytest.approx(-0.5 * np.log(0.5) + 0.5 * taught, abs=1e-5)
    assert loss_of([0, 0, 0], Z, opinion=opinion) == pytest.approx(taught, abs=1e-5)


def test_smoothing_spreads_its_share_over_all_genres():
    expected = -0.9 * np.log(0.5) - 0.1 * np.log(P).mean()
    assert loss_of([1, 0, 0], Z, smoothing=0.1) == pytest.approx(expected, abs=1e-5)


def test_members_of_a_network_each_owe_the_loss():
    targets = dataset.pack(*(np.array([[0, 1, 0]], np.float32),) * 2, np.ones(1, np.float32), np.zeros((1, 3), "f4"))
    logits = np.array([[Z, np.log([0.1, 0.8, 0.1]).tolist()]], np.float32)
    assert float(train.claims_loss(0.0, 0.5)(targets, logits)[0]) == pytest.approx(-np.log(0.3) - np.log(0.8), abs=1e-5)
