"""The routes of the page that writes: what would be written, a run with its progress, and undo."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from genrebeam.app.api import Wanted
from genrebeam.app.served import Served
from genrebeam.app.writing import MEANINGS, Wish, preview, wish
from genrebeam.model.voting import MIN_CONFIDENCE, UNKNOWN


class Change(BaseModel):
    """A file whose genres would change."""

    track_id: str
    artist: str
    title: str
    before: str
    after: str
    confidence: float | None
    corrected: bool


class Outcome(BaseModel):
    outcome: str
    meaning: str
    tracks: int


class Genre(BaseModel):
    genre: str
    files: int


class Previewed(BaseModel):
    """What would be written, by the results: `total` files, of which `changes` are some, the surest first."""

    total: int
    outcomes: list[Outcome]
    genres: list[Genre]
    changes: list[Change]


class Progress(BaseModel):
    """How far a run is. `message` says how it ended."""

    kind: str
    is_running: bool
    done: int
    total: int
    outcomes: dict[str, int]
    errors: dict[str, int]
    message: str


def wished(
    listed: Wanted,
    policy: str = "fill",
    min_confidence: Annotated[float, Query(ge=0, le=1)] = MIN_CONFIDENCE,
    max_unknown: Annotated[float, Query(ge=0, le=1)] = UNKNOWN,
    max_genres: Annotated[int, Query(ge=1, le=10)] = 1,
    names: Annotated[str, Field(description="a genre map that ships: tree or musicbrainz")] = "",
    only_corrected: bool = False,
) -> Wish:
    """What is to be written: the options of `genrebeam apply`, and the filter of a list."""
    return wish(policy, min_confidence, max_unknown, max_genres, names, only_corrected, listed)


Wished = Annotated[Wish, Depends(wished)]


def routes(served: Served) -> APIRouter:
    """The routes over what a server shows."""
    api = APIRouter(tags=["write"])

    @api.get("/api/write/preview")
    def look(
        wanted: Wished, offset: Annotated[int, Query(ge=0)] = 0, limit: Annotated[int, Query(ge=0, le=500)] = 100
    ) -> Previewed:
        """What would be written. Nothing is changed, and no file is read."""
        view = served.found.view()
        found = preview(view, wanted, served.hearing.labels)
        some = found.changes[offset : offset + limit]
        rows = view.tracks.listed(np.array([row for row, _, _ in some], np.int64))
        return Previewed(
            total=len(found.changes),
            outcomes=[
                Outcome(outcome=one.value, meaning=meaning, tracks=found.outcomes[one])
                for one, meaning in MEANINGS.items()
                if found.outcomes.get(one)
            ],
            genres=[Genre(genre=genre, files=count) for genre, count in found.genres.items()],
            changes=[
                Change(
                    **{name: row[name] or "" for name in ("track_id", "artist", "title")},
                    before=before,
                    after=after,
                    confidence=row["confidence"],
                    corrected=at in view.said,
                )
                for (at, before, after), row in zip(some, rows, strict=True)
            ],
        )

    @api.get("/api/write")
    def progress() -> Progress:
        """How far the run is, or how the last one ended."""
        return Progress(**dataclasses.asdict(served.writing.state))

    @api.post("/api/write", status_code=202)
    def write(wanted: Wished) -> Progress:
        """Begin to write into the files, as `genrebeam apply` does."""
        served.writing.write(wanted)
        return progress()

    @api.post("/api/undo", status_code=202)
    def undo() -> Progress:
        """Begin to put back the genres that were in the files before anything of this folder was written."""
        served.writing.undo()
        return progress()

    @api.post("/api/write/stop")
    def stop() -> Progress:
        """Let the run end after the files that it has in hand."""
        served.writing.stop()
        return progress()

    return api
