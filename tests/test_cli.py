"""How errors look to people: one line, no traceback, the right exit code."""

import click
import pytest

from features.errors import BundleError, UsageError
from pipelines import cli


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UsageError("--x: must be y"), 2, "genrebeam: --x: must be y"),
        (BundleError("b: missing"), 2, "genrebeam: b: missing"),
        (ModuleNotFoundError("no", name="sklearn.svm"), 2, "pip install 'genrebeam[train]'"),
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


def test_debug_shows_the_traceback(monkeypatch):
    def fail(**kwargs):
        raise RuntimeError("where")

    monkeypatch.setattr(cli.cli, "main", fail)
    with pytest.raises(RuntimeError, match="where"):
        cli.main(["tag", "--debug"])
