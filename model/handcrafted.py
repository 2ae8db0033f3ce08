"""The features that tutorials compute by hand, here from the log-Mel levels of a chunk: arrays in, arrays out.

Shards hold no audio: chroma and tempo are read off the Mel spectrum. Only zero crossings need the waveform itself;
where it is at hand, the rate in each frame is computed from it once, and is cut into chunks as the levels are. What
is learned from the features, model/contenders.py says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.features.mel import FrameStream, band_edges_hz

Features = Callable[[NDArray[np.uint8], FrontEnd], NDArray[np.float32]]
_FLOOR_DB = 80.0
_MFCCS = 20
_DELTA_FRAMES = 9  # librosa's default
# Below, a Mel band of the usual front end is wider than a semitone; above, partials say nothing about the key.
_CHROMA_HZ = 400.0, 5000.0
_TEMPI_BPM = np.geomspace(40, 240, 121)
_SLICE = 1024  # chunks at a time: 128 bands and 86 frames of them are 45 MB of float32
_ZERO = 1e-10  # librosa's: samples as near to zero as this are zero, which has the sign of what is above it


def decibels(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """Decibels below the loudest point of each chunk, not below -80: float32 of the same shape."""
    values = levels.astype(np.float32) * front_end.level_step_db
    return np.maximum(values - values.max(axis=(1, 2), keepdims=True), -_FLOOR_DB)


def log_mel_statistics(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """Mean, deviation and deviation of the frame-to-frame difference of each Mel band: [chunks, 3 mel_bands]."""
    return _statistics(decibels(levels, front_end))


def mfcc_with_deltas(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """Mean and deviation of 20 MFCCs, of their deltas and of their second deltas: [chunks, 120].

    MFCCs are the orthonormal DCT-II of the decibels; deltas are slopes and curvatures of polynomials fitted to nine
    frames (Savitzky & Golay 1964). Both as in librosa.feature.mfcc and librosa.feature.delta.
    """
    from scipy.fft import dct
    from scipy.signal import savgol_filter

    mfcc = dct(decibels(levels, front_end), axis=2, norm="ortho")[:, :, :_MFCCS]
    frames = min(_DELTA_FRAMES, (mfcc.shape[1] - 1) // 2 * 2 + 1)
    deltas = [savgol_filter(mfcc, frames, polyorder=order, deriv=order, axis=1) for order in (1, 2)]
    parts = [part for values in (mfcc, *deltas) for part in (values.mean(axis=1), values.std(axis=1))]
    return np.concatenate(parts, axis=1).astype(np.float32)


def chroma_statistics(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """The three of `log_mel_statistics`, of the 12 pitch classes from C to B: [chunks, 36].

    Each Mel band between 400 and 5,000 Hz gives its power to the two classes next to its centre, in proportion; each
    frame is divided by its strongest class, as librosa.feature.chroma_stft does.
    """
    centres_hz = band_edges_hz(front_end)[1:-1]
    pitch = 12 * np.log2(centres_hz / 440) + 9  # of A above the C below it
    lower = np.floor(pitch).astype(int)
    inside = (centres_hz >= _CHROMA_HZ[0]) & (centres_hz <= _CHROMA_HZ[1])
    filters = np.zeros((len(pitch), 12), np.float32)
    filters[np.arange(len(pitch)), lower % 12] = inside * (1 - (pitch - lower))
    filters[np.arange(len(pitch)), (lower + 1) % 12] = inside * (pitch - lower)
    chroma = 10 ** (decibels(levels, front_end) / 10) @ filters
    return _statistics(chroma / np.maximum(chroma.max(axis=2, keepdims=True), 1e-9))


def spectral_statistics(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """The same three of centroid, bandwidth, roll-off (85 %), flatness and contrast in 6 ranges: [chunks, 30].

    Definitions as in librosa.feature, over Mel bands instead of FFT bins; the first three are in bands.
    """
    level_db = decibels(levels, front_end)
    power = 10 ** (level_db / 10)
    share = power / power.sum(axis=2, keepdims=True)
    band = np.arange(front_end.mel_bands, dtype=np.float32)
    centroid = (share * band).sum(axis=2)
    bandwidth = np.sqrt((share * (band - centroid[:, :, None]) ** 2).sum(axis=2))
    roll_off = (share.cumsum(axis=2) < 0.85).sum(axis=2)
    flatness = level_db.mean(axis=2) - 10 * np.log10(power.mean(axis=2))
    ranges = [np.sort(part, axis=2) for part in np.array_split(level_db, 6, axis=2)]
    contrast = [part[:, :, -2:].mean(axis=2) - part[:, :, :2].mean(axis=2) for part in ranges]
    return _statistics(np.stack([centroid, bandwidth, roll_off, flatness, *contrast], axis=2))


def rhythm_statistics(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """Tempo in beats per minute, how clear its pulse is (1: perfectly), and a tempogram of 25 tempi: [chunks, 27].

    The onset envelope is the mean rise over all bands (Boeck & Widmer 2013, as librosa.onset.onset_strength); the
    tempogram its autocorrelation at the period of each tempo from 40 to 240 (Grosche & Mueller 2010), relative to the
    envelope's own power, and not weaker for long periods, of which a chunk holds few. Frames are too coarse for
    periods of whole frames, so it is read between them, off the power spectrum (Wiener & Khinchin). The tempo is its
    maximum, with tempi near 120 preferred as in librosa.feature.tempo: fast ones are often heard at half their speed.
    """
    rises = np.maximum(np.diff(decibels(levels, front_end), axis=1), 0).mean(axis=2)
    rises -= rises.mean(axis=1, keepdims=True)
    frames = rises.shape[1]
    bins = np.arange(frames + 1)
    # Smoothed with (1, 2, 1) / 4: a click is shorter than a frame, and would be heard between frames as an echo.
    power = np.abs(np.fft.rfft(rises, 2 * frames, axis=1)) ** 2 * np.cos(np.pi / 2 / frames * bins) ** 4
    # Every frequency but the first and the last stands for two.
    power[:, 1:-1] *= 2
    periods = np.minimum(60 / _TEMPI_BPM * front_end.frames_per_s, frames - 1)
    waves = np.cos(np.pi / frames * np.outer(bins, periods))
    pulse = (power @ waves) / np.maximum(power.sum(axis=1, keepdims=True), 1e-9) / (1 - periods / frames)
    preference = np.exp(-0.5 * np.log2(_TEMPI_BPM / 120) ** 2)
    best = (np.maximum(pulse, 0) * preference).argmax(axis=1)
    clarity = np.take_along_axis(pulse, best[:, None], axis=1)
    return np.concatenate([_TEMPI_BPM[best][:, None], clarity, pulse[:, ::5]], axis=1).astype(np.float32)


def zero_crossing_rate(blocks: Iterable[NDArray[np.float32]], front_end: FrontEnd) -> NDArray[np.float32]:
    """The share of a frame's samples at which the sign changes: float32 [frames], the very frames of the log-Mel.

    As librosa.feature.zero_crossing_rate has it: a frame's first sample is not compared with the one before it, and
    beyond the ends of the signal nothing changes.

    Args:
        blocks: the signal, float32 [samples], cut anywhere.
    """
    stream = FrameStream(front_end, bool)

    def share(changes: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.count_nonzero(changes[:, 1:], axis=1) / front_end.n_fft

    rates = [share(frames) for changes in _sign_changes(blocks) for frames in stream.push(changes)]
    return np.concatenate([*rates, *map(share, stream.finish())]).astype(np.float32)


def _sign_changes(blocks: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.bool_]]:
    """Whether each sample has another sign than the one before it, the first never: bool [samples], in blocks."""
    before = np.empty(0, bool)
    for block in blocks:
        negative = block < -_ZERO
        yield np.diff(negative, prepend=before if len(before) else negative[:1])
        before = negative[-1:] if len(negative) else before


_KINDS: dict[str, Features] = {
    "log-Mel": log_mel_statistics,
    "MFCC": mfcc_with_deltas,
    "chroma": chroma_statistics,
    "spectral": spectral_statistics,
    "rhythm": rhythm_statistics,
}
ZERO_CROSSINGS, ALL = "zero crossings", "all"


def names(*, audio: bool) -> list[str]:
    """What there is to choose from: each kind, zero crossings only where there is audio, and all of them together."""
    return [*_KINDS, *([ZERO_CROSSINGS] if audio else []), ALL]


def of_chunks(
    name: str, levels: NDArray[np.uint8], front_end: FrontEnd, crossings: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """One kind of `names`, of many chunks: float32 [chunks, features].

    Args:
        crossings: the `zero_crossing_rate` in each frame, float32 [chunks, frames]; None without audio.
    """
    if name == ALL:
        kinds = names(audio=crossings is not None)[:-1]
        return np.concatenate([of_chunks(kind, levels, front_end, crossings) for kind in kinds], axis=1)
    if name == ZERO_CROSSINGS:
        assert crossings is not None
        return _statistics(crossings[:, :, np.newaxis])
    slices = [levels[start : start + _SLICE] for start in range(0, len(levels), _SLICE)]
    return np.concatenate([_KINDS[name](part, front_end) for part in slices])


def _statistics(values: NDArray[Any]) -> NDArray[np.float32]:
    """[chunks, frames, n] to [chunks, 3 n]."""
    parts = [values.mean(axis=1), values.std(axis=1), np.diff(values, axis=1).std(axis=1)]
    return np.concatenate(parts, axis=1).astype(np.float32)
