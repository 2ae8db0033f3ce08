"""A plan (dataset/plan.py) as Beam reads it: its parts, spread over workers, and their rows."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq

from pipelines.dataset.plan import say_begun
from pipelines.storage.folders import folder_at


class NameParts(beam.DoFn):
    """The name of a plan to the numbers of its parts; says beside it that a worker is there."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def process(self, name: str) -> Iterator[tuple[str, int]]:
        folder = folder_at(self._folder)
        say_begun(folder, name)
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
