"""Streaming decoders behind one function: libsndfile, and FFmpeg for files that it cannot open or stops reading early.

The choice is made by content: a file's suffix is never looked at. Both decoders deliver blocks of
bounded size, so a ten-hour mix needs no more memory than a song.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from genrebeam.features.errors import DecodeFailed, NotAudio
from genrebeam.features.ffmpeg import open_sound
from genrebeam.features.filling import FillingFile, StoredFile, buffered

_BLOCK_SAMPLES = 1 << 16

# libsndfile's names to FFmpeg's.
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
# libsndfile's names of formats in which it may stop before the end of the file: at damage, at a length guessed from the
# first frame (MP3 without a Xing header), at the end of the first of several chained streams.
_STREAMED = {"MPEG", "MP3", "OGG", "FLAC"}
_TAIL_BYTES = 1 << 16  # between the last sound and the end: tags, and what a decoder had not asked for
_MPEG_TAIL_BYTES = 1 << 12  # libmpg123 asks for all there is, so more than small tags is sound that it gave up on
# What libsndfile's log says of a size in a header that is more than there is, and the sizes that recorders leave there.
_CUT = re.compile(r"(\d+) \(should be (\d+)\)")
_PLACEHOLDER_BYTES = 0x7FFF_0000
_GUESSED_DURATION = {"mp3", "aac"}  # FFmpeg guesses it from the first frames; gaps between packets are counted instead
_ROUNDING_S = 0.25
_PREROLL_S = 0.2  # decoded and dropped after seeking: what codecs need to come to themselves


@dataclasses.dataclass(frozen=True, eq=False)
class AudioBlock:
    """Consecutive samples: float32 [samples, channels], nominally in [-1, 1], at `sample_rate_hz`.

    They are there until the next block is taken.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int


@dataclasses.dataclass
class DecodeProgress:
    """How much of a file was decoded, kept up to date while its blocks are taken.

    Attributes:
        decoded_s: seconds delivered so far.
        expected_s: seconds that the file has by its header and its packets; 0.0 where it cannot be told.
    """

    decoded_s: float = 0.0
    expected_s: float = 0.0

    @property
    def undecoded_s(self) -> float:
        """Seconds that are missing. Less than a quarter of one is padding and rounding."""
        missing = self.expected_s - self.decoded_s
        return missing if missing > _ROUNDING_S else 0.0


@dataclasses.dataclass(frozen=True)
class AudioStream:
    """An open audio file: what it is, its blocks in order, and how much of it they are.

    Attributes:
        length_s: how long it is by its header; 0.0 where that is unknown or cannot be trusted.
        stretch: `stretch(at_s, duration_s)` seeks and decodes one block, which is shorter where the file ends or is
            damaged. Raises RuntimeError, ValueError or OSError. `blocks` must not be read after calling it.

    The rate and channel count of a block may differ from those of the stream (some MP3 and Ogg files
    change them on the way); each block carries its own.
    """

    container: str
    codec: str
    sample_rate_hz: int
    channels: int
    blocks: Iterator[AudioBlock]
    length_s: float
    stretch: Callable[[float, float], AudioBlock]
    progress: DecodeProgress = dataclasses.field(default_factory=DecodeProgress)


class _Forward(soundfile.SoundFile):
    """A file that is read from one end to the other.

    Of files that can be sought in, soundfile seeks after each read to where it is anyway, and MP3 is decoded anew from
    some frames before that.
    """

    def seekable(self) -> bool:
        return False


@contextlib.contextmanager
def open_audio(source: str | bytes | os.PathLike[str] | FillingFile) -> Iterator[AudioStream]:
    """Open an audio file of any supported kind. Both decoders get the open file, so they can open no other.

    Args:
        source: a path; or an open file that is filled where it is read, for stretches only.

    Raises:
        NotAudio: neither decoder finds an audio stream in it.
        DecodeFailed: it has one, in a codec or state that cannot be decoded.
        OSError: the system does not give the file, or not all of it; raised at the end too, where a decoder took that
            for the end of the sound.
    """
    with contextlib.ExitStack() as stack:
        stored = source if isinstance(source, FillingFile) else StoredFile(source)
        try:
            yield _opened(stored, stack)
        except (DecodeFailed, NotAudio, RuntimeError, ValueError):
            if stored.failed is None:
                raise
        if stored.failed is not None:
            raise stored.failed


