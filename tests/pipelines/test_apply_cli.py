"""The commands apply and undo, and the same work on a Beam runner."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tagfiles
from click.testing import CliRunner
from commandline import GENREBEAM, shown_by
from rich.console import Console

from genrebeam.features.errors import UsageError
from genrebeam.pipelines import cli as cli_module
from genrebeam.pipelines.apply.options import ApplyOptions
from genrebeam.pipelines.cli import cli
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.jobs.apply import apply_results
from genrebeam.pipelines.storage.folders import folder_at
from genrebeam.pipelines.tags.policy import TagPolicy
from genrebeam.pipelines.tags.read import read_genres


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Three files: one without a genre, one with a useless one, one with a good one; results beside them."""
    music = tmp_path / "music"
    music.mkdir()
    heard = {}
    for kind, genre in (("mp3", None), ("flac", "Other"), ("m4a", "Jazz")):
        path = tagfiles.make(music, kind, kind)
        tagfiles.fill(path, kind, genre)
        heard[path] = [("hiphop", 0.9)]
    tagfiles.results(tmp_path / "out", heard, root=music)
    return tmp_path


def genres(library: Path) -> list[tuple[str, ...]]:
    return [read_genres(library / "music" / name) for name in ("mp3.mp3", "flac.flac", "m4a.m4a")]


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(cli, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_apply_look_undo(library: Path) -> None:
    out = library / "out"
    assert genres(library) == [(), ("Other",), ("Jazz",)]

    seen = invoke("apply", out, "--dry-run")
    assert [line.split() for line in seen.splitlines()[:3]] == [
        ["track", "old", "new"],
        ["flac.flac", "Other", "->", "Hip-Hop"],
        ["mp3.mp3", "-", "->", "Hip-Hop"],
    ]
    assert genres(library) == [(), ("Other",), ("Jazz",)]

    assert invoke("apply", out, "--yes").splitlines()[0].split() == ["changed", "2"]
    assert genres(library) == [("Hip-Hop",), ("Hip-Hop",), ("Jazz",)]
    assert invoke("apply", out, "--yes").splitlines()[0].split() == ["changed", "0"]
    assert invoke("undo", out, "--yes", "--quiet") == ""
    assert genres(library) == [(), ("Other",), ("Jazz",)]


def test_options_reach_the_policy(library: Path) -> None:
    (library / "map.txt").write_text("hiphop = Rap; Urban\n")
    invoke(
        "apply", library / "out", "--yes", "--write-tags", "merge", "--genre-map", library / "map.txt",
        "--useless", "jazz", "--min-confidence", "0.8",
    )  # fmt: skip
    assert genres(library) == [("Rap", "Urban")] * 3
    invoke("undo", library / "out", "--yes")
    invoke("apply", library / "out", "--yes", "--min-confidence", "0.95")
    assert genres(library) == [(), ("Other",), ("Jazz",)]


def test_nobody_to_ask_means_no_writing(library: Path) -> None:
    with pytest.raises(UsageError, match="--yes"):
        invoke("apply", library / "out")
    assert genres(library) == [(), ("Other",), ("Jazz",)]


@pytest.mark.parametrize(("answer", "written"), [("y", True), ("n", False)])
def test_on_a_terminal_it_shows_and_asks(library: Path, answer: str, written: bool) -> None:
    ours, theirs = pty.openpty()
    command = [*GENREBEAM, "apply", str(library / "out")]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=Path(__file__).parents[2])
    os.close(theirs)
    seen = b""
    while b"[y/N]" not in seen:
        seen += os.read(ours, 10_000)
    assert b"Other" in seen and b"Hip-Hop" in seen
    assert genres(library) == [(), ("Other",), ("Jazz",)]
    os.write(ours, f"{answer}\n".encode())
    said = b""
    with contextlib.suppress(OSError):  # how a pseudo-terminal says that the other side is closed
        while more := os.read(ours, 10_000):
            said += more
    assert process.wait(60) == 0
    assert (b"Nothing was written." in said) is not written
    assert b"interrupted" not in said
    os.close(ours)
    assert genres(library) == ([("Hip-Hop",), ("Hip-Hop",), ("Jazz",)] if written else [(), ("Other",), ("Jazz",)])


