"""What `genrebeam learn` does: a bundle of the user's own words from rows, without touching audio.

Gather words and embeddings, have model/learn.py learn and judge, write the bundle with its card and two lists:
tags that the model contradicts, and tracks that would teach it most.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import datetime as dt
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from genrebeam.features.errors import UsageError
from genrebeam.model.bundle import CARD, METRICS, SHIPPED, Bundle, load_config, save_learned
from genrebeam.model.learn import (
    LearnConfig,
    Learned,
    NothingToLearn,
    Promise,
    WordFigures,
    contradicted,
    learn,
    rescaled,
    worth_asking,
)
from genrebeam.model.splits import normal_group
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.corrections import read_corrections, words_of
from genrebeam.pipelines.dataset.dataset import CHECKS_FILE, Dataset, existing
from genrebeam.pipelines.dataset.inputs import bundle_at
from genrebeam.pipelines.dataset.journal import APPLY
from genrebeam.pipelines.dataset.ledger import newest_results_by_file
from genrebeam.pipelines.jobs.rescore import embeddings_of
from genrebeam.pipelines.library.labels import NOBODY, from_table
from genrebeam.pipelines.tags.policy import DEFAULT_USELESS, is_useless
from genrebeam.pipelines.tags.read import TagValues
from genrebeam.pipelines.tags.words import same

CHECK, NEXT = "tags-to-check.csv", "tag-next.csv"  # in the bundle
LEARNED_AT = "learned_at"  # in the metadata of the table of checks
_NEXT_COUNT = 20

CHECKS = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("artist", pa.string()),
        pa.field("title", pa.string()),
        pa.field("words", pa.list_(pa.string())),
        pa.field("score", pa.float32()),
        pa.field("heard", pa.string()),
        pa.field("heard_score", pa.float32()),
        pa.field("log_odds", pa.float32()),
    ]
)


@dataclasses.dataclass(frozen=True)
class LearnOptions:
    """A validated command line of `genrebeam learn`.

    Attributes:
        results: the folder that `genrebeam tag` has filled. output: where the bundle goes, a local folder.
        labels: a table of words, as for `genrebeam shards`, in place of corrections and tags.
        model: the bundle that made the stored embeddings; only needed if it does not ship.
        names: as TagPolicy has them, from words in tags to the words to learn.
        useless: words that say nothing.
    """

    results: str
    output: Path
    labels: Path | None = None
    model: str | None = None
    model_id: str = "my-words"
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    useless: tuple[str, ...] = DEFAULT_USELESS
    config: LearnConfig = dataclasses.field(default_factory=LearnConfig)


@dataclasses.dataclass(frozen=True, eq=False)
class Catalog:
    """The rows that have an embedding of one trunk.

    Attributes:
        embeddings: int8 [tracks, size].
        words: of each track, cleaned; none where nobody has said any.
        groups: artist and album together, else the folder; tracks of one group are never in both training and test.
        spellings: by the chosen spelling of a word, the other spellings that were merged into it.
        others: rows that have no embedding, or one of another trunk.
    """

    track_ids: tuple[str, ...]
    artists: tuple[str | None, ...]
    titles: tuple[str | None, ...]
    embeddings: NDArray[np.int8]
    words: tuple[tuple[str, ...], ...]
    groups: tuple[str, ...]
    spellings: dict[str, tuple[str, ...]]
    others: int


@dataclasses.dataclass(frozen=True, eq=False)
class LearnReport:
    """What came of it. `bundle` is None, and `promise` too, where nothing could be learned; `reason` then says why."""

    tracks: int
    with_words: int
    others: int
    figures: tuple[WordFigures, ...]
    spellings: dict[str, tuple[str, ...]]
    alike: tuple[tuple[str, str, float], ...] = ()
    promise: Promise | None = None
    bundle: Bundle | None = None
    to_check: int = 0
    next: tuple[str, ...] = ()
    reason: str = ""


def learn_words(options: LearnOptions) -> LearnReport:
    """Learn, and write the bundle.

    Raises:
        UsageError: no results there, none with an embedding, or the bundle cannot be written.
        BundleError: the bundle that made the embeddings is missing or damaged.
        LedgerError: the dataset cannot be read.
    """
    dataset = existing(options.results)
    base = _base(dataset, options.model)
    catalog = read_catalog(dataset, base, options)
    unknown = [row for row, words in enumerate(catalog.words) if not words]
    groups = [catalog.groups[row] for row in unknown]
    asked = worth_asking(catalog.embeddings[unknown], groups, _NEXT_COUNT, options.config.seed)
    ask = [unknown[i] for i in asked]
    report = LearnReport(
        tracks=len(catalog.track_ids),
        with_words=len(catalog.track_ids) - len(unknown),
        others=catalog.others,
        figures=(),
        spellings=catalog.spellings,
        next=tuple(catalog.track_ids[row] for row in ask),
    )
    try:
        learned = learn(catalog.embeddings, catalog.words, catalog.groups, options.config)
    except NothingToLearn as nothing:
        return dataclasses.replace(report, figures=nothing.figures, reason=str(nothing))
    checks = to_check(catalog, learned)
    try:
        bundle = _write(options, base, catalog, learned, checks, report.next)
        with dataset.folder.new(CHECKS_FILE) as path:
            now = dt.datetime.now(dt.timezone.utc)  # what people say later answers the checks
            pq.write_table(checks.replace_schema_metadata({LEARNED_AT: now.isoformat()}), path, compression="zstd")
    except OSError as error:
        raise UsageError(f"{error.filename or options.output}: cannot be written: {error.strerror}") from error
    return dataclasses.replace(
        report,
        figures=learned.figures,
        alike=learned.alike,
        promise=learned.promise,
        bundle=bundle,
        to_check=sum(odds > 0 for odds in checks["log_odds"].to_pylist()),
    )


def read_catalog(dataset: Dataset, base: Bundle, options: LearnOptions) -> Catalog:
    """The newest rows with an embedding of the bundle's trunk, and the words that people have for them.

    Raises:
        UsageError: there is no such row; it says what to do.
    """
    assert base.embedding is not None
    said = _Words(dataset, options)
    names = [
        "track_id", "artist", "album", "title", "embedding", "embedding_trunk", "genre_user", "genre_before",
    ]  # fmt: skip
    parts: list[NDArray[np.int8]] = []
    track_ids: list[str] = []
    people: list[tuple[str | None, str | None]] = []  # artist and album
    titles: list[str | None] = []
    words: list[tuple[str, ...]] = []
    others = 0
    for table in newest_results_by_file(dataset, names):
        is_ours = pc.and_kleene(
            pc.equal(table["embedding_trunk"], base.embedding.trunk), pc.is_valid(table["embedding"])
        )
        own = table.filter(is_ours)
        others += len(table) - len(own)
        if not len(own):
            continue
        parts.append(embeddings_of(own))
        for row in own.drop_columns(["embedding", "embedding_trunk"]).to_pylist():
            track_ids.append(row["track_id"])
            people.append((row["artist"], row["album"]))
            titles.append(row["title"])
            words.append(said.of(row))
    if not track_ids:
        raise UsageError(
            f"{dataset}: none of its {others:,} rows has an embedding of {base.model_id}; tag the library again into "
            "this folder (rows of older versions have none), or say with --model which bundle made them"
        )
    cleaned, spellings = spelled_alike(words)
    return Catalog(
        tuple(track_ids),
        tuple(artist for artist, _ in people),
        tuple(titles),
        np.concatenate(parts),
        tuple(cleaned),
        tuple(together(track_ids, people)),
        spellings,
        others,
    )


class _Words:
    """What people say of tracks: corrections first, then the genres that the files had before we wrote any."""

    def __init__(self, dataset: Dataset, options: LearnOptions) -> None:
        self._names = {same(name): words for name, words in options.names}
        self._useless = options.useless
        self._labels = None if options.labels is None else from_table(options.labels)
        self._corrections = {} if self._labels is not None else read_corrections(dataset)
        self._before = {} if self._labels is not None else _before_us(dataset)

    def of(self, row: dict[str, object]) -> tuple[str, ...]:
        track_id = str(row["track_id"])
        if self._labels is not None:
            label = self._labels.get(track_id)
            return self._clean(label.genres if label else ())
        if track_id in self._corrections:
            return self._clean(words_of(self._corrections[track_id].genre))
        user = row["genre_user"] if row["genre_user"] is not None else row["genre_before"]
        assert user is None or isinstance(user, list)
        return self._clean(user or ()) or self._clean(self._before.get(track_id, ()))

    def _clean(self, values: Iterable[str]) -> tuple[str, ...]:
        parts = [part.strip() for value in values for part in re.split(r"[;\0]", value)]
        mapped = [name for part in parts for name in self._names.get(same(part), (part,))]
        return tuple(dict.fromkeys(word for word in mapped if not is_useless(word, self._useless)))


def _before_us(dataset: Dataset) -> dict[str, tuple[str, ...]]:
    """The user's genres that stood in files before the first change of ours, by track_id."""
    found: dict[str, tuple[str, ...]] = {}
    columns = ["track_id", "at", "action", "genre_before", "provenance_before"]
    for row in journal.read(dataset, columns).to_pylist():
        if row["action"] == APPLY and row["track_id"] not in found:
            provenance = {one["name"]: tuple(one["values"]) for one in row["provenance_before"] or ()}
            found[row["track_id"]] = TagValues(tuple(row["genre_before"] or ()), provenance).user_genres
    return found


