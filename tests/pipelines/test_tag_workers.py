"""How many workers `tag` starts: what they cost at their start has to be worth it."""

import pytest
import synth
from rich.console import Console

from pipelines.engine.runner import Engine
from pipelines.jobs import tag as job


@pytest.mark.parametrize(("tracks", "expected"), [(1, 1), (2, 2), (5, 3)])
def test_no_more_workers_start_than_there_are_tracks(tmp_path, monkeypatch, tracks, expected):
    for number in range(tracks):
        synth.write(tmp_path / "library" / f"{number}.wav", synth.music(1.5, seed=number))
    started = []
    monkeypatch.setattr(job, "run_apart", lambda act, run: started.append(run.options.engine.workers))
    options = job.TagOptions((str(tmp_path / "library"),), str(tmp_path / "out"), None, Engine(workers=3))
    job.tag(options, Console(quiet=True))
    assert started == [expected]
