"""How good a bundle is, measured on whole tracks that it never heard, and how far its confidence can be trusted.

Cross-validation is the same with several bundles: each is asked about the fold that it was trained without.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from genrebeam.features.errors import UsageError
from genrebeam.features.mel import bands_below
from genrebeam.model import shardset
from genrebeam.model.bundle import Bundle, load_model
from genrebeam.model.dataset import chunk_logits
from genrebeam.model.shardset import ShardSet
from genrebeam.model.splits import normal_group, position
from genrebeam.model.voting import (
    MIN_CONFIDENCE,
    UNCALIBRATED,
    UNKNOWN,
    Calibration,
    as_answers,
    chunk_scores,
    on_the_line,
)

_RESAMPLES = 2000  # of the bootstrap
_BINS = 10  # of the reliability curve
MAX_BACKGROUND = 0.15  # share of the music of other genres that may be written


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """One track and what a network said of it.

    Attributes:
        claimed: indices of the genres it is claimed to be, the first first; none for music of other genres.
        logits: float32 [chunks, genres + 1].
        fold: of the network asked, where it is one of several.
    """

    track_id: str
    group: str
    claimed: tuple[int, ...]
    logits: NDArray[np.float32]
    fold: int = 0


def listen(
    bundles: Sequence[Bundle], shards: ShardSet, split: str | None, *, lowpass_hz: float | None = None
) -> list[Heard]:
    """Ask each bundle about the labelled tracks that it was not trained on, those of other genres too.

    Args:
        split: which; None for the fold that each bundle held out of its training splits.
        lowpass_hz: let them hear nothing above it.

    Raises:
        UsageError: no labelled track there, a bundle that held no fold out, or bundles that hear other labels.
        BundleError: a bundle cannot be loaded.
    """
    heard: list[Heard] = []
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
                heard.append(Heard(features.track.track_id, labels.group, claimed, logits, fold[0] if fold else 0))
    if not any(track.claimed for track in heard):
        raise UsageError(f"{shards.path}: no track of a known genre in {split or 'the held-out folds'}")
    return heard


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    exponential = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=-1, keepdims=True), np.float32)


def track_scores(logits: Iterable[NDArray[np.float32]], calibration: Calibration) -> NDArray[np.float32]:
    """The mean of the chunks' scores, as tagging votes by default: float32 [tracks, genres + 1].

    Args:
        logits: float32 [chunks, genres + 1] of each track.
    """
    return np.stack([chunk_scores(track, calibration).mean(axis=0) for track in logits])


def said(heard: Sequence[Heard], calibration: Calibration) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What tagging says of tracks: scores float32 [tracks, genres], and "none of these" float32 [tracks] on the scale
    where UNKNOWN is the line."""
    scores = track_scores((track.logits for track in heard), calibration)
    return as_answers(scores[:, :-1], calibration.further), on_the_line(scores[:, -1], calibration.unknown_threshold)


def fit_confidence(logits: Sequence[NDArray[np.float32]], claimed: NDArray[np.float32]) -> Calibration:
    """How logits become probabilities: in which order genres come, how probable the best is, and how the others are.

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
    said = np.stack([chunks[np.arange(len(shown)), shown] + offsets[shown], chunks[:, -1]], axis=1)
    starts = np.r_[0, lengths[:-1].cumsum()]

    def pair(values: NDArray[np.float64]) -> Calibration:
        return Calibration(round(math.exp(min(max(float(values[0]), -3.0), 3.0)), 4), round(float(values[1]), 4))

    def loss(values: NDArray[np.float64]) -> float:
        scores = chunk_scores(said, pair(values))[:, 0]
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


def _likelihood(said: NDArray[Any], true: NDArray[Any]) -> float:
    """The mean logarithm of the probability of what is true, where `said` are the probabilities that it is."""
    sure = np.clip(said, 1e-6, 1 - 1e-6)
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


def claimed_matrix(heard: Sequence[Heard], genres: int) -> NDArray[np.float32]:
    """float32 [tracks, genres]: 1 for each genre claimed of a track."""
    matrix = np.zeros((len(heard), genres), np.float32)
    for row, track in zip(matrix, heard, strict=True):
        row[list(track.claimed)] = 1
    return matrix


def fit_unknown(scores: NDArray[np.float32], known: NDArray[np.bool_], min_confidence: float) -> float:
    """Where to draw the line for "none of these": so high that MAX_BACKGROUND of the music of other genres is written,
    but not where it is more probable than not that none fits: what is told apart that well needs no such bargain.

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


