"""Whether the files of a library can be had at all: what tells a drive that went away from files that are broken."""

from __future__ import annotations

from collections.abc import Iterable

from genrebeam.features.errors import UnreadableFile
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.places import local_path


def why_unreachable(uris: Iterable[str]) -> str:
    """Why none of these files can be read, as the last of them says it; nothing where one can, or where none is given.

    Raises:
        UsageError: a store cannot be used at all: its package or the credentials are missing.
    """
    why = ""
    for uri in uris:
        why = _why_unreadable(uri)
        if not why:
            return ""
    return why


def spread(uris: Iterable[str], count: int) -> list[str]:
    """At least `count` of them from beginning to end, less than twice as many; all where there are fewer."""
    kept: list[str] = []
    step = 1
    for number, uri in enumerate(uris):
        if number % step == 0:
            kept.append(uri)
        if len(kept) == 2 * count:
            kept, step = kept[::2], 2 * step
    return kept


def _why_unreadable(uri: str) -> str:
    path = local_path(uri)
    try:
        if path is not None:
            with path.open("rb", buffering=0) as file:
                file.read(1)
        elif objects.is_object(uri):
            objects.stat(uri)
    except OSError as error:
        return error.strerror or str(error)
    except UnreadableFile as error:
        return str(error)
    return ""
