"""Who may import whom: features <- model <- pipelines <- app, no circles, heavy packages only where they belong."""

import ast
import os
import subprocess
import sys

import pytest
import synth
from commandline import ROOT

FILES = sorted(p for folder in ("features", "model", "pipelines", "app") for p in (ROOT / folder).rglob("*.py"))


def name_of(path):
    """genrebeam.features.mel for features/mel.py."""
    return ".".join(["genrebeam", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


OURS = {name_of(path) for path in FILES}


def imports(path):
    """Whole names of the modules that a file imports, of ours and of others."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: import by absolute name"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in OURS else node.module for name in names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_arrows_point_one_way(path):
    room = path.relative_to(ROOT).parts[0]
    above = {
        "features": {"model", "pipelines", "app"},
        "model": {"pipelines", "app"},
        "pipelines": {"app"},
        "app": set(),
    }[room]
    ours = {name.split(".")[1] for name in imports(path) if name.startswith("genrebeam.")}
    others = {name.split(".")[0] for name in imports(path)}
    assert not above & ours
    assert not {"features", "model", "pipelines", "app"} & others, "import it as genrebeam...."
    if room in ("features", "model"):
        assert "apache_beam" not in others
    if room == "features":
        assert not {"click", "rich"} & others
    if room != "app":
        assert not {"fastapi", "starlette", "uvicorn", "pydantic"} & others
    if room == "features" and path.name != "records.py":
        assert not {"tensorflow", "keras"} & others


def test_no_module_imports_itself_in_a_circle():
    open_, done = [], set()

    def visit(name):
        assert name not in open_, " -> ".join([*open_[open_.index(name) :], name])
        if name in done:
            return
        open_.append(name)
        for other in sorted(imported[name]):
            visit(other)
        done.add(open_.pop())

    imported = {name_of(path): set(imports(path)) & OURS - {name_of(path)} for path in FILES}
    for name in imported:
        visit(name)


# The rooms of pipelines/, from the ground up: each may import from its own floor and from those below.
FLOORS = ["storage", "dataset library tags engine data", "apply", "stages", "graph api", "jobs", "commands cli"]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").rglob("*.py")), ids=name_of)
def test_rooms_of_pipelines_do_not_look_up(path):
    room = path.relative_to(ROOT / "pipelines").parts[0].removesuffix(".py")
    for module in imports(path):
        if module.startswith("genrebeam.pipelines."):
            other = module.split(".")[2]
            assert FLOOR[other] <= FLOOR[room] or other == "cli", f"{room} climbs up to {module}"


@pytest.mark.parametrize("room", ["features", "model", "pipelines", "app"])
def test_a_room_is_not_imported_by_its_bare_name(room):
    run = subprocess.run([sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True)
    assert f"import it as genrebeam.{room}" in run.stderr


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("genrebeam.features.isolated", {"tensorflow", "apache_beam", "librosa", "numba"}),
        ("genrebeam.pipelines.cli", {"tensorflow", "apache_beam", "numpy"}),
        ("genrebeam.pipelines.commands.tag", {"tensorflow"}),
    ],
)
def test_what_must_start_fast_imports_nothing_heavy(module, absent):
    code = f"import sys, {module}; print(*{absent!r} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.split() == []


HEAVY = {"tensorflow", "keras", "librosa", "numba", "pandas", "sklearn"}

# Python runs this at the start of every process: who asks for one of these packages is written down, and gets none.
WATCH = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {heavy!r}:
            with open({log!r}, "a") as log:
                log.write(f"{{os.getpid()}} {{name}}\\n")
            if name != "apache_beam":
                raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Watch())
"""
HEAR = "from genrebeam import GenreTagger\nwith GenreTagger() as tagger: assert tagger.hear({song!r}).genre"
PLUGIN = """
import sys; sys.path.insert(0, "deploy/beets")
from beetsplug.genrebeam import GenrebeamPlugin
plugin = GenrebeamPlugin()
assert plugin._open().hear({song!r}).genre
plugin._close()
"""
APP = """
from pathlib import Path
from genrebeam.app.hearing import Hearing
from genrebeam.app.served import Served
from genrebeam.app.server import make_app
with Hearing() as hearing, Served(hearing) as served:
    make_app(served)
    assert hearing.hear(Path({song!r}), "a.flac")[1].levels
"""


@pytest.fixture
def watched(tmp_path):
    """Runs Python and says which heavy packages were asked for: by its process, and by all that it started."""
    log = tmp_path / "log"
    (tmp_path / "watch").mkdir()
    (tmp_path / "watch" / "sitecustomize.py").write_text(WATCH.format(heavy=HEAVY | {"apache_beam"}, log=str(log)))

    def run(*arguments):
        log.write_text("")
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "watch"), "CUDA_VISIBLE_DEVICES": ""}
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=-1, stderr=-1)
        said = "".join(process.communicate(timeout=300))
        assert process.returncode == 0, said
        asked = [line.split() for line in log.read_text().splitlines()]
        return {name for pid, name in asked if int(pid) == process.pid}, {name for _, name in asked}

    return run


@pytest.fixture
def song(tmp_path):
    return synth.write(tmp_path / "music" / "a.flac", synth.music(9.0, seed=0))


@pytest.mark.parametrize(
    "code", [HEAR, PLUGIN, APP], ids=["GenreTagger.hear", "the plugin of beets", "the application"]
)
def test_what_hears_a_file_needs_no_heavy_package(watched, song, code):
    if code is PLUGIN:
        pytest.importorskip("beets")
    assert watched("-c", code.format(song=str(song))) == (set(), set())


def test_commands_that_tag_need_no_heavy_package_and_only_engines_need_beam(watched, song, tmp_path):
    synth.write(tmp_path / "music" / "b.mp3", synth.music(9.0, seed=1))
    out = tmp_path / "out"
    tag = ("-m", "genrebeam", "tag", song.parent, "--output", out, "--quiet", "--format", "csv", "--workers")
    assert watched(*tag, 2) == (set(), {"apache_beam"})
    synth.write(tmp_path / "music" / "c.mp3", synth.music(9.0, seed=2))
    assert watched(*tag, 1) == (set(), {"apache_beam"})
    assert watched("-m", "genrebeam", "apply", out, "--yes", "--quiet", "--min-confidence", 0) == (set(), set())
    assert watched("-m", "genrebeam", "undo", out, "--yes", "--quiet") == (set(), set())
    assert watched("-m", "genrebeam", "show", song, "--output", tmp_path / "a.png") == (set(), set())


def test_what_runs_on_tensorflow_does_not_wait_for_plotting_scikit_learn_and_pandas():
    code = (
        "import sys; from genrebeam.model.bundle import DEFAULT, load_config; "
        "from genrebeam.model.predictor import TensorFlowNetwork; "
        "TensorFlowNetwork(load_config(DEFAULT), batch_size=64); "
        "print(*{'matplotlib', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.split() == []
