"""What a long run shows: worker processes append to one small file, the driver draws a bar from it."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from types import TracebackType

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


def report(path: str | None, *, duration_s: float = 0.0, rejected: bool = False) -> None:
    """Say that one track is through. Called in worker processes; does nothing where nobody watches.

    One short line appended in one write is atomic, so many processes may share the file.
    """
    if path is None:
        return
    line = json.dumps({"duration_s": round(duration_s, 3), "rejected": rejected}) + "\n"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)
    except OSError:
        pass  # progress is for show; a full disk will be reported by whoever writes results


class _AudioSpeed(ProgressColumn):
    """Hours of audio per second of work."""

    def render(self, task: Task) -> Text:
        speed = task.fields["audio_s"] / 3600 / task.elapsed if task.elapsed else 0.0
        return Text(f"{speed:.2f} h/s", style="progress.data.speed")


class Watcher:
    """A progress bar on a terminal over a file that `report` appends to."""

    def __init__(self, path: Path, *, total: int, console: Console) -> None:
        path.write_bytes(b"")
        self._path, self._offset = path, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._bar = Progress(
            TextColumn("[bold]Tagging"),
            BarColumn(),
            MofNCompleteColumn(),
            _AudioSpeed(),
            TextColumn("{task.fields[rejected]} rejected"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("tag", total=total, audio_s=0.0, rejected=0)

    def rewind(self, *, completed: int, audio_s: float, rejected: int) -> None:
        """Go to what is committed: what an aborted wave has reported does not count."""
        self._update()
        self._bar.update(self._task, completed=completed, audio_s=audio_s, rejected=rejected)

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
        self._path.unlink(missing_ok=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self._update()
        self._update()

    def _update(self) -> None:
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            seen = json.loads(line)
            fields = self._bar.tasks[0].fields
            self._bar.update(
                self._task,
                advance=1,
                audio_s=fields["audio_s"] + seen["duration_s"],
                rejected=fields["rejected"] + seen["rejected"],
            )
