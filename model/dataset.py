"""Training batches from shards: random crops of many tracks, varied, blended, with what is claimed about them.

Epoch n is a pure function of (shards, settings, seed, n): a training run that was killed goes on with exactly the
batches that it would have seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from genrebeam.features.chunks import audible, chunks_of, segments_of
from genrebeam.features.config import FrontEnd
from genrebeam.features.records import parse_in_graph
from genrebeam.model import augment
from genrebeam.model.augment import Augmentation
from genrebeam.model.shardset import ShardSet
from genrebeam.model.targets import FURTHER, GENRES, Targets

# A crop whose loudest level is put here before blending two crops: mixup compares shapes, not gains.
_BLEND_PEAK = 240.0


@dataclasses.dataclass(frozen=True)
class Claims:
    """What training believes about the labels of one set of shards.

    Attributes:
        labels: genres, in the order of the network's outputs.
        weights: by head of words, how much a track of each word counts; of several, their mean. The last weight is
            that of music of which none of the words is true.
        held_out: groups whose tracks must not be seen.
    """

    labels: tuple[str, ...]
    weights: Mapping[str, tuple[float, ...]]
    held_out: frozenset[str] = frozenset()


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
    targets: Targets | None = None,
) -> tf.data.Dataset:
    """Batches of all the given epochs, one after the other.

    Tracks without any genre are left out, unless there are targets for them.

    Args:
        crops_per_track: crops that one reading of a track gives.
        epochs: which ones; a resumed training run begins with a later one.
        targets: what else is to be learned.

    Returns:
        Dataset of (uint8 [batch, segments_per_chunk, chunk_step_frames, mel_bands], {head: targets}): those of the head
        `GENRES` and other heads of words as `pack_words` makes them, of numbers as `pack_numbers` does. The last,
        incomplete batch of an epoch is dropped.
    """
    files = shards.files(splits)
    steps = _Steps(shards.front_end, claims, settings, targets)

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        # Of this graph alone: the seed of the process would otherwise change every shuffle below, and 0 would raise.
        tf.compat.v1.set_random_seed(seed + 1)
        epoch += seed * 100_003  # so that no epoch of one seed repeats an epoch of another
        number = tf.cast(epoch, tf.int32)
        return (
            tf.data.Dataset.from_tensor_slices(files)
            .shuffle(len(files), seed=epoch, reshuffle_each_iteration=False)
            .interleave(tf.data.TFRecordDataset, cycle_length=8)
            .map(steps.parse)
            .filter(steps.is_useful)
            .enumerate()
            .flat_map(lambda index, track: steps.crops(track, crops_per_track, number, tf.cast(index, tf.int32)))
            .shuffle(16_384, seed=epoch, reshuffle_each_iteration=False)
            .batch(batch_size, drop_remainder=True)
            .enumerate()
            .map(
                lambda index, crops: steps.blended(crops, batch_size, number, tf.cast(index, tf.int32)),
                num_parallel_calls=2,
            )
        )

    return tf.data.Dataset.range(epochs.start, epochs.stop).flat_map(one_epoch).prefetch(4)


class _Steps:
    """What happens to a record on its way into a batch, as functions for a tf.data graph."""

    def __init__(self, front_end: FrontEnd, claims: Claims, settings: Augmentation, targets: Targets | None) -> None:
        self._front_end, self._settings = front_end, settings
        self._source_frames = augment.source_frames(front_end, settings)
        self._labels = tf.constant(claims.labels)
        self._weights = {head: tf.constant(values, tf.float32) for head, values in claims.weights.items()}
        self._held_out = tf.constant(sorted(claims.held_out)) if claims.held_out else None
        self._table = _Lookup(targets) if targets is not None else None

    def parse(self, record: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """A record to uint8 [frames, mel_bands], claimed float32 [genres], its row of the targets or -1, its group."""
        levels, genres, group, track_id = parse_in_graph(record, self._front_end)
        # `claimed_vector` in a graph.
        named = tf.cast(genres[:, tf.newaxis] == self._labels[tf.newaxis], tf.float32)
        rank = tf.cumsum(tf.reduce_sum(named, axis=1, keepdims=True), exclusive=True)
        claimed = tf.where(tf.size(genres) > 0, tf.reduce_max(named * FURTHER**rank, axis=0), np.nan)
        row = self._table.row(track_id) if self._table is not None else tf.constant(-1, tf.int64)
        return levels, claimed, row, group

    def is_useful(self, levels: tf.Tensor, claimed: tf.Tensor, row: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
        """Whether a track has any frame, any target, and is not held out."""
        has_target = tf.math.is_finite(claimed[0]) | (row >= 0)
        is_free = tf.reduce_all(group != self._held_out) if self._held_out is not None else tf.constant(True)
        return has_target & is_free & (tf.shape(levels)[0] > 0)

    def crops(self, track: tuple[tf.Tensor, ...], count: int, epoch: tf.Tensor, index: tf.Tensor) -> tf.data.Dataset:
        """Random crops of a parsed track: uint8 [source_frames, mel_bands], claimed, row. Seeded by epoch and index."""
        levels, *about, _ = track
        need = self._source_frames
        # A short track is repeated until it fills a crop, as chunks_of does.
        repeats = tf.maximum(1, -(-need // tf.shape(levels)[0]))
        levels = tf.tile(levels, [repeats, 1])
        own = tf.random.stateless_uniform([2], tf.stack([epoch, index]), minval=None, maxval=None, dtype=tf.int32)
        last = tf.shape(levels)[0] - need
        starts = tf.random.stateless_uniform([count], own, 0, last + 1, tf.int32)
        cut = tf.map_fn(lambda start: levels[start : start + need], starts, fn_output_signature=tf.uint8)
        return tf.data.Dataset.from_tensor_slices((cut, *(tf.stack([value] * count) for value in about)))

    def blended(
        self, crops: tuple[tf.Tensor, ...], batch_size: int, epoch: tf.Tensor, index: tf.Tensor
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """A batch of crops, varied and blended in pairs, with the targets of each head. Seeded by epoch and index."""
        x, claimed, row = crops
        front_end, settings, table = self._front_end, self._settings, self._table
        own = tf.random.stateless_uniform([2], tf.stack([epoch, -1 - index]), minval=None, maxval=None, dtype=tf.int32)
        seeds = tf.unstack(tf.random.split(own, 4))
        x = augment.vary(x, front_end, settings, seed=seeds[0])
        x += _BLEND_PEAK - tf.reduce_max(x, axis=(1, 2), keepdims=True)
        share = augment.blend_shares(tf.shape(x)[0], settings, seed=seeds[1])
        # Crops are shuffled, so the next one in the batch is a random partner.
        x = augment.blend(x, front_end, share)
        x = augment.lowpass(x, front_end, settings, seed=seeds[2])
        x = augment.to_levels(augment.mask(x, front_end, settings, seed=seeds[3]))
        count, step = front_end.segments_per_chunk, front_end.chunk_step_frames
        x = tf.reshape(x[:, : count * step], [batch_size, count, step, front_end.mel_bands])
        words = {GENRES: claimed} | (table.of(row, table.claims) if table is not None else {})
        packed = {head: pack_words(values, share, self._weights[head]) for head, values in words.items()}
        if table is not None:
            packed |= {head: pack_numbers(v, share) for head, v in table.of(row, table.numbers).items()}
        return x, packed


class _Lookup:
    """A table of targets inside a tf.data graph."""

    def __init__(self, targets: Targets) -> None:
        rows = tf.lookup.KeyValueTensorInitializer(
            tf.constant(targets.track_ids), tf.range(len(targets.track_ids), dtype=tf.int64)
        )
        self._rows = tf.lookup.StaticHashTable(rows, default_value=-1)
        self.claims, self.numbers = (
            {head: tf.constant(_and_none(values)) for head, values in heads.items()}
            for heads in (targets.claims, targets.numbers)
        )

    def row(self, track_id: tf.Tensor) -> tf.Tensor:
        return self._rows.lookup(track_id)

    def of(self, rows: tf.Tensor, heads: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        last = tf.cast(self._rows.size(), tf.int64)
        return {head: tf.gather(values, tf.where(rows < 0, last, rows)) for head, values in heads.items()}


def _and_none(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same with a last row of NaN, for tracks without targets."""
    return np.concatenate([values, np.full_like(values[:1], np.nan)])


