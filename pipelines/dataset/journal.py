"""The write-ahead journal of tag changes: DIR/applied/*.parquet, a row for each file before it is touched.

A row is durable before its file is replaced, and the replacing is one rename or one put; so the file itself tells
whether the row came true, and nothing has to be committed afterwards. What only the store of an object knows, the time
of a put, follows in a second row. Documented in docs/tags.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import LedgerError
from pipelines.storage.places import local_path
from pipelines.tags.change import Kept
from pipelines.tags.patch import Former
from pipelines.tags.read import TagValues
from pipelines.tags.writer import remove_leftover

JOURNAL_DIR = "applied"
APPLY, UNDO = "apply", "undo"
PUT = "put"  # an object was written, and at that time: nothing to undo, and for `Origins` to know
_PARTS_PER_ROW_GROUP = 256

_PROVENANCE = pa.list_(pa.struct([("name", pa.string()), ("values", pa.list_(pa.string()))]))
_FIELDS = pa.list_(pa.struct([("position", pa.int32()), ("raw", pa.binary())]))
_TAGS = pa.list_(
    pa.struct([("dialect", pa.string()), ("exists", pa.bool_()), ("slack", pa.int64()), ("fields", _FIELDS)])
)
_FORMER = pa.list_(
    pa.struct(
        [("start", pa.int64()), ("stop", pa.int64()), ("data", pa.binary()), ("digest", pa.binary())],
    )
)
JOURNAL = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("genre_before", pa.list_(pa.string())),
        pa.field("genre_after", pa.list_(pa.string())),
        pa.field("provenance_before", _PROVENANCE),
        pa.field("provenance_after", _PROVENANCE),
        pa.field(
            "tags_before",
            pa.list_(
                pa.struct(
                    [("dialect", pa.string()), ("exists", pa.bool_()), ("slack", pa.int64()), ("fields", _FIELDS)]
                )
            ),
        ),
        pa.field("former", _FORMER),
        pa.field("size_before", pa.int64()),
        pa.field("mtime_ns_before", pa.int64()),
        pa.field("size_after", pa.int64()),
        pa.field("mtime_ns_after", pa.int64()),
        pa.field("temporary", pa.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row; the attributes are its columns.

    Attributes:
        before, after: what reading the file gives.
        tags_before: our fields as they stood in the file, byte for byte.
        former: what stood where the change wrote; None where that was too much to keep, and in old journals.
        mtime_ns_after: None before an object is put, because its store tells the time.
        temporary: the name of the copy beside the file while it is being made; an object has none.
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


def append(output_dir: Path, entries: Sequence[Entry]) -> None:
    """Add a file with these rows; when this returns they are on the disk.

    A batch that a runner works off twice has its rows twice, with two names for the copies, and they mean the same.
    """
    folder = output_dir / JOURNAL_DIR
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist([entry.to_row() for entry in entries], JOURNAL)
    write_durably(table, folder / f"{entries[0].run_id}-{secrets.token_hex(8)}.parquet")


def write_durably(table: pa.Table, path: Path) -> None:
    """Write a Parquet file that appears whole or not at all, and stays."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        _settle(file, partial, path)


