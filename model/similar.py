"""Which tracks sound alike, by their embeddings: brute force, which a million tracks allow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 65_536  # tracks in memory as float32 at a time


def similarity(embeddings: NDArray[np.int8], rows: Sequence[int]) -> NDArray[np.float32]:
    """How alike each track is to the mean of some: cosine about the catalog's mean, float32 [tracks] in -1..1.

    Args:
        embeddings: int8 [tracks, size] of one trunk.
        rows: one track or several, of which the mean is taken.

    Raises:
        ValueError: no rows.
    """
    if not len(rows):
        raise ValueError("similar to nothing: give at least one row")
    centre = np.zeros(embeddings.shape[1], np.float64)
    for start in range(0, len(embeddings), _BLOCK):
        centre += embeddings[start : start + _BLOCK].sum(axis=0, dtype=np.int64)
    mean = (centre / len(embeddings)).astype(np.float32)
    wanted = _unit(embeddings[list(rows)].astype(np.float32) - mean).mean(axis=0)
    wanted /= max(float(np.linalg.norm(wanted)), 1e-6)
    found = np.empty(len(embeddings), np.float32)
    for start in range(0, len(embeddings), _BLOCK):
        block = embeddings[start : start + _BLOCK].astype(np.float32)
        found[start : start + _BLOCK] = _unit(block - mean) @ wanted
    return found


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-6), np.float32)