def pack_words(claimed: Any, share: Any, weights: Any) -> Any:
    """Targets of blended crops for a head of words, as the one tensor that Keras passes: float32 [batch, 2 words + 4].

    First of each crop, then of the crop blended into it (the next of the batch): how much each word is claimed, 1 if it
    is music of which none is true, and how much all that counts: its share in the blend times its weight.

    Args:
        claimed: float32 [batch, words] in 0..1, 1 for the best; all 0 for music of which none is true; NaN where
            nothing is known.
        share: float32 [batch], how much of the crop itself is in the blend.
        weights: float32 [words + 1], of the words and of none.
    """
    known = tf.math.is_finite(claimed[:, :1])
    claimed = tf.where(known, claimed, 0.0)
    none = tf.cast(known, tf.float32) * (1.0 - tf.reduce_max(claimed, axis=1, keepdims=True))
    claimed = tf.concat([claimed, none], axis=1)
    weight = tf.math.divide_no_nan(tf.linalg.matvec(claimed, weights), tf.reduce_sum(claimed, axis=1))[:, tf.newaxis]
    share = share[:, tf.newaxis]
    return tf.concat(
        [claimed, share * weight, tf.roll(claimed, 1, axis=0), (1 - share) * tf.roll(weight, 1, axis=0)], axis=1
    )


