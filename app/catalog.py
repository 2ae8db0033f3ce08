"""A results folder in memory, for browsing: what counts, filters, orders, corrections. No web in here.

A view is one moment of it. Requests share a view until a row, a correction or a written file is added.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genrebeam.app.tracks import Doubt, Tracks, rank_of, read_tracks, searchable
from genrebeam.features.errors import UsageError
from genrebeam.model.similar import similarity
from genrebeam.model.voting import MIN_CONFIDENCE, UNKNOWN
from genrebeam.pipelines.dataset.corrections import Correction, Corrections, write_down_all
from genrebeam.pipelines.dataset.dataset import JOURNAL_DIR, REJECTS_DIR, RESULTS_DIR, existing
from genrebeam.pipelines.dataset.ledger import Place
from genrebeam.pipelines.dataset.schema import storable
from genrebeam.pipelines.tags.words import keys, same

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
_REREAD_S = 15.0  # between two looks whether a run has added results
_REMEMBERED = 8  # lists of a view
# What a list can be narrowed to, and how that is called in front of people.
SHOWN = {
    "": "All tracks",
    "untagged": "No genre in the file",
    "differs": "The model disagrees with the file",
    "unsure": "Unsure",
    "none": "Perhaps none of these genres",
    "open": "Not corrected yet",
    "corrected": "Corrected or confirmed",
    "damaged": "Damaged files",
    "check": "Tags to check",
    "next": "What to tag next",
}
ORDERS = ("confidence", "artist", "album", "title", "genre", "file_genre", "duration_s", "track_id", "match")


@dataclasses.dataclass(frozen=True)
class Filter:
    """Which tracks to list, in which order.

    Attributes:
        text: words that are all in artist, title, album or track_id; case, accents and Unicode forms apart.
        genres: the genre that counts is one of these; none of them: any.
        folder: how the track_id begins.
        shown: a key of SHOWN.
        confidence: of the model, from and to.
        like: a track_id: the tracks that sound most like it come first, and itself is left out.
        order: one of ORDERS; match is what `like` or the tags to check say.
        descending: the other way round. Rows without a value come last either way.

    Raises:
        UsageError: an order or a name of SHOWN that there is not.
    """

    text: str = ""
    genres: tuple[str, ...] = ()
    folder: str = ""
    shown: str = ""
    confidence: tuple[float, float] = (0.0, 1.0)
    like: str = ""
    order: str = "confidence"
    descending: bool = False

    def __post_init__(self) -> None:
        if self.shown not in SHOWN:
            raise UsageError(f"show={self.shown[:40]}: choose one of {', '.join(filter(None, SHOWN))}")
        if self.order not in ORDERS:
            raise UsageError(f"order={self.order[:40]}: choose one of {', '.join(ORDERS)}")


class Catalog:
    """The newest results of a dataset with what people said of them, kept up to date. Threads may share it.

    Raises:
        UsageError: there is no such dataset.
        LedgerError: a file of it cannot be read; from `view`, too.
    """

    def __init__(self, place: Place) -> None:
        self.dataset = existing(place)
        self._corrections = Corrections(self.dataset)
        self._lock = threading.Lock()
        self.asked: tuple[str, ...] = ()  # track_ids that would teach most, as the last `learn` found them
        self._files: tuple[list[str], ...] | None = None
        self._looked_at = -math.inf
        self._view: CatalogView | None = None
        self.view()

    def __str__(self) -> str:
        return str(self.dataset)

    def view(self) -> CatalogView:
        """The catalog now: corrections of other users at once, results of a run within some seconds."""
        with self._lock:
            now, before = time.monotonic(), self._view
            if before is None or now - self._looked_at >= _REREAD_S:
                files = tuple(self.dataset.files(kind) for kind in (RESULTS_DIR, REJECTS_DIR, JOURNAL_DIR))
                if files != self._files:
                    before = None
                    tracks = read_tracks(self.dataset)
                    self._files = files
                self._looked_at = now
            said = self._corrections.refresh().newest
            if before is None:
                self._view = CatalogView(tracks, dict(said), self.asked)
            elif before.corrections != said or before.asked != self.asked:
                self._view = CatalogView(before.tracks, dict(said), self.asked)
            assert self._view is not None
            return self._view

    def look_again(self) -> None:
        """Let the next view see rows that were added just now."""
        with self._lock:
            self._looked_at = -math.inf
            self._files = None

    def say(self, genres: Mapping[str, str | None], *, by: str) -> None:
        """Correct tracks, or withdraw what was said of them.

        Raises:
            UsageError: a track that is not in the catalog, or a genre that no tag could hold.
            OSError: it cannot be written.
        """
        for track_id, row in zip(genres, self.view().tracks.rows_of(genres).tolist(), strict=True):
            if row < 0:
                raise UsageError(f"{track_id[:200]}: there is no such track in {self}")
        write_down_all(self.dataset, genres, by=by)


@dataclasses.dataclass(frozen=True, eq=False)
class CatalogView:
    """A catalog at one moment.

    Attributes:
        tracks: what was heard, one row each.
        corrections: by track_id, of tracks that the catalog may no longer have, too.
        asked: track_ids that would teach most, the best first.
    """

    tracks: Tracks
    corrections: Mapping[str, Correction]
    asked: tuple[str, ...] = ()
    _found: dict[Filter, Rows] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tracks)

    @functools.cached_property
    def counting(self) -> pa.Array:
        """The genre that counts of each track: a person's word, else what was heard."""
        heard = self.tracks["genre"]
        rows, words = self._said
        return heard if not len(rows) else pc.replace_with_mask(heard, pa.array(self.corrected), words)

    @functools.cached_property
    def corrected(self) -> Mask:
        """Whether a person has said something of each track."""
        mask = np.zeros(len(self), bool)
        mask[self._said[0]] = True
        return mask

    @functools.cached_property
    def said(self) -> dict[int, str]:
        """What people say of tracks, by row."""
        rows, words = self._said
        return dict(zip(rows.tolist(), words.to_pylist(), strict=True))

    @functools.cached_property
    def _said(self) -> tuple[Rows, pa.Array]:
        """Rows that people have said something of, in their order, and what."""
        heard = {same(genre): genre for genre in self.tracks["genre"].unique().drop_null().to_pylist()}
        words = (heard.get(same(one.genre), one.genre) for one in self.corrections.values())  # Rock and rock are one
        at = self.tracks.rows_of(self.corrections).tolist()
        said = sorted({row: genre for row, genre in zip(at, words, strict=True) if row >= 0}.items())
        return np.array([row for row, _ in said], np.int64), pa.array([genre for _, genre in said], pa.string())

    @functools.cached_property
    def genres(self) -> dict[str, int]:
        """All genres that count and how many tracks have them, the most frequent first."""
        counts = pc.value_counts(self.counting.drop_null()).to_pylist()
        return {one["values"]: one["counts"] for one in sorted(counts, key=lambda one: (-one["counts"], one["values"]))}

    @functools.cached_property
    def differs(self) -> Mask:
        """Where the file has a genre, and none of its genres is the one that was heard."""
        heard, file = (pc.dictionary_encode(pc.fill_null(self.tracks[n], "")) for n in ("genre", "file_genre"))
        words, genres = heard.dictionary.to_pylist(), file.dictionary.to_pylist()
        pairs = heard.indices.to_numpy().astype(np.int64) * len(genres) + file.indices.to_numpy()
        distinct, at = np.unique(pairs, return_inverse=True)
        unlike = [
            bool(words[word] and genres[genre]) and same(words[word]) not in keys(genres[genre])
            for word, genre in (divmod(pair, len(genres)) for pair in distinct.tolist())
        ]
        return np.array(unlike, bool)[at]

    @functools.cached_property
    def doubts(self) -> dict[int, Doubt]:
        """Tags to check, by row, the most doubtful first, without those of which people have said something since."""
        doubts, at = self.tracks.checks
        said = [one for one, correction in self.corrections.items() if at is None or correction.at > at]
        answered = set(self.tracks.rows_of(said).tolist())
        return {row: doubt for row, doubt in doubts.items() if row not in answered}

    def find(self, wanted: Filter) -> Rows:
        """Rows of `tracks`, in the order that is asked for; raises UsageError for a `like` that is unknown."""
        if wanted not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.pop(next(iter(self._found)), None)
            self._found[wanted] = self._find(wanted)
            pa.default_memory_pool().release_unused()  # the columns that a search makes are the size of the catalog
        return self._found[wanted]

    def _find(self, wanted: Filter) -> Rows:
        mask = self._shown(wanted.shown)
        low, high = wanted.confidence
        if (low, high) != (0.0, 1.0):
            confidence = self.tracks.confidence
            mask = mask & (confidence >= low - 1e-6) & (confidence <= high + 1e-6)
        if wanted.genres:
            mask = mask & _true(pc.is_in(self.counting, value_set=pa.array(wanted.genres)))
        if wanted.folder:
            mask = mask & _true(pc.starts_with(self.tracks["track_id"], storable(wanted.folder)))
        for word in searchable(pa.array([storable(wanted.text)]))[0].as_py().split():
            mask = mask & _true(pc.match_substring(self.tracks.text, word))
        rows = np.flatnonzero(mask)
        if wanted.like:
            return self._alike(rows, wanted)
        if wanted.order == "match" and wanted.shown in ("check", "next"):
            listed = set(rows.tolist())
            best = self.doubts if wanted.shown == "check" else self.tracks.rows_of(self.asked).tolist()
            return np.array([row for row in best if row in listed], np.int64)
        return self._ordered(rows, "confidence" if wanted.order == "match" else wanted.order, wanted.descending)

    def _shown(self, shown: str) -> Mask:
        tracks = self.tracks
        if shown == "untagged":
            return tracks.untagged
        if shown == "differs":
            return self.differs
        if shown == "unsure":
            return (tracks.confidence < MIN_CONFIDENCE) & ~self.corrected
        if shown == "none":
            return (tracks.unknown > UNKNOWN) & ~self.corrected
        if shown == "damaged":
            return _true(pc.greater(tracks["undecoded_s"], 0.0))
        if shown in ("corrected", "open"):
            return self.corrected if shown == "corrected" else ~self.corrected
        if shown == "check":
            mask = np.zeros(len(self), bool)
            mask[list(self.doubts)] = True
            return mask
        if shown == "next":
            rows = tracks.rows_of(self.asked)
            mask = np.zeros(len(self), bool)
            mask[rows[rows >= 0]] = True
            return mask & ~self.corrected
        return np.ones(len(self), bool)

    def _ordered(self, rows: Rows, order: str, descending: bool) -> Rows:
        if order == "track_id":
            return rows[::-1] if descending else rows  # the ledger sorts by name
        rank = rank_of(self.counting) if order == "genre" else self.tracks.rank(order)
        ranks = rank[rows]
        there = ranks >= 0
        order_of = np.argsort(-ranks if descending else ranks, kind="stable")
        order_of = np.concatenate([order_of[there[order_of]], order_of[~there[order_of]]])
        return np.asarray(rows[order_of])

    def _alike(self, rows: Rows, wanted: Filter) -> Rows:
        score = self.similar(wanted.like)
        rows = rows[np.isfinite(score[rows])]
        if wanted.order not in ("match", "confidence"):
            return self._ordered(rows, wanted.order, wanted.descending)
        return np.asarray(rows[np.argsort(-score[rows], kind="stable")])

    def similar(self, track_id: str) -> NDArray[np.float32]:
        """How alike each track sounds to one, -1 to 1, and NaN for itself and where that is not known.

        Raises:
            UsageError: there is no such track, or its row has no embedding.
        """
        row = self.tracks.row_of(track_id)
        if row is None:
            raise UsageError(f"{track_id[:200]}: there is no such track in this catalog")
        known, embeddings, trunks = self.tracks.embeddings
        at = np.searchsorted(known, row)
        if at == len(known) or known[at] != row:
            raise UsageError(f"{track_id}: its row has no embedding; tag the library again to find similar tracks")
        alike = trunks == trunks[at]
        score = np.full(len(self), np.nan, np.float32)
        score[known[alike]] = similarity(embeddings[alike], [int(np.count_nonzero(alike[:at]))])
        score[row] = np.nan
        return score

    def position(self, rows: Rows, track_id: str) -> int | None:
        """Where in these rows a track is."""
        row = self.tracks.row_of(track_id)
        found = np.flatnonzero(rows == (-1 if row is None else row))
        return int(found[0]) if len(found) else None

    def track(self, track_id: str) -> dict[str, Any] | None:
        """Everything in memory about a track, or None where the catalog has no such track."""
        row = self.tracks.row_of(track_id)
        if row is None:
            return None
        doubt = self.doubts.get(row)
        more = {"row": row, "doubt": doubt and doubt._asdict()}
        return self.page(np.array([row]))[0] | self.tracks.details(row) | more

    def page(self, rows: Rows) -> list[dict[str, Any]]:
        """Some rows, as lists show them: `counts` is the genre that counts, `genre` what was heard."""
        part = self.tracks.listed(rows)
        for row, at, genre in zip(part, rows.tolist(), self.counting.take(pa.array(rows)).to_pylist(), strict=True):
            row |= {"counts": genre, "corrected": bool(self.corrected[at]), "differs": bool(self.differs[at])}
        return part


def _true(values: pa.Array) -> Mask:
    return np.asarray(pc.fill_null(values, False))
