"""The plan for one file: what to change, or why nothing. Reads the file and writes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import functools
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genrebeam.features.errors import NotTaggable, TagError, UnreadableFile
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.apply.options import ApplyRun
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.corrections import words_of
from genrebeam.pipelines.dataset.journal import Entry, Version
from genrebeam.pipelines.dataset.keys import are_one_time
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.places import local_path
from genrebeam.pipelines.tags.change import keep, with_genre, with_kept
from genrebeam.pipelines.tags.model import Container, Source, Splice, Tag
from genrebeam.pipelines.tags.parse import parse_source
from genrebeam.pipelines.tags.patch import PatchedSource, former, restored
from genrebeam.pipelines.tags.policy import Outcome, Prediction, decide_write
from genrebeam.pipelines.tags.read import TagValues, read_tags
from genrebeam.pipelines.tags.sniff import Kind, sniff
from genrebeam.pipelines.tags.words import same
from genrebeam.pipelines.tags.writer import (
    Change,
    Identity,
    check_writable,
    temporary_name,
)


class ChangedSinceAnalysis(TagError):
    """The file is not the version that was analysed."""


class EditedSince(TagError):
    """Undo: somebody changed the genre after we wrote it."""


@dataclasses.dataclass(frozen=True)
class TagJob:
    """One file and what is to be done to it: write the tags of a `prediction`, or undo the changes in `entries`.

    Attributes:
        versions: sizes and times of the analysed file, with and without our tags.
    """

    track: Track
    prediction: Prediction | None = None
    versions: frozenset[Version] = frozenset()
    entries: tuple[Entry, ...] = ()


@dataclasses.dataclass(frozen=True)
class TagResult:
    """What became of one file; `error` and `message` are set exactly where the outcome is FAILED."""

    track: Track
    outcome: Outcome
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    error: str = ""
    message: str = ""

    @property
    def rejection(self) -> Rejection:
        return Rejection(self.track, "apply", self.error, self.message)


@dataclasses.dataclass(frozen=True)
class Original:
    """A file as it is now: itself, or a copy of an object in a store.

    Attributes:
        path: where it can be read and, in the case of an object, may be changed.
        seen: the object; None for a file.
    """

    uri: str
    path: str
    size: int
    mtime_ns: int
    seen: objects.Seen | None = None

    @property
    def version(self) -> Version:
        return self.size, self.mtime_ns // 1000


@dataclasses.dataclass(frozen=True)
class Planned:
    """A change that waits to be made, with the journal's row about it."""

    job: TagJob
    original: Original
    entry: Entry
    change: Change

    @property
    def target(self) -> str:
        """What is changed, by a name that two links to it share."""
        return self.original.uri if self.original.seen else self.original.path

    @property
    def done(self) -> TagResult:
        return TagResult(self.job.track, Outcome.WRITE, self.entry.before.genres, self.entry.after.genres)


def job_from_row(row: Mapping[str, Any]) -> TagJob:
    """A row of `results_to_write` as a job."""
    track = Track(row["uri"], row["track_id"], row["size"], row["mtime_us"] / 1e6)
    first = [(row["genre"], float(row["confidence"]))] if row["genre"] else []
    others = [(item["genre"], float(item["score"])) for item in row["top"] or [] if item["genre"] != row["genre"]]
    prediction = Prediction(
        (*first, *others), row["model_id"] or "", row["model_fingerprint"] or "", row["processed_at"],
        unknown=row["unknown"] or 0.0,
    )  # fmt: skip
    if row["correction"]:
        labels = {same(label): label for label in row["correction"]["labels"] or ()}
        words = words_of(row["correction"]["genre"])
        prediction = Prediction(
            tuple((labels.get(same(word), word), 1.0) for word in words), "correction", "", row["correction"]["at"],
            corrected=True, labels=frozenset(labels.values()),
        )  # fmt: skip
    versions = [(row["size"], row["mtime_us"]), *map(tuple, row["versions"] or [])]
    return TagJob(track, prediction, frozenset(versions))


