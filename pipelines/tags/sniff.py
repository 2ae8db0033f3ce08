"""The kind of a tagged file, found by its content and never by its name."""

from __future__ import annotations

import enum
import os
from typing import BinaryIO

_HEAD = 4096
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_OGG_CODECS = (b"\x01vorbis", b"OpusHead", b"Speex   ", b"\x7fFLAC", b"\x80theora")


class Kind(enum.Enum):
    """A container, named by where its tags live."""

    MP3 = "mp3"  # ID3v2 in front; APEv2, Lyrics3 and ID3v1 behind. Also ADTS AAC and other raw streams with ID3v2
    TTA = "tta"  # the same around True Audio
    APE = "ape"  # APEv2 behind: Monkey's Audio, WavPack, Musepack, OptimFROG, TAK
    FLAC = "flac"
    OGG = "ogg"  # Vorbis, Opus, Speex, FLAC in Ogg
    MP4 = "mp4"
    ASF = "asf"
    WAV = "wav"
    AIFF = "aiff"
    DSF = "dsf"


def sniff(file: BinaryIO) -> Kind | None:
    """The kind of an open file, None where it cannot carry our tags. Moves the file position.

    Raises:
        OSError: the file cannot be read.
    """
    head = _read_at(file, 0, _HEAD)
    while head[:3] == b"ID3" and len(head) > 10:  # some files carry several, one after the other
        size = id3v2_size(head)
        start = file.tell() - len(head) + size
        head = _read_at(file, start, _HEAD)
        if not head:
            return Kind.MP3  # a tag and nothing else; still a place for a tag
        kind = _by_magic(head)
        if kind in (Kind.FLAC, Kind.OGG, Kind.APE, Kind.TTA):
            return kind
        if kind or _is_other_container(head):
            return None  # its parts may be found by their distance from the file's beginning
        if head[:3] != b"ID3":
            return Kind.MP3
    return _by_magic(head) or (Kind.MP3 if _looks_like_mpeg(head, file) else None)


def id3v2_size(header: bytes) -> int:
    """Bytes of a whole ID3v2 tag: header, body and footer. `header` holds at least its first 10 bytes."""
    a, b, c, d = (byte & 0x7F for byte in header[6:10])
    footer = 10 if header[5] & 0x10 and header[3] >= 4 else 0
    return 10 + (a << 21 | b << 14 | c << 7 | d) + footer


def is_id3v1(tail: bytes) -> bool:
    """Whether the last 131 bytes of a file end with ID3v1. An APE tag may have TAG, of APETAGEX, in the same place."""
    is_ape = tail[-131:].startswith(b"APETAGEX") or tail[-32:].startswith(b"APETAGEX")
    return len(tail) >= 128 and tail[-128:].startswith(b"TAG") and not is_ape


def _read_at(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset, os.SEEK_SET)
    return file.read(count)


def _by_magic(head: bytes) -> Kind | None:
    if head[:4] == b"fLaC":
        return Kind.FLAC
    if head[:4] == b"OggS":
        return Kind.OGG if any(codec in head for codec in _OGG_CODECS) else None
    if head[4:8] == b"ftyp":
        return Kind.MP4
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":  # not RF64, which mutagen cannot read
        return Kind.WAV
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return Kind.AIFF
    if head[:16] == _ASF_HEADER:
        return Kind.ASF
    if head[:4] == b"DSD ":
        return Kind.DSF
    if head[:4] in (b"TTA1", b"TTA2"):
        return Kind.TTA
    if head[:4] in (b"MAC ", b"wvpk", b"MPCK", b"OFR ", b"tBaK") or head[:3] == b"MP+":
        return Kind.APE
    return None


def _looks_like_mpeg(head: bytes, file: BinaryIO) -> bool:
    """Whether the file is a bare stream of MPEG audio or ADTS frames.

    It begins with a frame, or with the rest of one that was cut, and from there one frame follows the other to the end
    of what is seen. Containers that hold MPEG audio (Matroska, AVI, CAF, transport streams, archives) must not be taken
    for it: an ID3v2 tag in front would spoil them. So where it does not begin with a frame, it has to end with one too.
    """
    if _is_other_container(head):
        return False
    start = head.find(b"\xff")
    while 0 <= start <= _LONGEST_FRAME:
        end, frames = _run_of_frames(head, start)
        ended = end + 6 > len(head) or head.startswith((b"TAG", b"APETAGEX", b"LYRICSBEGIN"), end)
        if ended and frames and (start == 0 or (frames > 1 and _ends_with_frames(file))):
            return True
        start = head.find(b"\xff", start + 1)
    return False


def _run_of_frames(data: bytes, start: int) -> tuple[int, int]:
    """Where the frames end that follow one another from `start`, and how many they are."""
    at, frames, kind = start, 0, data[start + 1 : start + 2]
    while at + 6 <= len(data) and data[at + 1 : at + 2] == kind and (length := _frame_bytes(data[at : at + 6])):
        at, frames = at + length, frames + 1
    return at, frames


def _ends_with_frames(file: BinaryIO) -> bool:
    """Whether frames follow one another up to the tags at the file's end; the last one may be cut off."""
    size = file.seek(0, os.SEEK_END)
    tail = _read_at(file, max(0, size - 2 * _HEAD), 2 * _HEAD)
    for mark in (b"LYRICSBEGIN", b"APETAGEX"):
        tail = tail[:at] if (at := tail.find(mark)) >= 0 else tail
    if tail[-128:].startswith(b"TAG"):
        tail = tail[:-128]
    start = tail.find(b"\xff")
    while 0 <= start <= _LONGEST_FRAME:
        end, frames = _run_of_frames(tail, start)
        if frames > 1 and end + 6 > len(tail):
            return True
        start = tail.find(b"\xff", start + 1)
    return False


def _is_other_container(head: bytes) -> bool:
    """Whether something begins here that can hold MPEG audio and has no place for our tags."""
    is_transport_stream = head[:1] == b"G" and head[188:189] == b"G"
    return head.startswith(_OTHER_CONTAINERS) or is_transport_stream or head[257:262] == b"ustar"


_LONGEST_FRAME = 2881  # bytes; 384 kbit/s at 32 kHz in layer 2 is 1728, ADTS can be longer and never is
_OTHER_CONTAINERS = (
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"RIFF",
    b"riff",
    b"caff",
    b"FLV",
    b"\0\0\1\xba",  # MPEG program stream
    b".RMF",
    b".snd",
    b"FORM",
    b"OggS",
    b"PK\3\4",  # zip
    b"!<arch>\n",
    b"0707",  # cpio
)
_KBIT_V1 = {
    1: (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBIT_V2 = {
    1: (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def _frame_bytes(header: bytes) -> int:
    """Length of the MPEG audio or ADTS frame that starts with these six bytes; 0 where none does."""
    if header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    if layer == 4:
        length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
        return length if header[1] & 0xF0 == 0xF0 and header[2] >> 2 & 15 < 13 and length >= 7 else 0
    rate_index, kbit_index = header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or rate_index == 3 or kbit_index in (0, 15):
        return 0
    rate = (44100, 48000, 32000)[rate_index] >> {3: 0, 2: 1, 0: 2}[version]
    kbit = (_KBIT_V1 if version == 3 else _KBIT_V2)[layer][kbit_index]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return (12000 * kbit // rate + padding) * 4
    return (72000 if layer == 3 and version != 3 else 144000) * kbit // rate + padding
