"""The results dataset: one object that knows its layout, its lock, and every read and write, on a disk or in a bucket.

What rows mean is elsewhere: dataset/ledger.py (the newest row of a track speaks for it) and dataset/journal.py.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from genrebeam.features.errors import LedgerError, UsageError
from genrebeam.features.schema import Rejection
from genrebeam.pipelines.dataset.schema import CORRECTIONS, JOURNAL, OLD_COLUMNS, REJECTS, RESULTS, reject_row
from genrebeam.pipelines.storage.folders import Folder, folder_at, write_json

RESULTS_DIR, REJECTS_DIR, JOURNAL_DIR = "results", "rejects", "applied"
CORRECTIONS_DIR = "corrections"
CHECKS_FILE = "tags-to-check.parquet"  # of `genrebeam learn`
SCHEMAS = {RESULTS_DIR: RESULTS, REJECTS_DIR: REJECTS, JOURNAL_DIR: JOURNAL, CORRECTIONS_DIR: CORRECTIONS}
_ADVICE = {
    RESULTS_DIR: "move it away, and its tracks will be analysed again",
    REJECTS_DIR: "move it away, and its tracks will be analysed again",
    JOURNAL_DIR: "restore it to undo",
    CORRECTIONS_DIR: "restore it, or move it away and its corrections no longer count",
}
_MERGED = "-all"  # what the name of a file ends with that was merged of smaller ones
_MERGED_ROWS, _ROWS_PER_GROUP = 50_000, 5_000  # of a merged file, and of what is in memory at a time


_STAMP = re.compile(r"(?:run-)?(\d{8}T\d{6}Z)-")
_STAMP_FORMAT = "%Y%m%dT%H%M%SZ"


def order_of_runs(run_ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Numbers that grow in the order of runs, one for each row; 0 for a run that another program has named."""
    coded = run_ids.combine_chunks().dictionary_encode()
    stamps = (_STAMP.match(run_id) for run_id in coded.dictionary.to_pylist())
    numbers = [int(re.sub(r"\D", "", stamp[1])) if stamp else 0 for stamp in stamps]
    return np.array(numbers, np.int64)[coded.indices.to_numpy()] if len(coded) else np.empty(0, np.int64)


