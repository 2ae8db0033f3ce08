"""ASF and WMA: descriptors of the Extended Content Description object as a list of raw records.

Further genre values may stand in the Metadata Library object, where mutagen and Picard put them; they follow the first.
Advanced Systems Format (ASF) Specification, Revision 01.20.03.
"""

from __future__ import annotations

import dataclasses
import struct
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.model import GENRE, Container, Field, Source, Splice, Tag


def _guid(text: str) -> bytes:
    return uuid.UUID(text).bytes_le


_FILE_PROPERTIES = _guid("8CABDCA1-A947-11CF-8EE4-00C00C205365")
_EXTENDED_CONTENT = _guid("D2D0A440-E307-11D2-97F0-00A0C95EA850")
_HEADER_EXTENSION = _guid("5FBF03B5-A92E-11CF-8EE3-00C00C205365")
_METADATA_LIBRARY = _guid("44231C94-9498-49D1-A141-1D134E457054")
_PADDING = _guid("1806D474-CADF-4509-A4BA-9AABCB96AAE8")
_HEADER_SIZE, _OBJECT_SIZE, _EXTENSION_SIZE = 30, 24, 46
_UNICODE = 0


@dataclasses.dataclass(frozen=True)
class Descriptors(Tag):
    """The Extended Content Description; its slack is the content of the first Padding object (-1: there is none)."""

    genre_keys: ClassVar[frozenset[str]] = frozenset({"WM/GENRE", "WM/GENREID"})
    padded: ClassVar[bool] = True
    overhead: ClassVar[int] = 0

    @property
    def dialect(self) -> str:
        return "asf"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        name = "WM/Genre" if name == GENRE else name
        return tuple(Field(name.upper(), self._record(name, value)) for value in values)

    def _record(self, name: str, value: str) -> bytes:
        label, text = ((part + "\0").encode("utf-16-le") for part in (name, value))
        if len(text) > 0xFFFF:
            raise BrokenTag(f"{name} is too long for ASF")
        return struct.pack("<H", len(label)) + label + struct.pack("<HH", _UNICODE, len(text)) + text

    def render(self) -> bytes:
        records = b"".join(field.raw for field in self.fields)
        return _object(_EXTENDED_CONTENT, struct.pack("<H", len(self.fields)) + records)


@dataclasses.dataclass(frozen=True)
class Library(Tag):
    """The Metadata Library: only ever loses the genre values that the main tag now holds."""

    genre_keys: ClassVar[frozenset[str]] = frozenset({"WM/GENRE"})
    primary: ClassVar[bool] = False

    @property
    def dialect(self) -> str:
        return "asf-library"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        return ()

    def render(self) -> bytes:
        records = b"".join(field.raw for field in self.fields)
        return _object(_METADATA_LIBRARY, struct.pack("<H", len(self.fields)) + records)


