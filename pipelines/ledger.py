"""What an output folder already knows: the newest row per track, over all runs.

A results dataset is its own ledger. Each run adds files; the newest row of a track, by `processed_at`,
speaks for it, and a track whose newest row is a reject has no result.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import LedgerError
from features.schema import Track
from pipelines.journal import Origins
from pipelines.sinks import REJECTS, RESULTS

RESULTS_DIR, REJECTS_DIR = "results", "rejects"
_KEY = ["track_id", "size", "mtime", "processed_at"]


def read_rows(output_dir: Path, kind: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of all runs, oldest first. `kind` is RESULTS_DIR or REJECTS_DIR.

    Raises:
        LedgerError: a file in the folder is no readable Parquet file or lacks a column.
    """
    schema = RESULTS if kind == RESULTS_DIR else REJECTS
    if columns is not None:
        schema = pa.schema([schema.field(name) for name in columns])
    tables = []
    for path in sorted((output_dir / kind).glob("*.parquet")):
        try:
            tables.append(pq.ParquetFile(path).read(columns=schema.names).select(schema.names).cast(schema))
        except (pa.ArrowException, OSError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise LedgerError(
                f"{path}: not a readable {kind} file ({reason}); move it away, and its tracks will be analysed again"
            ) from error
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    return table.sort_by("processed_at")


def newest_results(output_dir: Path, columns: list[str] | None = None) -> pa.Table:
    """The newest result of each track that has one, ordered by track_id; raises LedgerError."""
    names = columns or RESULTS.names
    rows = read_rows(output_dir, RESULTS_DIR, list(dict.fromkeys([*names, "track_id", "processed_at"])))
    newest = dict(zip(rows["track_id"].to_pylist(), range(len(rows)), strict=True))
    rejects = read_rows(output_dir, REJECTS_DIR, ["track_id", "stage", "processed_at"])
    # A tag that could not be written says nothing about what was heard.
    rejects = rejects.filter(pc.not_equal(rejects["stage"], "apply"))
    times = rows["processed_at"]
    for track_id, when in zip(rejects["track_id"].to_pylist(), rejects["processed_at"], strict=True):
        if track_id in newest and pc.less(times[newest[track_id]], when).as_py():
            del newest[track_id]
    return rows.take(pa.array([newest[track_id] for track_id in sorted(newest)], pa.int64())).select(names)


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
