"""Hearing files for the application: one network for all who look, one file at a time, and sound that browsers play."""

from __future__ import annotations

import io
import threading
import wave
from pathlib import Path, PurePath
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from genrebeam.features.errors import GenrebeamError, UnreadableFile
from genrebeam.features.extract import mono_blocks
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.schema import AudioInfo
from genrebeam.pipelines.api import GenreTagger, Heard
from genrebeam.pipelines.jobs.show import Picture, picture
from genrebeam.pipelines.storage.copies import local_copy

# What browsers play as it is; all else, and what is larger, is turned into mono WAV, so far.
_PLAYED = {
    ("mp3", "mp3"): "audio/mpeg",
    ("flac", "flac"): "audio/flac",
    ("ogg", "vorbis"): "audio/ogg",
    ("ogg", "opus"): "audio/ogg",
    ("mp4", "aac"): "audio/mp4",
    ("wav", "pcm_s16"): "audio/wav",
}
_PLAYED_BYTES = 100 << 20
_CONVERTED_S, _CONVERTED_HZ = 20 * 60, 22_050
# Limits for one file in the browser, where nobody waits longer; `genrebeam tag` allows more.
LIMITS = ExtractLimits(max_duration_s=12 * 3600.0, stall_s=30.0)


class Sound(NamedTuple):
    """What a player gets. `cut` says that it is only the beginning, in seconds; 0 where it is all."""

    data: bytes
    mime: str
    cut: int = 0


class HeardTrack(NamedTuple):
    """A track that was heard, with its picture and its sound."""

    heard: Heard
    picture: Picture
    sound: Sound


class Hearing:
    """The network, which is loaded in the background from `warm` on, and the lock that it needs.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
    """

    def __init__(self, model: str | None = None) -> None:
        self.tagger = GenreTagger(model, limits=LIMITS)
        self._lock = threading.Lock()

    @property
    def labels(self) -> tuple[str, ...]:
        """The genres that the network knows."""
        return self.tagger.bundle.labels

    def __enter__(self) -> Hearing:
        return self

    def __exit__(self, *error: object) -> None:
        self.tagger.close()

    def warm(self) -> None:
        """Import and load what the first track would wait for."""
        threading.Thread(target=self._load, name="warm", daemon=True).start()

    def _load(self) -> None:
        with self._lock:
            self.tagger.hear([])
            import matplotlib.figure  # noqa: F401

    def show(self, uri: str) -> HeardTrack:
        """A file or an object of the catalog; raises TrackError, with a sentence for people."""
        with local_copy(uri) as path:
            try:
                return self._show(path)
            except FileNotFoundError:
                raise UnreadableFile(f"{uri}: not there any more") from None

    def show_upload(self, name: str, data: bytes) -> HeardTrack:
        """A file that somebody sent; it lies on the disk only while it is heard. Raises TrackError."""
        with TemporaryDirectory(prefix="genrebeam-") as folder:
            path = Path(folder, safe_name(name))
            path.write_bytes(data)
            try:
                return self._show(path)
            except GenrebeamError as error:
                raise type(error)(str(error).replace(f"{folder}/", "")) from None

    def _show(self, path: Path) -> HeardTrack:
        with self._lock:
            features = self.tagger.features(path)
            heard = self.tagger.decide(features)
            drawn = picture(features, heard, self.tagger.front_end)
        return HeardTrack(heard, drawn, playable(path, features.audio))


def safe_name(name: str) -> str:
    """The end of a name that somebody sent, as a file may be called everywhere."""
    last = PurePath(name.replace("\\", "/")).name
    last = "".join(char for char in last if char.isprintable())[-60:]
    return last if last.strip(".") else "upload"


def playable(path: Path, audio: AudioInfo) -> Sound:
    """A file that was heard before, as a browser can play it."""
    mime = _PLAYED.get((audio.container, audio.codec))
    if mime and path.stat().st_size <= _PLAYED_BYTES:
        return Sound(path.read_bytes(), mime)
    output, seconds = io.BytesIO(), 0.0
    with wave.open(output, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_CONVERTED_HZ)
        for block in mono_blocks(path, _CONVERTED_HZ, ExtractLimits()):
            if isinstance(block, AudioInfo) or seconds >= _CONVERTED_S:
                break
            file.writeframes((np.clip(block, -1, 1) * 32767).astype("<i2").tobytes())
            seconds += len(block) / _CONVERTED_HZ
    return Sound(output.getvalue(), "audio/wav", int(seconds) if seconds < audio.duration_s - 1 else 0)
