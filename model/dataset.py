"""Training batches from shards: random crops of many tracks, varied, blended, with what is claimed about them.

Epoch n is a pure function of (shards, settings, seed, n): a training run that was killed goes on with exactly the
batches that it would have seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from features.chunks import audible, chunks_of
from features.config import FrontEnd
from features.records import parse_in_graph
from model import augment
from model.augment import Augmentation
from model.shardset import ShardSet

# A crop whose loudest level is put here before blending two crops: mixup compares shapes, not gains.
_BLEND_PEAK = 240.0


@dataclasses.dataclass(frozen=True)
class Claims:
    """What training believes about the labels of one set of shards.

    Attributes:
        labels: genres, in the order of the network's outputs.
        weights: float32 [genres]: how much a track of one genre counts.
        several_weight: how much a track counts of which several genres are claimed.
        held_out: groups whose tracks must not be seen.
    """

    labels: tuple[str, ...]
    weights: tuple[float, ...]
    several_weight: float = 0.5
    held_out: frozenset[str] = frozenset()


Teacher = Callable[[tf.Tensor], tf.Tensor]


def training_batches(
    shards: ShardSet,
    splits: Sequence[str],
    claims: Claims,
    *,
    settings: Augmentation,
    batch_size: int,
    crops_per_track: int,
    seed: int,
    epochs: range,
    teacher: Teacher | None = None,
) -> tf.data.Dataset:
    """Batches of all the given epochs, one after the other.

    Tracks without a claimed genre among the labels are left out, unless a teacher says what they are.

    Args:
        crops_per_track: crops that one reading of a track gives.
        epochs: which ones; a resumed training run begins with a later one.
        teacher: chunks uint8 [batch, chunk_frames, mel_bands] to probabilities [batch, genres].

    Returns:
        Dataset of (uint8 [batch, chunk_frames, mel_bands], targets as `pack` makes them, float32 weights [batch]).
        The last, incomplete batch of an epoch is dropped.
    """
    files, front_end = shards.files(splits), shards.front_end
    need = augment.source_frames(front_end, settings)
    labels = tf.constant(claims.labels)
    weights = tf.constant(claims.weights, tf.float32)
    held_out = tf.constant(sorted(claims.held_out) or [""])

    def parse(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        levels, genres, group = parse_in_graph(record, front_end)
        claimed = tf.cast(tf.reduce_any(genres[:, tf.newaxis] == labels[tf.newaxis], axis=0), tf.float32)
        return levels, claimed, group

    def keep(levels: tf.Tensor, claimed: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        useful = tf.constant(True) if teacher is not None else tf.reduce_any(claimed > 0)
        seen = tf.reduce_all(group != held_out) if claims.held_out else tf.constant(True)
        return useful & seen & (tf.shape(levels)[0] > 0)

    def crops(index: tf.Tensor, track: tuple[tf.Tensor, tf.Tensor, tf.Tensor], epoch: tf.Tensor) -> tf.data.Dataset:
        levels, claimed, _ = track
        # A short track is repeated until it fills a crop, as chunks_of does.
        repeats = tf.maximum(1, -(-need // tf.shape(levels)[0]))
        levels = tf.tile(levels, [repeats, 1])
        own = tf.random.stateless_uniform([2], tf.stack([epoch, index]), minval=None, maxval=None, dtype=tf.int32)
        last = tf.shape(levels)[0] - need
        starts = tf.random.stateless_uniform([crops_per_track], own, 0, last + 1, tf.int32)
        cut = tf.map_fn(lambda start: levels[start : start + need], starts, fn_output_signature=tf.uint8)
        return tf.data.Dataset.from_tensor_slices((cut, tf.tile(claimed[tf.newaxis], [crops_per_track, 1])))

    def batch(epoch: tf.Tensor, index: tf.Tensor, x: tf.Tensor, claimed: tf.Tensor) -> tuple[tf.Tensor, ...]:
        own = tf.random.stateless_uniform([2], tf.stack([epoch, -1 - index]), minval=None, maxval=None, dtype=tf.int32)
        seeds = tf.unstack(tf.random.split(own, 3))
        x = augment.vary(x, front_end, settings, seed=seeds[0])
        x += _BLEND_PEAK - tf.reduce_max(x, axis=(1, 2), keepdims=True)
        share = augment.blend_shares(tf.shape(x)[0], settings, seed=seeds[1])
        # Crops are shuffled, so the next one in the batch is a random partner.
        x = augment.blend(x, front_end, share)
        x = augment.to_levels(augment.mask(x, front_end, settings, seed=seeds[2]))
        x = tf.ensure_shape(x, [batch_size, front_end.chunk_frames, front_end.mel_bands])
        several = tf.reduce_sum(claimed, axis=1)
        weight = tf.where(several == 1, tf.linalg.matvec(claimed, weights), claims.several_weight)
        blended = share * weight + (1 - share) * tf.roll(weight, 1, axis=0)
        opinion = teacher(x) if teacher is not None else tf.zeros_like(claimed)
        return x, pack(claimed, tf.roll(claimed, 1, axis=0), share, opinion), blended

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        epoch += seed * 100_003  # so that no epoch of one seed repeats an epoch of another
        tracks = (
            tf.data.Dataset.from_tensor_slices(files)
            .shuffle(len(files), seed=epoch, reshuffle_each_iteration=False)
            .interleave(tf.data.TFRecordDataset, cycle_length=8)
            .map(parse)
            .filter(keep)
            .enumerate()
        )
        number = tf.cast(epoch, tf.int32)
        return (
            tracks.flat_map(lambda index, track: crops(tf.cast(index, tf.int32), track, number))
            .shuffle(16_384, seed=epoch, reshuffle_each_iteration=False)
            .batch(batch_size, drop_remainder=True)
            .enumerate()
            .map(lambda index, crop: batch(number, tf.cast(index, tf.int32), *crop), num_parallel_calls=2)
        )

    numbers = tf.data.Dataset.range(epochs.start, epochs.stop)
    return numbers.flat_map(one_epoch).prefetch(4)


def pack(claimed: Any, partner_claimed: Any, share: Any, opinion: Any) -> Any:
    """What a blended crop should be called, as one tensor, because Keras passes one: float32 [batch, 3 genres + 1].

    Args:
        claimed: float32 [batch, genres], 1 for every genre claimed of the crop; all 0 where nothing is.
        partner_claimed: the same of the crop blended into it.
        share: float32 [batch], how much of the crop itself is in the blend.
        opinion: float32 [batch, genres], the teacher's probabilities for the blend; all 0 without a teacher.
    """
    return tf.concat([claimed, partner_claimed, opinion, share[:, tf.newaxis]], axis=1)


def chunk_batches(
    tracks: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]], front_end: FrontEnd, batch_size: int
) -> tf.data.Dataset:
    """The chunks of whole tracks as tagging cuts them, with targets: for validation.

    Args:
        tracks: log-Mel uint8 [frames, mel_bands] and claimed genres float32 [genres] of each.
    """
    chunks = [chunks_of(levels, front_end) for levels, _ in tracks]
    claimed = np.repeat(np.stack([c for _, c in tracks]), [len(c) for c in chunks], axis=0)
    targets = pack(claimed, claimed, tf.ones(len(claimed)), tf.zeros_like(claimed))
    return tf.data.Dataset.from_tensor_slices((np.concatenate(chunks), targets)).batch(batch_size)


def claimed_vector(genres: Sequence[str], labels: Sequence[str]) -> NDArray[np.float32]:
    """Genres as a vector of zeros and ones in the order of the labels."""
    return np.array([label in genres for label in labels], np.float32)


def chunk_logits(network: Any, log_mel: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """The network's logits for each audible chunk of a track, as tagging asks for: float32 [chunks, genres]."""
    chunks = chunks_of(log_mel, front_end)
    heard = audible(chunks, front_end)
    chunks = np.ascontiguousarray(chunks[heard] if heard.any() else chunks)
    return np.asarray(network(chunks, training=False), np.float32)
