"""Genres that people set right. Rows beside the results, which stay what was heard; the newest counts."""

from __future__ import annotations

import datetime as dt
import os
import secrets
from typing import NamedTuple

from features.errors import UsageError
from pipelines.dataset.dataset import CORRECTIONS_DIR, Dataset, existing
from pipelines.dataset.ledger import Place, newest_results
from pipelines.dataset.schema import storable
from pipelines.storage.places import path_uri


class Correction(NamedTuple):
    """What a person says of a track. `by` may be empty: old files, other tools."""

    genre: str
    at: dt.datetime
    by: str


def read_corrections(place: Place) -> dict[str, Correction]:
    """The newest correction of each track that has one, by track_id; raises LedgerError."""
    rows = Dataset.at(place).rows(CORRECTIONS_DIR).sort_by("at").to_pylist()
    return {row["track_id"]: Correction(row["genre"], row["at"], row["by"] or "") for row in rows}


def correct(place: Place, track: str, genre: str, *, by: str = "") -> str:
    """Write down that a track is of a genre, a word of the model's or not; returns its track_id.

    No lock is needed: a correction is a file of its own, so a run may be tagging meanwhile.

    Args:
        track: a track_id as the results have it, or the path or URL of the file.

    Raises:
        UsageError: no results there, none of this track, or a genre that no tag could hold.
        LedgerError: the dataset cannot be read.
        OSError: it cannot be written.
    """
    genre = genre.strip()
    if not genre or not genre.isprintable():
        raise UsageError(f"{genre!r} is no genre: give a word or some, on one line")
    dataset = existing(place)
    rows = newest_results(dataset, ["track_id", "uri"])
    track_ids = rows["track_id"].to_pylist()
    if track in track_ids:
        track_id = track
    else:
        names = {track, path_uri(os.path.abspath(track))}
        found = [one for one, uri in zip(track_ids, rows["uri"].to_pylist(), strict=True) if uri in names]
        if not found:
            raise UsageError(
                f"{track}: no result of it in {dataset}; give its path, or its track_id as results have it"
            )
        track_id = found[0]
    now = dt.datetime.now(dt.timezone.utc)
    row = {"track_id": track_id, "genre": storable(genre), "at": now, "by": storable(by)}
    dataset.add(CORRECTIONS_DIR, f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}", [row])
    return track_id
