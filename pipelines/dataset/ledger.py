"""What a dataset already knows: the newest row per track, over all runs.

A results dataset is its own ledger. Each run adds rows; the newest row of a track speaks for it, and a track whose
newest row is a reject has no result. Rows are as new as their runs, by the names of these, and in one run by
`processed_at`: clocks may be wrong, and a run takes a name behind all that are there.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genrebeam.features.errors import Gone, is_transient
from genrebeam.features.schema import Track
from genrebeam.pipelines.dataset.dataset import (
    REJECTS_DIR,
    RESULTS_DIR,
    Dataset,
    MergedMeanwhile,
    order_of_runs,
    schema_of,
)
from genrebeam.pipelines.dataset.journal import Origins
from genrebeam.pipelines.dataset.keys import Keys, are_one_time, find, keys_of, newest, not_after
from genrebeam.pipelines.dataset.plan import as_table
from genrebeam.pipelines.dataset.schema import RESULTS

Place = Dataset | str | os.PathLike[str]
_ANALYSIS, _ROOT, _COVERAGE_MS, _EMBEDDING, _CONTENT, _MTIME_US = range(6)  # columns of `Ledger.tagged`
_VERSION, _REJECTED_ROOT = range(2)  # columns of `Ledger.rejected`
_ALL = np.iinfo(np.int64).max  # as coverage in milliseconds: the whole track


def hides(error: str) -> bool:
    """Whether a reject of this class hides an older result."""
    return not is_transient(error)


def is_a_verdict(error: str) -> bool:
    """Whether it is about what the file holds."""
    return not is_transient(error) and error != Gone.__name__


def read_rows(place: Place, kind: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of all runs, oldest first, with these columns at least. `kind` is RESULTS_DIR or REJECTS_DIR.

    Raises:
        LedgerError: a file in the folder is no readable Parquet file or lacks a column.
    """
    wanted = columns and list(dict.fromkeys([*columns, "run_id", "processed_at"]))
    rows = Dataset.at(place).rows(kind, wanted)
    return rows.take(pa.array(np.lexsort(_when(rows).T[::-1])))


def _when(table: pa.Table) -> NDArray[np.int64]:
    """When rows were written, as `newest` compares it: int64 [rows, 2]."""
    return np.stack([order_of_runs(table["run_id"]), table["processed_at"].cast(pa.int64()).to_numpy()], axis=1)


def newest_results_by_file(
    place: Place, columns: list[str] | None = None, *, run_id: str = "", with_gone: bool = False
) -> Iterator[pa.Table]:
    """The newest result of each track that has one, a table for each file that holds any; raises LedgerError.

    File by file, because a million rows with their chunk scores do not fit into memory together.

    Args:
        run_id: look at what this run has written only.
        with_gone: those too whose file is gone.
    """
    return (table for _, _, table in newest_results_in_files(place, columns, run_id=run_id, with_gone=with_gone))


def newest_results_in_files(
    place: Place, columns: list[str] | None = None, *, run_id: str = "", with_gone: bool = False
) -> Iterator[tuple[str, NDArray[np.int64], pa.Table]]:
    """The same with the name of each file, and where in it the rows stand."""
    dataset = Dataset.at(place)
    yielded = np.empty(0, np.int64)
    while True:
        keys, when, _, rows = _read_keys(dataset, RESULTS_DIR, run_id=run_id)
        speaking = newest(keys, when)
        counts = is_a_verdict if with_gone else hides
        rejected, rejected_when, *_ = _read_keys(dataset, REJECTS_DIR, run_id=run_id, counts=counts)
        latest = newest(rejected, rejected_when)
        at = find(keys[speaking], rejected[latest])
        if len(latest):
            speaking = speaking[(at < 0) | not_after(rejected_when[latest][at], when[speaking])]
        speaking = np.sort(speaking[~np.isin(keys[speaking], yielded)])
        end = 0
        for name, count in rows.items():
            start, end = end, end + count
            own = speaking[np.searchsorted(speaking, start) : np.searchsorted(speaking, end)]
            if len(own):
                try:
                    table = dataset.read(RESULTS_DIR, name, columns)
                except MergedMeanwhile:
                    break
                yielded = np.append(yielded, keys[own])
                yield name, own - start, table.take(pa.array(own - start))
        else:
            return


