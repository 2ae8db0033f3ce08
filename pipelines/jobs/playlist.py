"""What `genrebeam playlist` does: choose tracks of a catalog by sound, genre or folder, and write a playlist."""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from genrebeam.features.errors import UsageError
from genrebeam.model.similar import similarity
from genrebeam.pipelines.dataset.corrections import read_corrections, words_of
from genrebeam.pipelines.dataset.dataset import RESULTS_DIR, Dataset, existing, schema_of
from genrebeam.pipelines.dataset.ledger import newest_results_by_file
from genrebeam.pipelines.dataset.names import below, rows_named
from genrebeam.pipelines.jobs.rescore import embeddings_of
from genrebeam.pipelines.storage.places import local_path
from genrebeam.pipelines.tags.policy import spelled
from genrebeam.pipelines.tags.words import same

FORMATS = ("m3u8", "nsp", "json")
_COLUMNS = ["track_id", "uri", "artist", "album", "title", "duration_s", "genre", "confidence"]


@dataclasses.dataclass(frozen=True)
class PlaylistOptions:
    """A validated command line of `genrebeam playlist`.

    Attributes:
        like: track_ids or paths of the tracks to start from; the most similar tracks follow.
        genres: words, in any spelling. folder: the beginning of track_ids.
        min_confidence: lowest confidence of the genre; a correction counts as 1.
        count: of tracks, at most. hours: of music, at most, in place of that.
        per_artist, per_album: tracks of each, at most; 0 for any number.

    Raises:
        UsageError: an option is out of range, or nothing is asked for.
    """

    results: str
    like: tuple[str, ...] = ()
    genres: tuple[str, ...] = ()
    folder: str = ""
    min_confidence: float = 0.0
    count: int = 50
    hours: float | None = None
    per_artist: int = 1
    per_album: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.like or self.genres or self.folder):
            raise UsageError("say what it is to be of: --like TRACK, --genre GENRE or --folder FOLDER")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"--min-confidence {self.min_confidence}: choose a number from 0 to 1")
        if self.count < 1:
            raise UsageError(f"--count {self.count}: choose 1 or more")
        if self.hours is not None and not self.hours > 0:
            raise UsageError(f"--hours {self.hours}: choose a number above 0")
        for option, value in (("--per-artist", self.per_artist), ("--per-album", self.per_album)):
            if value < 0:
                raise UsageError(f"{option} {value}: choose 0 (any number) or more")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A track of a playlist. `score`: similarity with --like, else the confidence of its genre."""

    track_id: str
    uri: str
    artist: str | None
    album: str | None
    title: str | None
    duration_s: float
    genre: str
    score: float


def choose(options: PlaylistOptions) -> list[Entry]:
    """The tracks of a playlist, in its order.

    Raises:
        UsageError: no results, a track of --like is not in them, or nothing fits.
        LedgerError: the dataset cannot be read.
    """
    dataset = existing(options.results)
    table, embeddings = _read(dataset, with_embeddings=bool(options.like))
    corrected = {track_id: words_of(one.genre) for track_id, one in read_corrections(dataset).items()}
    fits = _fits(options, table, corrected)
    rng = np.random.default_rng(options.seed)
    if options.like:
        rows = rows_named(options.like, table, where=str(dataset))
        assert embeddings is not None
        score = _similarity(dataset, table, embeddings, rows)
        fits[rows] = False
        fits &= np.isfinite(score)
        order = np.argsort(-np.where(fits, score, -np.inf), kind="stable")[: int(fits.sum())]
    else:
        score = np.asarray(table["confidence"].fill_null(0).to_numpy(), np.float32)
        order = rng.permutation(np.flatnonzero(fits))
    if not len(order):
        raise UsageError(f"{dataset}: no track fits; the words there are in `genrebeam report {dataset}`")
    return list(_limited(options, table, corrected, score, order))


def as_m3u8(entries: Sequence[Entry], folder: Path) -> str:
    """Extended M3U in UTF-8: paths relative to the folder that the playlist lies in, seconds, artist and title."""
    lines = ["#EXTM3U"]
    for entry in entries:
        name = entry.title or PurePosixPath(entry.track_id).stem
        shown = f"{entry.artist} - {name}" if entry.artist else name
        lines.append(f"#EXTINF:{round(entry.duration_s)},{' '.join(shown.split())}")
        lines.append(_line(entry.uri, folder))
    return "\n".join(lines) + "\n"


def _line(uri: str, folder: Path) -> str:
    """A track as one line, whatever its name: none that reads as a comment, or as two lines."""
    path = local_path(uri)
    if path is None or not uri.isprintable():
        return uri if uri.isprintable() else "file://" + urllib.parse.quote(uri)
    text = uri if uri.startswith("file://") else os.path.relpath(path, folder)
    return f"./{text}" if text.startswith("#") else text


def as_json(entries: Sequence[Entry]) -> str:
    return json.dumps([dataclasses.asdict(entry) for entry in entries], indent=2, ensure_ascii=False) + "\n"


def as_nsp(options: PlaylistOptions, name: str) -> str:
    """A rule for Navidrome's smart playlists, which looks at tags and paths: genres, and a folder.

    Raises:
        UsageError: something is asked for that no rule can say.
    """
    if options.like or not options.genres or options.min_confidence or options.hours:
        raise UsageError(
            "--format nsp is a rule over genres in tags: give --genre, and neither --like, --min-confidence nor --hours"
        )
    rule: dict[str, Any] = {"any": [{"is": {"genre": spelled(genre)}} for genre in options.genres]}
    if options.folder:
        rule = {"all": [rule, {"startsWith": {"filepath": options.folder}}]}
    text = {"name": name, "comment": "made by genrebeam", **rule, "sort": "random", "limit": options.count}
    return json.dumps(text, indent=2, ensure_ascii=False) + "\n"


def _read(dataset: Dataset, *, with_embeddings: bool) -> tuple[pa.Table, NDArray[np.int8] | None]:
    """Rows without their embeddings, and those as an array: 128 bytes for each, and 0 where there is none."""
    names = [*_COLUMNS, *(["embedding", "embedding_trunk"] if with_embeddings else [])]
    empty = schema_of(RESULTS_DIR, names).empty_table()
    table = pa.concat_tables([empty, *newest_results_by_file(dataset, names)])
    if not with_embeddings:
        return table, None
    there = table["embedding"].is_valid().to_numpy()
    known = table.filter(pa.array(there))
    if not len(known):
        raise UsageError(f"{dataset}: no embeddings in its rows, as in those of older versions; tag the library again")
    values = embeddings_of(known)
    embeddings = np.zeros((len(table), values.shape[1]), np.int8)
    embeddings[there] = values
    return table.drop_columns(["embedding"]), embeddings


def _fits(options: PlaylistOptions, table: pa.Table, corrected: Mapping[str, tuple[str, ...]]) -> NDArray[np.bool_]:
    fits = np.ones(len(table), bool)
    if options.folder:
        fits &= below(options.folder, table["track_id"]).to_numpy()
    if options.genres or options.min_confidence:
        wanted = {same(genre) for genre in options.genres}
        genres = table["genre"].to_pylist()
        keys = {genre: same(genre) for genre in set(genres) if genre}
        is_wanted = np.array([not wanted or keys.get(genre) in wanted for genre in genres])
        own = is_wanted & (np.asarray(table["confidence"].fill_null(0).to_numpy()) >= options.min_confidence)
        if corrected:
            for row, track_id in enumerate(table["track_id"].to_pylist()):
                if track_id in corrected:
                    own[row] = not wanted or bool({same(word) for word in corrected[track_id]} & wanted)
        fits &= own
    return fits


def _similarity(
    dataset: Dataset, table: pa.Table, embeddings: NDArray[np.int8], rows: list[int]
) -> NDArray[np.float32]:
    """Similarity to some rows; NaN where a row has no embedding of their trunk."""
    trunks = table["embedding_trunk"].to_pylist()
    trunk = trunks[rows[0]]
    if trunk is None or any(trunks[row] != trunk for row in rows):
        raise UsageError(
            f"{dataset}: {table['track_id'][rows[0]]}: no embedding in its row, or one of another network than the "
            "others of --like; tag the library again with one model"
        )
    same_trunk = np.array([one == trunk for one in trunks])
    score = np.full(len(table), np.nan, np.float32)
    position = np.cumsum(same_trunk) - 1
    score[same_trunk] = similarity(embeddings[same_trunk], [int(position[row]) for row in rows])
    return score


def _limited(
    options: PlaylistOptions,
    table: pa.Table,
    corrected: Mapping[str, tuple[str, ...]],
    score: NDArray[np.float32],
    order: NDArray[np.int64],
) -> Iterator[Entry]:
    artists: collections.Counter[str] = collections.Counter()
    albums: collections.Counter[str] = collections.Counter()
    left_s = np.inf if options.hours is None else options.hours * 3600
    count = 0
    for row in order.tolist():
        if options.hours is None and count >= options.count:
            return
        one = table.slice(row, 1).to_pylist()[0]
        folder = PurePosixPath(one["track_id"]).parent
        # Where tags are silent, folders stand in: artist/album/song.
        artist = (one["artist"] or folder.parts[0] if one["artist"] or folder.parts else one["track_id"]).casefold()
        album = f"{(one['album'] or '').casefold()} in {folder}"
        if options.per_artist and artists[artist] >= options.per_artist:
            continue
        if options.per_album and folder.parts and albums[album] >= options.per_album:
            continue
        duration_s = one["duration_s"] or 0.0
        if duration_s > left_s:
            continue
        left_s -= duration_s
        artists[artist] += 1
        albums[album] += 1
        count += 1
        genre = "; ".join(corrected.get(one["track_id"], (one["genre"] or "",)))
        yield Entry(
            one["track_id"], one["uri"], one["artist"], one["album"], one["title"], duration_s, genre, float(score[row])
        )