class MergedMeanwhile(LedgerError):
    """A file was removed after it was listed; its rows are in another by now."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A results folder.

    Rows are added file by file, and a file that is there is never changed. Readers see whole files only.
    """

    folder: Folder

    @staticmethod
    def at(place: Dataset | Folder | str | os.PathLike[str]) -> Dataset:
        """The dataset in a folder, which need not exist yet; raises UsageError for a URL that cannot be written."""
        return place if isinstance(place, Dataset) else Dataset(folder_at(place))

    def __str__(self) -> str:
        return self.folder.uri

    @property
    def exists(self) -> bool:
        """Whether `genrebeam tag` has ever written here."""
        return bool(self.files(RESULTS_DIR) or self.files(REJECTS_DIR))

    def new_run_id(self, started: dt.datetime) -> str:
        """A unique name for a run that began at that time (UTC). Raises UsageError.

        Names sort in the order of runs: where a clock was ahead once, or another machine's is, the next run takes the
        second after the newest name that is there.
        """
        names = [name for kind in SCHEMAS for name in (self.folder / kind).names()] + self.folder.names()
        newest = max((stamp[1] for stamp in map(_STAMP.match, names) if stamp), default="")
        stamp = started.strftime(_STAMP_FORMAT)
        if newest >= stamp:
            with contextlib.suppress(ValueError, OverflowError):  # a name that is no time
                stamp = (dt.datetime.strptime(newest, _STAMP_FORMAT) + dt.timedelta(seconds=1)).strftime(_STAMP_FORMAT)
        return f"{stamp}-{secrets.token_hex(3)}"

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold it against a second run; raises UsageError."""
        return self.folder.lock()

    def files(self, kind: str, *, run_id: str = "") -> list[str]:
        """Names of the files of a kind, of one run or of all, sorted; raises UsageError."""
        names = (self.folder / kind).names()
        return [name for name in names if name.endswith(".parquet") and name.startswith(run_id)]

    def read(self, kind: str, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One file. Columns that it is too old to have are null.

        Raises:
            MergedMeanwhile: it is not there any more.
            LedgerError: it is no readable Parquet file or lacks a column that every row must have.
        """
        schema = schema_of(kind, columns)
        try:
            with (self.folder / kind).open(name) as source, pq.ParquetFile(source) as file:
                there = set(file.schema_arrow.names)
                old = {new: name for new, name in OLD_COLUMNS.get(kind, {}).items() if new not in there}
                table = file.read(columns=[name for name in (old.get(f.name, f.name) for f in schema) if name in there])
                there |= {new for new, name in old.items() if name in there}
            table = table.rename_columns({name: new for new, name in old.items() if name in table.column_names})
            for field in schema:
                if field.name not in there:
                    if not field.nullable:
                        raise KeyError(f"no column {field.name}")
                    table = table.append_column(field, pa.nulls(len(table), field.type))
            return table.select(schema.names).cast(schema)
        except (pa.ArrowException, OSError, KeyError) as error:
            reason = str(error).splitlines()[0]
            gone = isinstance(error, FileNotFoundError)
            advice = _ADVICE[kind]
            if isinstance(error, OSError) and error.errno:  # the file may be whole
                advice = "leave it where it is: does its drive or store answer? The same command continues then"
            raise (MergedMeanwhile if gone else LedgerError)(
                f"{self}/{kind}/{name}: not a readable {kind} file ({reason}); {advice}"
            ) from error

    def tables(self, kind: str, columns: Sequence[str] | None = None, *, run_id: str = "") -> Iterator[pa.Table]:
        """File by file, because a million rows with their chunk scores do not fit into memory; raises LedgerError."""
        return (table for _, table in self.named_tables(kind, columns, run_id=run_id))

    def named_tables(
        self, kind: str, columns: Sequence[str] | None = None, *, run_id: str = "", seen: set[str] | None = None
    ) -> Iterator[tuple[str, pa.Table]]:
        """The same with the names of the files.

        Where a merge removes a file meanwhile, its rows come from the merged one, and others come twice: the newest row
        of a track counts, so that means the same.

        Args:
            seen: names of files to skip; the names of the files that are yielded are added.
        """
        seen = set() if seen is None else seen
        while waiting := [name for name in self.files(kind, run_id=run_id) if name not in seen]:
            for name in waiting:
                try:
                    table = self.read(kind, name, columns)
                except MergedMeanwhile:
                    break
                seen.add(name)
                yield name, table

    def rows(self, kind: str, columns: Sequence[str] | None = None, *, run_id: str = "") -> pa.Table:
        """All rows in one table; raises LedgerError."""
        schema = schema_of(kind, columns)
        return pa.concat_tables([schema.empty_table(), *self.tables(kind, columns, run_id=run_id)])

    def add(self, kind: str, run_id: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add a file with these rows; when this returns they stay. Raises OSError."""
        self.add_table(kind, run_id, pa.Table.from_pylist(list(rows), SCHEMAS[kind]))

    def add_table(self, kind: str, run_id: str, table: pa.Table) -> None:
        """The same for rows in a table of the kind's schema."""
        with (self.folder / kind).new(f"{run_id}-{secrets.token_hex(8)}.parquet") as path:
            pq.write_table(table, path, compression="zstd")

    def add_rejects(self, run_id: str, rejections: Iterable[Rejection]) -> None:
        """Add a file of rejections; raises OSError."""
        now = dt.datetime.now(dt.timezone.utc)
        self.add(REJECTS_DIR, run_id, (reject_row(rejection, run_id, now) for rejection in rejections))

    def merge(self, kind: str) -> None:
        """Make few large files of many small ones, run by run. Only with the lock: others must not be adding.

        Files with columns of a newer version stay as they are. The large files are there before the small ones go. A
        kill in between leaves rows twice, which mean the same.
        """
        folder = self.folder / kind
        small: dict[str, list[str]] = {}
        for name in self.files(kind):
            run_id, _, rest = name.removesuffix(".parquet").rpartition("-")
            if run_id and not rest.startswith(_MERGED[1:]):
                small.setdefault(run_id, []).append(name)
        for run_id, names in small.items():
            if len(names) < 2 or any(self._is_newer(kind, name) for name in names):
                continue
            waiting = collections.deque(names)
            while waiting:
                with (
                    folder.new(f"{run_id}{_MERGED}{secrets.token_hex(4)}.parquet") as path,
                    pq.ParquetWriter(path, SCHEMAS[kind], compression="zstd") as writer,
                ):
                    written = 0
                    while waiting and written < _MERGED_ROWS:
                        group = [self.read(kind, waiting.popleft())]
                        while waiting and sum(map(len, group)) < _ROWS_PER_GROUP:
                            group.append(self.read(kind, waiting.popleft()))
                        writer.write_table(pa.concat_tables(group))
                        written += sum(map(len, group))
            for done in names:
                folder.delete(done)

    def _is_newer(self, kind: str, name: str) -> bool:
        """Whether a file has columns of a newer version, which a merge would lose."""
        with (self.folder / kind).open(name) as source, pq.ParquetFile(source) as file:
            return not set(file.schema_arrow.names) <= set(SCHEMAS[kind].names)

    def save_report(self, run_id: str, report: Mapping[str, Any]) -> None:
        """Write run-RUN_ID.json, in place of an older state of it; raises OSError."""
        write_json(self.folder, f"run-{run_id}.json", report)


def schema_of(kind: str, columns: Sequence[str] | None = None) -> pa.Schema:
    """The schema of a kind of rows, or of some of its columns."""
    schema = SCHEMAS[kind]
    return schema if columns is None else pa.schema([schema.field(name) for name in columns])


def existing(place: Dataset | str | os.PathLike[str]) -> Dataset:
    """A dataset that somebody has filled, also by the name of its folder of results or rejects; raises UsageError."""
    dataset = Dataset.at(place)
    if dataset.exists:
        return dataset
    parent, _, name = str(dataset).rpartition("/")
    if parent and name in SCHEMAS and (above := Dataset.at(parent)).exists:
        return above
    # The folder itself is not proposed as --output: it is often the music.
    raise UsageError(
        f"{dataset}: no results here; give the folder that `genrebeam tag LIBRARY --output DIR` has filled"
    )
