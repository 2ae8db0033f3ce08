"""Keeps the terminal for the user: what libraries print goes to the log file of the run."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from rich.console import Console

from genrebeam.features.errors import GenrebeamError, UsageError
from genrebeam.pipelines.storage.folders import Folder, folder_at, is_local


@contextlib.contextmanager
def quiet_libraries(place: Folder | str | os.PathLike[str], *, debug: bool = False) -> Iterator[Console]:
    """Send logging and everything written to file descriptor 2 to a file, kept at the end in the folder's `logs/`.

    File descriptors and not sys.stderr: worker processes, TensorFlow and decoders inherit the former and know nothing
    of the latter. With `debug` nothing is redirected. Yields the real terminal.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if debug:
        logging.basicConfig(level=logging.INFO)
        yield Console(stderr=True)
        return
    folder = folder_at(place)
    name = f"{dt.datetime.now(dt.timezone.utc):%Y%m%dT%H%M%SZ}-{os.getpid()}.log"
    with tempfile.NamedTemporaryFile("ab", buffering=0, prefix="genrebeam-", suffix=".log") as log:
        worth_keeping = True
        try:
            with _redirected(log.fileno()) as terminal:
                yield terminal
        except UsageError:  # a library's name mistyped, perhaps: nothing has begun
            worth_keeping = False
            raise
        finally:
            # A folder that the run has not made is not worth making for a log.
            if worth_keeping and os.path.getsize(log.name) and (not is_local(folder) or os.path.isdir(folder.uri)):
                with contextlib.suppress(OSError, GenrebeamError), (folder / "logs").new(name) as path:
                    shutil.copyfile(log.name, path)


@contextlib.contextmanager
def _redirected(descriptor: int) -> Iterator[Console]:
    """File descriptor 2 and logging go to `descriptor`; yields the real terminal."""
    sys.stderr.flush()
    terminal = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding or "utf-8", errors="backslashreplace")
    handler = logging.StreamHandler(os.fdopen(os.dup(descriptor), "w", encoding="utf-8", errors="backslashreplace"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers, root.level = [handler], logging.WARNING
    os.dup2(descriptor, 2)
    try:
        yield Console(file=terminal)
    finally:
        sys.stderr.flush()
        os.dup2(terminal.fileno(), 2)
        root.handlers, root.level = before
        handler.stream.close()
        terminal.close()
