"""The report of a run of `genrebeam tag`: run-*.json."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import platform
from importlib import metadata
from typing import Any

import pyarrow.compute as pc

from genrebeam.features.errors import is_transient
from genrebeam.model.bundle import Bundle
from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, Dataset
from genrebeam.pipelines.dataset.ledger import newest_results_by_file
from genrebeam.pipelines.jobs.tag_options import TagOptions
from genrebeam.pipelines.library.found import is_companion


@dataclasses.dataclass
class TagReport:
    """What a run did; written as run-*.json and shown as the closing table.

    `found` counts every file of the library, `not_audio` those turned down by their suffix, `companions` those that
    were opened and are no audio by name or content, `done_before` what earlier runs had settled; the rest was analysed:
    `tagged` or `rejected`. Of the tagged ones `from_embeddings` were not heard again: learned words were scored by what
    an earlier run had kept of them. Of the rejected ones `will_retry` were not the files' fault: the same command tries
    them again. `renamed` tracks were found under a new name, `gone` ones are no longer in the library, and `unlisted`
    ones were below a folder or link that could not be followed. `reason` is why a run failed. In a dry run,
    `to_analyse` are the tracks that a run would analyse.
    """

    run_id: str
    started_at: str
    status: str = "running"
    found: int = 0
    done_before: int = 0
    renamed: int = 0
    gone: int = 0
    unlisted: int = 0
    not_audio: int = 0
    companions: int = 0
    tagged: int = 0
    from_embeddings: int = 0
    rejected: int = 0
    audio_s: float = 0.0
    wall_s: float = 0.0
    launches: int = 0
    genres: dict[str, int] = dataclasses.field(default_factory=dict)
    errors: dict[str, int] = dataclasses.field(default_factory=dict)
    will_retry: int = 0
    to_analyse: int = 0
    reason: str = ""
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The fields of docs/json.md: all but the options and the versions of packages, which run-*.json has."""
        values = dataclasses.asdict(self)
        return {name: value for name, value in values.items() if name not in ("config", "versions")}

    @property
    def reject_share(self) -> float:
        """Rejects among what was analysed in this run; companions such as covers do not count."""
        analysed = self.tagged + self.rejected
        return self.rejected / analysed if analysed else 0.0

    def sum_up(self, dataset: Dataset) -> None:
        """Count what this run has written; of a track that a retried bundle wrote twice, the newest row."""
        self.tagged, self.audio_s, genres = 0, 0.0, collections.Counter[str]()
        for table in newest_results_by_file(dataset, ["genre", "duration_s"], run_id=self.run_id):
            self.tagged += len(table)
            self.audio_s += pc.sum(table["duration_s"]).as_py() or 0.0
            genres.update({one["values"]: one["counts"] for one in pc.value_counts(table["genre"]).to_pylist()})
        errors: dict[int, str] = {}
        opened: set[int] = set()
        for table in dataset.tables(REJECTS_DIR, ["track_id", "uri", "stage", "error"], run_id=self.run_id):
            for track_id, uri, stage, error in zip(*(column.to_pylist() for column in table.columns), strict=True):
                if not is_companion(uri, stage, error):
                    errors[hash(track_id)] = error
                elif stage != "discover":
                    opened.add(hash(track_id))
        self.rejected, self.errors = len(errors), dict(collections.Counter(errors.values()))
        self.will_retry = sum(is_transient(error) for error in errors.values())
        self.companions = len(opened)
        self.genres = dict(genres)


def describe(options: TagOptions, bundle: Bundle) -> dict[str, Any]:
    values = dataclasses.asdict(options)
    values["model_id"], values["model_fingerprint"] = bundle.model_id, bundle.fingerprint
    values["front_end"] = bundle.front_end.to_dict() | {"fingerprint": bundle.front_end.fingerprint()}
    return values


def versions() -> dict[str, str]:
    names = (
        "genrebeam",
        "apache-beam",
        "ai-edge-litert",
        "tensorflow",
        "keras",
        "numpy",
        "pyarrow",
        "mutagen",
        "soundfile",
        "av",
    )
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
