"""Features x algorithms of the usual tutorials, on the same tracks as our network, with an honest and a leaky split.

A track's answer is the mean of its chunks'. The leaky protocol draws test chunks from the songs trained on, with
overlap. It is here because that is where most published figures near 0.9 come from, and is marked so wherever it
appears. What is learned from is in model/handcrafted.py, what learns in model/contenders.py.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.chunks import chunks_of
from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import TrackError, UsageError
from genrebeam.features.extract import mono_blocks
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.ranges import check_range
from genrebeam.model import contenders, handcrafted, shardset
from genrebeam.model.contenders import Chunks, Contender, Tell
from genrebeam.model.shardset import ShardSet

Audio = Mapping[str, Callable[[], AbstractContextManager[Path]]]  # by track_id: where to read the file while it is open

HONEST, LEAKY = "honest", "LEAKY"
_LEVELS = "log-Mel as it is"  # the input of networks


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        protocol: HONEST or LEAKY.
        track_accuracy: over tracks, each answered by the mean of its test chunks.
        fit_s: CPU seconds of all threads, without computing the features. Not the clock's: these runs take hours,
            and what else a machine does in them is not the algorithm's fault.
        predict_ms: CPU milliseconds per 1,000 chunks, with computing the features.
        size_kb: of the pickled model; of its weights where it is a network of Keras.
        tracks: tested.
    """

    protocol: str
    features: str
    algorithm: str
    track_accuracy: float
    chunk_accuracy: float
    macro_f1: float
    fit_s: float
    predict_ms: float
    size_kb: float
    tracks: int

    @property
    def key(self) -> tuple[str, str, str]:
        return self.protocol, self.features, self.algorithm


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is measured: every feature with every algorithm of scikit-learn, and the networks.

    Attributes:
        features: from handcrafted.names; none for all that there are.
        algorithms: names from `algorithm_names`; none for all but the networks, which cost minutes to hours.
        epochs: of the networks; None for what their recipes say.
        audio: whether the audio is at hand, which zero crossings need.

    Raises:
        UsageError: a name there is not, with those there are; zero crossings without audio.
    """

    features: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    epochs: int | None = None
    seed: int = 0
    audio: bool = False

    def __post_init__(self) -> None:
        for option, given, known in (
            ("--features", self.features, handcrafted.names(audio=True)),
            ("--algorithm", self.algorithms, algorithm_names()),
        ):
            if unknown := sorted(set(given) - set(known)):
                raise UsageError(f"{option} {', '.join(unknown)}: choose from {', '.join(known)}")
        if handcrafted.ZERO_CROSSINGS in self.features and not self.audio:
            raise UsageError(
                f"--features {handcrafted.ZERO_CROSSINGS}: shards hold no waveform; "
                "give the library they were made from as --audio"
            )
        if self.epochs is not None:
            check_range("--epochs", self.epochs, low=1)

    def entries(self, tell: Tell = lambda _: None) -> list[tuple[str, str, Callable[[], Contender]]]:
        """Features, algorithm, and how to make it; what takes long comes last."""
        simple = contenders.scikit_learn(self.seed)
        chosen = self.algorithms or tuple(simple)
        found: list[tuple[str, str, Callable[[], Contender]]] = [
            (features, name, make)
            for features in (self.features or handcrafted.names(audio=self.audio))
            for name, make in simple.items()
            if name in chosen
        ]
        for name, network in contenders.NETWORKS.items():
            if name in chosen:
                epochs = self.epochs or network.EPOCHS
                make = functools.partial(network, epochs, seed=self.seed, tell=tell)
                found.append((_LEVELS, f"{name}, {epochs} epochs", make))
        return found


def algorithm_names() -> list[str]:
    return [*contenders.scikit_learn(), *contenders.NETWORKS]


def read_chunks(
    shards: ShardSet, splits: Sequence[str], audio: Audio | None = None, *, tell: Tell = lambda _: None
) -> Chunks:
    """All chunks of the tracks of exactly one genre.

    Args:
        audio: the files that the shards were made from, where zero crossings are wanted.
        tell: called with the track that is being decoded.

    Raises:
        UsageError: no such split, or no such track in it; a track without its audio.
    """
    levels: list[NDArray[np.uint8]] = []
    origin: list[tuple[int, int, int, str]] = []
    tracks: list[tuple[str, int]] = []
    for split in splits:
        before = len(levels)
        for features, claim in shardset.read(shards, [split]):
            if len(claim.genres) == 1 and claim.genres[0] in shards.labels:
                cut = chunks_of(features.log_mel, shards.front_end)
                label = shards.labels.index(claim.genres[0])
                origin += [(label, len(levels), position, split) for position in range(len(cut))]
                levels.append(cut)
                tracks.append((features.track.track_id, len(features.log_mel)))
        if len(levels) == before:
            raise UsageError(f"{shards.path}: no track of one genre in split {split!r}")
    genre, track, position, split_of = (np.array(column) for column in zip(*origin, strict=True))
    crossings = None if audio is None else _crossings(tracks, audio, shards.front_end, tell)
    every = np.concatenate(levels)
    return Chunks(every, genre, track, position, split_of, shards.labels, shards.front_end, crossings)


def protocols(chunks: Chunks, test_split: str, *, leaky: bool = True, seed: int = 0) -> dict[str, NDArray[np.bool_]]:
    """Which chunks are tested, by protocol; the others are trained on.

    Honest: those of a split, whose artists are on no other side. LEAKY: a fifth of all chunks at random; their
    neighbours, which overlap them, stay in training.
    """
    found = {HONEST: chunks.split == test_split}
    if leaky:
        found[LEAKY] = np.random.default_rng(seed).random(len(chunks.genre)) < 0.2
    return found


def compare(
    chunks: Chunks,
    tested: Mapping[str, NDArray[np.bool_]],
    plan: Plan,
    *,
    done: Collection[tuple[str, str, str]] = (),
    tell: Tell = lambda _: None,
) -> Iterator[Row]:
    """Fit and score, one row after the other.

    Args:
        tested: which chunks are tested by which protocol, as `protocols` has it.
        done: keys of rows that are not measured again.
        tell: called with what is being measured.
    """
    doing = ""
    entries = plan.entries(lambda text: tell(f"{doing}: {text}"))
    x: NDArray[Any] = chunks.levels
    computed, features_s = _LEVELS, 0.0
    for features, algorithm, make in entries:
        for protocol, test in tested.items():
            if (protocol, features, algorithm) in done:
                continue
            doing = f"{protocol}: {features}, {algorithm}"
            tell(doing)
            if features != computed:
                began = time.process_time()
                x = chunks.levels
                if features != _LEVELS:
                    x = handcrafted.of_chunks(features, chunks.levels, chunks.front_end, chunks.crossings)
                computed, features_s = features, time.process_time() - began
            measured = _measure(make(), x, chunks, test)
            measured["predict_ms"] += features_s / len(chunks.genre) * 1e6
            yield Row(protocol, features, algorithm, **measured)


def markdown(rows: Sequence[Row]) -> str:
    """The table, the honestly best first, with the leaky figures beside; costs are those of the honest run."""
    scores = [f"{protocol} {name}" for protocol in (HONEST, LEAKY) for name in ("track", "chunk", "macro F1")]
    columns = ["features", "algorithm", *scores, "fit, CPU s", "CPU ms per 1000 chunks", "kB"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for (features, algorithm), pair in _pairs(rows):
        cells = [features, algorithm]
        for protocol in (HONEST, LEAKY):
            row = pair.get(protocol)
            values = (row.track_accuracy, row.chunk_accuracy, row.macro_f1) if row else ()
            cells += [f"{value:.3f}" for value in values] or ["–"] * 3
        costs = pair.get(HONEST) or pair[LEAKY]
        cells += [f"{costs.fit_s:.1f}", f"{costs.predict_ms:.0f}", f"{costs.size_kb:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], file: Any) -> None:
    """Track accuracies as bars, honest beside leaky, the honestly best on top."""
    from matplotlib.figure import Figure

    pairs = _pairs(rows)[::-1]
    figure = Figure(figsize=(9, 0.32 * len(pairs) + 1.5), layout="constrained")
    axes = figure.subplots()
    names = {HONEST: "honest: artists never heard", LEAKY: "LEAKY: chunks of the songs trained on"}
    for index, (protocol, name) in enumerate(names.items()):
        accuracy = [pair[protocol].track_accuracy if protocol in pair else 0.0 for _, pair in pairs]
        if any(accuracy):
            axes.barh(np.arange(len(pairs)) - 0.4 * index, accuracy, height=0.38, label=name)
    axes.set_yticks(np.arange(len(pairs)) - 0.2, [f"{algorithm} | {features}" for (features, algorithm), _ in pairs])
    axes.set(xlim=(0, 1), xlabel="track accuracy", ylim=(-1, len(pairs)))
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(file, dpi=110)


def load_rows(folder: Path, recipe: Mapping[str, Any]) -> list[Row]:
    """The rows of compare.json, which an earlier call wrote; none where there is no such file.

    Raises:
        UsageError: it is damaged, or of other shards, splits or another seed, or `all` has other features in it.
    """
    file = folder / "compare.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        rows = [Row(**row) for row in values.pop("rows")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file}: not a comparison of this genrebeam; give another --output") from error
    if values.get("audio") != recipe.get("audio"):
        which = "with" if values.get("audio") else "without"
        raise UsageError(
            f"{file}: holds a comparison {which} --audio, where `all` is not the same; give another --output"
        )
    if values != dict(recipe):
        differing = ", ".join(sorted(key for key in recipe if values.get(key) != recipe[key]))
        raise UsageError(f"{file}: holds a comparison with another {differing}; give another --output")
    return rows


def save(rows: Sequence[Row], folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write compare.json, compare.md and compare.png; a kill leaves the rows of before or these.

    Raises:
        UsageError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / ".partial-compare.json"
        values = dict(recipe) | {"rows": [dataclasses.asdict(row) for row in rows]}
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
        partial.replace(folder / "compare.json")
        (folder / "compare.md").write_text(markdown(rows), encoding="utf-8")
        plot(rows, folder / "compare.png")
    except OSError as error:
        raise UsageError(f"{folder}: cannot write the comparison: {error.strerror}") from error


def _crossings(tracks: Sequence[tuple[str, int]], audio: Audio, front_end: FrontEnd, tell: Tell) -> NDArray[np.float32]:
    """The zero-crossing rate in each frame of the chunks of some tracks: float32 [chunks, chunk_frames].

    Args:
        tracks: the track_id of each, and how many frames of log-Mel the shards have of it.

    Raises:
        UsageError: a track is missing, cannot be heard, or is not of that length.
    """
    if missing := [track_id for track_id, _ in tracks if track_id not in audio]:
        raise UsageError(
            f"--audio: {missing[0]}: not in the library ({len(missing)} of {len(tracks)} tracks are not); "
            "give the one that the shards were made from, or make the shards anew"
        )
    found = []
    for number, (track_id, expected) in enumerate(tracks, start=1):
        tell(f"hearing track {number} of {len(tracks)}")
        try:
            with audio[track_id]() as path:
                blocks = mono_blocks(path, front_end.sample_rate_hz, ExtractLimits())
                rate = handcrafted.zero_crossing_rate((b for b in blocks if isinstance(b, np.ndarray)), front_end)
        except TrackError as error:
            raise UsageError(f"--audio: {track_id}: {error}; put the file back, or make the shards anew") from error
        if len(rate) != expected:
            raise UsageError(
                f"--audio: {track_id}: {len(rate)} frames long, and {expected} in the shards: not the file they were "
                "made from; put that back, or make the shards anew"
            )
        found.append(chunks_of(rate[:, np.newaxis], front_end)[:, :, 0])
    return np.concatenate(found)


def _pairs(rows: Sequence[Row]) -> list[tuple[tuple[str, str], dict[str, Row]]]:
    """Features and algorithm with their rows by protocol, the honestly best first."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in rows:
        found.setdefault((row.features, row.algorithm), {})[row.protocol] = row

    def accuracy(protocol: str, pair: Mapping[str, Row]) -> float:
        return pair[protocol].track_accuracy if protocol in pair else 0.0

    return sorted(found.items(), key=lambda item: (-accuracy(HONEST, item[1]), -accuracy(LEAKY, item[1])))


def _measure(model: Contender, x: NDArray[Any], chunks: Chunks, test: NDArray[np.bool_]) -> dict[str, Any]:
    """The figures of a row."""
    from sklearn.metrics import f1_score

    train, asked = chunks.where(~test), chunks.where(test)
    x_train, x_test = x[~test], x[test]
    began = time.process_time()
    model.fit(x_train, train)
    fitted = time.process_time()
    scores = model.scores(x_test)
    done = time.process_time()
    tracks, index = np.unique(asked.track, return_inverse=True)
    sums = np.zeros((len(tracks), scores.shape[1]))
    np.add.at(sums, index, scores)
    truth = np.zeros(len(tracks), int)
    truth[index] = asked.genre
    answers = sums.argmax(axis=1)
    return {
        "track_accuracy": float((answers == truth).mean()),
        "chunk_accuracy": float((scores.argmax(axis=1) == asked.genre).mean()),
        "macro_f1": float(f1_score(truth, answers, average="macro", zero_division=0.0)),
        "fit_s": fitted - began,
        "predict_ms": (done - fitted) / len(x_test) * 1e6,
        "size_kb": model.size_bytes() / 1e3,
        "tracks": len(tracks),
    }
