"""Labels for training shards: which track is claimed to be what, on which side of the split, of which artist.

Three sources: a table (CSV or Parquet), folders named after genres, FMA's metadata. Nothing here reads audio.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from genrebeam.features.errors import UsageError
from genrebeam.features.records import Labels
from genrebeam.model.splits import normal_group, split_of

Claims = Mapping[str, Mapping[str, Sequence[str]]]
UNLABELLED = "unlabelled"
_KEYS, _GENRES, _GROUPS = ("path", "uri", "track_id"), ("genre", "genres"), ("group", "artist")
NOBODY = {"", "unknown", "unknown artist", "various", "various artists", "va"}  # one group for each such track
# GTZAN's own layout: blues/blues.00012.au (or .wav), a hundred clips in each of ten folders.
_GTZAN_TRACKS = 100


def from_table(file: Path, claims: Claims | None = None) -> dict[str, Labels]:
    """Labels by track from a CSV or Parquet table.

    Columns: `path` (as in the library), `uri` or `track_id` says which track; `genre` or `genres` what it is
    (several separated by `;`, or a list: one of them is meant); `split` and `group` or `artist` are optional.

    Args:
        claims: what values of further columns claim, for rows without a genre: {column: {value: genres}}.

    Raises:
        UsageError: the file cannot be read or lacks a column.
    """
    table = _read(file)
    key = _first(table, _KEYS)
    if key is None or (_first(table, _GENRES) is None and claims is None):
        raise UsageError(f"{file}: needs a column {' or '.join(_KEYS)} and a column genre; has {table.column_names}")
    return {str(row[key]): _labels(row, str(row[key]), claims or {}) for row in table.to_pylist()}


def from_folders(track_ids: Iterable[str]) -> dict[str, Labels]:
    """Genres from the names of the outermost folders: `blues/blues.00000.wav` is blues.

    A library with GTZAN's file names gets GTZAN's fault-filtered split; its remaining clips go to `excluded`.
    """
    ids = list(track_ids)
    gtzan = gtzan_splits()
    stems = {track_id: ".".join(PurePosixPath(track_id).name.split(".")[:2]) for track_id in ids}
    is_gtzan = len(ids) >= _GTZAN_TRACKS and sum(stem in gtzan for stem in stems.values()) > len(ids) / 2
    found = {}
    for track_id in ids:
        parts = PurePosixPath(track_id).parts
        if len(parts) > 1:
            split = gtzan.get(stems[track_id], "excluded") if is_gtzan else ""
            found[track_id] = Labels((parts[0],), split, track_id)
    if not found:
        raise UsageError("no folders named after genres in this library; give --labels FILE instead")
    return found


def from_fma(file: Path) -> dict[str, Labels]:
    """FMA's `tracks.csv` (two header rows): `genre_top`, the given split, and the artist, by path `000/000002.mp3`.

    Raises:
        UsageError: the file is not FMA's.
    """
    import csv

    try:
        with file.open(newline="", encoding="utf-8") as stream:
            rows = csv.reader(stream)
            columns = list(zip(next(rows), next(rows), strict=True))
            next(rows)  # the name of the index
            at = {name: columns.index(name) for name in [("track", "genre_top"), ("set", "split"), ("artist", "name")]}
            names = {"training": "train", "validation": "valid"}
            found = {}
            for row in rows:
                number = f"{int(row[0]):06d}"
                genre, split, artist = (row[i] for i in at.values())
                if genre:
                    labels = Labels((genre,), names.get(split, split), artist or number)
                    found[f"{number[:3]}/{number}.mp3"] = labels
            return found
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except (ValueError, IndexError, StopIteration) as error:
        raise UsageError(f"{file}: not FMA's tracks.csv: {error}") from error


def gtzan_splits() -> dict[str, str]:
    """GTZAN's fault-filtered split (Kereliuk, Sturm & Larsen 2015) as published: clip such as blues.00012 to split."""
    ranges = json.loads((resources.files("genrebeam.pipelines") / "data" / "gtzan_filtered.json").read_text())
    return {
        f"{genre}.{number:05d}": split
        for split, genres in ranges.items()
        for genre, text in genres.items()
        for part in text.split()
        for number in range(int(part.split("-")[0]), int(part.split("-")[-1]) + 1)
    }


def gtzan10_claims() -> Claims:
    """Which of GTZAN's ten the artists of AllMusic and Emotify are known for; else Emotify's folder.

    Artists of whom no genre of the ten can be said, or who are not known to us, are left out: AllMusic's own
    genres ("Pop/Rock; Electronic") say too little of a clip.
    """
    text = (resources.files("genrebeam.pipelines") / "data" / "claims_gtzan10.json").read_text(encoding="utf-8")
    claims: Claims = json.loads(text)
    return claims


def assign_splits(labels: Mapping[str, Labels], shares: Mapping[str, float]) -> dict[str, Labels]:
    """Give tracks without a split one: their artist's where another track has it, else by a hash of the artist.

    Tracks without any genre go to the split `unlabelled`: nothing can be measured on them.

    Raises:
        ValueError: shares that are none.
    """
    given: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for label in labels.values():
        if label.split:
            given[normal_group(label.group)][label.split] += 1
    assigned = {}
    for track_id, label in labels.items():
        split = label.split
        if not split and not label.genres:
            split = UNLABELLED
        elif not split:
            known = given.get(normal_group(label.group))
            split = known.most_common(1)[0][0] if known else split_of(label.group, shares)
        assigned[track_id] = dataclasses.replace(label, split=split)
    return assigned


def straddling(labels: Mapping[str, Labels]) -> dict[str, list[str]]:
    """Groups that stand on several sides of the split, with the sides: leaks, unless the split was given so."""
    sides: dict[str, set[str]] = collections.defaultdict(set)
    for label in labels.values():
        if label.split not in (UNLABELLED, "excluded"):
            sides[normal_group(label.group)].add(label.split)
    return {group: sorted(splits) for group, splits in sorted(sides.items()) if len(splits) > 1}


def _read(file: Path) -> pa.Table:
    try:
        return pq.read_table(file) if file.suffix.lower() == ".parquet" else pyarrow.csv.read_csv(file)
    except OSError as error:
        raise UsageError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise UsageError(f"{file}: not a table: {error}") from error


def _first(table: pa.Table, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in table.column_names), None)


def _labels(row: dict[str, Any], key: str, claims: Claims) -> Labels:
    genres = _values(row, _GENRES)
    for column, meanings in claims.items():
        if not genres and row.get(column):
            # The whole value first: "Harry Connick; Jr." is one artist.
            whole = str(row[column]).strip()
            values = (whole,) if whole in meanings else _values(row, (column,))
            genres = tuple(sorted({g for value in values for g in meanings.get(value, ())}))
    group = next((str(row[name]).strip() for name in _GROUPS if row.get(name)), "")
    return Labels(genres, str(row.get("split") or ""), key if group.casefold() in NOBODY else group)


def _values(row: dict[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        value = row.get(name)
        if value:
            parts = value if isinstance(value, list) else str(value).split(";")
            return tuple(str(part).strip() for part in parts if str(part).strip())
    return ()
