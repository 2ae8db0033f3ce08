"""The batched stage, as Beam sees it: a thin DoFn over model/predictor.py and model/voting.py."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.shared import Shared
from apache_beam.utils.timestamp import MIN_TIMESTAMP
from apache_beam.utils.windowed_value import WindowedValue
from numpy.typing import NDArray

from genrebeam.features.chunks import segments_of
from genrebeam.features.schema import TrackFeatures
from genrebeam.model.decision import decide
from genrebeam.model.predictor import BatchedScorer, BundlePredictor, Predictor
from genrebeam.pipelines.dataset.inputs import bundle_at
from genrebeam.pipelines.dataset.schema import tag_columns, track_columns
from genrebeam.pipelines.engine.progress import end_with_engine, report_finished
from genrebeam.pipelines.library.samples import sample_of_track


@dataclasses.dataclass(frozen=True)
class TagConfig:
    """How chunks become rows.

    Attributes:
        model_id, model_fingerprint: what to write beside each result.
        run_id: likewise.
        vote: a key of model.voting.METHODS.
        top_k: how many genres a row lists.
        progress_path: where a local driver watches; None on a cluster.
    """

    model_id: str
    model_fingerprint: str
    run_id: str
    vote: str = "mean"
    top_k: int = 3
    progress_path: str | None = None


@dataclasses.dataclass(frozen=True)
class LoadBundle:
    """Loads the network of a bundle where it is needed: in the worker process, once.

    Attributes:
        path: folder, URL or name of a bundle that ships, wherever the worker has it; None for the default one.
    """

    path: str | None
    batch_size: int = 64
    threads: int = 1

    def __call__(self) -> Predictor:
        return BundlePredictor(
            bundle_at(self.path),
            batch_size=self.batch_size,
            threads=self.threads,
        )


class PredictAndVote(beam.DoFn):
    """TrackFeatures to rows of the results dataset; batches are filled across the tracks of a bundle of work.

    Beam's own RunInference would want a model handler whose batches hold whole elements; here an element
    is a track of any length, so batches are filled with chunks instead, and the duties of RunInference
    (one model per process, loaded in setup, counters) are kept.
    """

    def __init__(self, load_predictor: Callable[[], Predictor], config: TagConfig) -> None:
        self._load, self._config = load_predictor, config
        self._shared = Shared()
        self._tracks = Metrics.counter("predict", "tracks")
        self._chunks = Metrics.counter("predict", "chunks")

    def setup(self) -> None:
        end_with_engine(self._config.progress_path)
        self._predictor = self._shared.acquire(lambda: _Holder(self._load())).predictor

    def start_bundle(self) -> None:
        self._scorer: BatchedScorer[TrackFeatures] = BatchedScorer(self._predictor)

    def process(self, features: TrackFeatures) -> Iterator[dict[str, Any]]:
        segments = segments_of(features.log_mel, self._predictor.front_end)
        for done, scores in self._scorer.push(features, segments):
            yield self._finish(done, scores)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for done, scores in self._scorer.flush():
            yield WindowedValue(self._finish(done, scores), MIN_TIMESTAMP, (GlobalWindow(),))

    def _finish(self, features: TrackFeatures, answers: NDArray[np.float32]) -> dict[str, Any]:
        self._tracks.inc()
        self._chunks.inc(len(answers))
        report_finished(self._config.progress_path, features.track.track_id, duration_s=features.audio.duration_s)
        return result_row(features, answers, self._predictor, self._config)


def result_row(
    features: TrackFeatures, answers: NDArray[np.float32], predictor: Predictor, config: TagConfig
) -> dict[str, Any]:
    """One row of the results dataset (pipelines/dataset/schema.py) from what a predictor says of a track's chunks.

    Args:
        answers: float32 [chunks, genres + 1 + embedding], as `Predictor.predict` gives them.
    """
    audio, space = features.audio, predictor.embedding
    decision = decide(
        predictor,
        answers,
        features.log_mel,
        stretches_s=audio.stretches_s,
        method=config.vote,
        top_k=config.top_k,
    )
    vote = decision.vote
    return {
        **track_columns(features.track),
        "container": audio.container,
        "codec": audio.codec,
        "duration_s": audio.duration_s,
        "sample_rate_hz": audio.sample_rate_hz,
        "channels": audio.channels,
        "undecoded_s": audio.undecoded_s,
        "coverage_s": audio.coverage_s,
        "genre": vote.genre,
        "confidence": vote.confidence,
        "unknown": vote.unknown,
        "top": [{"genre": genre, "score": score} for genre, score in vote.top],
        "labels": list(predictor.labels),
        # Two decimals are finer than a chunk's score is worth, and compress to a byte each.
        "chunk_scores": decision.timeline.round(2).tolist(),
        "chunk_starts_s": decision.starts_s.round(3).tolist(),
        "embedding": None if decision.embedding is None else decision.embedding.tolist(),
        "embedding_trunk": space and space.trunk,
        **tag_columns(features.tags),
        "model_id": config.model_id,
        "model_fingerprint": config.model_fingerprint,
        "vote": config.vote,
        "sample": sample_of_track(features.track),
        "run_id": config.run_id,
        "processed_at": dt.datetime.now(dt.timezone.utc),
    }


class _Holder:
    """What Beam's Shared keeps must be open to weak references; a Predictor need not be."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
