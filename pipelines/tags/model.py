"""What a tag is to the writer: an ordered list of fields, each exactly the bytes that stand in the file.

A container (MP3, FLAC, ...) is parsed into its tags and its holes; a change is a list of splices. Whatever lies
outside the holes is never decoded, so it cannot be lost: pictures, unknown frames, text in broken encodings.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import BinaryIO, ClassVar, TypeVar

from genrebeam.pipelines.tags.errors import BrokenTag

PREFIX = "GENREBEAM_"  # of the free-form fields in which a file says what we wrote into it
GENRE = "GENRE"  # the name under which every dialect encodes genres; the others begin with PREFIX
SPARE_BYTES = 1024  # padding left where a tag has to grow anyway, so that the next change fits in place


@dataclasses.dataclass(frozen=True)
class Field:
    """One field. `key` names it in the container's own terms (TCON, ©gen, GENRE); `raw` is all of its bytes."""

    key: str
    raw: bytes


@dataclasses.dataclass(frozen=True)
class Splice:
    """Bytes [start, stop) of the old file become `data`."""

    start: int
    stop: int
    data: bytes


@dataclasses.dataclass(frozen=True)
class Tag:
    """One tag of a file; subclasses are the dialects.

    Attributes:
        fields: in the order of the file.
        exists: False for a tag that is not there, but could be.
        slack: bytes of padding that belong to the tag.
    """

    fields: tuple[Field, ...] = ()
    exists: bool = True
    slack: int = 0

    genre_keys: ClassVar[frozenset[str]] = frozenset()
    provenance_prefix: ClassVar[str] = PREFIX
    padded: ClassVar[bool] = False  # whether the dialect has padding of its own
    overhead: ClassVar[int] = 0  # bytes that a new tag takes in the file besides what it renders
    primary: ClassVar[bool] = True  # False for a tag that cannot take everything, such as ID3v1: it only follows

    @property
    def dialect(self) -> str:
        """What raw fields of this tag are written in; fields of one dialect make no sense in another."""
        raise NotImplementedError

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        """The fields that say `name` = `values` in this dialect; `name` is GENRE or begins with PREFIX."""
        raise NotImplementedError

    def render(self) -> bytes:
        """The whole tag as it stands in the file, padding included."""
        raise NotImplementedError

    def words(self) -> Mapping[str, Sequence[str]]:
        """What the tag says, by the names that Vorbis comments have (TITLE, ARTIST, ...); of a tag that follows."""
        return {}

    def carry(self, words: Mapping[str, Sequence[str]]) -> tuple[Field, ...]:
        """Fields of this dialect that say the same as another tag's `words`."""
        return ()

    def is_genre(self, field: Field) -> bool:
        return field.key in self.genre_keys

    def is_ours(self, field: Field) -> bool:
        """Whether a field is one that genrebeam may change: genre or provenance."""
        return self.is_genre(field) or field.key.upper().startswith(self.provenance_prefix)


AnyTag = TypeVar("AnyTag", bound=Tag)


def refit(tag: AnyTag, fields: Iterable[Field], slack: int | None = None) -> AnyTag:
    """The tag with other fields. Growth is taken out of its padding while that lasts; `slack` sets it outright."""
    new = dataclasses.replace(tag, fields=tuple(fields), exists=True)
    if not tag.padded:
        return new
    if slack is None:
        before = len(dataclasses.replace(tag, slack=0).render()) if tag.exists else -tag.overhead
        growth = len(dataclasses.replace(new, slack=0).render()) - before
        slack = tag.slack - growth if growth == 0 or growth <= tag.slack else SPARE_BYTES
    return dataclasses.replace(new, slack=slack)


class Source:
    """Random access to an open file's bytes. Not mmap: a file truncated by somebody else would be a SIGBUS."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.name = os.fsdecode(file.name)
        self.size = os.fstat(file.fileno()).st_size

    def read(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop).

        Raises:
            BrokenTag: the file ends before `stop`.
        """
        data = self.peek(start, stop)
        if len(data) < stop - start:
            raise self.broken(f"it ends at byte {self.size}, but a structure in it reaches to byte {stop}")
        return data

    def peek(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) as far as there are any."""
        parts, start = [], max(start, 0)
        while start < stop and (part := os.pread(self._file.fileno(), stop - start, start)):
            parts.append(part)
            start += len(part)
        return b"".join(parts)

    def broken(self, what: str) -> BrokenTag:
        return BrokenTag(f"{self.name}: {what}; left as it is, repair it with its own tools")


class Container:
    """A parsed file.

    Attributes:
        tags: the tags that may be rewritten, the container's native family first; `main` takes genre and provenance.
        holes: [start, stop) of all bytes that a change of tags may touch, ascending. The rest is payload.
        opaque: what lies in the holes without being a field, and has to stay (a codec's setup packet).
    """

    tags: tuple[Tag, ...]
    holes: tuple[tuple[int, int], ...]
    opaque: bytes = b""

    @property
    def main(self) -> int:
        """Which of the tags takes genre and provenance: the first in which something stands, else the first of all.

        A program that finds a tag of the family that it prefers looks at no other, so a new one would hide the old.
        """
        return next((i for i, tag in enumerate(self.tags) if tag.primary and tag.fields), 0)

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        """What turns the file into one with these tags, given in the order of `self.tags`. Ascending, disjoint."""
        raise NotImplementedError

    def check_moved(self, new: Container, splices: Sequence[Splice]) -> None:
        """Compare what has to follow a change (offset tables, page numbers) with the file that the splices made.

        Raises:
            BrokenTag: something does not point where it pointed before.
        """
