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
from mutagen.id3 import ID3, TALB, TCON, TIT2, TPE1, TXXX, Frames_2_2, ID3NoHeaderError

from genrebeam.features.errors import NotTaggable
from genrebeam.features.schema import FileTags
from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.families import (
    APE,
    CHUNK,
    COMMENTS,
    DESCRIPTORS,
    ID3V1,
    ID3V2,
    INFO,
    ITEMS,
    KEYS,
    LIBRARY,
    USER_DATA,
    families_of,
)
from genrebeam.pipelines.tags.model import PREFIX
from genrebeam.pipelines.tags.sniff import Kind, id3v2_size, is_id3v1, sniff
from genrebeam.pipelines.tags.words import keys

# The others stay raw. mutagen translates those of ID3v2.2 (TCO, TP1, ...).
_ID3_FRAMES = {frame.__name__: frame for frame in (TCON, TXXX, TPE1, TALB, TIT2)} | {
    name: Frames_2_2[name] for name in ("TCO", "TXX", "TP1", "TAL", "TT2")
}
_NAMES = ("artist", "album", "title")


@dataclasses.dataclass(frozen=True)
class TagValues:
    """What one tag, or a whole file, says.

    Attributes:
        genres: genre values in their order, ID3v1 numbers and "(17)" references as names.
        provenance: our own free-form fields by their name without GENREBEAM_, lower case.
        names: artist, album and title, as far as they are there. They are not what a change is about: values that
            differ in names alone are equal.
    """

    genres: tuple[str, ...] = ()
    provenance: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    names: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def written(self) -> tuple[str, ...]:
        """The whole list of genres that we wrote into the file earlier."""
        return tuple(self.provenance.get("genre", ()))

    @property
    def added(self) -> frozenset[str]:
        """Which of the `written` genres were ours."""
        return frozenset(text.rpartition(" ")[0] for text in self.provenance.get("confidence", ()))

    @property
    def user_genres(self) -> tuple[str, ...]:
        """The genres that are not ours; where the list is not what we wrote, somebody has changed it: all of them."""
        added = self.added if self.written == self.genres else ()
        return tuple(genre for genre in self.genres if genre not in added)