def _read_keys(
    dataset: Dataset,
    kind: str,
    values_of: Callable[[pa.Table], Keys] = lambda table: np.empty((len(table), 0), np.int64),
    columns: Sequence[str] = (),
    run_id: str = "",
    counts: Callable[[str], bool] = hides,
) -> tuple[Keys, NDArray[np.int64], Keys, dict[str, int]]:
    """Of all rows of a kind: keys of their tracks, times, what `values_of` makes of them, and how many each file has.

    Only rejects that are a verdict on the file count: a tag that could not be written says nothing about what was
    heard, and what the surroundings were to blame for (`genrebeam.features.errors.is_transient`) passes.

    Args:
        values_of: a table to any number of columns, int64 [rows, columns].
        counts: which rejects, by their `error`.
    """

    def read(table: pa.Table) -> tuple[Keys, NDArray[np.int64], Keys]:
        return keys_of(table["track_id"].to_pylist()), _when(table), values_of(table)

    needed = ["track_id", "run_id", "processed_at", *columns, *(["stage", "error"] if kind == REJECTS_DIR else [])]
    parts, lengths = [read(schema_of(kind, needed).empty_table())], {}
    for name, table in dataset.named_tables(kind, needed, run_id=run_id):
        if kind == REJECTS_DIR:
            some = [error for error in table["error"].unique().to_pylist() if counts(error or "")]
            is_wanted = pc.is_in(table["error"], value_set=pa.array(some, pa.string()))
            table = table.filter(pc.and_(is_wanted, pc.not_equal(table["stage"], "apply")))
        parts.append(read(table))
        lengths[name] = len(table)
    keys, when, said = (np.concatenate(column) for column in zip(*parts, strict=True))
    return keys, when, said, lengths


def newest_results(place: Place, columns: list[str] | None = None) -> pa.Table:
    """The same in one table, ordered by track_id; name the columns you need where there may be many rows."""
    names = columns or RESULTS.names
    wanted = list(dict.fromkeys([*names, "track_id"]))
    tables = newest_results_by_file(place, wanted)
    rows = pa.concat_tables([schema_of(RESULTS_DIR, wanted).empty_table(), *tables])
    return rows.sort_by("track_id").select(names)  # by code points, as Python and the walk of a library do


@dataclasses.dataclass(frozen=True)
class _Known:
    """The newest row of each track, as keys.

    Attributes:
        keys: of the tracks, sorted.
        rows: int64 [tracks, columns], the values of the newest rows.
    """

    keys: Keys
    rows: Keys

    @classmethod
    def of(cls, keys: Keys, when: NDArray[np.int64], rows: Keys, *_: Any) -> _Known:
        last = newest(keys, when)
        return cls(keys[last], rows[last])

    def matches(self, keys: Keys, column: int, values: Keys) -> NDArray[np.bool_]:
        """Whether each track has a row, and the newest has this value in a column."""
        return self.knows(keys) & (self.values(keys, column) == values)

    def values(self, keys: Keys, column: int) -> Keys:
        """The value of each track's newest row in a column; undefined where it has none."""
        at = find(keys, self.keys)
        return self.rows[at, column] if len(self.keys) else np.zeros(len(keys), np.int64)

    def knows(self, keys: Keys) -> NDArray[np.bool_]:
        """Whether each track has a row."""
        return find(keys, self.keys) >= 0


