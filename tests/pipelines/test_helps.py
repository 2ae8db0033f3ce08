"""Helps: every command and option has a place, examples are valid, and shells complete."""

import os
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from commandline import ROOT

from genrebeam.pipelines import cli
from genrebeam.pipelines.commands.helps import COMMAND_SECTIONS, EXAMPLES, OPTION_SECTIONS


def options_of(name):
    return {o for p in cli.cli.get_command(None, name).params if isinstance(p, click.Option) for o in p.opts}


def test_every_command_is_in_one_section_and_has_examples():
    assert sorted(name for names in COMMAND_SECTIONS.values() for name in names) == sorted(cli.COMMANDS)
    assert EXAMPLES.keys() == cli.COMMANDS.keys()


def test_options_in_sections_exist():
    assert {name for names in OPTION_SECTIONS.values() for name in names} <= options_of("tag")


@pytest.mark.parametrize("name", ["tag", "apply", "shards"])
def test_a_help_in_sections_has_every_option(name):
    shown = CliRunner().invoke(cli.cli, [name, "--help"]).output
    assert all(f"  {option}" in shown for option in options_of(name) if option.startswith("--"))
    assert shown.index("Clusters:") < shown.index("Examples:")


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line, _ in lines])
def test_the_command_line_of_an_example_is_valid(example):
    program, name, *arguments = shlex.split(example)
    command = cli.cli.get_command(None, name)
    context = click.Context(command)
    given, rest, _ = command.make_parser(context).parse_args(list(arguments))
    assert program == "genrebeam" and rest == []
    assert all(given.get(one.name) for one in command.params if one.required and isinstance(one, click.Option))


@pytest.mark.parametrize(
    ("words", "completed"),
    [("genrebeam pla", ["playlist"]), ("genrebeam tag --write-t", ["--write-tags"]),
     ("genrebeam tag --write-tags f", ["fill"])],
)  # fmt: skip
def test_a_shell_completes(words, completed):
    environment = os.environ | {
        "COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_GENREBEAM_COMPLETE": "bash_complete",
    }  # fmt: skip
    code = "from genrebeam.pipelines.cli import main; main([])"
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert said.stdout.split() == [f"plain,{word}" for word in completed], said.stderr
