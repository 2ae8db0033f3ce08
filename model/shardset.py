"""What lies in a folder of training shards: dataset.json, and the records themselves one track at a time.

Written by pipelines/jobs/shards.py, read by everything that trains or measures.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import RecordError, UsageError
from genrebeam.features.records import Labels, parse
from genrebeam.features.schema import TrackFeatures
from genrebeam.model.splits import fold_of

SCHEMA_VERSION = 1
DATASET = "dataset.json"


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a shard set.

    Attributes:
        files: names of its TFRecord files within the folder, in order.
        tracks: how many records they hold together.
        hours: of audio.
        genres: tracks of exactly one genre, per genre.
        several: tracks of which several genres are claimed.
        unlabelled: tracks without any.
    """

    files: tuple[str, ...]
    tracks: int
    hours: float
    genres: dict[str, int]
    several: int = 0
    unlabelled: int = 0


@dataclasses.dataclass(frozen=True)
class ShardSet:
    """A folder of shards, `path`, or its URL. `fingerprint` differs when any record differs; `notes` is for reports."""

    path: str
    front_end: FrontEnd
    labels: tuple[str, ...]
    splits: dict[str, Split]
    fingerprint: str
    notes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def files(self, splits: Sequence[str]) -> list[str]:
        """Paths of the TFRecord files of some splits.

        Raises:
            UsageError: a split there is not.
        """
        return [os.path.join(self.path, name) for split in splits for name in self._split(split).files]

    def tracks(self, splits: Sequence[str]) -> int:
        return sum(self._split(split).tracks for split in splits)

    def _split(self, name: str) -> Split:
        if name not in self.splits:
            raise UsageError(f"{self.path}: no split {name!r}; there are {', '.join(self.splits)}")
        return self.splits[name]


def load(path: str | os.PathLike[str]) -> ShardSet:
    """Read dataset.json.

    Raises:
        UsageError: it is missing, broken or of another schema version.
    """
    folder = Path(path)
    file = folder / DATASET
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values["schema_version"] != SCHEMA_VERSION:
            raise UsageError(
                f"{file}: schema version {values['schema_version']}, this genrebeam reads {SCHEMA_VERSION}"
            )
        return ShardSet(
            path=str(folder),
            front_end=FrontEnd.from_dict(values["front_end"]),
            labels=tuple(values["labels"]),
            splits={
                name: Split(**{**split, "files": tuple(split["files"])}) for name, split in values["splits"].items()
            },
            fingerprint=values["fingerprint"],
            notes=values.get("notes", {}),
        )
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}; give a folder that `genrebeam shards` has written") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: damaged: {error}") from error


def to_json(shards: ShardSet) -> str:
    """The contents of dataset.json, which is written last of all: a folder without it is an unfinished one."""
    values = {"schema_version": SCHEMA_VERSION} | dataclasses.asdict(shards)
    del values["path"]
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def save(shards: ShardSet) -> None:
    """Write dataset.json into a local folder."""
    partial = Path(shards.path, f".partial-{DATASET}")
    partial.write_text(to_json(shards), encoding="utf-8")
    partial.replace(Path(shards.path, DATASET))


def read(
    shards: ShardSet, splits: Sequence[str], *, fold: tuple[int, int] | None = None
) -> Iterator[tuple[TrackFeatures, Labels]]:
    """The tracks of some splits, in the order they were written.

    Args:
        fold: (k, n) for the tracks that fold k of n holds out only.

    Raises:
        UsageError: no such split.
        RecordError: a file is damaged or from another front end; it is named.
    """
    import tensorflow as tf

    for file in shards.files(splits):
        records = tf.data.TFRecordDataset(file).as_numpy_iterator()
        while True:
            try:
                record = next(records, None)
            except tf.errors.OpError as error:
                raise RecordError(f"{file}: {error.message}; make the shards anew") from error
            if record is None:
                break
            try:
                features, labels = parse(record, shards.front_end)
            except RecordError as error:
                raise RecordError(f"{file}: {error}") from error
            labels = labels or Labels(())
            if fold is None or fold_of(labels.group, fold[1]) == fold[0]:
                yield features, labels
