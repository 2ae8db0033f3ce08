"""Chunks as views over one spectrogram: overlap costs no memory and no copy."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from features.config import FrontEnd

Value = TypeVar("Value", bound=np.generic)


def chunk_count(frames: int, front_end: FrontEnd) -> int:
    """How many chunks a spectrogram of `frames` frames has; at least 1 for a track with any frame."""
    if frames <= 0:
        return 0
    return 1 + max(0, frames - front_end.chunk_frames) // front_end.chunk_step_frames


def chunks_of(log_mel: NDArray[Value], front_end: FrontEnd) -> NDArray[Value]:
    """Overlapping chunks of a track.

    Chunk i begins at frame `i * chunk_step_frames`. A tail shorter than one step is not heard on its
    own (all but its last moments lie in the chunk before). A track shorter than one chunk is repeated
    until it fills one: a network trained on full chunks hears music to the end, not a silence that
    the track does not have.

    Args:
        log_mel: uint8 [frames, mel_bands], C-contiguous; or anything else that is told of each frame.

    Returns:
        [chunks, chunk_frames, mel_bands] of the same type: a read-only view, except for the repeated short track.
    """
    frames = log_mel.shape[0]
    if 0 < frames < front_end.chunk_frames:
        repeats = -(-front_end.chunk_frames // frames)
        return np.tile(log_mel, (repeats, 1))[np.newaxis, : front_end.chunk_frames]
    if frames == 0:
        return np.empty((0, front_end.chunk_frames, log_mel.shape[1]), log_mel.dtype)
    windows = np.lib.stride_tricks.sliding_window_view(log_mel, front_end.chunk_frames, axis=0)
    return np.swapaxes(windows[:: front_end.chunk_step_frames], 1, 2)


def segments_of(log_mel: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.uint8]:
    """The same chunks as the segments they share: a chunk is `segments_per_chunk` of them, each one step long.

    Chunk i is segments i to i + segments_per_chunk - 1, so that overlapping chunks need no moment twice. Less than a
    step is left over where a chunk is no whole number of steps (one frame of 43 at hop 2048); it is not heard.

    Args:
        log_mel: uint8 [frames, mel_bands], C-contiguous.

    Returns:
        uint8 [segments, chunk_step_frames, mel_bands]: a view, except for a track shorter than a chunk, which is
        repeated as in `chunks_of`. No segments for a track without frames.
    """
    frames = log_mel.shape[0]
    if frames == 0:
        return np.empty((0, front_end.chunk_step_frames, log_mel.shape[1]), log_mel.dtype)
    if frames < front_end.chunk_frames:
        (log_mel,) = chunks_of(log_mel, front_end)
    count = chunk_count(frames, front_end) - 1 + front_end.segments_per_chunk
    return log_mel[: count * front_end.chunk_step_frames].reshape(count, front_end.chunk_step_frames, -1)


# A chunk whose loudest Mel band stays below this is silence: a sine of -80 dB full scale, under the hiss of
# a 16-bit recording's quietest passage.
SILENCE_DB = -40.0


def audible(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.bool_]:
    """Which chunks hold anything to hear: uint8 [..., frames, mel_bands] to bool [...]."""
    threshold = (SILENCE_DB - front_end.level_floor_db) / front_end.level_step_db
    return np.asarray(levels.max(axis=(-2, -1), initial=0) > threshold)
