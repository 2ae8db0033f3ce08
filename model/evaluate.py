"""How good a bundle is, measured on whole tracks that it never heard, and how far its confidence can be trusted.

Cross-validation is the same with several bundles: each is asked about the fold that it was trained without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from genrebeam.features.errors import UsageError
from genrebeam.features.mel import bands_below
from genrebeam.model import shardset
from genrebeam.model.bundle import Bundle, load_model
from genrebeam.model.calibration import ScoredTrack, claimed_matrix, predicted
from genrebeam.model.dataset import chunk_logits
from genrebeam.model.shardset import ShardSet
from genrebeam.model.splits import normal_group
from genrebeam.model.voting import (
    UNCALIBRATED,
    UNKNOWN,
    Calibration,
)

_RESAMPLES = 2000  # of the bootstrap
_BINS = 10  # of the reliability curve


def listen(
    bundles: Sequence[Bundle], shards: ShardSet, split: str | None, *, lowpass_hz: float | None = None
) -> list[ScoredTrack]:
    """Ask each bundle about the labelled tracks that it was not trained on, those of other genres too.

    Args:
        split: which; None for the fold that each bundle held out of its training splits.
        lowpass_hz: remove everything above it from the tracks.

    Raises:
        UsageError: no labelled track there, a bundle that held no fold out, or bundles that hear other labels.
        BundleError: a bundle cannot be loaded.
    """
    heard: list[ScoredTrack] = []
    bands = bands_below(shards.front_end, lowpass_hz) if lowpass_hz else None
    for bundle in bundles:
        if bundle.front_end != shards.front_end:
            raise UsageError(f"{shards.path}: another front end: {shards.front_end.differences(bundle.front_end)}")
        if bundle.labels != bundles[0].labels:
            raise UsageError(f"{bundle.path} and {bundles[0].path} know different labels")
        recipe = bundle.provenance.get("recipe", {})
        fold = recipe.get("fold")
        if split is None and not fold:
            raise UsageError(f"{bundle.path}: was trained without a held-out fold; name a --split")
        network = load_model(bundle)
        splits = recipe["splits"] if split is None else [split]
        for features, labels in shardset.read(shards, splits, fold=None if split else tuple(fold)):
            claimed = tuple(bundle.labels.index(genre) for genre in labels.genres if genre in bundle.labels)
            if labels.genres:
                log_mel = features.log_mel
                if bands is not None:
                    log_mel = log_mel.copy()
                    log_mel[:, bands:] = 0
                logits = chunk_logits(network, log_mel, shards.front_end)
                heard.append(
                    ScoredTrack(features.track.track_id, labels.group, claimed, logits, fold[0] if fold else 0)
                )
    if not any(track.claimed for track in heard):
        raise UsageError(f"{shards.path}: no track of a known genre in {split or 'the held-out folds'}")
    return heard


def measure(
    heard: Sequence[ScoredTrack],
    labels: Sequence[str],
    *,
    calibration: Calibration = UNCALIBRATED,
    judged: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    trained_groups: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """All figures as one dictionary for JSON. An answer is right if it is among the claimed genres.

    Args:
        judged: scores and unknown as `cross_fitted` returns them, in place of those by `calibration`.
        trained_groups: artists in the training data, for the figure without them.
    """
    is_known = np.array([bool(track.claimed) for track in heard])
    scores, unknown = judged or predicted(heard, calibration)
    known = _known_tracks([track for track in heard if track.claimed], scores[is_known])
    groups = np.array([normal_group(track.group) for track in known.tracks])
    confidence = scores.max(axis=1)
    figures: dict[str, Any] = {
        "tracks": len(known.tracks),
        "artists": len(set(groups)),
        "chunks": sum(len(track.logits) for track in known.tracks),
        "track_accuracy": _with_interval(known.right, groups),
        "chunk_accuracy": _with_interval(_chunk_accuracies(known.tracks), groups),
        "top3_accuracy": float(known.among_three.mean()),
        "first_label_accuracy": float(known.first_right.mean()),
        "per_genre": _per_genre(labels, known.first_claimed, known.answers, known.right),
        "per_genre_in_any_place": _per_genre_in_any_place(known, labels),
        "confusion": _confusion(known, len(labels)),
        "calibrated": dataclasses.asdict(calibration),
        "calibration": reliability(confidence[is_known], known.right),
    }
    figures["macro_f1"] = float(np.mean([row["f1"] for row in figures["per_genre"].values() if row["tracks"]]))
    if not known.one_claimed.all():
        figures["several_claimed"] = _several_claimed(known)
    figures["coverage"] = _coverage(confidence, unknown, is_known, known.right)
    figures["second_answers"] = _second_answers(known, unknown[is_known])
    if not is_known.all():
        figures["background"] = _background(confidence, is_known, known.right)
    unseen = np.array([group not in trained_groups for group in groups])
    if trained_groups and unseen.any():
        figures["unseen_artists"] = {"tracks": int(unseen.sum()), "track_accuracy": float(known.right[unseen].mean())}
    if len({track.fold for track in known.tracks}) > 1:
        figures["folds"] = _folds(known)
    if by_folder := _by_folder([track.track_id for track in known.tracks]):
        figures["by_folder"] = {name: _folder(known, rows) for name, rows in by_folder.items()}
    return figures


@dataclasses.dataclass(frozen=True, eq=False)
class _KnownTracks:
    """Tracks of the genres that a network knows, with its answers; every array has one value for each track.

    Attributes:
        answers, second_confidence: the best genre's index; the score of the second best.
        right, second_right: whether the best and the second best are among the claimed genres.
        among_three: whether one of the best three is.
        first_right: whether the best is the genre that is claimed first.
        first_claimed: index of the genre that is claimed first.
        one_claimed: whether no other genre is claimed.
    """

    tracks: Sequence[ScoredTrack]
    answers: NDArray[np.int64]
    right: NDArray[np.bool_]
    second_confidence: NDArray[np.float32]
    second_right: NDArray[np.bool_]
    among_three: NDArray[np.bool_]
    first_right: NDArray[np.bool_]
    first_claimed: NDArray[np.int64]
    one_claimed: NDArray[np.bool_]


def _known_tracks(tracks: Sequence[ScoredTrack], scores: NDArray[np.float32]) -> _KnownTracks:
    """Compare float32 [tracks, genres] scores with what is claimed."""
    rows = np.arange(len(tracks))
    claimed = claimed_matrix(tracks, scores.shape[1]) > 0
    order = np.argsort(-scores, axis=1, kind="stable")
    answers = order[:, 0]
    second = order[:, min(1, scores.shape[1] - 1)]  # a network with one label repeats its first answer
    first_claimed = np.array([track.claimed[0] for track in tracks])
    return _KnownTracks(
        tracks,
        answers,
        right=claimed[rows, answers],
        second_confidence=scores[rows, second],
        second_right=claimed[rows, second],
        among_three=np.asarray(np.take_along_axis(claimed, order[:, :3], axis=1).any(axis=1)),
        first_right=answers == first_claimed,
        first_claimed=first_claimed,
        one_claimed=claimed.sum(axis=1) == 1,
    )


def _chunk_accuracies(tracks: Sequence[ScoredTrack]) -> NDArray[np.float64]:
    """The share of each track's chunks whose best genre is claimed."""
    return np.array([np.isin(track.logits[:, :-1].argmax(axis=1), track.claimed).mean() for track in tracks])


