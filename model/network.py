"""The network: log-Mel levels of one chunk in, one logit per genre out.

Everything that decides what a level means to the network is inside it, so a saved model needs no
preprocessing beside it. What the levels are is features/config.py's business; how the network learns, model/train.py's.
"""

from __future__ import annotations

from typing import Any

import keras

from features.config import FrontEnd

# Seconds from one frame to the next after the first convolution, whatever the hop: the cost of a chunk
# hardly depends on the hop then, and the filters after it always span the same time.
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
    widths: tuple[int, ...] = (16, 32, 64, 128, 128),
    dropout: float = 0.3,
    floor_db: float = 80.0,
) -> keras.Model:
    """A small CNN over time and frequency: convolutions and pooling, then the mean and the maximum over both.

    Nothing after the first layer knows which band it looks at: with some hundred artists to learn from, networks
    that did (convolutions over time with bands as channels, frequencies stacked before a dense layer) learned the
    artists instead (docs/experiments.md). The first layer's scale and offset of each Mel band are all of it.

    Args:
        front_end: fixes the input, uint8 [batch, chunk_frames, mel_bands].
        labels: one output each.
        widths: filters of the convolutions. The defaults cost 0.3 ms a chunk on one core.
        dropout: share of the pooled features dropped in training; half of it before the last convolution.
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
    x = layers.BatchNormalization(axis=2, momentum=0.95, name="band_norm")(x)
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
    return keras.Model(levels, layers.Dense(len(labels), name="logits")(x), name="genrebeam_cnn")
