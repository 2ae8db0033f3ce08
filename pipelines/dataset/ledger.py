"""What a dataset already knows: the newest row per track, over all runs.

A results dataset is its own ledger. Each run adds rows; the newest row of a track, by `processed_at`,
speaks for it, and a track whose newest row is a reject has no result.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import os
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from features.schema import Track
from pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, Dataset, schema_of
from pipelines.dataset.journal import Origins
from pipelines.dataset.schema import RESULTS

_KEY = ["track_id", "size", "mtime", "processed_at"]
Place = Dataset | str | os.PathLike[str]


def read_rows(place: Place, kind: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of all runs, oldest first. `kind` is RESULTS_DIR or REJECTS_DIR.

    Raises:
        LedgerError: a file in the folder is no readable Parquet file or lacks a column.
    """
    return Dataset.at(place).rows(kind, columns).sort_by("processed_at")


def newest_results_by_file(place: Place, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The newest result of each track that has one, a table for each file that holds any; raises LedgerError.

    File by file, because a million rows with their chunk scores do not fit into memory together.
    """
    dataset = Dataset.at(place)
    files = dataset.files(RESULTS_DIR)
    speaking: dict[str, tuple[int, int, int]] = {}  # track_id to when, which file, which row
    for number, name in enumerate(files):
        rows = dataset.read(RESULTS_DIR, name, ["track_id", "processed_at"])
        times = rows["processed_at"].cast(pa.int64()).to_pylist()
        for row, (track_id, when) in enumerate(zip(rows["track_id"].to_pylist(), times, strict=True)):
            if track_id not in speaking or when >= speaking[track_id][0]:
                speaking[track_id] = (when, number, row)
    rejects = read_rows(dataset, REJECTS_DIR, ["track_id", "stage", "processed_at"])
    # A tag that could not be written says nothing about what was heard.
    rejects = rejects.filter(pc.not_equal(rejects["stage"], "apply"))
    times = rejects["processed_at"].cast(pa.int64()).to_pylist()
    for track_id, when in zip(rejects["track_id"].to_pylist(), times, strict=True):
        if track_id in speaking and speaking[track_id][0] < when:
            del speaking[track_id]
    rows_of: dict[int, list[int]] = collections.defaultdict(list)
    for _, number, row in speaking.values():
        rows_of[number].append(row)
    for number, numbers in sorted(rows_of.items()):
        table = dataset.read(RESULTS_DIR, files[number], columns)
        yield table.take(pa.array(sorted(numbers), pa.int64()))


def newest_results(place: Place, columns: list[str] | None = None) -> pa.Table:
    """The same in one table, ordered by track_id; name the columns you need where there may be many rows."""
    names = columns or RESULTS.names
    wanted = list(dict.fromkeys([*names, "track_id"]))
    tables = newest_results_by_file(place, wanted)
    rows = pa.concat_tables([schema_of(RESULTS_DIR, wanted).empty_table(), *tables])
    # Not sort_by: this orders by code points, as Python and the walk of a library do.
    track_ids = rows["track_id"].to_pylist()
    order = sorted(range(len(rows)), key=track_ids.__getitem__)
    return rows.take(pa.array(order, pa.int64())).select(names)


def follow(dataset: Dataset, tracks: Iterable[Track]) -> int:
    """Let the results of tracks say where their files are now, and count those that had to: a library may move.

    A row is never changed. The newest one is added again with the new place, a microsecond younger and otherwise the
    same, so that it speaks for its track and what is written into the file (the date of the analysis) stays.

    Raises:
        LedgerError: a file of the dataset cannot be read.
    """
    places = {track.track_id: track.uri for track in tracks}
    moved: set[str] = set()
    for table in newest_results_by_file(dataset, ["track_id", "uri"]):
        now = pa.array([places.get(track_id) for track_id in table["track_id"].to_pylist()], pa.string())
        moved |= set(table["track_id"].filter(pc.not_equal(table["uri"], now)).to_pylist())
    if not moved:
        return 0
    for table in newest_results_by_file(dataset):
        by_run: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)
        for row in table.filter(pc.is_in(table["track_id"], pa.array(sorted(moved)))).to_pylist():
            younger = row["processed_at"] + dt.timedelta(microseconds=1)
            by_run[row["run_id"]].append(row | {"uri": places[row["track_id"]], "processed_at": younger})
        for run_id, rows in by_run.items():
            dataset.add(RESULTS_DIR, run_id, rows)
    return len(moved)


@dataclasses.dataclass(frozen=True)
class Ledger:
    """For each track the version of the file that was last looked at, and by what.

    Attributes:
        tagged: track_id to (size, mtime in microseconds, model fingerprint, vote).
        rejected: track_id to (size, mtime in microseconds).
        origins: what `genrebeam apply` made of files; a tag of ours changes the size of a file and not its sound.
    """

    tagged: dict[str, tuple[int, int, str, str]]
    rejected: dict[str, tuple[int, int]]
    origins: Origins

    @classmethod
    def read(cls, place: Place) -> Ledger:
        """Raises LedgerError where a file of the dataset cannot be read."""
        dataset = Dataset.at(place)
        results = read_rows(dataset, RESULTS_DIR, [*_KEY, "model_fingerprint", "vote"])
        rejects = read_rows(dataset, REJECTS_DIR, [*_KEY, "stage"])
        rejects = rejects.filter(pc.not_equal(rejects["stage"], "apply"))

        def columns(table: pa.Table, *names: str) -> list[list]:
            return [(table[n].cast(pa.int64()) if n == "mtime" else table[n]).to_pylist() for n in names]

        # Rows come oldest first, so the newest of a track is the one that stays.
        tagged_ids, *tagged = columns(results, "track_id", "size", "mtime", "model_fingerprint", "vote")
        rejected_ids, *rejected = columns(rejects, "track_id", "size", "mtime")
        return cls(
            dict(zip(tagged_ids, zip(*tagged, strict=True), strict=True)) if tagged_ids else {},
            dict(zip(rejected_ids, zip(*rejected, strict=True), strict=True)) if rejected_ids else {},
            Origins.read(dataset),
        )

    def is_tagged(self, track: Track, fingerprint: str, vote: str) -> bool:
        """Whether this version of the file has a result of this model and this way of voting."""
        size, mtime, *how = self.tagged.get(track.track_id, (-1, -1, "", ""))
        now = self.origins.of(track.track_id, track.size, round(track.mtime * 1e6))
        return now == self.origins.of(track.track_id, size, mtime) and how == [fingerprint, vote]

    def is_rejected(self, track: Track) -> bool:
        """Whether this version of the file was turned down; another model would not decode it either."""
        return self.rejected.get(track.track_id) == (track.size, round(track.mtime * 1e6))
