"""`genrebeam show`: its options, and where the picture goes. The drawing is in pipelines/jobs/show.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.commands.options import model_option
from genrebeam.pipelines.commands.reader import has_desktop
from genrebeam.pipelines.engine.quiet import quiet_libraries


@click.command("show")
@click.argument("track", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False), help="The picture, a PNG.")
@model_option
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(track: Path, output: Path | None, model: str | None, debug: bool) -> None:
    """Draw one TRACK: waveform, Mel spectrogram, and below them the genres over time.

    Without --output the picture is opened where there is a display, and its place is said.
    """
    from genrebeam.pipelines.api import GenreTagger
    from genrebeam.pipelines.jobs.fonts import fonts_for
    from genrebeam.pipelines.jobs.show import NONE_OF_THESE, draw, drawable
    from genrebeam.pipelines.tags.policy import spelled

    picture = output or Path(tempfile.mkdtemp(prefix="genrebeam-"), f"{track.stem}.png")
    if not picture.absolute().parent.is_dir():
        raise UsageError(f"--output {picture}: there is no folder {picture.parent}")
    with quiet_libraries(picture.parent / "genrebeam", debug=debug), GenreTagger(model) as tagger:
        try:
            heard = draw(track, picture, tagger)
        except OSError as error:
            raise UsageError(f"{picture}: cannot be written: {error.strerror}") from error
    unknown = f"  {NONE_OF_THESE}" if heard.is_unknown else ""
    click.echo(f"{spelled(heard.genre)}  {heard.confidence:.0%}{unknown}  -> {picture}")
    if missing := fonts_for(drawable(track.name)).missing:
        click.echo(
            f"genrebeam: no font here has {missing}, so the picture shows boxes; the Noto fonts have every script",
            err=True,
        )
    if output is None:
        _open(picture)


def _open(picture: Path) -> None:
    """With the system's viewer, where there is a display and one is installed."""
    viewer = "open" if sys.platform == "darwin" else "xdg-open"
    if has_desktop() and shutil.which(viewer):
        subprocess.Popen([viewer, str(picture)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
