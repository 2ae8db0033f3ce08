"""What an output folder already knows: the newest row per track, over all runs.

A results dataset is its own ledger. Each run adds files; the newest row of a track, by `processed_at`,
speaks for it, and a track whose newest row is a reject has no result.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import LedgerError
from features.schema import Track
from pipelines.dataset.journal import Origins
from pipelines.dataset.schema import REJECTS, RESULTS

RESULTS_DIR, REJECTS_DIR = "results", "rejects"
_KEY = ["track_id", "size", "mtime", "processed_at"]


def read_rows(output_dir: Path, kind: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of all runs, oldest first. `kind` is RESULTS_DIR or REJECTS_DIR.

    Raises:
        LedgerError: a file in the folder is no readable Parquet file or lacks a column.
    """
    schema = _schema(kind, columns)
    tables = [_read(path, kind, schema) for path in _files(output_dir, kind)]
    return pa.concat_tables([schema.empty_table(), *tables]).sort_by("processed_at")


def newest_results_by_file(output_dir: Path, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The newest result of each track that has one, a table for each file that holds any; raises LedgerError.

    File by file, because a million rows with their chunk scores do not fit into memory together.
    """
    files = _files(output_dir, RESULTS_DIR)
    speaking: dict[str, tuple[int, int, int]] = {}  # track_id to when, which file, which row
    key = _schema(RESULTS_DIR, ["track_id", "processed_at"])
    for number, path in enumerate(files):
        rows = _read(path, RESULTS_DIR, key)
        times = rows["processed_at"].cast(pa.int64()).to_pylist()
        for row, (track_id, when) in enumerate(zip(rows["track_id"].to_pylist(), times, strict=True)):
            if track_id not in speaking or when >= speaking[track_id][0]:
                speaking[track_id] = (when, number, row)
    rejects = read_rows(output_dir, REJECTS_DIR, ["track_id", "stage", "processed_at"])
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
        table = _read(files[number], RESULTS_DIR, _schema(RESULTS_DIR, columns))
        yield table.take(pa.array(sorted(numbers), pa.int64()))


def newest_results(output_dir: Path, columns: list[str] | None = None) -> pa.Table:
    """The same in one table, ordered by track_id; name the columns you need where there may be many rows."""
    names = columns or RESULTS.names
    wanted = list(dict.fromkeys([*names, "track_id"]))
    tables = newest_results_by_file(output_dir, wanted)
    rows = pa.concat_tables([_schema(RESULTS_DIR, wanted).empty_table(), *tables])
    # Not sort_by: this orders by code points, as Python and the walk of a library do.
    track_ids = rows["track_id"].to_pylist()
    order = sorted(range(len(rows)), key=track_ids.__getitem__)
    return rows.take(pa.array(order, pa.int64())).select(names)


def _files(output_dir: Path, kind: str) -> list[Path]:
    return sorted((output_dir / kind).glob("*.parquet"))


def _schema(kind: str, columns: list[str] | None) -> pa.Schema:
    schema = RESULTS if kind == RESULTS_DIR else REJECTS
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def _read(path: Path, kind: str, schema: pa.Schema) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=schema.names).select(schema.names).cast(schema)
    except (pa.ArrowException, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise LedgerError(
            f"{path}: not a readable {kind} file ({reason}); move it away, and its tracks will be analysed again"
        ) from error


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
    def read(cls, output_dir: Path) -> Ledger:
        """Raises LedgerError where a file of the dataset cannot be read."""
        results = read_rows(output_dir, RESULTS_DIR, [*_KEY, "model_fingerprint", "vote"])
        rejects = read_rows(output_dir, REJECTS_DIR, [*_KEY, "stage"])
        rejects = rejects.filter(pc.not_equal(rejects["stage"], "apply"))

        def columns(table: pa.Table, *names: str) -> list[list]:
            return [(table[n].cast(pa.int64()) if n == "mtime" else table[n]).to_pylist() for n in names]

        # Rows come oldest first, so the newest of a track is the one that stays.
        tagged_ids, *tagged = columns(results, "track_id", "size", "mtime", "model_fingerprint", "vote")
        rejected_ids, *rejected = columns(rejects, "track_id", "size", "mtime")
        return cls(
            dict(zip(tagged_ids, zip(*tagged, strict=True), strict=True)) if tagged_ids else {},
            dict(zip(rejected_ids, zip(*rejected, strict=True), strict=True)) if rejected_ids else {},
            Origins.read(output_dir),
        )

    def is_tagged(self, track: Track, fingerprint: str, vote: str) -> bool:
        """Whether this version of the file has a result of this model and this way of voting."""
        size, mtime, *how = self.tagged.get(track.track_id, (-1, -1, "", ""))
        now = self.origins.of(track.track_id, track.size, round(track.mtime * 1e6))
        return now == self.origins.of(track.track_id, size, mtime) and how == [fingerprint, vote]

    def is_rejected(self, track: Track) -> bool:
        """Whether this version of the file was turned down; another model would not decode it either."""
        return self.rejected.get(track.track_id) == (track.size, round(track.mtime * 1e6))
