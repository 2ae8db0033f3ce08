"""`genrebeam apply`: its options, some of which `tag` and `undo` share. The work is in pipelines/jobs/apply.py."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.apply.options import HARD_LINKS, ApplyOptions
from genrebeam.pipelines.cli import EXIT_OK
from genrebeam.pipelines.commands.beam import BeamCommand, engine_options
from genrebeam.pipelines.commands.options import echo_json, json_option
from genrebeam.pipelines.commands.screen import Screen
from genrebeam.pipelines.engine.quiet import quiet_libraries
from genrebeam.pipelines.engine.runner import Engine, usable_cores
from genrebeam.pipelines.jobs.apply import apply_results, show, write_changes
from genrebeam.pipelines.tags.policy import DEFAULT_USELESS, POLICIES, TagPolicy, read_names

_FILE = click.Path(path_type=Path, dir_okay=False)
Command = TypeVar("Command", bound=Callable[..., Any])

_WRITING = (
    click.option("--hard-links", type=click.Choice(HARD_LINKS), default="skip", show_default=True,
                 help="Files with several names: leave them, or tag this name and part it from the others."),
    click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing."),
    click.option("--yes", is_flag=True, help="Do not ask before writing."),
)  # fmt: skip
_CHOOSING = (
    click.option("--min-confidence", type=float, default=TagPolicy.min_confidence, show_default=True,
                 help="Write no genre that the model is less sure of."),
    click.option("--max-unknown", type=float, default=TagPolicy.max_unknown, show_default=True,
                 help="Write nothing where more than that speaks for none of the model's genres; 1 to do it anyway."),
    click.option("--max-genres", type=int, default=TagPolicy.max_genres, show_default=True,
                 help="Genres written per track at most."),
    click.option("--genre-map", type=_FILE, metavar="FILE",
                 help="Your own words: lines `label = Name; Another Name`. Or tree, or musicbrainz, which ship."),
    click.option("--useless", multiple=True, metavar="WORD",
                 help="A genre as good as none, besides Other, Unknown, Misc and the like."),
    click.option("--touch", is_flag=True, help="Set the files' modification time; otherwise it stays."),
    click.option("--even-if-edited", is_flag=True, help="Also where somebody changed the genre that we had written."),
)  # fmt: skip


def writing_options(function: Command) -> Command:
    """The options of every command that writes into music files."""
    for option in reversed(_WRITING):
        function = option(function)
    return function


def apply_options(default_policy: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of `apply` and `tag --write-tags`; the command gets them as one argument, `apply: ApplyOptions`.

    The --workers and --quiet of the command itself are respected.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def command(*args: Any, **values: Any) -> Any:
            genre_map, useless = values.pop("genre_map"), values.pop("useless")
            tags = TagPolicy(
                policy=values.pop("write_tags"),
                min_confidence=values.pop("min_confidence"),
                max_unknown=values.pop("max_unknown"),
                max_genres=values.pop("max_genres"),
                names=read_names(genre_map) if genre_map else (),
                useless=(*DEFAULT_USELESS, *useless),
                respect_edits=not values.pop("even_if_edited"),
            )
            options = ApplyOptions(
                tags=tags,
                **{name: values.pop(name) for name in ("hard_links", "touch", "dry_run", "yes")},
                workers=values.get("workers") or usable_cores(),
                quiet=values.get("quiet", False),
            )
            return function(*args, apply=options, **values)

        policy = click.option(
            "--write-tags", type=click.Choice(POLICIES), default=default_policy, show_default=True,
            help="fill: where there is no genre; merge: add to what is there; overwrite: replace it.",
        )  # fmt: skip
        for option in reversed((policy, *_CHOOSING, *_WRITING)):
            command = option(command)
        return command

    return decorate


@click.command("apply", cls=BeamCommand)
@click.argument("results", metavar="DIR")
@apply_options("fill")
@click.option("--only-corrected", is_flag=True, help="Only tracks that were corrected with `genrebeam correct`.")
@click.option("--output", type=_FILE, metavar="FILE", help="With --dry-run: every change, as .csv or .json.")
@click.option("--workers", type=int, default=None, help="Files written at a time.  [default: one per core]")
@engine_options
@json_option
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(
    results: str,
    apply: ApplyOptions,
    only_corrected: bool,
    output: Path | None,
    engine: Engine,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Write the genres of DIR, a folder or URL that `genrebeam tag` has filled, into the files themselves.

    What is there already is not written again, so a run that was killed goes on with the same command. Every
    change is journalled in DIR/applied first; `genrebeam undo DIR` takes it back.
    """
    console = Console(stderr=True, highlight=False)
    if output is not None and (not apply.dry_run or output.suffix.lower() not in (".csv", ".json")):
        raise UsageError("--output goes with --dry-run, and names a .csv or .json file")
    apply = dataclasses.replace(apply, only_corrected=only_corrected, list_all=output is not None)
    if engine.runner:
        with quiet_libraries(results, debug=debug) as terminal:
            from genrebeam.pipelines.jobs.apply_graph import apply_on_runner

            report = apply_on_runner(results, apply, engine, console=terminal)
    else:
        report = apply_results(results, apply, console=console)
    if output is not None:
        write_changes(report, output)
    if as_json:
        echo_json(report.to_json(planned=apply.dry_run))
    elif not quiet:
        show(report, Screen(), planned=apply.dry_run)
    return EXIT_OK
