"""Streams with tags stuck to their ends: MP3 and TTA (ID3v2 in front), APE, WavPack, Musepack (APEv2 behind)."""

from __future__ import annotations

from collections.abc import Sequence

from genrebeam.pipelines.tags import id3
from genrebeam.pipelines.tags.ape import FOOTER_SIZE, Ape, parse_ape, tag_bytes
from genrebeam.pipelines.tags.id3 import Id3v2
from genrebeam.pipelines.tags.model import Container, Source, Splice, Tag


class Stream(Container):
    """ID3v2 in front; APEv2, Lyrics3 and ID3v1 behind. `native` is the family that a file without tags gets."""

    def __init__(self, source: Source, *, native: type[Tag]) -> None:
        front, ape, v1 = id3.in_front(source), _ape(source), id3.behind(source)
        both: list[tuple[Tag, tuple[int, int]]] = [front, ape] if native is Id3v2 else [ape, front]
        found = [both[0], *(one for one in both[1:] if one[0].exists), *v1]
        self.tags = tuple(tag for tag, _ in found)
        self._where = [where for _, where in found]
        self.holes = tuple(sorted(self._where))

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        return spliced(self.tags, tags, self._where)


def spliced(old: Sequence[Tag], new: Sequence[Tag], where: Sequence[tuple[int, int]]) -> list[Splice]:
    """The splices for tags that stand alone: whatever changed, as a whole."""
    changes = [
        Splice(*place, after.render() if after.exists else b"")
        for before, after, place in zip(old, new, where, strict=True)
        if before != after
    ]
    return sorted(changes, key=lambda splice: splice.start)


def _ape(source: Source) -> tuple[Ape, tuple[int, int]]:
    """The APE tag at the end of a file, and where it stands or would stand."""
    tail = _before_lyrics3(source, source.size - 128 if id3.has_id3v1(source) else source.size)
    footer = source.peek(tail - FOOTER_SIZE, tail)
    size = tag_bytes(footer)
    if not size and footer.startswith(b"APETAGEX"):
        raise source.broken("its APE tag has a footer that is not known here")
    if not size:
        return Ape(exists=False), (tail, tail)
    start = tail - size
    if start < 0:
        raise source.broken("its APE tag claims to be longer than the file")
    tag = parse_ape(source.read(start, tail))
    if source.peek(start - FOOTER_SIZE, start).startswith(b"APETAGEX"):
        raise source.broken("its APE tag has a header of which its footer knows nothing")
    return tag, (start, tail)


def _before_lyrics3(source: Source, end: int) -> int:
    """Where a Lyrics3v2 block that ends at `end` begins; `end` where there is none."""
    if source.peek(end - 9, end) != b"LYRICS200":
        return end
    digits = source.peek(end - 15, end - 9)
    start = end - 15 - int(digits) if digits.isdigit() else end
    return start if source.peek(start, start + 11) == b"LYRICSBEGIN" else end
