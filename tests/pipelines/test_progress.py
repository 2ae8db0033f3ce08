"""Workers say what they have in hand, and end with their driver."""

import io
import os
import subprocess
import sys

from commandline import ROOT
from rich.console import Console
from rich.progress import Progress

from genrebeam.pipelines.engine import progress

WORKER = (
    "import sys, time; from genrebeam.pipelines.engine import progress as p\n"
    "p.end_with_engine(sys.argv[1]); time.sleep(60)"
)


def worker(path):
    return subprocess.Popen([sys.executable, "-c", WORKER, str(path)], cwd=ROOT)


def test_what_was_begun_and_did_not_end_is_in_hand(tmp_path):
    path = tmp_path / "progress"
    with progress.watched(path):
        for track_id in ("a", "b", 'c "quoted"\n'):
            progress.report_started(str(path), track_id)
        progress.report_finished(str(path), "b", duration_s=1.0)
        with path.open("ab") as file:
            file.write(b'{"begin": "cut o')  # a worker that died while it wrote
        assert progress.unfinished(path) == {"a", 'c "quoted"\n'}
    progress.report_started(None, "a")  # nobody watches


def test_a_worker_ends_with_its_driver_and_not_before(tmp_path):
    path = tmp_path / "progress"
    with progress.watched(path):
        process = worker(path)
        try:
            process.wait(3)
            raise AssertionError("it ended while its driver lived")
        except subprocess.TimeoutExpired:
            pass
    assert process.wait(30) == 1


def test_a_worker_ends_when_the_file_of_its_driver_is_gone(tmp_path):
    path = tmp_path / "progress"
    with progress.watched(path):
        process = worker(path)
        path.unlink()
        assert process.wait(30) == 1


def test_a_worker_in_the_process_of_its_driver_does_not_end_it(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from genrebeam.pipelines.engine import progress as p\n"
        "with p.watched(Path(sys.argv[1])): p.end_with_engine(sys.argv[1])\n"
        "time.sleep(3); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "x"], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "alive"


def test_a_line_that_a_full_disk_cuts_off_spoils_no_other(tmp_path, monkeypatch):
    path = tmp_path / "progress"
    path.touch()
    progress.report_started(str(path), "a")
    real = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))
        progress.report_started(str(path), "b")
    progress.report_started(str(path), "c")
    progress.report_finished(str(path), "a")
    assert progress.unfinished(path) == {"c"}


def test_without_a_terminal_there_is_a_line_a_minute():
    now, said = [0.0], io.StringIO()
    console = Console(file=said)
    bar = Progress(console=console, disable=True)
    bar.add_task("Tagging", total=5000)
    lines = progress.MinuteLines(console, clock=lambda: now[0])
    for now[0] in (1.0, 59.0, 61.0, 100.0, 122.0):
        bar.advance(bar.tasks[0].id, 300)
        lines.tell(bar.tasks[0])
    first, second = said.getvalue().splitlines()
    assert first.startswith("Tagging: 900 of 5,000")
    assert second.startswith("Tagging: 1,500 of 5,000")


def test_a_terminal_has_the_bar_instead():
    now, said = [0.0], io.StringIO()
    bar = Progress(disable=True)
    bar.add_task("Tagging", total=5000)
    lines = progress.MinuteLines(Console(file=said, force_terminal=True), clock=lambda: now[0])
    now[0] = 61.0
    lines.tell(bar.tasks[0])
    assert said.getvalue() == ""


def test_the_bar_does_not_say_tagging_before_a_track_is_begun(tmp_path):
    said = io.StringIO()
    path = tmp_path / "progress"
    path.touch()
    with progress.Watcher(total=2, console=Console(file=said, force_terminal=True, width=120)) as watcher:
        watcher.follow(path, completed=0, audio_s=0.0, rejected=0)
        watcher.refresh()
        assert "Loading the model" in said.getvalue()
        assert "Tagging" not in said.getvalue()
        progress.report_started(str(path), "a.mp3")
        watcher.refresh()
    assert "Tagging" in said.getvalue()
