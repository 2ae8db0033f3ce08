"""Files of local folders and globs.

Walked directly: a million entries in seconds, and dangling links, loops and odd names are seen for what they are.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from genrebeam.features.errors import UnreadableFile, UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.library.found import is_junk, judge, reject, relative


def walk(root: Path, skip: set[str]) -> Iterator[Track | Rejection]:
    """Every file below a folder. Links to folders are followed, each real folder once."""
    seen: set[tuple[int, int]] = set()
    folders = [str(root)]
    while folders:
        folder = folders.pop()
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen or os.path.realpath(folder) in skip:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            yield reject(Path(folder), relative(folder, root), UnreadableFile, error.strerror or str(error))
            continue
        for entry in entries:
            if is_junk(entry.name):
                continue
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if is_folder:
                folders.append(entry.path)
            else:
                yield judge(Path(entry.path), relative(entry.path, root))


def expand_glob(pattern: Path, skip: set[str]) -> Iterator[Track | Rejection]:
    pattern = Path(os.path.abspath(pattern))
    first_magic = next(i for i, part in enumerate(pattern.parts) if glob.has_magic(part))
    root = Path(*pattern.parts[:first_magic])
    matches = sorted(glob.glob(str(pattern), recursive=True))
    for match in matches:
        if not os.path.isdir(match) and not any(os.path.realpath(match).startswith(s + os.sep) for s in skip):
            yield judge(Path(match), relative(match, root))
    if not matches:
        raise UsageError(f"{pattern}: nothing matches this glob")
