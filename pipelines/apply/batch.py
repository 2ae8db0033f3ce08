"""A batch of files whose tags change: plan, journal, write.

Locally threads call it (pipelines/jobs/apply.py), on a cluster a DoFn does (stages/write_tags.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from genrebeam.features.errors import TrackError, UnreadableFile, UsageError, WriteFailed
from genrebeam.features.schema import Track
from genrebeam.pipelines.apply.options import ApplyRun
from genrebeam.pipelines.apply.plan import Planned, TagJob, TagResult, named, plan
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.journal import Entry
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.tags.policy import Outcome
from genrebeam.pipelines.tags.writer import (
    sync_folder,
    write,
)

BATCH = 64  # files between two syncs of the journal; a killed run leaves at most so many copies for each thread
_FETCHED_BYTES = 256 << 20  # of objects on the local disk at a time, per thread; or one object
Result = TypeVar("Result")


def work_batch(batch: Sequence[TagJob], run: ApplyRun) -> list[TagResult]:
    """Plan some files, put the plans on the disk, then write the files. A failure of one file is a TagResult and raises
    nothing.

    Raises:
        UsageError: a store cannot be used at all: its package or the credentials are missing.
    """
    done: list[TagResult] = []
    for part in _parts(batch):
        with contextlib.ExitStack() as stack:
            scratch = ""
            if any(objects.is_object(job.track.uri) for job in part):
                scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="genrebeam-"))
            done += _work_part(part, run, scratch)
    return done


def _parts(batch: Sequence[TagJob]) -> Iterator[list[TagJob]]:
    """A batch in stretches whose objects fit on the local disk together."""
    part: list[TagJob] = []
    fetched = 0
    for job in batch:
        size = job.track.size if objects.is_object(job.track.uri) else 0
        if part and size and fetched + size > _FETCHED_BYTES:
            yield part
            part, fetched = [], 0
        part.append(job)
        fetched += size
    yield part


def _work_part(part: Sequence[TagJob], run: ApplyRun, scratch: str) -> list[TagResult]:
    done: list[TagResult] = []
    planned: dict[str, Planned] = {}
    receipts: list[Entry] = []
    for job in part:
        result = _guarded(job.track, UnreadableFile, plan, job, run, scratch, receipts)
        if isinstance(result, TagResult):
            done.append(result)
        elif result.target in planned:  # two links to one file
            done.append(TagResult(job.track, Outcome.SAME, result.entry.after.genres, result.entry.after.genres))
        else:
            planned[result.target] = result
    if run.dry_run:
        return done + [one.done for one in planned.values()]
    if entries := [*receipts, *(one.entry for one in planned.values())]:
        journal.append(run.dataset, entries)
    receipts = []
    try:
        for one in planned.values():
            failed = _guarded(one.job.track, WriteFailed, _carry_out, one, receipts)
            done.append(failed or one.done)
    finally:
        if receipts:
            journal.append(run.dataset, receipts)
    for folder in {Path(one.change.path).parent for one in planned.values() if not one.original.seen}:
        sync_folder(folder)
    return done


def _carry_out(one: Planned, receipts: list[Entry]) -> None:
    """Write a file; of an object the local copy, which then takes the object's place. Raises TagError."""
    original = one.original
    with named(original):
        write(one.change)
    if original.seen:
        now = objects.replace_if_unchanged(original.uri, original.path, original.seen)
        if now:
            at = dt.datetime.now(dt.timezone.utc)
            receipt = dataclasses.replace(one.entry, at=at, action=journal.PUT, mtime_ns_after=now.mtime_us * 1000)
            receipts.append(receipt)


def _guarded(
    track: Track, refused: type[TrackError], act: Callable[..., Result], *arguments: Any
) -> Result | TagResult:
    """What `act` returns; what it raises about this file becomes a failed TagResult.

    Args:
        refused: what it is called when the operating system refuses.
    """
    try:
        return act(*arguments)
    except TrackError as error:
        name, message = type(error).__name__, str(error)
    except UsageError:
        raise
    except OSError as error:
        name, message = refused.__name__, f"{track.uri}: {error.strerror or error}; left as it is"
    except Exception as error:  # a fault of ours in one strange file must not cost the others
        name, what = type(error).__name__, " ".join(str(error).split())[:200]
        message = f"{track.uri}: {name}: {what}; left as it is, please report this"
    return TagResult(track, Outcome.FAILED, error=name, message=message)
