"""One audio file to its log-Mel levels: decode, mix to mono, resample, transform. Whole and pure.

Where the decoder cannot be trusted, run it through features/isolated.py.
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.chunks import audible, stretch_segments, stretch_starts_s
from genrebeam.features.config import FrontEnd
from genrebeam.features.decode import AudioBlock, open_audio
from genrebeam.features.errors import DecodeFailed, NotAudio, TooLong, TooShort, TrackError, unreadable
from genrebeam.features.filling import FillingFile
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.mel import LogMelStream, log_mel
from genrebeam.features.resample import resampler
from genrebeam.features.schema import AudioInfo

# Channels cancel where their mean has less than this share of the power that it has of channels without relation.
_CANCELLED = 0.5
_HEAD = 4096  # samples
_LOUDEST = 16.0  # above it samples are in the scale of integers: of 16, 24 or 32 bits
_FULL_SCALES = (2.0**15, 2.0**23, 2.0**31)


def stream_log_mel(
    source: str | os.PathLike[str] | FillingFile, front_end: FrontEnd, limits: ExtractLimits
) -> Iterator[NDArray[np.uint8] | AudioInfo]:
    """Hear a file block by block: uint8 [frames, mel_bands] arrays in order, and an AudioInfo as the last item.

    Args:
        source: a path, or a file that is completed where it has to be read; as a whole, unless stretches will do.

    Raises:
        TrackError: as `mono_blocks` does.
    """
    if limits.coverage_s is not None and (stretches := _hear_stretches(source, front_end, limits)):
        yield from stretches
        return
    path = source.whole() if isinstance(source, FillingFile) else source
    mel: LogMelStream | None = None
    for item in _decoded(path, lambda rate: _factor(rate, front_end) * front_end.sample_rate_hz, limits):
        if isinstance(item, AudioInfo):
            assert mel is not None
            yield mel.finish()
            yield item
        else:
            mono, rate = item
            mel = mel or LogMelStream(front_end, _factor(rate, front_end))
            yield mel.push(mono)


def _factor(sample_rate_hz: int, front_end: FrontEnd) -> int:
    """A file of twice the front end's rate is transformed as it is; all others are resampled."""
    return 2 if sample_rate_hz == 2 * front_end.sample_rate_hz else 1


def _hear_stretches(
    source: str | os.PathLike[str] | FillingFile, front_end: FrontEnd, limits: ExtractLimits
) -> list[NDArray[np.uint8] | AudioInfo]:
    """The log-Mel of each stretch, and the AudioInfo.

    Nothing of a track that has to be heard as a whole: because it is short, because its length is unknown, because the
    stretches are silent, or because one of them cannot be had, which is damage that hearing the whole will tell of.
    """
    assert limits.coverage_s is not None
    frames = stretch_segments(front_end) * front_end.chunk_step_frames
    # The last chunk may be longer than its segments (features/chunks.py: segments_of).
    longest = frames + front_end.chunk_frames % front_end.chunk_step_frames
    # A frame more at both ends, so that no frame of the stretch reaches into nothing.
    margin_s = 1 / front_end.frames_per_s
    duration_s = (longest + 1) * margin_s
    heard: list[NDArray[np.uint8]] = []
    scale = 1.0
    try:
        if not isinstance(source, FillingFile):
            _check_regular(source)
        with open_audio(source) as stream:
            if stream.length_s > limits.max_duration_s:
                return []
            starts_s = stretch_starts_s(stream.length_s, limits.coverage_s, front_end)
            for at_s in starts_s:
                block = stream.stretch(max(0.0, at_s - margin_s), duration_s)
                if len(block.samples) < round(duration_s * block.sample_rate_hz):
                    return []
                mono, factor = to_mono(block), _factor(block.sample_rate_hz, front_end)
                scale = _to_full_scale(mono, scale)
                stream_to = resampler(block.sample_rate_hz, factor * front_end.sample_rate_hz)
                samples = mono if stream_to is None else stream_to.resample_chunk(mono, last=True)
                heard.append(log_mel(samples, front_end, factor)[1 : (longest if at_s == starts_s[-1] else frames) + 1])
    except (TrackError, OSError, RuntimeError, ValueError):
        return []
    if not any(audible(levels, front_end) for levels in heard):
        return []
    return [
        *heard,
        AudioInfo(
            stream.container,
            stream.codec,
            stream.length_s,
            stream.sample_rate_hz,
            stream.channels,
            coverage_s=limits.coverage_s,
            stretches_s=starts_s,
        ),
    ]


def mono_blocks(
    path: str | os.PathLike[str], sample_rate_hz: int, limits: ExtractLimits
) -> Iterator[NDArray[np.float32] | AudioInfo]:
    """Decode a file, mixed to mono and resampled: float32 [samples] arrays in order, and an AudioInfo as the last item.

    The duration in the AudioInfo is what was decoded, not what a header promises.

    Raises:
        TrackError: one of its subclasses, without the path, which the caller knows.
    """
    for item in _decoded(path, lambda rate: sample_rate_hz, limits):
        yield item if isinstance(item, AudioInfo) else item[0]