def _opened(stored: StoredFile | FillingFile, stack: contextlib.ExitStack) -> AudioStream:
    """The stream of a file; what is opened for it, the stack closes."""
    raw: Any = stored if isinstance(stored, FillingFile) else stack.enter_context(buffered(stored))
    progress = DecodeProgress()
    try:
        file = stack.enter_context(_Forward(raw if raw is stored else os.dup(raw.fileno()), closefd=True))
    except soundfile.LibsndfileError:
        stream = _open_ffmpeg(raw, stack, progress)
    else:
        container = _CONTAINERS.get(file.format, file.format.lower())
        codec = "flac" if container == "flac" else _CODECS.get(file.subtype, file.subtype.lower())
        blocks = _sndfile_blocks(file, raw, stack, progress)
        length_s = file.frames / file.samplerate
        stretch = functools.partial(_sndfile_stretch, file)
        stream = AudioStream(container, codec, file.samplerate, file.channels, blocks, length_s, stretch, progress)
    return stream


def _sndfile_blocks(
    file: soundfile.SoundFile, raw: BinaryIO, stack: contextlib.ExitStack, progress: DecodeProgress
) -> Iterator[AudioBlock]:
    """What libsndfile decodes; where it stops before the file does, FFmpeg's from there on."""
    reason: RuntimeError | None = None
    buffer = np.empty((_BLOCK_SAMPLES, file.channels), np.float32)  # used again: fresh memory is not in any cache
    try:
        while len(samples := file.read(out=buffer)):
            progress.decoded_s += len(samples) / file.samplerate
            yield AudioBlock(samples, file.samplerate)
        if _is_complete(file, raw, progress):
            return
    except RuntimeError as error:
        reason = error
    already_s = progress.decoded_s
    try:
        blocks = _open_ffmpeg(raw, stack, progress).blocks
        yield from _after(blocks, already_s, progress)
    except (NotAudio, DecodeFailed) as error:
        if not progress.decoded_s:
            raise DecodeFailed(str(reason or error)) from error


def _is_complete(file: soundfile.SoundFile, raw: BinaryIO, progress: DecodeProgress) -> bool:
    """Whether libsndfile has delivered all that it can be asked for. Raises OSError where the end cannot be read."""
    if file.format in _STREAMED:
        return _is_near_end(raw, _MPEG_TAIL_BYTES if file.format in ("MPEG", "MP3") else _TAIL_BYTES)
    if not file.frames or file.frames / file.samplerate > progress.decoded_s + _ROUNDING_S:
        return False  # a recorder that lost power has left a length of 0; or reading failed on the way
    # Of the last chunk that the log speaks of, which is that of the samples.
    for promised, there in [tuple(map(int, found)) for found in _CUT.findall(file.extra_info)][-1:]:
        if 0 < there < promised and (promised < _PLACEHOLDER_BYTES or file.format == "RF64"):
            progress.expected_s = progress.decoded_s * promised / there
    return True


def _sndfile_stretch(file: soundfile.SoundFile, at_s: float, duration_s: float) -> AudioBlock:
    first = round(at_s * file.samplerate)
    start = max(0, first - round(_PREROLL_S * file.samplerate))
    file.seek(start)
    samples = file.read(first - start + round(duration_s * file.samplerate), dtype="float32", always_2d=True)
    return AudioBlock(samples[first - start :], file.samplerate)


def _after(blocks: Iterator[AudioBlock], already_s: float, progress: DecodeProgress) -> Iterator[AudioBlock]:
    """Blocks without those samples that the first decoder delivered."""
    progress.decoded_s = 0.0
    at_s = 0.0
    for block in blocks:
        skip = round((already_s - at_s) * block.sample_rate_hz)
        at_s += len(block.samples) / block.sample_rate_hz
        if skip <= 0:
            yield block
        elif skip < len(block.samples):
            yield AudioBlock(block.samples[skip:], block.sample_rate_hz)
    progress.decoded_s = max(already_s, at_s)


def _is_near_end(raw: BinaryIO, tail_bytes: int) -> bool:
    """Whether the descriptor that libsndfile shares with `raw` has come to where the sound ends and tags begin."""
    size, at = os.fstat(raw.fileno()).st_size, os.lseek(raw.fileno(), 0, os.SEEK_CUR)
    if size - at <= tail_bytes:
        os.pread(raw.fileno(), size - at, at)  # a disk that does not give it is no end
        return True
    for footer_at in (size - 32, size - 160):  # an APE tag may be large, with a cover in it
        footer = os.pread(raw.fileno(), 32, max(0, footer_at))
        if footer[:8] == b"APETAGEX":
            return size - at <= tail_bytes + int.from_bytes(footer[12:16], "little")
    return False


