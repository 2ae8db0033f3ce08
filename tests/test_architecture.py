"""Who may import whom: features <- model <- pipelines, heavy packages only where they belong."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(p for folder in ("features", "model", "pipelines") for p in (ROOT / folder).rglob("*.py"))


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
    }[package]
    assert not forbidden & set(imports(path))
    if package == "features" and path.name != "records.py":
        assert not {"tensorflow", "keras"} & set(imports(path))


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
