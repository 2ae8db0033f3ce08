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


_SECOND, _HOUR = 1_000_000, 3_600_000_000  # in microseconds


def are_one_time(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether two times of a file, in microseconds, can be one time on two disks.

    Some disks keep whole or even seconds; some keep the local time, which summer time and time zones shift by hours.
    """
    shift = one - other
    hours = np.rint(shift / _HOUR).astype(np.int64)
    rest = shift - hours * _HOUR
    is_whole = (one % _SECOND == 0) != (other % _SECOND == 0)
    return (np.abs(hours) <= 24) & ((rest == 0) | (is_whole & (np.abs(rest) < 2 * _SECOND)))


def find(keys: Keys, among: Keys) -> NDArray[np.int64]:
    """Where each key stands among sorted ones, or -1."""
    if not len(among):
        return np.full(len(keys), -1, np.int64)
    at = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return np.where(among[at] == keys, at, -1)
