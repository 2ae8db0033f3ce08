"""ID3v2 (2.2, 2.3, 2.4) and ID3v1 as lists of raw frames.

Frames are cut, not decoded: a version stays what it was, and a frame that no library understands stays too.
https://id3.org/id3v2.4.0-structure, https://id3.org/id3v2.3.0, https://id3.org/id3v2-00
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.model import GENRE, Field, Source, Tag
from genrebeam.pipelines.tags.sniff import id3v2_size, is_id3v1

_UNSYNCHRONISED, _EXTENDED, _FOOTER = 0x80, 0x40, 0x10
_DATA_LENGTH, _UNSYNCHRONISED_FRAME = 0x01, 0x02  # flags of a 2.4 frame
_FRAME_ID = re.compile(rb"[A-Z][A-Z0-9]{2,3}")
# By the names of Vorbis comments, what RIFF's INFO and ID3v1 can say too.
_FRAMES = {
    "TITLE": b"TIT2", "ARTIST": b"TPE1", "ALBUM": b"TALB", "DATE": b"TDRC", "TRACKNUMBER": b"TRCK",
    "DISCNUMBER": b"TPOS", "COPYRIGHT": b"TCOP", "COMPOSER": b"TCOM", "ENCODEDBY": b"TENC", "ENCODING": b"TSSE",
    "LANGUAGE": b"TLAN", "LYRICIST": b"TEXT", "ISRC": b"TSRC", "BPM": b"TBPM", "LABEL": b"TPUB", "MEDIA": b"TMED",
    "REMIXER": b"TPE4",
}  # fmt: skip
_FRAMES_2_2 = {b"TCON": b"TCO", b"TXXX": b"TXX"}  # nothing else is ever made for a tag that is there


@dataclasses.dataclass(frozen=True)
class Id3v2(Tag):
    """An ID3v2 tag.

    Attributes:
        major: 2, 3 or 4.
        flags: of the header, without the extended header's, which is dropped on writing: it holds a checksum and
            the size of a padding that the change makes wrong.
        syncsafe: False for the 2.4 tags of old iTunes versions, which write sizes above 127 as plain numbers.
    """

    major: int = 4
    flags: int = 0
    syncsafe: bool = True

    genre_keys: ClassVar[frozenset[str]] = frozenset({"TCON", "TCO"})
    provenance_prefix: ClassVar[str] = "TXXX:GENREBEAM_"
    padded: ClassVar[bool] = True

    @property
    def dialect(self) -> str:
        return f"id3v2.{self.major}"

    def encode(self, name: str, values: Sequence[str]) -> tuple[Field, ...]:
        if not values:
            return ()
        text = "\0".join(values)
        return (self.text_frame(b"TCON", text) if name == GENRE else self.text_frame(b"TXXX", text, label=name),)

    def text_frame(self, identifier: bytes, text: str, *, start: bytes = b"", label: str | None = None) -> Field:
        """A frame of text in an encoding that its version has. COMM and TXXX begin with `start` and `label`."""
        whole = text if label is None else f"{label}\0{text}"
        if self.major == 4:
            code, data = b"\x03", whole.encode("utf-8")
        elif whole.isascii():
            code, data = b"\x00", whole.encode("ascii")
        else:  # label and text each have a byte order mark
            code, data = b"\x01", text.encode("utf-16")
            if label is not None:
                data = label.encode("utf-16") + b"\0\0" + data
        if self.major == 2:
            identifier = _FRAMES_2_2[identifier]
        return self.frame(identifier, code + start + data)

    def frame(self, identifier: bytes, data: bytes) -> Field:
        """A frame of this version around `data`."""
        if self.major == 2:
            raw = identifier + len(data).to_bytes(3, "big") + data
        else:
            size = _syncsafe(len(data)) if self.major == 4 and self.syncsafe else len(data).to_bytes(4, "big")
            raw = identifier + size + b"\0\0" + data
        return Field(_key(raw, self.major, self.syncsafe), raw)

    def carry(self, words: Mapping[str, Sequence[str]]) -> tuple[Field, ...]:
        fields = []
        for name, texts in words.items():
            text = "\0".join(texts)
            if name == "COMMENT":
                fields.append(self.text_frame(b"COMM", text, start=b"eng", label=""))
            elif name in _FRAMES:
                fields.append(self.text_frame(_FRAMES[name], text))
            else:
                fields.append(self.text_frame(b"TXXX", text, label=name))
        return tuple(fields)

    def render(self) -> bytes:
        body = b"".join(field.raw for field in self.fields)
        footer = bool(self.flags & _FOOTER) and self.major == 4
        if not footer:  # the two exclude each other
            body += bytes(self.slack)
        if self.flags & _UNSYNCHRONISED and self.major < 4:
            body = _unsynchronised(body)
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
    if footer and data[10 + len(body) : 13 + len(body)] != b"3DI":
        raise BrokenTag("its ID3v2 tag promises a footer and has none")
    if flags & _UNSYNCHRONISED and major < 4:
        stored, body = body, body.replace(b"\xff\x00", b"\xff")
        if _unsynchronised(body) != stored:
            raise BrokenTag("its ID3v2 tag is not unsynchronised as it says")
    if flags & _EXTENDED:
        if major == 2:
            raise BrokenTag("its ID3v2.2 tag is compressed in a way that was never defined")
        body = body[_extended_header(body, major) :]
        flags &= ~_EXTENDED
    frames, end = _cut(body, major, syncsafe=True)
    syncsafe = True
    if major == 4 and body[end:].strip(b"\0"):
        plain_frames, plain_end = _cut(body, major, syncsafe=False)
        if plain_end > end:
            frames, end, syncsafe = plain_frames, plain_end, False
            _, masked_end = _cut(body, major, syncsafe=True, masked=True)
            if not body[masked_end:].strip(b"\0"):
                raise BrokenTag("the sizes in its ID3v2 tag can be read in two ways")
    if body[end:].strip(b"\0"):
        # Sizes that lie, names of ID3v2.2 filled up with a blank, ...: programs differ in what they find in there.
        raise BrokenTag(f"{len(body) - end} bytes of its ID3v2 tag are neither frames nor padding")
    fields = tuple(Field(_key(raw, major, syncsafe), raw) for raw in frames)
    return Id3v2(fields, True, len(body) - end, major=major, flags=flags, syncsafe=syncsafe)


def _extended_header(body: bytes, major: int) -> int:
    """Bytes of the extended header that a tag's body begins with: none where only the flag says that there is one.

    Raises:
        BrokenTag: it does not end where a frame begins.
    """
    if _FRAME_ID.fullmatch(body[:4]):
        return 0
    size = _unsyncsafe(body[:4]) if major == 4 else 4 + int.from_bytes(body[:4], "big")
    after = body[size : size + 10]
    if size < 6 or size > len(body) or (after.strip(b"\0") and not _FRAME_ID.fullmatch(after[:4])):
        raise BrokenTag("the extended header of its ID3v2 tag has not the size that it states")
    return size


def in_front(source: Source) -> tuple[Id3v2, tuple[int, int]]:
    """The ID3v2 tag that a file begins with, and where it stands; raises BrokenTag."""
    header = source.peek(0, 10)
    if header[:3] != b"ID3" or len(header) < 10:
        return Id3v2(exists=False), (0, 0)
    where = (0, id3v2_size(header))
    return parse_id3v2(source.read(*where)), where


def end_of_tags(source: Source) -> int:
    """Where the ID3v2 tags end that a file begins with; some have several."""
    at = 0
    while (head := source.peek(at, at + 10))[:3] == b"ID3" and len(head) == 10:
        at += id3v2_size(head)
    return at


def _cut(body: bytes, major: int, *, syncsafe: bool, masked: bool = False) -> tuple[list[bytes], int]:
    """The frames from the start of a tag's body, and where they end. `masked`: pass over bits that no size may have."""
    head, width = (6, 3) if major == 2 else (10, 4)
    frames, at = [], 0
    while at + head <= len(body):
        match = _FRAME_ID.fullmatch(body, at, at + width)
        size_bytes = body[at + width : at + 2 * width]
        size = _unsyncsafe(size_bytes) if major == 4 and syncsafe else int.from_bytes(size_bytes, "big")
        lies = major == 4 and syncsafe and not masked and max(size_bytes, default=0) > 0x7F
        if not match or lies or at + head + size > len(body):
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


