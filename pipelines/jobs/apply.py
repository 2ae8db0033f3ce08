"""Results -> tags in the files, and back. Pure planning, one batch function, and a run over a results dataset.

`work_batch` is the whole of it for some files: plan, journal, write. Locally threads call it, on a cluster a Beam
graph does (pipelines/jobs/apply_graph.py). Neither needs Beam or TensorFlow here.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import dataclasses
import datetime as dt
import functools
import itertools
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from features.errors import NotTaggable, TagError, TrackError, UnreadableFile, UsageError, WriteFailed
from features.schema import Rejection, Track
from pipelines.dataset import journal
from pipelines.dataset.journal import Entry, Origins, Version
from pipelines.dataset.ledger import RESULTS_DIR, newest_results
from pipelines.jobs.tag import output_folder, write_rejects_file
from pipelines.storage import objects
from pipelines.storage.places import local_path
from pipelines.tags.change import keep, with_genre, with_kept
from pipelines.tags.model import Container, Source, Splice, Tag
from pipelines.tags.parse import parse_source
from pipelines.tags.patch import View, former, restored
from pipelines.tags.policy import Heard, Outcome, TagPolicy, decide
from pipelines.tags.read import TagValues, read_tags
from pipelines.tags.sniff import Kind, sniff
from pipelines.tags.writer import (
    Change,
    Identity,
    check_writable,
    sync_folder,
    write,
)

BATCH = 64  # files between two syncs of the journal; a killed run leaves no more copies than that and the threads
_FETCHED_BYTES = 256 << 20  # of objects on the local disk at a time, per thread; or one object
Result = TypeVar("Result")
HARD_LINKS = ("skip", "break")
_LISTED, _ASKED_ABOUT = 10_000, 50  # changes shown by a dry run, and before the question
RESULT_COLUMNS = [
    "uri", "track_id", "size", "mtime", "genre", "confidence", "top", "model_id", "model_fingerprint", "processed_at",
]  # fmt: skip


class ChangedSinceAnalysis(TagError):
    """The file is not the version that was analysed."""


class EditedSince(TagError):
    """Undo: somebody changed the genre after we wrote it."""


@dataclasses.dataclass(frozen=True)
class ApplyOptions:
    """A validated command line of `genrebeam apply` and of `genrebeam tag --write-tags`.

    Attributes:
        tags: what may be written where.
        hard_links: skip files with several names, or break: tag this name and part it from the others.
        touch: let the modification time be that of the change; otherwise it stays. Undo sets it back.
        dry_run: plan and show, write nothing.
        yes: do not ask.

    Raises:
        UsageError: a value out of range.
    """

    tags: TagPolicy = dataclasses.field(default_factory=TagPolicy)
    hard_links: str = "skip"
    touch: bool = False
    dry_run: bool = False
    yes: bool = False
    workers: int = 1
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.hard_links not in HARD_LINKS:
            raise UsageError(f"--hard-links {self.hard_links}: choose one of {', '.join(HARD_LINKS)}")
        if self.workers < 1:
            raise UsageError(f"--workers must be at least 1, not {self.workers}")


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One file with what is to be done to it: write what was `heard`, or undo what the `entries` say.

    Attributes:
        versions: sizes and times of the file that was heard, with and without our tags.
    """

    track: Track
    heard: Heard | None = None
    versions: frozenset[Version] = frozenset()
    entries: tuple[Entry, ...] = ()


class Batches(NamedTuple):
    """Work as it is read, so that a million files are never in memory at once. `total` counts files."""

    total: int
    batches: Iterator[list[Wanted]]


@dataclasses.dataclass(frozen=True)
class Done:
    """What became of one file; `error` is set exactly where the outcome is FAILED."""

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
class Task:
    """What a batch has to know, wherever it is worked off.

    Attributes:
        output_dir: the results dataset, whose journal takes the rows.
        dry_run: stop after planning.
    """

    output_dir: Path
    run_id: str
    started_at: dt.datetime
    options: ApplyOptions
    dry_run: bool = False


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

    wanted: Wanted
    original: Original
    entry: Entry
    change: Change

    @property
    def target(self) -> str:
        """What is changed, by a name that two links to it share."""
        return self.original.uri if self.original.seen else self.original.path

    @property
    def done(self) -> Done:
        return Done(self.wanted.track, Outcome.WRITE, self.entry.before.genres, self.entry.after.genres)