def _confusion(known: _KnownTracks, genres: int) -> list[list[int]]:
    """Counts [claimed genre, answer] of the tracks of which one genre is claimed."""
    from sklearn.metrics import confusion_matrix

    one = known.one_claimed
    counts: list[list[int]] = confusion_matrix(
        known.first_claimed[one], known.answers[one], labels=range(genres)
    ).tolist()
    return counts


def _per_genre_in_any_place(known: _KnownTracks, labels: Sequence[str]) -> dict[str, dict[str, float | None]]:
    """Of the tracks that claim a genre, in whatever place, the share whose answer is among what they claim."""
    claimed = claimed_matrix(known.tracks, len(labels)) > 0
    return {
        label: {
            "tracks": int(of.sum()),
            "track_accuracy": float(known.right[of].mean()) if of.any() else None,
        }
        for label, of in zip(labels, claimed.T, strict=True)
    }


def _several_claimed(known: _KnownTracks) -> dict[str, float]:
    several = ~known.one_claimed
    return {
        "tracks": int(several.sum()),
        "answer_among_them": float(known.right[several].mean()),
        "second_answer_among_them": float(known.second_right[several].mean()),
    }


def _second_answers(known: _KnownTracks, unknown: NDArray[np.float32]) -> dict[str, Any]:
    """Over all tracks, because a reader of a second answer does not know whether there is a second genre."""
    everywhere = np.ones(len(known.tracks), bool)
    return {
        "right": float(known.second_right.mean()),
        "calibration": reliability(known.second_confidence, known.second_right),
        "coverage": _coverage(known.second_confidence, unknown, everywhere, known.second_right),
    }


