"""The whole shape on one screen: tracks to features to rows to files. Launching is elsewhere (pipelines/jobs)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.io import ReadAllFromTFRecord, WriteToParquet, WriteToTFRecord

from features.records import encode
from features.schema import Rejection, Track, TrackFeatures
from model.predictor import Predictor
from pipelines.dataset.schema import REJECTS, RESULTS, reject_row
from pipelines.stages.extract import REJECTED, ExtractConfig, ExtractFeatures, ParseFeatures
from pipelines.stages.predict import PredictAndVote, TagConfig


class Extracted(NamedTuple):
    """What `extract_features` returns: TrackFeatures, and Rejections."""

    features: beam.PCollection[TrackFeatures]
    rejections: beam.PCollection[Rejection]


def read_tracks(pipeline: beam.Pipeline, plan: str) -> beam.PCollection[Track]:
    """The tracks of a wave's plan, a Parquet file of Track fields, spread over all workers."""
    return (
        pipeline
        | "Read the plan" >> beam.io.ReadFromParquet(plan)
        | "As tracks" >> beam.Map(lambda row: Track(**row)).with_output_types(Track)
        | "Spread tracks over workers" >> beam.Reshuffle()
    )


def extract_features(tracks: beam.PCollection[Track], config: ExtractConfig) -> Extracted:
    """Decode every track to its log-Mel. Used by `tag` and by `shards`."""
    outputs = tracks | "Extract log-Mel features" >> beam.ParDo(ExtractFeatures(config)).with_outputs(
        REJECTED, main="features"
    )
    return Extracted(outputs.features, outputs[REJECTED])


def read_features(pipeline: beam.Pipeline, files: list[str], parse: ParseFeatures) -> beam.PCollection[TrackFeatures]:
    """Features that an earlier run stored, spread over all workers."""
    return (
        pipeline
        | "Name feature files" >> beam.Create(files)
        | "Spread files over workers" >> beam.Reshuffle()
        | "Read stored features" >> ReadAllFromTFRecord()
        | "Parse stored features" >> beam.ParDo(parse)
    )


def tag_tracks(
    features: beam.PCollection[TrackFeatures], load_predictor: Callable[[], Predictor], config: TagConfig
) -> beam.PCollection[dict[str, Any]]:
    """Score the chunks of every track and let them vote: rows of the results dataset."""
    return features | "Predict and vote" >> beam.ParDo(PredictAndVote(load_predictor, config))


def write_results(rows: beam.PCollection[dict[str, Any]], prefix: str, *, shards: int = 0) -> None:
    """Rows to Parquet files that begin with `prefix`; 0 shards leave the number to the runner."""
    _write_parquet(rows, "results", prefix, RESULTS, shards)


def write_rejects(rejections: beam.PCollection[Rejection], prefix: str, run_id: str, *, shards: int = 0) -> None:
    """Rejections to Parquet files that begin with `prefix`."""
    rows = rejections | "As reject rows" >> beam.Map(
        lambda rejection: reject_row(rejection, run_id, dt.datetime.now(dt.timezone.utc))
    )
    _write_parquet(rows, "rejects", prefix, REJECTS, shards)


def write_features(features: beam.PCollection[TrackFeatures], prefix: str, *, shards: int = 0) -> None:
    """Features to TFRecord files that begin with `prefix`, one record per track."""
    _ = (
        features
        | "Encode features" >> beam.Map(encode).with_output_types(bytes)
        | "Write features" >> WriteToTFRecord(prefix, file_name_suffix=".tfrecord", num_shards=shards)
    )


def _write_parquet(rows: beam.PCollection, what: str, prefix: str, schema: pa.Schema, shards: int) -> None:
    _ = rows | f"Write {what}" >> WriteToParquet(
        prefix, schema, codec="zstd", file_name_suffix=".parquet", num_shards=shards
    )
