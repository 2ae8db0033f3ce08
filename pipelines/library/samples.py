"""A few bytes of a file as a name for its content: with size and time they tell a renamed file from another one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from genrebeam.features.schema import Track
from genrebeam.pipelines.storage.places import local_path

_STRETCH = 1 << 14  # bytes that are read at the start, in the middle and at the end


def sample_of(size: int, peek: Callable[[int, int], bytes]) -> str:
    """Sixteen hex digits of the size and three stretches of bytes.

    Args:
        peek: gives bytes [start, stop) as far as there are any.
    """
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    for start in sorted({0, max(0, (size - _STRETCH) // 2), max(0, size - _STRETCH)}):
        digest.update(peek(start, start + _STRETCH))
    return digest.hexdigest()


def sample_of_track(track: Track) -> str | None:
    """The sample of a file that still has the size and the time of the track.

    None of one that has not, cannot be read, or lies in a store, where the time of a copy is its own anyway.
    """
    path = local_path(track.uri)
    if path is None:
        return None
    try:
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            if (status.st_size, status.st_mtime_ns // 1000) != (track.size, round(track.mtime * 1e6)):
                return None
            return sample_of(track.size, lambda start, stop: os.pread(file.fileno(), stop - start, start))
    except (OSError, ValueError):
        return None