def read(output_dir: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of all runs, oldest first.

    Raises:
        LedgerError: a file of the journal cannot be read.
    """
    names = list(columns or JOURNAL.names)
    tables = []
    for path in sorted((output_dir / JOURNAL_DIR).glob("*.parquet")):
        try:
            table = pq.ParquetFile(path).read(columns=names)
            if "former" in names and "former" not in table.column_names:  # a journal of before there was this column
                table = table.append_column("former", pa.nulls(len(table), _FORMER))
            tables.append(table.select(names))
        except (pa.ArrowException, OSError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise LedgerError(
                f"{path}: not a readable journal of tag changes ({reason}); restore it to undo"
            ) from error
    schema = pa.schema([JOURNAL.field(name) for name in names])
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    return table.sort_by("at") if "at" in names else table


# A file's size in bytes and mtime in microseconds; without a time: an object that a put of ours may have made.
Version = tuple[int, int | None]


@dataclasses.dataclass(frozen=True)
class Origins:
    """Which versions of a file differ by nothing but our tags.

    Writing a tag changes a file's size, perhaps its time, and not its sound: whoever compares sizes and times to tell
    whether a file has to be analysed again compares what `of` makes of them.
    """

    roots: Mapping[tuple[str, Version], Version]

    @staticmethod
    def read(output_dir: Path) -> Origins:
        """Raises LedgerError."""
        names = ["track_id", "at", "size_before", "mtime_ns_before", "size_after", "mtime_ns_after"]
        table = read(output_dir, names)
        roots: dict[tuple[str, Version], Version] = {}
        for track_id, _, size, mtime, new_size, new_mtime in zip(*(table[n].to_pylist() for n in names), strict=True):
            before, after = (size, mtime // 1000), (new_size, None if new_mtime is None else new_mtime // 1000)
            roots[track_id, after] = roots.get((track_id, before), before)
        return Origins(roots)

    def of(self, track_id: str, size: int, mtime_us: int) -> Version:
        """The version of the file that was there before we ever wrote to it."""
        return self.roots.get((track_id, (size, mtime_us)), (size, mtime_us))

    def families(self) -> dict[tuple[str, Version], set[Version]]:
        """Track and original version -> all versions that came of it, itself among them."""
        result: dict[tuple[str, Version], set[Version]] = {}
        for (track_id, version), root in self.roots.items():
            result.setdefault((track_id, root), {root}).add(version)
        return result


@contextlib.contextmanager
def run(output_dir: Path, run_id: str, summary: dict[str, Any]) -> Iterator[None]:
    """Clear up behind killed runs, then keep a mark while this one is under way.

    The copies that killed runs left are found through the journal: nothing is deleted that is not in it.
    """
    folder = output_dir / JOURNAL_DIR
    folder.mkdir(parents=True, exist_ok=True)
    ended = {path.stem for path in folder.glob("*.json")}
    killed = {path.stem.rpartition("-")[0] for path in folder.glob("*.parquet")} - ended
    for owner in sorted(killed):
        for path in folder.glob(f"{owner}-*.parquet"):
            table = pq.ParquetFile(path).read(columns=["uri", "temporary"])
            for uri, temporary in zip(table["uri"].to_pylist(), table["temporary"].to_pylist(), strict=True):
                if local := local_path(uri):
                    remove_leftover(os.path.realpath(local), temporary)
        _mark(folder, owner, {"status": "killed"})
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)
    status = "failed"
    try:
        yield
        status = "finished"
    finally:  # an exception of Python leaves no copies behind, so the run counts as ended
        _mark(folder, run_id, {"status": status, **summary})
    _compact(folder, run_id)


def _compact(folder: Path, run_id: str) -> None:
    """One file for a run instead of one per batch. Killed in between, some rows are there twice and mean the same."""
    parts = sorted(folder.glob(f"{run_id}-*.parquet"))
    if len(parts) < 2:
        return
    partial = folder / f".{run_id}-all.partial"
    with partial.open("wb") as file:
        with pq.ParquetWriter(file, JOURNAL, compression="zstd") as writer:
            for start in range(0, len(parts), _PARTS_PER_ROW_GROUP):
                tables = [pq.ParquetFile(path).read() for path in parts[start : start + _PARTS_PER_ROW_GROUP]]
                writer.write_table(pa.concat_tables(tables))
        _settle(file, partial, folder / f"{run_id}-all.parquet")
    for path in parts:
        path.unlink()


def _settle(file: BinaryIO, partial: Path, path: Path) -> None:
    """Bring a finished file under its name, durably."""
    file.flush()
    os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _mark(folder: Path, run_id: str, content: dict[str, Any]) -> None:
    partial = folder / f".{run_id}.json.partial"
    partial.write_text(json.dumps({"run_id": run_id, **content}, indent=2, default=str) + "\n", encoding="utf-8")
    partial.replace(folder / f"{run_id}.json")
