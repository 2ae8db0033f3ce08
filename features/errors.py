"""The one error tree. Every message names the file or option, says what is wrong and what to do."""

from __future__ import annotations


class GenrebeamError(Exception):
    """Something a person can act on; the command line prints its message as one line."""


class UsageError(GenrebeamError):
    """An option, a path or an input as a whole cannot be used."""


class BundleError(GenrebeamError):
    """A model bundle is missing, damaged or made for another front end."""


class LedgerError(GenrebeamError):
    """A results dataset on disk cannot be read."""


class TrackError(GenrebeamError):
    """One track cannot be analysed. The class name becomes the `error` column of the rejects."""


class UnreadableFile(TrackError):
    """The file is missing, not a regular file, empty, or may not be read."""


class NotAudio(TrackError):
    """No decoder finds audio in the file."""


class DecodeFailed(TrackError):
    """The file looks like audio, but not one second of it could be decoded."""


class TooShort(TrackError):
    """Less audio than can be judged."""


class TooLong(TrackError):
    """More audio than the limit on one track; an endless stream or a decoding bomb."""


class Silent(TrackError):
    """Nothing in the track is loud enough to hear."""


class DecoderCrashed(TrackError):
    """The decoding process died of a signal."""


class DecoderHung(TrackError):
    """The decoding process gave no sign of life within its time limit."""


class DecoderOutOfMemory(TrackError):
    """The decoding process hit its memory limit."""


class RecordError(GenrebeamError):
    """A stored record has another schema version, front end or shape."""


class TagError(TrackError):
    """A file's tags cannot be read or written."""


class NotTaggable(TagError):
    """There is no place for a tag in this file, or its store cannot replace it safely."""


class ReadOnly(TagError):
    """The file, or the folder that a copy of it has to be made in, may not be written."""


class ChangedMeanwhile(TagError):
    """The file is not the one that was analysed, or it changed while the copy was made."""


class WriteFailed(TagError):
    """The operating system refused: disk full, quota, an attribute that cannot be kept."""
