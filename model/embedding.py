"""What a network knows of a track besides its genres: an embedding, and answers that are learned on top of it.

The trunk is everything in front of the genre layers. What it knows of a chunk (the layers `TAPS` of model/network.py)
is projected to a few principal components; the mean over a track's audible chunks is its embedding, kept as one byte
for each component. A head is a linear layer over embeddings: other words, learned without hearing anything again.
"""

from __future__ import annotations

import dataclasses
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.errors import BundleError

EMBEDDING, HEAD = "embedding.npz", "head.npz"  # files of a bundle
SIZE = 128  # components: they learn as well as all 640 numbers, 64 two points worse (docs/models.md)
_LARGEST = 127


@dataclasses.dataclass(frozen=True)
class EmbeddingSpace:
    """Which embeddings can be compared, and how they are stored.

    Attributes:
        trunk: sixteen hex digits that differ where the same sound gives other embeddings.
        size: components.
        scale: what one step of a stored component is worth.

    Raises:
        ValueError: a value out of range.
    """

    trunk: str
    size: int
    scale: float

    def __post_init__(self) -> None:
        if self.size < 1 or not self.scale > 0:
            raise ValueError(f"embedding: need a size from 1 on and a scale above 0, not {self.size} and {self.scale}")

    def stored(self, embedding: NDArray[np.float32]) -> NDArray[np.int8]:
        """float32 [..., size] as bytes, rounded to steps of `scale` and clipped to -127..127."""
        return np.clip(np.rint(embedding / self.scale), -_LARGEST, _LARGEST).astype(np.int8)

    def restored(self, stored: NDArray[np.int8]) -> NDArray[np.float32]:
        """The inverse of `stored`, to within half a step."""
        return stored.astype(np.float32) * np.float32(self.scale)


@dataclasses.dataclass(frozen=True, eq=False)
class Projection:
    """From what a trunk knows to an embedding: `knowledge @ kernel + bias`.

    Attributes:
        kernel: float32 [knowledge, size].
        bias: float32 [size].
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __call__(self, knowledge: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [..., knowledge] to float32 [..., size]."""
        return knowledge @ self.kernel + self.bias

    def save(self, folder: str | os.PathLike[str]) -> None:
        _save(Path(folder, EMBEDDING), self.kernel, self.bias)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Projection:
        """Raises BundleError where the file is missing or damaged."""
        return cls(*_load(Path(folder, EMBEDDING)))


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """Logits of words, and of "none of them" behind, from embeddings: `embedding @ kernel + bias`.

    Attributes:
        kernel: float32 [size, words + 1].
        bias: float32 [words + 1].
    """

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]

    def logits(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [..., size] to float32 [..., words + 1]."""
        return embedding @ self.kernel + self.bias

    def save(self, folder: str | os.PathLike[str]) -> None:
        _save(Path(folder, HEAD), self.kernel, self.bias)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Head:
        """Raises BundleError where the file is missing or damaged."""
        return cls(*_load(Path(folder, HEAD)))


def fit_projection(knowledge: NDArray[np.float32], size: int = SIZE) -> tuple[Projection, float]:
    """Principal components of standardised numbers (Jolliffe 2002, chapter 3), not whitened: that costs ten points.

    Args:
        knowledge: float32 [tracks, numbers], the means over the audible chunks of each track.
        size: components to keep, at most; no more than there are tracks or numbers.

    Returns:
        The projection, and the scale at which the largest component of any of these tracks is 127.
    """
    mean, spread = knowledge.mean(axis=0), knowledge.std(axis=0)
    # What hardly ever changes would be blown up to the size of everything else.
    spread = np.maximum(spread, 0.01 * max(float(spread.max()), 1e-6))
    _, _, components = np.linalg.svd((knowledge - mean) / spread, full_matrices=False)
    components = components[:size]
    # A component and its negative are equally good: the sign of its largest weight decides, on every machine.
    largest = np.abs(components).argmax(axis=1)
    components *= np.sign(components[np.arange(len(components)), largest])[:, np.newaxis]
    kernel = (components / spread).T.astype(np.float32)
    projection = Projection(kernel, (-mean @ kernel).astype(np.float32))
    return projection, float(np.abs(projection(knowledge)).max() / _LARGEST)


def _save(file: Path, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
    partial = file.with_name(f".partial-{file.name}")
    with partial.open("wb") as stream:
        np.savez(stream, kernel=kernel.astype(np.float32), bias=bias.astype(np.float32))
    partial.replace(file)


def _load(file: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            kernel, bias = arrays["kernel"], arrays["bias"]
    except OSError as error:
        raise BundleError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{file}: damaged ({error}); copy the bundle again") from error
    if kernel.dtype != np.float32 or bias.shape != kernel.shape[1:] or kernel.ndim != 2:
        raise BundleError(f"{file}: holds {kernel.dtype} {kernel.shape} and {bias.shape}, not a matrix and its bias")
    return kernel, bias
