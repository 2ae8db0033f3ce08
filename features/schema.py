"""What travels through the pipeline: tracks, their features, and the reasons why a track has none."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Track:
    """A file to analyse. `uri` says how to read it, `track_id` who it is.

    Attributes:
        uri: an absolute local path, or a URL of another file system (gs://...). A local name that is
            not valid UTF-8 is a percent-encoded file:// URL (see pipelines/library/found.py).
        track_id: the path relative to its library, with forward slashes.
        size: bytes.
        mtime: last modification, seconds since 1970 UTC, to the microsecond; 0.0 where unknown.
    """

    uri: str
    track_id: str
    size: int
    mtime: float


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What the decoder found. `container` and `codec` are lower-case names such as mp3, ogg, vorbis, pcm_s16le.

    Attributes:
        duration_s: seconds that were decoded; of a track that was heard in stretches its length by the header.
        undecoded_s: seconds that the file has and that could not be decoded; None where nobody looked: in old records,
            and between stretches.
        coverage_s: how many seconds were asked for, where that is less than the whole; None for all.
        stretches_s: where each stretch begins that was heard; none of a track that was heard as a whole.
    """

    container: str
    codec: str
    duration_s: float
    sample_rate_hz: int
    channels: int
    undecoded_s: float | None = None
    coverage_s: float | None = None
    stretches_s: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True)
class FileTags:
    """What a file's own tags say of its track.

    Attributes:
        genres: genre values in their order.
        user_genres: those of them that genrebeam has not written itself; None where nobody looked, in old records.
        artist, album, title: None where the tags say nothing.
    """

    genres: tuple[str, ...] = ()
    user_genres: tuple[str, ...] | None = None
    artist: str | None = None
    album: str | None = None
    title: str | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FileTags:
        """The inverse of `dataclasses.asdict`, also by way of JSON, which makes lists of tuples."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


@dataclasses.dataclass(frozen=True, eq=False)
class TrackFeatures:
    """One track as the network sees it.

    Attributes:
        track: whose features these are.
        audio: what was decoded.
        log_mel: uint8 [frames, mel_bands], the levels of features/config.py.
        front_end: fingerprint of the front end that made them.
        tags: what the file's own tags say.
    """

    track: Track
    audio: AudioInfo
    log_mel: NDArray[np.uint8]
    front_end: str
    tags: FileTags = FileTags()


@dataclasses.dataclass(frozen=True)
class Rejection:
    """Why a track has no result: `stage` is discover, extract, predict or apply; `error` a class name of errors.py."""

    track: Track
    stage: str
    error: str
    message: str