def _background(
    confidence: NDArray[np.float32], is_known: NDArray[np.bool_], right: NDArray[np.bool_]
) -> dict[str, float]:
    """How well confidence separates music of the genres, and right answers, from music of other genres."""
    from sklearn.metrics import roc_auc_score

    others = confidence[~is_known]
    right_answers = confidence[is_known][right]
    return {
        "tracks": len(others),
        "auc": float(roc_auc_score(is_known, confidence)),
        "auc_right": float(
            roc_auc_score(
                np.r_[np.ones(len(right_answers)), np.zeros(len(others))], np.concatenate([right_answers, others])
            )
        ),
    }


def _folds(known: _KnownTracks) -> dict[str, Any]:
    fold = np.array([track.fold for track in known.tracks])
    accuracies = [float(known.right[fold == number].mean()) for number in np.unique(fold)]
    return {
        "track_accuracy": accuracies,
        "mean": float(np.mean(accuracies)),
        "spread": float(np.std(accuracies, ddof=1)),
    }


def _folder(known: _KnownTracks, rows: list[int]) -> dict[str, Any]:
    right, one = known.right[rows], known.one_claimed[rows]
    return {
        "tracks": len(rows),
        "track_accuracy": float(right.mean()),
        "top3_accuracy": float(known.among_three[rows].mean()),
        "first_label_accuracy": float(known.first_right[rows].mean()),
        "of_one_genre": {
            "tracks": int(one.sum()),
            "track_accuracy": float(right[one].mean()) if one.any() else None,
        },
    }


def answers(
    heard: Sequence[ScoredTrack], labels: Sequence[str], scores: NDArray[np.float32], unknown: NDArray[np.float32]
) -> pa.Table:
    """One row for each track: its claimed genres, the answer, and whether that is right (null for music of other
    genres).

    Args:
        scores: float32 [tracks, genres], and
        unknown: float32 [tracks], as `predicted` or `cross_fitted` have it.
    """
    best = scores.argmax(axis=1)
    right = [genre in track.claimed if track.claimed else None for genre, track in zip(best, heard, strict=True)]
    return pa.table(
        {
            "track_id": [track.track_id for track in heard],
            "artist": [normal_group(track.group) for track in heard],
            "genres": [[labels[genre] for genre in track.claimed] for track in heard],
            "answer": [labels[genre] for genre in best],
            "confidence": scores.max(axis=1),
            "unknown": unknown,
            "right": right,
        }
    )


