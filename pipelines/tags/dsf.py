"""ID3v2 at the end of a DSF file, found through a pointer in its header. DSF File Format Specification 1.01, Sony."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.id3 import Id3v2, parse_id3v2
from genrebeam.pipelines.tags.model import Container, Source, Splice, Tag
from genrebeam.pipelines.tags.sniff import id3v2_size

_POINTERS = (12, 28)  # total file size, position of the tag or 0; 8 bytes each


class Dsf(Container):
    """`DSD `, `fmt ` and `data` chunks, then the tag up to the end of the file."""

    def __init__(self, source: Source) -> None:
        total, pointer = struct.unpack("<QQ", source.read(*_POINTERS))
        if total != source.size or pointer > total:
            raise source.broken(f"its header speaks of {total} bytes, it has {source.size}")
        self._where = (pointer or total, total)
        if pointer and pointer < total:
            try:
                data = source.read(*self._where)
                if data[:3] != b"ID3" or len(data) < 10:
                    raise BrokenTag("there is no ID3v2 tag where its header points")
                self.tags = (parse_id3v2(data),)
                self.opaque = data[id3v2_size(data) :]
            except BrokenTag as error:
                raise source.broken(str(error)) from None
        else:
            self.tags = (Id3v2(exists=False),)
        self.holes = (_POINTERS, self._where)

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        (tag,) = tags
        data = (tag.render() if tag.exists else b"") + self.opaque
        start, stop = self._where
        pointers = struct.pack("<QQ", start + len(data), start if data else 0)
        return [Splice(*_POINTERS, pointers), Splice(start, stop, data)]