def _open_ffmpeg(raw: BinaryIO, stack: contextlib.ExitStack, progress: DecodeProgress) -> AudioStream:
    import av  # a tenth of a second, and most libraries never need it

    raw.seek(0)
    try:
        container = stack.enter_context(open_sound(raw))
    # OSError: a header that makes FFmpeg seek to nowhere; of one in reading the file knows
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise NotAudio(f"no decoder knows this format ({_reason(error)})") from error
    if not container.streams.audio:
        raise NotAudio(f"no audio stream in it (it looks like {container.format.long_name or container.format.name})")
    stream = container.streams.audio[0]
    context = stream.codec_context
    if context is None:
        raise DecodeFailed("no decoder for its codec")
    name = container.format.name
    known = stream.duration and stream.time_base and name not in _GUESSED_DURATION
    length_s = float(stream.duration * stream.time_base) if known else 0.0
    return AudioStream(
        _FFMPEG_CONTAINERS.get(name, name.split(",")[0]),
        _FFMPEG_CODECS.get(context.name, context.name),
        int(context.sample_rate or 0),
        int(context.channels or 0),
        _ffmpeg_blocks(container, stream, length_s, progress),
        length_s,
        functools.partial(_ffmpeg_stretch, container, stream),
        progress,
    )


def _ffmpeg_stretch(container: Any, stream: Any, at_s: float, duration_s: float) -> AudioBlock:
    import av

    parts: list[NDArray[np.float32]] = []
    rate, wanted, skip = 0, 0, 0
    try:
        container.seek(max(0, int((at_s - _PREROLL_S) / stream.time_base)), stream=stream)
        for frame in container.decode(stream):
            samples = _frame_samples(frame)
            if not parts:
                rate = int(frame.sample_rate)
                skip = round((at_s - (frame.time or 0.0)) * rate)
                if skip < 0:
                    raise ValueError("sought too far")
                wanted = skip + round(duration_s * rate)
            parts.append(samples)
            wanted -= samples.shape[1]
            if wanted <= 0:
                break
    except av.error.FFmpegError as error:
        raise RuntimeError(_reason(error)) from error
    if not parts:
        raise ValueError("nothing there")
    return AudioBlock(np.concatenate(parts, axis=1)[:, skip : skip + round(duration_s * rate)].T, rate)


def _ffmpeg_blocks(container: Any, stream: Any, length_s: float, progress: DecodeProgress) -> Iterator[AudioBlock]:
    """Frames of an FFmpeg stream gathered into blocks. Damaged packets are passed over, as players do."""
    import av

    progress.expected_s = length_s
    pending: list[NDArray[np.float32]] = []
    pending_samples, shape = 0, (0, 0)
    for frame in _ffmpeg_frames(container, stream, av.error.FFmpegError, progress):
        samples = _frame_samples(frame)
        frame_shape = (len(samples), int(frame.sample_rate))
        progress.decoded_s += samples.shape[1] / frame_shape[1]
        if pending and (frame_shape != shape or pending_samples >= _BLOCK_SAMPLES):
            yield AudioBlock(np.concatenate(pending, axis=1).T, shape[1])
            pending, pending_samples = [], 0
        shape = frame_shape
        pending.append(samples)
        pending_samples += samples.shape[1]
    if pending:
        yield AudioBlock(np.concatenate(pending, axis=1).T, shape[1])


def _ffmpeg_frames(
    container: Any, stream: Any, ffmpeg_error: type[Exception], progress: DecodeProgress
) -> Iterator[Any]:
    bad = delivered = lost_bytes = 0
    read_bytes, read_ticks, end = 0, 0, None
    # Of the stream and in seconds, once: fractions for each packet take as long as half the decoding.
    tick_s = float(stream.time_base or 0)
    packets = container.demux(stream)
    try:
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except (ffmpeg_error, OSError, ValueError):
                return  # the container ends in rubbish: what was decoded counts
            size, duration = packet.size, packet.duration
            if size and duration:
                read_bytes, read_ticks = read_bytes + size, read_ticks + duration
                position = packet.pos
                if position is not None and position >= 0:
                    lost_bytes += max(0, position - end) if end is not None else 0
                    end = position + size
            try:
                for frame in packet.decode():
                    delivered += 1
                    yield frame
            except ffmpeg_error as error:
                bad += 1
                if bad > _TOLERATED_BAD_PACKETS:
                    if delivered:
                        return
                    raise DecodeFailed(f"more than {bad - 1} damaged packets ({_reason(error)})") from error
    finally:
        if container.format.name in _GUESSED_DURATION and read_bytes:
            progress.expected_s = read_ticks * tick_s * (1 + lost_bytes / read_bytes)


def _frame_samples(frame: Any) -> NDArray[np.float32]:
    """One FFmpeg frame as float32 [channels, samples] in [-1, 1]."""
    values = frame.to_ndarray()
    samples = values if frame.format.is_planar else values.reshape(-1, frame.layout.nb_channels).T
    kind = samples.dtype.kind
    if kind == "f":
        return samples.astype(np.float32, copy=False)
    if kind == "u":
        return (samples.astype(np.float32) - 128) / np.float32(128)
    return samples.astype(np.float32) / np.float32(-float(np.iinfo(samples.dtype).min))


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
