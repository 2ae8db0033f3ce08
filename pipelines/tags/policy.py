"""Which genres a file should have: what it says now, what the model heard, and what the user wants. Pure."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from genrebeam.features.errors import UsageError
from genrebeam.features.ranges import check_range
from genrebeam.model.voting import MIN_CONFIDENCE, UNKNOWN
from genrebeam.pipelines.tags.read import TagValues
from genrebeam.pipelines.tags.words import keys, letters, same

POLICIES = ("none", "fill", "merge", "overwrite")
DEFAULT_USELESS = (
    "Other", "Unknown", "Unknown Genre", "Misc", "Miscellaneous", "Music", "Audio", "None", "No Genre", "Genre",
    "Undefined", "Unclassified", "Not specified", "N/A",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class TagPolicy:
    """What may be written where.

    Attributes:
        policy: none (nothing), fill (only where there is no genre, or a useless one), merge (add to what is there) or
            overwrite (replace it).
        min_confidence: genres that the model is less sure of are not written, 0 to 1.
        max_unknown: nothing is written where more than this, 0 to 1, speaks for music of none of the model's genres.
        max_genres: how many genres of the model are written at most, the surest first.
        names: label of the model -> the user's own words for it; none to never write it. Other labels are
            spelled as ID3v1's list spells them, else as the model does.
        useless: genres that are as good as none; compared without case, blanks and punctuation.
        respect_edits: leave a file alone whose genre somebody changed after we wrote it.

    Raises:
        UsageError: a value out of range.
    """

    policy: str = "fill"
    min_confidence: float = MIN_CONFIDENCE
    max_unknown: float = UNKNOWN
    max_genres: int = 1
    names: tuple[tuple[str, tuple[str, ...]], ...] = ()
    useless: tuple[str, ...] = DEFAULT_USELESS
    respect_edits: bool = True

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise UsageError(f"--write-tags {self.policy}: choose one of {', '.join(POLICIES)}")
        check_range("--min-confidence", self.min_confidence, low=0, high=1)
        check_range("--max-unknown", self.max_unknown, low=0, high=1)
        check_range("--max-genres", self.max_genres, low=1)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What the model predicts for one track, or a person's correction of it.

    Attributes:
        genres: label and confidence (0 to 1), the surest first.
        model: its id. fingerprint: of the model bundle.
        unknown: how much speaks for music of none of the model's genres, 0 to 1.
        when: of the analysis; not of the writing, so that writing twice gives the same bytes.
        corrected: the genres are a person's. All of them are written; the policy decides into which files, as for the
            model's.
        labels: of the model. A corrected word that is one of them is spelled and mapped as a predicted one; a
            person's own words stay as typed.
    """

    genres: tuple[tuple[str, float], ...]
    model: str
    fingerprint: str
    when: dt.datetime
    corrected: bool = False
    unknown: float = 0.0
    labels: frozenset[str] = frozenset()


class Outcome(str, enum.Enum):
    """What happens to one file; reports show the values."""

    WRITE = "write"
    SAME = "same"  # it says so already
    KEPT = "kept"  # fill, and it has a genre of its own
    HELD = "held"  # the same, and a person says that the track is of another
    EDITED = "edited"  # somebody changed the genre that we had written
    UNSURE = "unsure"  # nothing reached min_confidence, or the music seems to be of none of the model's genres
    NOTHING = "nothing"  # no genre heard, or the user's names leave none of it; undo: nothing of ours in the file
    FAILED = "failed"  # a row in the rejects


@dataclasses.dataclass(frozen=True)
class WriteDecision:
    """What one file should say. `values` is None unless the outcome is WRITE."""

    outcome: Outcome
    values: TagValues | None = None


