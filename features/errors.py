"""The one error tree. Every message names the file or option, says what is wrong and what to do.

GenrebeamError            a person can act on it
|-- UsageError            an option, a path or an input as a whole
|-- BundleError, LedgerError, RecordError
|-- DecoderUnavailable    no file can be decoded here: the run ends, nothing is rejected
|-- Unreachable           no file can be read or written, for one reason: the run ends
`-- TrackError            one track; the name of its class is the `error` column of the rejects
    |-- the file is the reason, and stays it until the file changes:
    |       NotAudio, DecodeFailed, TooShort, TooLong, Silent,
    |       DecoderCrashed, DecoderHung, DecoderOutOfMemory
    |-- Gone              the file is no longer in its library; its results count again when it is back
    |-- TransientError    the surroundings are the reason: the track is tried again
    |       UnreadableFile, DecoderKilled, DecoderStalled, NotEnoughMemory
    `-- TagError          a file's tags
            NotTaggable; of the surroundings: ReadOnly, ChangedMeanwhile, WriteFailed
"""

from __future__ import annotations


class GenrebeamError(Exception):
    """Something a person can act on; the command line prints its message as one line."""


def how_to_install(extra: str) -> str:
    """What to do where the packages of an extra of setup.py are missing. genrebeam is in no registry."""
    return f"pip install '.[{extra}]' in genrebeam's folder"


class UsageError(GenrebeamError):
    """An option, a path or an input as a whole cannot be used."""


class BundleError(GenrebeamError):
    """A model bundle is missing, damaged or made for another front end."""


class LedgerError(GenrebeamError):
    """A results dataset on disk cannot be read."""


class DecoderUnavailable(GenrebeamError):
    """A decoding process cannot be started, whatever the file."""


class Unreachable(GenrebeamError):
    """Drive, store, credentials or disk space are gone: whatever the file, the same command has to be run again."""

    exit_code = 4


class TrackError(GenrebeamError):
    """One track cannot be analysed. The class name becomes the `error` column of the rejects."""


class TransientError(TrackError):
    """The surroundings are the reason and not the file: a drive, a network, a permission, the machine's memory."""


def is_transient(name: str) -> bool:
    """Whether the class of that name, as it stands in the rejects, is a TransientError; False for unknown names."""
    found = globals().get(name)
    return isinstance(found, type) and issubclass(found, TransientError)


class UnreadableFile(TransientError):
    """The system or the store does not give the file: gone, not mounted, not permitted, damaged disk, no space."""


def unreadable(error: OSError) -> UnreadableFile:
    """What the operating system reported of a file, without its path, which the caller knows."""
    return UnreadableFile(error.strerror or str(error))


class NotAudio(TrackError):
    """No decoder finds audio in the file; or it is empty, or not a regular file."""


class DecodeFailed(TrackError):
    """The file looks like audio, but not one second of it could be decoded."""


class TooShort(TrackError):
    """Less audio than can be judged."""


class TooLong(TrackError):
    """More audio than the limit on one track; an endless stream or a decoding bomb."""


class Gone(TrackError):
    """A complete listing of the library does not have the file any more, or has it under another name."""


class Silent(TrackError):
    """Nothing in the track is loud enough to hear."""


class DecoderCrashed(TrackError):
    """The decoding process died of the file, twice: of a signal of its own, or with an exit code."""


class DecoderHung(TrackError):
    """The decoding process worked for its time limit without delivering anything, twice."""


class DecoderOutOfMemory(TrackError):
    """The decoding process hit its memory limit, twice."""


class DecoderKilled(TransientError):
    """The decoding process was ended from outside, twice: by the system for want of memory, or by somebody."""


class DecoderStalled(TransientError):
    """The decoding process waited for the file for its whole time limit, twice: a disk or a network does not answer."""


class NotEnoughMemory(TransientError):
    """The machine, or a limit around this program, has less memory than one track may use, and it was not enough."""


class RecordError(GenrebeamError):
    """A stored record has another schema version, front end or shape."""


class TagError(TrackError):
    """A file's tags cannot be read or written."""


class NotTaggable(TagError):
    """There is no place for a tag in this file, or its store cannot replace it safely."""


class ReadOnly(TagError, TransientError):
    """The file, or the folder that a copy of it has to be made in, may not be written."""


class ChangedMeanwhile(TagError, TransientError):
    """The file is not the one that was analysed, or it changed while the copy was made."""


class WriteFailed(TagError, TransientError):
    """The operating system refused: disk full, quota, an attribute that cannot be kept."""