def _unsynchronised(body: bytes) -> bytes:
    return re.sub(rb"\xff(?=[\x00\xe0-\xff]|\Z)", b"\xff\x00", body)


def _syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))


def _unsyncsafe(data: bytes) -> int:
    number = 0
    for byte in data:
        number = number << 7 | byte & 0x7F
    return number


@dataclasses.dataclass(frozen=True)
class Id3v1(Tag):
    """The genre byte of an ID3v1 tag; its other fields belong to the payload. `whole` is all of its 128 bytes."""

    whole: bytes = b""

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

    def words(self) -> dict[str, tuple[str, ...]]:
        v1 = self.whole
        comment, track = v1[97:127], b""
        if comment[28] == 0 and comment[29] != 0:  # ID3v1.1: the last byte is the track number
            comment, track = comment[:28], str(comment[29]).encode()
        values = {
            "TITLE": v1[3:33],
            "ARTIST": v1[33:63],
            "ALBUM": v1[63:93],
            "DATE": v1[93:97],
            "TRACKNUMBER": track,
            "COMMENT": comment,
        }
        texts = {name: value.split(b"\0")[0].decode("latin-1").strip() for name, value in values.items()}
        return {name: (text,) for name, text in texts.items() if text}


_V1_BYTES = 128


def has_id3v1(source: Source) -> bool:
    """Whether a file ends with ID3v1."""
    return is_id3v1(source.peek(source.size - _V1_BYTES - 3, source.size))


def behind(source: Source) -> list[tuple[Id3v1, tuple[int, int]]]:
    """The ID3v1 tag that a file ends with, and where its genre stands; empty where there is none."""
    if not has_id3v1(source):
        return []
    whole = source.read(source.size - _V1_BYTES, source.size)
    return [(Id3v1((Field(GENRE, whole[-1:]),), whole=whole), (source.size - 1, source.size))]