@pytest.mark.parametrize("inside", ["results", "results/"])
def test_the_folder_of_the_rows_stands_for_the_one_around_it(library: Path, inside: str) -> None:
    assert "would change" in shown_by("apply", f"{library / 'out'}/{inside}", "--dry-run")


def test_a_music_folder_is_not_proposed_as_output(library: Path) -> None:
    said = shown_by("apply", library, "--dry-run", code=2)
    assert "no results here" in said
    assert f"--output {library}" not in said


def test_no_results_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="genrebeam tag"):
        invoke("apply", tmp_path, "--yes")


@pytest.mark.parametrize(
    "command", [("apply", "--yes"), ("apply", "--dry-run"), ("undo", "--yes"), ("undo", "--dry-run")]
)
def test_music_that_is_not_there_is_one_line_and_an_exit_code(library: Path, command: tuple[str, str]) -> None:
    out, music = library / "out", library / "music"
    if command[0] == "undo":
        invoke("apply", out, "--yes")
    written = genres(library)
    music.rename(library / "unmounted")
    run = subprocess.run([*GENREBEAM, command[0], out, command[1]], capture_output=True, text=True)
    assert run.returncode == cli_module.EXIT_UNREACHABLE
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"genrebeam: {out}: none of its music can be read (")
    assert "No such file or directory" in line and "is the drive mounted" in line
    assert not (out / "rejects").exists()
    (library / "unmounted").rename(music)
    assert genres(library) == written
    invoke(command[0], out, "--yes")
    assert genres(library) != written


def test_one_file_that_is_gone_is_left_alone_and_named(library: Path) -> None:
    (library / "music" / "mp3.mp3").unlink()
    shown = invoke("apply", library / "out", "--yes")
    assert [line.split() for line in shown.splitlines() if line.startswith("left alone")] == [
        ["left", "alone", "1", "1", "UnreadableFile"]
    ]
    (row,) = pq.read_table(library / "out" / "rejects").to_pylist()
    assert row["message"].endswith("mp3.mp3: No such file or directory; left as it is")


def test_two_runs_do_not_write_at_once(library: Path) -> None:
    with folder_at(library / "out").lock(), pytest.raises(UsageError, match="another genrebeam"):
        invoke("apply", library / "out", "--yes")


def test_apply_needs_neither_beam_nor_tensorflow() -> None:
    code = (
        "import sys, genrebeam.pipelines.commands.apply, genrebeam.pipelines.commands.undo;"
        "print({'apache_beam', 'tensorflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.slow
def test_the_same_on_a_beam_runner(library: Path) -> None:
    from genrebeam.pipelines.jobs.apply_graph import apply_on_runner

    (library / "music" / "gone.mp3").write_bytes(b"")
    paths = {library / "music" / name: [("hiphop", 0.9)] for name in ("mp3.mp3", "flac.flac", "m4a.m4a", "gone.mp3")}
    tagfiles.results(library / "out", paths, root=library / "music")
    engine = Engine("apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    options = ApplyOptions(tags=TagPolicy(), yes=True)
    report = apply_on_runner(library / "out", options, engine, console=Console(quiet=True))
    assert (dict(report.outcomes), dict(report.errors)) == ({"write": 2, "kept": 1, "failed": 1}, {"NotTaggable": 1})
    assert genres(library) == [("Hip-Hop",), ("Hip-Hop",), ("Jazz",)]
    assert [row["error"] for p in (library / "out/rejects").glob("*") for row in pq.read_table(p).to_pylist()] == [
        "NotTaggable"
    ]
    again = apply_on_runner(library / "out", options, engine, console=Console(quiet=True))
    assert dict(again.outcomes) == {"same": 2, "kept": 1, "failed": 1}
    apply_results(library / "out", options, console=Console(quiet=True))
    invoke("undo", library / "out", "--yes")
    assert genres(library) == [(), ("Other",), ("Jazz",)]
