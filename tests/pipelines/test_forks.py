"""Workers that wait in the engine before Beam asks for them: used, left over, or too few."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.engine.forks import Forks
from genrebeam.pipelines.engine.launcher import run_apart
from genrebeam.pipelines.engine.runner import LOCAL_RUNNER, Engine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Beam starts workers itself")


def children():
    return [child.pid for child in psutil.Process().children()]


def in_two_workers(file):
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    def work(number):
        with open(file, "a") as stream:
            stream.write(f"{os.getpid()}\n")

    flags = [f"--runner={LOCAL_RUNNER}", "--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        _ = pipeline | beam.Create(range(8)) | beam.Reshuffle() | beam.Map(work)


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_forks", sys.modules[__name__])
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    for function in (children, in_two_workers):
        monkeypatch.setattr(function, "__module__", "test_forks")


def test_workers_wait_and_end_unused():
    waiting = run_apart(children, forks=Forks(2, ()))
    assert len(waiting) == 2
    assert psutil.wait_procs([psutil.Process(pid) for pid in waiting if psutil.pid_exists(pid)], timeout=20)[1] == []


@pytest.mark.slow
def test_beam_works_with_those_that_wait_and_starts_the_others(tmp_path):
    run_apart(in_two_workers, str(tmp_path / "pids"), forks=Forks(1, ("genrebeam.pipelines.graph",)))
    pids = (tmp_path / "pids").read_text().split()
    assert (len(pids), len(set(pids))) == (8, 2)


@pytest.mark.parametrize(
    ("engine", "workers"),
    [
        (Engine(), None),
        (Engine(workers=3), 3),
        (Engine(workers=3, flags=("--direct_num_workers=2",)), 2),
        (Engine(LOCAL_RUNNER), None),
        (Engine(LOCAL_RUNNER, flags=("--direct_running_mode", "multi_processing", "--direct_num_workers", "4")), 4),
        (Engine("FlinkRunner", workers=3), None),
    ],
)
def test_as_many_are_forked_as_beam_will_start(engine, workers):
    forks = engine.forks("genrebeam.pipelines.graph")
    assert (forks and forks.workers) == workers


@pytest.mark.parametrize("number", ["many", "-1", "1.5"])
def test_a_number_of_workers_that_is_none_is_refused(number):
    with pytest.raises(UsageError, match=f"--direct_num_workers {number}"):
        Engine(workers=2, flags=(f"--direct_num_workers={number}",)).forks()