def fit(heard: Sequence[Heard], genres: int) -> Calibration:
    """What held-out tracks say of the calibration of a network."""
    known = [track for track in heard if track.claimed]
    fitted = fit_confidence([track.logits for track in known], claimed_matrix(known, genres))
    is_known = np.array([bool(track.claimed) for track in heard])
    line = fit_unknown(track_scores((track.logits for track in heard), fitted), is_known, MIN_CONFIDENCE)
    return dataclasses.replace(fitted, unknown_threshold=line)


def cross_fitted(
    heard: Sequence[Heard], genres: int, judged_on: Sequence[Heard] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same as `said`, by what was fitted on the other half of the artists.

    Args:
        judged_on: what is said instead of those that are fitted on: of the same tracks, heard in another way.
    """
    # By a hash of their own: by that of the folds, each half would be other networks' tracks.
    half = np.array([position(track.group, "half") < 0.5 for track in heard])
    scores, unknown = np.zeros((len(heard), genres), np.float32), np.zeros(len(heard), np.float32)
    for side in (False, True):
        other = [track for track, at in zip(heard, half, strict=True) if at != side and track.claimed]
        fitted_on = [track for track, at in zip(heard, half, strict=True) if at != side] if other else list(heard)
        judged = np.flatnonzero(half == side)
        if not len(judged):
            continue
        scores[judged], unknown[judged] = said([(judged_on or heard)[int(i)] for i in judged], fit(fitted_on, genres))
    return scores, unknown


def measure(
    heard: Sequence[Heard],
    labels: Sequence[str],
    *,
    calibration: Calibration = UNCALIBRATED,
    judged: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
    trained_groups: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """All figures as one dictionary that JSON can hold. An answer is right that is among the claimed genres.

    Args:
        judged: what is said of them, if not by `calibration`: by `cross_fitted`.
        trained_groups: artists in the training data, for the figure without them.
    """
    from sklearn.metrics import confusion_matrix, roc_auc_score

    known = [track for track in heard if track.claimed]
    is_known = np.array([bool(track.claimed) for track in heard])
    every, unknown = judged or said(heard, calibration)
    scores = every[is_known]
    claimed = claimed_matrix(known, len(labels)) > 0
    order = np.argsort(-scores, axis=1, kind="stable")
    answers = order[:, 0]
    right = claimed[np.arange(len(known)), answers]
    second = order[:, min(1, len(labels) - 1)]  # who knows one label has no second answer but the first again
    second_right = claimed[np.arange(len(known)), second]
    second_confidence = scores[np.arange(len(known)), second]
    groups = np.array([normal_group(track.group) for track in known])
    chunk_right = np.array([np.isin(t.logits[:, :-1].argmax(axis=1), t.claimed).mean() for t in known])
    among_three = np.asarray(np.take_along_axis(claimed, order[:, :3], axis=1).any(axis=1))
    first = np.array([track.claimed[0] for track in known])
    one = claimed.sum(axis=1) == 1
    figures: dict[str, Any] = {
        "tracks": len(known),
        "artists": len(set(groups)),
        "chunks": sum(len(track.logits) for track in known),
        "track_accuracy": _with_interval(right, groups),
        "chunk_accuracy": _with_interval(chunk_right, groups),
        "top3_accuracy": float(among_three.mean()),
        "per_genre": _per_genre(labels, first, answers, right),
        "confusion": confusion_matrix(first[one], answers[one], labels=range(len(labels))).tolist(),
        "calibrated": dataclasses.asdict(calibration),
        "calibration": reliability(scores.max(axis=1), right),
    }
    figures["macro_f1"] = float(np.mean([row["f1"] for row in figures["per_genre"].values() if row["tracks"]]))
    several = ~one
    if several.any():
        figures["several_claimed"] = {
            "tracks": int(several.sum()),
            "answer_among_them": float(right[several].mean()),
            "second_answer_among_them": float(second_right[several].mean()),
        }
    confidence = every.max(axis=1)
    figures["coverage"] = _coverage(confidence, unknown, is_known, right)
    # Over all tracks: who sees a second answer does not know whether there is a second genre.
    figures["second_answers"] = {
        "right": float(second_right.mean()),
        "calibration": reliability(second_confidence, second_right),
        "coverage": _coverage(second_confidence, unknown[is_known], np.ones(len(known), bool), second_right),
    }
    if not is_known.all():
        figures["background"] = {
            "tracks": int((~is_known).sum()),
            "auc": float(roc_auc_score(is_known, confidence)),
            "auc_right": float(
                roc_auc_score(np.r_[np.ones(right.sum()), np.zeros((~is_known).sum())],
                              np.r_[confidence[is_known][right], confidence[~is_known]])
            ),
        }  # fmt: skip
    unseen = np.array([group not in trained_groups for group in groups])
    if trained_groups and unseen.any():
        figures["unseen_artists"] = {"tracks": int(unseen.sum()), "track_accuracy": float(right[unseen].mean())}
    folds = sorted({track.fold for track in known})
    if len(folds) > 1:
        by_fold = [float(right[[track.fold == fold for track in known]].mean()) for fold in folds]
        figures["folds"] = {
            "track_accuracy": by_fold,
            "mean": float(np.mean(by_fold)),
            "spread": float(np.std(by_fold, ddof=1)),
        }
    if by_folder := _by_folder([track.track_id for track in known]):
        figures["by_folder"] = {
            name: {
                "tracks": len(rows),
                "track_accuracy": float(right[rows].mean()),
                "top3_accuracy": float(among_three[rows].mean()),
                "of_one_genre": {"tracks": int(one[rows].sum()),
                                 "track_accuracy": float(right[rows][one[rows]].mean()) if one[rows].any() else None},
            }
            for name, rows in by_folder.items()
        }  # fmt: skip
    return figures


def answers(
    heard: Sequence[Heard], labels: Sequence[str], scores: NDArray[np.float32], unknown: NDArray[np.float32]
) -> pa.Table:
    """One row for each track: what it is, what is said of it, whether that is right (null for music of other genres).

    Args:
        scores: float32 [tracks, genres], and
        unknown: float32 [tracks], as `said` or `cross_fitted` have it.
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
        of, said = first == index, answers == index
        recall = float(right[of].mean()) if of.any() else 0.0
        precision = float(right[said].mean()) if said.any() else 0.0
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
            said, true = float(confidence[inside].mean()), float(right[inside].mean())
            error += abs(said - true) * float(inside.mean())
            curve.append({"tracks": int(inside.sum()), "confidence": said, "accuracy": true})
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


def markdown(figures: Mapping[str, Any], labels: Sequence[str]) -> str:
    """The figures as Markdown tables."""
    accuracy, chunks = figures["track_accuracy"], figures["chunk_accuracy"]
    lines = [
        "| measure | value |",
        "|---|---|",
        f"| track accuracy | {accuracy['value']:.3f} (95 % interval {accuracy['low']:.3f} to {accuracy['high']:.3f}) |",
        f"| chunk accuracy | {chunks['value']:.3f} ({chunks['low']:.3f} to {chunks['high']:.3f}) |",
        f"| right genre among the best three | {figures['top3_accuracy']:.3f} |",
        f"| macro F1 | {figures['macro_f1']:.3f} |",
        f"| expected calibration error | {figures['calibration']['ece']:.3f} |",
        f"| tracks, artists, chunks | {figures['tracks']}, {figures['artists']}, {figures['chunks']} |",
    ]
    if "folds" in figures:
        folds = figures["folds"]
        each = ", ".join(f"{value:.3f}" for value in folds["track_accuracy"])
        lines.append(f"| track accuracy over folds | {folds['mean']:.3f} ± {folds['spread']:.3f} ({each}) |")
    if "unseen_artists" in figures:
        unseen = figures["unseen_artists"]
        lines.append(f"| of artists not trained on | {unseen['track_accuracy']:.3f} ({unseen['tracks']} tracks) |")
    if "several_claimed" in figures:
        several = figures["several_claimed"]
        lines.append(
            f"| several genres claimed: answer is one of them | {several['answer_among_them']:.3f} "
            f"({several['tracks']} tracks) |"
        )
        lines.append(f"| of these: second answer too | {several['second_answer_among_them']:.3f} |")
    second = figures["second_answers"]
    lines.append(
        f"| second answers, all tracks: right, calibration error | {second['right']:.3f}, "
        f"{second['calibration']['ece']:.3f} |"
    )
    for name, part in figures.get("by_folder", {}).items():
        lines.append(
            f"| track accuracy in {name} | {part['track_accuracy']:.3f} ({part['tracks']} tracks), in the best three "
            f"{part['top3_accuracy']:.3f} |"
        )
    for name, row in figures.get("paired", {}).items():
        gain = row["difference"]
        lines.append(
            f"| against the other report, {name or 'all'} | {gain['value']:+.3f} (95 % interval {gain['low']:+.3f} to "
            f"{gain['high']:+.3f}): {row['track_accuracy']:.3f}, not {row['against']:.3f}, of {row['tracks']} tracks |"
        )
    if "background" in figures:
        background = figures["background"]
        lines.append(f"| music of other genres: tracks, AUC of the confidence of right answers against it | "
                     f"{background['tracks']}, {background['auc_right']:.3f} |")  # fmt: skip
    lines += [
        "",
        "| --min-confidence | answered | right of these | right answers kept | music of other genres written "
        "| a second answer too | right of these |",
        "|---|---|---|---|---|---|---|",
    ]
    for row, further in zip(figures["coverage"], second["coverage"], strict=True):
        values = [*list(row.values())[1:], further["answered"], further["right_of_answered"]]
        cells = [f"{value:.2f}" if value is not None else "–" for value in values]
        lines.append(f"| {row['min_confidence']:g} | {' | '.join(cells)} |")
    lines += ["", "| genre | tracks | precision | recall | F1 |", "|---|---|---|---|---|"]
    for label, row in figures["per_genre"].items():
        lines.append(f"| {label} | {row['tracks']} | {row['precision']:.2f} | {row['recall']:.2f} | {row['f1']:.2f} |")
    lines += ["", f"| is \\ heard as | {' | '.join(labels)} |", "|---" * (len(labels) + 1) + "|"]
    for label, row in zip(labels, figures["confusion"], strict=True):
        lines.append(f"| {label} | {' | '.join(map(str, row))} |")
    return "\n".join(lines) + "\n"


def plot(figures: Mapping[str, Any], labels: Sequence[str], file: Any) -> None:
    """Confusion matrix and reliability curve as one picture."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    counts = np.array(figures["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    left.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    left.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    left.set_yticks(range(len(labels)), labels)
    left.set(xlabel="heard as", ylabel="is", title=f"{figures['tracks']} tracks")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            shade = "white" if shares[row, column] > 0.5 else "black"
            left.text(column, row, f"{count:.0f}", ha="center", va="center", color=shade, fontsize=8)
    curve = figures["calibration"]["curve"]
    right.plot([0, 1], [0, 1], color="grey", linestyle=":")
    right.plot([p["confidence"] for p in curve], [p["accuracy"] for p in curve], marker="o")
    for point in curve:
        right.annotate(str(point["tracks"]), (point["confidence"], point["accuracy"]), fontsize=8, ha="left", va="top")
    right.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share of tracks that are right",
        title=f"calibration error {figures['calibration']['ece']:.3f}",
    )  # fmt: skip
    figure.savefig(file, dpi=110)
