"""Streams with tags stuck to their ends: MP3 and TTA (ID3v2 in front), APE, WavPack, Musepack (APEv2 behind)."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.tags.ape import FOOTER_SIZE, Ape, FollowingApe, parse_ape, tag_bytes
from pipelines.tags.errors import BrokenTag
from pipelines.tags.id3 import Id3v1, Id3v2, parse_id3v2
from pipelines.tags.model import GENRE, Container, Field, Source, Splice, Tag
from pipelines.tags.sniff import id3v2_size


class Stream(Container):
    """ID3v2 in front; APEv2, Lyrics3 and ID3v1 behind. `main` names the tag that takes genre and provenance."""

    def __init__(self, source: Source, *, main: type[Tag]) -> None:
        tags: list[tuple[Tag, tuple[int, int]]] = []
        v1_at = source.size - 128
        has_v1 = v1_at >= 0 and source.peek(v1_at, v1_at + 3) == b"TAG"
        tail = v1_at if has_v1 else source.size
        tail = _before_lyrics3(source, tail)
        if main is Id3v2:
            tags.append(_id3v2_in_front(source))
        ape_size = tag_bytes(source.peek(tail - FOOTER_SIZE, tail))
        if ape_size > tail:
            raise source.broken("its APE tag claims to be longer than the file")
        where = (tail - ape_size, tail)
        if ape_size:
            tags.append((parse_ape(source.read(*where), Ape if main is Ape else FollowingApe), where))
        elif main is Ape:
            tags.append((Ape(exists=False), where))
        if has_v1:
            genre_at = source.size - 1
            tags.append((Id3v1((Field(GENRE, source.read(genre_at, source.size)),)), (genre_at, source.size)))
        self.tags = tuple(tag for tag, _ in tags)
        self.holes = tuple(sorted(where for _, where in tags))
        self._where = [where for _, where in tags]
        self.v1 = source.read(v1_at, source.size) if has_v1 else b""

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        changes = [
            Splice(*where, new.render() if new.exists else b"")
            for old, new, where in zip(self.tags, tags, self._where, strict=True)
            if old != new
        ]
        return sorted(changes, key=lambda splice: splice.start)


def _id3v2_in_front(source: Source) -> tuple[Id3v2, tuple[int, int]]:
    header = source.peek(0, 10)
    if header[:3] != b"ID3" or len(header) < 10:
        return Id3v2(exists=False), (0, 0)
    where = (0, id3v2_size(header))
    try:
        return parse_id3v2(source.read(*where)), where
    except BrokenTag as error:
        raise source.broken(str(error)) from None


def _before_lyrics3(source: Source, end: int) -> int:
    """Where a Lyrics3v2 block that ends at `end` begins; `end` where there is none."""
    if source.peek(end - 9, end) != b"LYRICS200":
        return end
    digits = source.peek(end - 15, end - 9)
    start = end - 15 - int(digits) if digits.isdigit() else end
    return start if source.peek(start, start + 11) == b"LYRICSBEGIN" else end