def read_genres(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Genre values in a file's own tags; empty where there are none, no place for any, or the tag is broken.

    Raises:
        OSError: the file cannot be opened or read.
    """
    with Path(path).open("rb") as file:
        return tags_in(file).genres


def tags_in(file: BinaryIO) -> FileTags:
    """Everything that a result row wants to know of an open file's tags; nothing where they cannot be read.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        values = read_tags(file)
    except (NotTaggable, BrokenTag):
        return FileTags(user_genres=())
    return FileTags(values.genres, values.user_genres, **values.names)


def read_tags(file: BinaryIO) -> TagValues:
    """Genre and provenance as an open file's tags have them.

    Of a file with several families of tags (ID3v2 and APEv2 in an MP3) it is what all of them say, each genre once.
    Only ID3v1, with its short list, is not asked where another has an answer.

    Raises:
        NotTaggable: none of the containers known here.
        BrokenTag: mutagen cannot read the tag.
        OSError: the file cannot be read.
    """
    kind = sniff(file)
    if kind is None:
        raise NotTaggable(f"{_name(file)}: not a kind of file that genrebeam can tag")
    provenance: Mapping[str, tuple[str, ...]] = {}
    genres: tuple[str, ...] = ()
    names: dict[str, str] = {}
    try:
        for reader in dict.fromkeys(_READERS[kind][family] for family in families_of(kind)):
            values = reader(file)
            names = {**values.names, **names}
            if reader is _id3v1 and genres:
                continue
            provenance = provenance or values.provenance
            known = {key for genre in genres for key in keys(genre)}
            genres += tuple(genre for genre in values.genres if not keys(genre) <= known)
    except (OSError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise BrokenTag(f"{_name(file)}: its tag cannot be read ({_reason(error)})") from error
    except (
        Exception
    ) as error:  # mutagen promises MutagenError; damaged files get IndexError, struct.error and more out of it
        raise BrokenTag(f"{_name(file)}: its tag cannot be read ({_reason(error)})") from error
    return TagValues(genres, provenance, names)


def resolve_genres(values: Iterable[str]) -> tuple[str, ...]:
    """Values as people mean them: numbers and "(17)" references as ID3v1 names, no blanks, no repetitions."""
    resolved = [name.strip() for value in values for name in TCON(encoding=3, text=[value]).genres]
    return tuple(dict.fromkeys(name for name in resolved if name))


def _values(genres: Iterable[Any], free_form: Iterable[tuple[str, Iterable[Any]]], names: Iterable[Any]) -> TagValues:
    """From what a reader found; `names` are lists of artists, albums and titles, each of which may be empty or None."""
    provenance = {
        name[len(PREFIX) :].lower(): tuple(str(value) for value in values)
        for name, values in free_form
        if name.upper().startswith(PREFIX)
    }
    first = {name: str(values[0]).strip() for name, values in zip(_NAMES, names, strict=True) if values}
    found = {name: text for name, text in first.items() if text}
    return TagValues(resolve_genres(str(value) for value in genres), provenance, found)


def _from_id3_frames(tags: Any) -> TagValues:
    if tags is None:
        return TagValues()
    genres = [text for frame in tags.getall("TCON") for text in frame.text]
    names = [[text for frame in tags.getall(key) for text in frame.text] for key in ("TPE1", "TALB", "TIT2")]
    return _values(genres, ((frame.desc, frame.text) for frame in tags.getall("TXXX")), names)


def _id3v2(file: BinaryIO) -> TagValues:
    file.seek(0)
    try:
        return _from_id3_frames(ID3(file, known_frames=_ID3_FRAMES, load_v1=False))
    except ID3NoHeaderError:
        return TagValues()


def _id3v1(file: BinaryIO) -> TagValues:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 131))
    tail = file.read(131)
    if not is_id3v1(tail):
        return TagValues()
    number, v1 = tail[-1], tail[-128:]
    names = [[v1[a:b].split(b"\0")[0].decode("latin-1")] for a, b in ((33, 63), (63, 93), (3, 33))]
    return _values([TCON.GENRES[number]] if number < len(TCON.GENRES) else [], (), names)


def _apev2(file: BinaryIO) -> TagValues:
    file.seek(0)
    try:
        tags = APEv2(file)
    except APENoHeaderError:
        return TagValues()
    texts = {key: list(value) for key, value in tags.items() if isinstance(value, APETextValue)}
    said = {key.lower(): values for key, values in texts.items()}
    genres = (v for k, values in texts.items() if k.lower() == "genre" for v in values)
    return _values(genres, texts.items(), map(said.get, _NAMES))


def _from_comments(tags: Any) -> TagValues:
    if tags is None:
        return TagValues()
    said = {key.lower(): tags[key] for key in tags.keys()}  # noqa: SIM118  iterating gives pairs
    genres = (v for k, v in tags if k.lower() == "genre")
    return _values(genres, said.items(), map(said.get, _NAMES))


def _flac(file: BinaryIO) -> TagValues:
    from mutagen.flac import FLAC

    file.seek(0)
    return _from_comments(FLAC(file).tags)


def _ogg(file: BinaryIO) -> TagValues:
    return _from_comments(ogg_reader(file)(behind_id3v2(file)).tags)


def ogg_reader(file: BinaryIO) -> Callable[[Any], Any]:
    """mutagen's class for what the Ogg file holds."""
    from mutagen.oggflac import OggFLAC
    from mutagen.oggopus import OggOpus
    from mutagen.oggspeex import OggSpeex
    from mutagen.oggtheora import OggTheora
    from mutagen.oggvorbis import OggVorbis

    start = _end_of_id3v2(file)
    file.seek(start)
    head = file.read(4096)
    readers = {b"OpusHead": OggOpus, b"Speex   ": OggSpeex, b"\x7fFLAC": OggFLAC, b"\x01vorbis": OggVorbis}
    return next((reader for magic, reader in readers.items() if magic in head), OggTheora)


def behind_id3v2(file: BinaryIO) -> _Behind:
    """The file without the ID3v2 tags that it begins with."""
    return _Behind(file, _end_of_id3v2(file))


def _end_of_id3v2(file: BinaryIO) -> int:
    start = 0
    file.seek(0)
    while len(head := file.read(10)) == 10 and head[:3] == b"ID3":
        start += id3v2_size(head)
        file.seek(start)
    return start


