"""The write-ahead journal of tag changes: DIR/applied/*.parquet, a row for each file before it is touched.

A row is durable before its file is replaced, and the replacing is one rename or one put. So the file itself shows
whether the change was made, and nothing has to be committed afterwards. The time of a put, which only the store knows,
follows in a second row. Documented in docs/tags.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genrebeam.pipelines.dataset.dataset import JOURNAL_DIR, Dataset, order_of_runs
from genrebeam.pipelines.dataset.keys import keys_of, newest
from genrebeam.pipelines.dataset.schema import JOURNAL, storable
from genrebeam.pipelines.storage.folders import write_json
from genrebeam.pipelines.storage.places import local_path
from genrebeam.pipelines.tags.change import Kept
from genrebeam.pipelines.tags.patch import Former
from genrebeam.pipelines.tags.read import TagValues
from genrebeam.pipelines.tags.writer import remove_leftover

APPLY, UNDO = "apply", "undo"
IN_ORDER = ("run_id", "at")  # columns; names of runs sort in the order of runs, whatever clocks say
PUT = "put"  # an object was written, and at that time: nothing to undo, and for `Origins` to know


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row; the attributes are its columns.

    Attributes:
        before, after: what reading the file gives.
        tags_before: our fields as they stood in the file, byte for byte.
        former: what stood where the change wrote; None where that was too much to keep, and in old journals.
        mtime_ns_after: None before an object is put, because its store tells the time.
        temporary: the name of the copy beside the file while it is being made; an object has none.
        dataset: the folder of this journal when the row was written, links resolved; empty in old journals.
    """

    uri: str
    track_id: str
    run_id: str
    at: Any
    action: str
    before: TagValues
    after: TagValues
    tags_before: tuple[Kept, ...]
    size_before: int
    mtime_ns_before: int
    size_after: int
    mtime_ns_after: int | None
    temporary: str
    former: tuple[Former, ...] | None = None
    dataset: str = ""

    def to_row(self) -> dict[str, Any]:
        row = {name: getattr(self, name) for name in JOURNAL.names if hasattr(self, name)}
        for when, values in (("before", self.before), ("after", self.after)):
            row[f"genre_{when}"] = list(values.genres)
            row[f"provenance_{when}"] = [{"name": k, "values": list(v)} for k, v in values.provenance.items()]
        row["tags_before"] = [
            {
                "dialect": tag.dialect,
                "exists": tag.exists,
                "slack": tag.slack,
                "fields": [{"position": position, "raw": raw} for position, raw in tag.fields],
            }
            for tag in self.tags_before
        ]
        row["former"] = None if self.former is None else [dataclasses.asdict(one) for one in self.former]
        return row

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> Entry:
        plain = {field.name: row[field.name] for field in dataclasses.fields(Entry) if field.name in row}
        plain["dataset"] = row.get("dataset") or ""
        plain["tags_before"] = tuple(
            Kept(t["dialect"], t["exists"], t["slack"], tuple((f["position"], f["raw"]) for f in t["fields"]))
            for t in row["tags_before"]
        )
        for when in ("before", "after"):
            provenance = {item["name"]: tuple(item["values"]) for item in row[f"provenance_{when}"]}
            plain[when] = TagValues(tuple(row[f"genre_{when}"]), provenance)
        if row.get("former") is not None:
            plain["former"] = tuple(Former(**one) for one in row["former"])
        return Entry(**plain)


def append(dataset: Dataset, entries: Sequence[Entry]) -> None:
    """Add a file with these rows; when this returns they stay. Raises OSError.

    A batch that a runner retries has its rows twice, with two names for the copies; both mean the same.
    """
    where = place_of(dataset)
    dataset.add(JOURNAL_DIR, entries[0].run_id, (entry.to_row() | {"dataset": where} for entry in entries))


def place_of(dataset: Dataset) -> str:
    """Where a dataset lies, as the journal notes it: a copy of its folder is not where the rows were written."""
    path = local_path(str(dataset))
    return str(dataset) if path is None else storable(os.path.realpath(path))


