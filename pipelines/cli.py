"""The `genrebeam` command: which commands there are, and how errors look. Each command has a module of its own.

Command modules are imported only when their command is asked for: `genrebeam --help` must not wait for
Beam or TensorFlow.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import signal
import sys
from typing import Any

import click

from genrebeam.features.absent import absent
from genrebeam.features.errors import GenrebeamError, how_to_install
from genrebeam.pipelines.commands.helps import COMMAND_SECTIONS, examples_of

COMMANDS = {
    "tag": ("genrebeam.pipelines.commands.tag", "Hear the genre of every track in a library."),
    "apply": ("genrebeam.pipelines.commands.apply", "Write the genres of a results folder into the files."),
    "undo": ("genrebeam.pipelines.commands.undo", "Put back the genres that were in the files before."),
    "correct": ("genrebeam.pipelines.commands.correct", "Say that a track is of another genre."),
    "learn": ("genrebeam.pipelines.commands.learn", "Learn your own genre words from a tagged catalog."),
    "playlist": ("genrebeam.pipelines.commands.playlist", "Make a playlist of what sounds alike or is of a genre."),
    "show": ("genrebeam.pipelines.commands.show", "Draw a track: waveform, spectrogram, genres over time."),
    "app": ("genrebeam.app.command", "Hear, browse and correct in a browser."),
    "report": ("genrebeam.pipelines.commands.report", "Make one HTML page of a results folder."),
    "doctor": ("genrebeam.pipelines.commands.doctor", "Say what works on this machine, and what to do."),
    "shards": ("genrebeam.pipelines.commands.shards", "Make labelled training shards of a library."),
    "train": ("genrebeam.pipelines.commands.train", "Train a CNN from shards into a model bundle."),
    "evaluate": ("genrebeam.pipelines.commands.evaluate", "Measure bundles on tracks that they never heard."),
    "compare": ("genrebeam.pipelines.commands.compare", "Other features and algorithms on the same tracks."),
}

# Exit codes are part of the interface; docs/cli.md lists them.
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_TOO_MANY_REJECTS, EXIT_UNREACHABLE, EXIT_INTERRUPTED = 0, 1, 2, 3, 4, 130

NO_WINDOWS = "genrebeam: Windows is not supported; run it in WSL 2, which is Linux"

# Packages that only training and measuring need; setup.py has the same list.
TRAIN_EXTRA = {"sklearn", "matplotlib", "tensorboard"}


class LazyGroup(click.Group):
    """A click group whose commands are modules with a `command` attribute."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        command.epilog = examples_of(cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            alike = difflib.get_close_matches(args[0], COMMANDS, 1)
            advice = f"did you mean {alike[0]}?" if alike else "`genrebeam --help` lists them"
            ctx.fail(f"No such command {args[0]!r}; {advice}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, names in COMMAND_SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), COMMANDS[name][1]) for name in names])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="genrebeam", prog_name="genrebeam")
def cli() -> None:
    """Tag an entire music catalog with genres."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code. One line per error; a traceback only with --debug."""
    args = sys.argv[1:] if argv is None else argv
    if sys.platform == "win32":
        click.echo(NO_WINDOWS, err=True)
        sys.exit(EXIT_USAGE)
    debug = "--debug" in args
    # Importing Beam warns of cloud packages that nobody asked for; what matters to people is an exception here.
    logging.basicConfig(level=logging.INFO if debug else logging.CRITICAL)
    _end_as_on_ctrl_c()
    # pyarrow and Beam import pandas wherever it is installed: half a second. Only the application needs it.
    unused = [] if args[:1] == ["app"] else ["pandas"]
    try:
        with absent(*unused):
            code: Any = cli.main(args=args, prog_name="genrebeam", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else EXIT_OK)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(EXIT_USAGE)
    except (KeyboardInterrupt, click.Abort):
        click.echo("genrebeam: interrupted; what is committed stays, run the same command to go on", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except GenrebeamError as error:
        if debug:
            raise
        click.echo(f"genrebeam: {error}", err=True)
        sys.exit(getattr(error, "exit_code", EXIT_USAGE))
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in TRAIN_EXTRA:
            click.echo(f"genrebeam: this needs {error.name}: {how_to_install('train')}", err=True)
            sys.exit(EXIT_USAGE)
        message = " ".join(str(error).split()) or "no message"
        click.echo(f"genrebeam: {type(error).__name__}: {message[:500]} (--debug shows where)", err=True)
        sys.exit(EXIT_FAILED)


def _end_as_on_ctrl_c() -> None:
    """Let a service manager, `timeout` or a closed terminal interrupt a run too, which then tidies up and says so.

    By default they would end this process on the spot, and its temporary files and log would stay where they are.
    What somebody has set to be ignored, as nohup does, stays ignored.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
