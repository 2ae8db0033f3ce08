"""Streaming decoders behind one function: libsndfile first, FFmpeg for what it cannot read.

The choice is made by content: a file's suffix is never looked at. Both decoders deliver blocks of
bounded size, so a ten-hour mix needs no more memory than a song.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from features.errors import DecodeFailed, NotAudio

_BLOCK_SAMPLES = 1 << 16

# libsndfile's names to the field's (FFmpeg's) names.
_CONTAINERS = {"WAVEX": "wav", "RF64": "wav", "WAV": "wav"}
_CODECS = {
    "MPEG_LAYER_I": "mp1",
    "MPEG_LAYER_II": "mp2",
    "MPEG_LAYER_III": "mp3",
    "PCM_S8": "pcm_s8",
    "PCM_U8": "pcm_u8",
    "PCM_16": "pcm_s16",
    "PCM_24": "pcm_s24",
    "PCM_32": "pcm_s32",
    "FLOAT": "pcm_f32",
    "DOUBLE": "pcm_f64",
}
# FFmpeg names a demuxer by all it reads; these are what people call the containers.
_FFMPEG_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2": "mp4", "matroska,webm": "matroska", "mpc8": "mpc"}
_FFMPEG_CODECS = {"mp3float": "mp3", "mp2float": "mp2", "mp1float": "mp1"}
# A stream damaged here and there is still music; one that is nothing but damage must end.
_TOLERATED_BAD_PACKETS = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class AudioBlock:
    """Consecutive samples: float32 [samples, channels], nominally in [-1, 1], at `sample_rate_hz`."""

    samples: NDArray[np.float32]
    sample_rate_hz: int


@dataclasses.dataclass(frozen=True)
class AudioStream:
    """An open audio file: what it is, and its blocks in order.

    The rate and channel count of a block may differ from those of the stream (some MP3 and Ogg files
    change them on the way); each block carries its own.
    """

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    blocks: Iterator[AudioBlock]


@contextlib.contextmanager
def open_audio(path: str | bytes | os.PathLike[str]) -> Iterator[AudioStream]:
    """Open an audio file of any supported kind.

    Raises:
        NotAudio: neither decoder finds an audio stream in it.
        DecodeFailed: it has one, in a codec or state that cannot be decoded.
        OSError: the file cannot be opened at all.
    """
    with contextlib.ExitStack() as stack:
        # Opened by ourselves first: libsndfile and FFmpeg both report a missing file as a format error.
        with open(path, "rb"):
            pass
        try:
            file = stack.enter_context(soundfile.SoundFile(os.fsencode(path)))
        except soundfile.LibsndfileError:
            stream = _open_ffmpeg(path, stack)
        else:
            container = _CONTAINERS.get(file.format, file.format.lower())
            codec = "flac" if container == "flac" else _CODECS.get(file.subtype, file.subtype.lower())
            stream = AudioStream(container, codec, file.samplerate, file.channels, _sndfile_blocks(file))
        yield stream


def _sndfile_blocks(file: soundfile.SoundFile) -> Iterator[AudioBlock]:
    while len(samples := file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
        yield AudioBlock(samples, file.samplerate)


def _open_ffmpeg(path: str | bytes | os.PathLike[str], stack: contextlib.ExitStack) -> AudioStream:
    import av  # a tenth of a second, and most libraries never need it
    import av.logging

    av.logging.set_level(av.logging.PANIC)
    # PyAV takes a str and encodes it as UTF-8; a file object serves names in any encoding.
    raw = stack.enter_context(open(path, "rb"))  # noqa: SIM115  the stack closes it
    try:
        container = stack.enter_context(av.open(raw, mode="r", metadata_errors="replace"))
    except (av.error.FFmpegError, ValueError, OSError) as error:  # OSError: a header that makes FFmpeg seek to nowhere
        raise NotAudio(f"no decoder knows this format ({_reason(error)})") from error
    if not container.streams.audio:
        raise NotAudio(f"no audio stream in it (it looks like {container.format.long_name or container.format.name})")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise DecodeFailed("no decoder for its codec")
    name = container.format.name
    return AudioStream(
        _FFMPEG_CONTAINERS.get(name, name.split(",")[0]),
        _FFMPEG_CODECS.get(context.name, context.name),
        int(context.sample_rate or 0),
        int(context.channels or 0),
        _ffmpeg_blocks(container, stream),
    )


def _ffmpeg_blocks(container: Any, stream: Any) -> Iterator[AudioBlock]:
    """Frames of an FFmpeg stream gathered into blocks. Damaged packets are passed over, as players do."""
    import av

    pending: list[NDArray[np.float32]] = []
    pending_samples, shape = 0, (0, 0)
    for frame in _ffmpeg_frames(container, stream, av.error.FFmpegError):
        samples = _frame_samples(frame)
        frame_shape = (samples.shape[1], int(frame.sample_rate))
        if pending and (frame_shape != shape or pending_samples >= _BLOCK_SAMPLES):
            yield AudioBlock(np.concatenate(pending), shape[1])
            pending, pending_samples = [], 0
        shape = frame_shape
        pending.append(samples)
        pending_samples += len(samples)
    if pending:
        yield AudioBlock(np.concatenate(pending), shape[1])


def _ffmpeg_frames(container: Any, stream: Any, ffmpeg_error: type[Exception]) -> Iterator[Any]:
    bad = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except ffmpeg_error:
            return  # the container ends in rubbish: what was decoded counts
        try:
            yield from packet.decode()
        except ffmpeg_error as error:
            bad += 1
            if bad > _TOLERATED_BAD_PACKETS:
                raise DecodeFailed(f"more than {bad - 1} damaged packets ({_reason(error)})") from error


def _frame_samples(frame: Any) -> NDArray[np.float32]:
    """One FFmpeg frame as float32 [samples, channels] in [-1, 1]."""
    values = frame.to_ndarray()
    channels = frame.layout.nb_channels
    samples = values.T if frame.format.is_planar else values.reshape(-1, channels)
    if samples.dtype.kind == "f":
        return np.ascontiguousarray(samples, np.float32)
    if samples.dtype.kind == "u":
        return (samples.astype(np.float32) - 128) / np.float32(128)
    return samples.astype(np.float32) / np.float32(-float(np.iinfo(samples.dtype).min))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
