"""Check a change with independent readers: what mutagen and FFmpeg show of a file before and after it.

mutagen shows fields, FFmpeg fields and sound. Only the genre and our provenance may differ.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from genrebeam.features.child import Child
from genrebeam.features.errors import TagError
from genrebeam.pipelines.tags.id3 import end_of_tags
from genrebeam.pipelines.tags.model import PREFIX, Container, Source, Splice
from genrebeam.pipelines.tags.player import middle
from genrebeam.pipelines.tags.read import behind_id3v2, ogg_reader
from genrebeam.pipelines.tags.sniff import Kind, sniff
from genrebeam.pipelines.tags.words import keys

_STALL_S, _MEMORY_BYTES = 60.0, 4 << 30  # of FFmpeg's child process


class ReadersDisagree(TagError):
    """After the change some program would no longer show what it shows; the original is untouched."""


@dataclasses.dataclass(frozen=True)
class ReaderView:
    """What readers show of a file.

    Attributes:
        fields: reader -> name of a field -> its value, in a form that can be compared; without genre and provenance.
        genres: reader -> the genre as one text, for readers of which that is not compared elsewhere.
        sound: a digest of packets; empty where there are none, None where FFmpeg cannot open the file.
    """

    fields: Mapping[str, Mapping[str, Any]]
    genres: Mapping[str, str]
    sound: str | None


def look(
    old: BinaryIO, new: BinaryIO, container: Container, splices: Sequence[Splice]
) -> tuple[ReaderView, ReaderView]:
    """Everything that mutagen and FFmpeg show of a file and of its changed copy; nothing where a reader cannot read it.

    Args:
        container: the old file's.
        splices: what made the copy.

    Raises:
        TrackError: FFmpeg crashed or did not answer.
    """
    start = stop = moved = 0
    if sniff(old) is Kind.MP3:  # FFmpeg finds the end of all other kinds by itself
        start, stop = middle(_between_tags(old, container))
        moved = sum(len(splice.data) - (splice.stop - splice.start) for splice in splices if splice.stop <= start)
    paths = [os.path.abspath(os.fsdecode(file.name)) for file in (old, new)]
    views = _ffmpeg([[paths[0], paths[0], start, stop], [paths[1], paths[0], start + moved, stop + moved]])
    before, after = (_shown(file, *view) for file, view in zip((old, new), views, strict=True))
    return before, after


def _between_tags(file: BinaryIO, container: Container) -> Iterator[tuple[int, int]]:
    """Stretches of an MP3 in which no tag stands."""
    source = Source(file)
    at = end_of_tags(source)
    for start, stop in [*container.holes, (source.size, source.size)]:
        yield at, start
        at = max(at, stop)


def _shown(file: BinaryIO, shown: Mapping[str, str], sound: str | None) -> ReaderView:
    fields: dict[str, Mapping[str, Any]] = {}
    kind = sniff(file)
    for reader in _MUTAGEN[kind] if kind else ():
        file.seek(0)
        try:
            found = dict(reader(file))
        except Exception:  # mutagen promises MutagenError and damaged files get anything out of it
            continue
        fields[f"mutagen ({reader.__name__.strip('_')})"] = {k: v for k, v in found.items() if not _is_ours(k)}
    if sound is not None:
        fields["FFmpeg"] = {key: value for key, value in shown.items() if not _is_ours(key)}
    genres = {f"FFmpeg ({key})": text for key, text in shown.items() if key.rpartition("/")[2] == "genre"}
    return ReaderView(fields, genres, sound)


_idle: list[Child] = []  # one for each thread that has asked; popping and appending are atomic
os.register_at_fork(after_in_child=_idle.clear)  # two processes must not talk to one child


def _ffmpeg(files: Sequence[Any]) -> Any:
    child = _idle.pop() if _idle else Child(_LOOKING, {}, stall_s=_STALL_S, memory_bytes=_MEMORY_BYTES)
    try:
        return child.ask(files)[1]
    finally:
        _idle.append(child)


def close() -> None:
    """End FFmpeg's child processes; they end with this one anyway."""
    while _idle:
        _idle.pop().close()


_LOOKING = "genrebeam.pipelines.tags.player:looking"


