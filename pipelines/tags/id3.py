"""ID3v2 (2.2, 2.3, 2.4) and ID3v1 as lists of raw frames.

Frames are cut, not decoded: a version stays what it was, and a frame that no library understands stays too.
https://id3.org/id3v2.4.0-structure, https://id3.org/id3v2.3.0, https://id3.org/id3v2-00
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import ClassVar

from pipelines.tags.errors import BrokenTag
from pipelines.tags.model import GENRE, Field, Tag
from pipelines.tags.sniff import id3v2_size

_UNSYNCHRONISED, _EXTENDED, _FOOTER = 0x80, 0x40, 0x10
_DATA_LENGTH, _UNSYNCHRONISED_FRAME = 0x01, 0x02  # flags of a 2.4 frame
_FRAME_ID = re.compile(rb"[A-Z][A-Z0-9]{2,3}")


@dataclasses.dataclass(frozen=True)
class Id3v2(Tag):
    """An ID3v2 tag.

    Attributes:
        major: 2, 3 or 4.
        flags: of the header, without the extended header's, which is dropped on writing: it holds a checksum and
            the size of a padding that the change makes wrong.
        syncsafe: False for the 2.4 tags of old iTunes versions, which write sizes above 127 as plain numbers.
        rest: what follows the last intact frame without being padding; kept, but no reader gets that far.
    """

    major: int = 4
    flags: int = 0
    syncsafe: bool = True
    rest: bytes = b""

    genre_keys: ClassVar[frozenset[str]] = frozenset({"TCON", "TCO"})
    provenance_prefix: ClassVar[str] = "TXXX:GENREBEAM_"
    padded: ClassVar[bool] = True

    @property
    def dialect(self) -> str:
        return f"id3v2.{self.major}"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        if not values:
            return ()
        parts = list(values) if name == GENRE else [name, *values]
        if self.major == 4:
            data = b"\x03" + "\0".join(parts).encode("utf-8")
        elif all(part.isascii() for part in parts):
            data = b"\x00" + "\0".join(parts).encode("ascii")
        elif name == GENRE:
            data = b"\x01" + "\0".join(parts).encode("utf-16")
        else:  # description and text of TXXX each have a byte order mark
            data = b"\x01" + name.encode("utf-16") + b"\0\0" + "\0".join(values).encode("utf-16")
        identifier = {GENRE: b"TCON"}.get(name, b"TXXX")
        return (self.frame(identifier, data),)

    def frame(self, identifier: bytes, data: bytes) -> Field:
        """A frame of this version around `data`."""
        if self.major == 2:
            raw = identifier[:3] + len(data).to_bytes(3, "big") + data
        else:
            size = _syncsafe(len(data)) if self.major == 4 and self.syncsafe else len(data).to_bytes(4, "big")
            raw = identifier + size + b"\0\0" + data
        return Field(_key(raw, self.major, self.syncsafe), raw)

    def render(self) -> bytes:
        body = b"".join(field.raw for field in self.fields) + self.rest
        footer = bool(self.flags & _FOOTER) and self.major == 4
        if not footer:  # the two exclude each other
            body += bytes(self.slack)
        if self.flags & _UNSYNCHRONISED and self.major < 4:
            body = re.sub(rb"\xff(?=[\x00\xe0-\xff]|\Z)", b"\xff\x00", body)
        if len(body) >= 1 << 28:
            raise BrokenTag(f"an ID3v2 tag of {len(body)} bytes is more than its size field can hold")
        header = bytes([self.major, 0, self.flags]) + _syncsafe(len(body))
        return b"ID3" + header + body + (b"3DI" + header if footer else b"")


def parse_id3v2(data: bytes) -> Id3v2:
    """The ID3v2 tag that `data` begins with.

    Raises:
        BrokenTag: a version or a form that is not known, or a tag that is cut off.
    """
    major, flags = data[3], data[5]
    if major not in (2, 3, 4):
        raise BrokenTag(f"its ID3v2 tag has the unknown version 2.{major}")
    if len(data) < id3v2_size(data):
        raise BrokenTag("its ID3v2 tag is cut off")
    footer = 10 if flags & _FOOTER and major == 4 else 0
    body = data[10 : id3v2_size(data) - footer]
    if flags & _UNSYNCHRONISED and major < 4:
        body = body.replace(b"\xff\x00", b"\xff")
    if flags & _EXTENDED:
        if major == 2:
            raise BrokenTag("its ID3v2.2 tag is compressed in a way that was never defined")
        body = body[_unsyncsafe(body[:4]) if major == 4 else 4 + int.from_bytes(body[:4], "big") :]
        flags &= ~_EXTENDED
    frames, end = _cut(body, major, syncsafe=True)
    syncsafe = True
    if major == 4 and body[end:].strip(b"\0"):
        plain_frames, plain_end = _cut(body, major, syncsafe=False)
        if plain_end > end:
            frames, end, syncsafe = plain_frames, plain_end, False
    rest = body[end:].rstrip(b"\0")
    slack = len(body) - end - len(rest)
    fields = tuple(Field(_key(raw, major, syncsafe), raw) for raw in frames)
    return Id3v2(fields, True, slack, major=major, flags=flags, syncsafe=syncsafe, rest=rest)


def _cut(body: bytes, major: int, *, syncsafe: bool) -> tuple[list[bytes], int]:
    """The frames from the start of a tag's body, and where they end."""
    head, width = (6, 3) if major == 2 else (10, 4)
    frames, at = [], 0
    while at + head <= len(body):
        match = _FRAME_ID.fullmatch(body, at, at + width)
        size_bytes = body[at + width : at + 2 * width]
        size = _unsyncsafe(size_bytes) if major == 4 and syncsafe else int.from_bytes(size_bytes, "big")
        if not match or at + head + size > len(body):
            break
        frames.append(body[at : at + head + size])
        at += head + size
    return frames, at


