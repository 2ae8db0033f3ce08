"""Samples to log-Mel levels, streaming or whole: librosa's Mel power spectrogram in float32 and blocks.

Agreement with librosa is a test: within one level (half a decibel) everywhere above the noise of
float32, see tests/features/test_mel.py.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.features.fft import rfft
from genrebeam.features.resample import power_left

# Samples per FFT call: 0.8 MB of float32, about what a second-level cache holds; fewer cost more calls.
_BLOCK_SAMPLES = 96 * 2048
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


def bands_below(front_end: FrontEnd, hz: float) -> int:
    """How many bands have any energy of a sound with nothing above `hz`."""
    return int(np.searchsorted(band_edges_hz(front_end)[:-2], hz))


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
def _banded(front_end: FrontEnd, factor: int) -> tuple[tuple[slice, slice, NDArray[np.float32]], ...]:
    """The filters in groups of neighbouring bands, each with the bins that any of them reaches: 97 % of them are zeros.

    Args:
        factor: as for LogMelStream.

    Returns:
        For each group its part of an array of squared real and imaginary parts, side by side as in a complex array, its
        bands, and float32 [parts, bands] in which the filter of a bin stands twice: one product squares and adds.
    """
    filters = mel_filters(front_end.oversampled(factor))
    if factor > 1:
        filters = filters * power_left(factor, factor * front_end.n_fft)[:, np.newaxis]
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
    floor = np.float32(10 ** (front_end.level_floor_db / 10))
    levels = np.fmax(mel_power, floor)  # fmax(nan, floor) is the floor
    # The natural logarithm, because NumPy has vector instructions for it and none for the common one.
    np.log(levels, out=levels)
    levels *= np.float32(10 / np.log(10) / front_end.level_step_db)
    levels -= np.float32(front_end.level_floor_db / front_end.level_step_db - 0.5)  # casting cuts, so this rounds
    return np.fmin(levels, 255, out=levels).astype(np.uint8)


class FrameStream:
    """Frames of a signal that arrives in blocks of any length; they do not depend on the cuts.

    Frame i is centred on sample `i * hop_length`, with zeros before the first and after the last sample
    (librosa's `center=True, pad_mode="constant"`), so n samples give `1 + n // hop_length` frames.

    Samples are copied once, into the one buffer that there is; what is yielded are views of it.
    """

    def __init__(self, front_end: FrontEnd, dtype: DTypeLike = np.float32) -> None:
        self._n_fft, self._hop_length = front_end.n_fft, front_end.hop_length
        self.block_frames = max(1, _BLOCK_SAMPLES // self._n_fft)
        self._gone = self.block_frames * self._hop_length  # samples that no later frame reaches
        self._samples = np.zeros(self._gone + front_end.n_fft - front_end.hop_length, dtype)
        self._frames = np.lib.stride_tricks.sliding_window_view(self._samples, self._n_fft)[:: self._hop_length]
        self._held = self._n_fft // 2

    def push(self, samples: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Take [n] samples; yield [frames, n_fft] of the blocks that they complete, each to be used at once."""
        while len(samples):
            taken = samples[: len(self._samples) - self._held]
            self._samples[self._held : self._held + len(taken)] = taken
            self._held += len(taken)
            samples = samples[len(taken) :]
            if self._held == len(self._samples):
                yield self._frames
                self._held -= self._gone
                self._samples[: self._held] = self._samples[self._gone :]

    def finish(self) -> Iterator[NDArray[Any]]:
        """All frames that are left, those that reach past the last sample among them: [frames, n_fft]."""
        yield from self.push(np.zeros(self._n_fft // 2, self._samples.dtype))
        yield self._frames[: 1 + (self._held - self._n_fft) // self._hop_length]


class LogMelStream:
    """Log-Mel levels of a signal that arrives in blocks of any length, one row for each frame of `FrameStream`.

    Args:
        factor: how many times the front end's rate the samples have. Longer FFTs of which the higher bins are not
            looked at cost less than resampling first, and say the same.
    """

    def __init__(self, front_end: FrontEnd, factor: int = 1) -> None:
        self._front_end = front_end
        self._filters = _banded(front_end, factor)
        self._reached = max(reached.stop for reached, _, _ in self._filters)
        oversampled = front_end.oversampled(factor)
        # Periodic, as the STFT wants it; of `factor` times as many samples the mean.
        self._window = (np.hanning(oversampled.n_fft + 1)[:-1] / factor).astype(np.float32)
        self._frames = FrameStream(oversampled)
        # Used again for each block: fresh memory costs more than what is computed in it.
        self._windowed = np.empty((self._frames.block_frames, oversampled.n_fft), np.float32)
        self._power = np.empty((self._frames.block_frames, front_end.mel_bands), np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Take float32 [n] samples; return uint8 [frames, mel_bands] of the blocks of frames that they complete."""
        return self._levels(self._frames.push(samples))

    def finish(self) -> NDArray[np.uint8]:
        """All frames that are left: uint8 [frames, mel_bands]."""
        return self._levels(self._frames.finish())

    def _levels(self, blocks: Iterator[NDArray[np.float32]]) -> NDArray[np.uint8]:
        none = np.empty((0, self._front_end.mel_bands), np.uint8)
        return np.concatenate([none, *(self._levels_of_block(block) for block in blocks)])

    def _levels_of_block(self, block: NDArray[np.float32]) -> NDArray[np.uint8]:
        windowed = np.multiply(block, self._window, out=self._windowed[: len(block)])
        parts = rfft(windowed).view(np.float32)[:, : self._reached]  # real and imaginary, side by side
        np.square(parts, out=parts)
        power = self._power[: len(block)]
        for reached, bands, filters in self._filters:
            np.matmul(parts[:, reached], filters, out=power[:, bands])
        return levels_of_power(power, self._front_end)


def log_mel(samples: NDArray[np.float32], front_end: FrontEnd, factor: int = 1) -> NDArray[np.uint8]:
    """Levels of a whole signal: float32 [n] in [-1, 1] to uint8 [1 + n // (factor * hop_length), mel_bands]."""
    stream = LogMelStream(front_end, factor)
    return np.concatenate([stream.push(samples), stream.finish()])
