"""What a player gets: the file itself where browsers play it, else mono WAV that a child process makes of it.

Only what a results row names is served, if it lies where that row may point to and holds sound.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import os
import stat
import tempfile
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from genrebeam.features.child import Child
from genrebeam.features.errors import NotAudio, TrackError, UnreadableFile, unreadable
from genrebeam.features.extract import mono_blocks
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.schema import AudioInfo
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.dataset.schema import storable
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.copies import local_copy
from genrebeam.pipelines.storage.places import local_path
from genrebeam.pipelines.tags.sniff import Kind, sniff

# What browsers play as it is: the kind of a file by its content, and codecs that the row may tell.
_PLAYED: dict[Kind, tuple[str, set[str | None]]] = {
    Kind.MP3: ("audio/mpeg", {"mp3", None}),
    Kind.FLAC: ("audio/flac", {"flac", None}),
    Kind.OGG: ("audio/ogg", {"vorbis", "opus"}),
    Kind.MP4: ("audio/mp4", {"aac"}),
    Kind.WAV: ("audio/wav", {"pcm_s16", "pcm_s16le"}),
}
CONVERTED_S, _CONVERTED_HZ = 20 * 60, 22_050
_KEPT = 4  # converted or fetched files, in a temporary folder


@dataclasses.dataclass(frozen=True)
class Sound:
    """A file for a player."""

    path: Path
    mime: str


class Sounds:
    """Sound for players. Threads may share it. Close it to remove what it has made."""

    def __init__(self, limits: ExtractLimits, libraries: tuple[str, ...] = ()) -> None:
        setup = {"limits": dataclasses.asdict(limits)}
        work = "genrebeam.app.sound:converting"
        self._child = Child(work, setup, stall_s=limits.stall_s, memory_bytes=limits.memory_bytes)
        self._libraries = libraries
        self._made: collections.OrderedDict[str, tuple[Sound, contextlib.ExitStack]] = collections.OrderedDict()
        self._lock = threading.Lock()

    def close(self) -> None:
        self._child.close()
        with self._lock:
            while self._made:
                self._made.popitem()[1][1].close()

    def check(self, track_id: str, uri: str) -> None:
        """Refuse what a made-up row could point to; raises TrackError."""
        path = local_path(uri)
        if path is not None:
            check_place(path, track_id, self._libraries)
            _check_file(path, uri)

    def of(self, track_id: str, row: dict[str, Any]) -> Sound:
        """The sound of a track.

        Args:
            row: its uri and codec, as the results have them.

        Raises:
            TrackError: it is not where the row may point to, not there, or no sound.
        """
        uri, codec = row["uri"], row["codec"]
        path = local_path(uri)
        if path is not None:
            check_place(path, track_id, self._libraries)
            version = _check_file(path, uri)
            if mime := _played(path, codec):
                return Sound(path, mime)
            return self._keep(f"{uri} {version}", lambda stack: self._converted(path, uri, stack))
        seen = objects.stat(uri) if objects.is_object(uri) else uri
        return self._keep(f"{uri} {seen}", lambda stack: self._fetched(uri, codec, stack))

    def convert(self, path: Path, name: str, stack: contextlib.ExitStack) -> Sound:
        """A file that somebody sent, as WAV, which lies on the disk until the stack is closed. Raises TrackError."""
        return self._converted(path, name, stack)

    def _keep(self, key: str, make: Callable[[contextlib.ExitStack], Sound]) -> Sound:
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
                return self._made[key][0]
            with contextlib.ExitStack() as stack:
                sound = make(stack)
                self._made[key] = sound, stack.pop_all()
            while len(self._made) > _KEPT:
                self._made.popitem(last=False)[1][1].close()
            return sound

    def _fetched(self, uri: str, codec: str | None, stack: contextlib.ExitStack) -> Sound:
        path = stack.enter_context(local_copy(uri))
        mime = _played(path, codec)
        return Sound(path, mime) if mime else self._converted(path, uri, stack)

    def _converted(self, path: Path, name: str, stack: contextlib.ExitStack) -> Sound:
        try:
            samples, _ = self._child.ask(os.path.abspath(path))
        except TrackError as error:
            raise type(error)(f"{name}: {error}") from None
        file = tempfile.NamedTemporaryFile(prefix="genrebeam-", suffix=".wav")  # noqa: SIM115, the stack closes it
        stack.enter_context(file)
        with wave.open(file.file, "wb") as output:
            output.setnchannels(1)
            output.setsampwidth(2)
            output.setframerate(_CONVERTED_HZ)
            output.writeframes(samples)
        file.flush()
        return Sound(Path(file.name), "audio/wav")


def converting(limits: dict[str, Any]) -> Callable[[str], Iterator[Any]]:
    """The child's work: a path to its samples at 22,050 Hz, mono, 16 bits, the first 20 minutes of them."""

    def convert(path: str) -> Iterator[Any]:
        left = CONVERTED_S * _CONVERTED_HZ
        for block in mono_blocks(path, _CONVERTED_HZ, ExtractLimits(**limits)):
            if isinstance(block, AudioInfo) or left <= 0:
                break
            yield (np.clip(block[:left], -1, 1) * 32767).astype("<i2").tobytes()
            left -= len(block)
        yield []

    return convert


def check_place(path: Path, track_id: str, libraries: tuple[str, ...]) -> None:
    """Refuse a path to which a row that somebody made up could point.

    A track lies where its track_id says: at the end of its path. Where a manifest has named it otherwise, it lies in a
    library that a run of this folder has read.

    Raises:
        NotAudio: neither.
    """
    shown = storable(os.fspath(path))
    is_plain = path.is_absolute() and ".." not in path.parts
    is_named = track_id != "" and ".." not in track_id.split("/") and shown.endswith("/" + track_id)
    if not is_plain or not (is_named or any(shown.startswith(library.rstrip("/") + "/") for library in libraries)):
        raise NotAudio(f"{shown}: the results point outside of their library; it is not played")


def _check_file(path: Path, name: str) -> tuple[int, int]:
    """Size and time of a regular file; raises UnreadableFile."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise UnreadableFile(f"{name}: it is not there; is its disk mounted?") from None
    except OSError as error:
        raise UnreadableFile(f"{name}: {unreadable(error)}") from error
    if not stat.S_ISREG(status.st_mode):
        raise NotAudio(f"{name}: it is not a file")
    return status.st_size, status.st_mtime_ns


def _played(path: Path, codec: str | None) -> str:
    """The MIME type of a file that browsers play as it is; empty where they do not."""
    try:
        with path.open("rb") as file:
            kind = sniff(file)
    except OSError as error:
        raise UnreadableFile(f"{path}: {unreadable(error)}") from error
    mime, codecs = _PLAYED.get(kind, ("", set())) if kind else ("", set())
    return mime if codec in codecs else ""


def libraries_of(dataset: Dataset) -> tuple[str, ...]:
    """The local folders that runs of a dataset have read."""
    found: set[str] = set()
    for name in dataset.folder.names():
        if name.startswith("run-") and name.endswith(".json"):
            try:
                with dataset.folder.open(name) as file:
                    named = json.load(file)["config"]["libraries"]
                found |= {one for one in named if isinstance(one, str) and os.path.isabs(one) and one.strip("/")}
            except (OSError, ValueError, KeyError, TypeError):
                continue  # an unfinished or foreign report; the tracks tell where they are
    return tuple(sorted(found))
