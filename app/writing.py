"""Writing genres into files from the application: what would be written, a run with its progress, and undo.

The preview is computed from rows in memory; the run is the job of `genrebeam apply`, which looks at each file again.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import functools
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from genrebeam.app.catalog import Catalog, CatalogView, Filter, Rows
from genrebeam.features.errors import GenrebeamError, UsageError
from genrebeam.pipelines.apply.options import ApplyOptions
from genrebeam.pipelines.apply.plan import TagJob
from genrebeam.pipelines.dataset.corrections import words_of
from genrebeam.pipelines.dataset.dataset import CORRECTIONS_DIR
from genrebeam.pipelines.engine.runner import usable_cores
from genrebeam.pipelines.jobs.apply import ApplyReport, Batches, batches_of_journal, batches_of_results, new_run, work
from genrebeam.pipelines.tags.policy import Outcome, Prediction, TagPolicy, WriteDecision, decide_write, read_names
from genrebeam.pipelines.tags.read import TagValues
from genrebeam.pipelines.tags.words import same

NAMES = ("", "tree", "musicbrainz")  # genre maps that ship
MEANINGS = {
    Outcome.WRITE: "would be written",
    Outcome.SAME: "say so already",
    Outcome.KEPT: "have a genre of their own",
    Outcome.HELD: "are corrected, but have a genre of their own",
    Outcome.EDITED: "were edited after genrebeam wrote them",
    Outcome.UNSURE: "are not sure enough, or perhaps none of the model's genres",
    Outcome.NOTHING: "have nothing to write",
    Outcome.FAILED: "cannot be written",
}
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


@dataclasses.dataclass(frozen=True)
class Wish:
    """What a page asks to be written.

    Attributes:
        tags: as `genrebeam apply` has them.
        only_corrected: tracks that people have said something of.
        listed: only tracks that this filter lists.
    """

    tags: TagPolicy
    only_corrected: bool = False
    listed: Filter = dataclasses.field(default_factory=Filter)

    def rows(self, view: CatalogView) -> Rows:
        rows = view.find(self.listed)
        return np.asarray(rows[view.corrected[rows]]) if self.only_corrected else rows


def wish(
    policy: str, min_confidence: float, max_unknown: float, max_genres: int, names: str, only_corrected: bool,
    listed: Filter,
) -> Wish:  # fmt: skip
    """What the controls say; raises UsageError for a value out of range."""
    if names not in NAMES:
        raise UsageError(f"names={names[:40]}: choose one of {', '.join(filter(None, NAMES))}")
    words = read_names(Path(names)) if names else ()
    return Wish(TagPolicy(policy, min_confidence, max_unknown, max_genres, words), only_corrected, listed)


@dataclasses.dataclass(frozen=True)
class Preview:
    """What would be written, by the results and the journal.

    Attributes:
        outcomes: tracks by Outcome. genres: how many files would get each genre, the most frequent first.
        changes: rows of the files that would be written, the surest first, with their genres before and after.
    """

    outcomes: dict[Outcome, int]
    genres: dict[str, int]
    changes: list[tuple[int, str, str]]


def preview(view: CatalogView, wanted: Wish, labels: Sequence[str]) -> Preview:
    """Decide on all tracks at once; a hundred thousand take some tenths of a second.

    Args:
        labels: of the model, for corrections that name one.
    """
    tracks, rows = view.tracks, wanted.rows(view)
    by_key = {same(label): label for label in [*labels, *tracks["genre"].unique().drop_null().to_pylist()]}
    known = frozenset(by_key.values())
    policy = dataclasses.replace(wanted.tags, min_confidence=0.0, max_unknown=1.0, max_genres=len(known) + 1)

    def decided(words: tuple[str, ...], is_corrected: bool, current: TagValues) -> WriteDecision:
        genres = tuple((word, 1.0) for word in words)
        return decide_write(current, Prediction(genres, "", "", _EPOCH, corrected=is_corrected, labels=known), policy)

    @functools.cache
    def decided_anew(words: tuple[str, ...], is_corrected: bool, file_genre: str) -> WriteDecision:
        return decided(words, is_corrected, TagValues(words_of(file_genre)))

    outcomes: collections.Counter[Outcome] = collections.Counter()
    written: collections.Counter[str] = collections.Counter()
    changes: list[tuple[int, str, str]] = []
    said, ours = view.said, tracks.written
    before = tracks["file_genre"].take(pa.array(rows)).to_pylist()
    for row, file_genre, heard in zip(rows.tolist(), before, _sure(view, rows, wanted.tags), strict=True):
        words = heard
        if row in said:
            words = tuple(by_key.get(same(word), word) for word in words_of(said[row]))
        if words is None:
            outcomes[Outcome.UNSURE] += 1
            continue
        found = decided(words, row in said, ours[row]) if row in ours else decided_anew(words, row in said, file_genre)
        outcomes[found.outcome] += 1
        if found.values is not None:
            written.update(found.values.genres)
            changes.append((row, file_genre, "; ".join(found.values.genres)))
    changes.sort(key=lambda change: (change[0] not in said, -tracks.confidence[change[0]]))
    return Preview(dict(outcomes), dict(written.most_common()), changes)


def _sure(view: CatalogView, rows: Rows, policy: TagPolicy) -> Iterator[tuple[str, ...] | None]:
    """The genres of each track that the model is sure enough of; None where it heard some and is not."""
    tracks = view.tracks
    heard = tracks["genre"].take(pa.array(rows)).to_pylist()
    names = tracks["track_id"].take(pa.array(rows)).to_pylist() if policy.max_genres > 1 else ()
    tops = (tracks.tops.get(name, ()) for name in names) if names else itertools.repeat(())
    is_sure = (tracks.confidence[rows] >= np.float32(policy.min_confidence)) & (
        tracks.unknown[rows] <= policy.max_unknown
    )
    for genre, sure, top in zip(heard, is_sure.tolist(), tops, strict=False):
        if genre is None or not sure:
            yield None if genre else ()
            continue
        others = (other for other, score in top if other != genre and score >= policy.min_confidence)
        yield (genre, *others)[: policy.max_genres]


class Stopped(Exception):
    """A visitor has stopped the run; what is written stays written."""


@dataclasses.dataclass
class State:
    """How far a run is. `message` says how it ended."""

    kind: str = ""
    is_running: bool = False
    done: int = 0
    total: int = 0
    outcomes: dict[str, int] = dataclasses.field(default_factory=dict)
    errors: dict[str, int] = dataclasses.field(default_factory=dict)
    message: str = ""


class Writing:
    """One run at a time, in a thread of its own."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.state = State()

    def write(self, wanted: Wish) -> None:
        """Begin to write; raises UsageError where a run is active."""
        view = self._catalog.view()
        ids = set(view.tracks["track_id"].take(pa.array(wanted.rows(view))).to_pylist())
        options = ApplyOptions(wanted.tags, yes=True, only_corrected=wanted.only_corrected, workers=usable_cores())

        def batches() -> Batches:
            self._catalog.dataset.merge(CORRECTIONS_DIR)
            found = batches_of_results(self._catalog.dataset, only_corrected=wanted.only_corrected)
            return Batches(len(ids), _only(found.batches, ids))

        self._begin("write", options, batches)

    def undo(self) -> None:
        """Begin to put back what was there before; raises UsageError where a run is active."""
        dataset = self._catalog.dataset
        self._begin("undo", ApplyOptions(yes=True, workers=usable_cores()), lambda: batches_of_journal(dataset))

    def stop(self) -> None:
        """Let the run end after the files that it has in hand."""
        self._stop.set()

    def close(self) -> None:
        """Stop a run, and wait for its end."""
        self.stop()
        for thread in threading.enumerate():
            if thread.name == "write":
                thread.join()

    def _begin(self, kind: str, options: ApplyOptions, batches: Callable[[], Batches]) -> None:
        with self._lock:
            if self.state.is_running:
                raise UsageError("a run is writing already; wait for it, or stop it")
            self._stop.clear()
            self.state = State(kind, True)
        threading.Thread(target=self._run, args=(options, batches), name="write").start()

    def _run(self, options: ApplyOptions, batches: Callable[[], Batches]) -> None:
        state = self.state
        try:
            run = new_run(self._catalog.dataset, options)
            with run.dataset.lock():
                to_do = batches()
                state.total = to_do.total
                report = work(to_do.batches, run, tick=self._tick, keep_changes=0)
            _sum_up(state, report)
        except Stopped:
            state.message = f"Stopped after {state.done:,} files; what is written stays, and Undo takes it back."
        except (GenrebeamError, OSError) as error:
            state.message = str(error)
        except Exception as error:
            state.message = f"A fault of genrebeam: {type(error).__name__}: {str(error)[:300]}"
        finally:
            state.is_running = False
            self._catalog.look_again()

    def _tick(self, count: int) -> None:
        self.state.done += count
        if self._stop.is_set():
            raise Stopped


def _only(batches: Iterator[list[TagJob]], track_ids: set[str]) -> Iterator[list[TagJob]]:
    for batch in batches:
        if some := [job for job in batch if job.track.track_id in track_ids]:
            yield some


def _sum_up(state: State, report: ApplyReport) -> None:
    state.outcomes = dict(report.outcomes)
    state.errors = dict(report.errors)
    verb = "written" if state.kind == "write" else "put back"
    state.message = f"{report.written:,} files {verb}"
    if report.failed:
        state.message += f", {report.failed:,} left alone"
