"""APEv2 (and APEv1) as a list of raw items. http://wiki.hydrogenaud.io/index.php?title=APEv2_specification"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import ClassVar

from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.model import GENRE, Field, Tag

_HAS_HEADER, _IS_HEADER = 1 << 31, 1 << 29
_FOOTER = struct.Struct("<8sIIII8s")  # magic, version, size of items and footer, number of items, flags, reserved
FOOTER_SIZE = _FOOTER.size
_NAMES = {"DATE": "Year", "TRACKNUMBER": "Track"}


@dataclasses.dataclass(frozen=True)
class Ape(Tag):
    """An APE tag. `flags` are its footer's."""

    version: int = 2000
    flags: int = _HAS_HEADER

    genre_keys: ClassVar[frozenset[str]] = frozenset({"GENRE"})

    @property
    def dialect(self) -> str:
        return "ape"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        if not values:
            return ()
        text = "\0".join(values).encode("utf-8")
        key = "Genre" if name == GENRE else name
        return (Field(name.upper(), struct.pack("<II", len(text), 0) + key.encode("ascii") + b"\0" + text),)

    def carry(self, words: Mapping[str, Sequence[str]]) -> tuple[Field, ...]:
        return tuple(f for name, texts in words.items() for f in self.encode(_NAMES.get(name, name.title()), texts))

    def render(self) -> bytes:
        items = b"".join(field.raw for field in self.fields)
        size = len(items) + FOOTER_SIZE

        def end(flags: int) -> bytes:
            return _FOOTER.pack(b"APETAGEX", self.version, size, len(self.fields), flags, bytes(8))

        return (end(self.flags | _IS_HEADER) if self.flags & _HAS_HEADER else b"") + items + end(self.flags)


def tag_bytes(footer: bytes) -> int:
    """Length of the whole tag that ends with this footer; 0 where it is no footer.

    A footer says how long items and footer are; whether a header stands before them is a flag.
    """
    if len(footer) < FOOTER_SIZE:
        return 0
    magic, version, size, _, flags, _ = _FOOTER.unpack(footer)
    if magic != b"APETAGEX" or version not in (1000, 2000) or size < FOOTER_SIZE or flags & _IS_HEADER:
        return 0
    return int(size) + (FOOTER_SIZE if flags & _HAS_HEADER else 0)


def parse_ape(data: bytes) -> Ape:
    """A whole tag, from its header (if any) to the end of its footer.

    Raises:
        BrokenTag: it has not the header that its footer promises, or its items do not add up to its size.
    """
    _, version, size, count, flags, _ = _FOOTER.unpack(data[-FOOTER_SIZE:])
    if flags & _HAS_HEADER:
        magic, _, *same, header_flags, _ = _FOOTER.unpack(data[:FOOTER_SIZE])
        if magic != b"APETAGEX" or same != [size, count] or not header_flags & _IS_HEADER:
            raise BrokenTag("its APE tag has not the header that its footer promises")
    items = data[-size:-FOOTER_SIZE]
    fields, at = [], 0
    for _ in range(count):
        key_end = items.find(b"\0", at + 8)
        if key_end < 0:
            raise BrokenTag("its APE tag is damaged: an item has no end")
        (length,) = struct.unpack_from("<I", items, at)
        stop = key_end + 1 + length
        if stop > len(items):
            raise BrokenTag("its APE tag is damaged: an item is longer than the tag")
        fields.append(Field(items[at + 8 : key_end].decode("latin-1").upper(), items[at:stop]))
        at = stop
    if at != len(items):
        raise BrokenTag(f"its APE tag is damaged: {len(items) - at} bytes belong to no item")
    return Ape(tuple(fields), version=version, flags=flags)
