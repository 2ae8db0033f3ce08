"""`genrebeam report`: its options. The work is in pipelines/jobs/report.py."""

from __future__ import annotations

from pathlib import Path

import click

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.commands.options import echo_json, json_option
from genrebeam.pipelines.commands.reader import open_page


@click.command("report")
@click.argument("results", metavar="DIR")
@click.option(
    "--output", type=click.Path(path_type=Path, dir_okay=False), help="The page.  [default: genrebeam-report.html]"
)
@click.option("--no-browser", is_flag=True, help="Only write the page, do not open it.")
@json_option
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(results: str, output: Path | None, no_browser: bool, as_json: bool, debug: bool) -> None:
    """Make one HTML page of DIR, a folder or URL that `genrebeam tag` has filled; it needs no network.

    Where there is a desktop the page is opened in the browser.


    Genres, confidence, the least certain tracks, folders, rejects with advice, runs and the model's figures.
    """
    from genrebeam.pipelines.jobs.report import summarise, to_html

    page = output or Path("genrebeam-report.html")
    summary = summarise(results)
    try:
        page.write_text(to_html(summary), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{page}: cannot be written: {error.strerror}") from error
    if as_json:
        echo_json({"page": str(page), **summary.to_json()})
        return
    click.echo(f"{summary.tracks:,} tracks  -> {page}")
    if not no_browser:
        open_page(page)
