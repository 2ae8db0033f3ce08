"""Which families of tags can stand in a container, and which of them programs prefer. docs/tags.md shows this table.

A program that finds the family that it likes best looks at no other. So a new tag must not hide an older one, and a
genre has to be changed in all of them.
"""

from __future__ import annotations

from typing import NamedTuple

from genrebeam.pipelines.tags.sniff import Kind


class Families(NamedTuple):
    """A container. `here` are all families, the native one first; the others are what a program looks at, best first.

    `ffmpeg` and `taglib` show the same fields of several families where these do not contradict each other.
    """

    container: str
    kind: Kind
    here: tuple[str, ...]
    taglib: tuple[str, ...]
    ffmpeg: tuple[str, ...]
    mutagen: tuple[str, ...]


ID3V2, ID3V1, APE, COMMENTS = "ID3v2", "ID3v1", "APEv2", "Vorbis comments"
CHUNK, INFO = "ID3 chunk", "LIST INFO"
ITEMS, KEYS, USER_DATA = "iTunes list", "metadata keys", "user data"
DESCRIPTORS, LIBRARY = "Extended Content Description", "Metadata Library"

_ENDS = (ID3V2, APE, ID3V1)
TABLE = (
    Families("MP3", Kind.MP3, _ENDS, (ID3V2, APE, ID3V1), (ID3V2, ID3V1), (ID3V2, ID3V1)),
    Families("AAC", Kind.MP3, _ENDS, (ID3V2, APE, ID3V1), (ID3V1, APE, ID3V2), (APE,)),
    Families("TTA", Kind.TTA, _ENDS, (ID3V2, ID3V1), (ID3V1, APE), (ID3V2, ID3V1)),
    Families(
        "Monkey's Audio, WavPack, Musepack, OptimFROG, TAK",
        Kind.APE,
        (APE, ID3V2, ID3V1),
        (APE, ID3V1),
        (ID3V1, APE),
        (APE,),
    ),
    Families("FLAC", Kind.FLAC, (COMMENTS, ID3V2, ID3V1), (COMMENTS, ID3V2, ID3V1), (COMMENTS, ID3V2), (COMMENTS,)),
    Families("Ogg", Kind.OGG, (COMMENTS, ID3V2), (COMMENTS,), (COMMENTS,), (COMMENTS,)),
    Families("MP4", Kind.MP4, (ITEMS, KEYS, USER_DATA), (ITEMS,), (ITEMS, KEYS, USER_DATA), (ITEMS,)),
    Families("ASF", Kind.ASF, (DESCRIPTORS, LIBRARY), (DESCRIPTORS, LIBRARY), (DESCRIPTORS,), (DESCRIPTORS, LIBRARY)),
    Families("WAV", Kind.WAV, (CHUNK, INFO), (CHUNK, INFO), (CHUNK, INFO), (CHUNK,)),
    Families("AIFF", Kind.AIFF, (CHUNK,), (CHUNK,), (CHUNK,), (CHUNK,)),
    Families("DSF", Kind.DSF, (ID3V2,), (ID3V2,), (ID3V2,), (ID3V2,)),
)


def families_of(kind: Kind) -> tuple[str, ...]:
    """What can stand in a container, the native family first."""
    return next(row.here for row in TABLE if row.kind is kind)
