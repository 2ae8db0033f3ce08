"""Which side of a split a track is on: decided by its group (the artist, else the track), never by chance."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def position(group: str, salt: str = "") -> float:
    """A number in 0..1 that depends on the group alone: the same on every machine, in every run.

    Python's own hash() is salted per process and must not decide a split.
    """
    digest = hashlib.sha256(f"{salt}\0{normal_group(group)}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(group: str, shares: Mapping[str, float], salt: str = "") -> str:
    """The split of a group, such that each split gets about its share of the groups.

    Raises:
        ValueError: no shares, or a negative one.
    """
    if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise ValueError(f"shares of the splits must be positive, not {dict(shares)}")
    at, end = position(group, salt) * sum(shares.values()), 0.0
    for name, share in shares.items():
        end += share
        if at < end:
            return name
    return list(shares)[-1]


def fold_of(group: str, folds: int) -> int:
    """The fold of cross-validation, 0..folds-1, in which a group is held out."""
    return min(int(position(group, "fold") * folds), folds - 1)


def normal_group(group: str) -> str:
    """An artist's name as it is compared: case, surrounding blanks and a leading article say nothing."""
    name = " ".join(group.casefold().split())
    return name.removeprefix("the ")