def spelled_alike(words: Sequence[tuple[str, ...]]) -> tuple[list[tuple[str, ...]], dict[str, tuple[str, ...]]]:
    """Spellings of one word as their most frequent one, and which spellings were taken for it."""
    counts = collections.Counter(word for some in words for word in some)
    by_key: dict[str, list[str]] = collections.defaultdict(list)
    for word in counts:
        by_key[same(word)].append(word)
    best = {key: max(some, key=lambda word: (counts[word], word)) for key, some in by_key.items()}
    cleaned = [tuple(dict.fromkeys(best[same(word)] for word in some)) for some in words]
    several = {best[key]: tuple(sorted(set(some) - {best[key]})) for key, some in by_key.items() if len(some) > 1}
    return cleaned, several


def together(track_ids: Sequence[str], people: Sequence[tuple[str | None, str | None]]) -> list[str]:
    """The group of each track: everything that an artist or an album connects; the folder where neither is known.

    An album is identified by its name and its folder. Where albums would link a large part of a library (compilations),
    they are ignored.
    """
    for use_albums in (True, False):
        parent: dict[str, str] = {}

        def root(name: str, parent: dict[str, str] = parent) -> str:
            while parent.setdefault(name, name) != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        ends = []
        for track_id, (artist, album) in zip(track_ids, people, strict=True):
            folder = PurePosixPath(track_id).parent.as_posix()
            names = [] if normal_group(artist or "") in NOBODY else [f"artist {normal_group(artist or '')}"]
            if album and (use_albums or not names):
                names.append(f"album {normal_group(album)} in {folder}")
            names = names or [f"folder {folder}" if folder != "." else f"track {track_id}"]
            for other in names[1:]:
                parent[root(other)] = root(names[0])
            ends.append(names[0])
        groups = [root(end) for end in ends]
        if not use_albums or max(collections.Counter(groups).values()) <= max(len(groups) / 10, 20):
            break
    return groups


