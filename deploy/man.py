"""Write the man pages of genrebeam and its commands into a folder: python deploy/man.py FOLDER (see `make man`)."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

from genrebeam.pipelines.cli import COMMANDS, cli
from genrebeam.pipelines.commands.helps import EXAMPLES


def as_roff(text: str) -> str:
    """Paragraphs, one a line, of which none is taken for a macro."""
    paragraphs = [" ".join(part.split()) for part in text.replace("\b", "").split("\n\n")]
    return "\n\n".join("\\&" + one if one.startswith((".", "'")) else one for one in paragraphs).replace("-", "\\-")


folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
commands: dict[str, click.Command] = {}
for name, (_, summary) in COMMANDS.items():
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    examples = [f".TP\n.B {as_roff(line)}\n{as_roff(meaning)}" for line, meaning in EXAMPLES[name]]
    command.help = "\n".join([as_roff(command.help or ""), ".SH EXAMPLES", *examples])
    command.short_help = summary
    commands[name] = command
everything = click.Group("genrebeam", commands=commands, params=cli.params, help=cli.help)
write_man_pages("genrebeam", everything, version=importlib.metadata.version("genrebeam"), target_dir=str(folder))
print(f"-> {folder}: {1 + len(commands)} pages")
