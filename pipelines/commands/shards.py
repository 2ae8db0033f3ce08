"""`genrebeam shards`: its options and what it shows. The work is in jobs/shards.py and library/labels.py."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import UsageError
from genrebeam.features.records import Labels
from genrebeam.features.schema import Track
from genrebeam.model.shardset import ShardSet
from genrebeam.pipelines.commands.beam import BeamCommand, engine_options
from genrebeam.pipelines.commands.screen import Screen
from genrebeam.pipelines.engine.quiet import quiet_libraries
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.jobs.shards import (
    AudioSource,
    FeatureSource,
    StoredLogMels,
    corrected_tracks,
    plan,
    stored_log_mels,
    write_shards,
)
from genrebeam.pipelines.library.discover import Discovery, discover
from genrebeam.pipelines.library.labels import assign_splits, from_fma, from_folders, from_table, gtzan10_claims
from genrebeam.pipelines.library.manifest import is_manifest
from genrebeam.pipelines.stages.extract import ExtractConfig
from genrebeam.pipelines.storage.places import local_path

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command("shards", cls=BeamCommand)
@click.argument("library", nargs=-1, required=True)
@click.option("--output", metavar="DIR", required=True, help="Folder or URL for the shards.")
@click.option("--labels", "labels_file", type=FILE, help="CSV or Parquet: path (or track_id), genre, split, artist.")
@click.option("--fma", "fma_file", type=FILE, help="FMA's tracks.csv; LIBRARY is its audio folder.")
@click.option(
    "--stored-log-mels", "stored", is_flag=True, help="LIBRARY holds NAME.npy.xz + NAME.csv instead of audio."
)
@click.option("--corrections", is_flag=True, help="LIBRARY is a results folder, whose corrections are the labels.")
@click.option(
    "--sure",
    type=click.FloatRange(0, 1),
    metavar="X",
    help="With --corrections: also tracks that nobody corrected and the model was so sure of.",
)
@click.option("--claims", help="JSON file {column: {value: [genres]}} for rows without a genre, or gtzan10.")
@click.option("--genres", help="The genres to learn, separated by commas.  [default: all that occur]")
@click.option("--hop-length", type=int, default=FrontEnd().hop_length, show_default=True, help="Samples per frame.")
@click.option("--split-shares", default="train=0.8,valid=0.1,test=0.1", show_default=True, help="Where none is given.")
@click.option("--tracks-per-shard", type=click.IntRange(1), default=128, show_default=True)
@click.option("--workers", type=int, default=None, help="Processes on this machine.  [default: one per core]")
@engine_options
@click.option("--quiet", is_flag=True, help="Say nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks and what the libraries say.")
def command(
    library: tuple[str, ...],
    output: str,
    labels_file: Path | None,
    fma_file: Path | None,
    stored: bool,
    corrections: bool,
    sure: float | None,
    claims: str | None,
    genres: str | None,
    hop_length: int,
    split_shares: str,
    tracks_per_shard: int,
    engine: Engine,
    quiet: bool,
    debug: bool,
) -> None:
    """Make labelled training shards of the tracks in LIBRARY.

    Labels come from --labels, --fma, --corrections, or from folders named after genres (GTZAN's own layout; it gets
    its fault-filtered split). A track without a split gets its artist's, else one by a hash of the artist.
    """
    shares = _shares(split_shares)
    try:
        front_end = dataclasses.replace(FrontEnd(), hop_length=hop_length)
    except ValueError as error:
        raise UsageError(f"--hop-length {hop_length}: {error}") from error
    # A results folder or a manifest is read by this machine; what it names is looked at when it is known.
    read_by_workers = [("LIBRARY", place) for place in library if not (corrections or is_manifest(place))]
    engine.check_places([("--output", output), *read_by_workers])
    engine.check()
    leave_out = [path] if (path := local_path(output)) else []
    find = functools.partial(discover, library, leave_out=leave_out, beam_flags=engine.flags)
    tracks, labels, source = _inputs(library, find, labels_file, fma_file, stored, corrections, sure, claims, front_end)
    plans = plan(tracks, assign_splits(labels, shares), tracks_per_shard=tracks_per_shard)
    named = tuple(name.strip() for name in genres.split(",")) if genres else ()
    with quiet_libraries(output, debug=debug):
        shards = write_shards(plans, source, output, front_end=front_end, labels=named, engine=engine)
    if not quiet:
        _show(shards)


def _inputs(
    library: tuple[str, ...],
    find: Callable[[], Discovery],
    labels_file: Path | None,
    fma_file: Path | None,
    stored: bool,
    corrections: bool,
    sure: float | None,
    claims: str | None,
    front_end: FrontEnd,
) -> tuple[list[Track], dict[str, Labels], FeatureSource]:
    meanings = None
    if claims is not None:
        try:
            meanings = gtzan10_claims() if claims == "gtzan10" else json.loads(Path(claims).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"--claims {claims}: {error}; name a JSON file, or gtzan10") from error
    if sum((corrections, labels_file is not None, fma_file is not None)) > 1:
        raise UsageError("give one of --labels, --fma and --corrections")
    if stored and (corrections or fma_file is not None):
        raise UsageError("--stored-log-mels goes with --labels at most")
    if sure is not None and not corrections:
        raise UsageError("--sure goes with --corrections")
    if corrections:
        if len(library) > 1:
            raise UsageError("--corrections takes one results folder")
        tracks, labels = corrected_tracks(library[0], sure=sure)
        return tracks, labels, AudioSource(ExtractConfig(front_end))
    if stored:
        if len(library) > 1:
            raise UsageError("--stored-log-mels takes one folder")
        tracks, labels = stored_log_mels(Path(library[0]), meanings)
        if labels_file is not None:
            labels = from_table(labels_file, meanings)
        return tracks, labels, StoredLogMels(Path(library[0]), front_end)
    tracks = list(find().tracks)
    if labels_file is not None:
        given = from_table(labels_file, meanings)
        # A table may name a track by its path, its uri or both of their ends.
        labels = {t.track_id: given.get(t.track_id) or given[t.uri] for t in tracks if {t.track_id, t.uri} & set(given)}
    elif fma_file is not None:
        labels = from_fma(fma_file)
    else:
        labels = from_folders(track.track_id for track in tracks)
    return tracks, labels, AudioSource(ExtractConfig(front_end))


def _shares(text: str) -> dict[str, float]:
    try:
        shares = {name.strip(): float(share) for name, share in (part.split("=") for part in text.split(","))}
    except ValueError:
        shares = {}
    if not shares or min(shares.values()) < 0 or not sum(shares.values()) > 0:
        raise UsageError(f"--split-shares {text}: write it like train=0.8,valid=0.1,test=0.1")
    return shares


def _show(shards: ShardSet) -> None:
    console = Screen()
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    rows: dict[str, list[str]] = {
        "tracks": [],
        "hours": [],
        **{g: [] for g in shards.labels},
        "several": [],
        "none": [],
    }
    for name, split in shards.splits.items():
        table.add_column(name, justify="right")
        cells = [split.tracks, f"{split.hours:.1f}", *(split.genres.get(g, 0) for g in shards.labels)]
        for row, cell in zip(rows.values(), [*cells, split.several, split.unlabelled], strict=True):
            row.append(str(cell))
    for title, row in rows.items():
        table.add_row(title, *row)
    console.print(table)
    notes = shards.notes
    for error, count in notes["rejects"].items():
        console.print(f"rejected: {count} {error}; see {shards.path}/rejects.parquet")
    if notes["groups_in_several_splits"]:
        console.print(f"artists on several sides of the split: {len(notes['groups_in_several_splits'])} (dataset.json)")
    if notes["duplicates"]:
        console.print(f"pairs of tracks that sound the same: {len(notes['duplicates'])} (dataset.json)")
    console.print(f"-> {shards.path}", soft_wrap=True)