def to_check(catalog: Catalog, learned: Learned) -> pa.Table:
    """Tracks whose own words are contradicted, the most doubtful first: rows of CHECKS."""
    against = contradicted(learned, catalog.words)
    doubtful = np.flatnonzero(against > 0)  # NaN is not
    order = doubtful[np.argsort(-against[doubtful], kind="stable")].tolist()
    rows = []
    for row in order:
        scores = learned.scores[row, :-1]
        own = [learned.labels.index(word) for word in catalog.words[row] if word in learned.labels]
        best = int(scores.argmax())
        rows.append(
            {
                "track_id": catalog.track_ids[row],
                "artist": catalog.artists[row],
                "title": catalog.titles[row],
                "words": list(catalog.words[row]),
                "score": float(scores[own].max()),
                "heard": learned.labels[best],
                "heard_score": float(scores[best]),
                "log_odds": float(against[row]),
            }
        )
    return pa.Table.from_pylist(rows, CHECKS)


def _base(dataset: Dataset, model: str | None) -> Bundle:
    """The bundle whose network made the embeddings: the named one, else the shipped one with the most rows."""
    if model is not None:
        return bundle_at(model)
    trunks: collections.Counter[str | None] = collections.Counter()
    for table in newest_results_by_file(dataset, ["embedding_trunk"]):
        for one in pc.value_counts(table["embedding_trunk"]).to_pylist():
            trunks[one["values"]] += one["counts"]
    shipped = [load_config(folder) for folder in SHIPPED.values()]
    rows = [0 if bundle.embedding is None else trunks[bundle.embedding.trunk] for bundle in shipped]
    return shipped[int(np.argmax(rows))]


