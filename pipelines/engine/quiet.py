"""Keeps the terminal for the user: what libraries print goes to the log file of the run."""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from features.errors import UsageError


@contextlib.contextmanager
def quiet_libraries(output_dir: Path, *, debug: bool = False) -> Iterator[Console]:
    """Send logging and everything written to file descriptor 2 to `output_dir/logs/`; yield the real terminal.

    File descriptors and not sys.stderr: worker processes, TensorFlow and decoders inherit the former and
    know nothing of the latter. With `debug` nothing is redirected.

    Raises:
        UsageError: the log cannot be written.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if debug:
        logging.basicConfig(level=logging.INFO)
        yield Console(stderr=True)
        return
    folder = output_dir / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / f"{dt.datetime.now(dt.timezone.utc):%Y%m%dT%H%M%SZ}-{os.getpid()}.log").open("ab", buffering=0)
    except OSError as error:
        raise UsageError(f"{output_dir}: cannot write results here: {error.strerror}") from error
    sys.stderr.flush()
    terminal = os.fdopen(os.dup(2), "w", encoding=sys.stderr.encoding or "utf-8", errors="backslashreplace")
    handler = logging.StreamHandler(os.fdopen(os.dup(log.fileno()), "w", encoding="utf-8", errors="backslashreplace"))
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers, root.level = [handler], logging.WARNING
    os.dup2(log.fileno(), 2)
    log.close()
    try:
        yield Console(file=terminal)
    finally:
        sys.stderr.flush()
        os.dup2(terminal.fileno(), 2)
        root.handlers, root.level = before
        handler.stream.close()
        terminal.close()
