"""`genrebeam correct`: its options. The work is in pipelines/dataset/corrections.py."""

from __future__ import annotations

import getpass

import click

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.commands.options import echo_json, json_option
from genrebeam.pipelines.dataset.corrections import checked, correct


@click.command("correct")
@click.argument("results", metavar="DIR")
@click.argument("track")
@click.argument("genre", required=False)
@click.option("--by", metavar="NAME", help="Who says so.  [default: the user]")
@click.option("--withdraw", is_flag=True, help="Instead of GENRE: what the model heard counts again.")
@json_option
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(
    results: str, track: str, genre: str | None, by: str | None, withdraw: bool, as_json: bool, debug: bool
) -> None:
    """Say that TRACK, a path or a track_id of the results in DIR, is of GENRE: any word, the model's or yours.

    The results stay what was heard. `genrebeam apply DIR` writes the correction in place of the prediction.
    """
    if withdraw == (genre is not None):
        raise UsageError("give either a GENRE or --withdraw")
    by = user() if by is None else by
    try:
        track_id = correct(results, track, genre, by=by)
    except OSError as error:
        raise UsageError(f"{results}: cannot be written: {error.strerror or error}") from error
    if as_json:
        echo_json({"track_id": track_id, "genre": None if genre is None else checked(genre), "by": by})
        return
    click.echo(f"{track_id}  withdrawn" if genre is None else f"{track_id}  -> {genre.strip()}")


def user() -> str:
    """The name of the account; empty where it has none, as in many containers."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
