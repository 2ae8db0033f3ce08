"""How many workers `tag` starts: what they cost at their start has to be worth it."""

import os
import subprocess
import sys
import time

import psutil
import pytest
import synth
from commandline import GENREBEAM, ROOT
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
