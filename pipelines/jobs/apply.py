"""Results -> tags in the files, and back: what is to be written, the question, and a run over it."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import datetime as dt
import functools
import heapq
import itertools
import json
import operator
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from genrebeam.features.errors import Unreachable, UnreadableFile, UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.apply.batch import BATCH, work_batch
from genrebeam.pipelines.apply.options import ApplyOptions, ApplyRun
from genrebeam.pipelines.apply.plan import TagJob, TagResult, job_from_row
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.corrections import read_corrections
from genrebeam.pipelines.dataset.dataset import CORRECTIONS_DIR, JOURNAL_DIR, Dataset, existing
from genrebeam.pipelines.dataset.journal import Entry, Origins
from genrebeam.pipelines.dataset.keys import find, keys_of
from genrebeam.pipelines.dataset.ledger import Place, gone_tracks, newest_results_by_file
from genrebeam.pipelines.dataset.ordered import in_order
from genrebeam.pipelines.dataset.schema import RESULTS
from genrebeam.pipelines.engine.progress import MinuteLines
from genrebeam.pipelines.library.reach import spread, why_unreachable
from genrebeam.pipelines.storage.places import local_path
from genrebeam.pipelines.tags.policy import Outcome

_SAMPLE = 20  # files that are opened to see whether any can be
_KEPT = 10_000  # changes in the report of a dry run
_SHOWN = 20  # of these, on a screen
RESULT_COLUMNS = [
    "uri", "track_id", "size", "mtime", "genre", "confidence", "unknown", "top", "model_id", "model_fingerprint",
    "processed_at",
]  # fmt: skip
_TIME = pa.timestamp("us", tz="UTC")
TO_WRITE = pa.schema(
    [
        *(pa.field("mtime_us", pa.int64()) if name == "mtime" else RESULTS.field(name) for name in RESULT_COLUMNS),
        pa.field("versions", pa.list_(pa.list_(pa.int64()))),
        pa.field("correction", pa.struct([("genre", pa.string()), ("at", _TIME), ("labels", pa.list_(pa.string()))])),
    ]
)


class Batches(NamedTuple):
    """Batches of jobs, read lazily because a million do not fit into memory. `total` counts files."""

    total: int
    batches: Iterator[list[TagJob]]


@dataclasses.dataclass
class ApplyReport:
    """What a run did, or in a dry run would do.

    Attributes:
        outcomes: files by `Outcome` value.
        errors: failed files by error class.
        changes: the first of them, as (track_id, before, after).
        genres: genre to files that get it.
        declined: a person was asked whether to write, and said no.
    """

    run_id: str
    started_at: str
    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    errors: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    changes: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = dataclasses.field(default_factory=list)
    genres: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    declined: bool = False

    def add(self, done: TagResult, *, keep_changes: int) -> None:
        self.outcomes[done.outcome.value] += 1
        if done.outcome is Outcome.FAILED:
            self.errors[done.error] += 1
        elif done.outcome is Outcome.WRITE:
            self.genres.update(set(done.after) - set(done.before))
            if len(self.changes) < keep_changes:
                self.changes.append((done.track.track_id, done.before, done.after))

    def to_json(self, *, planned: bool) -> dict[str, Any]:
        """The fields of docs/json.md; `planned` says that it is of a dry run."""
        changes = [
            {"track_id": track_id, "before": list(before), "after": list(after)}
            for track_id, before, after in self.changes
        ]
        return {
            "run_id": self.run_id,
            "started_at": self.started_at,
            "dry_run": planned,
            "declined": self.declined,
            "outcomes": {outcome.value: self.outcomes[outcome.value] for outcome in Outcome},
            "errors": dict(self.errors),
            "genres": dict(self.genres.most_common()),
            "changes": changes if planned else [],
        }

    @property
    def written(self) -> int:
        return self.outcomes[Outcome.WRITE.value]

    @property
    def failed(self) -> int:
        return self.outcomes[Outcome.FAILED.value]


def results_to_write(dataset: Place, *, only_corrected: bool = False) -> tuple[int, Iterator[dict[str, Any]]]:
    """How many tracks have a result, and the newest of each in the order of their ids: with mtime in microseconds, the
    versions that tags of ours made of its file, and what a person says of it instead.

    Args:
        only_corrected: leave out the tracks of which nobody has said anything.

    Raises:
        LedgerError: the dataset cannot be read.
    """
    corrections = read_corrections(dataset)
    origins = Origins.read(dataset)
    file_versions = origins.file_versions(dataset)

    def to_write(table: pa.Table) -> pa.Table:
        if only_corrected:
            table = table.filter(pc.is_in(table["track_id"], value_set=pa.array(corrections, pa.string())))
        mtime_us = table["mtime"].cast(pa.int64())
        track_ids, *version = (column.to_pylist() for column in (table["track_id"], table["size"], mtime_us))
        versions = file_versions.of(origins.of(keys_of(track_ids, *version).tolist()))
        said: list[dict[str, Any] | None] = [None] * len(table)
        for at, track_id in enumerate(track_ids):
            if (one := corrections.get(track_id)) is not None:
                said[at] = {"genre": one.genre, "at": one.at, "labels": table["labels"][at].as_py()}
        there = {name: table[name] for name in RESULT_COLUMNS if name != "mtime"}
        return pa.table({**there, "mtime_us": mtime_us, "versions": versions, "correction": said}, TO_WRITE)

    return in_order(map(to_write, newest_results_by_file(dataset, [*RESULT_COLUMNS, "labels"])))


def batches_of_results(dataset: Place, *, only_corrected: bool = False) -> Batches:
    """The newest result of each track as something to write; raises LedgerError."""
    total, rows = results_to_write(dataset, only_corrected=only_corrected)
    return Batches(total, _batched(map(job_from_row, rows)))


def batches_of_journal(dataset: Place) -> Batches:
    """Every file that was ever to be changed, with the journal's rows of it; raises LedgerError."""
    keys = [np.empty(0, np.int64)]

    def changes() -> Iterator[pa.Table]:
        for table in Dataset.at(dataset).tables(JOURNAL_DIR):
            table = table.filter(pc.equal(table["action"], journal.APPLY))
            keys.append(keys_of(table["track_id"].to_pylist()))
            yield table

    gone = set(gone_tracks(Dataset.at(dataset)).tolist())
    _, entries = in_order(changes(), ["track_id", *journal.IN_ORDER])
    changed = np.unique(np.concatenate(keys))
    newest = newest_results_by_file(dataset, ["track_id", "uri"])
    _, places = in_order(
        table.filter(pa.array(find(keys_of(table["track_id"].to_pylist()), changed) >= 0)) for table in newest
    )
    track_id = operator.itemgetter("track_id")
    by_track = itertools.groupby(heapq.merge(places, entries, key=track_id), track_id)
    where = journal.place_of(Dataset.at(dataset))
    jobs = (one for name, rows in by_track for one in _to_undo(list(rows), where, is_gone=hash(name) in gone))
    return Batches(len(changed), _batched(jobs))


