"""A plan (dataset/plan.py) as Beam reads it: its parts, spread over workers, and their rows."""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.dataset.plan import say_begun
from genrebeam.pipelines.storage.folders import folder_at


def versions() -> dict[str, str]:
    """Of what the machine that submits a job and its workers have to have in common, as far as it is installed."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for name in ("apache-beam", "genrebeam"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


class NameParts(beam.DoFn):
    """The name of a plan to the numbers of its parts; says beside it that a worker is there.

    Raises:
        UsageError: the worker has other versions than the machine that made this.
    """

    def __init__(self, folder: str) -> None:
        self._folder, self._versions = folder, versions()

    def setup(self) -> None:
        for name, here in versions().items():
            if (there := self._versions.get(name, here)) != here:
                raise UsageError(
                    f"this worker has {name} {here}, and the job was submitted with {there}: make the image or the "
                    "worker's environment anew with that version (deploy/Dockerfile)"
                )

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
