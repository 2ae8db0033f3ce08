"""Beam's flags are told from ours, and the local engine is named."""

import pytest

from features.errors import UsageError
from pipelines.engine.runner import Engine, split_beam_flags

OWN = frozenset(["--output", "--runner", "--labels", "--quiet"])


@pytest.mark.parametrize(
    ("arguments", "ours", "beams"),
    [
        (["Music", "--output", "o"], ["Music", "--output", "o"], []),
        (
            ["--runner", "FlinkRunner", "--flink_master", "[local]", "Music"],
            ["--runner", "FlinkRunner", "Music"],
            ["--flink_master", "[local]"],
        ),
        (["--flink_master=[local]", "Music"], ["Music"], ["--flink_master=[local]"]),
        (["--streaming", "Music"], ["Music"], ["--streaming"]),
        (["--labels", "x"], ["--labels", "x"], []),  # Beam has --labels too, but it is ours here
        (["--outptu", "o"], ["--outptu", "o"], []),  # left to us, so that it is reported
        (["Music", "--", "--anything", "goes"], ["Music"], ["--anything", "goes"]),
        (["--parallelism", "2", "Music"], ["Music"], ["--parallelism", "2"]),
    ],
)
def test_flags_find_their_owner(arguments, ours, beams):
    assert split_beam_flags(arguments, OWN) == (ours, beams)


def test_the_local_engine_never_is_the_one_that_downloads():
    assert "DirectRunner" not in " ".join(Engine(workers=2).beam_flags())
    assert "--direct_running_mode=multi_processing" in Engine(workers=2).beam_flags()
    assert Engine("FlinkRunner", 2, ("--x",)).beam_flags() == ["--runner=FlinkRunner", "--x"]


def test_no_workers_are_refused():
    with pytest.raises(UsageError, match="--workers"):
        Engine(workers=0)


DATAFLOW, FLINK = "DataflowRunner", "FlinkRunner"


@pytest.mark.parametrize(
    ("runner", "flags", "here"),
    [
        (None, (), True),
        ("apache_beam.runners.portability.fn_api_runner.FnApiRunner", (), True),
        ("PrismRunner", (), True),
        ("PrismRunner", ("--environment_type", "EXTERNAL"), False),
        (FLINK, ("--flink_master", "[local]"), True),
        (FLINK, ("--flink_master=[local]", "--environment_type=DOCKER"), False),
        (FLINK, ("--flink_master", "host:8081"), False),
        (FLINK, ("--flink_master", "host:8081", "--environment_type", "LOOPBACK"), True),
        (DATAFLOW, (), False),
    ],
)
def test_paths_of_this_machine_are_refused_where_workers_are_elsewhere(runner, flags, here):
    engine = Engine(runner, flags=flags)
    engine.check_places([("--output", "gs://bucket/out"), ("LIBRARY", "s3://bucket/music")])
    Engine(runner, flags=flags, shared_filesystem=True).check_places([("--output", "/mnt/nas/out")])
    if here:
        engine.check_places([("--output", "/tmp/out")])
    else:
        with pytest.raises(UsageError, match=r"--output /tmp/out: .*--shared-filesystem"):
            engine.check_places([("--output", "/tmp/out")])