def paired(ours: pa.Table, theirs: pa.Table) -> dict[str, dict[str, Any]]:
    """How much more often one network is right than another about the same tracks, by the tables of `answers`.

    Tracks that only one of them was asked about, or that are of none of the genres of one, do not count.

    Returns:
        By folder of the tracks where there are a few, "" for all: tracks, both shares of right answers, their
        difference with its 95 % interval.

    Raises:
        UsageError: no track in common.
    """
    asked = ours.select(["track_id", "artist", "right"])
    both = asked.join(theirs.select(["track_id", "right"]), "track_id", right_suffix="_theirs", join_type="inner")
    both = both.drop_null().sort_by("track_id")
    if not both.num_rows:
        raise UsageError("--against: no track that both were asked about")
    groups = np.array(both["artist"].to_pylist())
    mine, other = (np.array(both[name].to_pylist(), float) for name in ("right", "right_theirs"))
    parts = {"": list(range(len(mine)))}
    parts |= {name: rows for name, rows in _by_folder(both["track_id"].to_pylist()).items() if name}
    return {
        name: {
            "tracks": len(rows),
            "track_accuracy": float(mine[rows].mean()),
            "against": float(other[rows].mean()),
            "difference": _with_interval(mine[rows] - other[rows], groups[rows]),
        }
        for name, rows in parts.items()
    }


def _by_folder(track_ids: Sequence[str]) -> dict[str, list[int]]:
    """The rows of each top folder where these are a few, as sets of music are; "" for tracks outside of any."""
    found: dict[str, list[int]] = {}
    for row, track_id in enumerate(track_ids):
        found.setdefault(track_id.split("/")[0] if "/" in track_id else "", []).append(row)
    return found if 1 < len(found) <= 8 else {}


def _per_genre(
    labels: Sequence[str], first: NDArray[np.int64], answers: NDArray[np.int64], right: NDArray[np.bool_]
) -> dict[str, dict[str, float]]:
    """Of tracks that are of a genre in the first place, how many are right; of its answers, how many are right."""
    rows = {}
    for index, label in enumerate(labels):
        of, chosen = first == index, answers == index
        recall = float(right[of].mean()) if of.any() else 0.0
        precision = float(right[chosen].mean()) if chosen.any() else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        rows[label] = {"tracks": int(of.sum()), "precision": precision, "recall": recall, "f1": f1}
    return rows


def _coverage(
    confidence: NDArray[np.float32], unknown: NDArray[Any], known: NDArray[np.bool_], right: NDArray[np.bool_]
) -> list[dict[str, float | None]]:
    """What is written at several values of --min-confidence, and nothing beyond the line of "none of these"."""
    rows: list[dict[str, float | None]] = []
    for at in (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        written = (confidence >= at) & (unknown <= UNKNOWN)
        rows.append(
            {
                "min_confidence": at,
                "answered": float(written[known].mean()),
                "right_of_answered": float(right[written[known]].mean()) if written[known].any() else None,
                "right_kept": float(written[known][right].mean()) if right.any() else None,
                "others_written": float(written[~known].mean()) if (~known).any() else None,
            }
        )
    return rows


def reliability(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> dict[str, Any]:
    """Expected calibration error over ten equal bins (Naeini et al. 2015), and the reliability curve behind it."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    curve, error = [], 0.0
    for index in range(_BINS):
        inside = bins == index
        if inside.any():
            stated, true = float(confidence[inside].mean()), float(right[inside].mean())
            error += abs(stated - true) * float(inside.mean())
            curve.append({"tracks": int(inside.sum()), "confidence": stated, "accuracy": true})
    return {"ece": error, "curve": curve}


def trained_groups(bundle: Bundle, shards: ShardSet) -> frozenset[str]:
    """The artists among a bundle's training tracks in these shards."""
    recipe = bundle.provenance.get("recipe", {})
    splits = [split for split in recipe.get("splits", ()) if split in shards.splits]
    if recipe.get("fold"):
        return frozenset()  # folds share no artist
    return frozenset(normal_group(labels.group) for _, labels in shardset.read(shards, splits))


def _with_interval(values: NDArray[Any], groups: NDArray[np.str_]) -> dict[str, float]:
    """A mean with its 95 % interval, by resampling artists: tracks of one artist are no independent witnesses."""
    names, index = np.unique(groups, return_inverse=True)
    sums = np.bincount(index, weights=values.astype(float))
    counts = np.bincount(index)
    drawn = np.random.default_rng(0).integers(len(names), size=(_RESAMPLES, len(names)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"value": float(values.mean()), "low": float(low), "high": float(high)}
