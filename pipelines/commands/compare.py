"""`genrebeam compare`: its options and what it writes. The work is in model/compare.py."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from features.errors import UsageError
from pipelines.quiet import quiet_libraries

FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("compare")
@click.argument("shards", type=FOLDER)
@click.option("--output", type=FOLDER, required=True, help="Folder for compare.json, compare.md and compare.png.")
@click.option("--split", "splits", multiple=True, default=("train",), show_default=True, help="What to train on.")
@click.option("--test-split", default="valid", show_default=True, help="What to measure on, honestly.")
@click.option("--algorithm", "only", multiple=True, help="Only this one; may be repeated.  [default: all]")
@click.option("--leaky/--no-leaky", default=True, show_default=True, help="Also the leaky protocol, marked as such.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(
    shards: Path,
    output: Path,
    splits: tuple[str, ...],
    test_split: str,
    only: tuple[str, ...],
    leaky: bool,
    quiet: bool,
    debug: bool,
) -> None:
    """Other features and other algorithms on the tracks of SHARDS: what tutorials try, measured honestly.

    The leaky protocol tests on chunks of songs that were trained on. It shows where figures near 0.9 come from.
    """
    from model import compare, shardset

    dataset = shardset.load(shards)
    unknown = set(only) - set(compare.algorithms())
    if unknown:
        raise UsageError(f"--algorithm {', '.join(sorted(unknown))}: choose from {', '.join(compare.algorithms())}")
    with quiet_libraries(output, debug=debug):
        train, test = compare.read_chunks(dataset, splits), compare.read_chunks(dataset, [test_split])
        rows = compare.compare(train, test, dataset.front_end, protocol="honest", only=only)
        if leaky:
            both = compare.leaky_split(compare.read_chunks(dataset, [*splits, test_split]))
            rows += compare.compare(*both, dataset.front_end, protocol="LEAKY", only=only)
        text = compare.markdown(rows)
        try:
            (output / "compare.md").write_text(text, encoding="utf-8")
            (output / "compare.json").write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=2) + "\n")
            compare.plot(rows, output / "compare.png")
        except OSError as error:
            raise UsageError(f"{output}: cannot write the comparison: {error.strerror}") from error
    if not quiet:
        click.echo(text + f"\n-> {output}")