def decide_write(current: TagValues, heard: Prediction, policy: TagPolicy) -> WriteDecision:
    """Decide on one file.

    A file whose provenance shows that its genre is still ours is treated as it was before: the values that we
    added do not count as the user's.
    """
    if policy.policy == "none":
        return WriteDecision(Outcome.NOTHING)
    known = heard.unknown <= policy.max_unknown
    sure = [(label, score) for label, score in heard.genres if known and score >= policy.min_confidence]
    sure = sure[: policy.max_genres]
    ours = _named(heard.genres, policy, heard.labels) if heard.corrected else _named(sure, policy)
    if not ours:
        return WriteDecision(Outcome.UNSURE if heard.genres and not sure else Outcome.NOTHING)
    if current.written and current.written != current.genres and policy.respect_edits:
        return WriteDecision(Outcome.EDITED)
    theirs = [g for g in current.genres if g not in current.added and not is_useless(g, policy.useless)]
    if policy.policy == "fill" and theirs:
        said = heard.corrected and {same(genre) for genre in theirs} != {same(genre) for genre in ours}
        return WriteDecision(Outcome.HELD if said else Outcome.KEPT)
    if policy.policy == "merge":
        there = {key for genre in theirs for key in keys(genre)}
        ours = {name: score for name, score in ours.items() if not keys(name) & there}
        if not ours:
            return WriteDecision(Outcome.SAME)
        genres = (*theirs, *ours)
    else:
        genres = tuple(ours)
    if genres == current.genres:
        return WriteDecision(Outcome.SAME)
    provenance = {
        "model": (heard.model,),
        **({"fingerprint": (heard.fingerprint,)} if heard.fingerprint else {}),
        "genre": genres,
        "confidence": tuple(f"{name} {score:.2f}" for name, score in ours.items()),
        "date": (heard.when.astimezone(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),),
    }
    return WriteDecision(Outcome.WRITE, TagValues(genres, provenance))


def _named(
    genres: Iterable[tuple[str, float]], policy: TagPolicy, labels: frozenset[str] | None = None
) -> dict[str, float]:
    """The user's words for genres, without duplicates.

    Args:
        labels: which genres are labels of the model; None for all of them. Others are a person's own words.
    """
    names, result, seen = dict(policy.names), {}, set()
    for label, score in genres:
        is_label = labels is None or label in labels
        for name in names.get(label, (spelled(label),)) if is_label else (label,):
            key = same(name)
            if key not in seen:
                seen.add(key)
                result[name] = score
    return result


def is_useless(genre: str, useless: Iterable[str]) -> bool:
    """Whether a genre is as good as none."""
    return not genre.strip() or same(genre) in {same(word) for word in useless}


@functools.cache
def spelled(label: str) -> str:
    """A lower-case label as ID3v1's list of genres spells it (hiphop: Hip-Hop, rnb: R&B); otherwise as it is."""
    from mutagen.id3 import TCON

    if label != label.lower():
        return label
    alike = [name for key in (letters, same) for name in TCON.GENRES if key(name) == key(label)]
    return alike[0] if alike else label


def read_names(path: Path) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """A --genre-map file: lines `label = Name; Another Name`, nothing behind the sign to never write it, # comments.

    Args:
        path: the file, or the name of a map that ships (pipelines/data/genres-NAME.txt) where there is no such file.

    Raises:
        UsageError: it cannot be read, or a line has no equals sign.
    """
    ours = resources.files("genrebeam.pipelines") / "data" / f"genres-{path.name}.txt"
    ships = path == Path(path.name) and not path.exists() and ours.is_file()
    try:
        lines = (ours if ships else path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: the genre map cannot be read ({error}); give a UTF-8 text file") from error
    names = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip() if line.lstrip().startswith("#") else line.strip()
        if not text:
            continue
        label, sign, right = text.partition("=")
        if not sign or not label.strip():
            raise UsageError(f"{path}, line {number}: write `label = Name; Another Name`, not {text!r}")
        names.append((label.strip(), tuple(name.strip() for name in right.split(";") if name.strip())))
    return tuple(names)
