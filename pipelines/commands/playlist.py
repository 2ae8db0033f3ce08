"""`genrebeam playlist`: its options. The work is in pipelines/jobs/playlist.py."""

from __future__ import annotations

from pathlib import Path

import click

from genrebeam.features.errors import UsageError


@click.command("playlist")
@click.argument("results", metavar="DIR")
@click.option("--like", multiple=True, metavar="TRACK", help="What sounds like it; several for their mean.")
@click.option("--genre", "genres", multiple=True, metavar="GENRE", help="Of this genre; several: of any of them.")
@click.option("--folder", default="", metavar="FOLDER", help="Only tracks whose track_id begins with it.")
@click.option("--min-confidence", type=float, default=0.0, show_default=True, help="Of the genre, 0 to 1.")
@click.option("--count", type=int, default=50, show_default=True, help="Tracks at most.")
@click.option("--hours", type=float, help="Hours of music at most, in place of --count.")
@click.option("--per-artist", type=int, default=1, show_default=True, help="Tracks of an artist; 0 for any number.")
@click.option("--per-album", type=int, default=1, show_default=True, help="Tracks of an album; 0 for any number.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another order, without --like.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["m3u8", "nsp", "json"]),
    default="m3u8",
    show_default=True,
    help="nsp: Navidrome's rule.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The playlist.  [default: playlist.m3u8, .nsp or .json]",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def command(
    results: str,
    like: tuple[str, ...],
    genres: tuple[str, ...],
    folder: str,
    min_confidence: float,
    count: int,
    hours: float | None,
    per_artist: int,
    per_album: int,
    seed: int,
    kind: str,
    output: Path | None,
    debug: bool,
) -> None:
    """Make a playlist of DIR, a folder or URL that `genrebeam tag` has filled: what sounds alike, or is of a genre.

    M3U8 has paths relative to the playlist's folder; keep it near your music.
    """
    from genrebeam.pipelines.jobs.playlist import PlaylistOptions, as_json, as_m3u8, as_nsp, choose

    options = PlaylistOptions(results, like, genres, folder, min_confidence, count, hours, per_artist, per_album, seed)
    file = output or Path(f"playlist.{kind}")
    if kind == "nsp":
        text, said = as_nsp(options, file.stem), "a rule"
    else:
        entries = choose(options)
        text = as_json(entries) if kind == "json" else as_m3u8(entries, file.resolve().parent)
        minutes = sum(entry.duration_s for entry in entries) / 60
        said = f"{len(entries):,} tracks, {minutes:,.0f} minutes"
    try:
        file.write_text(text, encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{file}: cannot be written: {error.strerror}") from error
    click.echo(f"{said}  -> {file}")
