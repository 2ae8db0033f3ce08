"""Training shards: labelled tracks to TFRecord files whose names and contents do not depend on who wrote them when.

The element of the pipeline is a shard, not a track: which tracks a shard holds follows from their ids alone, so
each is written whole by one worker, memory stays bounded, and what a killed run has finished is not done again.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import functools
import hashlib
import json
import lzma
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import UnreadableFile, UsageError
from genrebeam.features.records import Labels, encode
from genrebeam.features.schema import AudioInfo, Rejection, Track, TrackFeatures
from genrebeam.model import shardset
from genrebeam.model.shardset import ShardSet, Split
from genrebeam.model.splits import position
from genrebeam.pipelines import graph
from genrebeam.pipelines.dataset.corrections import read_corrections, words_of
from genrebeam.pipelines.dataset.dataset import existing
from genrebeam.pipelines.dataset.ledger import Place, newest_results
from genrebeam.pipelines.dataset.plan import has_begun, remove_plan, write_plan
from genrebeam.pipelines.dataset.schema import REJECTS, reject_row
from genrebeam.pipelines.engine.launcher import run_apart
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.engine.waiting import wait_for
from genrebeam.pipelines.library.labels import Claims, from_table, straddling
from genrebeam.pipelines.stages.extract import ExtractConfig, ExtractFeatures
from genrebeam.pipelines.storage.folders import Folder, folder_at
from genrebeam.pipelines.tags.words import same

_PLAN = ".genrebeam-plan-shards.parquet"
_PARTS = ".parts"  # one JSON file per finished shard, until dataset.json sums them up
_EPOCH = dt.datetime.fromtimestamp(0, dt.timezone.utc)  # shards do not depend on when they were written
_SIGNATURE = (12, 24)  # time x frequency cells of a track's signature
_SAME_CONTENT_DB = 1.5  # largest RMS distance of two signatures of one recording; re-encoding stays below 1


class FeatureSource(Protocol):
    """Where the features of a track come from. Built in the driver, opened in the worker."""

    def open(self) -> None: ...
    def read(self, track: Track) -> TrackFeatures | Rejection: ...
    def close(self) -> None: ...


class AudioSource:
    """From audio, through the very DoFn that `tag` uses."""

    def __init__(self, config: ExtractConfig) -> None:
        self._config = config

    def open(self) -> None:
        self._extract = ExtractFeatures(self._config)
        self._extract.setup()

    def read(self, track: Track) -> TrackFeatures | Rejection:
        (outcome,) = self._extract.process(track)
        return outcome.value if isinstance(outcome, beam.pvalue.TaggedOutput) else outcome

    def close(self) -> None:
        self._extract.teardown()


class StoredLogMels:
    """From `NAME.npy.xz`: uint8 [clips, mel_bands, frames], decibels below the maximum of the clip.

    The loudest level of a clip is put at +40 dB, where full-scale music has it: absolute loudness is lost in
    these files, and the network does not hear it. Computed at hop 1024; a hop of 2048 takes every second frame.

    Raises:
        UsageError: a front end that cannot be had from these files.
    """

    hop_length, decibels, peak_db, clip_s = 1024, 80.0, 40.0, 30.0

    def __init__(self, folder: Path, front_end: FrontEnd) -> None:
        stored = dataclasses.replace(FrontEnd(), hop_length=front_end.hop_length)
        if dataclasses.replace(front_end, chunk_s=4.0, chunk_step_s=2.0) != stored or front_end.hop_length % 1024:
            raise UsageError(f"{folder}: stored log-Mels have another front end: {front_end.differences(FrontEnd())}")
        self._folder, self._front_end = folder, front_end

    def open(self) -> None:
        self._set = functools.cache(self._load)  # of all sets, because tracks come in no order

    def read(self, track: Track) -> TrackFeatures | Rejection:
        name, _, row = track.uri.rpartition("#")
        try:
            stored = self._set(name)[int(row)]
        except (OSError, EOFError, lzma.LZMAError, ValueError, IndexError) as error:
            return Rejection(track, "extract", UnreadableFile.__name__, f"{track.uri}: {error}")
        step = self._front_end.hop_length // self.hop_length
        audio = AudioInfo("npy", "log-mel", self.clip_s, self._front_end.sample_rate_hz, 1)
        return TrackFeatures(track, audio, self.levels(stored.T[::step]), self._front_end.fingerprint())

    def levels(self, stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Stored levels, 0..255 over 80 dB, to the front end's."""
        decibels = stored.astype(np.float32) * (self.decibels / 255) - self.decibels + self.peak_db
        levels = np.round((decibels - self._front_end.level_floor_db) / self._front_end.level_step_db)
        return np.ascontiguousarray(np.clip(levels, 0, 255).astype(np.uint8))

    def close(self) -> None:
        del self._set

    def _load(self, name: str) -> NDArray[np.uint8]:
        with lzma.open(self._folder / name) as stream:
            array: NDArray[np.uint8] = np.load(stream)
        return array


