"""The rows of a results folder as columns in memory, in the order of their names, and what is derived from them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import unicodedata
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from genrebeam.features.errors import LedgerError
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.dataset import (
    CHECKS_FILE,
    JOURNAL_DIR,
    RESULTS_DIR,
    Dataset,
    MergedMeanwhile,
    schema_of,
)
from genrebeam.pipelines.dataset.ledger import newest_results_by_file, newest_results_in_files
from genrebeam.pipelines.dataset.schema import storable
from genrebeam.pipelines.jobs.learn import LEARNED_AT
from genrebeam.pipelines.jobs.rescore import embeddings_of
from genrebeam.pipelines.tags.policy import DEFAULT_USELESS, is_useless
from genrebeam.pipelines.tags.read import TagValues

_COLUMNS = [
    "track_id", "uri", "genre", "confidence", "unknown", "duration_s", "undecoded_s", "artist", "album", "title",
    "genre_before", "container", "codec", "model_id", "model_fingerprint",
]  # fmt: skip
_LISTED = ["track_id", "title", "artist", "album", "genre", "confidence", "unknown", "duration_s", "file_genre"]
_DETAILS = ["uri", "undecoded_s", "container", "codec", "model_id", "model_fingerprint"]
_AT_A_TIME = 64  # rows of a file, while the one with the scores is looked for
_FROM_TAGS = ("artist", "album", "title")


class Doubt(NamedTuple):
    """Why a tag is to be checked: what the file says and how likely that is, and what was heard."""

    words: tuple[str, ...]
    score: float
    heard: str
    heard_score: float


class Checks(NamedTuple):
    """Doubts by row, the most doubtful first, and when they were found; what people say later answers them."""

    doubts: dict[int, Doubt]
    at: dt.datetime | None


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
    """Columns of the newest results, ordered by track_id.

    Attributes:
        table: the columns of the results, and `file_genre`: the genres in the file as far as we know, joined by "; ".
            Artist, album and title are the file's own, else what its path says.
        files: names of the files in which the rows stand. places: int32 [tracks, 2], the file and the row in it.
    """

    dataset: Dataset
    table: pa.Table
    files: tuple[str, ...]
    places: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, name: str) -> pa.Array:
        return self.table[name].chunk(0)

    @functools.cached_property
    def text(self) -> pa.Array:
        """What a search looks into."""
        return searchable(
            pc.binary_join_element_wise(*(self[n] for n in ("artist", "title", "album", "track_id")), " ")
        )

    @functools.cached_property
    def confidence(self) -> NDArray[np.float32]:
        return np.asarray(pc.fill_null(self["confidence"], 0.0))

    @functools.cached_property
    def unknown(self) -> NDArray[np.float32]:
        return np.asarray(pc.fill_null(self["unknown"], 0.0))

    @functools.cached_property
    def untagged(self) -> NDArray[np.bool_]:
        """Where the file has no genre, or one that says nothing."""
        encoded = pc.dictionary_encode(self["file_genre"])
        useless = [
            all(is_useless(one, DEFAULT_USELESS) for one in g.split(";")) for g in encoded.dictionary.to_pylist()
        ]
        return np.asarray(np.array([*useless, True])[encoded.indices.to_numpy()])

    @functools.cached_property
    def tops(self) -> dict[str, list[tuple[str, float]]]:
        """The best genres of each track with their scores, by track_id; read when several genres may be written."""
        found = {}
        for table in newest_results_by_file(self.dataset, ["track_id", "top"]):
            for track_id, top in zip(table["track_id"].to_pylist(), table["top"].to_pylist(), strict=True):
                found[track_id] = [(one["genre"], one["score"]) for one in top or ()]
        return found

    @functools.cached_property
    def written(self) -> dict[int, TagValues]:
        """What the journal says of files whose genre is ours, by row."""
        if not self.dataset.files(JOURNAL_DIR):
            return {}
        table = journal.read(self.dataset, ["track_id", "at", "action", "genre_after", "provenance_after"])
        newest = {row["track_id"]: row for row in table.to_pylist() if row["action"] in (journal.APPLY, journal.UNDO)}
        rows = self.rows_of(newest).tolist()
        return {
            row: TagValues(tuple(one["genre_after"]), {p["name"]: tuple(p["values"]) for p in one["provenance_after"]})
            for row, one in zip(rows, newest.values(), strict=True)
            if row >= 0
        }

    @functools.cached_property
    def checks(self) -> Checks:
        """Tags that `genrebeam learn` contradicts."""
        try:
            with self.dataset.folder.open(CHECKS_FILE) as source:
                table = pq.read_table(source)
            rows = table.filter(pc.greater(table["log_odds"], 0.0)).to_pylist()
            learned_at = (table.schema.metadata or {}).get(LEARNED_AT.encode())
            at = dt.datetime.fromisoformat(learned_at.decode()) if learned_at else None
        except FileNotFoundError:
            return Checks({}, None)
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise LedgerError(f"{self.dataset}/{CHECKS_FILE}: cannot be read; run `genrebeam learn` again") from error
        doubts = {
            row: Doubt(tuple(one["words"]), one["score"], one["heard"], one["heard_score"])
            for row, one in zip(self.rows_of(one["track_id"] for one in rows).tolist(), rows, strict=True)
            if row >= 0
        }
        return Checks(doubts, at)

    @functools.cached_property
    def embeddings(self) -> tuple[NDArray[np.int64], NDArray[np.int8], NDArray[np.str_]]:
        """Rows that have an embedding, sorted; int8 [rows, size]; and the fingerprint of the trunk of each."""
        rows, values, trunks = [], [], []
        place = _place(self.places[:, 0], self.places[:, 1])
        order = np.argsort(place)
        number = {name: at for at, name in enumerate(self.files)}
        for name, at, table in newest_results_in_files(self.dataset, ["embedding", "embedding_trunk"]):
            if name not in number:  # of a run that has begun since
                continue
            wanted = _place(np.full(len(at), number[name]), at)
            found = order[np.minimum(np.searchsorted(place, wanted, sorter=order), len(order) - 1)]
            known = pc.and_(pc.is_valid(table["embedding"]), pc.is_valid(table["embedding_trunk"]))
            there = (place[found] == wanted) & known.to_numpy()
            if there.any():
                table = table.filter(pa.array(there))
                rows.append(found[there])
                values.append(embeddings_of(table))
                trunk = pc.dictionary_encode(_one(table["embedding_trunk"]))
                trunks.append(np.array(trunk.dictionary.to_pylist(), np.str_)[trunk.indices.to_numpy()])
        if not rows:
            return np.empty(0, np.int64), np.empty((0, 0), np.int8), np.empty(0, np.str_)
        together = np.concatenate(rows)
        order = np.argsort(together, kind="stable")
        return together[order], np.concatenate(values)[order], np.concatenate(trunks)[order]

    @functools.lru_cache(maxsize=16)  # noqa: B019, one Tracks lives as long as its view
    def rank(self, column: str) -> NDArray[np.int32]:
        """What a column sorts by; -1 where a row has no value."""
        return rank_of(self[column])

    def row_of(self, track_id: str) -> int | None:
        """Where a track stands, None where it does not."""
        name = storable(track_id)
        row = pc.index(self["track_id"], pa.scalar(name, pa.string())).as_py()
        row = row if row >= 0 else self._composed.get(unicodedata.normalize("NFC", name), -1)
        return None if row < 0 else int(row)

    def rows_of(self, track_ids: Iterable[str]) -> NDArray[np.int64]:
        """Where tracks stand, -1: nowhere. Names count as they are, else in their composed form: a Mac decomposes."""
        names = [storable(track_id) for track_id in track_ids]
        found = pc.fill_null(pc.index_in(pa.array(names, pa.string()), value_set=self["track_id"]), -1)
        rows = np.array(found.to_numpy(zero_copy_only=False), np.int64)
        for at in np.flatnonzero(rows < 0).tolist():
            rows[at] = self._composed.get(unicodedata.normalize("NFC", names[at]), -1)
        return rows

    @functools.cached_property
    def _composed(self) -> dict[str, int]:
        """Rows by names in their composed form, of names that have another one."""
        ids = self["track_id"]
        odd = np.flatnonzero(np.asarray(pc.invert(pc.string_is_ascii(ids))))
        return {unicodedata.normalize("NFC", ids[row].as_py()): row for row in odd.tolist()}

    def listed(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        return list(self.table.select(_LISTED).take(pa.array(rows)).to_pylist())

    def details(self, row: int) -> dict[str, Any]:
        """What is shown of one track beside the columns of a list."""
        return dict(self.table.select(_DETAILS).slice(row, 1).to_pylist()[0])

    def scores(self, row: int) -> dict[str, Any]:
        """What was heard in a track over time: labels, chunk_scores [chunks][labels], chunk_starts_s, and top.

        Raises:
            LedgerError: the file with the row cannot be read.
        """
        names = ["labels", "top", "chunk_scores", "chunk_starts_s"]
        file, at = self.places[row].tolist()
        try:
            with (
                (self.dataset.folder / RESULTS_DIR).open(self.files[file]) as source,
                pq.ParquetFile(source) as parquet,
            ):
                for group in range(parquet.num_row_groups):
                    rows = parquet.metadata.row_group(group).num_rows
                    if at >= rows:
                        at -= rows
                        continue
                    for batch in parquet.iter_batches(_AT_A_TIME, row_groups=[group], columns=names, use_threads=False):
                        if at < len(batch):
                            return dict(batch.slice(at, 1).to_pylist()[0])
                        at -= len(batch)
        except FileNotFoundError:
            raise MergedMeanwhile(f"{self.dataset}: its files were merged; try again in a moment") from None
        except (OSError, pa.ArrowException) as error:
            raise LedgerError(f"{self.dataset}/{RESULTS_DIR}/{self.files[file]}: cannot be read ({error})") from error
        return {}


def read_tracks(dataset: Dataset) -> Tracks:
    """Raises LedgerError where a file cannot be read."""
    names: list[str] = []
    tables, places = [schema_of(RESULTS_DIR, _COLUMNS).empty_table()], [np.empty((0, 2), np.int32)]
    for name, rows, table in newest_results_in_files(dataset, _COLUMNS):
        tables.append(table)
        places.append(np.stack([np.full(len(rows), len(names)), rows], axis=1).astype(np.int32))
        names.append(name)
    table = pa.concat_tables(tables).combine_chunks()
    del tables
    order = pc.sort_indices(table["track_id"])
    table = table.take(order)
    columns = {name: _one(table[name]) for name in _COLUMNS if name != "genre_before"}
    columns |= _names_from_paths(columns)
    before = _one(table["genre_before"])
    columns["file_genre"] = _file_genres(dataset, columns["track_id"], pc.binary_join(before, "; "))
    places_in_order = np.concatenate(places)[order.to_numpy()]
    found = Tracks(dataset, pa.table(columns), tuple(names), places_in_order)
    del table, columns, before
    pa.default_memory_pool().release_unused()  # reading takes twice what stays
    return found


def _one(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _place(files: NDArray[Any], rows: NDArray[Any]) -> NDArray[np.int64]:
    """A number for each row of each file."""
    return files.astype(np.int64) << 32 | rows.astype(np.int64)


def _file_genres(dataset: Dataset, track_ids: pa.Array, before: pa.Array) -> pa.Array:
    """The genres in the files: what stood there when they were heard, or what the journal says was written since."""
    before = pc.fill_null(before, "")
    if not dataset.files(JOURNAL_DIR):
        return before
    table = journal.read(dataset, ["track_id", "at", "action", "genre_after"])
    table = table.filter(pc.is_in(table["action"], value_set=pa.array([journal.APPLY, journal.UNDO])))
    at = _one(pc.index_in(table["track_id"], value_set=track_ids))
    now = np.asarray(pc.binary_join(_one(table["genre_after"]), "; ").to_numpy(zero_copy_only=False))
    words = before.to_numpy(zero_copy_only=False).copy()
    there = np.asarray(at.is_valid())
    words[at.drop_null().to_numpy()] = now[there]  # the newest row of a track comes last
    return pa.array(words, pa.string())


def _names_from_paths(columns: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Artist, album and title; where tags are silent, by the path artist/album/song."""

    def without(names: pa.Array, pattern: str) -> pa.Array:
        return pc.replace_substring_regex(names, pattern=f"(?s){pattern}", replacement="")

    silent = pc.is_null(columns["artist"])
    for name in ("album", "title"):
        silent = pc.or_(silent, pc.is_null(columns[name]))
    path = columns["track_id"].filter(silent)  # of most libraries few
    folder = without(path, "/?[^/]*$")
    above = without(folder, "/?[^/]*$")
    last, last_above = without(folder, "^.*/"), without(above, "^.*/")
    alone = pc.equal(above, "")
    from_path = {
        "artist": pc.if_else(alone, last, last_above),
        "album": pc.if_else(alone, "", last),
        "title": without(without(path, "^.*/"), r"\.[^.]{1,5}$"),
    }
    return {
        name: pc.replace_with_mask(columns[name], silent, pc.coalesce(columns[name].filter(silent), from_path[name]))
        for name in _FROM_TAGS
    }


def searchable(texts: pa.Array) -> pa.Array:
    """Texts as a search compares them: without case and accents, in one Unicode form."""
    plain = pc.utf8_normalize(texts, form="NFKD")
    return pc.utf8_lower(pc.replace_substring_regex(plain, pattern=r"\p{Mn}", replacement=""))


def rank_of(values: pa.Array) -> NDArray[np.int32]:
    """The place of each value among all, from 0; numbers by size, words without case and accents. -1: no value."""
    if pa.types.is_string(values.type):
        values = searchable(values)
        values = pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)
    ranks = pc.rank(values, tiebreaker="dense").to_numpy()
    return np.where(np.asarray(values.is_null()), -1, ranks.astype(np.int32))
