"""The plan of a run: what is to be done, as a Parquet file beside the dataset, read in parts by whoever works."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.storage.folders import Folder, folder_at

_BEGUN = ".begun"
_PARTS, _LARGEST_PART = 2_000, 1_000  # parts of a large plan, and rows in one


def write_plan(folder: Folder, name: str, rows: pa.Table) -> None:
    """Write a plan in parts small enough to spread and few enough to name; raises OSError."""
    part = min(max(1, len(rows) // _PARTS), _LARGEST_PART)
    with folder.new(name) as path:
        pq.write_table(rows, path, row_group_size=part, compression="zstd")


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


class NameParts(beam.DoFn):
    """The name of a plan to the numbers of its parts; says beside it that a worker is there."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, name: str) -> Iterator[tuple[str, int]]:
        folder = folder_at(self._folder)
        with folder.new(name + _BEGUN) as path:
            path.touch()
        with folder.open(name) as file:
            for part in range(pq.ParquetFile(file).num_row_groups):
                yield name, part


class ReadPart(beam.DoFn):
    """A part of a plan to its rows."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def setup(self) -> None:
        self._open = functools.lru_cache(maxsize=1)(lambda name: pq.ParquetFile(folder_at(self._folder).open(name)))

    def process(self, part: tuple[str, int]) -> Iterator[dict[str, Any]]:
        name, number = part
        yield from self._open(name).read_row_group(number).to_pylist()
