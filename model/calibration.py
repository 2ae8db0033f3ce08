"""How logits become probabilities: temperature, offsets and the line for "none of these", fitted on held-out tracks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrebeam.model.splits import position
from genrebeam.model.voting import (
    MIN_CONFIDENCE,
    UNCALIBRATED,
    Calibration,
    as_answers,
    chunk_scores,
    on_the_line,
)

MAX_BACKGROUND = 0.15  # share of the music of other genres that may be written


@dataclasses.dataclass(frozen=True, eq=False)
class ScoredTrack:
    """A held-out track with the logits of a network.

    Attributes:
        claimed: indices of its claimed genres, the first one first; empty for music of other genres.
        logits: float32 [chunks, genres + 1].
        fold: of the network, where it is one of several folds.
    """

    track_id: str
    group: str
    claimed: tuple[int, ...]
    logits: NDArray[np.float32]
    fold: int = 0


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponential = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=-1, keepdims=True), np.float32)


def track_scores(logits: Iterable[NDArray[np.float32]], calibration: Calibration) -> NDArray[np.float32]:
    """The mean of the chunks' scores, as tagging votes by default: float32 [tracks, genres + 1].

    Args:
        logits: float32 [chunks, genres + 1] of each track.
    """
    return np.stack([chunk_scores(track, calibration).mean(axis=0) for track in logits])


def predicted(
    tracks: Sequence[ScoredTrack], calibration: Calibration
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The scores that tagging gives tracks: float32 [tracks, genres], and "none of these" float32 [tracks] on the scale
    where UNKNOWN is the line."""
    scores = track_scores((track.logits for track in tracks), calibration)
    return as_answers(scores[:, :-1], calibration.further), on_the_line(scores[:, -1], calibration.unknown_threshold)


def fit_confidence(logits: Sequence[NDArray[np.float32]], claimed: NDArray[np.float32]) -> Calibration:
    """How logits become probabilities: the order of the genres, and the probabilities of the best and of the others.

    Args:
        logits: [chunks, genres + 1] of each track.
        claimed: float32 [tracks, genres], 1 for each genre that is claimed of a track.
    """
    offsets = fit_order(logits, claimed, fit_pair(logits, claimed, UNCALIBRATED))
    fitted = fit_pair(logits, claimed, dataclasses.replace(UNCALIBRATED, genre_offsets=offsets))
    return dataclasses.replace(fitted, further=fit_further(track_scores(logits, fitted)[:, :-1], claimed))


def fit_pair(
    logits: Sequence[NDArray[np.float32]], claimed: NDArray[np.float32], calibration: Calibration
) -> Calibration:
    """Temperature and offset at which the best answers of the tracks are the likeliest to be what is claimed.

    After Platt (1999) and Guo et al. (2017), but over tracks: chunks of a track agree less than they should for being
    the same music, and their mean is softer than each. Of the best answers alone, which are what is shown and written
    first; `fit_further` is for the others.

    Args:
        logits, claimed: as for `fit_confidence`.
        calibration: whose genre offsets count.
    """
    from scipy.optimize import minimize

    lengths = np.array([len(track) for track in logits])
    best = track_scores(logits, calibration)[:, :-1].argmax(axis=1)
    true = claimed[np.arange(len(best)), best]
    # The chunks of all tracks, one below the other, each with its track's best genre.
    chunks, shown = np.concatenate(logits), best.repeat(lengths)
    offsets = np.array(calibration.genre_offsets or np.zeros(claimed.shape[1]), np.float32)
    chosen = np.stack([chunks[np.arange(len(shown)), shown] + offsets[shown], chunks[:, -1]], axis=1)
    starts = np.r_[0, lengths[:-1].cumsum()]

    def pair(values: NDArray[np.float64]) -> Calibration:
        return Calibration(round(math.exp(min(max(float(values[0]), -3.0), 3.0)), 4), round(float(values[1]), 4))

    def loss(values: NDArray[np.float64]) -> float:
        scores = chunk_scores(chosen, pair(values))[:, 0]
        return -_likelihood(np.add.reduceat(scores, starts) / lengths, true)

    found = minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-6}).x
    return dataclasses.replace(pair(found), genre_offsets=calibration.genre_offsets)


def fit_further(scores: NDArray[np.float32], claimed: NDArray[np.float32]) -> float:
    """The power, 1 to 4, of the mean votes at which the second and third answers are the likeliest to be claimed.

    Args:
        scores: float32 [tracks, genres], mean votes.
        claimed: as for `fit_confidence`.
    """
    from scipy.optimize import minimize_scalar

    others = np.argsort(-scores, axis=1)[:, 1:3]
    votes, true = (np.take_along_axis(matrix, others, axis=1) for matrix in (scores, claimed))
    if not votes.size:
        return 1.0
    return round(float(minimize_scalar(lambda power: -_likelihood(votes**power, true), bounds=(1, 4)).x), 4)


