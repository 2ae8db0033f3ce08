"""Batches: what is in them, and that an epoch can be made again."""

import dataclasses

import numpy as np
import pytest
import tiny_shards

from model import dataset
from model.augment import NONE, Augmentation
from model.dataset import Claims

GENRES = tiny_shards.GENRES


def batches(shards, *, epochs=range(1), settings=NONE, claims=None, batch_size=8, teacher=None, seed=0):
    claims = claims or Claims(GENRES, (1.0, 2.0, 3.0))
    return list(
        dataset.training_batches(
            shards,
            ["train"],
            claims,
            settings=settings,
            batch_size=batch_size,
            crops_per_track=2,
            seed=seed,
            epochs=epochs,
            teacher=teacher,
        ).as_numpy_iterator()
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_shards.write(tmp_path_factory.mktemp("shards"), train=8, valid=2, extra=(("low", "high"), ()))


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a, b) for one, two in zip(first, second, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_an_epoch_is_a_pure_function_of_its_number_and_the_seed(shards):
    settings = Augmentation()
    both = batches(shards, epochs=range(2), settings=settings)
    assert same(both, batches(shards, epochs=range(2), settings=settings))
    assert same(both[len(both) // 2 :], batches(shards, epochs=range(1, 2), settings=settings))
    assert not same(both[: len(both) // 2], both[len(both) // 2 :])
    assert not same(batches(shards, settings=settings), batches(shards, settings=settings, seed=1))


def test_every_claimed_track_is_there_with_its_genre_and_weight(shards):
    seen = batches(shards, batch_size=10)  # 25 tracks with claims x 2 crops
    assert len(seen) == 5
    levels, targets, weights = (np.concatenate(part) for part in zip(*seen, strict=True))
    assert levels.dtype == np.uint8
    assert levels.shape[1:] == (tiny_shards.FRONT_END.chunk_frames, tiny_shards.FRONT_END.mel_bands)
    claimed = targets[:, :3]
    assert claimed.sum(axis=0).tolist() == [18, 16, 18]  # 8 tracks each and one that is low or high, twice
    loudest = levels.mean(axis=1).argmax(axis=1) // 5
    assert claimed[np.arange(50), np.minimum(loudest, 2)].all()
    for claim, weight in zip(claimed, weights, strict=True):
        assert weight == (0.5 if claim.sum() == 2 else claim @ [1.0, 2.0, 3.0])


def test_blending_names_both_partners(shards):
    (_, targets, _), *_ = batches(shards, settings=dataclasses.replace(NONE, mixup=0.5))
    claimed, partner, share = targets[:, :3], targets[:, 3:6], targets[:, -1]
    np.testing.assert_array_equal(partner, np.roll(claimed, 1, axis=0))
    assert share.min() >= 0.5
    assert share.std() > 0


def test_held_out_artists_are_never_seen(shards):
    held_out = frozenset(f"artist train {number}" for number in range(8))  # all that are low
    seen = batches(shards, claims=Claims(GENRES, (1.0, 1.0, 1.0), held_out=held_out))
    claimed = np.concatenate([targets[:, :3] for _, targets, _ in seen])
    assert not (claimed == [1, 0, 0]).all(axis=1).any()


def test_unlabelled_tracks_come_along_only_with_a_teacher(shards):
    def teacher(chunks):
        return np.full((8, 3), 1 / 3, np.float32)

    without = np.concatenate([targets for _, targets, _ in batches(shards)])
    taught = np.concatenate([targets for _, targets, _ in batches(shards, epochs=range(3), teacher=teacher)])
    assert without[:, :3].any(axis=1).all()
    assert not without[:, 6:9].any()
    assert (~taught[:, :3].any(axis=1)).sum() > 0
    np.testing.assert_allclose(taught[:, 6:9], 1 / 3)


def test_a_track_shorter_than_a_crop_is_repeated(tmp_path):
    shards = tiny_shards.write(tmp_path, train=4, valid=1, frames=7)
    (levels, _, _), *_ = batches(shards)
    np.testing.assert_array_equal(levels[:, :7], levels[:, 7:14])
