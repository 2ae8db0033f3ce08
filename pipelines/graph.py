"""The whole shape on one screen: tracks to features to rows to files. Launching is elsewhere (pipelines/jobs).

Nothing in a graph is a path of the machine that submits it, unless the dataset or the library lies there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import apache_beam as beam

from genrebeam.features.schema import Rejection, Track, TrackFeatures
from genrebeam.model.predictor import Predictor
from genrebeam.pipelines.apply.batch import BATCH
from genrebeam.pipelines.apply.options import ApplyRun
from genrebeam.pipelines.apply.plan import TagJob, TagResult, job_from_row
from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, Dataset
from genrebeam.pipelines.stages.extract import REJECTED, ExtractConfig, ExtractFeatures, ParseFeatures, ReadRecords
from genrebeam.pipelines.stages.plan import NameParts, ReadPart
from genrebeam.pipelines.stages.predict import PredictAndVote, TagConfig
from genrebeam.pipelines.stages.write import WRITE_EVERY_S, WriteFeatures, WriteRows, as_reject_row
from genrebeam.pipelines.stages.write_tags import WriteTags


class Extracted(NamedTuple):
    """What `extract_features` returns: TrackFeatures, and Rejections."""

    features: beam.PCollection[TrackFeatures]
    rejections: beam.PCollection[Rejection]


def read_plan(pipeline: beam.Pipeline, folder: str, name: str) -> beam.PCollection[dict[str, Any]]:
    """The rows of a plan (stages/plan.py), spread over all workers."""
    return (
        pipeline
        | "Name the plan" >> beam.Create([name], reshuffle=False)
        | "Name its parts" >> beam.ParDo(NameParts(folder))
        | "Spread parts over workers" >> beam.Reshuffle()
        | "Read each part" >> beam.ParDo(ReadPart(folder))
    )


def read_tracks(pipeline: beam.Pipeline, folder: str, name: str) -> beam.PCollection[Track]:
    """The tracks of a plan, whose columns are a Track's fields."""
    rows = read_plan(pipeline, folder, name)
    return rows | "As tracks" >> beam.Map(lambda row: Track(**row)).with_output_types(Track)


def extract_features(tracks: beam.PCollection[Track], config: ExtractConfig) -> Extracted:
    """Decode every track to its log-Mel. Used by `tag` and by `shards`."""
    outputs = tracks | "Extract log-Mel features" >> beam.ParDo(ExtractFeatures(config)).with_outputs(
        REJECTED, main="features"
    )
    return Extracted(outputs.features, outputs[REJECTED])


def read_features(
    pipeline: beam.Pipeline, files: Sequence[str], parse: ParseFeatures
) -> beam.PCollection[TrackFeatures]:
    """Features that an earlier run stored, spread over all workers."""
    return (
        pipeline
        | "Name feature files" >> beam.Create(list(files), reshuffle=False)
        | "Spread files over workers" >> beam.Reshuffle()
        | "Read stored features" >> beam.ParDo(ReadRecords())
        | "Parse stored features" >> beam.ParDo(parse)
    )


def tag_tracks(
    features: beam.PCollection[TrackFeatures], load_predictor: Callable[[], Predictor], config: TagConfig
) -> beam.PCollection[dict[str, Any]]:
    """Score the chunks of every track and let them vote: rows of the results dataset."""
    return features | "Predict and vote" >> beam.ParDo(PredictAndVote(load_predictor, config))


def write_results(
    rows: beam.PCollection[dict[str, Any]], dataset: Dataset, run_id: str, every_s: float = WRITE_EVERY_S
) -> None:
    """Rows into the dataset, as they are made."""
    _write(rows, "results", WriteRows(str(dataset), RESULTS_DIR, run_id, every_s))


def write_rejects(
    rejections: beam.PCollection[Rejection], dataset: Dataset, run_id: str, every_s: float = WRITE_EVERY_S
) -> None:
    """Rejections into the dataset, as they are made."""
    rows = rejections | "As reject rows" >> beam.Map(as_reject_row, run_id)
    _write(rows, "rejects", WriteRows(str(dataset), REJECTS_DIR, run_id, every_s))


def _write(rows: beam.PCollection[dict[str, Any]], what: str, write: WriteRows) -> None:
    # The sum is there for what it makes the local engine do: it notices that a worker died by the output that it waits
    # for. (engine/launcher.py notices too; this is for callers that run the graph without it.)
    _ = rows | f"Write {what}" >> beam.ParDo(write) | f"Count {what}" >> beam.CombineGlobally(sum)


def write_features(
    features: beam.PCollection[TrackFeatures], folder: str, run_id: str, every_s: float = WRITE_EVERY_S
) -> beam.PCollection[TrackFeatures]:
    """Features into TFRecord files, one record per track; what comes out has been written."""
    return features | "Write features" >> beam.ParDo(WriteFeatures(folder, run_id, every_s))


def apply_tags(
    pipeline: beam.Pipeline, folder: str, name: str, run: ApplyRun, progress_path: str | None = None
) -> beam.PCollection[TagResult]:
    """Write tags into the files of a plan, whose rows `job_from_row` understands."""
    return (
        read_plan(pipeline, folder, name)
        | "As tag jobs" >> beam.Map(job_from_row).with_output_types(TagJob)
        | "In journal batches" >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
        | "Write tags" >> beam.ParDo(WriteTags(run, progress_path)).with_output_types(TagResult)
    )
