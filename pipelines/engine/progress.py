"""What a long run shows: worker processes append to one small file, the driver draws a bar from it, or prints lines."""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import functools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_POLL_S = 1.0
_LINE_EVERY_S = 60.0
_OURS: set[str] = set()  # files that this process watches itself: a lone worker lives in the engine's process


def report_started(path: str | None, track_id: str) -> None:
    """Report that work on a track has begun. Called in worker processes; does nothing without a watched file."""
    _say(path, {"begin": track_id})


def report_finished(path: str | None, track_id: str, *, duration_s: float = 0.0, rejected: bool = False) -> None:
    """Report that work on a track has ended."""
    _say(path, {"end": track_id, "duration_s": round(duration_s, 3), "rejected": rejected})


def _say(path: str | None, what: dict[str, Any]) -> None:
    """One line appended in one write is atomic, so many processes may share the file.

    A nearly full disk may take part of it. The rest cannot follow, as another process may have written meanwhile: the
    line is written anew. It begins with a line end, so that such a part spoils no other line.
    """
    if path is None:
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            line = b"\n" + json.dumps(what).encode() + b"\n"
            if os.write(descriptor, line) < len(line):
                os.write(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError:
        pass  # what writes results will report a full disk


@contextlib.contextmanager
def watched(path: Path) -> Iterator[None]:
    """Make the file, and hold it while the engine runs: workers end with it."""
    with path.open("wb") as file:
        with contextlib.suppress(OSError):  # no locks there: workers find out with their next bundle
            fcntl.flock(file, fcntl.LOCK_EX)
        _OURS.add(str(path))
        yield


@functools.cache
def end_with_engine(path: str | None) -> None:
    """Let this worker process end soon after its engine, however that ends; does nothing where nobody watches.

    A worker whose engine was killed would work off its bundle to the end, which may take days, beside the next run.
    """
    if path is not None and path not in _OURS:
        threading.Thread(target=_wait_for_end, args=(path,), daemon=True).start()


def _wait_for_end(path: str) -> None:
    while True:
        time.sleep(_POLL_S)
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass
        except OSError:
            continue  # the engine holds it
        os._exit(1)


def unfinished(path: Path) -> set[str]:
    """Ids of tracks that were begun and did not end: what workers had in hand when they died."""
    begun: set[str] = set()
    for line in _lines(path.read_bytes()):
        begun.add(line["begin"]) if "begin" in line else begun.discard(line["end"])
    return begun


def _lines(text: bytes) -> list[dict[str, Any]]:
    """All whole lines but those that a full disk has cut off."""
    found = []
    for line in text[: text.rfind(b"\n") + 1].splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


class _AudioSpeed(ProgressColumn):
    """Hours of audio per second of work."""

    def render(self, task: Task) -> Text:
        speed = task.fields["audio_s"] / 3600 / task.elapsed if task.elapsed else 0.0
        return Text(f"{speed:.2f} h/s", style="progress.data.speed")


class MinuteLines:
    """A line a minute about a task, where no terminal can draw its bar."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._next = clock() + _LINE_EVERY_S

    def tell(self, task: Task) -> None:
        """Print how far the task is, if a minute has passed since the last line; nothing on a terminal."""
        if self._console.is_terminal or self._clock() < self._next:
            return
        self._next = self._clock() + _LINE_EVERY_S
        left = task.time_remaining
        time_left = "" if left is None else f", {dt.timedelta(seconds=int(left))} left"
        line = f"{task.description}: {task.completed:,.0f} of {task.total or 0:,.0f}{time_left}"
        self._console.print(line, highlight=False, soft_wrap=True)


class Watcher:
    """A progress bar on a terminal, or a line a minute elsewhere, over the file that the workers of a run append to."""

    def __init__(self, *, total: int, console: Console) -> None:
        self._path: Path | None = None
        self._offset = 0
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            _AudioSpeed(),
            TextColumn("{task.fields[rejected]} rejected"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._lines = MinuteLines(console)
        self._task = self._bar.add_task("Loading the model", total=total, audio_s=0.0, rejected=0)

    def follow(self, path: Path, *, completed: int, audio_s: float, rejected: int) -> None:
        """Go to what is written, and to the file of another run: what a failed one has reported does not count."""
        with self._lock:
            self._path, self._offset = path, 0
            self._bar.update(self._task, completed=completed, audio_s=audio_s, rejected=rejected)

    def refresh(self) -> None:
        """Draw what is written now, without waiting for the thread."""
        self._update()
        self._bar.refresh()

    def __enter__(self) -> Watcher:
        self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.stop()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self._update()
            self._lines.tell(self._bar.tasks[0])
        self._update()

    def _update(self) -> None:
        with self._lock:
            try:
                if self._path is None:
                    return
                with self._path.open("rb") as file:
                    file.seek(self._offset)
                    text = file.read()
            except OSError:
                return
            self._offset += text.rfind(b"\n") + 1
            for seen in _lines(text):
                self._bar.update(self._task, description="Tagging")
                if "end" not in seen:
                    continue
                fields = self._bar.tasks[0].fields
                self._bar.update(
                    self._task,
                    advance=1,
                    audio_s=fields["audio_s"] + seen["duration_s"],
                    rejected=fields["rejected"] + seen["rejected"],
                )
