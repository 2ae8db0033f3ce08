"""Beam's flags are told from ours, the local engine is named, and what a launch would fail for is said before."""

import importlib.util
import socket

import pytest

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.engine.runner import Engine, split_beam_flags
from genrebeam.pipelines.stages import plan

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
PLACED = ("--project=p", "--region=r")


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


@pytest.fixture
def deaf():
    """The port of this machine where nobody answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize(
    ("runner", "flags", "says"),
    [
        (
            FLINK,
            ("--flink_master", "127.0.0.1:PORT"),
            r"--flink_master 127.0.0.1:\d+: nobody answers .*refused.* start it",
        ),
        (FLINK, ("--flink_master=http://127.0.0.1:PORT",), r"--flink_master http://127.0.0.1:\d+: nobody answers"),
        ("PortableRunner", ("--job_endpoint=127.0.0.1:PORT",), r"--job_endpoint 127.0.0.1:\d+: nobody answers"),
        ("PortableRunner", ("--job_endpoint", "here"), "--job_endpoint here: invalid address; write HOST:PORT"),
        ("PortableRunner", ("--job_endpoint", "here:many"), "--job_endpoint here:many: invalid address"),
        (FLINK, ("--flink_job_server_jar", "no.jar"), "--flink_job_server_jar no.jar: no such file"),
        ("PrismRunner", ("--prism_location=no",), "--prism_location no: no such file"),
        ("PrismRunner", ("--dry_run",), "--runner PrismRunner: argument --dry_run: expected one argument"),
        ("NoRunner", (), "--runner NoRunner: Unexpected pipeline runner: NoRunner. Valid values are"),
        ("no.such.Runner", (), "--runner no.such.Runner: No module named 'no'"),
        ("PrismRunner", ("--prism_location", "."), "--prism_location .: no such file"),
        ("PrismRunner", ("--prism_location", "http://127.0.0.1/prism"), "--prism_location URL is not .*Release page"),
        ("PrismRunner", ("--environment_type", "PROCESS"), "process_command is required"),
        ("PortableRunner", (), "--runner PortableRunner: You must specify a --job_endpoint"),
        ("SparkRunner", ("--job_endpoint", "127.0.0.1:PORT"), r"--job_endpoint 127.0.0.1:\d+: nobody answers"),
        (DATAFLOW, (), "needs --project PROJECT, --region REGION, --temp_location gs://BUCKET/tmp: add"),
        (DATAFLOW, ("--project=p", "--temp_location=gs://b/t"), "DataflowRunner needs --region REGION: add"),
        (DATAFLOW, (*PLACED, "--temp_location=/tmp/t"), "--temp_location /tmp/t: Dataflow reaches gs:// only"),
    ],
)
def test_what_a_launch_would_fail_for_is_one_line_before_any_work(deaf, runner, flags, says):
    flags = tuple(flag.replace("PORT", str(deaf)) for flag in flags)
    with pytest.raises(UsageError, match=says) as raised:
        Engine(runner, flags=flags).check()
    assert "\n" not in str(raised.value)


def test_a_job_server_in_java_needs_java_unless_it_runs_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(UsageError, match=f"{tmp_path}/bin/java cannot be run: install Java"):
        Engine(FLINK, flags=("--flink_master", "[local]")).check()
    with socket.create_server(("127.0.0.1", 0)) as server:
        Engine(FLINK, flags=(f"--job_endpoint=127.0.0.1:{server.getsockname()[1]}",)).check()


@pytest.mark.skipif(importlib.util.find_spec("google.cloud.dataflow") is not None, reason="Google's packages are here")
def test_dataflow_needs_googles_packages():
    with pytest.raises(UsageError, match=r"needs Google's packages: pip install '\.\[gcp\]'"):
        Engine(DATAFLOW, flags=(*PLACED, "--temp_location=gs://b/t")).check()


def test_a_jar_that_cannot_be_fetched_is_said_before(deaf, monkeypatch, tmp_path):
    """The java that is found here is never started."""
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.touch(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    jar = f"http://127.0.0.1:{deaf}/no.jar"
    for runner, name in ((FLINK, "flink"), ("SparkRunner", "spark")):
        with pytest.raises(UsageError, match=f"--runner {runner}: Unable to fetch remote job server jar at {jar}"):
            Engine(runner, flags=(f"--{name}_job_server_jar", jar, "--jar_cache_dir", str(tmp_path))).check()


def test_a_worker_of_other_versions_says_so_before_it_does_anything(monkeypatch):
    made = plan.NameParts("/nowhere")
    made.setup()
    monkeypatch.setattr(plan.metadata, "version", {"apache-beam": "2.1.0", "genrebeam": "0.1.0"}.__getitem__)
    with pytest.raises(UsageError, match=r"this worker has apache-beam 2.1.0, and the job was submitted with 2\.\d+"):
        made.setup()