def stored_log_mels(folder: Path, claims: Claims | None) -> tuple[list[Track], dict[str, Labels]]:
    """Tracks and labels of a folder of stored log-Mels: `NAME.npy.xz` with a `NAME.csv` of one row per clip.

    Raises:
        UsageError: no such files, or a table without track_id.
    """
    tracks: list[Track] = []
    labels: dict[str, Labels] = {}
    for file in sorted(folder.glob("*.npy.xz")):
        name = file.name.removesuffix(".npy.xz")
        table = folder / f"{name}.csv"
        by_id = from_table(table, claims or {})
        size, rows = file.stat().st_size, pyarrow.csv.read_csv(table)["track_id"].to_pylist()
        for row, clip in enumerate(map(str, rows)):
            track_id = f"{name}/{clip}"
            tracks.append(Track(f"{file.name}#{row}", track_id, size, 0.0))
            group = by_id[clip].group
            labels[track_id] = dataclasses.replace(by_id[clip], group=track_id if group == clip else group)
    if not tracks:
        raise UsageError(f"{folder}: no NAME.npy.xz with stored log-Mels in it")
    return tracks, labels


def corrected_tracks(place: Place, *, sure: float | None = None) -> tuple[list[Track], dict[str, Labels]]:
    """Tracks of a results folder, labelled by what people said of them.

    A word that means a genre of the model's becomes that genre, and spellings of one word become its oldest. The folder
    that a track lies in stands for its artist, whom results do not have.

    Args:
        sure: take tracks that nobody corrected too, where the model was at least so sure of them, 0 to 1.

    Raises:
        UsageError: no results there, or nothing to learn from.
        LedgerError: the dataset cannot be read.
    """
    dataset = existing(place)
    rows = newest_results(dataset, ["uri", "track_id", "size", "mtime", "genre", "confidence"])
    rows = rows.set_column(3, "mtime", rows["mtime"].cast(pa.int64()))
    said = read_corrections(dataset)
    names = {same(genre): genre for genre in rows["genre"].unique().to_pylist() if genre}
    for correction in sorted(said.values(), key=lambda one: one.at):
        for word in words_of(correction.genre):
            names.setdefault(same(word), word)
    tracks: list[Track] = []
    labels: dict[str, Labels] = {}
    for row in rows.to_pylist():
        track_id = row["track_id"]
        if track_id in said:
            genres = tuple(dict.fromkeys(names[same(word)] for word in words_of(said[track_id].genre)))
        elif sure is not None and row["genre"] and row["confidence"] >= sure:
            genres = (row["genre"],)
        else:
            continue
        tracks.append(Track(row["uri"], track_id, row["size"], row["mtime"] / 1e6))
        folder = track_id.rpartition("/")[0]
        labels[track_id] = Labels(genres, group=folder or track_id)
    if not tracks:
        raise UsageError(f"{dataset}: no corrections to learn from; `genrebeam correct` or `genrebeam app` makes some")
    return tracks, labels


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """One shard to write: its file name and its tracks, in the order of their ids."""

    name: str
    split: str
    tracks: tuple[tuple[Track, Labels], ...]

    def fingerprint(self, front_end: FrontEnd) -> str:
        return hashlib.sha256(repr((self, front_end.fingerprint())).encode()).hexdigest()[:16]

    def to_row(self) -> dict[str, str]:
        """As a row of a run's plan (dataset/plan.py)."""
        return {"shard": json.dumps(dataclasses.asdict(self))}

    @staticmethod
    def from_row(row: Mapping[str, str]) -> ShardPlan:
        shard = json.loads(row["shard"])
        labelled = [(Track(**t), labels | {"genres": tuple(labels["genres"])}) for t, labels in shard["tracks"]]
        tracks = tuple((track, Labels(**labels)) for track, labels in labelled)
        return ShardPlan(shard["name"], shard["split"], tracks)


