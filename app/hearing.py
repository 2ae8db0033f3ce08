"""Hearing files for the application: one network for all visitors, and what pages draw of a file.

A file is decoded once, in the child process of GenreTagger and with its limits; nothing of it is kept.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import threading
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np

from genrebeam.features.errors import GenrebeamError, UnreadableFile
from genrebeam.features.limits import ExtractLimits
from genrebeam.pipelines.api import Features, GenreTagger, Heard
from genrebeam.pipelines.dataset.inputs import bundle_at
from genrebeam.pipelines.storage.copies import local_copy

_COLUMNS = 800  # of a picture: more frames than that are drawn as their loudest
_WARM_S = 1.0  # after the start
# Limits for one file in the browser, where nobody waits longer; `genrebeam tag` allows more.
LIMITS = ExtractLimits(max_duration_s=12 * 3600.0, stall_s=30.0)


class Picture(NamedTuple):
    """A spectrogram to draw: uint8 [columns, bands] in base64, from the lowest band up, 255 the loudest."""

    columns: int
    bands: int
    levels: str
    duration_s: float


class Hearing:
    """The network and the decoding process, which start with the first file, or by `warm`. Threads take turns.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
    """

    def __init__(self, model: str | None = None) -> None:
        self._model = model
        self.bundle = bundle_at(model)
        self._lock = threading.Lock()

    @functools.cached_property
    def tagger(self) -> GenreTagger:
        return GenreTagger(self._model, limits=LIMITS)

    @property
    def labels(self) -> tuple[str, ...]:
        """The genres that the network knows."""
        return self.bundle.labels

    def __enter__(self) -> Hearing:
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            if "tagger" in vars(self):
                self.tagger.close()

    def warm(self) -> None:
        """Load what the first file would wait for, a moment later: the first page comes first."""
        timer = threading.Timer(_WARM_S, lambda: self._ready().hear([]))
        timer.daemon = True
        timer.start()

    def _ready(self) -> GenreTagger:
        with self._lock:
            return self.tagger

    def hear(self, path: Path, name: str) -> tuple[Heard, Picture]:
        """A file that somebody sent. Messages call it by `name`. Raises TrackError."""
        with _called(name, path):
            tagger = self._ready()
            features = tagger.features(path)
            return tagger.decide(features), _picture(features)

    def picture(self, uri: str) -> Picture:
        """A file or an object of the catalog, decoded anew. Raises TrackError."""
        with local_copy(uri) as path, _called(uri, path):
            return _picture(self._ready().features(path))


@contextlib.contextmanager
def _called(name: str, path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise UnreadableFile(f"{name}: it is not there; is its disk mounted?") from None
    except GenrebeamError as error:
        raise type(error)(str(error).replace(str(path), name)) from None


def _picture(features: Features) -> Picture:
    levels = features.log_mel
    together = -(-len(levels) // _COLUMNS)
    whole = np.pad(levels, ((0, -len(levels) % together), (0, 0)))
    drawn = whole.reshape(-1, together, levels.shape[1]).max(axis=1).astype(np.float32)
    loudest = max(float(drawn.max()), 1.0)
    drawn = np.clip((drawn - loudest + 120) / 120, 0, 1) * 255  # 120 levels: the loudest 60 dB
    shown = base64.b64encode(drawn.astype(np.uint8).tobytes()).decode()
    return Picture(len(drawn), levels.shape[1], shown, features.audio.duration_s)


def safe_name(name: str) -> str:
    """The end of a name that somebody sent, as a file may be called everywhere."""
    last = PurePath(name.replace("\\", "/")).name
    last = "".join(char for char in last if char.isprintable())[-60:]
    return last if last.strip(".") else "upload"
