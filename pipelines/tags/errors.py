"""Why a file's tags cannot be read or written. The class name becomes the `error` column of the rejects."""

from __future__ import annotations

from genrebeam.features.errors import TagError


class BrokenTag(TagError):
    """The tag in the file, or the structure around it, is damaged; rewriting it would lose what it still holds."""