def _key(raw: bytes, major: int, syncsafe: bool) -> str:
    """The frame's identifier; for a readable TXXX with its description, which is what names it."""
    head = 6 if major == 2 else 10
    identifier = raw[: 3 if major == 2 else 4].decode("ascii")
    if identifier not in ("TXXX", "TXX"):
        return identifier
    body, flags = raw[head:], raw[9] if major > 2 else 0
    if major == 4 and flags & _DATA_LENGTH:
        body = body[4:]
    if major == 4 and flags & _UNSYNCHRONISED_FRAME:
        body = body.replace(b"\xff\x00", b"\xff")
    if not body or flags & ~(_DATA_LENGTH | _UNSYNCHRONISED_FRAME if major == 4 else 0):
        return identifier  # empty, compressed or encrypted: none of ours
    codec = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}.get(body[0])
    if codec is None:
        return identifier
    text = body[1:]
    if codec.startswith("utf-16"):
        end = next((i for i in range(0, len(text) - 1, 2) if text[i : i + 2] == b"\0\0"), len(text) // 2 * 2)
    else:
        end = text.find(b"\0") if b"\0" in text else len(text)
    return f"TXXX:{text[:end].decode(codec, 'replace')}"


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _unsyncsafe(data: bytes) -> int:
    number = 0
    for byte in data:
        number = number << 7 | byte & 0x7F
    return number


@dataclasses.dataclass(frozen=True)
class Id3v1(Tag):
    """The genre byte of an ID3v1 tag; its other fields belong to the payload."""

    genre_keys: ClassVar[frozenset[str]] = frozenset({GENRE})
    primary: ClassVar[bool] = False

    @property
    def dialect(self) -> str:
        return "id3v1"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        if name != GENRE:
            return ()
        from mutagen.id3 import TCON

        numbers = {genre.casefold(): number for number, genre in enumerate(TCON.GENRES)}
        number = next((numbers[v.casefold()] for v in values if v.casefold() in numbers), 255)  # 255: none of the list
        return (Field(GENRE, bytes([number])),)

    def render(self) -> bytes:
        return self.fields[0].raw


def frames_of_id3v1(v1: bytes, tag: Id3v2) -> tuple[Field, ...]:
    """What 128 bytes of ID3v1 say besides the genre, as frames of `tag`.

    Players that find an ID3v2 tag do not look at ID3v1 any more, so a tag made only for the genre would hide the title.
    """
    texts = {b"TIT2": v1[3:33], b"TPE1": v1[33:63], b"TALB": v1[63:93], b"TDRC": v1[93:97]}
    comment = v1[97:127]
    if comment[28] == 0 and comment[29] != 0:  # ID3v1.1: the last byte is the track number
        texts[b"TRCK"] = str(comment[29]).encode()
        comment = comment[:28]
    fields = []
    for identifier, value in texts.items():
        if text := value.split(b"\0")[0].decode("latin-1").strip():
            fields.append(tag.frame(identifier, b"\x03" + text.encode()))
    if text := comment.split(b"\0")[0].decode("latin-1").strip():
        fields.append(tag.frame(b"COMM", b"\x03eng\0" + text.encode()))
    return tuple(fields)
