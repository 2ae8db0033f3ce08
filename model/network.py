"""The network: log-Mel levels of one chunk in, one logit per genre out.

Everything that decides what a level means to the network is inside it, so a saved model needs no
preprocessing beside it. What the levels are is features/config.py's business; how the network learns, model/train.py's.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from features.config import FrontEnd

# Seconds from one frame to the next after the first convolution, whatever the hop: the cost of a chunk
# hardly depends on the hop then, and the filters after it always span the same time.
_STEM_STEP_S = 0.186

# The layers of `build_cnn` that hold the members' logits.
MEMBERS = ("convolution_logits", "statistics_logits")


@keras.saving.register_keras_serializable(package="genrebeam")
class RelativeLevels(keras.layers.Layer):
    """Levels as loudness below the loudest point of the chunk, from 0 (floor and below) to 1 (the loudest).

    That makes the network blind to gain: the same recording 20 dB softer gives the same numbers.

    Args:
        level_step_db: decibels in one step of the levels.
        floor_db: how far below the loudest point anything counts as silence.
    """

    def __init__(self, level_step_db: float, floor_db: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.level_step_db, self.floor_db = level_step_db, floor_db

    def call(self, levels: Any) -> Any:
        """[batch, frames, mel_bands] levels to float [batch, frames, mel_bands, 1] in 0..1."""
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
        parts.append(_flat(ops.log1p(ops.sqrt(power + 1e-6))))
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
    """What several members think together: the mean of their log-probabilities (a geometric mean)."""

    def call(self, logits: list[Any]) -> Any:
        """List of [batch, genres] to [batch, genres]."""
        return sum(keras.ops.log_softmax(member, axis=-1) for member in logits) / len(logits)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        return input_shape[0]


def build_cnn(
    front_end: FrontEnd,
    labels: tuple[str, ...],
    *,
    widths: tuple[int, ...] = (24, 48, 96, 128, 128),
    hidden: int = 256,
    dropout: float = 0.3,
    floor_db: float = 80.0,
) -> keras.Model:
    """Two members that see the same chunk and are asked together: convolutions, and a layer over `Statistics`.

    The convolutional member: convolutions over time and frequency, then the mean and the maximum over both. Nothing
    after its first layer knows which band it looks at: with some hundred artists to learn from, networks that did
    (bands as channels, frequencies stacked before a dense layer) learned the artists instead. The other member knows
    the bands, but only by their statistics. They err on different tracks (docs/experiments.md).

    Args:
        front_end: fixes the input, uint8 [batch, chunk_frames, mel_bands].
        labels: one output each.
        widths: filters of the convolutions. The defaults cost 0.3 ms a chunk on one core.
        hidden: units between statistics and genres.
        dropout: share of the pooled features dropped in training; half of it before the last convolution.
        floor_db: what counts as silence, below the loudest point of the chunk.

    Returns:
        A model that takes levels and gives logits, float32 [batch, len(labels)]. Its layers `MEMBERS` give those of
        each member; training looks at them one by one.
    """
    layers = keras.layers

    def convolution(x: Any, filters: int, size: int, name: str, strides: tuple[int, int] = (1, 1)) -> Any:
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(x)
        return layers.Activation("relu", name=f"{name}_relu")(x)

    time_stride = max(1, round(_STEM_STEP_S * front_end.frames_per_s))
    levels = keras.Input((front_end.chunk_frames, front_end.mel_bands), dtype="uint8", name="levels")
    relative = RelativeLevels(front_end.level_step_db, floor_db, name="relative_levels")(levels)
    x = layers.BatchNormalization(axis=2, momentum=0.95, name="band_norm")(relative)
    x = convolution(x, widths[0], 5, "stem", (time_stride, 2))
    x = layers.MaxPooling2D((1, 2), padding="same", name="stem_pool")(x)
    for block, filters in enumerate(widths[1:-1], start=1):
        x = convolution(x, filters, 3, f"block{block}")
        x = layers.MaxPooling2D(2, padding="same", name=f"block{block}_pool")(x)
    x = layers.Dropout(dropout / 2, name="last_block_dropout")(x)
    x = convolution(x, widths[-1], 3, "last_block")
    pooled = [layers.GlobalAveragePooling2D(name="mean")(x), layers.GlobalMaxPooling2D(name="maximum")(x)]
    x = layers.Concatenate(name="pooled")(pooled)
    x = layers.Dropout(dropout, name="dropout")(x)
    by_convolution = layers.Dense(len(labels), name=MEMBERS[0])(x)

    x = Statistics(front_end.frames_per_s, floor_db, name="statistics")(relative)
    x = layers.BatchNormalization(momentum=0.98, center=False, scale=False, name="statistics_norm")(x)
    x = Clip(5.0, name="statistics_clip")(x)
    x = layers.Dropout(dropout, name="statistics_dropout")(x)
    x = layers.Dense(hidden, use_bias=False, name="hidden")(x)
    x = layers.BatchNormalization(momentum=0.95, name="hidden_norm")(x)
    x = layers.Activation("relu", name="hidden_relu")(x)
    x = layers.Dropout(min(0.5, dropout * 5 / 3), name="hidden_dropout")(x)
    by_statistics = layers.Dense(len(labels), name=MEMBERS[1])(x)
    return keras.Model(levels, MeanOpinion(name="logits")([by_convolution, by_statistics]), name="genrebeam_cnn")