@contextlib.contextmanager
def named(original: Original) -> Iterator[None]:
    """Let messages name the track, not the local copy of an object or the target of a link."""
    try:
        yield
    except TagError as error:
        raise type(error)(str(error).replace(original.path, original.uri)) from error


def plan(job: TagJob, run: ApplyRun, scratch: str, receipts: list[Entry]) -> Planned | TagResult:
    """Plan the change of one file, or the result where nothing changes. Reads the file and writes nothing.

    Args:
        scratch: a folder for a copy of an object.
        receipts: takes the row of a put that a killed run made without journalling it.

    Raises:
        TrackError: the file cannot be changed, and why.
        OSError: it cannot be read.
        UsageError: its store cannot be used.
    """
    original = _original(job.track.uri, scratch)
    with named(original), Path(original.path).open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if original.seen is None:
            original = dataclasses.replace(original, size=status.st_size, mtime_ns=status.st_mtime_ns)
        if not abs(original.mtime_ns) < 2**63:  # nanoseconds from 1678 to 2262 fit into the journal
            raise UnreadableFile(f"{original.path}: its modification time cannot be stored; touch it")
        current = read_tags(file)
        goal = (_goal_of_apply if job.prediction else _goal_of_undo)(job, run, current, original)
        entry = Entry(
            uri=job.track.uri,
            track_id=job.track.track_id,
            run_id=run.run_id,
            at=dt.datetime.now(dt.timezone.utc),
            action=journal.APPLY if job.prediction else journal.UNDO,
            before=current,
            after=goal.values,
            tags_before=(),
            size_before=original.size,
            mtime_ns_before=original.mtime_ns,
            size_after=original.size,
            mtime_ns_after=None,
            temporary="",
        )
        if goal.put_over:
            receipts.append(_receipt_of(entry, goal.put_over))
        if goal.outcome is not Outcome.WRITE:
            return TagResult(job.track, goal.outcome, current.genres, current.genres)
        if original.seen is None:
            check_writable(original.path, status, break_hard_links=run.options.hard_links == "break")
        kind, source = sniff(file), Source(file)
        container = parse_source(kind, source)
        tags, splices = _taken_back(kind, source, goal.take_back) or _with_tags(container, goal.tags(container))
        change = Change(
            path=original.path,
            identity=Identity.of(status),
            tags=tuple(tags),
            values=goal.values,
            splices=tuple(splices),
            temporary=temporary_name(),
            mtime_ns=goal.mtime_ns,
            is_undo=not job.prediction,
        )
        kept = former(source, container, change.splices) if job.prediction else None
    entry = dataclasses.replace(entry, tags_before=keep(container), size_after=change.size_after, former=kept)
    if original.seen is None:
        entry = dataclasses.replace(entry, mtime_ns_after=goal.mtime_ns, temporary=change.temporary)
    return Planned(job, original, entry, change)


def _with_tags(container: Container, tags: Sequence[Tag]) -> tuple[Sequence[Tag], list[Splice]]:
    return tags, container.splices(tags)


def _taken_back(
    kind: Kind | None, source: Source, entries: Sequence[Entry]
) -> tuple[Sequence[Tag], Sequence[Splice]] | None:
    """Changes undone byte for byte, the newest first; None where the file is not as they left it."""
    view: PatchedSource | None = PatchedSource(source) if entries else None
    for entry in entries:
        if view is None or entry.former is None:
            return None
        view = restored(view, entry.former, entry.size_after)
    if view is None:
        return None
    try:
        container = parse_source(kind, view)
    except TagError:
        return None
    return (container.tags, view.splices()) if keep(container) == entries[-1].tags_before else None


def _original(uri: str, scratch: str) -> Original:
    """A file by its path, links resolved, or an object in a fresh local copy.

    Raises:
        NotTaggable: neither.
        UnreadableFile: the object cannot be read.
    """
    local = local_path(uri)
    if local is not None:
        return Original(uri, os.path.realpath(local), 0, 0)
    if not objects.is_object(uri):
        raise NotTaggable(f"{uri}: only files on mounted file systems, s3:// and gs:// can be tagged")
    try:
        with tempfile.NamedTemporaryFile(dir=scratch, delete=False) as copy:
            seen = objects.read(uri, copy.file)
    except UnreadableFile as error:
        raise UnreadableFile(f"{uri}: {error}") from error
    return Original(uri, copy.name, seen.size, seen.mtime_us * 1000, seen)