def plan(tracks: Iterable[Track], labels: Mapping[str, Labels], *, tracks_per_shard: int = 128) -> list[ShardPlan]:
    """Which track goes into which shard: by a hash of its id, so that each shard is a random sample of its split.

    Tracks without an entry in `labels` are left out.
    """
    by_split: dict[str, list[tuple[Track, Labels]]] = collections.defaultdict(list)
    for track in tracks:
        if track.track_id in labels:
            by_split[labels[track.track_id].split].append((track, labels[track.track_id]))
    plans = []
    for split, members in sorted(by_split.items()):
        count = math.ceil(len(members) / tracks_per_shard)
        shards: list[list[tuple[Track, Labels]]] = [[] for _ in range(count)]
        for track, label in sorted(members, key=lambda member: member[0].track_id):
            shards[int(position(track.track_id, "shard") * count)].append((track, label))
        plans += [
            ShardPlan(f"{split}-{i:05d}-of-{count:05d}.tfrecord", split, tuple(s)) for i, s in enumerate(shards) if s
        ]
    return plans


class WriteShard(beam.DoFn):
    """Writes one shard, then what it holds beside it: a shard without that part is unfinished."""

    def __init__(self, source: FeatureSource, folder: str, front_end: FrontEnd) -> None:
        self._source, self._folder, self._front_end = source, folder, front_end

    def setup(self) -> None:
        self._source.open()

    def teardown(self) -> None:
        self._source.close()

    def process(self, shard: ShardPlan) -> Iterator[str]:
        from tensorflow.io import TFRecordWriter

        tracks, rejections = [], []
        digest = hashlib.sha256()
        folder = folder_at(self._folder)
        with folder.new(shard.name) as path, TFRecordWriter(os.fspath(path)) as writer:
            for track, labels in shard.tracks:
                outcome = self._source.read(track)
                if isinstance(outcome, Rejection):
                    rejections.append(outcome)
                    continue
                record = encode(outcome, labels)
                digest.update(hashlib.sha256(record).digest())
                writer.write(record)
                tracks.append(
                    {
                        "track_id": track.track_id,
                        "genres": labels.genres,
                        "duration_s": outcome.audio.duration_s,
                        "signature": signature(outcome.log_mel).ravel().tolist(),
                    }
                )
        part = {
            "plan": shard.fingerprint(self._front_end),
            "name": shard.name,
            "split": shard.split,
            "digest": digest.hexdigest(),
            "tracks": tracks,
            "rejects": [dataclasses.asdict(rejection) for rejection in rejections],
        }
        with (folder / _PARTS).new(f"{shard.name}.json") as path:
            path.write_text(json.dumps(part))
        yield shard.name


