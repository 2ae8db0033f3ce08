"""The one module that knows the keys of our tf.train.Example records: encode, parse, schema version.

One record is one track: its whole log-Mel as bytes, what was decoded, and (in training shards) what
it is labelled. Readers cut it into chunks.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any, BinaryIO

import numpy as np

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import RecordError
from genrebeam.features.schema import AudioInfo, FileTags, Track, TrackFeatures

SCHEMA_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Labels:
    """What a training record is labelled.

    Attributes:
        genres: one or more label names; several mean that all of them are claimed, not which.
        split: train, valid, test, or another name the labels file gives.
        group: whatever must not stand on two sides of a split: the artist, else the track_id.
    """

    genres: tuple[str, ...]
    split: str = ""
    group: str = ""


_NAMES = ("artist", "album", "title")  # of FileTags


def encode(features: TrackFeatures, labels: Labels | None = None) -> bytes:
    """One track as a serialised tf.train.Example."""
    import tensorflow as tf

    def text(*values: str) -> Any:
        return tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[v.encode("utf-8", "surrogateescape") for v in values])
        )

    def integer(value: int) -> Any:
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))

    frames, mel_bands = features.log_mel.shape
    fields = {
        "schema_version": integer(SCHEMA_VERSION),
        "front_end": text(features.front_end),
        "uri": text(features.track.uri),
        "track_id": text(features.track.track_id),
        "size": integer(features.track.size),
        # Microseconds as an integer: the float feature of tf.train.Example has 32 bits.
        "mtime_us": integer(round(features.track.mtime * 1e6)),
        "container": text(features.audio.container),
        "codec": text(features.audio.codec),
        "duration_us": integer(round(features.audio.duration_s * 1e6)),
        "sample_rate_hz": integer(features.audio.sample_rate_hz),
        "channels": integer(features.audio.channels),
        "genre_before": text(*features.tags.genres),
        "frames": integer(frames),
        "mel_bands": integer(mel_bands),
        "log_mel": tf.train.Feature(bytes_list=tf.train.BytesList(value=[features.log_mel.tobytes()])),
    }
    if features.tags.user_genres is not None:
        fields["genre_user"] = text(*features.tags.user_genres)
    for name in _NAMES:
        if (value := getattr(features.tags, name)) is not None:
            fields[name] = text(value)
    if features.audio.undecoded_s is not None:
        fields["undecoded_us"] = integer(round(features.audio.undecoded_s * 1e6))
    if labels is not None:
        fields |= {"genres": text(*labels.genres), "split": text(labels.split), "group": text(labels.group)}
    # Deterministic: a map field has no order of its own, and shards must not differ between runs.
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString(deterministic=True)


def parse(record: bytes, front_end: FrontEnd) -> tuple[TrackFeatures, Labels | None]:
    """The inverse of `encode`.

    Raises:
        RecordError: the bytes are no such record, or were made by another schema or front end.
    """
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        return _parsed(tf.train.Example.FromString(record).features.feature, front_end)
    except DecodeError as error:
        raise RecordError(f"not a genrebeam record: {error}") from error
    except IndexError as error:
        raise RecordError("a damaged genrebeam record: a field in it is missing or empty") from error


def _parsed(fields: Any, front_end: FrontEnd) -> tuple[TrackFeatures, Labels | None]:
    if "schema_version" not in fields:
        raise RecordError("not a genrebeam record: it has no schema_version")

    def texts(key: str) -> tuple[str, ...]:
        return tuple(v.decode("utf-8", "surrogateescape") for v in fields[key].bytes_list.value)

    def integer(key: str) -> int:
        return int(fields[key].int64_list.value[0])

    version, made_by = integer("schema_version"), texts("front_end")[0]
    if version > SCHEMA_VERSION:
        raise RecordError(f"record of schema {version}: this genrebeam reads up to {SCHEMA_VERSION}; upgrade it")
    track_id = texts("track_id")[0]
    needed = front_end.fingerprint()
    if made_by != needed:
        raise RecordError(f"{track_id}: features of front end {made_by}, the model needs {needed}; extract them anew")
    shape = integer("frames"), integer("mel_bands")
    payload = fields["log_mel"].bytes_list.value[0]
    if len(payload) != shape[0] * shape[1] or shape[1] != front_end.mel_bands:
        raise RecordError(f"{track_id}: {len(payload)} bytes of log-Mel do not make {shape[0]} x {shape[1]} levels")
    features = TrackFeatures(
        track=Track(texts("uri")[0], track_id, integer("size"), integer("mtime_us") / 1e6),
        audio=AudioInfo(
            texts("container")[0],
            texts("codec")[0],
            integer("duration_us") / 1e6,
            integer("sample_rate_hz"),
            integer("channels"),
            integer("undecoded_us") / 1e6 if "undecoded_us" in fields else None,
        ),
        log_mel=np.frombuffer(payload, np.uint8).reshape(shape),
        front_end=made_by,
        tags=FileTags(
            texts("genre_before"),
            texts("genre_user") if "genre_user" in fields else None,
            *(texts(name)[0] if name in fields else None for name in _NAMES),
        ),
    )
    labels = Labels(texts("genres"), texts("split")[0], texts("group")[0]) if "genres" in fields else None
    return features, labels


def parse_in_graph(record: Any, front_end: FrontEnd) -> tuple[Any, Any, Any, Any]:
    """What training needs of a record, inside a tf.data graph; `parse` with its checks is for everything else.

    Args:
        record: a scalar string tensor, made by `encode` with Labels.

    Returns:
        log_mel uint8 [frames, mel_bands], genres string [any number], group string [], track_id string [].
    """
    import tensorflow as tf

    fields = tf.io.parse_single_example(
        record,
        {
            "log_mel": tf.io.FixedLenFeature([], tf.string),
            "genres": tf.io.RaggedFeature(tf.string),
            "group": tf.io.FixedLenFeature([], tf.string),
            "track_id": tf.io.FixedLenFeature([], tf.string),
        },
    )
    levels = tf.reshape(tf.io.decode_raw(fields["log_mel"], tf.uint8), [-1, front_end.mel_bands])
    return levels, fields["genres"], fields["group"], fields["track_id"]


_HEAD_BYTES, _TAIL_BYTES = 12, 4  # of a TFRecord: length and its checksum before, checksum after the payload


def count_records(file: BinaryIO, name: str) -> int:
    """How many whole records a TFRecord file holds, by skipping from length to length.

    Raises:
        RecordError: it ends in the middle of one.
    """
    size = file.seek(0, os.SEEK_END)
    count = file.seek(0)
    while len(head := file.read(_HEAD_BYTES)) == _HEAD_BYTES:
        end = file.tell() + int.from_bytes(head[:8], "little") + _TAIL_BYTES
        if end > size:
            raise RecordError(f"{name}: ends in the middle of record {count + 1}; extract these features anew")
        file.seek(end)
        count += 1
    return count


def first_record(file: BinaryIO) -> bytes | None:
    """The payload of a TFRecord file's first record; None for an empty file.

    Raises:
        RecordError: the file ends before it does.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    length = int.from_bytes(head[:8], "little")
    if head and length > size - _HEAD_BYTES:
        raise RecordError("its first record is longer than the file; extract these features anew")
    return file.read(length) if head else None
