"""Tracks in files: the plan of a run beside the dataset, which workers read in parts, and what the driver has to do."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from genrebeam.features.schema import Track
from genrebeam.pipelines.storage.folders import Folder

_PARTS, _LARGEST_PART = 2_000, 1_000  # parts of a large plan, and rows in one
_BEGUN = ".begun"
_LOCAL, _REMOTE = ".genrebeam-plan-here-", ".genrebeam-plan-"
_TRACK = pa.schema([("uri", pa.string()), ("track_id", pa.string()), ("size", pa.int64()), ("mtime", pa.float64())])


def as_table(tracks: Iterable[Track]) -> pa.Table:
    """Tracks as a table with the columns of a Track."""
    rows = [(track.uri, track.track_id, track.size, track.mtime) for track in tracks]
    columns = zip(*rows, strict=True) if rows else [()] * len(_TRACK)
    return pa.table([pa.array(c, field.type) for c, field in zip(columns, _TRACK, strict=True)], schema=_TRACK)


@dataclasses.dataclass(frozen=True)
class TrackFile:
    """Any number of tracks in a file on this machine."""

    path: Path

    @staticmethod
    def write(path: Path, tables: Iterable[pa.Table]) -> TrackFile:
        """Raises OSError."""
        with pq.ParquetWriter(path, _TRACK, compression="zstd") as writer:
            for table in tables:
                writer.write_table(table)
        return TrackFile(path)

    def __len__(self) -> int:
        count: int = pq.read_metadata(self.path).num_rows
        return count

    def tables(self) -> Iterator[pa.Table]:
        """All of them, as they were written."""
        with pq.ParquetFile(self.path) as file:
            for number in range(file.num_row_groups):
                yield file.read_row_group(number)


def plan_name(run_id: str, *, is_local: bool) -> str:
    """What a run calls its plan in the dataset's folder.

    Local workers end with their driver, so what a killed one leaves serves nobody (`remove_old_plans`). Workers
    elsewhere may outlive it, and a template is run later still.
    """
    return f"{_LOCAL if is_local else _REMOTE}{run_id}.parquet"


def remove_old_plans(folder: Folder) -> None:
    """Remove the plans that killed local runs left; only with the folder's lock. Raises OSError, UsageError."""
    for name in folder.names(hidden=True):
        if name.startswith(_LOCAL):
            folder.delete(name)


def write_plan(folder: Folder, name: str, tables: Iterable[pa.Table], count: int) -> int:
    """Write a plan of about `count` rows in parts small enough to spread and few enough to name; raises OSError.

    Returns:
        How many rows there are. A plan without any is not written.
    """
    part = min(max(1, count // _PARTS), _LARGEST_PART)
    tables = (table for table in tables if len(table))
    first = next(tables, None)
    if first is None:
        return 0
    written = 0
    with folder.new(name) as path, pq.ParquetWriter(path, first.schema, compression="zstd") as writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=part)
            written += len(table)
    return written


def say_begun(folder: Folder, name: str) -> None:
    """Say beside a plan that a worker is there; raises OSError."""
    with folder.new(name + _BEGUN) as path:
        path.touch()


def has_begun(folder: Folder, name: str) -> bool:
    """Whether a worker has opened the plan."""
    try:
        folder.open(name + _BEGUN).close()
    except OSError:
        return False
    return True


def remove_plan(folder: Folder, name: str) -> None:
    """Remove a plan that is worked off; raises OSError."""
    folder.delete(name)
    folder.delete(name + _BEGUN)