def signature(log_mel: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A track in 12 x 24 numbers: mean levels of its cells over time and frequency, less their mean.

    The same recording in another encoding or at another gain has nearly the same.
    """
    times = np.array_split(log_mel.astype(np.float32), min(_SIGNATURE[0], len(log_mel)), axis=0)
    cells = np.stack([[part.mean() for part in np.array_split(t.mean(axis=0), _SIGNATURE[1])] for t in times])
    cells = np.resize(cells, _SIGNATURE)
    return np.round(cells - cells.mean(), 2).astype(np.float32)


def write_shards(
    plans: list[ShardPlan],
    source: FeatureSource,
    place: str | os.PathLike[str],
    *,
    front_end: FrontEnd,
    labels: tuple[str, ...],
    engine: Engine,
) -> ShardSet:
    """Write all shards, then dataset.json and rejects.parquet.

    Args:
        place: path or URL of the folder.

    Raises:
        UsageError: nothing to write, the folder cannot be written, or workers elsewhere cannot reach what they need.
        EngineError: no worker comes up.
        RuntimeError: a worker on this machine died.
    """
    if not plans:
        raise UsageError("no track of the library has a label; compare the names in --labels with the library's")
    folder = folder_at(place)
    engine.check_places([("--output", folder.uri), *(("the track", t.uri) for p in plans for t, _ in p.tracks)])
    with folder.lock():
        folder.delete(shardset.DATASET)  # from here on the folder is unfinished
        there, wanted = set(folder.names()), {p.name for p in plans}
        finished = {name.removesuffix(".json") for name in (folder / _PARTS).names()} & there
        todo = [p for p in plans if p.name not in finished or _part(folder, p)["plan"] != p.fingerprint(front_end)]
        for stale in there - wanted:
            if stale.endswith(".tfrecord"):
                folder.delete(stale)
        if todo:
            write_plan(folder, _PLAN, [pa.Table.from_pylist([p.to_row() for p in todo])], len(todo))
            try:
                apart = functools.partial(run_apart, _run, forks=engine.forks("genrebeam.pipelines.graph"))
                run = apart if engine.is_local else _run
                run(engine, source, folder, front_end)
            finally:
                remove_plan(folder, _PLAN)
        shards = _sum_up([_part(folder, p) for p in plans], plans, folder, front_end, labels)
        with folder.new(shardset.DATASET) as path:
            path.write_text(shardset.to_json(shards), encoding="utf-8")
    return shards


def _run(engine: Engine, source: FeatureSource, folder: Folder, front_end: FrontEnd) -> None:
    """Run the graph over the plan in the folder, and wait for it."""
    pipeline = beam.Pipeline(options=PipelineOptions(engine.beam_flags()))
    build(pipeline, source, folder.uri, front_end)
    wait_for(pipeline.run(), lambda: has_begun(folder, _PLAN), engine.worker_timeout_s)


def build(pipeline: beam.Pipeline, source: FeatureSource, folder: str, front_end: FrontEnd) -> None:
    """The graph of `shards`, over the plan in the folder."""
    _ = (
        graph.read_plan(pipeline, folder, _PLAN)
        | "As shards" >> beam.Map(ShardPlan.from_row).with_output_types(ShardPlan)
        | "Write each shard" >> beam.ParDo(WriteShard(source, folder, front_end))
        | "Count shards" >> beam.combiners.Count.Globally()  # see graph.py: so that a death is noticed
    )


def _part(folder: Folder, plan: ShardPlan) -> dict[str, Any]:
    """What a finished shard holds."""
    with (folder / _PARTS).open(f"{plan.name}.json") as file:
        part: dict[str, Any] = json.load(file)
    return part


def _sum_up(
    parts: list[dict[str, Any]], plans: list[ShardPlan], folder: Folder, front_end: FrontEnd, labels: tuple[str, ...]
) -> ShardSet:
    splits = {}
    for name in sorted({part["split"] for part in parts}):
        own = [part for part in parts if part["split"] == name]
        tracks = [track for part in own for track in part["tracks"]]
        singles = collections.Counter(track["genres"][0] for track in tracks if len(track["genres"]) == 1)
        splits[name] = Split(
            files=tuple(part["name"] for part in own),
            tracks=len(tracks),
            hours=round(sum(track["duration_s"] for track in tracks) / 3600, 3),
            genres=dict(sorted(singles.items())),
            several=sum(len(track["genres"]) > 1 for track in tracks),
            unlabelled=sum(not track["genres"] for track in tracks),
        )
    rejects = [Rejection(Track(**r.pop("track")), **r) for part in parts for r in part["rejects"]]
    rows = [reject_row(rejection, "shards", _EPOCH) for rejection in rejects]
    with folder.new("rejects.parquet") as path:
        pq.write_table(pa.Table.from_pylist(rows, REJECTS), path)
    by_id = {track.track_id: label for p in plans for track, label in p.tracks}
    found = labels or tuple(sorted({g for split in splits.values() for g in split.genres}))
    digest = hashlib.sha256("".join(sorted(part["digest"] for part in parts)).encode()).hexdigest()[:16]
    notes = {
        "rejects": dict(collections.Counter(rejection.error for rejection in rejects)),
        "groups_in_several_splits": straddling(by_id),
        "duplicates": duplicates({t["track_id"]: t["signature"] for part in parts for t in part["tracks"]}, front_end),
    }
    return ShardSet(folder.uri, front_end, found, splits, digest, notes)


def duplicates(signatures: Mapping[str, list[float]], front_end: FrontEnd) -> list[list[str]]:
    """Pairs of tracks that sound the same: signatures within 1.5 dB of each other."""
    from sklearn.neighbors import NearestNeighbors

    if len(signatures) < 2:
        return []
    names = sorted(signatures)
    points = np.array([signatures[name] for name in names], np.float32) * front_end.level_step_db
    radius = _SAME_CONTENT_DB * math.sqrt(points.shape[1])
    near = NearestNeighbors(radius=radius).fit(points).radius_neighbors(points, return_distance=False)
    return [[names[i], names[j]] for i, others in enumerate(near) for j in sorted(others) if j > i]
