"""Local paths as the text that stands for them in Parquet, JSON and URLs, and back."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from genrebeam.features.errors import UsageError


def path_uri(path: str | os.PathLike[str]) -> str:
    """A local path as the text that stands for it everywhere.

    The absolute path itself where it is valid UTF-8 (so that it can be pasted into a shell), else a
    percent-encoded file:// URL of its bytes: Parquet and JSON hold UTF-8 only.
    """
    absolute = os.path.abspath(path)
    try:
        absolute.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + urllib.parse.quote(os.fsencode(absolute))
    return absolute


def local_path(uri: str) -> Path | None:
    """The inverse of `path_uri`; None for a file that is not local."""
    if uri.startswith("file://"):
        return Path(os.fsdecode(urllib.parse.unquote_to_bytes(uri.removeprefix("file://"))))
    return None if "://" in uri else Path(uri)


def must_be_named(place: str, what: str) -> None:
    """Refuse an empty path or URL: more often an unset variable than the current folder.

    Raises:
        UsageError: it is empty; the message says `what` was expected.
    """
    if place in ("", "file://"):
        raise UsageError(f"{place!r} names no {what}: give a path or an address; . is the current folder")
