"""A second opinion: what readers that had no part in writing show of a file before and after a change.

mutagen shows fields, FFmpeg fields and sound. Nobody's view of a file may change but for its genre and our provenance.
"""

from __future__ import annotations

import dataclasses
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from features.errors import TagError
from features.ffmpeg import open_sound
from pipelines.tags.read import PREFIX, behind_id3v2, ogg_reader
from pipelines.tags.sniff import Kind, sniff
from pipelines.tags.words import keys

_WHOLE_BYTES = 1 << 20  # of smaller files all packets are compared, of others those at both ends, beside the tags
_FIRST_PACKETS, _LAST_PACKETS, _LAST_S = 24, 12, 1


class ReadersDisagree(TagError):
    """After the change some program would no longer show what it shows; the original is untouched."""


@dataclasses.dataclass(frozen=True)
class Shown:
    """What readers show of a file.

    Attributes:
        fields: reader -> name of a field -> its value, in a form that can be compared; without genre and provenance.
        genres: reader -> the genre as one text, for readers of which that is not compared elsewhere.
        sound: (stream, size, checksum) of packets; None where FFmpeg cannot open the file.
    """

    fields: Mapping[str, Mapping[str, Any]]
    genres: Mapping[str, str]
    sound: tuple[tuple[int, int, int], ...] | None


def look(file: BinaryIO, name: str) -> Shown:
    """Everything that mutagen and FFmpeg show of an open file; nothing where a reader cannot read it.

    Args:
        name: FFmpeg looks at it too, so the changed copy has to bear the name of its original.
    """
    fields: dict[str, Mapping[str, Any]] = {}
    kind = sniff(file)
    for reader in _MUTAGEN[kind] if kind else ():
        file.seek(0)
        try:
            found = dict(reader(file))
        except Exception:  # mutagen promises MutagenError and damaged files get anything out of it
            continue
        fields[f"mutagen ({reader.__name__.strip('_')})"] = {k: v for k, v in found.items() if not _is_ours(k)}
    shown, sound = _ffmpeg(file, name)
    if sound is not None:
        fields["FFmpeg"] = {key: value for key, value in shown.items() if not _is_ours(key)}
    genres = {f"FFmpeg ({key})": text for key, text in shown.items() if key.rpartition("/")[2] == "genre"}
    return Shown(fields, genres, sound)


def disagreement(before: Shown, after: Shown, genres: Sequence[str]) -> str:
    """What a reader would show wrongly after a change that is no undo; empty where all is well.

    Args:
        genres: as they were meant.
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


class _Renamed:
    """A file under another name, for FFmpeg."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self.name, self.read, self.seek, self.tell = name, file.read, file.seek, file.tell


def _ffmpeg(file: BinaryIO, name: str) -> tuple[dict[str, str], tuple[tuple[int, int, int], ...] | None]:
    size = file.seek(0, 2)
    file.seek(max(0, size - 131))
    lies = file.read(8) == b"APETAGEX"  # FFmpeg takes the middle of that word for an ID3v1 tag
    file.seek(0)
    try:
        container = open_sound(_Renamed(file, name))  # type: ignore[arg-type]
    except Exception:  # FFmpeg's errors are of many classes
        return {}, None
    with container:
        shown = {} if lies else {key.lower(): value for key, value in container.metadata.items()}
        for stream in container.streams:
            shown |= {f"stream {stream.index}/{key.lower()}": value for key, value in stream.metadata.items()}
        return shown, tuple(_sound(container, size))


def _sound(container: Any, size: int) -> Iterator[tuple[int, int, int]]:
    limit = None if size <= _WHOLE_BYTES else _FIRST_PACKETS
    packets = _packets(container)
    for number, packet in enumerate(packets):
        if number == limit:
            break
        yield packet
    if limit is None or not container.duration:
        return
    try:
        container.seek(max(0, container.duration - _LAST_S * 1_000_000))
    except Exception:
        return
    yield from list(_packets(container))[-_LAST_PACKETS:]


def _packets(container: Any) -> Iterator[tuple[int, int, int]]:
    held: tuple[int, int, int] | None = None
    try:
        for packet in container.demux():
            if packet.size:
                if held:
                    yield held
                held = packet.stream_index, packet.size, zlib.crc32(packet)
    except Exception:  # the end of what can be read
        pass
    if held and container.format.name != "ape":  # FFmpeg takes the tags behind Monkey's Audio for its last packet
        yield held
