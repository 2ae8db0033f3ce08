"""How many workers `tag` starts: what they cost at their start has to be worth it."""

import json
import os
import subprocess
import sys
import time

import faults
import psutil
import pytest
import synth
from commandline import GENREBEAM, ROOT, genrebeam
from processes import workers_of
from rich.console import Console

from genrebeam.pipelines.dataset.ledger import newest_results
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.jobs import tag as job


@pytest.mark.parametrize(("tracks", "expected"), [(1, 1), (2, 2), (5, 3)])
def test_no_more_workers_start_than_there_are_tracks(tmp_path, monkeypatch, tracks, expected):
    for number in range(tracks):
        synth.write(tmp_path / "library" / f"{number}.wav", synth.music(1.5, seed=number))
    started = []
    monkeypatch.setattr(job, "run_apart", lambda act, run, **how: started.append(run.options.engine.workers))
    options = job.TagOptions((str(tmp_path / "library"),), str(tmp_path / "out"), None, Engine(workers=3))
    job.tag(options, Console(quiet=True))
    assert started == [expected]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere Beam starts workers itself")
def test_workers_are_forks_of_a_process_that_has_imported_what_runs_the_network(tmp_path):
    for seed in range(8):
        synth.write(tmp_path / "library" / f"{seed}.wav", synth.music(60.0, seed=seed))
    command = ["tag", tmp_path / "library", "--output", tmp_path / "out", "--workers", "2", "--quiet"]
    driver = psutil.Popen([*GENREBEAM, *map(str, command)], cwd=ROOT)
    workers = []
    while len(workers) < 2 and driver.poll() is None:
        workers = workers_of(driver)
        time.sleep(0.01)
    assert len({worker.ppid() for worker in workers}) == 1
    maps = {mapped.path for mapped in workers[0].parent().memory_maps()}
    assert any("ai_edge_litert" in path for path in maps)
    assert not any("libtensorflow" in path for path in maps)
    assert driver.wait(timeout=300) == 0
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    assert len(newest_results(str(tmp_path / "out"))) == 8


@pytest.mark.slow
def test_where_nothing_can_be_decoded_the_run_ends_with_the_reason_and_rejects_nothing(tmp_path):
    for number in range(3):
        synth.write(tmp_path / "music" / f"{number}.wav", synth.music(3.0, seed=number))
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'genrebeam.features.child' in sys.orig_argv: sys.exit('no memory for you')\n"
    )
    command = [sys.executable, "-m", "genrebeam", "tag", tmp_path / "music", "--output", tmp_path / "out"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([*map(str, command)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode not in (0, 3)
    assert "no memory for you" in done.stderr.splitlines()[-1]
    assert not list((tmp_path / "out").glob("rejects/*.parquet"))


@pytest.fixture
def three_songs(tmp_path):
    """A tagged library of three songs, one of which has changed since; and a command that tags it again."""
    songs = [synth.write(tmp_path / "music" / f"{n}.flac", synth.music(4.0, seed=n)) for n in range(3)]
    command = ("tag", tmp_path / "music", "--output", tmp_path / "out", "--workers", "1", "--max-reject-share", "1")
    genrebeam(*command)
    songs[0].touch()
    synth.write(tmp_path / "music" / "3.flac", synth.music(4.0, seed=3))
    return command


@pytest.mark.slow
@pytest.mark.parametrize("error", ["EIO", "ESTALE"])
def test_files_that_cannot_be_read_are_tried_again_and_hide_nothing_meanwhile(three_songs, tmp_path, error):
    env = os.environ | faults.preloaded(tmp_path / "faults", error=error, calls="read", path="/music/0")
    said = genrebeam(*three_songs, env=env).stdout
    assert "1 UnreadableFile" in said and "try again" in said
    assert len(newest_results(tmp_path / "out")) == 4
    (tmp_path / "faults" / "faults").unlink()
    said = genrebeam(*three_songs, env=env).stdout
    assert "tagged       1" in said and "done before  3" in said


@pytest.mark.slow
@pytest.mark.parametrize("calls", ["read", "open", "stat"])
def test_a_drive_that_is_gone_ends_the_run_with_one_line_and_settles_nothing(three_songs, tmp_path, calls):
    env = os.environ | faults.preloaded(tmp_path / "faults", error="EIO", calls=calls, path="/music/")
    done = genrebeam(*three_songs, code=4, env=env)
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path / 'music'}: none of its files can be read (" in line and "Input/output error" in line
    reports = [json.loads(path.read_text()) for path in sorted((tmp_path / "out").glob("run-*.json"))]
    assert [one["status"] for one in reports] == ["finished", "failed"] and "drive" in reports[1]["reason"]
    assert len(newest_results(tmp_path / "out")) == 3
    (tmp_path / "faults" / "faults").unlink()
    said = genrebeam(*three_songs, env=env).stdout
    assert "tagged       2" in said and "done before  2" in said
    assert len(newest_results(tmp_path / "out")) == 4


@pytest.mark.slow
def test_a_drive_that_goes_away_in_the_middle_ends_the_run_with_one_line(tmp_path):
    for number in range(1500):
        (tmp_path / "music" / f"{number % 40}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "music" / f"{number % 40}" / f"{number}.wav").symlink_to(tmp_path / "song.wav")
    synth.write(tmp_path / "song.wav", synth.music(120.0, seed=1))
    command = [*GENREBEAM, "tag", tmp_path / "music", "--output", tmp_path / "out", "--workers", "1"]
    command += ["--write-every", "0", "--coverage", "30"]
    env = os.environ | faults.preloaded(tmp_path / "faults", error="EIO", calls="open", path=str(tmp_path / "music"))
    switch = tmp_path / "faults" / "faults"
    switch.unlink()
    with subprocess.Popen(list(map(str, command)), env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True) as run:
        while not list((tmp_path / "out").glob("results/*.parquet")):
            assert run.poll() is None
            time.sleep(0.05)
        switch.touch()
        line = run.communicate(timeout=300)[1]
    assert run.returncode == 4 and "Input/output error" in line and len(line.splitlines()) == 1
    assert len(newest_results(tmp_path / "out"))
