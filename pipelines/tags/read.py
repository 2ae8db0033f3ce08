"""What a file's own tags say about its genre. The one module that reads tags through mutagen.

The writer (writer.py) does not use mutagen's savers: it edits bytes and then asks this module, an independent
implementation, whether the file now says what was meant.
"""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from mutagen.apev2 import APENoHeaderError, APETextValue, APEv2
from mutagen.id3 import ID3, TCON, TXXX, Frames_2_2, ID3NoHeaderError

from features.errors import NotTaggable
from pipelines.tags.errors import BrokenTag
from pipelines.tags.sniff import Kind, sniff

_ID3_FRAMES = {"TCON": TCON, "TXXX": TXXX, "TCO": Frames_2_2["TCO"], "TXX": Frames_2_2["TXX"]}  # the others stay raw

PREFIX = "GENREBEAM_"  # of the free-form fields in which a file says what we wrote into it


@dataclasses.dataclass(frozen=True)
class TagValues:
    """What one tag, or a whole file, says.

    Attributes:
        genres: genre values in their order, ID3v1 numbers and "(17)" references as names.
        provenance: our own free-form fields by their name without GENREBEAM_, lower case.
    """

    genres: tuple[str, ...] = ()
    provenance: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


def read_genres(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Genre values in a file's own tags; empty where there are none, no place for any, or the tag is broken.

    Raises:
        OSError: the file cannot be opened or read.
    """
    try:
        with Path(path).open("rb") as file:
            return read_tags(file).genres
    except (NotTaggable, BrokenTag):
        return ()


def read_tags(file: BinaryIO) -> TagValues:
    """Genre and provenance as an open file's tags have them.

    Where a file has several tags (ID3v2, APEv2 and ID3v1 in an MP3), the first that has a genre speaks.

    Raises:
        NotTaggable: none of the containers known here.
        BrokenTag: mutagen cannot read the tag.
        OSError: the file cannot be read.
    """
    kind = sniff(file)
    if kind is None:
        raise NotTaggable(f"{_name(file)}: not a kind of file that genrebeam can tag")
    provenance: Mapping[str, tuple[str, ...]] | None = None
    genres: tuple[str, ...] = ()
    try:
        for reader in _READERS[kind]:
            values = reader(file)
            provenance = values.provenance if provenance is None else provenance  # of the main tag, which comes first
            if genres := values.genres:
                break
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BrokenTag(f"{_name(file)}: its tag cannot be read ({_reason(error)})") from error
    except (
        Exception
    ) as error:  # mutagen promises MutagenError; damaged files get IndexError, struct.error and more out of it
        raise BrokenTag(f"{_name(file)}: its tag cannot be read ({_reason(error)})") from error
    return TagValues(genres, provenance or {})


def resolve_genres(values: Iterable[str]) -> tuple[str, ...]:
    """Values as people mean them: numbers and "(17)" references as ID3v1 names, no blanks, no repetitions."""
    resolved = [name.strip() for value in values for name in TCON(encoding=3, text=[value]).genres]
    return tuple(dict.fromkeys(name for name in resolved if name))


def _values(genres: Iterable[Any], free_form: Iterable[tuple[str, Iterable[Any]]]) -> TagValues:
    provenance = {
        name[len(PREFIX) :].lower(): tuple(str(value) for value in values)
        for name, values in free_form
        if name.upper().startswith(PREFIX)
    }
    return TagValues(resolve_genres(str(value) for value in genres), provenance)


def _from_id3_frames(tags: Any) -> TagValues:
    if tags is None:
        return TagValues()
    genres = [text for frame in tags.getall("TCON") for text in frame.text]
    return _values(genres, ((frame.desc, frame.text) for frame in tags.getall("TXXX")))


def _id3v2(file: BinaryIO) -> TagValues:
    file.seek(0)
    try:
        return _from_id3_frames(ID3(file, known_frames=_ID3_FRAMES, load_v1=False))
    except ID3NoHeaderError:
        return TagValues()


def _id3v1(file: BinaryIO) -> TagValues:
    if file.seek(0, os.SEEK_END) < 128:
        return TagValues()
    file.seek(-128, os.SEEK_END)
    tag = file.read(128)
    number = tag[127]
    return TagValues((TCON.GENRES[number],)) if tag[:3] == b"TAG" and number < len(TCON.GENRES) else TagValues()


def _apev2(file: BinaryIO) -> TagValues:
    file.seek(0)
    try:
        tags = APEv2(file)
    except APENoHeaderError:
        return TagValues()
    texts = {key: list(value) for key, value in tags.items() if isinstance(value, APETextValue)}
    return _values(next((v for k, v in texts.items() if k.lower() == "genre"), []), texts.items())


def _from_comments(tags: Any) -> TagValues:
    if tags is None:
        return TagValues()
    return _values((v for k, v in tags if k.lower() == "genre"), ((k, tags[k]) for k in tags.keys()))  # noqa: SIM118


def _flac(file: BinaryIO) -> TagValues:
    from mutagen.flac import FLAC

    file.seek(0)
    return _from_comments(FLAC(file).tags)


def _ogg(file: BinaryIO) -> TagValues:
    from mutagen.oggflac import OggFLAC
    from mutagen.oggopus import OggOpus
    from mutagen.oggspeex import OggSpeex
    from mutagen.oggtheora import OggTheora
    from mutagen.oggvorbis import OggVorbis

    file.seek(0)
    head = file.read(4096)
    readers = {b"OpusHead": OggOpus, b"Speex   ": OggSpeex, b"\x7fFLAC": OggFLAC, b"\x01vorbis": OggVorbis}
    reader = next((reader for magic, reader in readers.items() if magic in head), OggTheora)
    file.seek(0)
    return _from_comments(reader(file).tags)


def _mp4(file: BinaryIO) -> TagValues:
    from mutagen.mp4 import MP4

    file.seek(0)
    tags: Any = MP4(file).tags or {}
    ours = "----:com.apple.iTunes:"
    free = (
        (k[len(ours) :], [bytes(v).decode("utf-8", "replace") for v in tags[k]]) for k in tags if k.startswith(ours)
    )
    return _values(tags.get("\xa9gen", ()), free)


def _asf(file: BinaryIO) -> TagValues:
    from mutagen.asf import ASF

    file.seek(0)
    tags = ASF(file).tags
    if tags is None:
        return TagValues()
    return _values(tags.get("WM/Genre", ()), ((key, tags[key]) for key in set(tags.keys())))


def _wav(file: BinaryIO) -> TagValues:
    from mutagen.wave import WAVE

    file.seek(0)
    return _from_id3_frames(WAVE(file).tags)


def _wav_info(file: BinaryIO) -> TagValues:
    """IGNR of the LIST INFO chunk, the genre that Windows and FFmpeg write."""
    end = file.seek(0, os.SEEK_END)
    offset = 12
    while offset + 8 <= end:
        file.seek(offset)
        name, size = struct.unpack("<4sI", file.read(8))
        if name == b"LIST" and file.read(4) == b"INFO":
            info, at = file.read(min(size - 4, 1 << 20)), 0
            while at + 8 <= len(info):
                field, length = struct.unpack("<4sI", info[at : at + 8])
                if field == b"IGNR":
                    text = info[at + 8 : at + 8 + length].split(b"\0")[0]
                    return _values([text.decode("utf-8", "replace")], ())
                at += 8 + length + length % 2
        offset += 8 + size + size % 2
    return TagValues()


def _aiff(file: BinaryIO) -> TagValues:
    from mutagen.aiff import AIFF

    file.seek(0)
    return _from_id3_frames(AIFF(file).tags)


def _dsf(file: BinaryIO) -> TagValues:
    from mutagen.dsf import DSF

    file.seek(0)
    return _from_id3_frames(DSF(file).tags)


_READERS: dict[Kind, tuple[Callable[[BinaryIO], TagValues], ...]] = {
    Kind.MP3: (_id3v2, _apev2, _id3v1),
    Kind.TTA: (_id3v2, _apev2, _id3v1),
    Kind.APE: (_apev2, _id3v2, _id3v1),
    Kind.FLAC: (_flac,),
    Kind.OGG: (_ogg,),
    Kind.MP4: (_mp4,),
    Kind.ASF: (_asf,),
    Kind.WAV: (_wav, _wav_info),
    Kind.AIFF: (_aiff,),
    Kind.DSF: (_dsf,),
}


def _name(file: BinaryIO) -> str:
    return os.fsdecode(getattr(file, "name", "file"))


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
