"""How errors look to people: one line, no traceback, the right exit code."""

import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from genrebeam.features.errors import BundleError, UsageError
from genrebeam.pipelines import cli
from genrebeam.pipelines.dataset.inputs import bundle_at


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UsageError("--x: must be y"), 2, "genrebeam: --x: must be y"),
        (BundleError("b: missing"), 2, "genrebeam: b: missing"),
        (ModuleNotFoundError("no", name="sklearn.svm"), 2, "pip install '.[train]'"),
        (ModuleNotFoundError("no module named x", name="x"), 1, "ModuleNotFoundError: no module named x"),
        (RuntimeError("two\nlines"), 1, "RuntimeError: two lines (--debug shows where)"),
        (KeyboardInterrupt(), 130, "run the same command to go on"),
        (click.Abort(), 130, "interrupted"),
        (click.UsageError("no such option"), 2, "no such option"),
    ],
)
def test_every_error_is_one_line_and_a_code(monkeypatch, capsys, error, code, says):
    def fail(**kwargs):
        raise error

    monkeypatch.setattr(cli.cli, "main", fail)
    with pytest.raises(SystemExit) as caught:
        cli.main(["tag"])
    assert caught.value.code == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "says"),
    [("aply", "did you mean apply?"), ("reprot", "did you mean report?"), ("xyzzy", "`genrebeam --help` lists them")],
)
def test_a_misspelt_command_gets_a_proposal(capsys, word, says):
    with pytest.raises(SystemExit) as caught:
        cli.main([word])
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


def test_a_model_that_does_not_exist_is_told_with_the_names_of_those_that_do():
    with pytest.raises(BundleError, match=r"gtzan: .*genres16 or gtzan10"):
        bundle_at("gtzan")


def test_debug_shows_the_traceback(monkeypatch):
    def fail(**kwargs):
        raise RuntimeError("where")

    monkeypatch.setattr(cli.cli, "main", fail)
    with pytest.raises(RuntimeError, match="where"):
        cli.main(["tag", "--debug"])


KILLED = """
import os, signal, sys, time
from genrebeam.pipelines import cli

def kill_me(**kwargs):
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        time.sleep(0.2)
    finally:
        print("tidied up")

cli.cli.main = kill_me
cli.main(["tag"])
"""


def killed(number, **kwargs):
    command = [sys.executable, "-c", KILLED, str(int(number))]
    return subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, **kwargs)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whoever_asks_a_run_to_end_interrupts_it(number):
    run = killed(number)
    assert (run.returncode, run.stdout) == (130, "tidied up\n")
    assert "run the same command to go on" in run.stderr


def test_a_closed_terminal_is_nothing_to_what_nohup_started():
    run = killed(signal.SIGHUP, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert run.returncode == 0


def test_windows_is_refused_in_one_plain_sentence():
    code = "import sys; from genrebeam.pipelines.cli import main; sys.platform = 'win32'; main(['tag', 'x'])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr == "genrebeam: Windows is not supported; run it in WSL 2, which is Linux\n"
