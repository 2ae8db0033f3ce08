"""A catalog in numbers, its rejected files with advice, and the figures of a model."""

from __future__ import annotations

import collections
import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from genrebeam.app.catalog import CatalogView
from genrebeam.features.errors import UsageError
from genrebeam.model.bundle import METRICS, Bundle
from genrebeam.pipelines.dataset.corrections import words_of
from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, Dataset
from genrebeam.pipelines.dataset.ledger import read_rows
from genrebeam.pipelines.jobs.report import ADVICE
from genrebeam.pipelines.tags.words import same

_BINS = 10  # of the confidence
_FOLDERS, _DAMAGED, _LISTED = 200, 100, 200


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A catalog in numbers.

    Attributes:
        genres: genre that counts to tracks, the most frequent first; None: nothing was heard.
        confidence: tracks in each tenth of the confidence.
        folders: outermost folder, tracks, its most frequent genres; the largest first.
        said: tracks that people corrected or confirmed. right: of those, where the model had heard what they said.
        damaged: tracks of which seconds could not be decoded, and those seconds; the longest first.
    """

    tracks: int
    hours: float
    untagged: int
    differs: int
    genres: dict[str | None, int]
    confidence: list[int]
    folders: list[tuple[str, int, list[tuple[str | None, int]]]]
    said: int
    right: int
    damaged: list[tuple[str, float]]


def numbers(view: CatalogView) -> Numbers:
    """Counted anew at each call; a hundred thousand tracks take a tenth of a second or two."""
    tracks, counting = view.tracks, view.counting
    names = tracks["track_id"]
    outermost = pc.replace_substring_regex(names, pattern="(?s)/.*", replacement="/")
    folder = pc.if_else(pc.match_substring(names, "/"), outermost, "")
    grouped = pa.table({"folder": folder, "genre": counting}).group_by(["folder", "genre"])
    by_folder: dict[str, collections.Counter[str | None]] = collections.defaultdict(collections.Counter)
    genres: collections.Counter[str | None] = collections.Counter()
    for row in grouped.aggregate([([], "count_all")]).to_pylist():
        by_folder[row["folder"]][row["genre"]] += row["count_all"]
        genres[row["genre"]] += row["count_all"]
    largest = sorted(by_folder.items(), key=lambda item: (-item[1].total(), item[0]))[:_FOLDERS]
    missing = pc.fill_null(tracks["undecoded_s"], 0.0).to_numpy()
    damaged = np.argsort(-missing, kind="stable")[:_DAMAGED]
    damaged = damaged[missing[damaged] > 0]
    heard = tracks["genre"].take(pa.array(list(view.said), pa.int64())).to_pylist()
    judged = [
        same(genre or "") in {same(word) for word in words_of(said)}
        for genre, said in zip(heard, view.said.values(), strict=True)
    ]
    return Numbers(
        tracks=len(tracks),
        hours=(pc.sum(tracks["duration_s"]).as_py() or 0.0) / 3600,
        untagged=int(tracks.untagged.sum()),
        differs=int(view.differs.sum()),
        genres=dict(genres.most_common()),
        confidence=np.histogram(tracks.confidence, _BINS, (0, 1))[0].tolist(),
        folders=[(name, found.total(), found.most_common(3)) for name, found in largest],
        said=len(judged),
        right=sum(judged),
        damaged=list(zip(names.take(pa.array(damaged)).to_pylist(), missing[damaged].tolist(), strict=True)),
    )


@dataclasses.dataclass(frozen=True)
class Rejected:
    """Files without a result for one reason: how many, what to do, and the first of them with their messages."""

    error: str
    files: int
    advice: str
    first: list[tuple[str, str]]


def rejected(dataset: Dataset, view: CatalogView) -> list[Rejected]:
    """The files that have no result, by reason, the most frequent first; raises LedgerError."""
    table = read_rows(dataset, REJECTS_DIR, ["track_id", "stage", "error", "message", "processed_at"])
    table = table.filter(pc.not_equal(table["stage"], "apply"))
    newest = {row["track_id"]: row for row in table.to_pylist()}
    known = view.tracks.rows_of(newest).tolist()
    by_error: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for (track_id, row), at in zip(newest.items(), known, strict=True):
        if at < 0:
            by_error[row["error"] or ""].append((track_id, row["message"] or ""))
    ordered = sorted(by_error.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Rejected(error, len(files), ADVICE.get(error, ""), files[:_LISTED]) for error, files in ordered]


def figures_of(bundle: Bundle) -> dict[str, Any]:
    """The metrics.json of a bundle; raises UsageError where it is missing or incomplete."""
    file = bundle.path / METRICS
    try:
        figures = json.loads(file.read_text(encoding="utf-8"))
        if "promise" not in figures:
            for name in (
                "tracks",
                "track_accuracy",
                "top3_accuracy",
                "macro_f1",
                "per_genre",
                "confusion",
                "calibration",
            ):
                figures[name]
    except FileNotFoundError:
        raise UsageError(
            f"{bundle.model_id} has not been measured: `genrebeam evaluate {bundle.path} SHARDS --output REPORT "
            f"--card {bundle.path}` does that"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{file}: cannot be read ({type(error).__name__}); evaluate the bundle again") from error
    return dict(figures)
