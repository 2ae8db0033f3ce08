"""Any number of rows in the order of their track_ids, few of them in memory: sorted parts in files, then merged."""

from __future__ import annotations

import heapq
import operator
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_PART, _GROUP = 200_000, 500  # rows sorted at a time, and in memory of each part while parts are merged


def in_order(tables: Iterable[pa.Table]) -> tuple[int, Iterator[dict[str, Any]]]:
    """How many rows tables have together, and the rows. All tables have been read when this returns."""
    scratch = tempfile.TemporaryDirectory(prefix="genrebeam-")
    count = 0
    parts: list[Path] = []
    for table in _gathered(tables):
        count += len(table)
        parts.append(Path(scratch.name, f"{len(parts)}.parquet"))
        pq.write_table(table.sort_by("track_id"), parts[-1], compression="zstd", row_group_size=_GROUP)

    def rows() -> Iterator[dict[str, Any]]:
        with scratch:
            yield from heapq.merge(*map(_rows, parts), key=operator.itemgetter("track_id"))

    return count, rows()


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about a part each."""
    some: list[pa.Table] = []
    count = 0
    for table in tables:
        some.append(table)
        count += len(table)
        if count >= _PART:
            yield pa.concat_tables(some)
            some, count = [], 0
    if some:
        yield pa.concat_tables(some)


def _rows(part: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(part) as file:
        for number in range(file.num_row_groups):
            yield from file.read_row_group(number).to_pylist()
