"""The graph end to end inside this process, with the placeholder network: rows, rejects, stored features."""

import functools

import apache_beam as beam
import pyarrow.parquet as pq
import pytest
import synth
from apache_beam.options.pipeline_options import PipelineOptions

from genrebeam.features.config import FrontEnd
from genrebeam.features.records import count_records, first_record, parse
from genrebeam.model.predictor import PlaceholderPredictor
from genrebeam.pipelines import graph
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.dataset.plan import as_table, write_plan
from genrebeam.pipelines.dataset.schema import REJECTS, RESULTS
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.library.discover import discover
from genrebeam.pipelines.stages.extract import ExtractConfig, ParseFeatures
from genrebeam.pipelines.stages.predict import TagConfig

FRONT_END = FrontEnd()
LABELS = ("low", "middle", "high")
LOAD = functools.partial(PlaceholderPredictor, LABELS, FRONT_END, batch_size=4)
TAG = TagConfig("placeholder", "p1", "run-1")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    root = tmp_path_factory.mktemp("library")
    synth.write(root / "low.wav", synth.sine(60, 9.0))
    synth.write(root / "high.flac", synth.sine(9000, 5.0))
    synth.write(root / "short.ogg", synth.sine(60, 1.5))
    synth.write(root / "silent.wav", synth.sine(60, 5.0, amplitude=0.0))
    synth.write(root / "blip.wav", synth.sine(60, 0.2))
    (root / "text.mp3").write_bytes(b"this is no music" * 100)
    return root


@pytest.fixture(scope="module")
def output(library, tmp_path_factory):
    folder = tmp_path_factory.mktemp("output")
    dataset = Dataset.at(folder)
    tracks = discover([str(library)]).tracks
    write_plan(dataset.folder, "plan", [as_table(tracks)], len(tracks))
    pipeline = beam.Pipeline(options=PipelineOptions(Engine(workers=1).beam_flags()))
    extracted = graph.extract_features(graph.read_tracks(pipeline, str(dataset), "plan"), ExtractConfig(FRONT_END))
    features = graph.write_features(extracted.features, f"{dataset}/features", "run-1", 600.0)
    graph.write_rejects(extracted.rejections, dataset, "run-1", 600.0)  # one file, however slow the machine
    graph.write_results(graph.tag_tracks(features, LOAD, TAG), dataset, "run-1", 600.0)
    result = pipeline.run()
    result.wait_until_finish()
    counters = {
        f"{m.key.metric.namespace}/{m.key.metric.name}": m.committed for m in result.metrics().query()["counters"]
    }
    return folder, counters


def rows(folder, pattern):
    (path,) = folder.glob(pattern)
    return {row["track_id"]: row for row in pq.read_table(path).to_pylist()}


def test_every_track_is_a_result_or_a_reject_with_a_reason(output):
    results, rejects = rows(output[0], "results/*.parquet"), rows(output[0], "rejects/*.parquet")
    assert {i: r["genre"] for i, r in results.items()} == {"low.wav": "low", "high.flac": "high", "short.ogg": "low"}
    assert {i: (r["stage"], r["error"]) for i, r in rejects.items()} == {
        "silent.wav": ("extract", "Silent"),
        "blip.wav": ("extract", "TooShort"),
        "text.mp3": ("extract", "NotAudio"),
    }
    assert all(row["uri"] in row["message"] for row in rejects.values())


def test_files_have_the_documented_schema(output):
    for kind, schema in (("results", RESULTS), ("rejects", REJECTS)):
        (path,) = output[0].glob(f"{kind}/*.parquet")
        file = pq.ParquetFile(path)
        assert file.schema_arrow.equals(schema)
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_row_holds_what_was_heard(output):
    row = rows(output[0], "results/*.parquet")["low.wav"]
    assert (row["container"], row["codec"], row["channels"], row["sample_rate_hz"]) == ("wav", "pcm_s16", 1, 22_050)
    assert row["duration_s"] == pytest.approx(9.0)
    assert row["labels"] == list(LABELS)
    assert len(row["chunk_scores"]) == 3  # 0-4, 2-6 and 4-8 s; the next would end at 10
    assert row["top"][0] == {"genre": "low", "score": row["confidence"]}
    assert (row["model_id"], row["model_fingerprint"], row["run_id"], row["vote"]) == (
        "placeholder",
        "p1",
        "run-1",
        "mean",
    )


def test_counters_count(output):
    counters = output[1]
    assert counters["extract/tracks"] == counters["predict/tracks"] == 3
    assert counters["extract/rejects"] == 3
    assert counters["predict/chunks"] == 3 + 1 + 1


def test_stored_features_give_the_same_rows(output):
    folder, _ = output
    (records,) = folder.glob("features/*.tfrecord")
    with records.open("rb") as file:
        assert count_records(file, str(records)) == 3
        assert parse(first_record(file), FRONT_END)[0].log_mel.shape[1] == 128
    again = Dataset.at(folder / "again")
    with beam.Pipeline(options=PipelineOptions(Engine(workers=1).beam_flags())) as pipeline:
        parse_features = ParseFeatures(FRONT_END, str(again), "p1", "mean")
        features = graph.read_features(pipeline, [str(records)], parse_features)
        graph.write_results(graph.tag_tracks(features, LOAD, TAG), again, "run-1")
    before, after = rows(folder, "results/*.parquet"), rows(folder / "again", "results/*.parquet")
    for row in [*before.values(), *after.values()]:
        del row["processed_at"]
    assert before == after
