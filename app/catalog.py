"""A results folder in memory, for browsing: what counts, filters, corrections, numbers. No Streamlit in here.

A hundred thousand tracks are some 40 MB of Arrow columns, and a filter takes a few hundredths of a second.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genrebeam.pipelines.dataset.corrections import Correction, Corrections, words_of, write_down
from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, existing
from genrebeam.pipelines.dataset.ledger import Place, newest_results
from genrebeam.pipelines.tags.words import same

_COLUMNS = [
    "track_id", "uri", "genre", "confidence", "unknown", "duration_s", "undecoded_s", "top", "genre_before", "model_id",
    "model_fingerprint",
]  # fmt: skip
_REREAD_S = 30.0  # between two looks whether a run has added results
ORDERS = ("least certain first", "most certain first", "by name")


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which tracks to list, in which order.

    Attributes:
        genres: the genre that counts is one of these; none of them: any.
        confidence: of the model, from and to.
        folder: the track's folder, or the beginning of its name.
        text: somewhere in the track's name, case apart.
        corrected: whether a person has said something of it; None: either.
        order: one of ORDERS.
    """

    genres: tuple[str, ...] = ()
    confidence: tuple[float, float] = (0.0, 1.0)
    folder: str = ""
    text: str = ""
    corrected: bool | None = None
    order: str = ORDERS[0]


