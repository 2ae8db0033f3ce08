"""What a results dataset says, gathered file by file, and as one HTML page that needs nothing else."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import heapq
import itertools
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from genrebeam.features.errors import BundleError, GenrebeamError, Gone, LedgerError
from genrebeam.model.bundle import METRICS, SHIPPED, load_config
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.corrections import Correction, read_corrections, words_of
from genrebeam.pipelines.dataset.dataset import CHECKS_FILE, JOURNAL_DIR, REJECTS_DIR, Dataset, existing
from genrebeam.pipelines.dataset.keys import keys_of
from genrebeam.pipelines.dataset.ledger import Place, newest_results_by_file, read_rows
from genrebeam.pipelines.tags.policy import Prediction, TagPolicy, decide, spelled
from genrebeam.pipelines.tags.read import TagValues

_COLUMNS = [
    "track_id", "genre", "confidence", "unknown", "duration_s", "undecoded_s", "top", "genre_before", "model_id",
    "model_fingerprint",
]  # fmt: skip
_BINS = 20  # of the confidence, from 0 to 1
_UNCERTAIN, _FOLDERS, _PAIRS, _EXAMPLES, _RUNS = 100, 200, 20, 5, 50  # listed
_CORRECTED = _DAMAGED = _CHECKS = 100  # likewise
_BLEND = 0.25  # a second genre that is heard so often makes a blend
_OUTERMOST = "(outermost folder)"

ADVICE = {
    "NotAudio": "No decoder finds sound in it. Covers and lyrics belong here; a song that does is damaged.",
    "UnreadableFile": "The disk, the network or the permissions do not give it: is everything mounted?",
    "DecodeFailed": "It looks like audio and cannot be decoded: play it; if it plays, please report it.",
    "TooShort": "Under a second of sound.",
    "TooLong": "Over 48 hours: an endless stream, or a decoding bomb.",
    "Silent": "Nothing loud enough to hear in it.",
    "DecoderCrashed": "The decoder died of it; the file is probably damaged.",
    "DecoderHung": "The decoder stopped answering; --track-timeout gives it longer.",
    "DecoderOutOfMemory": "Decoding it takes more memory than one track may.",
    "DecoderKilled": "The system, for want of memory, or somebody ended the decoder. Fewer --workers need less.",
    "DecoderStalled": "The decoder waited in vain for the file: does its disk or network answer?",
    "NotEnoughMemory": "There was too little memory here. Fewer --workers need less; see ulimit -v.",
    "WorkerLost": "Workers died with it, again and again. Please report it.",
}


@dataclasses.dataclass
class Summary:
    """A catalog in numbers. Shares are of tracks unless they say hours.

    Attributes:
        genres: genre to tracks and hours, the most frequent first.
        confidence: tracks in each twentieth of the confidence.
        uncertain: the least certain tracks: track_id, genre, confidence, top.
        folders: outermost folder to its genres with their tracks, the largest first.
        blends: pairs of genres heard in one track, and how many tracks.
        rejects: class of reasons to tracks, advice and examples.
        runs: the reports of runs, newest first.
        models: model_id and fingerprint to tracks.
        corrections, corrected: how many tracks people set right, and the latest: track_id, heard, genre, at, by.
        plan: `Outcome` value to tracks: what `apply` would do by default with the files as they were when heard.
        checks, most_doubtful: how many tags the last `genrebeam learn` contradicts, and the most doubtful: as its table
            tags-to-check.parquet has them.
        damaged, most_damaged: how many tracks could not be decoded whole, and the worst: track_id, seconds missing.
        card: metrics.json of the model that heard most, with its labels; None where it is not at hand.
    """

    place: str
    tracks: int = 0
    hours: float = 0.0
    with_genre_before: int = 0
    written: int = 0
    genres: list[tuple[str, int, float]] = dataclasses.field(default_factory=list)
    confidence: list[int] = dataclasses.field(default_factory=lambda: [0] * _BINS)
    uncertain: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    folders: list[tuple[str, int, list[tuple[str, int]]]] = dataclasses.field(default_factory=list)
    more_folders: int = 0
    blends: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    rejects: list[tuple[str, int, str, list[str]]] = dataclasses.field(default_factory=list)
    runs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    models: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    card: dict[str, Any] | None = None
    plan: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    checks: int = 0
    most_doubtful: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    damaged: int = 0
    most_damaged: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    corrections: int = 0
    corrected: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The fields of docs/json.md: the numbers of the page without its lists of tracks."""
        return {
            "tracks": self.tracks,
            "hours": self.hours,
            "with_genre_before": self.with_genre_before,
            "written": self.written,
            "genres": {genre: {"tracks": count, "hours": hours} for genre, count, hours in self.genres},
            "rejects": {error: count for error, count, _, _ in self.rejects},
            "plan": dict(self.plan),
            "corrections": self.corrections,
            "checks": self.checks,
            "damaged": self.damaged,
            "models": [{"model_id": one, "fingerprint": other, "tracks": count} for one, other, count in self.models],
        }


