"""From the scores of a track's chunks to the genre of the track."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.ranges import check_range

Scores = NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How logits become probabilities; fitted on tracks that the network was not trained on (model/calibration.py).

    Attributes:
        temperature, offset: a genre's probability is sigmoid(logit / temperature + offset) (Platt 1999).
        unknown_threshold: probability of "none of these" from which on a track counts as that.
        genre_offsets: added to the logits of each genre before that; empty for none. They correct the order of the
            genres, because training weighs rare genres more than they occur.
        further: power of the vote for all genres of a track but its best. A second genre is true less often than a
            first of the same score: that there is a better one speaks against it.

    Raises:
        ValueError: a value out of range.
    """

    temperature: float = 1.0
    offset: float = 0.0
    unknown_threshold: float = 0.5
    genre_offsets: tuple[float, ...] = ()
    further: float = 1.0

    def __post_init__(self) -> None:
        check_range("temperature", self.temperature, above=0, error=ValueError)
        check_range("unknown_threshold", self.unknown_threshold, above=0, below=1, error=ValueError)
        check_range("further", self.further, low=1, error=ValueError)


UNCALIBRATED = Calibration()
# Defaults for writing: no genre of a lower confidence, and nothing that counts as music of none of the genres (the
# scale of `on_the_line`). Lines are fitted for these two (model/calibration.py).
MIN_CONFIDENCE = 0.5
UNKNOWN = 0.5


def chunk_scores(logits: Scores, calibration: Calibration) -> Scores:
    """Logits of chunks to calibrated scores: both float32 [chunks, genres + 1].

    The last column is how probable it is that the music is of none of the genres. A genre's score is how probable it is
    that it is not, and that the genre fits; several may fit, so a row need not sum to 1.
    """
    moved = logits[..., :-1] + np.array(calibration.genre_offsets or 0.0, np.float32)
    genres = _sigmoid(moved / calibration.temperature + calibration.offset)
    unknown = _sigmoid(logits[..., -1:])
    return np.concatenate([genres * (1 - unknown), unknown], axis=-1).astype(np.float32)


def _sigmoid(x: Scores) -> Scores:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))))


def on_the_line(probability: Scores, threshold: float) -> Scores:
    """Probabilities on the scale where 0.5 stands for the threshold: odds over the threshold's odds.

    Args:
        threshold: above 0 and below 1.
    """
    odds, line = probability * (1 - threshold), (1 - probability) * threshold
    return np.asarray(odds / (odds + line), np.float32)


def as_answers(scores: Scores, further: float) -> Scores:
    """The mean votes of tracks as the probabilities of their answers: all but the best of a row to the power `further`.

    Args:
        scores: float32 [..., genres], in 0..1.
    """
    best = scores.max(axis=-1, keepdims=True)
    return np.where(scores == best, scores, scores**further)


def mean(probabilities: Scores) -> Scores:
    """The mean of the chunks' probabilities. The bundle's calibration is fitted to this vote: of tracks
    with a confidence near 0.8, about 80 % are right on music like the bundle's validation set."""
    return probabilities.mean(axis=0)


def majority(probabilities: Scores) -> Scores:
    """The share of chunks that would choose each genre; a tie goes to the higher mean probability.

    The number is a share of the track's time, not a probability of being right.
    """
    genres = probabilities.shape[1]
    shares = np.bincount(probabilities.argmax(axis=1), minlength=genres) / len(probabilities)
    # The mean decides ties only: it weighs less than half a chunk.
    weight = 0.5 / (len(probabilities) + 0.5)
    return ((1 - weight) * shares + weight * mean(probabilities)).astype(np.float32)


def confidence_weighted(probabilities: Scores) -> Scores:
    """The mean, weighted by the score of each chunk's best genre.

    Undecided chunks (a spoken intro, applause) count little. The number tends to be higher than the mean's and is not
    calibrated.
    """
    weights = np.maximum(probabilities.max(axis=1), 1e-6) ** 2
    return (weights @ probabilities / weights.sum()).astype(np.float32)


METHODS: dict[str, Callable[[Scores], Scores]] = {
    "mean": mean,
    "majority": majority,
    "confidence": confidence_weighted,
}


@dataclasses.dataclass(frozen=True)
class Vote:
    """A track's genre, its score, and the best `top_k` genres with theirs, best first.

    `unknown` says how much speaks for music of none of the genres, from 0 to 1; above 0.5 it is, by the bundle's line.
    None where nobody asked.
    """

    genre: str
    confidence: float
    top: tuple[tuple[str, float], ...]
    unknown: float | None = None


def vote(
    probabilities: Scores, labels: Sequence[str], *, method: str = "mean", top_k: int = 3, further: float = 1.0
) -> Vote:
    """Let the chunks of one track vote.

    Args:
        probabilities: float32 [chunks, genres], 0 to 1, audible chunks only, at least one.
        labels: the genres in the order of the columns.
        method: a key of METHODS; each one's docstring says what its number means.
        top_k: how many genres to report.
        further: of the calibration, which is fitted to the mean; other votes are no probabilities and do without.

    Raises:
        ValueError: no chunks, a shape that does not fit the labels, or an unknown method.
    """
    if probabilities.ndim != 2 or probabilities.shape[0] == 0 or probabilities.shape[1] != len(labels):
        raise ValueError(f"need [chunks, {len(labels)}] probabilities, not {probabilities.shape}")
    if method not in METHODS:
        raise ValueError(f"vote must be one of {', '.join(METHODS)}, not {method!r}")
    scores = METHODS[method](probabilities)
    if method == "mean":
        scores = as_answers(scores, further)
    # Stable: equal scores keep the order of the labels, so that a rerun gives the same row.
    order = np.argsort(-scores, kind="stable")[:top_k]
    top = tuple((labels[i], float(scores[i])) for i in order)
    return Vote(top[0][0], top[0][1], top)
