"""`genrebeam train` from the command line: a bundle comes out, mistakes are named."""

import re

import pytest
import tiny_shards
from click.testing import CliRunner
from commandline import genrebeam

from genrebeam.features.errors import UsageError
from genrebeam.model import bundle
from genrebeam.pipelines.commands.train import _time_left, command


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_shards.write(tmp_path_factory.mktemp("shards"), train=6, valid=2)


def test_a_bundle_comes_out(shards, tmp_path):
    options = ["--epochs", "1", "--batch-size", "16", "--crops-per-track", "2", "--model-id", "mine"]
    arguments = [str(shards.path), "--output", str(tmp_path / "b"), *options]
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    made = bundle.load_config(tmp_path / "b")
    assert (made.model_id, made.labels, made.front_end) == ("mine", shards.labels, shards.front_end)
    assert made.fingerprint in result.output
    assert str(tmp_path) not in (tmp_path / "b" / bundle.CONFIG).read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold", "5"], "write it like 0/5"),
        (["--fold", "5/5"], "folds count from 0"),
        (["--epochs", "0"], "epochs must be above 0"),
        (["--split", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_named(shards, tmp_path, options, message):
    result = CliRunner().invoke(command, [str(shards.path), "--output", str(tmp_path), *options])
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_a_folder_without_shards_is_named(tmp_path):
    result = CliRunner().invoke(command, [str(tmp_path), "--output", str(tmp_path / "b")])
    assert isinstance(result.exception, UsageError)
    assert "genrebeam shards" in str(result.exception)


def test_each_epoch_is_a_line_where_there_is_no_terminal(shards, tmp_path):
    options = ["--epochs", "3", "--patience", "0", "--batch-size", "16", "--crops-per-track", "1"]
    run = genrebeam("train", shards.path, "--output", tmp_path / "b", *options)
    lines = [line for line in run.stderr.splitlines() if line]
    assert len(lines) == 3, run.stderr
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(rf"epoch {number} of 3  .*loss \d.*val_loss \d.*  at most \d+ s left", line), line
    assert genrebeam("train", shards.path, "--output", tmp_path / "c", *options, "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "at most 0 s left"),
        (89, "at most 89 s left"),
        (719, "at most 12 min left"),
        (11_100, "at most 3 h 5 min left"),
    ],
)
def test_the_time_left_is_in_the_unit_that_fits(seconds, said):
    assert _time_left(seconds) == said