@dataclasses.dataclass(frozen=True)
class Ledger:
    """For each track the version of the file that was last looked at, and by what; as keys (dataset/keys.py).

    Attributes:
        tagged: of its newest result, six columns: key of (version before any tag of ours, model fingerprint, vote);
            key of the root of its library; milliseconds that were analysed; key of (that version, trunk of the
            embedding); key of (size, mtime_us); mtime_us.
        rejected: of its newest reject that is a verdict, two columns: keys of version and root.
        unread: the same of its newest reject that passes.
        gone: keys of the tracks whose newest row says that the file is gone, sorted.
        origins: what `genrebeam apply` made of files; a tag of ours changes the size of a file and not its sound.
    """

    tagged: _Known
    rejected: _Known
    unread: _Known
    gone: Keys
    origins: Origins

    @classmethod
    def read(cls, place: Place) -> Ledger:
        """Raises LedgerError where a file of the dataset cannot be read."""
        dataset = Dataset.at(place)
        origins = Origins.read(dataset)

        def heard(table: pa.Table) -> Keys:
            roots = origins.of(_versions(table).tolist())
            how = keys_of(roots, table["model_fingerprint"].to_pylist(), table["vote"].to_pylist())
            coverage_ms = [_milliseconds(coverage_s) for coverage_s in table["coverage_s"].to_pylist()]
            embedding = keys_of(roots, table["embedding_trunk"].to_pylist())
            mtime_us = _microseconds(table)
            content = keys_of(table["size"].to_pylist(), mtime_us.tolist())
            covered = np.array(coverage_ms, np.int64)
            return np.stack([how, _roots(table), covered, embedding, content, mtime_us], axis=1)

        how = ["uri", "size", "mtime", "model_fingerprint", "vote", "coverage_s", "embedding_trunk"]
        results = _read_keys(dataset, RESULTS_DIR, heard, how)
        rejected, unread = (
            _read_keys(
                dataset,
                REJECTS_DIR,
                lambda table: np.stack([_versions(table), _roots(table)], axis=1),
                ["uri", "size", "mtime"],
                counts=counts,
            )
            for counts in (is_a_verdict, is_transient)
        )
        away = _gone(_read_keys(dataset, REJECTS_DIR, counts=Gone.__name__.__eq__), results, rejected)
        return cls(_Known.of(*results), _Known.of(*rejected), _Known.of(*unread), away, origins)

    def are_tagged(
        self, tracks: pa.Table, fingerprint: str, vote: str, coverage_s: float | None = None
    ) -> NDArray[np.bool_]:
        """Whether these versions of files, with the columns of a Track, have results of this model and this vote.

        Args:
            coverage_s: at least so many seconds have to have been analysed; None for the whole track.
        """
        roots = self.origins.of(_versions(self._as_known(tracks)).tolist())
        analyses = keys_of(roots, [fingerprint] * len(roots), [vote] * len(roots))
        keys = keys_of(tracks["track_id"].to_pylist())
        return self.tagged.matches(keys, _ANALYSIS, analyses) & (
            self.tagged.values(keys, _COVERAGE_MS) >= _milliseconds(coverage_s)
        )

    def have_embedding(self, tracks: pa.Table, trunk: str, coverage_s: float | None = None) -> NDArray[np.bool_]:
        """Whether these versions of files have an embedding of this trunk.

        Args:
            coverage_s: as for `are_tagged`.
        """
        roots = self.origins.of(_versions(self._as_known(tracks)).tolist())
        keys = keys_of(tracks["track_id"].to_pylist())
        is_there = self.tagged.matches(keys, _EMBEDDING, keys_of(roots, [trunk] * len(roots)))
        return is_there & (self.tagged.values(keys, _COVERAGE_MS) >= _milliseconds(coverage_s))

    def _as_known(self, tracks: pa.Table) -> pa.Table:
        """The same with the times that are known of the files, where a disk has rounded or shifted these."""
        keys, mtime_us = keys_of(tracks["track_id"].to_pylist()), _microseconds(tracks)
        known = np.where(self.tagged.knows(keys), self.tagged.values(keys, _MTIME_US), mtime_us)
        made_keys, made = self.origins.last
        at = find(keys, made_keys)
        if len(made_keys):
            size, made_us = made[at].T
            is_made = (at >= 0) & (size == tracks["size"].to_numpy()) & are_one_time(made_us, mtime_us)
            known = np.where(is_made, made_us, known)
        seconds = np.where(are_one_time(known, mtime_us), known, mtime_us) / 1e6
        return tracks.set_column(tracks.column_names.index("mtime"), "mtime", pa.array(seconds))

    def have_moved(self, tracks: pa.Table) -> NDArray[np.bool_]:
        """Which tracks have a result, in a library at another place, or were gone."""
        keys = keys_of(tracks["track_id"].to_pylist())
        is_elsewhere = ~self.tagged.matches(keys, _ROOT, _roots(tracks)) | (find(keys, self.gone) >= 0)
        return self.tagged.knows(keys) & is_elsewhere

    def may_be_renamed(self, tracks: pa.Table) -> NDArray[np.bool_]:
        """Which tracks have no result that counts, but size and time of a file that has."""
        keys = keys_of(tracks["track_id"].to_pylist())
        contents = keys_of(tracks["size"].to_pylist(), _microseconds(tracks).tolist())
        is_new = ~self.tagged.knows(keys) | (find(keys, self.gone) >= 0)
        is_ours = np.fromiter((content in self.origins.made for content in contents.tolist()), bool, len(contents))
        return is_new & (is_ours | np.isin(contents, self.tagged.rows[:, _CONTENT]))

    def lost(self, listed: Keys, roots: Collection[str], *, even_all: bool = False) -> Keys:
        """Keys of the tracks that a complete listing of their library has not; sorted.

        A library is known by its root. Where most tracks of another root are in the listing, it has moved. Where none
        of its tracks is there, it is another library, or a drive that is not mounted.

        Args:
            listed: keys of all track_ids that were found.
            roots: of the libraries that were listed, each with its last slash.
            even_all: those too that were gone before, and all of a library of which nothing was found.
        """
        keys = np.concatenate([self.tagged.keys, self.rejected.keys])
        of_root = np.concatenate([self.tagged.rows[:, _ROOT], self.rejected.rows[:, _REJECTED_ROOT]])
        is_there = np.isin(keys, listed)
        counts = even_all | ~np.isin(keys, self.gone)
        listed_roots = set(keys_of(roots).tolist())
        lost = [np.empty(0, np.int64)]
        for root in np.unique(of_root).tolist():
            own = counts & (of_root == root)
            share = is_there[own].mean() if own.any() else 0.0
            is_listed = root in listed_roots and (share > 0 or even_all)
            if is_listed or share > 0.5:
                lost.append(keys[own & ~is_there])
        return np.unique(np.concatenate(lost))

    def are_rejected(self, tracks: pa.Table) -> NDArray[np.bool_]:
        """Whether these versions of files were turned down for good; another model would not decode them either."""
        return self.rejected.matches(keys_of(tracks["track_id"].to_pylist()), _VERSION, _versions(tracks))

    def are_unread(self, tracks: pa.Table) -> NDArray[np.bool_]:
        """Which of these versions of files a run could not read, though that may pass."""
        return self.unread.matches(keys_of(tracks["track_id"].to_pylist()), _VERSION, _versions(tracks))

    def is_tagged(self, track: Track, fingerprint: str, vote: str, coverage_s: float | None = None) -> bool:
        return bool(self.are_tagged(as_table([track]), fingerprint, vote, coverage_s)[0])

    def is_rejected(self, track: Track) -> bool:
        return bool(self.are_rejected(as_table([track]))[0])


