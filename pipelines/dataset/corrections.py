"""Genres that people set right. Rows beside the results, which stay what was heard; the newest of a track counts."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from typing import NamedTuple

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.dataset.dataset import CORRECTIONS_DIR, Dataset, existing
from genrebeam.pipelines.dataset.ledger import Place, newest_results
from genrebeam.pipelines.dataset.names import rows_named
from genrebeam.pipelines.dataset.schema import storable

_LONGEST = 200  # characters of a genre


class Correction(NamedTuple):
    """What a person says of a track. `by` may be empty: old files, other tools."""

    genre: str
    at: dt.datetime
    by: str


@dataclasses.dataclass
class Corrections:
    """The newest correction of each track that has one, by track_id; `refresh` reads what has been added since."""

    dataset: Dataset
    newest: dict[str, Correction] = dataclasses.field(default_factory=dict)
    _seen: set[str] = dataclasses.field(default_factory=set)
    _last: dict[str, tuple[int, dt.datetime]] = dataclasses.field(default_factory=dict)  # number and time of either

    def refresh(self) -> Corrections:
        """Raises LedgerError."""
        for _, table in self.dataset.named_tables(CORRECTIONS_DIR, seen=self._seen):
            for row in table.to_pylist():
                self._take(
                    row["track_id"], row["genre"], row["corrected_at"], row["corrected_by"] or "", row["number"] or 0
                )
        return self

    def next_number(self, track_id: str) -> int:
        """What the next word about a track is numbered: clocks that differ do not decide which is the newest."""
        return self._last[track_id][0] + 1 if track_id in self._last else 1

    def _take(self, track_id: str, genre: str | None, at: dt.datetime, by: str, number: int) -> None:
        last = self._last.get(track_id)
        if last and ((number, at) < last if number and last[0] else at < last[1]):  # old rows have no number
            return
        self._last[track_id] = (number, at)
        if genre is None:
            self.newest.pop(track_id, None)
        else:
            self.newest[track_id] = Correction(genre, at, by)


def read_corrections(place: Place) -> dict[str, Correction]:
    """The newest correction of each track that has one, by track_id; raises LedgerError."""
    return Corrections(Dataset.at(place)).refresh().newest


def correct(place: Place, track: str, genre: str | None, *, by: str = "") -> str:
    """Write down that a track is of a genre, or withdraw what was said of it; returns its track_id.

    Args:
        track: a track_id as the results have it, or the path or URL of the file.
        genre: a word of the model's or not, or several, separated by semicolons; None to withdraw.

    Raises:
        UsageError: no results there, none of this track, nothing to withdraw, or a genre that no tag could hold.
        LedgerError: the dataset cannot be read.
        OSError: it cannot be written.
    """
    dataset = existing(place)
    track_id = _track_named(dataset, track)
    if genre is None and track_id not in read_corrections(dataset):
        raise UsageError(f"{track_id}: nobody has corrected it, so there is nothing to withdraw")
    write_down(dataset, track_id, genre, by=by)
    return track_id


def write_down(dataset: Dataset, track_id: str, genre: str | None, *, by: str = "") -> None:
    """The same for a track_id that is known to be one; raises as `write_down_all`."""
    write_down_all(dataset, {track_id: genre}, by=by)


def write_down_all(dataset: Dataset, genres: Mapping[str, str | None], *, by: str = "") -> None:
    """The same for several tracks, whose corrections are saved together or not at all.

    No lock is needed: a correction is a file of its own, so a run may be tagging meanwhile.

    Raises:
        UsageError: a genre that no tag could hold.
        LedgerError: the corrections that are there cannot be read.
        OSError: they cannot be written.
    """
    now = dt.datetime.now(dt.timezone.utc)
    known = Corrections(dataset).refresh()
    who = {"corrected_at": now, "corrected_by": storable(by)}
    rows = [
        {
            "track_id": track_id,
            "genre": None if genre is None else checked(genre),
            "number": known.next_number(track_id),
            **who,
        }
        for track_id, genre in genres.items()
    ]
    if rows:
        dataset.add(CORRECTIONS_DIR, f"{now:%Y%m%d}", rows)  # a name for each day, by which `apply` merges the files


def checked(genre: str) -> str:
    """A genre or several as they are saved: "Rock;Metal " is "Rock; Metal"; raises UsageError where no tag could."""
    genre = "; ".join(words_of(genre))
    if not genre or not genre.isprintable() or len(genre) > _LONGEST:
        raise UsageError(f"{genre[:40]!r} is no genre: give a word or some, on one line")
    return genre


def withdraw_and_write(corrections: Corrections, renames: Mapping[str, str]) -> None:
    """Let what was said of tracks be said of them under their new names, by old ones. Raises OSError."""
    for old, new in renames.items():
        if said := corrections.newest.get(old):
            rows = [
                {
                    "track_id": name,
                    "genre": genre,
                    "corrected_at": said.at,
                    "corrected_by": said.by,
                    "number": corrections.next_number(name),
                }
                for name, genre in ((new, said.genre), (old, None))
            ]
            corrections.dataset.add(CORRECTIONS_DIR, f"{said.at:%Y%m%d}", rows)


def words_of(genre: str) -> tuple[str, ...]:
    """The genres of a correction: "Rock; Metal" is two, no word twice."""
    return tuple(dict.fromkeys(word.strip() for word in genre.split(";") if word.strip()))


def _track_named(dataset: Dataset, track: str) -> str:
    rows = newest_results(dataset, ["track_id", "uri"])
    (row,) = rows_named([track], rows, where=str(dataset))
    track_id: str = rows["track_id"][row].as_py()
    return track_id
