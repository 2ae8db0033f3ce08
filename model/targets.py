"""What else a network shall say of a track besides its genres: words and numbers from anywhere, as a table.

Words are genres of another vocabulary: one training makes a bundle of each, unless they only teach. Numbers are tags,
classes or embeddings of another network: they teach more about a song than one word does (Hinton, Vinyals & Dean 2015;
FitNets, Romero et al. 2015), songs without a genre teach too, and nothing of them is left in the bundles.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.errors import UsageError

# The head that a network always has: the labels of the shards.
GENRES = "genres"

_KEY, _TRAINED_ON = "track_id", "trained_on"
_METADATA = (b"genrebeam.note", b"genrebeam.not_in_bundle")
# How much each further genre of a track claims against the one before it. Half the songs are pop and something else:
# with as much for every genre a network says pop to nearly all of them (docs/history/models-5.md).
FURTHER = 0.5

_LIMIT = 4.0  # deviations; beyond them a number says no more than that it is extreme


@dataclasses.dataclass(frozen=True, eq=False)
class Targets:
    """A table of targets.

    Attributes:
        track_ids: whose they are, in the order of the rows.
        words: the vocabulary of each head of words, in alphabetical order.
        claims: by head of words float32 [tracks, words] as `claimed_vector` has it, or 1 for each word in a head that
            only teaches; all 0 for music of which none of them is true, NaN throughout where nothing is known.
        numbers: by head of numbers float32 [tracks, size], each column with mean 0 and deviation 1 over the tracks that
            have it, cut at four deviations; NaN throughout for a track without that head.
        trained_on: tracks whose labels the maker of the numbers has learned from.
        fingerprint: differs when anything in it differs.
        note: where the numbers come from, for the model card.
        not_in_bundle: heads of words that only teach.
    """

    track_ids: tuple[str, ...]
    words: dict[str, tuple[str, ...]]
    claims: dict[str, NDArray[np.float32]]
    numbers: dict[str, NDArray[np.float32]]
    trained_on: frozenset[str]
    fingerprint: str
    note: str = ""
    not_in_bundle: frozenset[str] = frozenset()

    @property
    def bundled(self) -> dict[str, tuple[str, ...]]:
        """The vocabulary of each head that becomes a bundle."""
        return {head: words for head, words in self.words.items() if head not in self.not_in_bundle}

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers a network gives for each head: one per word and one for "none of these", or the numbers."""
        words = {head: len(labels) + 1 for head, labels in self.words.items()}
        return words | {head: values.shape[1] for head, values in self.numbers.items()}


def load(file: Path) -> Targets:
    """Read a Parquet table: `track_id` as in the shards, and one column of lists for each head.

    Lists of strings are words, best first, an empty one says "none of them"; lists of numbers are numbers. A null means
    that nothing is known of a track. The optional boolean column `trained_on` marks tracks whose labels the maker of
    the numbers was trained on; the file's metadata `genrebeam.note` says in a line what they are, and
    `genrebeam.not_in_bundle` which heads of words only teach ("style; mood"): their words are in no order.

    Raises:
        UsageError: no such file, no Parquet table, no head, lists of unlike lengths, a head called `genres`, or a head
            of `genrebeam.not_in_bundle` that has no words.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from error
    except pa.ArrowInvalid as error:
        raise UsageError(f"{file}: not a Parquet table: {error}") from error
    if _KEY not in table.column_names:
        raise UsageError(f"{file}: needs a column {_KEY}; has {', '.join(table.column_names)}")
    note, unordered = ((table.schema.metadata or {}).get(key, b"").decode("utf-8", "replace") for key in _METADATA)
    not_in_bundle = frozenset(head.strip() for head in unordered.split(";") if head.strip())
    words, claims, numbers = {}, {}, {}
    for field in table.schema:
        if not (pa.types.is_list(field.type) or pa.types.is_fixed_size_list(field.type)):
            continue
        if field.name == GENRES:
            raise UsageError(f"{file}: a head cannot be called {GENRES}, which are the labels of the shards")
        lists = table[field.name].to_pylist()
        if pa.types.is_string(field.type.value_type):
            words[field.name] = tuple(sorted({word for each in lists for word in each or ()}))
            claims[field.name] = _claims(lists, words[field.name], FURTHER if field.name not in not_in_bundle else 1.0)
        else:
            numbers[field.name] = _standardised(_matrix(lists, f"{file}: {field.name}"))
    if not claims and not numbers:
        raise UsageError(f"{file}: no column with lists of words or numbers in it")
    if absent := sorted(not_in_bundle - words.keys()):
        raise UsageError(f"{file}: genrebeam.not_in_bundle names {', '.join(absent)}, which has no column of words")
    track_ids = tuple(map(str, table[_KEY].to_pylist()))
    trained_on: Iterable[bool | None] = table[_TRAINED_ON].to_pylist() if _TRAINED_ON in table.column_names else ()
    digest = hashlib.sha256(repr((track_ids, words, sorted(not_in_bundle))).encode())
    for name, values in (claims | numbers).items():
        digest.update(name.encode() + values.tobytes())
    return Targets(
        track_ids,
        words,
        claims,
        numbers,
        frozenset(track_id for track_id, known in zip(track_ids, trained_on, strict=False) if known),
        digest.hexdigest()[:16],
        note,
        not_in_bundle,
    )


def claimed_vector(genres: Sequence[str], labels: Sequence[str], further: float = FURTHER) -> NDArray[np.float32]:
    """What a track is claimed to be, float32 [labels]: 1 for the first of its genres among the labels, then less."""
    known = [genre for genre in dict.fromkeys(genres) if genre in labels]
    return np.array([further ** known.index(label) if label in known else 0.0 for label in labels], np.float32)


def _claims(lists: list[list[str] | None], words: tuple[str, ...], further: float) -> NDArray[np.float32]:
    unknown = [np.nan] * len(words)
    return np.array([unknown if each is None else claimed_vector(each, words, further) for each in lists], np.float32)


def _matrix(lists: list[list[Any] | None], name: str) -> NDArray[np.float32]:
    sizes = {len(values) for values in lists if values is not None}
    if len(sizes) != 1 or 0 in sizes:
        raise UsageError(f"{name}: every track needs the same number of numbers; found lists of {sorted(sizes)}")
    (size,) = sizes
    try:
        matrix = np.array([values if values is not None else [np.nan] * size for values in lists], np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}: not lists of numbers: {error}") from error
    matrix[~np.isfinite(matrix).all(axis=1)] = np.nan
    return matrix


def _standardised(values: NDArray[np.float32]) -> NDArray[np.float32]:
    there = values[np.isfinite(values[:, 0])]
    if not len(there):
        return values
    spread = there.std(axis=0)
    # A column that never changes has nothing to teach.
    scaled = (values - there.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.clip(scaled, -_LIMIT, _LIMIT).astype(np.float32)