def summarise(place: Place) -> Summary:
    """Gather what a dataset says.

    Raises:
        UsageError: there is no such dataset.
        LedgerError: a file of it cannot be read.
    """
    dataset = existing(place)
    summary = Summary(str(dataset))
    genres: collections.Counter[str] = collections.Counter()
    hours: dict[str, float] = collections.defaultdict(float)
    models: collections.Counter[tuple[str, str]] = collections.Counter()
    folders: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    blends: collections.Counter[tuple[str, str]] = collections.Counter()
    number = itertools.count()  # decides between tracks that are equally sure
    histogram = np.zeros(_BINS, np.int64)
    uncertain: list[tuple[float, int, dict[str, Any]]] = []
    corrections = read_corrections(dataset)
    latest = sorted(corrections.items(), key=lambda item: item[1].at, reverse=True)[:_CORRECTED]
    listed = pa.array([track_id for track_id, _ in latest], pa.string())
    heard: dict[str, str] = {}
    for table in newest_results_by_file(dataset, _COLUMNS):
        found = table.filter(pc.is_in(table["track_id"], value_set=listed))
        heard |= zip(found["track_id"].to_pylist(), found["genre"].to_pylist(), strict=True)
        summary.tracks += len(table)
        summary.with_genre_before += pc.sum(pc.greater(pc.list_value_length(table["genre_before"]), 0)).as_py() or 0
        for row in table.group_by("genre").aggregate([("track_id", "count"), ("duration_s", "sum")]).to_pylist():
            genres[row["genre"]] += row["track_id_count"]
            hours[row["genre"]] += (row["duration_s_sum"] or 0.0) / 3600
        for row in table.group_by(["model_id", "model_fingerprint"]).aggregate([("track_id", "count")]).to_pylist():
            models[row["model_id"] or "", row["model_fingerprint"] or ""] += row["track_id_count"]
        confidence = np.nan_to_num(table["confidence"].to_numpy(), nan=0.0)
        histogram += np.histogram(confidence, _BINS, (0, 1))[0]
        for index in np.argsort(confidence, kind="stable")[:_UNCERTAIN]:
            row = table.slice(int(index), 1).select(["track_id", "genre", "confidence", "top"]).to_pylist()[0]
            heapq.heappush(uncertain, (-float(confidence[index]), next(number), row))
            if len(uncertain) > _UNCERTAIN:
                heapq.heappop(uncertain)
        _count_folders(table, folders)
        _count_blends(table, blends)
        _count_plan(table, corrections, summary.plan)
        missing = table.filter(pc.greater(table["undecoded_s"], 0.0))
        summary.damaged += len(missing)
        damaged = zip(missing["track_id"].to_pylist(), missing["undecoded_s"].to_pylist(), strict=True)
        summary.most_damaged = heapq.nlargest(_DAMAGED, [*summary.most_damaged, *damaged], key=lambda one: one[1])
    summary.corrections = len(corrections)
    summary.corrected = [{"track_id": name, "heard": heard.get(name), **one._asdict()} for name, one in latest]
    summary.hours = sum(hours.values())
    summary.genres = [(genre, count, hours[genre]) for genre, count in genres.most_common()]
    summary.confidence = histogram.tolist()
    summary.uncertain = [row for _, _, row in sorted(uncertain, key=lambda one: (-one[0], one[1]))]
    largest = sorted(folders.items(), key=lambda item: (-item[1].total(), item[0]))
    summary.folders = [(name, found.total(), found.most_common(4)) for name, found in largest[:_FOLDERS]]
    summary.more_folders = max(0, len(largest) - _FOLDERS)
    summary.blends = [(one, other, count) for (one, other), count in blends.most_common(_PAIRS)]
    summary.models = [(*model, count) for model, count in models.most_common()]
    summary.checks, summary.most_doubtful = _checks(dataset)
    summary.rejects = _rejects(dataset)
    summary.written = _written(dataset)
    summary.runs = _runs(dataset)
    summary.card = _card(summary)
    return summary


