"""Vorbis comments as a list of raw entries, and FLAC, which keeps them in a metadata block.

https://xiph.org/vorbis/doc/v-comment.html, https://www.rfc-editor.org/rfc/rfc9639
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import ClassVar

from genrebeam.pipelines.tags import id3
from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.model import Container, Field, Source, Splice, Tag
from genrebeam.pipelines.tags.mpeg import spliced


@dataclasses.dataclass(frozen=True)
class Comments(Tag):
    """A comment block.

    Attributes:
        vendor: the encoder's name.
        prefix: what the container puts before it (b"\\x03vorbis").
        suffix: what follows the last entry: the framing bit of Vorbis, padding.
    """

    vendor: bytes = b"genrebeam"
    prefix: bytes = b""
    suffix: bytes = b""

    genre_keys: ClassVar[frozenset[str]] = frozenset({"GENRE"})

    @property
    def dialect(self) -> str:
        return "vorbis"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        return tuple(Field(name, f"{name}={value}".encode()) for value in values)

    def carry(self, words: Mapping[str, Sequence[str]]) -> tuple[Field, ...]:
        return tuple(field for name, values in words.items() for field in self.encode(name, values))

    def render(self) -> bytes:
        entries = [struct.pack("<I", len(field.raw)) + field.raw for field in self.fields]
        vendor = struct.pack("<I", len(self.vendor)) + self.vendor
        return b"".join([self.prefix, vendor, struct.pack("<I", len(entries)), *entries, self.suffix])


def parse_comments(data: bytes, prefix: bytes = b"", kind: type[Comments] = Comments) -> Comments:
    """A comment block behind `prefix`.

    Raises:
        BrokenTag: its lengths do not add up.
    """
    at = len(prefix)

    def take() -> bytes:
        nonlocal at
        (length,) = struct.unpack_from("<I", data, at)
        at += 4 + length
        if at > len(data):
            raise BrokenTag("its Vorbis comments are damaged: an entry is longer than the block")
        return data[at - length : at]

    try:
        vendor = take()
        (count,) = struct.unpack_from("<I", data, at)
        at += 4
        entries = [take() for _ in range(count)]
    except struct.error:
        raise BrokenTag("its Vorbis comments are damaged: the block ends early") from None
    fields = tuple(Field(entry.partition(b"=")[0].decode("latin-1").upper(), entry) for entry in entries)
    return kind(fields, vendor=vendor, prefix=prefix, suffix=data[at:])


@dataclasses.dataclass(frozen=True)
class FlacComments(Comments):
    """The comment block of a FLAC file; its slack is the file's first PADDING block (-1: there is none)."""

    padded: ClassVar[bool] = True
    overhead: ClassVar[int] = 4


_STREAMINFO, _PADDING, _COMMENT, _GONE, _LAST = 0, 1, 4, -1, 0x80


class Flac(Container):
    """`fLaC`, metadata blocks, frames. Programs that know no better put ID3v2 in front and ID3v1 behind."""

    def __init__(self, source: Source) -> None:
        at = id3.end_of_tags(source) + 4
        self._blocks: list[tuple[int, int, int]] = []  # type, start, stop (header included)
        last = False
        while not last:
            header = source.read(at, at + 4)
            last = bool(header[0] & _LAST)
            stop = at + 4 + int.from_bytes(header[1:], "big")
            self._blocks.append((header[0] & 0x7F, at, stop))
            at = stop
        if at > source.size:
            raise source.broken("its last metadata block reaches beyond the end")
        if self._blocks[0][0] != _STREAMINFO:
            raise source.broken("its first metadata block is not STREAMINFO")
        comments = [block for block in self._blocks if block[0] == _COMMENT]
        if len(comments) > 1:
            raise source.broken("it has several blocks of Vorbis comments")
        self._padding = next((i for i, block in enumerate(self._blocks) if block[0] == _PADDING), None)
        padding = self._blocks[self._padding] if self._padding is not None else None
        slack = padding[2] - padding[1] - 4 if padding else -1
        if comments:
            try:
                tag = parse_comments(source.read(comments[0][1] + 4, comments[0][2]), kind=FlacComments)
            except BrokenTag as error:
                raise source.broken(str(error)) from None
            tag = dataclasses.replace(tag, slack=slack)
        else:
            tag = FlacComments(exists=False, slack=slack)
        front, where = id3.in_front(source)
        others: list[tuple[Tag, tuple[int, int]]] = [(front, where)] if front.exists else []
        others += id3.behind(source)
        self.tags = (tag, *(other for other, _ in others))
        self._others = [where for _, where in others]
        # The whole of comment and padding; of the other blocks the flag that says "last"; where new blocks go.
        holes = [
            (start, stop if kind == _COMMENT or i == self._padding else start + 1)
            for i, (kind, start, stop) in enumerate(self._blocks)
        ]
        new_blocks = {self._blocks[0][2], self._blocks[-1][2]}
        self.holes = tuple(sorted([*holes, *((at, at) for at in new_blocks), *self._others]))
        kinds = [kind for i, (kind, _, _) in enumerate(self._blocks) if kind != _COMMENT and i != self._padding]
        self.opaque = bytes(kinds)

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        tag, *others = tags
        blocks: list[tuple[int, int, int, bytes | None]] = []  # None: as it stands in the file
        for i, (kind, start, stop) in enumerate(self._blocks):
            if kind == _COMMENT:
                blocks.append((kind, start, stop, tag.render()) if tag.exists else (_GONE, start, stop, b""))
            elif i == self._padding:
                blocks.append((kind, start, stop, bytes(tag.slack)) if tag.slack >= 0 else (_GONE, start, stop, b""))
            else:
                blocks.append((kind, start, stop, None))
            if i == 0 and tag.exists and not self.tags[0].exists:
                blocks.append((_COMMENT, stop, stop, tag.render()))
        if self._padding is None and tag.slack >= 0:
            end = self._blocks[-1][2]
            blocks.append((_PADDING, end, end, bytes(tag.slack)))
        kept = [block for block in blocks if block[0] != _GONE]
        result = []
        for block in blocks:
            kind, start, stop, data = block
            flag = _LAST if block is kept[-1] else 0
            if kind == _GONE:
                result.append(Splice(start, stop, b""))
            elif data is None:
                result.append(Splice(start, start + 1, bytes([kind | flag])))
            else:
                if len(data) >= 1 << 24:
                    raise BrokenTag(f"a metadata block of {len(data)} bytes is more than FLAC allows")
                result.append(Splice(start, stop, bytes([kind | flag]) + len(data).to_bytes(3, "big") + data))
        return sorted([*result, *spliced(self.tags[1:], others, self._others)], key=lambda s: (s.start, s.stop))
