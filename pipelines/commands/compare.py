"""`genrebeam compare`: its options and its progress bar. The work is in model/compare.py."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.commands.options import FOLDER
from genrebeam.pipelines.engine.quiet import quiet_libraries

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from genrebeam.model.compare import Audio


@click.command("compare")
@click.argument("shards")
@click.option("--output", type=FOLDER, required=True, help="Folder for compare.json, compare.md and compare.png.")
@click.option("--split", "splits", multiple=True, default=("train",), show_default=True, help="What to train on.")
@click.option("--test-split", default="valid", show_default=True, help="What to measure on, honestly.")
@click.option("--features", multiple=True, help="Only these features; may be repeated.  [default: all]")
@click.option(
    "--algorithm",
    "algorithms",
    multiple=True,
    help="Only this one; may be repeated.  [default: all but the networks, which cost minutes to hours]",
)
@click.option(
    "--audio",
    "libraries",
    multiple=True,
    metavar="LIBRARY",
    help="What the shards were made from; may be repeated. Adds zero crossings, for which shards are not enough.",
)
@click.option("--epochs", type=int, help="Of the networks.  [default: as their recipes have it]")
@click.option("--leaky/--no-leaky", default=True, show_default=True, help="Also the leaky protocol, marked as such.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of whatever is random.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(
    shards: str,
    output: Path,
    splits: tuple[str, ...],
    test_split: str,
    features: tuple[str, ...],
    algorithms: tuple[str, ...],
    libraries: tuple[str, ...],
    epochs: int | None,
    leaky: bool,
    seed: int,
    quiet: bool,
    debug: bool,
) -> None:
    """Other features and other algorithms on the tracks of SHARDS: what tutorials try, measured honestly.

    The leaky protocol tests on chunks of songs that were trained on. It shows where figures near 0.9 come from.
    Every row is written as soon as it is measured; the same command goes on, and further rows can be added.
    """
    from genrebeam.model import compare
    from genrebeam.pipelines.dataset.inputs import shards_at

    dataset = shards_at(shards)
    plan = compare.Plan(features, algorithms, epochs, seed, audio=bool(libraries))
    if test_split in splits:
        raise UsageError(f"--test-split {test_split}: what is trained on cannot be measured on honestly")
    recipe = {"shards": dataset.fingerprint, "splits": list(splits), "test_split": test_split, "seed": seed}
    if libraries:
        recipe["audio"] = True
    with quiet_libraries(output, debug=debug) as console:
        rows = compare.load_rows(output, recipe)
        audio = _audio(libraries) if libraries else None
        with _progress(console, quiet=quiet) as bar:
            task = bar.add_task("", total=None)
            tell = lambda text: bar.update(task, description=text)  # noqa: E731 (a name for one line)
            chunks = compare.read_chunks(dataset, [*splits, test_split], audio, tell=tell)
            tested = compare.protocols(chunks, test_split, leaky=leaky, seed=seed)
            done = {row.key for row in rows}
            wanted = {(protocol, *entry[:2]) for entry in plan.entries() for protocol in tested}
            bar.update(task, total=len(wanted - done))
            for row in compare.compare(chunks, tested, plan, done=done, tell=tell):
                rows.append(row)
                compare.save(rows, output, recipe)
                bar.advance(task)
        compare.save(rows, output, recipe)
    if not quiet:
        click.echo(f"{compare.markdown(rows)}\n-> {output}")


def _audio(libraries: tuple[str, ...]) -> Audio:
    """The files of libraries, under the names that `genrebeam shards` gave them."""
    from genrebeam.pipelines.library.discover import discover
    from genrebeam.pipelines.stages.extract import local_copy

    return {track.track_id: functools.partial(local_copy, track.uri) for track in discover(libraries).tracks}


def _progress(console: Console, *, quiet: bool) -> Progress:
    """One line: rows measured, and what is being measured. Nothing where nobody watches."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    return Progress(*columns, console=console, disable=quiet or not console.is_terminal)
