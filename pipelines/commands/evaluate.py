"""`genrebeam evaluate`: its options and what it writes. The measuring is in model/evaluate.py."""

from __future__ import annotations

import json
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import click

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.commands.options import FOLDER
from genrebeam.pipelines.engine.quiet import quiet_libraries

if TYPE_CHECKING:
    import pyarrow as pa

_TRACKS = "tracks.parquet"


@click.command("evaluate")
@click.argument("bundles", nargs=-1, required=True, metavar="BUNDLE...")
@click.argument("shards")
@click.option("--split", help="What to measure on.  [default: what each bundle held out with --fold]")
@click.option(
    "--output", type=FOLDER, required=True, help="Folder for the report: metrics.json, tracks.parquet, report.md, .png."
)
@click.option(
    "--against", type=FOLDER, help="The --output of another evaluation: who is right more often about the same tracks?"
)
@click.option("--card", type=FOLDER, help="Give these figures and what was fitted to that bundle: its model card.")
@click.option(
    "--fit",
    is_flag=True,
    help="Fit the calibration on these tracks, and judge it crosswise.",
)
@click.option(
    "--lowpass",
    "lowpass_hz",
    type=click.FloatRange(min=500),
    metavar="HZ",
    help="Measure on the tracks without all that is above, as low sample rates and old recordings are.",
)
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(
    bundles: tuple[str, ...],
    shards: str,
    split: str | None,
    output: Path,
    against: Path | None,
    card: Path | None,
    fit: bool,
    lowpass_hz: float | None,
    quiet: bool,
    debug: bool,
) -> None:
    """Measure one BUNDLE, or the folds of a cross-validation, on the labelled tracks of SHARDS.

    Several bundles that `train --fold` has made are each asked about the tracks that they were trained without.
    """
    import pyarrow.parquet as pq

    from genrebeam.model import bundle
    from genrebeam.pipelines.dataset.inputs import bundle_at, shards_at

    if card and lowpass_hz:
        raise UsageError("--lowpass: a model card is about whole recordings; leave out --card")
    other = _tracks(against) if against else None
    dataset = shards_at(shards)
    loaded = [bundle_at(one) for one in bundles]
    with quiet_libraries(output, debug=debug):
        from genrebeam.model import calibration, evaluate, figures
        from genrebeam.model import card as cards

        heard = evaluate.listen(loaded, dataset, split, lowpass_hz=lowpass_hz)
        whole = evaluate.listen(loaded, dataset, split) if fit and lowpass_hz else heard
        first = loaded[0]
        fitted = calibration.fit(whole, len(first.labels)) if fit else first.calibration
        judged = (
            calibration.cross_fitted(whole, len(first.labels), heard) if fit else calibration.predicted(heard, fitted)
        )
        measured = evaluate.measure(
            heard,
            first.labels,
            calibration=fitted,
            judged=judged,
            trained_groups=evaluate.trained_groups(first, dataset) if split else frozenset(),
        )
        answers = evaluate.answers(heard, first.labels, *judged)
        if other is not None:
            measured["paired"] = evaluate.paired(answers, other)
        text = figures.markdown(measured, first.labels)
        try:
            output.mkdir(parents=True, exist_ok=True)
            (output / "metrics.json").write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
            pq.write_table(answers, output / _TRACKS, compression="zstd")
            (output / "report.md").write_text(text, encoding="utf-8")
            figures.plot(measured, first.labels, output / "report.png")
        except OSError as error:
            raise UsageError(f"{output}: cannot write the report: {error.strerror}") from error
        if card is not None:
            cards.write(bundle.load_config(card), measured, measured_on=_measured_on(loaded, split, shards))
    if not quiet:
        click.echo(text + f"\n-> {output}" + (f"\n-> {card}" if card else ""))


def _tracks(report: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(report / _TRACKS)
    except (OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"--against {report}: holds no {_TRACKS}; give the --output of another evaluation") from error


def _measured_on(loaded: list[Any], split: str | None, shards: str) -> str:
    if split is not None:
        return f"the split `{split}` of the shards `{PurePath(shards).name}`"
    epochs = loaded[0].provenance["recipe"].get("epochs", "?")
    return f"{len(loaded)} folds of artists, each by a network of the same recipe trained without it ({epochs} epochs)"
