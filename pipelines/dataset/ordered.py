"""Any number of rows in order, few of them in memory: sorted parts in files, then merged."""

from __future__ import annotations

import heapq
import operator
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

_PART, _GROUP = 200_000, 500  # rows sorted at a time, and in memory of each part while parts are merged
_PART_BYTES = 128 << 20  # that are sorted at a time: a row of the journal may bring what stood in a file


def in_order(tables: Iterable[pa.Table], by: Sequence[str] = ("track_id",)) -> tuple[int, Iterator[dict[str, Any]]]:
    """How many rows tables have together, and the rows, in the order of some columns.

    All tables have been read when this returns.
    """
    scratch = tempfile.TemporaryDirectory(prefix="genrebeam-")
    count = 0
    parts: list[Path] = []
    for table in _gathered(tables):
        count += len(table)
        parts.append(Path(scratch.name, f"{len(parts)}.parquet"))
        pq.write_table(
            table.sort_by([(name, "ascending") for name in by]), parts[-1], compression="zstd", row_group_size=_GROUP
        )

    def rows() -> Iterator[dict[str, Any]]:
        with scratch:
            yield from heapq.merge(*map(_rows, parts), key=operator.itemgetter(*by))

    return count, rows()


def _gathered(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of about a part each."""
    some: list[pa.Table] = []
    count = size = 0
    for table in tables:
        some.append(table)
        count, size = count + len(table), size + table.nbytes
        if count >= _PART or size >= _PART_BYTES:
            yield pa.concat_tables(some)
            some, count, size = [], 0, 0
    if some:
        yield pa.concat_tables(some)


def _rows(part: Path) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(part) as file:
        for number in range(file.num_row_groups):
            yield from file.read_row_group(number).to_pylist()
