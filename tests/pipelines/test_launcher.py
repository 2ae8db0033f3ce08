"""The local engine in its own process: what is raised arrives, what dies is an error, and it ends with its parent."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from commandline import ROOT

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.engine.launcher import run_apart


def write(path):
    Path(path).write_text(str(os.getpid()))


def make_a_mistake():
    raise UsageError("--this: choose another")


def stumble():
    raise ValueError("Traceback and all\nValueError: in a worker")


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def lose_a_worker():
    """As Beam does: the thread that waits for a worker process fails, and the run goes on waiting."""

    def wait():
        raise RuntimeError("Worker subprocess exited with return code -9")

    threading.Thread(target=wait, name="run_worker").start()
    time.sleep(60)


def litter():
    """As what was forked or is killed does: nothing that it would remove at its exit is removed."""
    tempfile.NamedTemporaryFile(delete=False).close()
    subprocess.run([sys.executable, "-c", "import tempfile; tempfile.mkdtemp()"], check=True)
    return len(os.listdir(tempfile.gettempdir()))


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Functions of this module have to be found in another process."""
    monkeypatch.setitem(sys.modules, "test_launcher", sys.modules[__name__])
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent), *sys.path])
    for function in (write, make_a_mistake, stumble, die, lose_a_worker, litter):
        monkeypatch.setattr(function, "__module__", "test_launcher")


def test_it_happens_in_another_process(tmp_path):
    run_apart(write, str(tmp_path / "pid"))
    assert int((tmp_path / "pid").read_text()) != os.getpid()


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (make_a_mistake, UsageError, "--this: choose another"),
        (stumble, RuntimeError, "ValueError: in a worker"),
        (die, RuntimeError, "ended with -9"),
        (lose_a_worker, RuntimeError, "Worker subprocess exited"),
    ],
)
def test_what_goes_wrong_there_is_raised_here(act, error, says):
    began = time.monotonic()
    with pytest.raises(error, match=says):
        run_apart(act)
    assert time.monotonic() - began < 50


def test_temporary_files_go_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_apart(litter) == 2
    assert list(tmp_path.iterdir()) == []


def test_it_ends_with_its_parent(tmp_path):
    code = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from genrebeam.pipelines.engine.launcher import run_apart\n"
        "import launched\n"
        "if __name__ == '__main__': run_apart(launched.linger, sys.argv[1])\n"
    )
    (tmp_path / "launched.py").write_text(
        "import os, time\ndef linger(path):\n    open(path, 'w').write(str(os.getpid()))\n    time.sleep(120)\n"
    )
    (tmp_path / "main.py").write_text(code)
    parent = subprocess.Popen([sys.executable, tmp_path / "main.py", tmp_path / "pid", ROOT, tmp_path])
    deadline = time.monotonic() + 60
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{child}").exists() and " Z " not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline + 30
        time.sleep(0.05)
