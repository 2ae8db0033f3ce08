"""The command line as people use it: a process of its own, from the folder of the project."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from genrebeam.pipelines.cli import main

ROOT = Path(__file__).parents[1]
GENREBEAM = (sys.executable, "-m", "genrebeam")


def genrebeam(
    *arguments: object, code: int = 0, timeout: float = 300, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `genrebeam ARGUMENTS` to its end; it has to end with this exit code, and without a traceback."""
    command = [*GENREBEAM, *map(str, arguments)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, **options)
    assert process.returncode == code, process.stdout + process.stderr
    assert "Traceback" not in process.stderr, process.stderr
    return process


def shown_by(*arguments: object, code: int = 0) -> str:
    """What a person sees of `genrebeam ARGUMENTS`, in one line, however wide the terminal is."""
    process = genrebeam(*arguments, code=code)
    return " ".join((process.stdout + process.stderr).split())


def exit_code_of(*arguments: object) -> int:
    """The exit code of `genrebeam ARGUMENTS` in this process, where what it prints is captured."""
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    return int(left.value.code or 0)


def rows_of(output: Path, kind: str) -> list[dict[str, Any]]:
    """All rows of one kind (results, rejects, applied) in an output folder, file by file."""
    return [row for file in sorted((output / kind).glob("*.parquet")) for row in pq.read_table(file).to_pylist()]
