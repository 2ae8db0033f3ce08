"""`genrebeam correct`: its options. The work is in pipelines/dataset/corrections.py."""

from __future__ import annotations

import getpass

import click

from features.errors import UsageError
from pipelines.dataset.corrections import correct


@click.command("correct")
@click.argument("results", metavar="DIR")
@click.argument("track")
@click.argument("genre")
@click.option("--by", metavar="NAME", help="Who says so.  [default: the user]")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(results: str, track: str, genre: str, by: str | None, debug: bool) -> None:
    """Say that TRACK, a path or a track_id of the results in DIR, is of GENRE: any word, the model's or yours.

    The results stay what was heard. `genrebeam apply DIR` writes the correction in place of the prediction.
    """
    try:
        track_id = correct(results, track, genre, by=_user() if by is None else by)
    except OSError as error:
        raise UsageError(f"{results}: cannot be written: {error.strerror or error}") from error
    click.echo(f"{track_id}  -> {genre.strip()}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""  # a container whose user has no name
