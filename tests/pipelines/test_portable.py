"""What a runner elsewhere is given: nothing of the machine that submits it, and nothing large."""

from __future__ import annotations

import base64
import bz2
import datetime as dt
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from commandline import GENREBEAM, ROOT
from rich.console import Console

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import UsageError
from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines import graph
from genrebeam.pipelines.apply.options import ApplyOptions, ApplyRun
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.jobs import shards, tag
from genrebeam.pipelines.jobs.apply_graph import apply_on_runner
from genrebeam.pipelines.stages.extract import ExtractConfig

OUT = "gs://bucket/out"
CLUSTER = Engine("DataflowRunner", flags=("--project=p",))
LARGEST = 100_000  # bytes of any part of the job


def tag_job(**options: object) -> bytes:
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    chosen = tag.TagOptions(libraries=("gs://bucket/music",), output=OUT, engine=CLUSTER, **{"model": None, **options})
    tag.build(pipeline, tag.Job(chosen, load_config(DEFAULT), Dataset.at(OUT), "run-1", "plan.parquet"))
    return job(pipeline)


def apply_job() -> bytes:
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    task = ApplyRun(Dataset.at(OUT), "run-1", dt.datetime.now(dt.timezone.utc), ApplyOptions())
    graph.apply_tags(pipeline, OUT, "plan.parquet", task)
    return job(pipeline)


def shards_job() -> bytes:
    pipeline = beam.Pipeline(options=PipelineOptions([]))
    shards.build(pipeline, shards.AudioSource(ExtractConfig(FrontEnd())), OUT, FrontEnd())
    return job(pipeline)


def job(pipeline: beam.Pipeline) -> bytes:
    """All that a job says, with its pickled functions unpacked."""
    proto = pipeline.to_runner_api()
    parts = [proto.SerializeToString()]
    for name, transform in proto.components.transforms.items():
        assert len(transform.spec.payload) < LARGEST, name
        if transform.spec.urn == "beam:transform:pardo:v1":
            pickled = beam_runner_api_pb2.ParDoPayload.FromString(transform.spec.payload).do_fn.payload
            parts.append(bz2.decompress(base64.b64decode(pickled)))
    assert sum(map(len, parts)) < 5 * LARGEST
    return b"".join(parts)


@pytest.mark.parametrize(
    "made",
    [
        tag_job,
        lambda: tag_job(model="gs://bucket/bundle", features_output="gs://bucket/features"),
        apply_job,
        shards_job,
    ],
)
def test_a_job_names_no_place_of_this_machine(made) -> None:
    serialised = made()
    assert b"gs://bucket/out" in serialised
    for place in (str(ROOT), str(Path.home()), tempfile.gettempdir(), sys.prefix):
        # With the code of a lambda goes the name of its source, which nobody opens.
        named = re.findall(re.escape(place.encode()) + rb"/[\w./-]*", serialised)
        assert [name for name in named if not name.endswith(b".py")] == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"output": "/tmp/out"}, "--output /tmp/out"),
        ({"model": "/tmp/bundle"}, "--model /tmp/bundle"),
        ({"features_output": "features"}, "--features-output features"),
        ({"libraries": ("/music",)}, "LIBRARY /music"),
    ],
)
def test_what_a_cluster_cannot_reach_is_refused_before_anything_starts(options: dict[str, object], says: str) -> None:
    good = {"libraries": ("gs://bucket/music",), "output": OUT, "model": None, "engine": CLUSTER}
    tag.TagOptions(**good)
    with pytest.raises(UsageError, match=says):
        tag.TagOptions(**{**good, **options})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/music", "--output", OUT], "LIBRARY /music: the workers of FlinkRunner cannot see"),
        (["gs://bucket/music", "--output", "shards"], "--output shards: the workers of FlinkRunner cannot see"),
        (["gs://bucket/music", "--output", OUT, "--worker-timeout", "0"], "--worker-timeout must be between"),
        (["gs://bucket/music", "--output", OUT, "--template_location", "gs://b/t"], "--template_location: only `tag`"),
    ],
)
def test_shards_on_a_cluster_refuse_in_one_line_before_they_look_for_tracks(tmp_path, arguments, says) -> None:
    command = [*GENREBEAM, "shards", *arguments, "--runner", "FlinkRunner"]
    done = subprocess.run([*command, "--flink_master", "host:8081"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"genrebeam: {says}")
    assert done.stderr.count("\n") == 1


def test_applying_cannot_be_a_template(tmp_path) -> None:
    engine = Engine("DataflowRunner", flags=("--template_location=gs://bucket/template",))
    with pytest.raises(UsageError, match="--template_location: only `tag`"):
        apply_on_runner(tmp_path, ApplyOptions(yes=True), engine, console=Console())