def disagreement(before: ReaderView, after: ReaderView, genres: Sequence[str]) -> str:
    """What a reader would show wrongly after a change that is no undo; empty where all is well.

    Args:
        genres: the intended ones.
    """
    for reader, old in before.fields.items():
        new = after.fields.get(reader)
        if new is None and old:
            return f"{reader} cannot read it any more"
        for key, value in old.items():
            if (new or {}).get(key) != value:
                what = "changes" if key in (new or {}) else "disappears"
                return f"for {reader} the field {key.rpartition('/')[2]!r} {what}"
    if before.sound and before.sound != after.sound:
        return "FFmpeg hears another sound" if after.sound is not None else "FFmpeg cannot open it any more"
    meant = {key for genre in genres for key in keys(genre)}
    for reader, text in after.genres.items():
        if not {key for part in re.split(r"[;/\0]", text) for key in keys(part)} <= meant:
            return f"{reader} shows the genre {text!r}"
    return ""


def _is_ours(key: str) -> bool:
    """Whether a field, by the name that a reader has for it, is genre or provenance."""
    name = key.upper().rpartition("/")[2]
    plain = name.removeprefix("TXXX:").removeprefix("TXX:").rpartition(":")[2]
    return plain.startswith(PREFIX) or plain in _GENRES


_GENRES = {"GENRE", "TCON", "TCO", "\xa9GEN", "GNRE", "WM/GENRE", "WM/GENREID", "GENREID", "IGNR"}
_GENRES |= {"COM.APPLE.QUICKTIME.GENRE"}


def _id3_items(tags: Any) -> Iterator[tuple[str, Any]]:
    for key, frame in (tags or {}).items():
        yield key, {name: str(value) if name == "text" else value for name, value in vars(frame).items()}
    for number, raw in enumerate(getattr(tags, "unknown_frames", ())):
        yield f"unknown frame {number}", raw


def _id3(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    from mutagen.id3 import ID3

    yield from _id3_items(ID3(file, translate=False, load_v1=False))


def _ape(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    from mutagen.apev2 import APEv2

    yield from ((key, (value.kind, str(value))) for key, value in APEv2(file).items())


def _flac(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    from mutagen.flac import FLAC

    flac = FLAC(file)
    yield from _comments(flac.tags)
    yield from ((f"picture {number}", vars(picture)) for number, picture in enumerate(flac.pictures))
    yield "cue sheet", vars(flac.cuesheet) if flac.cuesheet else None
    yield "samples", flac.info.total_samples


def _ogg(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    yield from _comments(ogg_reader(file)(behind_id3v2(file)).tags)


def _comments(tags: Any) -> Iterator[tuple[str, Any]]:
    values: dict[str, list[str]] = {}
    for key, value in tags or ():
        values.setdefault(key.upper(), []).append(value)
    yield from values.items()


def _mp4(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    from mutagen.mp4 import MP4

    tags: Any = MP4(file).tags or {}
    for key, value in tags.items():
        if not key.startswith("\0"):  # the number of a metadata key, which FFmpeg shows by its name
            yield key, list(value) if isinstance(value, list) else value


def _asf(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    from mutagen.asf import ASF

    values: dict[str, list[Any]] = {}
    tags: Any = ASF(file).tags or ()
    for key, value in tags:
        values.setdefault(key, []).append(value)
    yield from values.items()


def _wave(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    from mutagen.wave import WAVE

    yield from _id3_items(WAVE(file).tags)


def _aiff(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    from mutagen.aiff import AIFF

    yield from _id3_items(AIFF(file).tags)


def _dsf(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    from mutagen.dsf import DSF

    yield from _id3_items(DSF(file).tags)


_MUTAGEN: dict[Kind, tuple[Callable[[BinaryIO], Iterator[tuple[str, Any]]], ...]] = {
    Kind.MP3: (_id3, _ape),
    Kind.TTA: (_id3, _ape),
    Kind.APE: (_ape, _id3),
    Kind.FLAC: (_flac, _id3),
    Kind.OGG: (_ogg, _id3),
    Kind.MP4: (_mp4,),
    Kind.ASF: (_asf,),
    Kind.WAV: (_wave,),
    Kind.AIFF: (_aiff,),
    Kind.DSF: (_dsf,),
}
