"""`genrebeam undo`: its options. The work is in pipelines/jobs/apply.py."""

from __future__ import annotations

import click
from rich.console import Console

from genrebeam.pipelines.apply.options import ApplyOptions
from genrebeam.pipelines.cli import EXIT_OK
from genrebeam.pipelines.commands.apply import writing_options
from genrebeam.pipelines.commands.options import echo_json, json_option
from genrebeam.pipelines.commands.screen import Screen
from genrebeam.pipelines.engine.runner import usable_cores
from genrebeam.pipelines.jobs.apply import show, undo_results


@click.command("undo")
@click.argument("results", metavar="DIR")
@writing_options
@click.option("--workers", type=int, default=None, help="Files written at a time.  [default: one per core]")
@json_option
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(
    results: str,
    hard_links: str,
    dry_run: bool,
    yes: bool,
    workers: int | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Put back the genres that were in the files before DIR was applied to them; absent ones become absent.

    A file whose genre somebody changed since is left alone, and stands in DIR/rejects with the reason.
    """
    options = ApplyOptions(
        hard_links=hard_links,
        dry_run=dry_run,
        yes=yes,
        workers=workers if workers is not None else usable_cores(),
        quiet=quiet,
    )
    report = undo_results(results, options, console=Console(stderr=True, highlight=False))
    if as_json:
        echo_json(report.to_json(planned=dry_run))
    elif not quiet:
        show(report, Screen(), planned=dry_run)
    return EXIT_OK