def _likelihood(probabilities: NDArray[Any], true: NDArray[Any]) -> float:
    """The mean log-likelihood of `true` under the `probabilities`."""
    sure = np.clip(probabilities, 1e-6, 1 - 1e-6)
    return float((true * np.log(sure) + (1 - true) * np.log1p(-sure)).mean())


def fit_order(
    logits: Sequence[NDArray[np.float32]], claimed: NDArray[np.float32], calibration: Calibration
) -> tuple[float, ...]:
    """Offsets of the genres at which what is claimed comes first most often: a softmax over the tracks' log odds.

    Training lets rare genres count more than they occur (`TrainConfig.rarity`), and each genre for itself; neither asks
    which one comes first. Offsets stay near 0 as one of deviation 1 would (a ridge), and their mean is 0; a genre that
    no track claims keeps 0.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    shares = track_scores(logits, calibration)[:, :-1].astype(float)
    odds = np.log(np.clip(shares, 1e-4, 1 - 1e-4)) - np.log1p(-np.clip(shares, 1e-4, 1 - 1e-4))
    there = claimed.sum(axis=0) > 0
    odds, wanted = odds[:, there], claimed[:, there] / np.maximum(claimed.sum(axis=1, keepdims=True), 1)

    def loss(offsets: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        likely = log_softmax(odds + offsets, axis=1)
        return (
            (offsets**2).sum() / 2 - (wanted * likely).sum(),
            offsets + (np.exp(likely) - wanted).sum(axis=0),
        )

    found = np.zeros(claimed.shape[1])
    found[there] = minimize(loss, np.zeros(there.sum()), jac=True, method="L-BFGS-B").x
    found[there] -= found[there].mean()
    return tuple(round(float(offset) * calibration.temperature, 4) for offset in found)


def claimed_matrix(tracks: Sequence[ScoredTrack], genres: int) -> NDArray[np.float32]:
    """float32 [tracks, genres]: 1 for each genre claimed of a track."""
    matrix = np.zeros((len(tracks), genres), np.float32)
    for row, track in zip(matrix, tracks, strict=True):
        row[list(track.claimed)] = 1
    return matrix


def fit_unknown(scores: NDArray[np.float32], known: NDArray[np.bool_], min_confidence: float) -> float:
    """Where to draw the line for "none of these": so high that MAX_BACKGROUND of the music of other genres is written,
    but never above 0.5, where it is more probable than not that no genre fits.

    Args:
        scores: float32 [tracks, genres + 1] of tracks of the genres and of others.
        known: bool [tracks]: which are of the genres.
        min_confidence: nothing below it is written anyway.

    Returns:
        A probability of "none of these", 0.01 to 0.5.
    """
    sure = scores[:, :-1].max(axis=1) >= min_confidence
    background = scores[~known, -1]
    allowed = math.floor(MAX_BACKGROUND * len(background))
    written = np.sort(background[sure[~known]])
    line = 1.0 if len(written) <= allowed else float(written[allowed])
    return round(min(max(line, 0.01), 0.5), 4)


def fit(tracks: Sequence[ScoredTrack], genres: int) -> Calibration:
    """The calibration of a network, fitted on held-out tracks."""
    known = [track for track in tracks if track.claimed]
    fitted = fit_confidence([track.logits for track in known], claimed_matrix(known, genres))
    is_known = np.array([bool(track.claimed) for track in tracks])
    line = fit_unknown(track_scores((track.logits for track in tracks), fitted), is_known, MIN_CONFIDENCE)
    return dataclasses.replace(fitted, unknown_threshold=line)


def cross_fitted(
    tracks: Sequence[ScoredTrack], genres: int, judged_on: Sequence[ScoredTrack] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same as `predicted`, by what was fitted on the other half of the artists.

    Args:
        judged_on: the same tracks with other logits (such as a lowpass), which are scored in place of those that are
            fitted on.
    """
    # By a hash of their own: by that of the folds, each half would be other networks' tracks.
    half = np.array([position(track.group, "half") < 0.5 for track in tracks])
    scores, unknown = np.zeros((len(tracks), genres), np.float32), np.zeros(len(tracks), np.float32)
    for side in (False, True):
        other = [track for track, at in zip(tracks, half, strict=True) if at != side and track.claimed]
        fitted_on = [track for track, at in zip(tracks, half, strict=True) if at != side] if other else list(tracks)
        judged = np.flatnonzero(half == side)
        if not len(judged):
            continue
        scores[judged], unknown[judged] = predicted(
            [(judged_on or tracks)[int(i)] for i in judged], fit(fitted_on, genres)
        )
    return scores, unknown
