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
from genrebeam.pipelines.dataset.dataset import (
    CHECKS_FILE,
    JOURNAL_DIR,
    REJECTS_DIR,
    RESULTS_DIR,
    Dataset,
    existing,
)
from genrebeam.pipelines.dataset.keys import Keys, find, keys_of
from genrebeam.pipelines.dataset.ledger import Place, newest_results_by_file, read_rows
from genrebeam.pipelines.tags.colours import colour_of
from genrebeam.pipelines.tags.policy import Prediction, TagPolicy, decide_write, spelled
from genrebeam.pipelines.tags.read import TagValues
from genrebeam.pipelines.tags.words import same

_COLUMNS = [
    "track_id", "genre", "confidence", "unknown", "duration_s", "undecoded_s", "top", "genre_before", "genre_user",
    "artist", "album", "model_id", "model_fingerprint", "processed_at",
]  # fmt: skip
_BINS = 20  # of the confidence, from 0 to 1
_UNCERTAIN, _FOLDERS, _PAIRS, _EXAMPLES, _RUNS = 100, 200, 20, 5, 50  # listed
_CORRECTED = _DAMAGED = _CHECKS = _CHANGES = 100  # likewise
_ARTISTS = _ALBUMS = 200
_SEPARATOR = "\x1f"  # between genres of one file, in a key
_BLEND = 0.25  # a second genre that is heard so often makes a blend
_OUTERMOST = "(outermost folder)"

Groups = dict[str, collections.Counter[str]]

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
class Group:
    """A folder, artist or album: its tracks, and its most frequent genres with theirs."""

    name: str
    tracks: int
    genres: list[tuple[str, int]]


@dataclasses.dataclass
class News:
    """What the newest run has brought.

    Attributes:
        run_id: of that run. since: when the newest row of the runs before was made.
        new: tracks that no run had heard before. again: tracks that were heard once more.
        changed: of the latter those of another genre now; with the first of them, as (track_id, before, now).
        corrected: tracks that people corrected since.
    """

    run_id: str
    since: dt.datetime
    new: int
    again: int
    changed: int
    changes: list[tuple[str, str, str]]
    corrected: int


