"""How good a bundle is, measured on whole tracks that it never heard, and how far its confidence can be trusted.

Cross-validation is the same with several bundles: each is asked about the fold that it was trained without.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.errors import UsageError
from model import shardset
from model.bundle import Bundle, load_model
from model.dataset import chunk_logits
from model.shardset import ShardSet
from model.splits import fold_of, normal_group

_RESAMPLES = 2000  # of the bootstrap
_BINS = 10  # of the reliability curve


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """One track and what a network said of it.

    Attributes:
        claimed: indices of the genres it is claimed to be; one where it is sure.
        logits: float32 [chunks, genres].
        fold: of the network asked, where it is one of several.
    """

    track_id: str
    group: str
    claimed: tuple[int, ...]
    logits: NDArray[np.float32]
    fold: int = 0


def listen(bundles: Sequence[Bundle], shards: ShardSet, split: str | None) -> list[Heard]:
    """Ask each bundle about the labelled tracks that it was not trained on.

    Args:
        split: which; None for the fold that each bundle held out of its training splits.

    Raises:
        UsageError: no labelled track there, a bundle that held no fold out, or bundles that hear other labels.
        BundleError: a bundle cannot be loaded.
    """
    heard: list[Heard] = []
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
            claimed = tuple(i for i, label in enumerate(bundle.labels) if label in labels.genres)
            if claimed:
                logits = chunk_logits(network, features.log_mel, shards.front_end)
                heard.append(Heard(features.track.track_id, labels.group, claimed, logits, fold[0] if fold else 0))
    if not any(len(track.claimed) == 1 for track in heard):
        raise UsageError(f"{shards.path}: no track of one known genre in {split or 'the held-out folds'}")
    return heard


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float32]:
    scaled = logits / temperature
    exponential = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponential / exponential.sum(axis=-1, keepdims=True), np.float32)


def track_probabilities(heard: Sequence[Heard], temperature: float) -> NDArray[np.float32]:
    """The mean of the chunks' probabilities, as tagging votes by default: float32 [tracks, genres]."""
    return np.stack([softmax(track.logits, temperature).mean(axis=0) for track in heard])


def fit_temperature(logits: Sequence[NDArray[np.float32]], truth: NDArray[np.int64]) -> float:
    """The temperature at which the tracks' probabilities are the likeliest (Guo et al. 2017, but over tracks).

    Chunks of a track agree less than they should for being the same music, and their mean is softer than each:
    what is calibrated must be the mean.

    Args:
        logits: [chunks, genres] of each track.
        truth: index of each track's genre.
    """
    from scipy.optimize import minimize_scalar

    def loss(log_temperature: float) -> float:
        means = np.stack([softmax(track, math.exp(log_temperature)).mean(axis=0) for track in logits])
        return float(-np.log(np.maximum(means[np.arange(len(truth)), truth], 1e-9)).mean())

    return round(math.exp(minimize_scalar(loss, bounds=(-3.0, 2.0), method="bounded").x), 4)


@dataclasses.dataclass(frozen=True)
class CrossFitted:
    """A temperature fitted on all tracks, and the calibration of those fitted on the other half of the artists."""

    temperature: float
    calibration: dict[str, Any]


def cross_fitted(sure: Sequence[Heard]) -> CrossFitted:
    """Fit the temperature on tracks of one known genre, and measure calibration without judging by what was fitted."""
    truth = np.array([track.claimed[0] for track in sure])
    half = np.array([fold_of(track.group, 2) for track in sure])
    confidence, right = np.zeros(len(sure), np.float32), np.zeros(len(sure), bool)
    for side in (0, 1):
        fit, judge = np.flatnonzero(half != side).tolist(), np.flatnonzero(half == side).tolist()
        if not fit or not judge:
            fit = judge = list(range(len(sure)))
        temperature = fit_temperature([sure[i].logits for i in fit], truth[fit])
        probabilities = track_probabilities([sure[i] for i in judge], temperature)
        confidence[judge], right[judge] = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth[judge]
    return CrossFitted(fit_temperature([t.logits for t in sure], truth), calibration(confidence, right))


