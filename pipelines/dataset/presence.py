"""Tracks that a complete listing of their library does not have any more, and the names under which they turned up.

Rows are never changed. A track that is gone gets a reject `Gone`, which hides its result; when the file is back, the
result is added again. A renamed track gets the rows of its old name under the new one: result, correction and journal.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrebeam.features.errors import Gone
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.corrections import Corrections, withdraw_and_write
from genrebeam.pipelines.dataset.dataset import JOURNAL_DIR, REJECTS_DIR, RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.journal import Entry, Version
from genrebeam.pipelines.dataset.keys import Keys, find, keys_of
from genrebeam.pipelines.dataset.ledger import newest_results_by_file
from genrebeam.pipelines.library.samples import sample_of
from genrebeam.pipelines.storage.places import local_path
from genrebeam.pipelines.tags.model import Source
from genrebeam.pipelines.tags.patch import PatchedSource, restored

_WHAT = ["track_id", "uri", "size", "mtime"]
_ROWS = 10_000  # tombstones in a file


@dataclasses.dataclass(frozen=True)
class Placed:
    """Where a track is now.

    Attributes:
        track_id: its name now, which may be another one than before.
    """

    track_id: str
    uri: str


def place(dataset: Dataset, run_id: str, places: Mapping[str, Placed]) -> None:
    """Add the newest result of each of these tracks again, with the place where it is now and otherwise the same.

    Args:
        run_id: of rows that only say so; see `placing`.
        places: by the track_id that the tracks had.

    Raises:
        LedgerError: a file of the dataset cannot be read.
    """
    if not places:
        return
    names = pa.array(places, pa.string())
    for table in newest_results_by_file(dataset, with_gone=True):
        rows = table.filter(pc.is_in(table["track_id"], value_set=names)).to_pylist()
        if rows:
            now = [dataclasses.asdict(places[row["track_id"]]) | {"run_id": run_id} for row in rows]
            dataset.add(RESULTS_DIR, run_id, (row | changed for row, changed in zip(rows, now, strict=True)))


def placing(run_id: str) -> str:
    """What the rows of a run are named that only say where files are: they are not what it has analysed."""
    stamp, _, rest = run_id.partition("-")
    return f"{stamp}-placed-{rest}"


def renamed(dataset: Dataset, lost: Keys, fresh: Iterable[Track], *, gone: Keys) -> dict[str, Track]:
    """Which tracks without a file turned up under another name: with the size and time of their file, and its sample.

    Of a file that has our tags the sample is compared with the tags taken back, as the journal can.

    Args:
        lost: keys of the tracks without a file.
        fresh: files without a result.
        gone: keys of the tracks that were gone before: they are meant where no other one is.

    Returns:
        The files by the track_id that they had. Where two could be meant, neither is.
    """
    by_version: dict[Version, list[Track]] = collections.defaultdict(list)
    for track in fresh:
        by_version[track.size, round(track.mtime * 1e6)].append(track)
    if not by_version:
        return {}
    entries = _entries_leading_to(dataset, lost, by_version)
    pairs: list[tuple[str, Track]] = []
    for table in newest_results_by_file(dataset, [*_WHAT, "sample"], with_gone=True):
        for row in table.filter(pa.array(find(keys_of(table["track_id"].to_pylist()), lost) >= 0)).to_pylist():
            heard = row["size"], round(row["mtime"].timestamp() * 1e6)
            if row["sample"]:
                changes = entries.get(row["track_id"], [])
                versions = {heard, *((one.size_after, _us(one.mtime_ns_after)) for one in changes)}
                for track in (track for version in versions for track in by_version.get(version, ())):
                    if _sample_before(track, heard, changes) == row["sample"]:
                        pairs.append((row["track_id"], track))
    is_gone = dict(zip((old for old, _ in pairs), (find(keys_of(old for old, _ in pairs), gone) >= 0), strict=True))
    recent = {track.uri for old, track in pairs if not is_gone[old]}
    pairs = [(old, track) for old, track in pairs if not (is_gone[old] and track.uri in recent)]
    olds = collections.Counter(old for old, _ in pairs)
    news = collections.Counter(track.uri for _, track in pairs)
    return {old: track for old, track in pairs if olds[old] == news[track.uri] == 1}


def carry(dataset: Dataset, run_id: str, renames: Mapping[str, Track]) -> None:
    """Add journal, corrections and results of renamed tracks under their new names; raises LedgerError, OSError.

    The result comes last: a run that is killed before it finds the rename again.
    """
    if not renames:
        return
    names = pa.array(renames, pa.string())
    for name in dataset.files(JOURNAL_DIR):  # that are there now, because some are added
        table = dataset.read(JOURNAL_DIR, name)
        rows = table.filter(pc.is_in(table["track_id"], value_set=names)).to_pylist()
        if rows:
            new = (renames[row["track_id"]] for row in rows)
            changed = ({"track_id": track.track_id, "uri": track.uri, "temporary": ""} for track in new)
            dataset.add(JOURNAL_DIR, run_id, (row | now for row, now in zip(rows, changed, strict=True)))
            journal.mark_ended(dataset, run_id, {"renamed": len(renames)})
    corrections = Corrections(dataset).refresh()
    withdraw_and_write(corrections, {old: track.track_id for old, track in renames.items()})
    place(dataset, run_id, {old: Placed(track.track_id, track.uri) for old, track in renames.items()})


def bury(
    dataset: Dataset, run_id: str, lost: Keys, renames: Mapping[str, Track], unlisted: Collection[str]
) -> tuple[int, int]:
    """Write that tracks are gone, or where they are now.

    Args:
        lost: keys of the tracks that the listing does not have.
        unlisted: track_ids of folders and links that could not be followed; what was below them is not gone.

    Returns:
        How many tracks are gone without another name, and how many stay because they were below such a folder.
    """
    gone = kept = 0
    rejections: list[Rejection] = []
    for row in _rows_of(dataset, lost):
        track_id = row["track_id"]
        if track_id in renames:
            message = f"{row['uri']}: now {renames[track_id].uri}"
        elif unlisted and any(part in unlisted for part in ancestors(track_id)):
            kept += 1
            continue
        else:
            gone += 1
            message = f"{row['uri']}: no longer in the library"
        track = Track(row["uri"], track_id, row["size"], row["mtime"].timestamp())
        rejections.append(Rejection(track, "discover", Gone.__name__, message))
        if len(rejections) == _ROWS:
            dataset.add_rejects(run_id, rejections)
            rejections = []
    if rejections:
        dataset.add_rejects(run_id, rejections)
    return gone, kept


def ancestors(track_id: str) -> Iterator[str]:
    """The folders above a track, its own name, and "." for the library."""
    yield "."
    parts = track_id.split("/")
    yield from ("/".join(parts[:count]) for count in range(1, len(parts) + 1))


def _rows_of(dataset: Dataset, lost: Keys) -> Iterator[dict[str, Any]]:
    """The newest row of each of these tracks, of a result or else of a reject."""
    seen: set[str] = set()
    rejects = dataset.tables(REJECTS_DIR, _WHAT)
    for tables in (newest_results_by_file(dataset, _WHAT), rejects):
        for table in tables:
            for row in table.filter(pa.array(find(keys_of(table["track_id"].to_pylist()), lost) >= 0)).to_pylist():
                if row["track_id"] not in seen:
                    seen.add(row["track_id"])
                    yield row


def _entries_leading_to(dataset: Dataset, lost: Keys, versions: Collection[Version]) -> dict[str, list[Entry]]:
    """The changes of those lost tracks whose last version is one of these, the newest first."""
    sizes = pa.array({size for size, _ in versions}, pa.int64())
    columns = ["track_id", "size_after"]
    wanted: set[str] = set()
    for table in dataset.tables(JOURNAL_DIR, columns):
        table = table.filter(pc.is_in(table["size_after"], value_set=sizes))
        names = np.array(table["track_id"].to_pylist(), object)
        wanted |= set(names[find(keys_of(names.tolist()), lost) >= 0].tolist())
    if not wanted:
        return {}
    found: dict[str, list[Entry]] = collections.defaultdict(list)
    for table in dataset.tables(JOURNAL_DIR):
        for row in table.filter(pc.is_in(table["track_id"], value_set=pa.array(wanted, pa.string()))).to_pylist():
            found[row["track_id"]].append(Entry.from_row(row))
    return {name: sorted(rows, key=journal.order_of, reverse=True) for name, rows in found.items()}


def _sample_before(track: Track, heard: Version, changes: Iterable[Entry]) -> str | None:
    """The sample of a file without the tags that we wrote since it was heard; None where they cannot be taken back."""
    path = local_path(track.uri)
    if path is None:
        return None
    try:
        with path.open("rb", buffering=0) as file:
            view, version = PatchedSource(Source(file)), (track.size, round(track.mtime * 1e6))
            for change in changes:
                if (change.size_after, _us(change.mtime_ns_after)) == version and change.former is not None:
                    before = restored(view, change.former, change.size_after)
                    if before is not None:  # else it was undone: the file may have its size and time all along
                        view, version = before, (change.size_before, change.mtime_ns_before // 1000)
            return sample_of(view.size, view.peek) if version == heard else None
    except OSError:
        return None


def _us(mtime_ns: int | None) -> int | None:
    return None if mtime_ns is None else mtime_ns // 1000
