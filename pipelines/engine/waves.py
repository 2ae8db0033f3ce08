"""Works a plan off in waves that commit, so that a killed run loses a wave at most.

A wave is one run of a Beam pipeline over some of the work. Its files are written into a staging folder
and moved where readers look only when the whole wave is done.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from features.errors import GenrebeamError

_LOGGER = logging.getLogger(__name__)
_ATTEMPTS = 2  # of a whole wave, before it is halved to find what breaks it

Item = TypeVar("Item")


class EngineError(GenrebeamError):
    """The engine failed in a way that no single track explains."""

    exit_code = 1


class Staging:
    """A folder beside the final ones that a wave fills; `commit` moves the files over."""

    def __init__(self, output_dir: Path, run_id: str) -> None:
        self._root = output_dir / ".genrebeam-staging"
        self._output_dir = output_dir
        # What a killed run left is not committed, so its tracks are in nobody's ledger: it may go.
        shutil.rmtree(self._root, ignore_errors=True)
        self._run_dir = self._root / run_id

    def scratch(self, name: str) -> Path:
        """A path for a file that goes with the run."""
        self._run_dir.mkdir(parents=True, exist_ok=True)
        return self._run_dir / name

    def open(self, name: str, kinds: Sequence[str]) -> Path:
        """A fresh folder for one attempt at one wave, with a subfolder per kind of file."""
        folder = self._run_dir / name
        shutil.rmtree(folder, ignore_errors=True)
        for kind in kinds:
            (folder / kind).mkdir(parents=True)
        return folder

    def commit(self, folder: Path, kinds: Sequence[str]) -> dict[str, list[Path]]:
        """Move what lies in the folder to where readers look; returns the final paths by kind."""
        final: dict[str, list[Path]] = {}
        for kind in kinds:
            target = self._output_dir / kind
            target.mkdir(exist_ok=True)
            final[kind] = []
            for path in sorted((folder / kind).iterdir()):
                if path.is_file():
                    _fsync(path)
                    final[kind].append(path.replace(target / path.name))
            _fsync(target)
        shutil.rmtree(folder, ignore_errors=True)
        return final

    def close(self) -> None:
        shutil.rmtree(self._root, ignore_errors=True)


def work_off(
    items: Sequence[Item],
    run_wave: Callable[[Sequence[Item], str], None],
    give_up_on: Callable[[Item, Exception], None],
    *,
    first_wave: int,
    wave_s: float,
    largest_wave: int,
) -> None:
    """Run waves over all items, sized so that each takes about `wave_s` seconds.

    A wave that fails twice is halved until the one item that breaks it stands alone; `give_up_on` takes
    that one and the rest goes on. So an item that kills its worker costs itself only.

    Args:
        run_wave: does some items under a name, and commits them before it returns.
        give_up_on: records an item that fails on its own.

    Raises:
        EngineError: two items in a row failed alone: the reason is not in the items.
    """
    waiting = [items]  # a stack of stretches, the next on top
    size, number, lone_failures = first_wave, 0, 0
    while waiting:
        stretch = waiting.pop()
        if len(stretch) > size:
            waiting.append(stretch[size:])
            stretch = stretch[:size]
        if not stretch:
            continue
        number += 1
        began = time.monotonic()
        error = _attempt(stretch, run_wave, f"w{number:04d}")
        if error is None:
            lone_failures = 0
            # The first seconds of a wave go into starting its workers; that is part of its cost.
            size = min(largest_wave, max(first_wave, round(len(stretch) * wave_s / (time.monotonic() - began))))
        elif len(stretch) > 1:
            half = len(stretch) // 2
            waiting += [stretch[half:], stretch[:half]]
        else:
            lone_failures += 1
            if lone_failures > 1:
                raise EngineError(f"the pipeline fails whatever the track: {last_line(error)}") from error
            give_up_on(stretch[0], error)


def _attempt(stretch: Sequence[Item], run_wave: Callable[[Sequence[Item], str], None], name: str) -> Exception | None:
    error: Exception | None = None
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            run_wave(stretch, name)
            return None
        except GenrebeamError:
            raise
        except Exception as failure:
            _LOGGER.warning("wave %s of %d failed, attempt %d", name, len(stretch), attempt, exc_info=True)
            error = failure
    return error


def last_line(error: Exception) -> str:
    """The end of a Beam error, which carries a worker's whole traceback: the exception itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    plain: Iterator[str] = (line for line in reversed(lines) if ":" in line and not line.startswith(("File ", "^")))
    return next(plain, lines[-1] if lines else type(error).__name__).split(" [while running")[0]


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
