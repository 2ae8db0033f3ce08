"""The exploration that tutorials do, on the same tracks as our network: features x algorithms, honestly and leakily.

Every feature is computed from the log-Mel levels of a chunk; a track's answer is the mean of its chunks'. The
leaky protocol draws test chunks from the songs trained on, with overlap. It is here because that is where most
published figures near 0.9 come from, and is marked so wherever it appears.
"""

from __future__ import annotations

import dataclasses
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.chunks import chunks_of
from features.config import FrontEnd
from model import shardset
from model.shardset import ShardSet

Features = Callable[[NDArray[np.uint8], FrontEnd], NDArray[np.float32]]
_MFCCS = 20
_FLOOR_DB = 80.0


@dataclasses.dataclass(frozen=True, eq=False)
class Chunks:
    """The chunks of labelled tracks: uint8 [chunks, frames, mel_bands], genre index and track number of each."""

    levels: NDArray[np.uint8]
    genre: NDArray[np.int64]
    track: NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. Times are per 1,000 chunks of 4 s; `size_kb` is that of the pickled model."""

    protocol: str
    features: str
    algorithm: str
    track_accuracy: float
    chunk_accuracy: float
    macro_f1: float
    fit_s: float
    predict_ms: float
    size_kb: float


def decibels(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """Decibels below the loudest point of each chunk, not below -80: float32 of the same shape."""
    values = levels.astype(np.float32) * front_end.level_step_db
    return np.maximum(values - values.max(axis=(1, 2), keepdims=True), -_FLOOR_DB)


def log_mel_statistics(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """Mean, deviation and deviation of the frame-to-frame difference of each Mel band: [chunks, 3 mel_bands]."""
    return _statistics(decibels(levels, front_end))


def mfcc_statistics(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """The same three of the first 20 MFCCs (orthonormal DCT-II of the decibels, as librosa has it): [chunks, 60]."""
    from scipy.fft import dct

    return _statistics(dct(decibels(levels, front_end), axis=2, norm="ortho")[:, :, :_MFCCS])


def spectral_statistics(levels: NDArray[np.uint8], front_end: FrontEnd) -> NDArray[np.float32]:
    """The same three of centroid, bandwidth, roll-off (85 %), flatness and contrast in 6 ranges: [chunks, 30].

    Definitions as in librosa.feature, over Mel bands instead of FFT bins; the first three are in bands.
    """
    level_db = decibels(levels, front_end)
    power = 10 ** (level_db / 10)
    share = power / power.sum(axis=2, keepdims=True)
    band = np.arange(front_end.mel_bands, dtype=np.float32)
    centroid = (share * band).sum(axis=2)
    bandwidth = np.sqrt((share * (band - centroid[:, :, None]) ** 2).sum(axis=2))
    roll_off = (share.cumsum(axis=2) < 0.85).sum(axis=2)
    flatness = level_db.mean(axis=2) - 10 * np.log10(power.mean(axis=2))
    ranges = [np.sort(part, axis=2) for part in np.array_split(level_db, 6, axis=2)]
    contrast = [part[:, :, -2:].mean(axis=2) - part[:, :, :2].mean(axis=2) for part in ranges]
    return _statistics(np.stack([centroid, bandwidth, roll_off, flatness, *contrast], axis=2))


FEATURES: dict[str, Features] = {
    "log-Mel statistics": log_mel_statistics,
    "MFCC statistics": mfcc_statistics,
    "spectral statistics": spectral_statistics,
}


def algorithms(seed: int = 0) -> dict[str, Any]:
    """The usual suspects of scikit-learn, each behind a standard scaler."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    found = {
        "k-NN": KNeighborsClassifier(5),
        "logistic regression": LogisticRegression(C=0.01, max_iter=300),
        "SVM": SVC(C=3.0, probability=False, random_state=seed),
        "random forest": RandomForestClassifier(300, random_state=seed),
        "gradient boosting": HistGradientBoostingClassifier(max_iter=100, random_state=seed),
        "dense network": MLPClassifier((256, 64), early_stopping=True, random_state=seed),
    }
    return {name: make_pipeline(StandardScaler(), algorithm) for name, algorithm in found.items()}


def read_chunks(shards: ShardSet, splits: Sequence[str]) -> Chunks:
    """All chunks of the tracks of exactly one genre."""
    levels, genre, track = [], [], []
    for number, (features, labels) in enumerate(shardset.read(shards, splits)):
        if len(labels.genres) == 1 and labels.genres[0] in shards.labels:
            cut = chunks_of(features.log_mel, shards.front_end)
            levels.append(cut)
            genre += [shards.labels.index(labels.genres[0])] * len(cut)
            track += [number] * len(cut)
    return Chunks(np.concatenate(levels), np.array(genre), np.array(track))


