"""`genrebeam learn`: its options, and the table of words. The work is in pipelines/jobs/learn.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.cli import EXIT_FAILED, EXIT_OK
from genrebeam.pipelines.commands.options import FOLDER
from genrebeam.pipelines.commands.screen import Screen

if TYPE_CHECKING:
    from genrebeam.model.learn import WordFigures
    from genrebeam.pipelines.jobs.learn import LearnReport

_SHOWN = 60  # words in the table
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("learn")
@click.argument("results", metavar="DIR")
@click.option("--output", type=FOLDER, required=True, metavar="BUNDLE", help="Folder for the bundle of your words.")
@click.option("--labels", type=_FILE, help="Take the words from a table, as for `shards`, and not from tags.")
@click.option("--genre-map", type=click.Path(path_type=Path), help="Words in tags = words to learn (docs/tags.md).")
@click.option("--useless", multiple=True, metavar="WORD", help="A word that says nothing, besides Other, Unknown, ...")
@click.option("--min-tracks", type=int, default=8, show_default=True, help="Of a word, or it is not learned.")
@click.option("--min-artists", type=int, default=3, show_default=True, help="The same for artists or albums.")
@click.option("--precision", type=float, default=0.8, show_default=True, help="To report each word's threshold at.")
@click.option("--keep-all", is_flag=True, help="Keep words that cannot be heard.")
@click.option("--model", metavar="MODEL", help="The bundle that the results were made with, where it does not ship.")
@click.option("--model-id", default="my-words", show_default=True, help="Name of the new bundle.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(
    results: str,
    output: Path,
    labels: Path | None,
    genre_map: Path | None,
    useless: tuple[str, ...],
    min_tracks: int,
    min_artists: int,
    precision: float,
    keep_all: bool,
    model: str | None,
    model_id: str,
    seed: int,
    quiet: bool,
    debug: bool,
) -> int:
    """Learn your own genre words from DIR, a folder or URL that `genrebeam tag` has filled; no music is heard again.

    Your words are the corrections, then the genres that the files had before genrebeam wrote any. Each word is judged
    on artists that it was not learned from; words that cannot be heard are left out. The bundle is for
    `genrebeam tag --model BUNDLE`.
    """
    from genrebeam.model.learn import LearnConfig
    from genrebeam.pipelines.jobs.learn import LearnOptions, learn_words
    from genrebeam.pipelines.tags.policy import DEFAULT_USELESS, read_names

    try:
        config = LearnConfig(min_tracks, min_artists, precision, keep_all, seed)
    except ValueError as error:
        raise UsageError(f"--{str(error).replace('min_groups', 'min-artists').replace('_', '-')}") from error
    report = learn_words(
        LearnOptions(
            results=results,
            output=output,
            labels=labels,
            model=model,
            model_id=model_id,
            names=read_names(genre_map) if genre_map else (),
            useless=(*DEFAULT_USELESS, *useless),
            config=config,
        )
    )
    if not quiet:
        _show(report, output, results)
    if report.bundle is None:
        click.echo(f"genrebeam: {results}: nothing to learn: {report.reason}{_advice(report)}", err=True)
        return EXIT_FAILED
    return EXIT_OK


def _advice(report: LearnReport) -> str:
    if not report.next:
        return ""
    return "; `genrebeam correct` or `genrebeam app` says what tracks are, and these would teach most (above)"


def _show(report: LearnReport, output: Path, results: str) -> None:
    screen = Screen()
    screen.print(f"{report.with_words:,} of {report.tracks:,} tracks have words of yours.")
    if report.others:
        screen.print(f"{report.others:,} more have no embedding of this network: tag them again to use them.")
    if report.figures:
        screen.print(_table(report.figures))
    for word, others in sorted(report.spellings.items()):
        screen.print(f"Taken for one word: {', '.join((word, *others))}")
    for one, other, auc in report.alike:
        screen.print(f"Hardly told apart: {one} and {other} ({auc:.2f}, 0.5 is chance)")
    if report.next:
        screen.print("Without a word, and worth telling (spread over the library):")
        for track_id in report.next:
            screen.print(f"  {track_id}", soft_wrap=True)
    promise = report.promise
    if promise is None or report.bundle is None:
        return
    screen.print(
        f"On artists that it did not learn from, the first answer is right for {promise.right:.0%} of the tracks "
        f"({promise.right_low:.0%} to {promise.right_high:.0%}).",
        soft_wrap=True,
    )
    if promise.right_of_answered is not None:
        screen.print(
            f"By default {promise.answered:.0%} would be written, {promise.right_of_answered:.0%} of that right.",
            soft_wrap=True,
        )
    if report.to_check:
        screen.print(f"{report.to_check:,} of your tags are contradicted -> {output}/tags-to-check.csv", soft_wrap=True)
    screen.print(f"-> {output}   next: genrebeam tag LIBRARY --output {results} --model {output}", soft_wrap=True)


def _table(figures: tuple[WordFigures, ...]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("word", "tracks", "artists", "", "found", "right"):
        table.add_column(name, justify="left" if name in ("word", "") else "right")
    for one in figures[:_SHOWN]:
        shares = ("" if value is None else f"{value:.0%}" for value in (one.recall, one.precision))
        table.add_row(one.word, f"{one.tracks:,}", f"{one.groups:,}", one.verdict, *shares)
    if len(figures) > _SHOWN:
        table.add_row(f"... {len(figures) - _SHOWN:,} more", "", "", "", "", "")
    return table