def _to_undo(rows: list[dict[str, Any]], where: str, *, is_gone: bool) -> Iterator[TagJob]:
    """What was written into one track, by the files that it was written into.

    Args:
        rows: where the track is by its newest result, if it has any; then the journal's rows of it, oldest first. What
            was written into a file that is gone is looked for there: the library has moved; and everything, where
            nothing was written into that file: it is a copy.
        where: the dataset lies. Another file that is there is looked at only where this dataset wrote into it, and not
            one that this is a copy of: the file is the other one's.
        is_gone: whether the track has left its library; only what is still there is put back.
    """
    place = None if "action" in rows[0] else rows.pop(0)["uri"]
    entries = [Entry.from_row(row) for row in rows]
    by_file = {entry.uri: [one for one in entries if one.uri == entry.uri] for entry in entries}
    if place is not None:
        here = [one for one in entries if one.uri == place or _is_gone(one.uri)]
        others = {uri: ours for uri, ours in by_file.items() if ours[-1].dataset == where and not _is_gone(uri)}
        by_file = others | {place: here or entries}
    for uri, ours in by_file.items():
        if is_gone and (local_path(uri) is None or _is_gone(uri)):
            continue
        last = ours[-1]
        mtime_ns = last.mtime_ns_before if last.mtime_ns_after is None else last.mtime_ns_after
        yield TagJob(Track(uri, last.track_id, last.size_after, mtime_ns // 1000 / 1e6), entries=tuple(ours))


def _is_gone(uri: str) -> bool:
    path = local_path(uri)
    return path is not None and not os.path.lexists(path)


def _batched(wanted: Iterable[TagJob]) -> Iterator[list[TagJob]]:
    wanted = iter(wanted)
    return iter(lambda: list(itertools.islice(wanted, BATCH)), [])


def new_run(place: Place, options: ApplyOptions) -> ApplyRun:
    """A run over a results dataset, dry if the options are.

    Raises:
        UsageError: there is no such dataset.
    """
    dataset = existing(place)
    now = dt.datetime.now(dt.timezone.utc)
    return ApplyRun(dataset, dataset.new_run_id(now), now, options, options.dry_run)


def work(
    batches: Iterable[Sequence[TagJob]],
    run: ApplyRun,
    *,
    tick: Callable[[int], Any] = lambda count: None,
    keep_changes: int = 50,
) -> ApplyReport:
    """Process many files with threads, and record failures as rejects.

    Threads and not Beam: nearly all of the time is spent in the kernel (copying, syncing), where the GIL is free, and
    batches are journalled and reported as they are done instead of at the end of a stage.

    Args:
        tick: called with the number of files of each batch that is done.
    """
    report = ApplyReport(run.run_id, run.started_at.isoformat(timespec="seconds"))
    if run.dry_run:
        for batch in _reachable(_in_threads(batches, run), report, run):
            _count(report, batch, [], tick, keep_changes)
        return report
    rejections: list[Rejection] = []
    summary: dict[str, Any] = {"started_at": report.started_at}
    with journal.run(run.dataset, run.run_id, summary):
        try:
            for batch in _reachable(_in_threads(batches, run), report, run):
                _count(report, batch, rejections, tick, keep_changes)
        except Unreachable:
            rejections.clear()  # they would say nothing of the files
            raise
        finally:
            summary |= {"outcomes": dict(report.outcomes), "errors": dict(report.errors)}
            if rejections:
                run.dataset.add_rejects(run.run_id, rejections)
    return report


def _count(
    report: ApplyReport,
    batch: Iterable[TagResult],
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


def _reachable(done: Iterator[list[TagResult]], report: ApplyReport, run: ApplyRun) -> Iterator[list[TagResult]]:
    """The same, as long as a file of the library can be read.

    Raises:
        Unreachable: as `check_reach`.
    """
    alarm = BATCH
    for batch in done:
        yield batch
        if report.failed >= alarm:
            alarm = 2 * report.failed
            check_reach(report, run)
    check_reach(report, run)


def check_reach(report: ApplyReport, run: ApplyRun) -> None:
    """Whether the library is there, asked where not one of the files that were looked at could be read.

    Raises:
        Unreachable: it is not.
    """
    missing = report.errors[UnreadableFile.__name__]
    if not missing or missing != report.outcomes.total():
        return
    tables = newest_results_by_file(run.dataset, ["track_id", "uri"])
    sample = spread((uri for table in tables for uri in table["uri"].to_pylist()), _SAMPLE)
    if why := why_unreachable(sample):
        raise Unreachable(
            f"{run.dataset}: none of its music can be read ({sample[-1]}: {why}); is the drive mounted, does the store "
            "answer? Nothing was written: run the same command when it is there"
        )


def _in_threads(batches: Iterable[Sequence[TagJob]], run: ApplyRun) -> Iterator[list[TagResult]]:
    """Batches as they are done, a few in flight at a time so that an interrupt is quick."""
    batches = iter(batches)
    with concurrent.futures.ThreadPoolExecutor(run.options.workers) as pool:
        running = {pool.submit(work_batch, batch, run) for batch in itertools.islice(batches, run.options.workers)}
        while running:
            finished, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
            running |= {pool.submit(work_batch, b, run) for b in itertools.islice(batches, len(finished))}
            for future in finished:
                yield future.result()


def apply_results(place: Place, options: ApplyOptions, *, console: Console) -> ApplyReport:
    """Write the tags of a results dataset into its files: preview and question, then the work with a progress bar.

    Args:
        console: a terminal is asked whether to go on, unless `options.yes`; what is not one cannot answer.

    Raises:
        UsageError: no results there, another run holds the folder, or there is nobody to ask.
        Unreachable: not one of the files can be read.
        LedgerError: the dataset cannot be read.
    """
    run = new_run(place, options)
    check_consent(options, console)
    if options.tags.policy == "none":
        return ApplyReport(run.run_id, run.started_at.isoformat(timespec="seconds"))
    with _held(run):
        if not options.dry_run:
            run.dataset.merge(CORRECTIONS_DIR)
        read = functools.partial(batches_of_results, only_corrected=options.only_corrected)
        return _ask_and_work(read, run, console, "Write genres into")


def _held(run: ApplyRun) -> contextlib.AbstractContextManager[None]:
    """The lock of the dataset; a dry run works on results that may not be written, and beside others."""
    return contextlib.nullcontext() if run.dry_run else run.dataset.lock()


def undo_results(place: Place, options: ApplyOptions, *, console: Console) -> ApplyReport:
    """Put back the genres that were there before anything of this dataset was written; raises as `apply_results`."""
    run = new_run(place, options)
    check_consent(options, console)
    with _held(run):
        return _ask_and_work(batches_of_journal, run, console, "Put back the former genres of")


def check_consent(options: ApplyOptions, console: Console) -> None:
    """Fail before hours of work where nobody can answer the question before writing.

    Raises:
        UsageError: neither --yes nor --dry-run, and no terminal.
    """
    writes = options.tags.policy != "none" and not options.dry_run
    if writes and not options.yes and not (console.is_terminal and sys.stdin.isatty()):
        raise UsageError("there is no terminal to ask on: add --yes to write into the files, or --dry-run to look")


def _ask_and_work(read: Callable[[Dataset], Batches], run: ApplyRun, console: Console, question: str) -> ApplyReport:
    options = run.options
    if options.dry_run or not options.yes:
        preview = _work_with_bar(read(run.dataset), dataclasses.replace(run, dry_run=True), console, "Looking")
        if options.dry_run or not preview.written:
            return preview
        show(preview, console, planned=True)
        if not click.confirm(f"{question} {preview.written:,} files?", err=True):
            return ApplyReport(preview.run_id, preview.started_at, declined=True)
    return _work_with_bar(read(run.dataset), run, console, "Writing")


def _work_with_bar(work_to_do: Batches, run: ApplyRun, console: Console, what: str) -> ApplyReport:
    columns = (TextColumn(f"[bold]{what}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = run.options.quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=hidden) as progress:
        bar = progress.add_task(what, total=work_to_do.total)
        lines = MinuteLines(Console(quiet=True) if run.options.quiet else console)

        def tick(count: int) -> None:
            progress.advance(bar, count)
            lines.tell(progress.tasks[0])

        shown = sys.maxsize if run.options.list_all else _KEPT if run.options.dry_run else _SHOWN
        return work(work_to_do.batches, run, tick=tick, keep_changes=shown)


# What people read of an outcome, and what to do where it is not wanted.
_MEANINGS = {
    Outcome.SAME: ("have it already", ""),
    Outcome.KEPT: ("have another genre", "--write-tags merge adds to it, overwrite replaces it"),
    Outcome.HELD: ("correction held back", "--only-corrected --write-tags overwrite writes it"),
    Outcome.EDITED: ("edited since", "--even-if-edited writes these too"),
    Outcome.UNSURE: ("not certain enough", "below --min-confidence, or above --max-unknown"),
    Outcome.NOTHING: ("nothing to do", ""),
}


def write_changes(report: ApplyReport, file: Path) -> None:
    """The changes of a dry run as a table, a .csv or .json file by its name; raises UsageError."""
    rows = report.to_json(planned=True)["changes"]
    try:
        with file.open("w", encoding="utf-8", newline="") as out:
            if file.suffix.lower() == ".json":
                json.dump(rows, out, ensure_ascii=False, indent=1)
                return
            writer = csv.DictWriter(out, ["track_id", "before", "after"])
            writer.writeheader()
            writer.writerows(
                {**row, "before": "; ".join(row["before"]), "after": "; ".join(row["after"])} for row in rows
            )
    except OSError as error:
        raise UsageError(f"--output {file}: cannot be written: {error.strerror}") from error


def _joined(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "; ".join(value)


def show(report: ApplyReport, console: Console, *, planned: bool) -> None:
    """The first changes, old -> new, the genres that files get, and all outcomes; or that nothing was written."""
    if report.declined:
        console.print("Nothing was written.")
        return
    if planned and report.changes:
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("track", overflow="fold")
        table.add_column("old", style="dim", overflow="fold")
        table.add_column("")
        table.add_column("new", style="green", overflow="fold")
        for track_id, before, after in report.changes[:_SHOWN]:
            table.add_row(escape(track_id), escape("; ".join(before)) or "-", "->", escape("; ".join(after)) or "-")
        console.print(table)
        if report.written > _SHOWN:
            console.print(f"... and {report.written - _SHOWN:,} more")
        console.print()
    counts = Table(show_header=False, box=None, pad_edge=False)
    counts.add_column(style="bold")
    counts.add_column(justify="right")
    counts.add_column(overflow="fold")
    counts.add_row("would change" if planned else "changed", f"{report.written:,}", "")
    if planned:
        for genre, count in report.genres.most_common():
            counts.add_row("", f"{count:,}", escape(genre))
    for outcome, (said, advice) in _MEANINGS.items():
        if count := report.outcomes[outcome.value]:
            counts.add_row(said, f"{count:,}", advice)
    if report.failed:
        errors = ", ".join(f"{count:,} {name}" for name, count in report.errors.most_common())
        counts.add_row("left alone", f"{report.failed:,}", errors)
    console.print(counts)