@dataclasses.dataclass
class Summary:
    """A catalog in numbers. Shares are of tracks unless they say hours.

    Attributes:
        genres: genre to tracks and hours, the most frequent first.
        confidence: tracks in each twentieth of the confidence.
        uncertain: the least certain tracks: track_id, genre, confidence, top.
        folders, artists, albums: outermost folder, artist, artist and album to genres with their tracks, the largest
            first; with how many smaller ones there are. Artists and albums are those of the files' own tags.
        without_artist: tracks whose tags name no artist.
        blends: pairs of genres heard in one track, and how many tracks.
        rejects: class of reasons to tracks, advice and examples.
        runs: the reports of runs, newest first.
        writings: what the runs of `apply` and `undo` did, newest first: time, and files by `Outcome` value.
        news: what the newest run has brought; None where there is one run only.
        models: model_id and fingerprint to tracks.
        corrections, corrected: how many tracks people set right, and the latest: track_id, heard, genre, at, by.
        with_genre_before: tracks whose files have a genre that is not ours.
        written: files in which a genre of ours stands; `undo` takes them out.
        plan: `Outcome` value to tracks: what `apply` would do by default with the files as they were when they were
            heard, or as it has left them since.
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
    folders: list[Group] = dataclasses.field(default_factory=list)
    more_folders: int = 0
    artists: list[Group] = dataclasses.field(default_factory=list)
    more_artists: int = 0
    without_artist: int = 0
    albums: list[Group] = dataclasses.field(default_factory=list)
    more_albums: int = 0
    blends: list[tuple[str, str, int]] = dataclasses.field(default_factory=list)
    rejects: list[tuple[str, int, str, list[str]]] = dataclasses.field(default_factory=list)
    runs: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    writings: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    news: News | None = None
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
    folders: Groups = collections.defaultdict(collections.Counter)
    artists: Groups = collections.defaultdict(collections.Counter)
    albums: Groups = collections.defaultdict(collections.Counter)
    blends: collections.Counter[tuple[str, str]] = collections.Counter()
    number = itertools.count()  # decides between tracks that are equally sure
    histogram = np.zeros(_BINS, np.int64)
    uncertain: list[tuple[float, int, dict[str, Any]]] = []
    number = itertools.count()  # no two rows compare as equal, whatever their confidence
    corrections = read_corrections(dataset)
    latest = sorted(corrections.items(), key=lambda item: item[1].at, reverse=True)[:_CORRECTED]
    listed = pa.array([track_id for track_id, _ in latest], pa.string())
    heard: dict[str, str] = {}
    left = _left_by_apply(dataset)
    have_result = [keys_of(())]
    for table in newest_results_by_file(dataset, [*_COLUMNS, *(["labels"] if corrections else [])]):
        have_result.append(keys_of(table["track_id"].to_pylist()))
        found = table.filter(pc.is_in(table["track_id"], value_set=listed))
        heard |= zip(found["track_id"].to_pylist(), found["genre"].to_pylist(), strict=True)
        summary.tracks += len(table)
        theirs = pc.coalesce(table["genre_user"], table["genre_before"])
        summary.with_genre_before += pc.sum(pc.greater(pc.list_value_length(theirs), 0)).as_py() or 0
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
        _count_tags(table, artists, albums)
        summary.without_artist += table["artist"].null_count
        _count_plan(table, corrections, left, summary.plan)
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
    summary.folders, summary.more_folders = _largest(folders, _FOLDERS)
    summary.artists, summary.more_artists = _largest(artists, _ARTISTS)
    summary.albums, summary.more_albums = _largest(albums, _ALBUMS)
    summary.blends = [(one, other, count) for (one, other), count in blends.most_common(_PAIRS)]
    summary.models = [(*model, count) for model, count in models.most_common()]
    summary.checks, summary.most_doubtful = _checks(dataset)
    summary.rejects = _rejects(dataset, np.sort(np.concatenate(have_result)))
    summary.written = sum(bool(one.values.written) for one in left.values())
    summary.runs = _runs(dataset)
    summary.writings = _writings(dataset)
    summary.news = _news(dataset, corrections)
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
        shown=lambda genre: "; ".join(map(spelled, words_of(genre or ""))) or "–",
        colour_of=colour_of,
        policy=TagPolicy(),
        tracks=[(genre, count) for genre, count, _ in summary.genres],
        hours=[(genre, round(hours, 1)) for genre, _, hours in summary.genres],
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


def _count_folders(table: pa.Table, folders: Groups) -> None:
    ids = table["track_id"]
    inside = pc.match_substring(ids, "/")
    names = pc.if_else(inside, pc.replace_substring_regex(ids, "/(.|\n)*$", ""), _OUTERMOST)
    grouped = pa.table({"folder": names, "genre": table["genre"]}).group_by(["folder", "genre"])
    for row in grouped.aggregate([([], "count_all")]).to_pylist():
        folders[row["folder"]][row["genre"]] += row["count_all"]


def _count_tags(table: pa.Table, artists: Groups, albums: Groups) -> None:
    """By artist, and by album with its artist, as the tags name them."""
    counted = table.group_by(["artist", "album", "genre"]).aggregate([([], "count_all")])
    columns = (counted[name].to_pylist() for name in ("artist", "album", "genre", "count_all"))
    for artist, album, genre, count in zip(*columns, strict=True):
        if artist:
            artists[artist][genre] += count
        if album:
            albums[f"{artist} – {album}" if artist else album][genre] += count


def _largest(groups: Groups, most: int) -> tuple[list[Group], int]:
    """The groups with the most tracks, and how many others there are."""
    largest = heapq.nsmallest(most, groups.items(), key=lambda item: (-item[1].total(), item[0]))
    shown = [Group(name, found.total(), found.most_common(4)) for name, found in largest]
    return shown, len(groups) - len(shown)


def _count_blends(table: pa.Table, blends: collections.Counter[tuple[str, str]]) -> None:
    tops = table.filter(pc.greater(pc.list_value_length(table["top"]), 1))["top"].combine_chunks()
    first, second = pc.list_element(tops, 0), pc.list_element(tops, 1)
    heard = pc.greater_equal(pc.struct_field(second, "score"), _BLEND)
    pairs = pa.table({"one": pc.struct_field(first, "genre"), "other": pc.struct_field(second, "genre")}).filter(heard)
    for row in pairs.group_by(["one", "other"]).aggregate([([], "count_all")]).to_pylist():
        blends[min(row["one"], row["other"]), max(row["one"], row["other"])] += row["count_all"]


@dataclasses.dataclass(frozen=True)
class _Left:
    """A file as the newest change of ours has left it; of the provenance only what `decide_write` looks at."""

    at: dt.datetime
    values: TagValues


def _left_by_apply(dataset: Dataset) -> dict[str, _Left]:
    """What stands in the files that `apply` or `undo` have changed, by track_id; raises LedgerError."""
    left: dict[str, _Left] = {}
    for table in dataset.tables(JOURNAL_DIR, ["track_id", "at", "action", "genre_after", "provenance_after"]):
        for row in table.to_pylist():
            known = left.get(row["track_id"])
            if row["action"] != journal.PUT and (known is None or known.at <= row["at"]):
                names = ("genre", "confidence")
                ours = {one["name"]: tuple(one["values"]) for one in row["provenance_after"] if one["name"] in names}
                values = TagValues(tuple(row["genre_after"]), ours)
                left[row["track_id"]] = _Left(row["at"], values)
    return left


def _count_plan(
    table: pa.Table,
    corrections: Mapping[str, Correction],
    left: Mapping[str, _Left],
    plan: collections.Counter[str],
) -> None:
    """What `apply` would do, decided once for all tracks that are alike: a million tracks are some hundred kinds."""
    policy, when = TagPolicy(), dt.datetime.fromtimestamp(0, dt.timezone.utc)
    known = pc.less_equal(pc.fill_null(table["unknown"], 0.0), policy.max_unknown)
    sure = pc.fill_null(pc.and_(known, pc.greater_equal(table["confidence"], policy.min_confidence)), False)
    kinds: collections.Counter[tuple[Any, ...]] = collections.Counter()
    table = table.append_column("sure", sure)
    is_special = pc.is_in(table["track_id"], value_set=pa.array({*left, *corrections}, pa.string()))
    joined = pc.fill_null(pc.binary_join(table["genre_before"], _SEPARATOR), "")
    alike = pa.table({"genre": table["genre"], "before": joined, "sure": sure}).filter(pc.invert(is_special))
    for row in alike.group_by(["genre", "before", "sure"]).aggregate([([], "count_all")]).to_pylist():
        now = tuple(row["before"].split(_SEPARATOR)) if row["before"] else ()
        words = (row["genre"],) if row["genre"] else ()
        kinds[now, ((), frozenset()), words, row["sure"], False, frozenset()] += row["count_all"]
    for row in table.filter(is_special).to_pylist():
        now = tuple(row["genre_before"] or ())
        ours: tuple[tuple[str, ...], frozenset[str]] = ((), frozenset())
        after = left.get(row["track_id"])
        # A track that was heard again later shows whether somebody has changed the genre meanwhile.
        if after is not None and (after.at >= row["processed_at"] or after.values.genres == now):
            now, ours = after.values.genres, (after.values.written, after.values.added)
        if (said := corrections.get(row["track_id"])) is not None:
            kinds[now, ours, words_of(said.genre), True, True, frozenset(row["labels"] or ())] += 1
        else:
            kinds[now, ours, (row["genre"],) if row["genre"] else (), row["sure"], False, frozenset()] += 1
    for (now, (written, added), words, is_sure, is_said, labels), count in kinds.items():
        provenance = {"genre": written, "confidence": tuple(f"{word} 1.00" for word in added)} if written else {}
        spoken = {same(label): label for label in labels}
        genres = tuple((spoken.get(same(word), word), float(is_sure)) for word in words)
        heard = Prediction(genres, "", "", when, corrected=is_said, labels=labels)
        plan[decide_write(TagValues(now, provenance), heard, policy).outcome.value] += count


def _rejects(dataset: Any, have_result: Keys) -> list[tuple[str, int, str, list[str]]]:
    """Of tracks that have no result: the newest reject of each, covers and other companions left out."""
    rows = read_rows(dataset, REJECTS_DIR, ["track_id", "stage", "error", "processed_at"])
    rows = rows.filter(pc.not_equal(rows["stage"], "apply"))
    rows = rows.filter(pa.array(find(keys_of(rows["track_id"].to_pylist()), have_result) < 0))
    newest = {row["track_id"]: (row["stage"], row["error"]) for row in rows.to_pylist()}
    by_error: dict[str, list[str]] = collections.defaultdict(list)
    for track_id, (stage, error) in newest.items():
        if (stage, error) != ("discover", "NotAudio") and error != Gone.__name__:
            by_error[error].append(track_id)
    ordered = sorted(by_error.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(error, len(ids), ADVICE.get(error, ""), ids[:_EXAMPLES]) for error, ids in ordered]


def _writings(dataset: Dataset) -> list[dict[str, Any]]:
    """What finished runs of `apply` and `undo` did, the newest first."""
    folder, found = dataset.folder / JOURNAL_DIR, []
    for name in sorted((name for name in folder.names() if name.endswith(".json")), reverse=True)[:_RUNS]:
        try:
            with folder.open(name) as file:
                run = json.load(file)
            found.append({"started_at": run["started_at"], "outcomes": dict(run["outcomes"])})
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a killed run, which has no figures
    return found


def _news(dataset: Dataset, corrections: Mapping[str, Correction]) -> News | None:
    """Compare the newest run with those before it; raises LedgerError."""
    table = dataset.rows(RESULTS_DIR, ["track_id", "genre", "run_id", "processed_at"]).sort_by("processed_at")
    if not len(table):
        return None
    run_id = table["run_id"][-1].as_py()
    is_new = pc.equal(table["run_id"], run_id)
    late, early = table.filter(is_new), table.filter(pc.invert(is_new))
    if not len(early):
        return None
    was = dict(zip(early["track_id"].to_pylist(), early["genre"].to_pylist(), strict=True))
    now = dict(zip(late["track_id"].to_pylist(), late["genre"].to_pylist(), strict=True))
    again = {track_id: genre for track_id, genre in now.items() if track_id in was}
    changes = sorted((name, was[name] or "", genre or "") for name, genre in again.items() if was[name] != genre)
    since = early["processed_at"][-1].as_py()
    corrected = sum(one.at > since for one in corrections.values())
    return News(run_id, since, len(now) - len(again), len(again), len(changes), changes[:_CHANGES], corrected)


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
