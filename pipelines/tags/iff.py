"""ID3v2 in a chunk: WAV and AIFF. WAV has a family of its own besides, LIST INFO. All other chunks are payload."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from typing import ClassVar

from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.id3 import Id3v2, parse_id3v2
from genrebeam.pipelines.tags.model import GENRE, Container, Field, Source, Splice, Tag
from genrebeam.pipelines.tags.mpeg import spliced
from genrebeam.pipelines.tags.sniff import id3v2_size

_HEADER = 8
_SIZE_FIELD = (4, 8)  # of the outermost chunk
_SEPARATOR = "; "  # INFO has no form of its own for several values
# By the names of Vorbis comments, as TagLib and FFmpeg call them.
_INFO_NAMES = {
    "INAM": "TITLE", "IART": "ARTIST", "IPRD": "ALBUM", "ICMT": "COMMENT", "ICRD": "DATE", "IPRT": "TRACKNUMBER",
    "ITRK": "TRACKNUMBER", "IGNR": GENRE, "ICOP": "COPYRIGHT", "IMUS": "COMPOSER", "IWRI": "LYRICIST",
    "ITCH": "ENCODEDBY", "ISFT": "ENCODING", "ILNG": "LANGUAGE", "ISRC": "ISRC", "IBPM": "BPM", "IPUB": "LABEL",
    "IMED": "MEDIA", "IEDT": "REMIXER", "IENG": "ARRANGER", "ISTR": "PERFORMER", "ICNT": "RELEASECOUNTRY",
    "IDIT": "ENCODINGTIME", "IBSU": "ARTISTWEBPAGE",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Info(Tag):
    """A LIST INFO chunk: its genre, if it has one, has to say the same as the ID3 chunk. `number`: of several."""

    number: int = 0

    genre_keys: ClassVar[frozenset[str]] = frozenset({"IGNR"})
    primary: ClassVar[bool] = False

    @property
    def dialect(self) -> str:
        return f"info{self.number or ''}"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        if name != GENRE or not values:
            return ()
        text = _SEPARATOR.join(values).encode() + b"\0"
        return (Field("IGNR", b"IGNR" + struct.pack("<I", len(text)) + text + len(text) % 2 * b"\0"),)

    def render(self) -> bytes:
        data = b"INFO" + b"".join(field.raw for field in self.fields)
        return b"LIST" + struct.pack("<I", len(data)) + data + len(data) % 2 * b"\0"

    def words(self) -> dict[str, tuple[str, ...]]:
        words: dict[str, tuple[str, ...]] = {}
        for field in self.fields:
            text = field.raw[8 : 8 + struct.unpack_from("<I", field.raw, 4)[0]].split(b"\0")[0]
            try:
                value = text.decode("utf-8").strip()
            except UnicodeDecodeError:
                value = text.decode("cp1252", "replace").strip()
            name = _INFO_NAMES.get(field.key, field.key)
            if value:
                words.setdefault(name, (value,))
        if GENRE in words:
            words[GENRE] = tuple(part for one in words[GENRE] for part in map(str.strip, one.split(";")) if part)
        return words


def _parse_info(data: bytes, number: int) -> Info | None:
    """The content of a LIST INFO chunk, zeros at its end with the last field; None where its sizes do not add up."""
    fields, at = [], 0
    while at + _HEADER <= len(data):
        stop = at + _HEADER + int.from_bytes(data[at + 4 : at + 8], "little")
        if stop > len(data):
            return None
        stop = min(stop + stop % 2, len(data))
        fields.append(Field(data[at : at + 4].decode("latin-1"), data[at:stop]))
        at = stop
    if fields and not data[at:].strip(b"\0"):
        fields[-1] = Field(fields[-1].key, fields[-1].raw + data[at:])
        at = len(data)
    return Info(tuple(fields), number=number) if at == len(data) else None


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
        pads, found, at, unclear = [], [], 12, False
        infos: list[tuple[Info, tuple[int, int]]] = []
        while at + _HEADER <= self._end:
            name, size = source.read(at, at + 4), self._number(source.read(at + 4, at + 8))
            stop = at + _HEADER + size
            if stop > self._end:
                raise source.broken(f"its chunk {name!r} reaches beyond the end")
            padded = min(stop + size % 2, self._end)
            if name.lower() == b"id3 ":
                found.append((at, stop, padded))
            elif little and name == b"LIST" and source.peek(at + 8, at + 12) == b"INFO":
                info = _parse_info(source.read(at + 12, stop), len(infos))
                if info and source.peek(stop, padded) == bytes(size % 2):
                    infos.append((info, (at, padded)))
                else:
                    unclear = True
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
        if unclear and not tag.fields:
            raise source.broken("the sizes in its LIST INFO chunk do not add up, and a new ID3 chunk would hide it")
        self.tags = (tag, *(info for info, _ in infos))
        self._infos = [where for _, where in infos]
        self.holes = tuple(sorted([_SIZE_FIELD, *pads, self._where, *self._infos]))

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        tag, *infos = tags
        start, stop = self._where
        chunk = b""
        if tag.exists:
            data = tag.render() + self.opaque
            chunk = self._name + self._bytes(len(data)) + data + len(data) % 2 * b"\0"
            if not self.tags[0].exists:
                chunk = self._missing_pad + chunk
        changes = [Splice(start, stop, chunk), *spliced(self.tags[1:], infos, self._infos)]
        size = self._size + sum(len(change.data) - (change.stop - change.start) for change in changes)
        if size >= 1 << 32:
            raise BrokenTag("with the tag it would be larger than its size field can hold")
        changes.append(Splice(*_SIZE_FIELD, self._bytes(size)))
        return sorted(changes, key=lambda change: (change.start, change.stop))

    def _number(self, data: bytes) -> int:
        return int.from_bytes(data, self._order)  # type: ignore[arg-type]

    def _bytes(self, number: int) -> bytes:
        return number.to_bytes(4, self._order)  # type: ignore[arg-type]


def _checked(data: bytes) -> bytes:
    if data[:3] != b"ID3" or len(data) < 10:
        raise BrokenTag("its ID3 chunk holds no ID3v2 tag")
    return data