class Asf(Container):
    """Header object (with all the tags), data object, indices. Positions inside count from the data object."""

    def __init__(self, source: Source) -> None:
        self._source = source
        size, count = struct.unpack("<QI", source.read(16, 28))
        if size > source.size:
            raise source.broken("its header is longer than the file")
        objects = list(_objects(source, _HEADER_SIZE, size))
        if len(objects) != count:
            raise source.broken(f"its header speaks of {count} objects and has {len(objects)}")
        self._size, self._count = size, count
        content = [where for guid, where in objects if guid == _EXTENDED_CONTENT]
        padding = [where for guid, where in objects if guid == _PADDING]
        if len(content) > 1:
            raise source.broken("it has several Extended Content Description objects")
        self._padding = padding[0] if padding else None
        slack = self._padding[1] - self._padding[0] - _OBJECT_SIZE if self._padding else -1
        try:
            if content:
                self._where = content[0]
                tag = Descriptors(_records(source.read(*self._where), _descriptor), slack=slack)
            else:
                self._where = (size, size)
                tag = Descriptors(exists=False, slack=slack)
            self._extension = next((where for guid, where in objects if guid == _HEADER_EXTENSION), None)
            self._library = self._find_library()
            library = [Library(_records(source.read(*self._library), _library_record))] if self._library else []
        except (BrokenTag, struct.error) as error:
            raise source.broken(str(error) if isinstance(error, BrokenTag) else "a descriptor is cut off") from None
        self.tags = (tag, *library)
        self._file_size = next((w[0] + 40 for g, w in objects if g == _FILE_PROPERTIES and w[1] - w[0] >= 48), None)
        holes = [(16, 28), self._where, *filter(None, [self._padding, self._library])]
        if self._library and self._extension:
            start = self._extension[0]
            holes += [(start + 16, start + 24), (start + 42, start + 46)]
        if self._file_size:
            holes.append((self._file_size, self._file_size + 8))
        self.holes = tuple(sorted(holes))

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        main, *others = tags
        result = [Splice(*self._where, main.render() if main.exists else b"")]
        count = self._count + main.exists - self.tags[0].exists
        if self._padding:
            result.append(Splice(*self._padding, _object(_PADDING, bytes(main.slack)) if main.slack >= 0 else b""))
            count -= main.slack < 0
        elif main.slack >= 0:
            result[0] = dataclasses.replace(result[0], data=result[0].data + _object(_PADDING, bytes(main.slack)))
            count += 1
        if others and self._library and self._extension and others[0] != self.tags[1]:
            result.append(Splice(*self._library, others[0].render()))
            start, stop = self._extension
            size = stop - start + _growth(result[-1:])
            result.append(Splice(start + 16, start + 24, struct.pack("<Q", size)))
            result.append(Splice(start + 42, start + 46, struct.pack("<I", size - _EXTENSION_SIZE)))
        growth = _growth(result)
        result.append(Splice(16, 28, struct.pack("<QI", self._size + growth, count)))
        if self._file_size and growth:
            (stated,) = struct.unpack("<Q", self._source.read(self._file_size, self._file_size + 8))
            if stated == self._source.size:  # a live recording states 0 or nonsense: not ours to mend
                new_size = struct.pack("<Q", stated + growth)
                result.append(Splice(self._file_size, self._file_size + 8, new_size))
        return sorted(result, key=lambda splice: (splice.start, splice.stop))

    def _find_library(self) -> tuple[int, int] | None:
        if not self._extension:
            return None
        start, stop = self._extension
        objects = _objects(self._source, start + _EXTENSION_SIZE, stop)
        return next((where for guid, where in objects if guid == _METADATA_LIBRARY), None)


def _growth(splices: Sequence[Splice]) -> int:
    return sum(len(splice.data) - (splice.stop - splice.start) for splice in splices)


def _object(guid: bytes, data: bytes) -> bytes:
    return guid + struct.pack("<Q", len(data) + _OBJECT_SIZE) + data


def _objects(source: Source, start: int, stop: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    while start < stop:
        guid, size = struct.unpack("<16sQ", source.read(start, start + _OBJECT_SIZE))
        if size < _OBJECT_SIZE or start + size > stop:
            raise source.broken(f"an object of its header at byte {start} has an impossible size")
        yield guid, (start, start + size)
        start += size


def _records(data: bytes, cut: Callable[[bytes, int], tuple[str, int]]) -> tuple[Field, ...]:
    (count,) = struct.unpack_from("<H", data, _OBJECT_SIZE)
    fields, at = [], _OBJECT_SIZE + 2
    for _ in range(count):
        name, stop = cut(data, at)
        if stop > len(data):
            raise BrokenTag("a descriptor is longer than its object")
        fields.append(Field(name.rstrip("\0").upper(), data[at:stop]))
        at = stop
    if at != len(data):
        raise BrokenTag("its descriptors do not add up to their object's size")
    return tuple(fields)


def _descriptor(data: bytes, at: int) -> tuple[str, int]:
    (name_bytes,) = struct.unpack_from("<H", data, at)
    name = data[at + 2 : at + 2 + name_bytes].decode("utf-16-le", "replace")
    _, value_bytes = struct.unpack_from("<HH", data, at + 2 + name_bytes)
    return name, at + 6 + name_bytes + value_bytes


def _library_record(data: bytes, at: int) -> tuple[str, int]:
    _, _, name_bytes, _, value_bytes = struct.unpack_from("<HHHHI", data, at)
    return data[at + 12 : at + 12 + name_bytes].decode("utf-16-le", "replace"), at + 12 + name_bytes + value_bytes