def work_batch(batch: Sequence[Wanted], task: Task) -> list[Done]:
    """Plan some files, put the plans on the disk, then write the files. No exception for anything about one file.

    Raises:
        UsageError: a store cannot be used at all: its package or the credentials are missing.
    """
    done: list[Done] = []
    for part in _parts(batch):
        with contextlib.ExitStack() as stack:
            scratch = ""
            if any(objects.is_object(wanted.track.uri) for wanted in part):
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="genrebeam-"))
            done += _work_part(part, task, scratch)
    return done


def _parts(batch: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """A batch in stretches whose objects fit on the local disk together."""
    part: list[Wanted] = []
    fetched = 0
    for wanted in batch:
        size = wanted.track.size if objects.is_object(wanted.track.uri) else 0
        if part and size and fetched + size > _FETCHED_BYTES:
            yield part
            part, fetched = [], 0
        part.append(wanted)
        fetched += size
    yield part


def _work_part(part: Sequence[Wanted], task: Task, scratch: str) -> list[Done]:
    done: list[Done] = []
    planned: dict[str, Planned] = {}
    receipts: list[Entry] = []
    for wanted in part:
        result = _guarded(wanted.track, plan, wanted, task, scratch, receipts)
        if isinstance(result, Done):
            done.append(result)
        elif result.target in planned:  # two links to one file
            done.append(Done(wanted.track, Outcome.SAME, result.entry.after.genres, result.entry.after.genres))
        else:
            planned[result.target] = result
    if task.dry_run:
        return done + [one.done for one in planned.values()]
    if entries := [*receipts, *(one.entry for one in planned.values())]:
        journal.append(task.output_dir, entries)
    receipts = []
    try:
        for one in planned.values():
            failed = _guarded(one.wanted.track, _carry_out, one, receipts)
            done.append(failed or one.done)
    finally:
        if receipts:
            journal.append(task.output_dir, receipts)
    for folder in {Path(one.change.path).parent for one in planned.values() if not one.original.seen}:
        sync_folder(folder)
    return done


def _carry_out(one: Planned, receipts: list[Entry]) -> None:
    """Write a file; of an object the local copy, which then takes the object's place. Raises TagError."""
    original = one.original
    with _named(original):
        write(one.change)
    if original.seen:
        now = objects.replace_if_unchanged(original.uri, original.path, original.seen)
        if now:
            at = dt.datetime.now(dt.timezone.utc)
            receipt = dataclasses.replace(one.entry, at=at, action=journal.PUT, mtime_ns_after=now.mtime_us * 1000)
            receipts.append(receipt)


@contextlib.contextmanager
def _named(original: Original) -> Iterator[None]:
    """Let messages name the track: not an object's local copy, nor what a link points at."""
    try:
        yield
    except TagError as error:
        raise type(error)(str(error).replace(original.path, original.uri)) from error


def _guarded(track: Track, act: Callable[..., Result], *arguments: Any) -> Result | Done:
    """What `act` returns, or the failure of this one file."""
    try:
        return act(*arguments)
    except TrackError as error:
        name, message = type(error).__name__, str(error)
    except UsageError:
        raise
    except OSError as error:
        name, message = WriteFailed.__name__, f"{track.uri}: {error.strerror or error}; left as it is"
    except Exception as error:  # a fault of ours in one strange file must not cost the others
        name, what = type(error).__name__, " ".join(str(error).split())[:200]
        message = f"{track.uri}: {name}: {what}; left as it is, please report this"
    return Done(track, Outcome.FAILED, error=name, message=message)


def plan(wanted: Wanted, task: Task, scratch: str, receipts: list[Entry]) -> Planned | Done:
    """What to change in one file, or why nothing. Reads the file and touches nothing.

    Args:
        scratch: a folder for a copy of an object.
        receipts: takes the row of a put that was made, but not written down because its run was killed.

    Raises:
        TrackError: the file cannot be changed, and why.
        OSError: it cannot be read.
        UsageError: its store cannot be used.
    """
    original = _original(wanted.track.uri, scratch)
    with _named(original), Path(original.path).open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if original.seen is None:
            original = dataclasses.replace(original, size=status.st_size, mtime_ns=status.st_mtime_ns)
        current = read_tags(file)
        goal = (_goal_of_apply if wanted.heard else _goal_of_undo)(wanted, task, current, original)
        entry = Entry(
            uri=wanted.track.uri,
            track_id=wanted.track.track_id,
            run_id=task.run_id,
            at=dt.datetime.now(dt.timezone.utc),
            action=journal.APPLY if wanted.heard else journal.UNDO,
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
            return Done(wanted.track, goal.outcome, current.genres, current.genres)
        if original.seen is None:
            check_writable(original.path, status, break_hard_links=task.options.hard_links == "break")
        kind, source = sniff(file), Source(file)
        container = parse_source(kind, source)
        tags, splices = _taken_back(kind, source, goal.take_back) or _with_tags(container, goal.tags(container))
        change = Change(
            path=original.path,
            identity=Identity.of(status),
            tags=tuple(tags),
            values=goal.values,
            splices=tuple(splices),
            temporary=f".genrebeam-{secrets.token_hex(10)}.tmp",  # `tag` passes over names that begin like this
            mtime_ns=goal.mtime_ns,
            is_undo=not wanted.heard,
        )
        kept = former(source, container, change.splices) if wanted.heard else None
    entry = dataclasses.replace(entry, tags_before=keep(container), size_after=change.size_after, former=kept)
    if original.seen is None:
        entry = dataclasses.replace(entry, mtime_ns_after=goal.mtime_ns, temporary=change.temporary)
    return Planned(wanted, original, entry, change)


def _with_tags(container: Container, tags: Sequence[Tag]) -> tuple[Sequence[Tag], list[Splice]]:
    return tags, container.splices(tags)


def _taken_back(
    kind: Kind | None, source: Source, entries: Sequence[Entry]
) -> tuple[Sequence[Tag], Sequence[Splice]] | None:
    """Changes undone byte for byte, the newest first; None where the file is not as they left it."""
    view: View | None = View(source) if entries else None
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
    """The row that a killed run owes about the object of an entry, which it had put over an earlier version."""
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
    """What shall become of a file: unless `outcome` is WRITE, nothing.

    `values` is what reading it shall give, `tags` makes its tags, `mtime_ns` is the time it shall bear. `put_over`:
    the object is one that we put over this version, and perhaps it was never written down. `take_back`: the changes to
    be taken back byte for byte where that can be done, the newest first; `tags` is for where it cannot.
    """

    outcome: Outcome
    values: TagValues
    tags: Callable[[Container], list[Tag]] = lambda container: list(container.tags)
    mtime_ns: int = 0
    put_over: Version | None = None
    take_back: tuple[Entry, ...] = ()


def _goal_of_apply(wanted: Wanted, task: Task, current: TagValues, original: Original) -> _Goal:
    assert wanted.heard
    decision = decide(current, wanted.heard, task.options.tags)
    known, put_over = original.version in wanted.versions, None
    if not known and current.provenance and (original.size, None) in wanted.versions:
        known, put_over = True, (wanted.track.size, round(wanted.track.mtime * 1e6))
    values = decision.values
    if values is None:
        return _Goal(decision.outcome, current, put_over=put_over)
    if not known:
        raise ChangedSinceAnalysis(
            f"{wanted.track.uri}: it changed after it was analysed; run `genrebeam tag` again to have it heard anew"
        )
    mtime_ns = int(task.started_at.timestamp() * 1e6) * 1000 if task.options.touch else original.mtime_ns
    tags = functools.partial(with_genre, genres=values.genres, provenance=values.provenance)
    return _Goal(decision.outcome, values, tags, mtime_ns, put_over)


def _goal_of_undo(wanted: Wanted, task: Task, current: TagValues, original: Original) -> _Goal:
    first = latest = None
    values, ours_in_file = current, []
    for entry in sorted(wanted.entries, key=lambda entry: entry.at, reverse=True):
        if entry.after == values:  # one of ours; before it there may have been another of ours
            first, latest, values = entry, latest or entry, entry.before
            ours_in_file.append(entry)
    if first is None or latest is None:
        if any(entry.before.genres == current.genres for entry in wanted.entries):
            return _Goal(Outcome.NOTHING, current)
        raise EditedSince(
            f"{wanted.track.uri}: its genre is {'; '.join(current.genres) or 'gone'} and not, with our mark, "
            f"{'; '.join(wanted.entries[-1].after.genres)}: somebody changed it, so it stays"
        )
    untouched = (original.size, original.mtime_ns) == (latest.size_after, latest.mtime_ns_after)
    mtime_ns = first.mtime_ns_before if untouched else original.mtime_ns
    ours = original.seen is not None and original.size == latest.size_after
    put_over = (latest.size_before, latest.mtime_ns_before // 1000) if ours else None
    tags = functools.partial(with_kept, kept=first.tags_before, values=first.before)
    return _Goal(Outcome.WRITE, first.before, tags, mtime_ns, put_over, tuple(ours_in_file))


@dataclasses.dataclass
class ApplyReport:
    """What a run did, or in a dry run would do.

    Attributes:
        outcomes: files by `Outcome` value.
        errors: failed files by error class.
        changes: the first of them, as (track_id, before, after).
    """

    run_id: str
    started_at: str
    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    errors: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    changes: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = dataclasses.field(default_factory=list)

    def add(self, done: Done, *, keep_changes: int) -> None:
        self.outcomes[done.outcome.value] += 1
        if done.outcome is Outcome.FAILED:
            self.errors[done.error] += 1
        elif done.outcome is Outcome.WRITE and len(self.changes) < keep_changes:
            self.changes.append((done.track.track_id, done.before, done.after))

    @property
    def written(self) -> int:
        return self.outcomes[Outcome.WRITE.value]

    @property
    def failed(self) -> int:
        return self.outcomes[Outcome.FAILED.value]


def results_to_write(output_dir: Path) -> pa.Table:
    """The newest result of each track, with mtime in microseconds and the versions that tags of ours made of its file.

    Raises:
        LedgerError: the dataset cannot be read.
    """
    table = newest_results(output_dir, RESULT_COLUMNS)
    table = table.set_column(RESULT_COLUMNS.index("mtime"), "mtime_us", table["mtime"].cast(pa.int64()))
    origins = Origins.read(output_dir)
    families = origins.families()
    keys = zip(*(table[name].to_pylist() for name in ("track_id", "size", "mtime_us")), strict=True)
    versions = [families.get((track_id, origins.of(track_id, *version))) for track_id, *version in keys]
    column = pa.array([v and [list(pair) for pair in v] for v in versions], pa.list_(pa.list_(pa.int64())))
    return table.append_column("versions", column)


def batches_of_results(output_dir: Path) -> Batches:
    """The newest result of each track as something to write; raises LedgerError."""
    table = results_to_write(output_dir)
    rows = (row for part in table.to_batches(max_chunksize=1024) for row in part.to_pylist())
    return Batches(len(table), _batched(map(wanted_from_row, rows)))


def wanted_from_row(row: Mapping[str, Any]) -> Wanted:
    """A row of `results_to_write` as something to write."""
    track = Track(row["uri"], row["track_id"], row["size"], row["mtime_us"] / 1e6)
    first = [(row["genre"], float(row["confidence"]))] if row["genre"] else []
    others = [(item["genre"], float(item["score"])) for item in row["top"] or [] if item["genre"] != row["genre"]]
    heard = Heard((*first, *others), row["model_id"] or "", row["model_fingerprint"] or "", row["processed_at"])
    versions = [(row["size"], row["mtime_us"]), *map(tuple, row["versions"] or [])]
    return Wanted(track, heard, frozenset(versions))


def batches_of_journal(output_dir: Path) -> Batches:
    """Every file that was ever to be changed, with the journal's rows of it; raises LedgerError."""
    table = journal.read(output_dir)
    table = table.filter(pc.equal(table["action"], journal.APPLY)).sort_by([("uri", "ascending"), ("at", "ascending")])
    rows = (row for part in table.to_batches(max_chunksize=1024) for row in part.to_pylist())
    by_file = itertools.groupby(map(Entry.from_row, rows), key=lambda entry: entry.uri)
    wanted = (_to_undo(tuple(entries)) for _, entries in by_file)
    return Batches(pc.count_distinct(table["uri"]).as_py(), _batched(wanted))


def _to_undo(entries: tuple[Entry, ...]) -> Wanted:
    last = entries[-1]
    mtime_ns = last.mtime_ns_before if last.mtime_ns_after is None else last.mtime_ns_after
    return Wanted(Track(last.uri, last.track_id, last.size_after, mtime_ns // 1000 / 1e6), entries=entries)


def _batched(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    wanted = iter(wanted)
    return iter(lambda: list(itertools.islice(wanted, BATCH)), [])


def new_task(output_dir: Path, options: ApplyOptions) -> Task:
    """A run over a results dataset, dry if the options are.

    Raises:
        UsageError: there is no such dataset.
    """
    check_results(output_dir)
    now = dt.datetime.now(dt.timezone.utc)
    run_id = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    return Task(output_dir.absolute(), run_id, now, options, options.dry_run)


def check_results(output_dir: Path) -> None:
    """Raises UsageError where there is no results dataset."""
    if not (output_dir / RESULTS_DIR).is_dir():
        raise UsageError(f"{output_dir}: no results here; `genrebeam tag LIBRARY --output {output_dir}` makes them")


def work(
    batches: Iterable[Sequence[Wanted]],
    task: Task,
    *,
    tick: Callable[[int], Any] = lambda count: None,
    keep_changes: int = 50,
) -> ApplyReport:
    """Work off many files with threads, and write down what failed.

    Threads and not Beam: nearly all of the time is spent in the kernel (copying, syncing), where the GIL is free, and
    batches are journalled and reported as they are done instead of at the end of a stage.

    Args:
        tick: called with the number of files of each batch that is done.
    """
    report = ApplyReport(task.run_id, task.started_at.isoformat(timespec="seconds"))
    if task.dry_run:
        for batch in _in_threads(batches, task):
            _count(report, batch, [], tick, keep_changes)
        return report
    rejections: list[Rejection] = []
    summary: dict[str, Any] = {"started_at": report.started_at}
    with journal.run(task.output_dir, task.run_id, summary):
        try:
            for batch in _in_threads(batches, task):
                _count(report, batch, rejections, tick, keep_changes)
        finally:
            summary |= {"outcomes": dict(report.outcomes), "errors": dict(report.errors)}
            if rejections:
                write_rejects_file(task.output_dir, f"{task.run_id}-apply", rejections, task.run_id)
    return report


def _count(
    report: ApplyReport,
    batch: Iterable[Done],
    rejections: list[Rejection],
    tick: Callable[[int], Any],
    keep_changes: int,
) -> None:
    count = 0
    for done in batch:
        count += 1
        report.add(done, keep_changes=keep_changes)
        if done.outcome is Outcome.FAILED:
            rejections.append(done.rejection)
    tick(count)


def _in_threads(batches: Iterable[Sequence[Wanted]], task: Task) -> Iterator[list[Done]]:
    """Batches as they are done, a few in flight at a time so that an interrupt is quick."""
    batches = iter(batches)
    with concurrent.futures.ThreadPoolExecutor(task.options.workers) as pool:
        running = {pool.submit(work_batch, batch, task) for batch in itertools.islice(batches, task.options.workers)}
        while running:
            finished, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            running |= {pool.submit(work_batch, b, task) for b in itertools.islice(batches, len(finished))}
            for future in finished:
                yield future.result()


def apply_results(output_dir: Path, options: ApplyOptions, *, console: Console) -> ApplyReport:
    """Write the tags of a results dataset into its files: preview and question, then the work with a progress bar.

    Args:
        console: a terminal is asked whether to go on, unless `options.yes`; what is not one cannot answer.

    Raises:
        UsageError: no results there, another run holds the folder, or there is nobody to ask.
        LedgerError: the dataset cannot be read.
        click.Abort: the answer was no.
    """
    check_consent(options, console)
    task = new_task(output_dir, options)
    if options.tags.policy == "none":
        return ApplyReport(task.run_id, task.started_at.isoformat(timespec="seconds"))
    with output_folder(output_dir):
        return _ask_and_work(batches_of_results, task, console, "Write genres into")


def undo_results(output_dir: Path, options: ApplyOptions, *, console: Console) -> ApplyReport:
    """Put back the genres that were there before anything of this dataset was written; raises as `apply_results`."""
    check_consent(options, console)
    task = new_task(output_dir, options)
    with output_folder(output_dir):
        return _ask_and_work(batches_of_journal, task, console, "Put back the former genres of")


def check_consent(options: ApplyOptions, console: Console) -> None:
    """Find out before hours of work that nobody will be there to ask.

    Raises:
        UsageError: neither --yes nor --dry-run, and no terminal.
    """
    writes = options.tags.policy != "none" and not options.dry_run
    if writes and not options.yes and not (console.is_terminal and sys.stdin.isatty()):
        raise UsageError("there is no terminal to ask on: add --yes to write into the files, or --dry-run to look")


def _ask_and_work(read: Callable[[Path], Batches], task: Task, console: Console, question: str) -> ApplyReport:
    options = task.options
    if options.dry_run or not options.yes:
        preview = _work_with_bar(read(task.output_dir), dataclasses.replace(task, dry_run=True), console, "Looking")
        if options.dry_run or not preview.written:
            return preview
        show(preview, console, planned=True)
        if not click.confirm(f"{question} {preview.written:,} files?", err=True):
            raise click.Abort
    return _work_with_bar(read(task.output_dir), task, console, "Writing")


def _work_with_bar(work_to_do: Batches, task: Task, console: Console, what: str) -> ApplyReport:
    columns = (TextColumn(f"[bold]{what}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = task.options.quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        bar = progress.add_task(what, total=work_to_do.total)
        shown = _LISTED if task.options.dry_run else _ASKED_ABOUT
        return work(work_to_do.batches, task, tick=lambda count: progress.advance(bar, count), keep_changes=shown)


_MEANINGS = {
    Outcome.SAME: "say so already",
    Outcome.KEPT: "have a genre of their own",
    Outcome.EDITED: "were edited after we wrote them; --even-if-edited overrides that",
    Outcome.UNSURE: "below --min-confidence",
    Outcome.NOTHING: "nothing to do",
}


def show(report: ApplyReport, console: Console, *, planned: bool) -> None:
    """A table of changes, old -> new, and the counts of all outcomes."""
    if planned and report.changes:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("track", overflow="fold")
        table.add_column("old", style="dim", overflow="fold")
        table.add_column("")
        table.add_column("new", style="green", overflow="fold")
        for track_id, before, after in report.changes:
            table.add_row(escape(track_id), escape("; ".join(before)) or "-", "->", escape("; ".join(after)) or "-")
        console.print(table)
        if report.written > len(report.changes):
            console.print(f"... and {report.written - len(report.changes):,} more")
        console.print()
    counts = Table(show_header=False, box=None, pad_edge=False)
    counts.add_column(style="bold")
    counts.add_column(justify="right")
    counts.add_column()
    counts.add_row("would change" if planned else "changed", f"{report.written:,}", "")
    for outcome, meaning in _MEANINGS.items():
        if count := report.outcomes[outcome.value]:
            counts.add_row(outcome.value, f"{count:,}", meaning)
    if report.failed:
        errors = ", ".join(f"{count:,} {name}" for name, count in report.errors.most_common())
        counts.add_row("left alone", f"{report.failed:,}", errors)
    console.print(counts)
