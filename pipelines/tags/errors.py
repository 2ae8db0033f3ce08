"""Why a file's tags cannot be read or written. The class name becomes the `error` column of the rejects."""

from __future__ import annotations

from features.errors import TrackError


class TagError(TrackError):
    """A file's tags cannot be read or written."""


class NotTaggable(TagError):
    """No container of ours: there is no place for a tag in this file."""


class BrokenTag(TagError):
    """The tag in the file, or the structure around it, is damaged; rewriting it would lose what it still holds."""
