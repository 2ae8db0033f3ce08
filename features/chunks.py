"""Chunks as views over one spectrogram: overlap costs no memory and no copy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd

Value = TypeVar("Value", bound=np.generic)
_BETWEEN_S = 0.5  # stretches closer than that are not worth seeking for


def chunk_count(frames: int, front_end: FrontEnd) -> int:
    """How many chunks a spectrogram of `frames` frames has; at least 1 for a track with any frame."""
    if frames <= 0:
        return 0
    return 1 + max(0, frames - front_end.chunk_frames) // front_end.chunk_step_frames


def chunks_of(log_mel: NDArray[Value], front_end: FrontEnd) -> NDArray[Value]:
    """Overlapping chunks of a track.

    Chunk i begins at frame `i * chunk_step_frames`. A tail shorter than one step has no chunk of its own: all but its
    last moments lie in the chunk before. A track shorter than one chunk is repeated
    until it fills one: a network trained on full chunks hears music to the end, not a silence that
    the track does not have.

    Args:
        log_mel: uint8 [frames, mel_bands], C-contiguous; or any other values of each frame.

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


def stretch_segments(front_end: FrontEnd) -> int:
    """Segments in a stretch of a track that is not heard as a whole: two chunks (six seconds)."""
    return front_end.segments_per_chunk + 1


def stretch_starts_s(length_s: float, coverage_s: float, front_end: FrontEnd) -> tuple[float, ...]:
    """Where the stretches begin that cover so much of a track: each in the middle of its equal share.

    None for a track that is to be heard as a whole, because the stretches would leave nothing out, or because its
    length is not known (0).
    """
    stretch_s = stretch_segments(front_end) * front_end.chunk_step_frames / front_end.frames_per_s
    count = max(1, int(coverage_s / stretch_s))
    share_s = length_s / count
    if share_s < stretch_s + _BETWEEN_S:
        return ()
    return tuple((i + 0.5) * share_s - stretch_s / 2 for i in range(count))


def whole_chunks(
    count: int, front_end: FrontEnd, stretches_s: Sequence[float] = ()
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which of the chunks of a log-Mel are chunks of the track, and where in the track those begin, in seconds.

    Where a track was heard in stretches, which lie one after the other in its log-Mel, a chunk that reaches from one
    into the next is not music of the track, and is left out.

    Args:
        count: chunks, as `chunks_of` and `segments_of` make them.
        stretches_s: where the stretches begin; none where the track was heard as a whole.
    """
    number = np.arange(count)
    step_s = np.float64(front_end.chunk_step_frames / front_end.frames_per_s)
    if not stretches_s:
        return np.ones(count, bool), number * step_s
    stretch, within = np.divmod(number, stretch_segments(front_end))
    whole = within <= stretch_segments(front_end) - front_end.segments_per_chunk
    return whole, np.array(stretches_s, np.float64)[stretch[whole]] + within[whole] * step_s


# A chunk whose loudest Mel band stays below this is silence: a sine of -80 dB full scale, under the hiss of
# a 16-bit recording's quietest passage.
SILENCE_DB = -40.0


def audible(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.bool_]:
    """Which chunks hold anything to hear: uint8 [..., frames, mel_bands] to bool [...]."""
    threshold = (SILENCE_DB - front_end.level_floor_db) / front_end.level_step_db
    return np.asarray(levels.max(axis=(-2, -1), initial=0) > threshold)