def read(place: Dataset | str | os.PathLike[str], columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of all runs, oldest first, with these columns at least.

    Raises:
        LedgerError: a file of the journal cannot be read.
    """
    wanted = columns and list(dict.fromkeys([*columns, *IN_ORDER]))
    return Dataset.at(place).rows(JOURNAL_DIR, wanted).sort_by([(name, "ascending") for name in IN_ORDER])


def order_of(entry: Entry) -> tuple[str, Any]:
    """What the rows of a file are sorted by, oldest first."""
    return entry.run_id, entry.at


# A file's size in bytes and mtime in microseconds; without a time: an object that a put of ours may have made.
Version = tuple[int, int | None]
_NO_TIME = np.iinfo(np.int64).min


@dataclasses.dataclass(frozen=True)
class Origins:
    """Which versions of a file differ by nothing but our tags.

    Writing a tag changes a file's size, perhaps its time, and not its sound. To decide whether a file has to be
    analysed again, callers compare what `of` returns for its size and time.

    Attributes:
        roots: key of (track_id, size, mtime_us) to that of the version before we ever wrote to the file.
        made: keys of (size, mtime_us) of the versions that we made.
        last: keys of tracks, sorted, and size and mtime_us of the last version that we made of each.
    """

    roots: Mapping[int, int]
    made: frozenset[int] = frozenset()
    last: tuple[NDArray[np.int64], NDArray[np.int64]] = (np.empty(0, np.int64), np.empty((0, 2), np.int64))

    @staticmethod
    def read(place: Dataset | str | os.PathLike[str]) -> Origins:
        """Raises LedgerError."""
        empty = np.empty(0, np.int64)
        parts = [(empty, empty, empty, empty)]
        made: set[int] = set()
        tracks, versions_after = [empty], [np.empty((0, 2), np.int64)]
        for table in Dataset.at(place).tables(JOURNAL_DIR, [*IN_ORDER, *_CHANGE]):
            track_ids, before, after = _versions(table)
            keys = (keys_of(track_ids, *zip(*versions, strict=True)) for versions in (before, after) if versions)
            made.update(map(hash, after))
            tracks.append(keys_of(track_ids))
            known = [(size, _NO_TIME if mtime_us is None else mtime_us) for size, mtime_us in after]
            versions_after.append(np.array(known, np.int64).reshape(-1, 2))
            runs, at = order_of_runs(table["run_id"]), table["at"].cast(pa.int64()).to_numpy()
            parts.append((runs, at, *keys) if len(table) else parts[0])
        runs, at, old, new = (np.concatenate(column) for column in zip(*parts, strict=True))
        roots: dict[int, int] = {}
        for row in np.lexsort((at, runs)).tolist():
            before_key = int(old[row])
            roots[int(new[row])] = roots.get(before_key, before_key)
        changed = np.concatenate(tracks)
        last = newest(changed, np.stack([runs, at], axis=1))
        return Origins(roots, frozenset(made), (changed[last], np.concatenate(versions_after)[last]))

    def of(self, keys: Iterable[int]) -> list[int]:
        """Keys of versions to those of the versions that were there before we ever wrote to the files."""
        return [self.roots.get(key, key) for key in keys]

    def file_versions(self, place: Dataset | str | os.PathLike[str]) -> FileVersions:
        """The versions that our tags have made of each original version; raises LedgerError."""
        rows = [np.empty((0, 3), np.int64)]
        for table in Dataset.at(place).tables(JOURNAL_DIR, _CHANGE):
            track_ids, before, after = _versions(table)
            roots = self.of(hash((track_id, *version)) for track_id, version in zip(track_ids, after, strict=True))
            changed = [
                (root, size, _NO_TIME if mtime_us is None else mtime_us)
                for versions in (before, after)
                for root, (size, mtime_us) in zip(roots, versions, strict=True)
            ]
            rows.append(np.array(changed, np.int64).reshape(-1, 3))
        return FileVersions(np.unique(np.concatenate(rows), axis=0))


@dataclasses.dataclass(frozen=True)
class FileVersions:
    """All versions that tags of ours have made of a file.

    Attributes:
        rows: key of the original version, size, mtime_us; sorted, in an array, because a dict takes ten times as much.
    """

    rows: NDArray[np.int64]

    def of(self, roots: Sequence[int]) -> list[list[Version]]:
        """For each original version, by its key, all its versions with itself; empty where we never wrote to the
        file."""
        start, stop = (np.searchsorted(self.rows[:, 0], np.array(roots, np.int64), side) for side in ("left", "right"))
        return [
            [(size, None if mtime_us == _NO_TIME else mtime_us) for _, size, mtime_us in self.rows[a:b].tolist()]
            for a, b in zip(start, stop, strict=True)
        ]


_CHANGE = ["track_id", "size_before", "mtime_ns_before", "size_after", "mtime_ns_after"]


def _versions(table: pa.Table) -> tuple[list[str], list[Version], list[Version]]:
    """Tracks, and their versions before and after."""
    track_ids, size, mtime, new_size, new_mtime = (table[name].to_pylist() for name in _CHANGE)
    before = [(size, mtime_ns // 1000) for size, mtime_ns in zip(size, mtime, strict=True)]
    after = [
        (size, None if mtime_ns is None else mtime_ns // 1000)
        for size, mtime_ns in zip(new_size, new_mtime, strict=True)
    ]
    return track_ids, before, after


def mark_ended(dataset: Dataset, run_id: str, summary: Mapping[str, Any]) -> None:
    """Say that the rows of a run need no clearing up. Raises OSError."""
    write_json(dataset.folder / JOURNAL_DIR, f"{run_id}.json", {"run_id": run_id, "status": "finished", **summary})


@contextlib.contextmanager
def run(dataset: Dataset, run_id: str, summary: dict[str, Any]) -> Iterator[None]:
    """Clear up behind killed runs, and leave a mark when this one has ended well. Only with the dataset's lock.

    The copies that killed runs left are found through the journal: nothing is deleted that is not in it, nor what the
    dataset that this is a copy of has made.
    """
    folder = dataset.folder / JOURNAL_DIR
    ended = {name.removesuffix(".json") for name in folder.names() if name.endswith(".json")}
    killed, where = set(), place_of(dataset)
    for name in dataset.files(JOURNAL_DIR):
        owner = name.removesuffix(".parquet").rpartition("-")[0]
        if owner not in ended:
            killed.add(owner)
            table = dataset.read(JOURNAL_DIR, name, ["uri", "temporary", "dataset"])
            table = table.filter(pc.or_kleene(pc.is_null(table["dataset"]), pc.equal(table["dataset"], where)))
            for uri, temporary in zip(table["uri"].to_pylist(), table["temporary"].to_pylist(), strict=True):
                if local := local_path(uri):
                    remove_leftover(os.path.realpath(local), temporary)
    for owner in sorted(killed):
        write_json(folder, f"{owner}.json", {"run_id": owner, "status": "killed"})
    yield  # a run that fails gets no mark: its workers may have been killed with copies in the making
    mark_ended(dataset, run_id, summary)
    dataset.merge(JOURNAL_DIR)
