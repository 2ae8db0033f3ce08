"""The network: log-Mel levels of one chunk in, one logit per genre out.

Everything that decides what a level means to the network is inside it, so a saved model needs no
preprocessing beside it. What the levels are is features/config.py's business; how the network learns, model/train.py's.
"""

from __future__ import annotations

import math
from typing import Any

import keras

from features.config import FrontEnd

# One input frame in about this many seconds after the first convolution, whatever the hop: the cost of
# a chunk hardly depends on the hop then, and the filters after it always span the same time.
_STEM_STEP_S = 0.186


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


def build_cnn(
    front_end: FrontEnd,
    labels: tuple[str, ...],
    *,
    widths: tuple[int, int, int, int] = (24, 48, 96, 128),
    hidden: int = 192,
    dropout: float = 0.4,
    floor_db: float = 60.0,
) -> keras.Model:
    """A small CNN: four convolutions over time and frequency, then one over time across all frequencies.

    The frequency axis is kept to the end and flattened into the channels instead of being averaged away: where in
    the spectrum something happens says as much about a genre as what happens.

    Args:
        front_end: fixes the input, uint8 [batch, chunk_frames, mel_bands].
        labels: one output each.
        widths: filters of the four convolutions. The defaults cost 0.4 ms a chunk on one core.
        hidden: width of the last layer before the logits.
        dropout: share of the inputs of the last two layers dropped in training.
        floor_db: what counts as silence, below the loudest point of the chunk.

    Returns:
        A model that takes levels and gives logits, float32 [batch, len(labels)].
    """
    layers = keras.layers

    def convolution(x: Any, filters: int, size: int, name: str, strides: tuple[int, int] = (1, 1)) -> Any:
        x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=name)(x)
        x = layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(x)
        return layers.Activation("relu", name=f"{name}_relu")(x)

    time_stride = max(1, round(_STEM_STEP_S * front_end.frames_per_s))
    levels = keras.Input((front_end.chunk_frames, front_end.mel_bands), dtype="uint8", name="levels")
    x = RelativeLevels(front_end.level_step_db, floor_db, name="relative_levels")(levels)
    x = convolution(x, widths[0], 5, "stem", (time_stride, 2))
    x = layers.MaxPooling2D((1, 2), padding="same", name="stem_pool")(x)
    for block, filters in enumerate(widths[1:3], start=1):
        x = convolution(x, filters, 3, f"block{block}")
        x = layers.MaxPooling2D((2, 2), padding="same", name=f"block{block}_pool")(x)
    x = convolution(x, widths[3], 3, "block3")
    x = layers.MaxPooling2D((1, 2), padding="same", name="block3_pool")(x)
    x = layers.Reshape((x.shape[1], math.prod(x.shape[2:])), name="stack_frequencies")(x)
    x = layers.Dropout(dropout / 2, name="hidden_dropout")(x)
    x = layers.Conv1D(hidden, 1, use_bias=False, name="hidden")(x)
    x = layers.BatchNormalization(momentum=0.95, name="hidden_norm")(x)
    x = layers.Activation("relu", name="hidden_relu")(x)
    pooled = [
        layers.GlobalAveragePooling1D(name="mean_over_time")(x),
        layers.GlobalMaxPooling1D(name="max_over_time")(x),
    ]
    x = layers.Concatenate(name="pooled")(pooled)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(levels, layers.Dense(len(labels), name="logits")(x), name="genrebeam_cnn")
