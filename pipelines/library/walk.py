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
from genrebeam.pipelines.library.found import judge, reject, relative
from genrebeam.pipelines.library.ignore import IGNORE_FILE, Ignore, is_junk, lines_of


def walk(root: Path, skip: set[str], ignore: Ignore) -> Iterator[Track | Rejection]:
    """Every file below a folder. Links to folders are followed, each real folder once.

    Links come last: a folder that can be reached without one keeps its own name, whatever links lead to it.

    Raises:
        UsageError: as `genrebeam.pipelines.library.ignore.lines_of`.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [(str(root), ignore)], list[tuple[str, Ignore]]()
    while folders or links:
        folder, ignore = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(folder)
            if (status.st_dev, status.st_ino) in seen or os.path.realpath(folder) in skip:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except OSError as error:
            if ignore(relative(folder, root) + "/"):
                continue
            yield reject(Path(folder), relative(folder, root), UnreadableFile, error.strerror or str(error))
            continue
        if any(entry.name == IGNORE_FILE for entry in entries) and (lines := lines_of(folder)):
            below = "" if folder == str(root) else relative(folder, root)
            ignore = ignore.within(below, lines, os.path.join(folder, IGNORE_FILE))
        for entry in entries:
            try:
                is_folder = entry.is_dir()
            except OSError:
                is_folder = False
            if entry.name == IGNORE_FILE or is_junk(entry.name, is_folder=is_folder):
                continue
            if is_folder:  # also an excluded one: a pattern further down may take some of its files in again
                (links if entry.is_symlink() else folders).append((entry.path, ignore))
            elif not ignore(name := relative(entry.path, root)):
                yield judge(Path(entry.path), name)


def expand_glob(pattern: Path, skip: set[str], ignore: Ignore) -> Iterator[Track | Rejection]:
    pattern = Path(os.path.abspath(pattern))
    first_magic = next(i for i, part in enumerate(pattern.parts) if glob.has_magic(part))
    root = Path(*pattern.parts[:first_magic])
    if lines := lines_of(str(root)):
        ignore = ignore.within("", lines, str(root / IGNORE_FILE))
    matches = sorted(glob.glob(str(pattern), recursive=True))
    for match in matches:
        name = relative(match, root)
        if os.path.isdir(match) or any(os.path.realpath(match).startswith(s + os.sep) for s in skip):
            continue
        if not ignore.passes_over(name):
            yield judge(Path(match), name)
    if not matches:
        raise UsageError(f"{pattern}: nothing matches this glob")
