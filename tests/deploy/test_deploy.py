"""What lies in deploy/ says what the code and constraints.txt say."""

import importlib.util
import json
import re
import subprocess
import sys

import pytest
from commandline import ROOT

from genrebeam.pipelines import cli

DEPLOY = ROOT / "deploy"
TAG = cli.cli.get_command(None, "tag")


def own_options():
    return {o for p in TAG.params if p.param_type_name == "option" for o in p.opts}


def test_the_image_has_the_tested_beam():
    pinned = re.search(r"^apache-beam==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)[1]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ARG BEAM=(\S+)", dockerfile, re.M)[1] == pinned
    assert "--constraint constraints.txt" in dockerfile
    assert re.search(r"^USER (?!root)", dockerfile, re.M)


def test_the_worker_starts_where_its_user_may_write():
    *_, starts = re.findall(r"^(USER|WORKDIR) (\S+)", (DEPLOY / "Dockerfile").read_text(), re.M)
    assert starts == ("WORKDIR", "/home/genrebeam")


def test_what_the_image_copies_is_there_and_not_ignored():
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.*)$", (DEPLOY / "Dockerfile").read_text(), re.M):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists(), name
            assert name in allowed, name


def test_the_slim_requirements_are_what_tagging_needs_of_the_tested_versions():
    lines = (DEPLOY / "requirements-slim.txt").read_text().splitlines()
    assert "-c ../constraints.txt" in lines
    named = dict(re.findall(r"^([\w-]+)(==\S+)?$", "\n".join(lines), re.M))
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.M)
    assert {name for name, version in named.items() if not version} <= set(pinned)
    assert not {name for name, version in named.items() if version} & set(pinned)  # one place for each fact
    needed = set(
        re.findall(r'^        "([\w-]+)[><=]', (ROOT / "setup.py").read_text().split("extras_require")[0], re.M)
    )
    assert {"apache-beam", "ai-edge-litert"} <= needed
    assert needed - set(named) == {"tensorflow", "tensorflow-io", "librosa"}


def test_what_is_cut_from_packages_is_named_and_nothing_else(tmp_path):
    kept = ["scipy/__init__.py", "scipy/fft/_pocketfft/pypocketfft.so", "pyarrow/libarrow.so", "numpy/core.py"]
    cut = ["scipy/stats/a.py", "pyarrow/libarrow_flight.so.1", "numpy/tests/a.py", "ai_edge_litert/tools/a"]
    for name in (*kept, *cut, "apache_beam/a.py", "grpc/a.py", "zstandard/a.py", "ai_edge_litert/interpreter.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    subprocess.run(["sh", DEPLOY / "slim.sh", tmp_path], check=True)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {*kept, "apache_beam/a.py", "grpc/a.py", "zstandard/a.py", "ai_edge_litert/interpreter.py"}
    assert subprocess.run(["sh", DEPLOY / "slim.sh"], capture_output=True).returncode


def test_template_parameters_are_options():
    parameters = json.loads((DEPLOY / "dataflow" / "metadata.json").read_text())["parameters"]
    assert [p["name"] for p in parameters if not p["isOptional"]] == ["library", "output"]
    assert {f"--{p['name']}" for p in parameters} - {"--library"} <= own_options()


def template_main():
    spec = importlib.util.spec_from_file_location("template_main", DEPLOY / "dataflow" / "main.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (["--library=gs://b/m", "--output=gs://b/o"], ["tag", "gs://b/m", "--output=gs://b/o"]),
        (["--output", "o", "--library", "a b", "--runner=X"], ["tag", "a", "b", "--output", "o", "--runner=X"]),
    ],
)
def test_a_template_names_its_library_by_an_option(given, made):
    assert template_main().arguments(given) == made


def test_the_launch_script_is_a_script_and_its_options_exist(tmp_path):
    """With a command in place of genrebeam that shows what it was asked for."""
    fake = tmp_path / "genrebeam"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PROJECT": "p", "REGION": "r", "BUCKET": "gs://b", "IMAGE": "i"}
    script = [str(DEPLOY / "dataflow" / "launch.sh"), "tag", "gs://b/m", "--output", "gs://b/o"]
    for gpu in ("0", "1"):
        done = subprocess.run(script, env={**environment, "GPU": gpu}, capture_output=True, text=True, check=True)
        arguments = done.stdout.splitlines()
        assert arguments[0] == "tag" and arguments[-3:] == script[2:]
        from genrebeam.pipelines.engine.runner import split_beam_flags

        ours, _ = split_beam_flags(arguments[1:], frozenset(own_options()))
        assert {a for a in ours if a.startswith("--")} <= own_options()
        assert ("n1-standard-8" in arguments) == (gpu == "1")


def test_flink_restarts_batch_jobs_in_both_configurations():
    for name in ("config.yaml", "kubernetes.yaml"):
        assert "restart-strategy.type: fixed-delay" in (DEPLOY / "flink" / name).read_text()


def test_every_command_has_a_man_page_that_man_can_read(tmp_path):
    pytest.importorskip("click_man")
    subprocess.run([sys.executable, DEPLOY / "man.py", tmp_path], cwd=ROOT, check=True, capture_output=True)
    names = {"genrebeam.1", *(f"genrebeam-{name}.1" for name in cli.COMMANDS)}
    assert {page.name for page in tmp_path.iterdir()} == names
    for page in tmp_path.iterdir():
        macros = {line.split()[0] for line in page.read_text().splitlines() if line.startswith((".", "'"))}
        assert macros <= {".TH", ".SH", ".PP", ".TP", ".B"}, page.name
    assert ".m3u, .csv or .parquet" in (tmp_path / "genrebeam-tag.1").read_text()


def test_compose_starts_what_the_dockerfile_and_the_commands_have():
    yaml = pytest.importorskip("yaml")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.M))
    example = (DEPLOY / "compose.env.example").read_text()
    assert compose["services"].keys() == {"nightly", "app"}
    for service in compose["services"].values():
        assert service["build"]["target"] in targets
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).exists()
    app = cli.cli.get_command(None, "app")
    options = {o for p in app.params for o in p.opts}
    command = compose["services"]["app"]["command"]
    assert command[0] == "app" and {word for word in command if word.startswith("--")} <= options
    assert "GENREBEAM_TOKEN" in {p.envvar for p in app.params if isinstance(p.envvar, str)}
    assert all(port.startswith("127.0.0.1:") for port in compose["services"]["app"]["ports"])
    variables = re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text())
    assert set(variables) == set(re.findall(r"^(\w+)=", example, re.M))


def test_what_the_images_copy_is_let_through():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", (DEPLOY / "Dockerfile").read_text(), re.M):
        *sources, _ = line.split()
        assert {f"!{source.rstrip('/')}" for source in sources if source != "deploy/"} <= set(ignored)


def test_the_page_about_docker_names_targets_and_options_that_exist():
    page = (ROOT / "docs" / "docker.md").read_text()
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.M))
    assert set(re.findall(r"--target (\S+)", page)) <= targets
    for name, rest in re.findall(r"genrebeam(?:-app)? (?:\\\n +)?(tag|apply|app) (.*)", page):
        options = {o for p in cli.cli.get_command(None, name).params for o in p.opts}
        assert {word for word in rest.split() if word.startswith("--")} <= options
