"""Vorbis comments inside Ogg: Vorbis, Opus, Speex, FLAC and Theora streams. https://www.rfc-editor.org/rfc/rfc3533

The comment packet is the second of its logical stream. Only the pages it lies on are laid out anew; where their number
changes, the later pages of the stream get new sequence numbers and checksums, and nothing else in them moves.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
import zlib
from collections.abc import Iterator, Sequence

from genrebeam.pipelines.tags import id3
from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.model import Container, Source, Splice, Tag
from genrebeam.pipelines.tags.mpeg import spliced
from genrebeam.pipelines.tags.vorbis import parse_comments

_HEADER = struct.Struct("<4sBBqIIIB")  # magic, version, flags, granule position, serial, sequence, checksum, segments
_CONTINUED, _FIRST = 1, 2
_NO_PACKET_ENDS = -1
_FLAC_HEADER = 4
# By how a stream begins: what its comment packet begins with. In the order in which read.py looks for them.
_PREFIXES = {
    b"OpusHead": b"OpusTags",
    b"Speex   ": b"",
    b"\x7fFLAC": None,  # a FLAC metadata block header, whose length field has to follow
    b"\x01vorbis": b"\x03vorbis",
    b"\x80theora": b"\x81theora",
}


@dataclasses.dataclass(frozen=True)
class _Page:
    start: int
    flags: int
    granule: int
    serial: int
    sequence: int
    lacing: bytes

    @property
    def body(self) -> int:
        return self.start + _HEADER.size + len(self.lacing)

    @property
    def stop(self) -> int:
        return self.body + sum(self.lacing)


class Ogg(Container):
    """One file with at least one audio stream that has comments; the first such stream speaks for the file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._start = id3.end_of_tags(source)
        serial, magic = self._find_stream()
        pages = (page for page in _pages(source, self._start) if page.serial == serial)
        next(pages)  # the stream's header
        comment_pages: list[_Page] = []
        for page in pages:
            comment_pages.append(page)
            if any(value < 255 for value in page.lacing):
                break
        else:
            raise source.broken("its comment packet has no end")
        self._pages = comment_pages
        lacing = b"".join(page.lacing for page in comment_pages)
        body = b"".join(source.read(page.body, page.stop) for page in comment_pages)
        ends = next(i for i, value in enumerate(lacing) if value < 255) + 1
        packet, self.opaque = body[: sum(lacing[:ends])], body[sum(lacing[:ends]) :]
        self._lacing_after = lacing[ends:]
        prefix = _PREFIXES[magic]
        if prefix is None:
            prefix = packet[:_FLAC_HEADER]
            if prefix[0] & 0x7F != 4:
                raise source.broken("the second packet of its FLAC stream is not a comment block")
        elif not packet.startswith(prefix):
            raise source.broken("the second packet of its stream is not a comment packet")
        try:
            comments = parse_comments(packet, prefix)
        except BrokenTag as error:
            raise source.broken(str(error)) from None
        front, where = id3.in_front(source)
        self.tags, self._front = ((comments, front), [where]) if front.exists else ((comments,), [])
        self._is_flac = magic == b"\x7fFLAC"
        # A chained stream that took the same serial number counts its pages by itself.
        self._later = list(itertools.takewhile(lambda page: not page.flags & _FIRST, pages))
        self.holes = tuple(
            self._front
            + [(page.start, page.stop) for page in comment_pages]
            + [(page.start + 18, page.start + 26) for page in self._later]
        )

    def splices(self, tags: Sequence[Tag]) -> list[Splice]:
        comments, *others = tags
        result = spliced(self.tags[1:], others, self._front)
        if comments == self.tags[0]:
            return result
        packet = comments.render()
        if self._is_flac:
            length = len(packet) - _FLAC_HEADER
            packet = packet[:1] + length.to_bytes(3, "big") + packet[_FLAC_HEADER:]
        new = self._lay_out(packet)
        first, *rest = self._pages
        # Pages of other streams may lie between ours: the first page's place takes all of them.
        result += [Splice(first.start, first.stop, b"".join(new)), *(Splice(p.start, p.stop, b"") for p in rest)]
        shift = len(new) - len(self._pages)
        if shift:
            for page in self._later:
                data = bytearray(self._source.read(page.start, page.stop))
                struct.pack_into("<II", data, 18, page.sequence + shift & 0xFFFFFFFF, 0)
                result.append(Splice(page.start + 18, page.start + 26, bytes(data[18:22]) + _checksum(bytes(data))))
        return result

    def check_moved(self, new: Container, splices: Sequence[Splice]) -> None:
        """The stream's pages are numbered without a gap wherever they were before."""
        assert isinstance(new, Ogg)
        before = [page.sequence - i for i, page in enumerate(self._later)]
        after = [page.sequence - i for i, page in enumerate(new._later)]
        shift = len(new._pages) - len(self._pages)
        if [number + shift for number in before] != after:
            raise new._source.broken("its pages are not numbered as they should be")

    def _find_stream(self) -> tuple[int, bytes]:
        """Serial number and magic of the stream that speaks for the file: sound before pictures."""
        streams: dict[bytes, int] = {}
        for page in itertools.takewhile(lambda page: page.flags & _FIRST, _pages(self._source, self._start)):
            head = self._source.read(page.body, min(page.stop, page.body + 16))
            for magic in _PREFIXES:
                if head.startswith(magic):
                    streams.setdefault(magic, page.serial)
        for magic in _PREFIXES:
            if magic in streams:
                return streams[magic], magic
        raise self._source.broken("it has no stream whose comments are known here")

    def _lay_out(self, packet: bytes) -> list[bytes]:
        """Pages that hold the packet and what followed it on its pages.

        All pages but the last keep their sizes as far as possible, so that undoing a change restores the layout. What
        followed the packet stays on the page on which it ends, where reading back will look for it.
        """
        comment = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
        sizes = [len(page.lacing) for page in self._pages[:-1]]
        while sum(sizes) >= len(comment):
            sizes.pop()
        while len(comment) + len(self._lacing_after) - sum(sizes) > 255:
            sizes.append(min(255, len(comment) - 1 - sum(sizes)))
        ends = [0, *itertools.accumulate(sizes)]
        parts = [comment[start:end] for start, end in itertools.pairwise(ends)]
        parts.append(comment[ends[-1] :] + self._lacing_after)
        first, last = self._pages[0], self._pages[-1]
        body, at, result = packet + self.opaque, 0, []
        for number, part in enumerate(parts):
            is_last = number == len(parts) - 1
            flags = last.flags & ~_CONTINUED if is_last else 0
            header = _HEADER.pack(
                b"OggS",
                0,
                flags | (_CONTINUED if number else 0),
                last.granule if is_last else _NO_PACKET_ENDS,
                first.serial,
                first.sequence + number,
                0,
                len(part),
            )
            page = header + part + body[at : at + sum(part)]
            result.append(page[:22] + _checksum(page) + page[26:])
            at += sum(part)
        return result


def _pages(source: Source, at: int) -> Iterator[_Page]:
    while at < source.size:
        head = source.peek(at, at + _HEADER.size + 255)
        if len(head) < _HEADER.size or head[:4] != b"OggS":
            return  # trailing bytes of something else, or damage: payload, as it stands
        _, _, flags, granule, serial, sequence, _, segments = _HEADER.unpack_from(head)
        page = _Page(at, flags, granule, serial, sequence, head[_HEADER.size : _HEADER.size + segments])
        if page.stop > source.size:
            return
        yield page
        at = page.stop


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _checksum(page: bytes) -> bytes:
    """CRC-32 of a page with a zero checksum field, as four bytes: polynomial 04c11db7, start 0, bits not reflected.

    zlib has the reflected form with both ends inverted; bit-reversed bytes and the inverted start make it this one.
    """
    crc = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return crc.to_bytes(4, "little").translate(_REVERSED)[::-1]


def is_ogg_page(data: bytes) -> bool:
    """Whether `data` is one whole page with the right checksum."""
    return data[:4] == b"OggS" and _checksum(data[:22] + bytes(4) + data[26:]) == data[22:26]