def _milliseconds(coverage_s: float | None) -> int:
    return _ALL if coverage_s is None else round(1000 * coverage_s)


def gone_tracks(dataset: Dataset) -> Keys:
    """Keys of the tracks whose newest row says that the file is gone, sorted; raises LedgerError."""
    results, rejected = (_read_keys(dataset, kind, counts=is_a_verdict) for kind in (RESULTS_DIR, REJECTS_DIR))
    return _gone(_read_keys(dataset, REJECTS_DIR, counts=Gone.__name__.__eq__), results, rejected)


def _gone(away: Any, results: Any, rejected: Any) -> Keys:
    """Keys of the tracks that were last seen to be gone; each argument as `_read_keys` returns it."""
    keys, when, *_ = away
    last = newest(keys, when)
    keys, when = keys[last], when[last]
    for other, other_when, *_ in (results, rejected):
        latest = newest(other, other_when)
        at = find(keys, other[latest])
        if len(latest):
            is_newest = (at < 0) | ~not_after(when, other_when[latest][at])
            keys, when = keys[is_newest], when[is_newest]
    return keys


def _roots(table: pa.Table) -> Keys:
    """Keys of the folders or URLs that tracks are below: the uri without the track_id."""
    uris, track_ids = table["uri"].to_pylist(), table["track_id"].to_pylist()
    pairs = zip(uris, track_ids, strict=True)
    return keys_of(uri[: -len(name)] if name and uri.endswith(name) else uri for uri, name in pairs)


def _versions(table: pa.Table) -> Keys:
    """Keys of (track_id, size, mtime in microseconds); the time of a Track is in seconds."""
    return keys_of(table["track_id"].to_pylist(), table["size"].to_pylist(), _microseconds(table).tolist())


def _microseconds(table: pa.Table) -> NDArray[np.int64]:
    mtime = table["mtime"]
    if pa.types.is_floating(mtime.type):
        return np.rint(mtime.to_numpy() * 1e6).astype(np.int64)
    return np.asarray(mtime.cast(pa.int64()).to_numpy())
