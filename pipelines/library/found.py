"""One file that was found: a track, or why it cannot be one. It is judged by its name and state, and not opened."""

from __future__ import annotations

import dataclasses
import os
import posixpath
import stat
import urllib.parse
from pathlib import Path, PurePosixPath

from genrebeam.features.errors import NotAudio, UnreadableFile
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.dataset.schema import storable
from genrebeam.pipelines.storage.places import path_uri

# Files that lie beside music. They are rejected by name without being opened; whatever has another
# suffix, or none, is opened and judged by its content.
_NOT_AUDIO_SUFFIXES = frozenset(
    """
    .bmp .gif .heic .ico .jfif .jpeg .jpg .png .psd .svg .tif .tiff .webp
    .csv .cue .db .doc .docx .htm .html .ini .json .lnk .log .lrc .m3u .m3u8 .md .md5 .nfo .ods .parquet .pdf
    .pls .plist .rtf .sfv .sha1 .sha256 .sqlite .srt .torrent .tsv .txt .url .xls .xlsx .xml .xspf .yaml .yml
    .7z .bz2 .gz .rar .tar .xz .zip .bat .exe .py .sh
    .als .asd .cdg .kar .mid .midi .pek .reapeaks .rpp .wvc
    """.split()
)
# A name that claims to be audio. A file with another name and no audio in it is a companion too, not a failure.
_AUDIO_SUFFIXES = frozenset(
    """
    .3g2 .3gp .aac .ac3 .adts .aif .aifc .aiff .alac .amr .ape .asf .au .bwf .caf .dff .dsf .dts .eac3 .f4a .fla .flac
    .m4a .m4b .m4p .m4r .mka .mp+ .mp1 .mp2 .mp3 .mp4 .mpc .mpga .mpp .oga .ogg .ofr .ofs .opus .ra .rf64 .rm .shn
    .snd .spx .tak .tta .voc .w64 .wav .wave .weba .webm .wma .wv
    """.split()
)
_LIMIT_NS = 2**63  # times are kept in nanoseconds of 64 bits: from 1678 to 2262


def track_of(found: Track | Rejection) -> Track:
    """The track of either."""
    return found.track if isinstance(found, Rejection) else found


def keepable(found: Track | Rejection) -> Track | Rejection:
    """The same, or a rejection where a name, size or time cannot be stored in a row."""
    if isinstance(found, Rejection):
        return found
    reason = ""
    if storable(found.uri) != found.uri:
        reason = "its name cannot be stored"
    elif not 0 <= found.size < 2**63:
        reason = "its size is invalid"
    elif not abs(found.mtime) < _LIMIT_NS / 1e9:
        reason = "its modification time cannot be stored; touch it"
    track_id = storable(found.track_id)
    if reason:
        track = Track(storable(found.uri), track_id, 0, 0.0)
        return Rejection(track, "discover", UnreadableFile.__name__, f"{track.uri}: {reason}")
    return found if track_id == found.track_id else dataclasses.replace(found, track_id=track_id)


def is_companion(uri: str, stage: str, error: str) -> bool:
    """Whether a rejected file only lies beside music: neither its name nor its content claims that it is audio."""
    if stage == "discover":
        return error == NotAudio.__name__
    claims = PurePosixPath(uri).suffix.lower() in _AUDIO_SUFFIXES
    return stage == "extract" and not claims and error in (NotAudio.__name__, UnreadableFile.__name__)


def judge(path: Path, track_id: str) -> Track | Rejection:
    """A local file as a track, or why it cannot be one; it is not opened."""
    if path.suffix.lower() in _NOT_AUDIO_SUFFIXES:
        return reject(path, track_id, NotAudio, f"{path.suffix.lower()} files are not audio")
    try:
        status = path.stat()
    except OSError as error:
        reason = "a link to nothing" if path.is_symlink() else (error.strerror or str(error))
        return reject(path, track_id, UnreadableFile, reason)
    if not stat.S_ISREG(status.st_mode):
        return reject(path, track_id, NotAudio, "not a regular file")
    return Track(path_uri(path), track_id, status.st_size, status.st_mtime_ns // 1000 / 1e6)


def reject(path: Path, track_id: str, error: type[Exception], reason: str) -> Rejection:
    try:
        status = path.lstat()
        strange = abs(status.st_mtime_ns) >= _LIMIT_NS
        size, mtime = status.st_size, 0.0 if strange else status.st_mtime_ns // 1000 / 1e6
    except OSError:
        size, mtime = 0, 0.0
    uri = path_uri(path)
    return Rejection(Track(uri, track_id, size, mtime), "discover", error.__name__, f"{uri}: {reason}")


def relative(path: str, root: Path) -> str:
    """The part below the library's root, with forward slashes; percent-encoded where it is not valid UTF-8."""
    text = os.path.relpath(path, root).replace(os.sep, "/")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return urllib.parse.quote(os.fsencode(text))
    return text


def judge_remote(uri: str, track_id: str, size: int, mtime: float) -> Track | Rejection:
    track = Track(uri, track_id, size, mtime)
    suffix = posixpath.splitext(uri)[1].lower()
    if suffix in _NOT_AUDIO_SUFFIXES:
        return Rejection(track, "discover", NotAudio.__name__, f"{uri}: {suffix} files are not audio")
    return track
