"""Samples to log-Mel levels, streaming or whole: librosa's Mel power spectrogram in float32 and blocks.

Agreement with librosa is a test: within one level (half a decibel) everywhere above the noise of
float32, see tests/features/test_mel.py.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from scipy import fft

from features.config import FrontEnd

# Frames per FFT call: 128 x 2048 float32 is one megabyte, which stays in the second-level cache.
_BLOCK_FRAMES = 128
_GROUP_BANDS = 16  # filtered together: wider groups have more zeros, narrower ones more calls


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Slaney's Mel scale (Auditory Toolbox, 1998): linear to 1 kHz, 27 steps per factor 6.4 above."""
    linear = hz * 3 / 200
    return np.where(hz < 1000, linear, 15 + 27 * np.log(np.maximum(hz, 1000) / 1000) / np.log(6.4))


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))


def band_edges_hz(front_end: FrontEnd) -> NDArray[np.float64]:
    """Where the bands begin, peak and end: band i begins at [i], peaks at [i + 1] and ends at [i + 2]."""
    low, high = _hz_to_mel(np.array([front_end.fmin_hz, front_end.fmax_hz]))
    return _mel_to_hz(np.linspace(low, high, front_end.mel_bands + 2))


@functools.lru_cache(maxsize=4)
def mel_filters(front_end: FrontEnd) -> NDArray[np.float32]:
    """Triangular filters of unit area, as `librosa.filters.mel(norm="slaney")` defines them, transposed.

    Written out here because importing librosa.filters takes a second (it pulls in numba), which every
    decoding process would pay; a test holds the two equal.

    Returns:
        float32 [n_fft // 2 + 1, mel_bands].
    """
    bins_hz = np.arange(front_end.n_fft // 2 + 1) * front_end.sample_rate_hz / front_end.n_fft
    edges_hz = band_edges_hz(front_end)
    lower, centre, upper = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    rising = (bins_hz[:, None] - lower) / (centre - lower)
    falling = (upper - bins_hz[:, None]) / (upper - centre)
    triangles = np.maximum(0, np.minimum(rising, falling))
    return np.ascontiguousarray(triangles * 2 / (upper - lower), np.float32)


@functools.lru_cache(maxsize=4)
def _banded(front_end: FrontEnd) -> tuple[tuple[slice, slice, NDArray[np.float32]], ...]:
    """The filters in groups of neighbouring bands, each with the bins that any of them reaches: 97 % of them are zeros.

    Returns:
        For each group its part of an array of squared real and imaginary parts, side by side as in a complex array, its
        bands, and float32 [parts, bands] in which the filter of a bin stands twice: one product squares and adds.
    """
    filters = mel_filters(front_end)
    groups = []
    for first in range(0, front_end.mel_bands, _GROUP_BANDS):
        bands = slice(first, min(first + _GROUP_BANDS, front_end.mel_bands))
        used = np.flatnonzero(filters[:, bands].any(axis=1))
        start, stop = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        twice = np.ascontiguousarray(filters[start:stop, bands].repeat(2, axis=0))
        groups.append((slice(2 * start, 2 * stop), bands, twice))
    return tuple(groups)


def levels_of_power(mel_power: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.uint8]:
    """Mel power to levels as features/config.py defines them; what is not a number becomes level 0."""
    # The natural logarithm, because NumPy has vector instructions for it and none for the common one.
    per_step = 10 / np.log(10) / front_end.level_step_db
    levels = np.log(np.maximum(mel_power, np.float32(1e-10)))
    levels *= np.float32(per_step)
    levels -= np.float32(front_end.level_floor_db / front_end.level_step_db)
    np.fmax(levels, 0, out=levels)  # fmax(nan, 0) is 0
    np.fmin(levels, 255, out=levels)
    return np.rint(levels, out=levels).astype(np.uint8)


class FrameStream:
    """Frames of a signal that arrives in blocks of any length; they do not depend on the cuts.

    Frame i is centred on sample `i * hop_length`, with zeros before the first and after the last sample
    (librosa's `center=True, pad_mode="constant"`), so n samples give `1 + n // hop_length` frames.
    """

    def __init__(self, front_end: FrontEnd, dtype: DTypeLike = np.float32) -> None:
        self._n_fft, self._hop_length = front_end.n_fft, front_end.hop_length
        self._pending = np.zeros(self._n_fft // 2, dtype)

    def push(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Take [n] samples; return [frames, n_fft] of the frames they complete, a read-only view."""
        signal = np.concatenate([self._pending, samples])
        frames = max(0, 1 + (len(signal) - self._n_fft) // self._hop_length)
        self._pending = signal[frames * self._hop_length :]
        if frames == 0:
            return np.empty((0, self._n_fft), signal.dtype)
        return np.lib.stride_tricks.sliding_window_view(signal, self._n_fft)[:: self._hop_length]

    def finish(self) -> NDArray[Any]:
        """The frames that reach past the last sample: [frames, n_fft]."""
        return self.push(np.zeros(self._n_fft // 2, self._pending.dtype))


class LogMelStream:
    """Log-Mel levels of a signal that arrives in blocks of any length, one row for each frame of `FrameStream`."""

    def __init__(self, front_end: FrontEnd) -> None:
        self._front_end = front_end
        self._window = np.hanning(front_end.n_fft + 1)[:-1].astype(np.float32)  # periodic, as the STFT wants it
        self._frames = FrameStream(front_end)
        self._waiting: list[NDArray[np.float32]] = []  # samples for less than a block of frames

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Take float32 [n] samples; return uint8 [frames, mel_bands] of the blocks of frames that they complete."""
        self._waiting.append(samples)
        if sum(map(len, self._waiting)) < _BLOCK_FRAMES * self._front_end.hop_length:
            return np.empty((0, self._front_end.mel_bands), np.uint8)
        return self._levels(self._frames.push(self._gathered()))

    def finish(self) -> NDArray[np.uint8]:
        """All frames that are left, those that reach past the last sample among them: uint8 [frames, mel_bands]."""
        rest = self._levels(self._frames.push(self._gathered()))
        return np.concatenate([rest, self._levels(self._frames.finish())])

    def _gathered(self) -> NDArray[np.float32]:
        gathered = np.concatenate(self._waiting) if self._waiting else np.empty(0, np.float32)
        self._waiting = []
        return gathered

    def _levels(self, frames: NDArray[np.float32]) -> NDArray[np.uint8]:
        levels = np.empty((len(frames), self._front_end.mel_bands), np.uint8)
        for start in range(0, len(frames), _BLOCK_FRAMES):
            block = frames[start : start + _BLOCK_FRAMES] * self._window
            parts = fft.rfft(block, axis=1, overwrite_x=True).view(np.float32)  # real and imaginary, side by side
            np.square(parts, out=parts)
            power = np.empty((len(block), self._front_end.mel_bands), np.float32)
            for reached, bands, filters in _banded(self._front_end):
                power[:, bands] = parts[:, reached] @ filters
            levels[start : start + _BLOCK_FRAMES] = levels_of_power(power, self._front_end)
        return levels


def log_mel(samples: NDArray[np.float32], front_end: FrontEnd) -> NDArray[np.uint8]:
    """Levels of a whole signal: float32 [n] in [-1, 1] to uint8 [1 + n // hop_length, mel_bands]."""
    stream = LogMelStream(front_end)
    return np.concatenate([stream.push(samples), stream.finish()])