def pack_numbers(values: Any, share: Any) -> Any:
    """Targets of blended crops for a head of numbers, and 1 where they are known: float32 [batch, size + 1].

    Args:
        values: float32 [batch, size]; NaN where a crop has none.
        share: float32 [batch], as for `pack_words`: numbers blend as sounds do.
    """
    share = share[:, tf.newaxis]
    partner = tf.where(share < 1, tf.roll(values, 1, axis=0), values)
    blended = share * values + (1 - share) * partner
    known = tf.cast(tf.reduce_all(tf.math.is_finite(blended), axis=1, keepdims=True), tf.float32)
    return tf.concat([tf.where(known > 0, blended, 0.0), known], axis=1)


def chunk_batches(
    tracks: Sequence[tuple[NDArray[np.uint8], NDArray[np.float32]]],
    front_end: FrontEnd,
    batch_size: int,
    targets: Targets | None = None,
) -> tf.data.Dataset:
    """The chunks of whole tracks as tagging cuts them, with the targets of the head `GENRES`: for validation.

    Args:
        tracks: log-Mel uint8 [frames, mel_bands] and claimed genres float32 [genres] of each.
        targets: the other heads, of which nothing is asked here.
    """
    width = front_end.segments_per_chunk
    chunks = [
        np.lib.stride_tricks.sliding_window_view(segments_of(levels, front_end), width, axis=0).transpose(0, 3, 1, 2)
        for levels, _ in tracks
    ]
    claimed = np.repeat(np.stack([c for _, c in tracks]), [len(c) for c in chunks], axis=0)
    ones = tf.ones(len(claimed))
    packed = {GENRES: pack_words(tf.constant(claimed), ones, tf.ones(claimed.shape[1] + 1))}
    if targets is not None:
        unknown = {
            head: np.full((len(claimed), len(words)), np.nan, np.float32) for head, words in targets.words.items()
        }
        packed |= {head: pack_words(tf.constant(v), ones, tf.ones(v.shape[1] + 1)) for head, v in unknown.items()}
        packed |= {head: tf.zeros((len(claimed), v.shape[1] + 1)) for head, v in targets.numbers.items()}
    return tf.data.Dataset.from_tensor_slices((np.concatenate(chunks), packed)).batch(batch_size)


def chunk_logits(network: Any, log_mel: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """The network's logits for each audible chunk of a track, as tagging asks for: float32 [chunks, genres + 1]."""
    logits = np.asarray(network.predict_on_batch(segments_of(log_mel, front_end)[np.newaxis]), np.float32)[0]
    heard = audible(chunks_of(log_mel, front_end), front_end)
    return logits[heard] if heard.any() else logits
