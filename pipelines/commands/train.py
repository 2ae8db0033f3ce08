"""`genrebeam train`: its options and its progress bar. The recipe is in model/train.py."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.commands.options import FOLDER
from genrebeam.pipelines.engine.quiet import quiet_libraries

if TYPE_CHECKING:
    from rich.console import Console

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("train")
@click.argument("shards")
@click.option("--output", type=FOLDER, required=True, help="Folder for the bundle. An unfinished run there goes on.")
@click.option("--model-id", help="Name of the model.  [default: the name of the output folder]")
@click.option("--split", "splits", multiple=True, default=("train",), show_default=True, help="What to train on.")
@click.option("--valid-split", default="valid", show_default=True, help="What to watch; an empty name for nothing.")
@click.option("--fold", help="K/N: hold out fold K (from 0) of N of the artists instead, for cross-validation.")
@click.option("--init", metavar="MODEL", help="Start from this bundle's weights (other labels, fine-tuning).")
@click.option(
    "--targets", "targets_file", type=FILE, help="Parquet: further words or numbers to learn about each track."
)
@click.option("--epochs", type=int, help="Passes over the tracks.")
@click.option("--crops-per-track", type=int, help="Random crops of a track in one pass.")
@click.option("--batch-size", type=int)
@click.option("--learning-rate", type=float)
@click.option("--dropout", type=float)
@click.option("--patience", type=int, help="Stop after so many epochs without improvement; 0 never does.")
@click.option("--seed", type=int, help="The same seed, shards and options give the same network.")
@click.option("--threads", type=int, default=0, help="Cores to use.  [default: all]")
@click.option("--tensorboard", type=FOLDER, help="Folder for TensorBoard logs.")
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(
    shards: str,
    output: Path,
    model_id: str | None,
    splits: tuple[str, ...],
    valid_split: str,
    fold: str | None,
    init: str | None,
    targets_file: Path | None,
    threads: int,
    tensorboard: Path | None,
    quiet: bool,
    debug: bool,
    **recipe: Any,
) -> None:
    """Train a CNN from SHARDS (a folder that `genrebeam shards` has written) into a model bundle.

    Options left out keep the recipe of the shipped model. A run that was killed goes on with the same command.
    """
    from genrebeam.model import targets
    from genrebeam.pipelines.dataset.inputs import bundle_at, shards_at

    dataset = shards_at(shards)
    with quiet_libraries(output, debug=debug) as console:
        _use_threads(threads)
        from genrebeam.model.train import TrainConfig, train

        given = {name: value for name, value in recipe.items() if value is not None}
        try:
            config = TrainConfig(splits=splits, valid_split=valid_split or None, fold=_fold(fold), **given)
        except ValueError as error:
            raise UsageError(str(error)) from error
        saved = train(
            dataset,
            output,
            config,
            model_id=model_id or output.resolve().name,
            init=bundle_at(init) if init else None,
            targets=targets.load(targets_file) if targets_file else None,
            tensorboard=os.fspath(tensorboard) if tensorboard else None,
            callbacks=[] if quiet else [_progress(console, config.epochs)],
        )
    if not quiet:
        click.echo(f"{saved.model_id}, fingerprint {saved.fingerprint}\n-> {output}")


def _fold(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        k, n = text.split("/")
        return int(k), int(n)
    except ValueError as error:
        raise UsageError(f"--fold {text}: write it like 0/5") from error


def _use_threads(threads: int) -> None:
    import tensorflow as tf

    if threads:
        with contextlib.suppress(RuntimeError):  # TensorFlow is running already, with the settings of its caller
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)


def _progress(console: Console, epochs: int) -> Any:
    """A Keras callback: on a terminal one line with a bar, elsewhere a line for each epoch; with the time left."""
    import keras
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    class Bar(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            columns: list[Any] = ["epoch", MofNCompleteColumn(), BarColumn(), TimeRemainingColumn()]
            self.bar = Progress(*columns, TextColumn("left  {task.description}"), console=console)
            self.task = self.bar.add_task("", total=epochs)
            self.bar.start()

        def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            self.bar.update(self.task, completed=epoch)

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            self.bar.update(self.task, completed=epoch + 1, description=_measures(logs))

        def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
            self.bar.stop()

    class Lines(keras.callbacks.Callback):
        def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
            self.begun_s, self.done = time.monotonic(), 0

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            self.done += 1  # by this run; one that goes on begins at a later epoch
            left_s = (time.monotonic() - self.begun_s) / self.done * (epochs - epoch - 1)
            line = f"epoch {epoch + 1} of {epochs}  {_measures(logs)}  {_time_left(left_s)}"
            console.print(line, highlight=False, soft_wrap=True)

    return Bar() if console.is_terminal else Lines()


def _measures(logs: dict[str, Any] | None) -> str:
    return "  ".join(
        f"{name} {float(value):.3f}"
        for name, value in sorted((logs or {}).items())
        if name in ("loss", "val_loss") or "accuracy" in name
    )


def _time_left(seconds: float) -> str:
    """At most 45 s left, 12 min left, 3 h 5 min left: training may stop earlier."""
    if seconds < 90:
        return f"at most {seconds:.0f} s left"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"at most {hours} h {minutes} min left" if hours else f"at most {minutes} min left"
