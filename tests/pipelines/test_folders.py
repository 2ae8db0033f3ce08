"""Who may write into a folder: one run at a time, on file systems with locks and without."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faults
import pytest
import synth

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.dataset.plan import plan_name, remove_old_plans
from genrebeam.pipelines.storage.folders import LOCK, MARK, folder_at, sync

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=["flock", "no flock"])
def place(request: Any, tmp_path: Path, monkeypatch: Any) -> Path:
    if request.param == "no flock":
        fails(monkeypatch, "flock", errno.ENOLCK)
    return tmp_path / "out"


def fails(monkeypatch: Any, call: str, number: int) -> None:
    def failing(*arguments: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl if call == "flock" else os, call, failing)


def refused(place: Path, says: str = "another genrebeam is writing here") -> None:
    with pytest.raises(UsageError, match=says), folder_at(place).lock():
        pass


def test_a_refused_run_leaves_the_lock_to_its_holder(place: Path) -> None:
    with folder_at(place).lock():
        refused(place)
        refused(place)
    assert not place.exists()
    with folder_at(place).lock():
        refused(place)
        (place / "kept").touch()
    with folder_at(place).lock():
        pass
    assert sorted(os.listdir(place)) == [LOCK, "kept"]


def test_who_opened_the_lock_before_its_holder_removed_it_holds_one_that_others_see(
    tmp_path: Path, monkeypatch: Any
) -> None:
    """A process that is put aside between the opening of the file and the lock on it."""
    place, real = tmp_path / "out", fcntl.flock
    first = folder_at(place).lock()
    first.__enter__()

    def late(*arguments: Any) -> None:
        monkeypatch.setattr(fcntl, "flock", real)
        first.__exit__(None, None, None)
        assert not place.exists()
        real(*arguments)

    monkeypatch.setattr(fcntl, "flock", late)
    with folder_at(place).lock():
        refused(place)
    assert os.listdir(place) == []


def hold(place: Path, answer: Any, end: Any) -> None:
    with folder_at(place).lock():
        answer.send("in")
        end.recv()


@contextlib.contextmanager
def another_process(place: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    context = multiprocessing.get_context("spawn")
    (ours, theirs), (end, ending) = context.Pipe(), context.Pipe()
    process = context.Process(target=hold, args=(place, theirs, ending))
    process.start()
    try:
        assert ours.poll(60) and ours.recv() == "in"
        yield process
    finally:
        end.send("")
        process.join()


def test_a_run_in_another_process_is_respected_until_it_is_killed(tmp_path: Path) -> None:
    with another_process(tmp_path / "out") as process:
        refused(tmp_path / "out")
        refused(tmp_path / "out")
        process.kill()
        process.join()
        with folder_at(tmp_path / "out").lock():
            refused(tmp_path / "out")


def test_without_locks_the_mark_of_a_dead_process_is_nobodys(tmp_path: Path, monkeypatch: Any) -> None:
    fails(monkeypatch, "flock", errno.EOPNOTSUPP)
    place = tmp_path / "out"
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    place.mkdir()
    (place / MARK).write_text(json.dumps({"host": platform.node(), "pid": int(dead.stdout)}))
    with folder_at(place).lock():
        assert json.loads((place / MARK).read_text())["pid"] == os.getpid()
    assert not place.exists() or os.listdir(place) == []


@pytest.mark.parametrize(
    "mark", ['{"host": "elsewhere", "pid": 1}', "", "[]", '{"host": null, "pid": 1e400}', '{"host": "a", "pid": -1}']
)
def test_without_locks_a_mark_of_another_machine_is_respected_and_named(
    mark: str, tmp_path: Path, monkeypatch: Any
) -> None:
    fails(monkeypatch, "flock", errno.ENOSYS)
    (tmp_path / MARK).write_text(mark)
    refused(tmp_path, f"remove {tmp_path / MARK}")
    assert (tmp_path / MARK).read_text() == mark


def test_a_lock_that_fails_for_another_reason_is_no_other_run(tmp_path: Path, monkeypatch: Any) -> None:
    fails(monkeypatch, "flock", errno.EIO)
    refused(tmp_path / "out", "cannot be locked: Input/output error")


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK).symlink_to(tmp_path / "elsewhere")
    refused(tmp_path / "out", "cannot write results here")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_folder_that_cannot_be_synced_is_written_all_the_same(number: int, tmp_path: Path, monkeypatch: Any) -> None:
    fails(monkeypatch, "fsync", number)
    with folder_at(tmp_path).new("a.txt") as path:
        path.write_text("a")
    assert (tmp_path / "a.txt").read_text() == "a"


def test_a_disk_that_fails_to_sync_is_an_error(tmp_path: Path, monkeypatch: Any) -> None:
    fails(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        sync(tmp_path)


def test_what_killed_runs_left_goes_and_what_only_looks_like_it_stays(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    (out / "results").mkdir(parents=True)
    elsewhere.mkdir()
    (out / "rejects").symlink_to(elsewhere)
    ours = [out / ".run-1.json.0123abcd.partial", out / "results" / ".a.parquet.0123abcd.partial"]
    theirs = [out / ".film.mkv.partial", elsewhere / ".a.parquet.0123abcd.partial"]
    for path in (*ours, *theirs):
        path.write_text("half")
    with folder_at(out).lock():
        assert [path.exists() for path in (*ours, *theirs)] == [False, False, True, True]


@pytest.mark.parametrize("name", ["../a", "a/b", "..", "", "/a"])
def test_a_name_is_no_way_out_of_the_folder(name: str, tmp_path: Path) -> None:
    folder = folder_at(tmp_path / "out")
    with pytest.raises(ValueError, match="no name of a file"), folder.new(name) as path:
        path.write_text("a")
    for act in (folder.open, folder.delete):
        with pytest.raises(ValueError, match="no name of a file"):
            act(name)


def test_two_runs_never_share_a_plan_and_a_killed_ones_goes_with_the_next(tmp_path: Path) -> None:
    assert plan_name("run1", is_local=True) != plan_name("run2", is_local=True)
    assert plan_name("run1", is_local=False) != plan_name("run2", is_local=False)
    names = [plan_name("run1", is_local=True), plan_name("run2", is_local=False)]
    for name in names:
        (tmp_path / name).touch()
    remove_old_plans(folder_at(tmp_path))  # a cluster's workers may still read theirs
    assert os.listdir(tmp_path) == names[1:]


@pytest.mark.slow
def test_the_commands_work_where_there_are_no_locks_and_folders_cannot_be_synced(tmp_path: Path) -> None:
    synth.write(tmp_path / "music" / "a.flac", synth.music(5.0, seed=0))
    environment = os.environ | faults.preloaded(tmp_path / "faults", error="EINVAL", calls="flock,syncdir", path="/")
    for command in (
        ["tag", "music", "--output", "out", "--workers", "1"],
        ["apply", "out", "--yes", "--min-confidence", "0", "--max-unknown", "1"],
        ["undo", "out", "--yes"],
    ):
        process = subprocess.run(
            [sys.executable, "-m", "genrebeam", *command],
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert (process.returncode, process.stderr) == (0, "")
    assert not (tmp_path / "out" / MARK).exists()
