"""The network: log-Mel levels of a stretch of music in, one logit per genre out for each of its chunks.

A stretch is cut into segments, each one step of the chunks long. What costs is done once per segment; a chunk is
pooled from its segments. So chunks that overlap cost nothing twice, and scores do not depend on how a track is cut into
stretches.

Everything that decides what a level means to the network is inside it, so a saved model needs no
preprocessing beside it. What the levels are is features/config.py's business; how the network learns, model/train.py's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from genrebeam.features.config import FrontEnd
from genrebeam.model.targets import GENRES

# Seconds from one frame to the next after the first convolution, whatever the hop: the cost of a chunk
# hardly depends on the hop then, and the filters after it always span the same time.
_STEM_STEP_S = 0.186

# What the network knows of a chunk before it thinks of genres, one layer of each member; the trunk ends with them.
TAPS = ("pooled", "hidden_relu")

# The two members that see the same chunk. A layer `MEMBER_HEAD` holds what a member says of a head.
MEMBERS = ("convolution", "statistics")


@keras.saving.register_keras_serializable(package="genrebeam")
class RelativeLevels(keras.layers.Layer):
    """Levels as loudness below the loudest point of each picture, from 0 (floor and below) to 1 (the loudest).

    That makes the network blind to gain: the same recording 20 dB softer gives the same numbers.

    Args:
        level_step_db: decibels in one step of the levels.
        floor_db: how far below it anything counts as silence.
    """

    def __init__(self, level_step_db: float, floor_db: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.level_step_db, self.floor_db = level_step_db, floor_db

    def call(self, levels: Any) -> Any:
        """[pictures, frames, mel_bands] levels to float [pictures, frames, mel_bands, 1] in 0..1."""
        decibels = keras.ops.cast(levels, self.compute_dtype) * self.level_step_db
        below = decibels - keras.ops.max(decibels, axis=(1, 2), keepdims=True)
        return keras.ops.expand_dims(keras.ops.maximum(below / self.floor_db + 1.0, 0.0), -1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape, 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"level_step_db": self.level_step_db, "floor_db": self.floor_db}


@keras.saving.register_keras_serializable(package="genrebeam")
class Statistics(keras.layers.Layer):
    """The descriptors that the field has used since Tzanetakis & Cook (2002), of one chunk; nothing to learn in here.

    Mean, deviation and deviation of the differences between frames of every Mel band (librosa's delta, of one frame)
    and of the MFCCs (orthonormal DCT-II); how MFCCs go together, in the same frame and after short lags; the
    modulation spectrum of ranges of bands, where tempo and groove show.

    Args:
        frames_per_s: of the levels, for lags and modulation frequencies.
        floor_db: decibels that relative levels from 0 to 1 span.
    """

    MFCCS = 24
    LAGGED_MFCCS = 16
    LAGS_S = (0.093, 0.28)
    RANGES = 16
    MODULATION_HZ = tuple(np.arange(1, 30) * 0.168)

    def __init__(self, frames_per_s: float, floor_db: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.frames_per_s, self.floor_db = frames_per_s, floor_db

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        frames, bands = int(input_shape[1] or 0), int(input_shape[2] or 0)
        coefficients = min(self.MFCCS, bands)
        angle = np.pi / bands * np.arange(coefficients) * (np.arange(bands)[:, np.newaxis] + 0.5)
        self._dct = np.float32(np.cos(angle) * np.sqrt(2 / bands) * np.where(np.arange(coefficients), 1, np.sqrt(0.5)))
        ranges = np.array_split(np.eye(bands), min(self.RANGES, bands))
        self._ranges = np.float32(np.stack([part.mean(axis=0) for part in ranges], axis=1))
        seconds = np.arange(frames)[:, np.newaxis] / self.frames_per_s
        turns = 2j * np.pi * seconds * np.array(self.MODULATION_HZ)
        waves = np.hanning(frames)[:, np.newaxis] * np.exp(turns)
        self._cosines, self._sines = np.float32(waves.real), np.float32(waves.imag)
        row, column = np.triu_indices(coefficients, 1)
        self._pairs = row * coefficients + column
        self._lags = sorted({min(frames - 1, max(1, round(lag * self.frames_per_s))) for lag in self.LAGS_S})
        super().build(input_shape)

    def call(self, relative_levels: Any) -> Any:
        """[batch, frames, mel_bands, 1] in 0..1 to float [batch, statistics]."""
        ops = keras.ops
        decibels = (relative_levels[..., 0] - 1.0) * self.floor_db
        frames = decibels.shape[1]
        mfccs = ops.matmul(decibels, self._dct)
        centred = mfccs - ops.mean(mfccs, axis=1, keepdims=True)
        # A hundredth of a decibel keeps silence from dividing by nothing.
        unit = centred / (ops.std(mfccs, axis=1, keepdims=True) + 0.01)
        together = ops.matmul(ops.transpose(unit, (0, 2, 1)), unit) / frames
        parts = [*_moments(decibels), *_moments(mfccs), ops.take(_flat(together), self._pairs, axis=1)]
        first = unit[:, :, : self.LAGGED_MFCCS]
        for lag in self._lags:
            after = ops.matmul(ops.transpose(first[:, :-lag], (0, 2, 1)), first[:, lag:]) / frames
            parts.append(_flat(after))
        ranges = ops.matmul(decibels, self._ranges)
        ranges = ops.transpose(ranges - ops.mean(ranges, axis=1, keepdims=True), (0, 2, 1))
        power = ops.square(ops.matmul(ranges, self._cosines)) + ops.square(ops.matmul(ranges, self._sines))
        # Not log1p, which LiteRT does not have (model/export.py).
        parts.append(_flat(ops.log(1.0 + ops.sqrt(power + 1e-6))))
        return ops.concatenate(parts, axis=1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"frames_per_s": self.frames_per_s, "floor_db": self.floor_db}


def _moments(x: Any) -> list[Any]:
    """Mean, deviation, deviation of the differences along the second axis."""
    ops = keras.ops
    return [ops.mean(x, axis=1), ops.std(x, axis=1), ops.std(x[:, 1:] - x[:, :-1], axis=1)]


def _flat(x: Any) -> Any:
    return keras.ops.reshape(x, (-1, x.shape[1] * x.shape[2]))


@keras.saving.register_keras_serializable(package="genrebeam")
class Clip(keras.layers.Layer):
    """Values beyond `limit` deviations are cut: a strange recording must not outvote all it is known by."""

    def __init__(self, limit: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit = limit

    def call(self, x: Any) -> Any:
        return keras.ops.clip(x, -self.limit, self.limit)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"limit": self.limit}


@keras.saving.register_keras_serializable(package="genrebeam")
class MeanOpinion(keras.layers.Layer):
    """What several members think together: the mean of their logits."""

    def call(self, logits: list[Any]) -> Any:
        """List of [chunks, genres] to [chunks, genres]."""
        return sum(logits) / len(logits)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        return input_shape[0]


@keras.saving.register_keras_serializable(package="genrebeam")
class Windows(keras.layers.Layer):
    """Neighbours side by side, one window for each chunk: [batch, segments, ...] to [batch, chunks, width, ...].

    Args:
        width: segments in a chunk; of n segments n - width + 1 chunks are made.
        pool: `mean` or `max` over the window, which is then gone from the shape; None to keep it.
    """

    def __init__(self, width: int, pool: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.pool = width, pool

    def call(self, x: Any) -> Any:
        windows = keras.ops.stack([x[:, i : i - self.width + 1 or None] for i in range(self.width)], axis=2)
        return getattr(keras.ops, self.pool)(windows, axis=2) if self.pool else windows

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        count = None if input_shape[1] is None else input_shape[1] - self.width + 1
        return (input_shape[0], count, *(() if self.pool else (self.width,)), *input_shape[2:])

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"width": self.width, "pool": self.pool}


@keras.saving.register_keras_serializable(package="genrebeam")
class Fold(keras.layers.Layer):
    """[batch, count, ...] to [batch * count, ...]: pictures of many stretches go through the same layers at once."""

    def call(self, x: Any) -> Any:
        return keras.ops.reshape(x, (-1, *x.shape[2:]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (None, *input_shape[2:])


@keras.saving.register_keras_serializable(package="genrebeam")
class Unfold(keras.layers.Layer):
    """The inverse of `Fold`: [batch * count, size] to [batch, count, size], as the second argument is arranged."""

    def call(self, inputs: list[Any]) -> Any:
        x, like = inputs
        return keras.ops.reshape(x, (-1, keras.ops.shape(like)[1], x.shape[-1]))

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        return (*input_shape[1][:2], input_shape[0][-1])


@dataclasses.dataclass(frozen=True)
class Network:
    """A network with everything that training looks at.

    Attributes:
        model: uint8 levels [batch, segments, chunk_step_frames, mel_bands] to the logits of the labels, float32 [batch,
            chunks, labels + 1] with chunks = segments - segments_per_chunk + 1: what a bundle holds.
        members: the same levels to {head: float32 [batch, chunks, members, size]}: what each member says, of the labels
            (`GENRES`) and of each further head.
    """

    model: keras.Model
    members: keras.Model


def build_cnn(
    front_end: FrontEnd,
    labels: tuple[str, ...],
    *,
    heads: Mapping[str, int] | None = None,
    widths: tuple[int, ...] = (32, 64, 128, 192, 192),
    hidden: int = 256,
    dropout: float = 0.3,
    floor_db: float = 80.0,
) -> Network:
    """Two members that see the same chunk and are asked together: convolutions, and a layer over `Statistics`.

    The convolutional member: convolutions over time and frequency of each segment, then the mean and the maximum over
    both and over the segments of the chunk. Nothing after its first layer knows which band it looks at: with some
    hundred artists to learn from, networks that did (bands as channels, frequencies stacked before a dense layer)
    learned the artists instead. Pictures are made smaller by maxima in front of each block, which costs what strides
    do, and learns in half the time what they do (docs/history/models-6.md). The other member knows the bands,
    but only by their statistics over the chunk. They err on different tracks.

    Args:
        front_end: fixes the input.
        labels: one output each, that it fits; one more, that none of them does.
        heads: further things to say of a chunk, with how many numbers each has.
        widths: filters of the convolutions.
        hidden: units between statistics and genres.
        dropout: share of the pooled features dropped in training; half of it before the last convolution.
        floor_db: what counts as silence, below the loudest point of the segment or the chunk.
    """
    layers = keras.layers

    def convolution(x: Any, filters: int, size: int, name: str, strides: tuple[int, int] = (1, 1)) -> Any:
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(x)
        return layers.Activation("relu", name=f"{name}_relu")(x)

    width, frames, bands = front_end.segments_per_chunk, front_end.chunk_step_frames, front_end.mel_bands
    time_stride = max(1, round(_STEM_STEP_S * front_end.frames_per_s))
    levels = keras.Input((None, frames, bands), dtype="uint8", name="levels")

    segments = Fold(name="segments")(levels)
    x = RelativeLevels(front_end.level_step_db, floor_db, name="relative_levels")(segments)
    x = layers.BatchNormalization(axis=2, momentum=0.95, name="band_norm")(x)
    x = convolution(x, widths[0], 5, "stem", (time_stride, 4))
    for block, filters in enumerate(widths[1:-1], start=1):
        x = layers.MaxPooling2D(2, padding="same", name=f"block{block}_pool")(x)
        x = convolution(x, filters, 3, f"block{block}")
    x = layers.Dropout(dropout / 2, name="last_block_dropout")(x)
    x = convolution(x, widths[-1], 3, "last_block")
    mean = Unfold(name="mean_of_segment")([layers.GlobalAveragePooling2D(name="mean_of_picture")(x), levels])
    maximum = Unfold(name="maximum_of_segment")([layers.GlobalMaxPooling2D(name="maximum_of_picture")(x), levels])
    pooled = [
        Fold(name="mean_of_chunk")(Windows(width, "mean", name="mean_over_chunk")(mean)),
        Fold(name="maximum_of_chunk")(Windows(width, "max", name="maximum_over_chunk")(maximum)),
    ]
    by_convolution = layers.Dropout(dropout, name="dropout")(layers.Concatenate(name="pooled")(pooled))

    windows = Windows(width, name="windows")(levels)
    chunks = layers.Reshape((width * frames, bands), name="chunks")(Fold(name="segments_of_chunks")(windows))
    x = RelativeLevels(front_end.level_step_db, floor_db, name="relative_levels_of_chunk")(chunks)
    x = Statistics(front_end.frames_per_s, floor_db, name="statistics")(x)
    x = layers.BatchNormalization(momentum=0.98, center=False, scale=False, name="statistics_norm")(x)
    x = Clip(5.0, name="statistics_clip")(x)
    x = layers.Dropout(dropout, name="statistics_dropout")(x)
    x = layers.Dense(hidden, use_bias=False, name="hidden")(x)
    x = layers.BatchNormalization(momentum=0.95, name="hidden_norm")(x)
    x = layers.Activation("relu", name="hidden_relu")(x)
    by_statistics = layers.Dropout(min(0.5, dropout * 5 / 3), name="hidden_dropout")(x)

    outputs: dict[str, list[Any]] = {}
    for head, size in {GENRES: len(labels) + 1, **(heads or {})}.items():
        outputs[head] = [
            layers.Dense(size, name=f"{member}_{head}")(features)
            for member, features in zip(MEMBERS, (by_convolution, by_statistics), strict=True)
        ]
    logits = Unfold(name=GENRES)([MeanOpinion(name=f"{GENRES}_together")(outputs[GENRES]), windows])
    members = {
        head: keras.ops.stack(
            [Unfold(name=f"{m}_{head}_of_chunks")([x, windows]) for m, x in zip(MEMBERS, parts, strict=True)], axis=2
        )
        for head, parts in outputs.items()
    }
    return Network(keras.Model(levels, logits, name="genrebeam_cnn"), keras.Model(levels, members))


def with_knowledge(network: keras.Model) -> keras.Model:
    """A bundle's network with a second output: what it knows of each chunk.

    Args:
        network: `Network.model`, or one that was loaded from a bundle.

    Returns:
        A model that shares its layers and gives the logits and the knowledge, float32 [batch, chunks, numbers]: the
        layers `TAPS`, one behind the other.

    Raises:
        ValueError: it has no such layers; it is of another architecture.
    """
    taps = [network.get_layer(name).output for name in TAPS]
    knowledge = keras.layers.Concatenate(name="knowledge_of_chunk")(taps)
    windows = network.get_layer("windows").output
    outputs = [network.output, Unfold(name="knowledge")([knowledge, windows])]
    return keras.Model(network.input, outputs, name="with_knowledge")


def with_words(network: keras.Model, kernel: np.ndarray, bias: np.ndarray) -> keras.Model:
    """The trunk of a bundle's network with other words: logits that are linear in its knowledge.

    Args:
        network: as for `with_knowledge`.
        kernel, bias: float32 [numbers, words + 1] and [words + 1].
    """
    dense = keras.layers.Dense(len(bias), name="words")
    whole = with_knowledge(network)
    model = keras.Model(whole.input, dense(whole.outputs[1]))
    dense.set_weights([kernel, bias])
    return model
