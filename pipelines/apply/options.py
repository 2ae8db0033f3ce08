"""Options of a run that writes or undoes tags, and what its batches share."""

from __future__ import annotations

import dataclasses
import datetime as dt

from genrebeam.features.errors import UsageError
from genrebeam.features.ranges import check_range
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.tags.policy import TagPolicy

HARD_LINKS = ("skip", "break")


@dataclasses.dataclass(frozen=True)
class ApplyOptions:
    """A validated command line of `genrebeam apply` and of `genrebeam tag --write-tags`.

    Attributes:
        tags: what may be written where.
        hard_links: skip files with several names, or break: give this name a tagged copy of its own.
        touch: let the modification time be that of the change; otherwise it stays. Undo sets it back.
        dry_run: plan and show, write nothing.
        yes: do not ask.
        list_all: keep every change in the report of a dry run, not only the first.
        only_corrected: leave alone the tracks of which no person has said anything.

    Raises:
        UsageError: a value out of range.
    """

    tags: TagPolicy = dataclasses.field(default_factory=TagPolicy)
    hard_links: str = "skip"
    touch: bool = False
    dry_run: bool = False
    yes: bool = False
    only_corrected: bool = False
    workers: int = 1
    quiet: bool = False
    list_all: bool = False

    def __post_init__(self) -> None:
        if self.hard_links not in HARD_LINKS:
            raise UsageError(f"--hard-links {self.hard_links}: choose one of {', '.join(HARD_LINKS)}")
        check_range("--workers", self.workers, low=1)


@dataclasses.dataclass(frozen=True)
class ApplyRun:
    """One run of `apply` or `undo`, as every batch of it has to know it, on whichever machine.

    Attributes:
        dataset: the results, whose journal takes the rows.
        dry_run: stop after planning.
    """

    dataset: Dataset
    run_id: str
    started_at: dt.datetime
    options: ApplyOptions
    dry_run: bool = False