class _Behind:
    """A file without what stands in front of `start`: mutagen looks for Ogg at the very beginning only."""

    def __init__(self, file: BinaryIO, start: int) -> None:
        self._file, self._start, self.name = file, start, _name(file)
        file.seek(start)

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset + (self._start if whence == os.SEEK_SET else 0), whence) - self._start

    def tell(self) -> int:
        return self._file.tell() - self._start


def _mp4(file: BinaryIO) -> TagValues:
    from mutagen.mp4 import MP4

    file.seek(0)
    tags: Any = MP4(file).tags or {}
    free = [
        (key.rpartition(":")[2], [bytes(value).decode("utf-8", "replace") for value in tags[key]])
        for key in tags
        if key.startswith("----:")
    ]
    others = (value for name, values in free if name.lower() == "genre" for value in values)
    return _values([*tags.get("\xa9gen", ()), *others], free, map(tags.get, ("\xa9ART", "\xa9alb", "\xa9nam")))


def _boxes(file: BinaryIO) -> TagValues:
    """Metadata keys and user data of QuickTime and 3GPP, of which mutagen knows nothing."""
    from genrebeam.pipelines.tags.mp4 import Mp4

    return _from_words(Mp4, file)


def _from_words(container: Callable[..., Any], file: BinaryIO, **options: Any) -> TagValues:
    """What the tags say that our own parser reads, nothing where it cannot."""
    from genrebeam.pipelines.tags.model import Source

    try:
        words = [tag.words() for tag in container(Source(file), **options).tags]
    except (BrokenTag, struct.error, IndexError):
        return TagValues()
    genres = [genre for said in words for genre in said.get("GENRE", ())]
    names = [next((said[name.upper()] for said in words if said.get(name.upper())), ()) for name in _NAMES]
    return _values(genres, ((name, values) for said in words for name, values in said.items()), names)


def _asf(file: BinaryIO) -> TagValues:
    from mutagen.asf import ASF

    file.seek(0)
    tags = ASF(file).tags
    if tags is None:
        return TagValues()
    names = (tags.get(key) for key in ("Author", "WM/AlbumTitle", "Title"))
    return _values(tags.get("WM/Genre", ()), ((key, tags[key]) for key in set(tags.keys())), names)


def _wav(file: BinaryIO) -> TagValues:
    from mutagen.wave import WAVE

    file.seek(0)
    return _from_id3_frames(WAVE(file).tags)


def _wav_info(file: BinaryIO) -> TagValues:
    """IGNR of the LIST INFO chunk, the genre that Windows and FFmpeg write."""
    from genrebeam.pipelines.tags.iff import Iff

    return _from_words(Iff, file, little=True)


def _aiff(file: BinaryIO) -> TagValues:
    from mutagen.aiff import AIFF

    file.seek(0)
    return _from_id3_frames(AIFF(file).tags)


def _dsf(file: BinaryIO) -> TagValues:
    from mutagen.dsf import DSF

    file.seek(0)
    return _from_id3_frames(DSF(file).tags)


_ENDS: dict[str, Callable[[BinaryIO], TagValues]] = {ID3V2: _id3v2, APE: _apev2, ID3V1: _id3v1}
# Some families are read in one go; each family of families.TABLE is here.
_READERS: dict[Kind, dict[str, Callable[[BinaryIO], TagValues]]] = {
    Kind.MP3: _ENDS,
    Kind.TTA: _ENDS,
    Kind.APE: _ENDS,
    Kind.FLAC: _ENDS | {COMMENTS: _flac},
    Kind.OGG: {COMMENTS: _ogg, ID3V2: _id3v2},
    Kind.MP4: {ITEMS: _mp4, KEYS: _boxes, USER_DATA: _boxes},
    Kind.ASF: {DESCRIPTORS: _asf, LIBRARY: _asf},
    Kind.WAV: {CHUNK: _wav, INFO: _wav_info},
    Kind.AIFF: {CHUNK: _aiff},
    Kind.DSF: {ID3V2: _dsf},
}


def _name(file: BinaryIO) -> str:
    return os.fsdecode(getattr(file, "name", "file"))


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