def _receipt_of(entry: Entry, put_over: Version) -> Entry:
    """The row that a killed run failed to write about an object that it had already replaced."""
    size, mtime_us = put_over
    return dataclasses.replace(
        entry,
        at=entry.at - dt.timedelta(microseconds=1),
        action=journal.PUT,
        after=entry.before,
        size_before=size,
        mtime_ns_before=(mtime_us or 0) * 1000,
        mtime_ns_after=entry.mtime_ns_before,
    )


class _Goal(NamedTuple):
    """What a file should become. Unless `outcome` is WRITE it stays as it is.

    Attributes:
        values: what reading the file should give afterwards.
        tags: makes the new tags from the container that was read.
        mtime_ns: the modification time to set.
        put_over: set where we replaced this version of an object and the journal may not have a row of it.
        take_back: changes to undo byte for byte, the newest first; where that is impossible, `tags` is used.
    """

    outcome: Outcome
    values: TagValues
    tags: Callable[[Container], list[Tag]] = lambda container: list(container.tags)
    mtime_ns: int = 0
    put_over: Version | None = None
    take_back: tuple[Entry, ...] = ()


def _is_one_of(version: Version, versions: Collection[Version]) -> bool:
    """Whether a file is one of these versions, by a time that its disk may have rounded or shifted."""
    times = np.array([mtime_us for size, mtime_us in versions if size == version[0] and mtime_us is not None], np.int64)
    return bool(are_one_time(times, np.full(len(times), version[1], np.int64)).any())


def _goal_of_apply(job: TagJob, run: ApplyRun, current: TagValues, original: Original) -> _Goal:
    assert job.prediction
    decision = decide_write(current, job.prediction, run.options.tags)
    known, put_over = _is_one_of(original.version, job.versions), None
    if not known and current.provenance and (original.size, None) in job.versions:
        known, put_over = True, (job.track.size, round(job.track.mtime * 1e6))
    values = decision.values
    if values is None:
        return _Goal(decision.outcome, current, put_over=put_over)
    if not known:
        raise ChangedSinceAnalysis(f"{job.track.uri}: it changed after it was analysed; run `genrebeam tag` again")
    mtime_ns = int(run.started_at.timestamp() * 1e6) * 1000 if run.options.touch else original.mtime_ns
    tags = functools.partial(with_genre, genres=values.genres, provenance=values.provenance)
    return _Goal(decision.outcome, values, tags, mtime_ns, put_over)


def _goal_of_undo(job: TagJob, run: ApplyRun, current: TagValues, original: Original) -> _Goal:
    first = latest = None
    values, ours_in_file = current, []
    for entry in sorted(job.entries, key=journal.order_of, reverse=True):
        if entry.after == values:  # one of ours; before it there may have been another of ours
            first, latest, values = entry, latest or entry, entry.before
            ours_in_file.append(entry)
    if first is None or latest is None:
        if any(entry.before.genres == current.genres for entry in job.entries):
            return _Goal(Outcome.NOTHING, current)
        raise EditedSince(
            f"{job.track.uri}: its genre is {'; '.join(current.genres) or 'gone'} and not, with our mark, "
            f"{'; '.join(job.entries[-1].after.genres)}: somebody changed it, so it stays"
        )
    untouched = (original.size, original.mtime_ns) == (latest.size_after, latest.mtime_ns_after)
    mtime_ns = first.mtime_ns_before if untouched else original.mtime_ns
    ours = original.seen is not None and original.size == latest.size_after
    put_over = (latest.size_before, latest.mtime_ns_before // 1000) if ours else None
    tags = functools.partial(with_kept, kept=first.tags_before, values=first.before)
    return _Goal(Outcome.WRITE, first.before, tags, mtime_ns, put_over, tuple(ours_in_file))