def measure(
    heard: Sequence[Heard], labels: Sequence[str], *, temperature: float, trained_groups: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """All figures as one dictionary that JSON can hold.

    Args:
        trained_groups: artists in the training data, for the figure without them.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    sure = [track for track in heard if len(track.claimed) == 1]
    truth = np.array([track.claimed[0] for track in sure])
    probabilities = track_probabilities(sure, temperature)
    answers = probabilities.argmax(axis=1)
    right = answers == truth
    groups = np.array([normal_group(track.group) for track in sure])
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, answers, labels=range(len(labels)), zero_division=0.0
    )
    chunk_right = np.array([(track.logits.argmax(axis=1) == track.claimed[0]).mean() for track in sure])
    best_three = np.argsort(-probabilities, axis=1)[:, :3]
    figures: dict[str, Any] = {
        "tracks": len(sure),
        "artists": len(set(groups)),
        "chunks": sum(len(track.logits) for track in sure),
        "track_accuracy": _with_interval(right, groups),
        "chunk_accuracy": _with_interval(chunk_right, groups),
        "top3_accuracy": float((best_three == truth[:, None]).any(axis=1).mean()),
        "macro_f1": float(f1[support > 0].mean()),
        "per_genre": {
            label: {
                "tracks": int(support[i]),
                "precision": float(precision[i]),
                "recall": float(recall[i]),
                "f1": float(f1[i]),
            }
            for i, label in enumerate(labels)
        },
        "confusion": confusion_matrix(truth, answers, labels=range(len(labels))).tolist(),
        "temperature": temperature,
        "calibration": calibration(probabilities.max(axis=1), right),
    }
    unseen = np.array([group not in trained_groups for group in groups])
    if trained_groups and unseen.any():
        figures["unseen_artists"] = {"tracks": int(unseen.sum()), "track_accuracy": float(right[unseen].mean())}
    folds = sorted({track.fold for track in sure})
    if len(folds) > 1:
        by_fold = [float(right[[track.fold == fold for track in sure]].mean()) for fold in folds]
        figures["folds"] = {
            "track_accuracy": by_fold,
            "mean": float(np.mean(by_fold)),
            "spread": float(np.std(by_fold, ddof=1)),
        }
    several = [track for track in heard if len(track.claimed) > 1]
    if several:
        among = track_probabilities(several, temperature).argmax(axis=1)
        hits = [answer in track.claimed for answer, track in zip(among, several, strict=True)]
        figures["several_claimed"] = {"tracks": len(several), "answer_among_them": float(np.mean(hits))}
    by_source: dict[str, list[bool]] = {}
    for track, ok in zip(sure, right, strict=True):
        by_source.setdefault(track.track_id.split("/")[0] if "/" in track.track_id else "", []).append(bool(ok))
    if 1 < len(by_source) <= 8:
        figures["by_folder"] = {
            name: {"tracks": len(hits), "track_accuracy": float(np.mean(hits))} for name, hits in by_source.items()
        }
    return figures


def calibration(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> dict[str, Any]:
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
        f"| expected calibration error | {figures['calibration']['ece']:.3f} (temperature {figures['temperature']}) |",
        f"| tracks, artists, chunks | {figures['tracks']}, {figures['artists']}, {figures['chunks']} |",
    ]
    if "calibration_cross_fitted" in figures:
        honest = figures["calibration_cross_fitted"]["ece"]
        lines.append(f"| the same, temperature fitted on the other half of the artists | {honest:.3f} |")
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
    for name, part in figures.get("by_folder", {}).items():
        lines.append(f"| track accuracy in {name} | {part['track_accuracy']:.3f} ({part['tracks']} tracks) |")
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
