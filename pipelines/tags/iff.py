"""ID3v2 in a chunk: WAV and AIFF. All other chunks, LIST INFO among them, are payload."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.tags.errors import BrokenTag
from pipelines.tags.id3 import Id3v2, parse_id3v2
from pipelines.tags.model import Container, Source, Splice, Tag
from pipelines.tags.sniff import id3v2_size

_HEADER = 8
_SIZE_FIELD = (4, 8)  # of the outermost chunk


class Iff(Container):
    """Chunks of an IFF file. `little` for RIFF, whose sizes are little-endian."""

    def __init__(self, source: Source, *, little: bool) -> None:
        self._order = "little" if little else "big"
        self._name = b"id3 " if little else b"ID3 "
        self._size = self._number(source.read(*_SIZE_FIELD))
        self._end = _HEADER + self._size
        if self._end > source.size + 1:  # a last chunk may lack its pad byte
            raise source.broken(f"its header speaks of {self._end} bytes, it has {source.size}")
        self._end = min(self._end, source.size)
        pads, found, at = [], [], 12
        while at + _HEADER <= self._end:
            name, size = source.read(at, at + 4), self._number(source.read(at + 4, at + 8))
            stop = at + _HEADER + size
            if stop > self._end:
                raise source.broken(f"its chunk {name!r} reaches beyond the end")
            padded = min(stop + size % 2, self._end)
            if name.lower() == b"id3 ":
                found.append((at, stop, padded))
            else:
                pads.append((stop, padded))
            at = padded
        if at != self._end:
            raise source.broken(f"{self._end - at} bytes at its end belong to no chunk")
        if len(found) > 1:
            raise source.broken("it has several ID3 chunks")
        self._missing_pad = (self._end % 2) * b"\0"
        self._where = (found[0][0], found[0][2]) if found else (self._end, self._end)
        if found:
            start, stop, _ = found[0]
            self._name = source.read(start, start + 4)
            try:
                data = source.read(start + _HEADER, stop)
                tag = parse_id3v2(_checked(data))
                self.opaque = data[id3v2_size(data) :]
            except BrokenTag as error:
                raise source.broken(str(error)) from None
        else:
            tag = Id3v2(exists=False)
        self.tags = (tag,)
        self.holes = tuple(sorted([_SIZE_FIELD, *pads, self._where]))

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        (tag,) = tags
        start, stop = self._where
        chunk = b""
        if tag.exists:
            data = tag.render() + self.opaque
            chunk = self._name + self._bytes(len(data)) + data + len(data) % 2 * b"\0"
            if not self.tags[0].exists:
                chunk = self._missing_pad + chunk
        size = self._size + len(chunk) - (stop - start)
        if size >= 1 << 32:
            raise BrokenTag("with the tag it would be larger than its size field can hold")
        return [Splice(*_SIZE_FIELD, self._bytes(size)), Splice(start, stop, chunk)]

    def _number(self, data: bytes) -> int:
        return int.from_bytes(data, self._order)  # type: ignore[arg-type]

    def _bytes(self, number: int) -> bytes:
        return number.to_bytes(4, self._order)  # type: ignore[arg-type]


def _checked(data: bytes) -> bytes:
    if data[:3] != b"ID3" or len(data) < 10:
        raise BrokenTag("its ID3 chunk holds no ID3v2 tag")
    return data
