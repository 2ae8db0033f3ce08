"""Who may import whom: features <- model <- pipelines, heavy packages only where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(p for folder in ("features", "model", "pipelines", "app") for p in (ROOT / folder).rglob("*.py"))


def imports(path, *, top_level_only=False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: import by absolute name"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_one_way(path):
    package = path.relative_to(ROOT).parts[0]
    forbidden = {
        "features": {"model", "pipelines", "app", "apache_beam", "click", "rich"},
        "model": {"pipelines", "app", "apache_beam"},
        "pipelines": {"app"},
        "app": set(),
    }[package]
    assert not forbidden & set(imports(path))
    if package != "app":
        assert not {"streamlit", "altair"} & set(imports(path))
    if package == "features" and path.name != "records.py":
        assert not {"tensorflow", "keras"} & set(imports(path))


# The rooms of pipelines/, from the ground up: each may import from its own floor and from those below.
FLOORS = ["storage", "dataset library tags engine data", "stages", "graph api", "jobs", "commands cli __main__"]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}


def modules(path):
    """Whole names of our own modules that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", sorted((ROOT / "pipelines").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_rooms_of_pipelines_do_not_look_up(path):
    room = path.relative_to(ROOT / "pipelines").parts[0].removesuffix(".py")
    for module in modules(path):
        if module.startswith("pipelines."):
            other = module.split(".")[1]
            assert FLOOR[other] <= FLOOR[room] or other == "cli", f"{room} climbs up to {module}"


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("features.isolated", {"tensorflow", "apache_beam", "librosa", "numba"}),
        ("pipelines.cli", {"tensorflow", "apache_beam", "numpy"}),
        ("pipelines.commands.tag", {"tensorflow"}),
    ],
)
def test_what_must_start_fast_imports_nothing_heavy(module, absent):
    code = f"import sys, {module}; print(*{absent!r} & set(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.split() == []


def test_prediction_does_not_wait_for_plotting_scikit_learn_and_pandas():
    code = (
        "import sys; from model.bundle import DEFAULT, load_config; from model.predictor import BundlePredictor; "
        "BundlePredictor(load_config(DEFAULT)); print(*{'matplotlib', 'pandas', 'sklearn'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert output.stdout.split() == []