def to_html(summary: Summary) -> str:
    """The page."""
    import jinja2

    template = (resources.files("genrebeam.pipelines") / "data" / "report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["spelled"] = spelled
    return environment.from_string(template).render(
        s=summary,
        tracks=[(spelled(genre), count) for genre, count, _ in summary.genres],
        hours=[(spelled(genre), round(hours, 1)) for genre, _, hours in summary.genres],
    )


def _checks(dataset: Dataset) -> tuple[int, list[dict[str, Any]]]:
    """How many tags the last `learn` contradicts, and the first of them; nothing where it has never run."""
    try:
        with dataset.folder.open(CHECKS_FILE) as source:
            table = pq.read_table(source)
        rows = table.slice(0, _CHECKS).to_pylist()
        return len(table), [row | {"words": "; ".join(row["words"])} for row in rows]
    except FileNotFoundError:
        return 0, []
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise LedgerError(
            f"{dataset}/{CHECKS_FILE}: cannot be read ({error}); `genrebeam learn` makes it anew"
        ) from error


def _count_folders(table: pa.Table, folders: dict[str, collections.Counter[str]]) -> None:
    ids = table["track_id"]
    inside = pc.match_substring(ids, "/")
    names = pc.if_else(inside, pc.replace_substring_regex(ids, "/(.|\n)*$", ""), _OUTERMOST)
    grouped = pa.table({"folder": names, "genre": table["genre"]}).group_by(["folder", "genre"])
    for row in grouped.aggregate([([], "count_all")]).to_pylist():
        folders[row["folder"]][row["genre"]] += row["count_all"]


def _count_blends(table: pa.Table, blends: collections.Counter[tuple[str, str]]) -> None:
    tops = table.filter(pc.greater(pc.list_value_length(table["top"]), 1))["top"].combine_chunks()
    first, second = pc.list_element(tops, 0), pc.list_element(tops, 1)
    heard = pc.greater_equal(pc.struct_field(second, "score"), _BLEND)
    pairs = pa.table({"one": pc.struct_field(first, "genre"), "other": pc.struct_field(second, "genre")}).filter(heard)
    for row in pairs.group_by(["one", "other"]).aggregate([([], "count_all")]).to_pylist():
        blends[min(row["one"], row["other"]), max(row["one"], row["other"])] += row["count_all"]


def _count_plan(table: pa.Table, corrections: Mapping[str, Correction], plan: collections.Counter[str]) -> None:
    """What `apply` would do, decided once for all tracks that are alike: a million tracks are some hundred kinds."""
    policy, when = TagPolicy(), dt.datetime.fromtimestamp(0, dt.timezone.utc)
    known = pc.less_equal(pc.fill_null(table["unknown"], 0.0), policy.max_unknown)
    sure = pc.fill_null(pc.and_(known, pc.greater_equal(table["confidence"], policy.min_confidence)), False).to_pylist()
    kinds: collections.Counter[tuple[Any, ...]] = collections.Counter()
    rows = zip(*(table[name].to_pylist() for name in ("track_id", "genre", "genre_before")), sure, strict=True)
    for track_id, genre, before, is_sure in rows:
        said = corrections.get(track_id)
        kinds[tuple(before or ()), said.genre if said else genre, is_sure or said is not None, said is not None] += 1
    for (before, genre, is_sure, is_said), count in kinds.items():
        names = words_of(genre) if is_said else (genre,) if genre else ()
        heard = Prediction(tuple((name, float(is_sure)) for name in names), "", "", when, corrected=is_said)
        plan[decide(TagValues(before, {}), heard, policy).outcome.value] += count


def _written(dataset: Dataset) -> int:
    """Number of files with a row in the journal."""
    files = [keys_of(())]
    for table in dataset.tables(JOURNAL_DIR, ["uri", "action"]):
        files.append(keys_of(table.filter(pc.equal(table["action"], journal.APPLY))["uri"].to_pylist()))
    return len(np.unique(np.concatenate(files)))


def _rejects(dataset: Any) -> list[tuple[str, int, str, list[str]]]:
    """Of rejects that count: of each track the newest, covers and other companions left out."""
    rows = read_rows(dataset, REJECTS_DIR, ["track_id", "stage", "error", "processed_at"])
    rows = rows.filter(pc.not_equal(rows["stage"], "apply"))
    newest = {row["track_id"]: (row["stage"], row["error"]) for row in rows.to_pylist()}
    by_error: dict[str, list[str]] = collections.defaultdict(list)
    for track_id, (stage, error) in newest.items():
        if (stage, error) != ("discover", "NotAudio") and error != Gone.__name__:
            by_error[error].append(track_id)
    ordered = sorted(by_error.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(error, len(ids), ADVICE.get(error, ""), ids[:_EXAMPLES]) for error, ids in ordered]


def _runs(dataset: Any) -> list[dict[str, Any]]:
    runs = []
    names = [name for name in dataset.folder.names() if name.startswith("run-") and name.endswith(".json")]
    for name in sorted(names, reverse=True)[:_RUNS]:
        try:
            with dataset.folder.open(name) as file:
                run = json.load(file)
            hours, wall_s = run["audio_s"] / 3600, run["wall_s"]
            runs.append(
                {key: run[key] for key in ("run_id", "started_at", "status", "tagged", "rejected", "done_before")}
                | {"hours": hours, "wall_s": wall_s, "times_real_time": run["audio_s"] / wall_s if wall_s else 0.0}
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a report that cannot be read says nothing about the music
    return runs


def _card(summary: Summary) -> dict[str, Any] | None:
    """The figures of the bundle that heard most, if it is one of those that ship."""
    if not summary.models:
        return None
    try:
        bundles = {bundle.fingerprint: bundle for bundle in map(load_config, SHIPPED.values())}
        bundle = bundles.get(summary.models[0][1])
        if bundle is None:
            return None
        metrics = json.loads((bundle.path / METRICS).read_text(encoding="utf-8"))
        return {"model_id": bundle.model_id, "labels": bundle.labels, **metrics}
    except (BundleError, GenrebeamError, OSError, ValueError):
        return None
