"""Rows and features straight into the dataset, as whole files with names of their own.

No Beam sink: those write when a bundle, or all of them, are done, and what was heard until a kill would be lost. What a
retried bundle writes twice means the same, because the newest row of a track counts.
"""

from __future__ import annotations

import datetime as dt
import secrets
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue

from genrebeam.features.records import encode
from genrebeam.features.schema import Rejection, TrackFeatures
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.dataset.schema import reject_row
from genrebeam.pipelines.storage.folders import folder_at

# What a kill may cost: the rows of so much time, or so many. Small files are merged at the end of a run.
_ROWS, WRITE_EVERY_S = 500, 20.0
_FEATURES_BYTES = 64 << 20  # what a worker holds of features before it writes them


class WriteRows(beam.DoFn):
    """Adds rows to a dataset; gives the number of rows in each file."""

    def __init__(self, dataset: str, kind: str, run_id: str, every_s: float) -> None:
        self._dataset, self._kind, self._run_id, self._every_s = dataset, kind, run_id, every_s

    def start_bundle(self) -> None:
        self._rows: list[dict[str, Any]] = []
        self._since = time.monotonic()

    def process(self, row: dict[str, Any]) -> Iterator[int]:
        self._rows.append(row)
        if len(self._rows) >= _ROWS or time.monotonic() - self._since >= self._every_s:
            yield self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._rows:
            yield WindowedValue(self._flush(), MIN_TIMESTAMP, (GlobalWindow(),))

    def _flush(self) -> int:
        rows = self._rows
        Dataset.at(self._dataset).add(self._kind, self._run_id, rows)
        self.start_bundle()
        return len(rows)


def as_reject_row(rejection: Rejection, run_id: str) -> dict[str, Any]:
    """A rejection of now."""
    return reject_row(rejection, run_id, dt.datetime.now(dt.timezone.utc))


class WriteFeatures(beam.DoFn):
    """Adds TFRecord files to a folder, one record per track, and hands the features on when they are there.

    So a track that has a row has its features too.
    """

    def __init__(self, folder: str, run_id: str, every_s: float) -> None:
        self._folder, self._run_id, self._every_s = folder, run_id, every_s

    def start_bundle(self) -> None:
        self._held: list[tuple[TrackFeatures, bytes]] = []
        self._bytes, self._since = 0, time.monotonic()

    def process(self, features: TrackFeatures) -> Iterator[TrackFeatures]:
        record = encode(features)
        self._held.append((features, record))
        self._bytes += len(record)
        if self._bytes >= _FEATURES_BYTES or time.monotonic() - self._since >= self._every_s:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for features in self._flush():
            yield WindowedValue(features, MIN_TIMESTAMP, (GlobalWindow(),))

    def _flush(self) -> list[TrackFeatures]:
        from tensorflow.io import TFRecordWriter

        held = self._held
        if held:
            name = f"{self._run_id}-{secrets.token_hex(8)}.tfrecord"
            with folder_at(self._folder).new(name) as path, TFRecordWriter(str(path)) as writer:
                for _, record in held:
                    writer.write(record)
        self.start_bundle()
        return [features for features, _ in held]