class Catalog:
    """The newest results of a dataset with what people said of them, kept up to date. Threads may share it.

    Raises:
        UsageError: there is no such dataset.
        LedgerError: a file of it cannot be read; from `view`, too.
    """

    def __init__(self, place: Place) -> None:
        self._dataset = existing(place)
        self._corrections = Corrections(self._dataset)
        self._lock = threading.Lock()
        self._files: tuple[list[str], ...] | None = None
        self._looked_at = -_REREAD_S
        self._tracks = pa.table({})
        self.view()

    def __str__(self) -> str:
        return str(self._dataset)

    def view(self) -> CatalogView:
        """The catalog now: corrections of other users at once, results of a run within half a minute."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked_at >= _REREAD_S:
                files = self._dataset.files(RESULTS_DIR), self._dataset.files(REJECTS_DIR)
                if files != self._files:
                    self._tracks = newest_results(self._dataset, _COLUMNS)
                    self._files = files
                self._looked_at = now
            return CatalogView(self._tracks, dict(self._corrections.refresh().newest))

    def say(self, track_id: str, genre: str | None, *, by: str) -> None:
        """Correct a track, or withdraw what was said of it; raises UsageError and OSError."""
        write_down(self._dataset, track_id, genre, by=by)


@dataclasses.dataclass(frozen=True, eq=False)
class CatalogView:
    """A catalog at one moment.

    Attributes:
        tracks: some columns of the results, ordered by track_id.
        corrections: by track_id, of tracks that the catalog may no longer have, too.
    """

    tracks: pa.Table
    corrections: Mapping[str, Correction]

    def track(self, track_id: str) -> dict[str, Any] | None:
        """A row of the results, or None where the catalog has no such track."""
        row = pc.index(self.tracks["track_id"], pa.scalar(track_id, pa.string())).as_py()
        return None if row < 0 else self.tracks.slice(row, 1).to_pylist()[0]

    def genres(self) -> list[str]:
        """All genres that count, those of people among them, the most frequent first."""
        counts = pc.value_counts(self.counting().drop_null()).to_pylist()
        return [one["values"] for one in sorted(counts, key=lambda one: (-one["counts"], one["values"]))]

    def counting(self) -> pa.Array:
        """The genre that counts of each track: a person's word, else what was heard."""
        heard = self.tracks["genre"].combine_chunks()
        if not self.corrections:
            return heard
        said = list(self.corrections.items())
        ids, words = pa.array([one for one, _ in said]), pa.array([one.genre for _, one in said])
        return pc.coalesce(words.take(pc.index_in(self.tracks["track_id"].combine_chunks(), value_set=ids)), heard)

    def find(self, wanted: Filter) -> NDArray[np.int64]:
        """Rows of `tracks`, in the order that is asked for."""
        names, confidence = self.tracks["track_id"], pc.fill_null(self.tracks["confidence"], 0.0)
        low, high = wanted.confidence
        keep = [pc.greater_equal(confidence, low - 1e-6), pc.less_equal(confidence, high + 1e-6)]
        if wanted.genres:
            keep.append(pc.is_in(self.counting(), value_set=pa.array(wanted.genres)))
        if wanted.folder:
            keep.append(pc.starts_with(names, wanted.folder))
        if wanted.text:
            keep.append(pc.match_substring(names, wanted.text, ignore_case=True))
        if wanted.corrected is not None:
            said = pc.is_in(names, value_set=pa.array(list(self.corrections), pa.string()))
            keep.append(said if wanted.corrected else pc.invert(said))
        mask = np.ones(len(self.tracks), bool)
        for part in keep:
            mask &= np.asarray(pc.fill_null(part, False))
        rows = np.flatnonzero(mask)
        if wanted.order == ORDERS[2]:
            return rows  # the ledger sorts by name
        scores = np.asarray(confidence)[rows]
        return rows[np.argsort(scores if wanted.order == ORDERS[0] else -scores, kind="stable")]

    def position(self, rows: NDArray[np.int64], track_id: str) -> int | None:
        """Where in these rows a track is."""
        row = pc.index(self.tracks["track_id"], pa.scalar(track_id, pa.string())).as_py()
        found = np.flatnonzero(rows == row)
        return int(found[0]) if len(found) else None

    def name(self, rows: NDArray[np.int64], position: int) -> str | None:
        """The track_id at a place in these rows, if there is one."""
        return self.tracks["track_id"][int(rows[position])].as_py() if 0 <= position < len(rows) else None

    def page(self, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
        """Some rows: track_id, the genre that counts, confidence, and whether a person has said something."""
        part = self.tracks.select(["track_id", "genre", "confidence"]).take(pa.array(rows)).to_pylist()
        for row in part:
            said = self.corrections.get(row["track_id"])
            row["corrected"] = said is not None
            row["genre"] = said.genre if said else row["genre"]
        return part


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A catalog in numbers.

    Attributes:
        genres: genre that counts to tracks, the most frequent first.
        confidence: tracks in each tenth of the confidence.
        folders: outermost folder, tracks, its most frequent genres; the largest first.
        said: tracks that people corrected or confirmed. right: of those, where the model had heard what they said.
        damaged: tracks of which seconds could not be decoded, and those seconds; the longest first.
    """

    tracks: int
    hours: float
    genres: dict[str, int]
    confidence: list[int]
    folders: list[tuple[str, int, str]]
    said: int
    right: int
    damaged: list[tuple[str, float]]


def numbers(view: CatalogView, *, folders: int = 200, damaged: int = 100) -> Numbers:
    """Counted anew at each call; a hundred thousand tracks take a tenth of a second or two."""
    table = view.tracks
    counting = view.counting()
    names = table["track_id"]
    outermost = pc.replace_substring_regex(names, pattern="(?s)/.*", replacement="")
    folder = pc.if_else(pc.match_substring(names, "/"), outermost, "")
    grouped = pa.table({"folder": folder, "genre": counting}).group_by(["folder", "genre"])
    by_folder: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    genres: collections.Counter[str] = collections.Counter()
    for row in grouped.aggregate([([], "count_all")]).to_pylist():
        by_folder[row["folder"]][row["genre"] or "none"] += row["count_all"]
        genres[row["genre"] or "none"] += row["count_all"]
    largest = sorted(by_folder.items(), key=lambda item: (-item[1].total(), item[0]))[:folders]
    confidence = np.asarray(pc.fill_null(table["confidence"], 0.0))
    missing = table.filter(pc.greater(pc.fill_null(table["undecoded_s"], 0.0), 0.0)).select(["track_id", "undecoded_s"])
    longest = missing.sort_by([("undecoded_s", "descending")]).slice(0, damaged)
    rows = pc.index_in(pa.array(list(view.corrections), pa.string()), value_set=names.combine_chunks())
    heard = table["genre"].combine_chunks().take(rows).to_pylist()
    judged = [
        same(genre or "") in {same(word) for word in words_of(correction.genre)}
        for row, genre, correction in zip(rows.to_pylist(), heard, view.corrections.values(), strict=True)
        if row is not None
    ]
    return Numbers(
        tracks=len(table),
        hours=(pc.sum(table["duration_s"]).as_py() or 0.0) / 3600,
        genres=dict(genres.most_common()),
        confidence=np.histogram(confidence, 10, (0, 1))[0].tolist(),
        folders=[
            (name or "(none)", found.total(), ", ".join(f"{genre} {count:,}" for genre, count in found.most_common(3)))
            for name, found in largest
        ],
        said=len(judged),
        right=sum(judged),
        damaged=list(zip(longest["track_id"].to_pylist(), longest["undecoded_s"].to_pylist(), strict=True)),
    )
