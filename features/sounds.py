"""Sound that is no file on a disk, samples or an open file, as a temporary file that the decoder can open."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.errors import UsageError

# A path; a file that is open for reading bytes; or samples: [samples] or [samples, channels], floats in -1 to 1 or
# integers of any width.
Sound = str | os.PathLike[str] | BinaryIO | NDArray[Any]
_MOST_CHANNELS = 64  # more are taken for samples in the wrong order
_BLOCK = 1 << 20  # samples to write at a time


class Named(NamedTuple):
    """A file, and the name by which messages speak of it."""

    path: str
    name: str


def is_one(sounds: object) -> bool:
    """Whether this is one sound, not several."""
    return isinstance(sounds, str | os.PathLike | np.ndarray) or hasattr(sounds, "read")


@contextlib.contextmanager
def as_file(sound: Sound, sample_rate_hz: int | None = None) -> Iterator[Named]:
    """A sound as a file, which is gone afterwards unless it was one before.

    Args:
        sample_rate_hz: of samples; others have their own.

    Raises:
        UsageError: samples without a rate or of a strange shape, a file of text, or no sound at all.
    """
    if isinstance(sound, str | os.PathLike):
        yield Named(os.fspath(sound), os.fspath(sound))
        return
    with tempfile.TemporaryDirectory(prefix="genrebeam-") as folder:
        path = Path(folder, "sound")
        if isinstance(sound, np.ndarray):
            name = "the array"
            _write_samples(sound, sample_rate_hz, path)
        elif hasattr(sound, "read"):
            given = getattr(sound, "name", None)
            name = given if isinstance(given, str) else "the open file"
            with path.open("wb") as copy:
                try:
                    shutil.copyfileobj(sound, copy)
                except TypeError as error:
                    raise UsageError(f"{name}: it was opened as text; open it with mode 'rb'") from error
        else:
            raise UsageError(f"{type(sound).__name__}: give a path, an open file, or an array of samples")
        yield Named(str(path), name)


def _write_samples(samples: NDArray[Any], sample_rate_hz: int | None, path: Path) -> None:
    import soundfile

    if sample_rate_hz is None or sample_rate_hz <= 0:
        raise UsageError("an array has no sample rate: give sample_rate_hz")
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "fiu":
        raise UsageError(f"an array of {samples.dtype} {samples.shape}: give numbers, [samples] or [samples, channels]")
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    if not 1 <= channels <= _MOST_CHANNELS:
        raise UsageError(f"an array of {channels} channels: give [samples, channels]; .T turns it")
    offset, scale = 0.0, 1.0
    if samples.dtype.kind != "f":
        limits = np.iinfo(samples.dtype)
        offset, scale = (limits.max + 1 + limits.min) / 2, (limits.max - limits.min + 1) / 2
    with soundfile.SoundFile(path, "w", int(sample_rate_hz), channels, "FLOAT", format="RF64") as file:
        for start in range(0, len(samples), _BLOCK):
            file.write(((samples[start : start + _BLOCK] - offset) / scale).astype(np.float32))