def compare(
    train: Chunks,
    test: Chunks,
    front_end: FrontEnd,
    *,
    protocol: str,
    features: Mapping[str, Features] = FEATURES,
    seed: int = 0,
    only: Sequence[str] = (),
) -> list[Row]:
    """Fit and score every feature with every algorithm (or those named in `only`)."""
    rows = []
    for feature_name, compute in features.items():
        x, x_test = compute(train.levels, front_end), compute(test.levels, front_end)
        for name, model in algorithms(seed).items():
            if not only or name in only:
                rows.append(_score(model, x, train, x_test, test, labels=(protocol, feature_name, name)))
    return rows


def leaky_split(chunks: Chunks, *, seed: int = 0) -> tuple[Chunks, Chunks]:
    """A fifth of the chunks at random as test: their neighbours, which overlap them, stay in training. A leak."""
    test = np.random.default_rng(seed).random(len(chunks.genre)) < 0.2
    return tuple(Chunks(chunks.levels[m], chunks.genre[m], chunks.track[m]) for m in (~test, test))  # type: ignore[return-value]


def markdown(rows: Sequence[Row]) -> str:
    """The table, best first within each protocol."""
    columns = "protocol,features,algorithm,track,chunk,macro F1,fit s,ms per 1000 chunks,kB".split(",")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in sorted(rows, key=lambda row: (row.protocol, -row.track_accuracy)):
        scores = f"{row.track_accuracy:.3f} | {row.chunk_accuracy:.3f} | {row.macro_f1:.3f}"
        costs = f"{row.fit_s:.1f} | {row.predict_ms:.0f} | {row.size_kb:.0f}"
        lines.append(f"| {row.protocol} | {row.features} | {row.algorithm} | {scores} | {costs} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], file: Any) -> None:
    """Track accuracies as bars, honest beside leaky."""
    from matplotlib.figure import Figure

    names = sorted({(row.features, row.algorithm) for row in rows})
    protocols = sorted({row.protocol for row in rows})
    figure = Figure(figsize=(9, 0.35 * len(names) + 1.5), layout="constrained")
    axes = figure.subplots()
    for index, protocol in enumerate(protocols):
        accuracy = {(row.features, row.algorithm): row.track_accuracy for row in rows if row.protocol == protocol}
        at = np.arange(len(names)) + 0.4 * index
        axes.barh(at, [accuracy.get(name, 0.0) for name in names], height=0.38, label=protocol)
    axes.set_yticks(np.arange(len(names)) + 0.2, [f"{algorithm}, {features}" for features, algorithm in names])
    axes.set(xlim=(0, 1), xlabel="track accuracy")
    axes.legend()
    figure.savefig(file, dpi=110)


def _statistics(values: NDArray[Any]) -> NDArray[np.float32]:
    """[chunks, frames, n] to [chunks, 3 n]."""
    parts = [values.mean(axis=1), values.std(axis=1), np.diff(values, axis=1).std(axis=1)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def _score(
    model: Any, x: NDArray[Any], train: Chunks, x_test: NDArray[Any], test: Chunks, *, labels: tuple[str, str, str]
) -> Row:
    from sklearn.metrics import f1_score

    began = time.perf_counter()
    model.fit(x, train.genre)
    fitted = time.perf_counter()
    # An SVM has votes instead of probabilities; the mean of either is a track's answer.
    scores = model.predict_proba(x_test) if hasattr(model, "predict_proba") else model.decision_function(x_test)
    done = time.perf_counter()
    tracks, index = np.unique(test.track, return_inverse=True)
    means = np.zeros((len(tracks), scores.shape[1]))
    np.add.at(means, index, scores)
    truth = np.zeros(len(tracks), int)
    truth[index] = test.genre
    answers = model.classes_[means.argmax(axis=1)]
    protocol, features, algorithm = labels
    return Row(
        protocol,
        features,
        algorithm,
        track_accuracy=float((answers == truth).mean()),
        chunk_accuracy=float((model.classes_[scores.argmax(axis=1)] == test.genre).mean()),
        macro_f1=float(f1_score(truth, answers, average="macro", zero_division=0.0)),
        fit_s=fitted - began,
        predict_ms=(done - fitted) / len(x_test) * 1e6,
        size_kb=len(pickle.dumps(model)) / 1e3,
    )
