"""The HTTP API: tracks, what people say of them, sound, and hearing a file. The pages use the same routes."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, Depends, HTTPException, Query, UploadFile
from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from genrebeam.app import models
from genrebeam.app.catalog import CatalogView, Filter
from genrebeam.app.hearing import Picture, safe_name
from genrebeam.app.served import Served, shown
from genrebeam.features.errors import UsageError
from genrebeam.model.voting import UNKNOWN
from genrebeam.pipelines.api import Heard

_MOST = 500  # tracks of one answer
_MOST_CORRECTED = 20_000  # tracks that one request may correct


def wanted(
    q: str = "",
    genre: Annotated[list[str], Query()] = [],  # noqa: B006, FastAPI copies it
    folder: str = "",
    show: str = "",
    confidence_from: Annotated[float, Query(ge=0, le=1)] = 0.0,
    confidence_to: Annotated[float, Query(ge=0, le=1)] = 1.0,
    like: str = "",
    order: str = "confidence",
    descending: bool = False,
) -> Filter:
    """The filter of a list, as the addresses of pages have it too."""
    return Filter(
        q[:200], tuple(genre), folder, show, (confidence_from, confidence_to), like, order, descending
    )  # fmt: skip


Wanted = Annotated[Filter, Depends(wanted)]


def routes(served: Served) -> APIRouter:
    """The routes over what a server shows."""
    api = APIRouter()

    @api.get("/api/tracks", tags=["tracks"])
    def list_tracks(
        wanted: Wanted,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=0, le=_MOST)] = 100,
        around: str = "",
    ) -> models.Listed:
        """Tracks of the catalog, filtered and in order. `around`: a track_id, to learn its position."""
        view = served.found.view()
        rows = view.find(wanted)
        position = view.position(rows, around) if around else None
        part = [_row(row) for row in view.page(rows[offset : offset + limit])]
        return models.Listed(total=len(rows), offset=offset, position=position, tracks=part)

    @api.get("/api/words", tags=["tracks"])
    def list_words() -> models.Words:
        """The words for a correction, and the genres that the catalog has."""
        view = served.found.view() if served.catalog else None
        counts = view.genres.items() if view else ()
        genres = [models.Counted(genre=genre, name=shown(genre), tracks=count) for genre, count in counts]
        return models.Words(words=served.words(view), genres=genres)

    @api.get("/api/tracks/{track_id:path}", tags=["tracks"])
    def get_track(track_id: str) -> models.Details:
        """One track by its track_id."""
        view = served.found.view()
        row = _known(view, track_id)
        said = view.corrections.get(row["track_id"])
        correction = said and models.Said(genre=shown(said.genre), by=said.by, at=said.at.isoformat(timespec="seconds"))
        return models.Details(**_row(row).model_dump(), **_of(row, models.Details), correction=correction)

    @api.put("/api/tracks/{track_id:path}/genre", tags=["tracks"])
    def put_genre(track_id: str, said: models.Genre) -> models.Before:
        """Correct a track, or withdraw what was said of it."""
        return _say(served, {track_id: said.genre})

    @api.put("/api/genres", tags=["tracks"])
    def put_genres(said: models.Several) -> models.Before:
        """Correct several tracks together."""
        genres = dict(said.tracks)
        if said.folder is not None:
            view = served.found.view()
            ids = view.tracks["track_id"]
            genres |= {ids[row].as_py(): said.genre for row in view.find(Filter(folder=said.folder)).tolist()}
        return _say(served, genres)

    @api.get("/api/timeline/{track_id:path}", tags=["tracks"])
    def get_timeline(track_id: str) -> models.Timeline:
        """What was heard of a track over time, as the results have it."""
        view = served.found.view()
        scores = view.tracks.scores(_known(view, track_id)["row"])
        return models.Timeline(
            labels=[shown(label) for label in scores.get("labels") or ()] if scores.get("chunk_scores") else [],
            starts_s=scores.get("chunk_starts_s") or [],
            scores=scores.get("chunk_scores") or [],
            top=[_score(one["genre"], one["score"]) for one in scores.get("top") or ()],
        )

    @api.get("/api/picture/{track_id:path}", tags=["tracks"])
    def get_picture(track_id: str) -> models.Drawn:
        """The spectrogram of a track, from its file."""
        row = _known(served.found.view(), track_id)
        served.sounds.check(row["track_id"], row["uri"])
        return models.Drawn(**served.hearing.picture(row["uri"])._asdict())

    @api.get("/sound/{track_id:path}", tags=["tracks"], response_class=FileResponse)
    def get_sound(track_id: str) -> FileResponse:
        """A track as browsers play it: the file itself, or WAV. Ranges of bytes are understood."""
        row = _known(served.found.view(), track_id)
        sound = served.sounds.of(row["track_id"], row)
        return FileResponse(sound.path, media_type=sound.mime, headers={"cache-control": "private, max-age=600"})

    @api.post("/api/hear", tags=["hear"])
    def hear(file: UploadFile, picture: bool = False) -> models.HeardFile:
        """Hear a file: field `file` of a form. It lies on this machine only while it is heard."""
        name = safe_name(file.filename or "")
        with _sent(file, name) as path:
            heard, drawn = served.hearing.hear(path, name)
        return _heard(heard, name, drawn if picture else None)

    @api.post("/api/sound", tags=["hear"], response_class=FileResponse)
    def convert(file: UploadFile) -> FileResponse:
        """A file in a format that a browser does not play, as WAV, its first 20 minutes."""
        name = safe_name(file.filename or "")
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(_sent(file, name))
            sound = served.sounds.convert(path, name, stack)
            return FileResponse(sound.path, media_type=sound.mime, background=BackgroundTask(stack.pop_all().close))

    return api


@contextlib.contextmanager
def _sent(file: UploadFile, name: str) -> Iterator[Path]:
    with TemporaryDirectory(prefix="genrebeam-") as folder:
        path = Path(folder, name)
        with path.open("wb") as copy:
            shutil.copyfileobj(file.file, copy)
        yield path


def _known(view: CatalogView, track_id: str) -> dict[str, Any]:
    row = view.track(track_id)
    if row is None:
        raise HTTPException(404, "There is no such track in this catalog.")
    return row


def _score(genre: str, score: float) -> models.Score:
    return models.Score(genre=shown(genre), score=score)


def _row(row: dict[str, Any]) -> models.Row:
    same = {name: row[name] for name in ("track_id", "confidence", "duration_s", "corrected", "differs", "file_genre")}
    same |= {name: row[name] or "" for name in ("title", "artist", "album")}
    words = {"genre": shown(row["counts"]), "heard": shown(row["genre"])}
    none_of_these = (row["unknown"] or 0.0) > UNKNOWN and not row["corrected"]
    return models.Row.model_validate(same | words | {"none_of_these": none_of_these})


def _of(row: dict[str, Any], model: type[models.Details]) -> dict[str, Any]:
    own = model.model_fields.keys() - models.Row.model_fields.keys() - {"correction"}
    return {name: row[name] for name in own}


def _say(served: Served, genres: dict[str, str | None]) -> models.Before:
    if len(genres) > _MOST_CORRECTED:
        raise UsageError(f"{len(genres):,} tracks at once: correct {_MOST_CORRECTED:,} at most")
    view = served.found.view()
    at = view.tracks.rows_of(genres)
    if (at < 0).any():
        raise HTTPException(404, "There is no such track in this catalog.")
    named = dict(zip(view.tracks["track_id"].take(pa.array(at)).to_pylist(), genres.values(), strict=True))
    before = {i: said.genre if (said := view.corrections.get(i)) else None for i in named}
    served.found.say(named, by=served.by)
    return models.Before(before=before)


def _heard(heard: Heard, name: str, picture: Picture | None) -> models.HeardFile:
    audible = heard.timeline[heard.timeline.any(axis=1)]
    means = audible.mean(axis=0) if len(audible) else np.zeros(len(heard.labels))
    best = np.argsort(-means, kind="stable").tolist()
    return models.HeardFile(
        name=name,
        genre=shown(heard.genre),
        confidence=heard.confidence,
        unknown=heard.unknown,
        top=[_score(genre, score) for genre, score in heard.top],
        scores=[_score(heard.labels[i], float(means[i])) for i in best],
        labels=[shown(label) for label in heard.labels],
        timeline=heard.timeline.round(4).tolist(),
        times_s=heard.times_s.tolist(),
        audio=models.Audio(**{name: getattr(heard.audio, name) for name in models.Audio.model_fields}),
        genre_before=list(heard.genre_before),
        embedding=None if heard.embedding is None else heard.embedding.tolist(),
        picture=None if picture is None else models.Drawn(**picture._asdict()),
    )
