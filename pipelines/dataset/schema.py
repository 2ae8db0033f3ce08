"""What is written down: the Arrow schemas of results, rejects and journal, and the rows that fill the first two.

Documented column by column in docs/results.md and docs/tags.md.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa

from genrebeam.features.schema import FileTags, Rejection, Track

_TIME = pa.timestamp("us", tz="UTC")

_TRACK = [
    pa.field("uri", pa.string(), nullable=False),
    pa.field("track_id", pa.string(), nullable=False),
    pa.field("size", pa.int64(), nullable=False),
    pa.field("mtime", _TIME, nullable=False),
]
_RUN = [
    pa.field("run_id", pa.string(), nullable=False),
    pa.field("processed_at", _TIME, nullable=False),
]

RESULTS = pa.schema(
    [
        *_TRACK,
        pa.field("container", pa.string()),
        pa.field("codec", pa.string()),
        pa.field("duration_s", pa.float64()),
        pa.field("sample_rate_hz", pa.int32()),
        pa.field("channels", pa.int32()),
        pa.field("undecoded_s", pa.float64()),
        pa.field("coverage_s", pa.float64()),
        pa.field("genre", pa.string()),
        pa.field("confidence", pa.float32()),
        pa.field("unknown", pa.float32()),
        pa.field("top", pa.list_(pa.struct([("genre", pa.string()), ("score", pa.float32())]))),
        pa.field("labels", pa.list_(pa.string())),
        pa.field("chunk_scores", pa.list_(pa.list_(pa.float32()))),
        pa.field("chunk_starts_s", pa.list_(pa.float32())),
        pa.field("artist", pa.string()),
        pa.field("album", pa.string()),
        pa.field("title", pa.string()),
        pa.field("embedding", pa.list_(pa.int8())),
        pa.field("embedding_trunk", pa.string()),
        pa.field("genre_before", pa.list_(pa.string())),
        pa.field("genre_user", pa.list_(pa.string())),
        pa.field("model_id", pa.string()),
        pa.field("model_fingerprint", pa.string()),
        pa.field("vote", pa.string()),
        pa.field("sample", pa.string()),
        *_RUN,
    ]
)

REJECTS = pa.schema(
    [*_TRACK, pa.field("stage", pa.string()), pa.field("error", pa.string()), pa.field("message", pa.string()), *_RUN]
)

CORRECTIONS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("genre", pa.string()),  # null: an earlier word is withdrawn
        pa.field("corrected_at", _TIME, nullable=False),
        pa.field("corrected_by", pa.string()),
        pa.field("number", pa.int64()),  # of what was said about the track, from 1; null in old rows
    ]
)

_PROVENANCE = pa.list_(pa.struct([("name", pa.string()), ("values", pa.list_(pa.string()))]))
_FIELDS = pa.list_(pa.struct([("position", pa.int32()), ("raw", pa.binary())]))
_FORMER = pa.list_(
    pa.struct([("start", pa.int64()), ("stop", pa.int64()), ("data", pa.binary()), ("digest", pa.binary())])
)

JOURNAL = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("at", _TIME, nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("genre_before", pa.list_(pa.string())),
        pa.field("genre_after", pa.list_(pa.string())),
        pa.field("provenance_before", _PROVENANCE),
        pa.field("provenance_after", _PROVENANCE),
        pa.field(
            "tags_before",
            pa.list_(
                pa.struct(
                    [("dialect", pa.string()), ("exists", pa.bool_()), ("slack", pa.int64()), ("fields", _FIELDS)]
                )
            ),
        ),
        pa.field("former", _FORMER),
        pa.field("size_before", pa.int64()),
        pa.field("mtime_ns_before", pa.int64()),
        pa.field("size_after", pa.int64()),
        pa.field("mtime_ns_after", pa.int64()),
        pa.field("temporary", pa.string()),
        pa.field("dataset", pa.string()),
    ]
)

# Columns by the names that they have in older files. "at" and "by" are words of SQL.
OLD_COLUMNS = {"corrections": {"corrected_at": "at", "corrected_by": "by"}}


def utc(seconds: float) -> dt.datetime:
    """Seconds since 1970 as a UTC datetime, rounded to the microsecond that a file's mtime is compared at.

    What no datetime holds (the year 10000) is 1970, as an unknown time is: it stands in the rejects only.
    """
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
    try:
        return epoch + dt.timedelta(microseconds=round(seconds * 1e6))
    except (OverflowError, ValueError):
        return epoch


def storable(text: str) -> str:
    """Text that Parquet can hold: what is no valid Unicode (a name in another encoding, a damaged tag) is escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def track_columns(track: Track) -> dict[str, Any]:
    names = {"uri": storable(track.uri), "track_id": storable(track.track_id)}
    return {**names, "size": min(max(track.size, 0), 2**63 - 1), "mtime": utc(track.mtime)}


def tag_columns(tags: FileTags) -> dict[str, Any]:
    """What a result row says of the file's own tags."""
    user = tags.user_genres
    return {
        "genre_before": [storable(genre) for genre in tags.genres],
        "genre_user": None if user is None else [storable(genre) for genre in user],
        **{name: (value := getattr(tags, name)) and storable(value) for name in ("artist", "album", "title")},
    }


def reject_row(rejection: Rejection, run_id: str, processed_at: dt.datetime) -> dict[str, Any]:
    return {
        **track_columns(rejection.track),
        "stage": rejection.stage,
        "error": rejection.error,
        "message": storable(" ".join(rejection.message.splitlines())),
        "run_id": run_id,
        "processed_at": processed_at,
    }
