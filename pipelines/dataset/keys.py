"""Names as keys of 8 bytes: what a driver has to know of ten million tracks then fits into memory.

Keys are Python's own hashes. They differ between processes, so they are never written down. Of ten million names two
share a key once in 370,000 times.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.int64]


def keys_of(*columns: Iterable[object]) -> Keys:
    """A key for each row of these columns."""
    rows: Iterable[object] = columns[0] if len(columns) == 1 else zip(*columns, strict=True)
    return np.fromiter(map(hash, rows), np.int64)


def newest(keys: Keys, when: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the newest row of each key, in the order of the keys; of rows of one time the last.

    Args:
        when: int64 [rows, columns], compared column by column.
    """
    order = np.lexsort((*when.T[::-1], keys))
    ordered = keys[order]
    return order[np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)[: len(keys)])]


def not_after(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each row of one is not after that of the other; both as `when` of `newest`, of two columns."""
    (first, second), (other_first, other_second) = one.T, other.T
    return (first < other_first) | ((first == other_first) & (second <= other_second))


def find(keys: Keys, among: Keys) -> NDArray[np.int64]:
    """Where each key stands among sorted ones, or -1."""
    if not len(among):
        return np.full(len(keys), -1, np.int64)
    at = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return np.where(among[at] == keys, at, -1)