def _decoded(
    path: str | os.PathLike[str], rate_for: Callable[[int], int], limits: ExtractLimits
) -> Iterator[tuple[NDArray[np.float32], int] | AudioInfo]:
    """As `mono_blocks`, all blocks at the rate that is wanted for a file that begins with some rate; each with it."""
    _check_regular(path)
    duration_s = 0.0
    stream_to, from_hz, to_hz, scale = None, 0, 0, 1.0
    try:
        with open_audio(path) as stream:
            info = AudioInfo(stream.container, stream.codec, 0.0, stream.sample_rate_hz, stream.channels)
            for block in stream.blocks:
                duration_s += len(block.samples) / block.sample_rate_hz
                if duration_s > limits.max_duration_s:
                    raise TooLong(f"more than {limits.max_duration_s / 3600:g} hours of audio")
                if block.sample_rate_hz != from_hz:
                    if stream_to is not None:
                        yield stream_to.resample_chunk(np.empty(0, np.float32), last=True), to_hz
                    from_hz = block.sample_rate_hz
                    to_hz = to_hz or rate_for(from_hz)
                    stream_to = resampler(from_hz, to_hz)
                mono = to_mono(block)
                scale = _to_full_scale(mono, scale)
                yield mono if stream_to is None else stream_to.resample_chunk(mono), to_hz
            if stream_to is not None:
                yield stream_to.resample_chunk(np.empty(0, np.float32), last=True), to_hz
    except OSError as error:
        raise unreadable(error) from error
    except (RuntimeError, ValueError) as error:  # libsndfile in mid-stream; soxr for an absurd rate
        raise DecodeFailed(str(error)) from error
    if duration_s == 0:
        raise DecodeFailed(f"a {info.codec} stream of which nothing can be decoded")
    if duration_s < limits.min_duration_s:
        raise TooShort(f"{duration_s:.2f} s of audio, at least {limits.min_duration_s:g} s are needed")
    yield dataclasses.replace(info, duration_s=duration_s, undecoded_s=round(stream.progress.undecoded_s, 3))


def extract(
    path: str | os.PathLike[str], front_end: FrontEnd, limits: ExtractLimits | None = None
) -> tuple[NDArray[np.uint8], AudioInfo]:
    """A file's whole log-Mel, uint8 [frames, mel_bands], and what it was decoded from; raises TrackError."""
    *blocks, info = stream_log_mel(path, front_end, limits or ExtractLimits())
    assert isinstance(info, AudioInfo)
    return np.concatenate([b for b in blocks if isinstance(b, np.ndarray)]), info


def to_mono(block: AudioBlock) -> NDArray[np.float32]:
    """The mean of all channels, float32 [samples], a copy.

    Samples that are not numbers do not count: where one channel has none the others are heard, where all have none it
    is silent. Where channels cancel each other, those that run against the loudest one are turned over first: the mean
    would be silence, and each of them is music.
    """
    samples = block.samples
    channels = samples.shape[1]
    # Dot products: `mean(axis=1)` over two channels is more than ten times slower.
    mono = samples[:, 0].copy() if channels == 1 else samples @ np.full(channels, 1 / channels, np.float32)
    if not np.isfinite(np.dot(mono, mono)):
        samples, mono = _finite(samples)
    # The beginning tells of nearly all blocks that nothing is to be done.
    if channels > 1 and _cancels(samples[:_HEAD], mono[:_HEAD]) and _cancels(samples, mono):
        likeness = samples.T @ samples[:, np.square(samples).sum(axis=0).argmax()]
        signs = np.where(likeness < 0, -1, 1)
        mono = samples @ (signs * signs[0] / channels).astype(np.float32)  # the first stays, so blocks fit together
    return mono


def _cancels(samples: NDArray[np.float32], mono: NDArray[np.float32]) -> bool:
    """Whether little is left in the mean of channels, [samples, channels]; also where there is nothing at all."""
    flat = samples.ravel(order="K")
    # Of channels without relation, each as loud as the next, the mean has `1 / channels` of their power.
    return bool(samples.shape[1] ** 2 * np.dot(mono, mono) <= _CANCELLED * np.dot(flat, flat))


def _finite(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Samples [samples, channels] with 0 for what is not a number, and the mean of those that are, [samples]."""
    is_number = np.isfinite(samples)
    samples = np.where(is_number, np.clip(samples, -_FULL_SCALES[-1], _FULL_SCALES[-1]), np.float32(0))
    return samples, samples.sum(axis=1) / np.maximum(1, is_number.sum(axis=1, dtype=np.float32))


def _to_full_scale(mono: NDArray[np.float32], scale: float) -> float:
    """Divide a block by the full scale of its file, which is `scale` until a block is louder; the scale from here on.

    Some programs write floating-point samples in the scale of integers. A track that begins softly is at the wrong
    scale until then, which a network does not mind: it takes each chunk by its own level.
    """
    if scale == 1.0 and np.dot(mono, mono) <= len(mono):  # cheap, and no block in the scale of integers is so soft
        return scale
    peak = float(np.abs(mono).max(initial=0.0))
    if peak > _LOUDEST * scale:
        scale = next((scale for scale in _FULL_SCALES if peak <= 2 * scale), _FULL_SCALES[-1])
    if scale > 1.0:
        mono /= np.float32(scale)
        np.clip(mono, -_LOUDEST, _LOUDEST, out=mono)
    return scale


def _check_regular(path: str | os.PathLike[str]) -> None:
    """Only regular files are opened: a named pipe would block for ever."""
    try:
        status = os.stat(path)
    except OSError as error:
        raise unreadable(error) from error
    if not stat.S_ISREG(status.st_mode):
        raise NotAudio("not a regular file")
    if status.st_size == 0:
        raise NotAudio("the file is empty")