def _write(
    options: LearnOptions, base: Bundle, catalog: Catalog, learned: Learned, checks: pa.Table, ask: Sequence[str]
) -> Bundle:
    assert base.embedding is not None
    provenance = {
        "learned": dt.datetime.now(dt.timezone.utc).date().isoformat(),
        "base": {"model_id": base.model_id, "fingerprint": base.fingerprint, "trunk": base.embedding.trunk},
        "tracks": sum(bool(words) for words in catalog.words),
        "words_from": str(options.labels) if options.labels else "corrections and the files' own tags",
        "settings": dataclasses.asdict(options.config) | {"strength": learned.strength},
    }
    bundle = save_learned(
        options.output,
        base,
        rescaled(learned.head, base.embedding.scale),
        model_id=options.model_id,
        labels=learned.labels,
        calibration=learned.calibration,
        provenance=provenance,
    )
    figures = {
        "promise": dataclasses.asdict(learned.promise),
        "words": [dataclasses.asdict(one) for one in learned.figures],
        "alike": [list(pair) for pair in learned.alike],
        "spellings": {word: list(others) for word, others in catalog.spellings.items()},
    }
    folder = Path(options.output)
    text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    (folder / METRICS).write_text(text, encoding="utf-8")
    (folder / CARD).write_text("\n".join(card(bundle, learned, options.config)) + "\n", encoding="utf-8")
    _write_csv(folder / CHECK, CHECKS.names, checks.to_pylist())
    rows = {track_id: row for row, track_id in enumerate(catalog.track_ids)}
    found = [{"track_id": one, "artist": catalog.artists[rows[one]], "title": catalog.titles[rows[one]]} for one in ask]
    _write_csv(folder / NEXT, ["track_id", "artist", "title"], found)
    return bundle


def _write_csv(file: Path, names: Sequence[str], rows: Iterable[Mapping[str, object]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "; ".join(v) if isinstance(v, list) else v for k, v in row.items()})


def card(bundle: Bundle, learned: Learned, config: LearnConfig) -> Iterator[str]:
    """MODEL_CARD.md of a learned bundle, line by line."""
    promise, base = learned.promise, bundle.provenance["base"]
    yield f"# {bundle.model_id}"
    yield ""
    yield (
        f"{len(learned.labels)} words, learned by `genrebeam learn` on {bundle.provenance['learned']} from "
        f"{bundle.provenance['tracks']:,} tracks, over embeddings of {base['model_id']} (trunk `{base['trunk']}`)."
    )
    yield f"The words come from {bundle.provenance['words_from']}. Fingerprint `{bundle.fingerprint}`."
    yield ""
    yield "## What to expect"
    yield ""
    yield (
        f"Of tracks by artists that were not learned from, the first answer is right for {promise.right:.0%} "
        f"(95 % interval {promise.right_low:.0%} to {promise.right_high:.0%})."
    )
    if promise.right_of_answered is not None:
        yield (
            f"At the defaults of `apply`, {promise.answered:.0%} of the tracks are answered, "
            f"and {promise.right_of_answered:.0%} of those answers are right."
        )
    yield ""
    yield f"Threshold: the score from which on {config.precision:.0%} of the answers are right, where there is one."
    yield ""
    yield "| word | tracks | artists | verdict | found | right | threshold | found there |"
    yield "|---|---|---|---|---|---|---|---|"
    for one in learned.figures:
        yield (
            f"| {one.word} | {one.tracks} | {one.groups} | {one.verdict} | {_share(one.recall)} | "
            f"{_share(one.precision)} | {'-' if one.threshold is None else f'{one.threshold:.2f}'} | "
            f"{_share(one.recall_there)} |"
        )
    if learned.alike:
        yield ""
        pairs = "; ".join(f"{one} and {other} ({auc:.2f})" for one, other, auc in learned.alike)
        yield f"These pairs are hardly told apart: {pairs}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
