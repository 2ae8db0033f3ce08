"""The algorithms of the comparison: scikit-learn's, the CNN of the tutorials, and our own network with its own recipe.

All of them learn from chunks and answer with a score for each genre. model/compare.py decides which features of a chunk
they get, and on which side of a split it lies.
"""

from __future__ import annotations

import dataclasses
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.model.shardset import ShardSet, Split

Tell = Callable[[str], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Chunks:
    """The chunks of labelled tracks, in the order of their tracks.

    Attributes:
        levels: uint8 [chunks, frames, mel_bands].
        genre: index into `labels` of each chunk.
        track: number of the track of each chunk.
        position: which chunk of its track each is.
        split: name of the split of each.
        crossings: zero-crossing rate in each frame, float32 [chunks, frames]; None where the audio was not heard.
    """

    levels: NDArray[np.uint8]
    genre: NDArray[np.int64]
    track: NDArray[np.int64]
    position: NDArray[np.int64]
    split: NDArray[np.str_]
    labels: tuple[str, ...]
    front_end: FrontEnd
    crossings: NDArray[np.float32] | None = None

    def where(self, mask: NDArray[np.bool_]) -> Chunks:
        """Those of the chunks."""
        arrays: dict[str, Any] = {
            name: value[mask] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return dataclasses.replace(self, **arrays)


class Contender(Protocol):
    """Something that learns genres. `x` holds the features of each chunk: [chunks, ...]."""

    def fit(self, x: NDArray[Any], chunks: Chunks) -> None: ...

    def scores(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Higher is likelier: [chunks, genres]; minus infinity for a genre that it never met."""

    def size_bytes(self) -> int: ...


class ByFeatures:
    """An algorithm of scikit-learn behind a standard scaler, on features by hand: [chunks, features]."""

    def __init__(self, classifier: Any) -> None:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        self._pipeline = make_pipeline(StandardScaler(), classifier)
        self._genres = 0

    def fit(self, x: NDArray[Any], chunks: Chunks) -> None:
        self._genres = len(chunks.labels)
        self._pipeline.fit(x, chunks.genre)

    def scores(self, x: NDArray[Any]) -> NDArray[np.float64]:
        # An SVM has votes instead of probabilities; the mean of either is a track's answer.
        known = getattr(self._pipeline, "predict_proba", None) or self._pipeline.decision_function
        found = np.full((len(x), self._genres), -np.inf)
        found[:, self._pipeline.classes_] = known(x)
        return found

    def size_bytes(self) -> int:
        return len(pickle.dumps(self._pipeline))


def scikit_learn(seed: int = 0) -> dict[str, Callable[[], ByFeatures]]:
    """The usual suspects."""
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.svm import SVC

    return {
        "k-NN": lambda: ByFeatures(KNeighborsClassifier(5)),
        "logistic regression": lambda: ByFeatures(LogisticRegression(C=0.01, max_iter=300)),
        "SVM": lambda: ByFeatures(SVC(C=3.0, random_state=seed)),
        "random forest": lambda: ByFeatures(RandomForestClassifier(300, random_state=seed)),
        "gradient boosting": lambda: ByFeatures(HistGradientBoostingClassifier(max_iter=100, random_state=seed)),
        "dense network": lambda: ByFeatures(MLPClassifier((256, 64), early_stopping=True, random_state=seed)),
    }


def build_tutorial_cnn(front_end: FrontEnd, genres: int) -> Any:
    """The VGG-like network that tutorials train on GTZAN, 7.2 million weights: levels of a chunk to logits.

    The picture is stretched to 150 x 150; five pairs of convolutions (32 to 512 filters, the second of each pair
    without padding) and max pooling, dense 1200, dropout. It gets what our network gets (dB below the loudest
    point, 0 to 1) because it learns nothing from raw decibels.
    """
    import keras

    from genrebeam.model.network import RelativeLevels

    layers = keras.layers
    levels = keras.Input((front_end.chunk_frames, front_end.mel_bands), dtype="uint8")
    x = RelativeLevels(front_end.level_step_db, 80.0)(levels)
    x = layers.Resizing(150, 150)(x)
    for filters in (32, 64, 128, 256, 512):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(layers.Dropout(0.3)(x))
    x = layers.Dropout(0.45)(layers.Dense(1200, activation="relu")(x))
    return keras.Model(levels, layers.Dense(genres)(x), name="tutorial_cnn")


class _Network:
    """A network that hears the levels themselves: `x` is uint8 [chunks, frames, mel_bands].

    Args:
        epochs: passes over the training chunks.
        tell: called with a line on progress after each.
    """

    EPOCHS: int  # default

    def __init__(self, epochs: int, *, seed: int, tell: Tell) -> None:
        self._epochs, self._seed, self._tell = epochs, seed, tell
        self._network: Any = None

    def scores(self, x: NDArray[Any]) -> NDArray[np.float64]:
        from genrebeam.model.calibration import softmax

        return softmax(self._network.predict(x, batch_size=64, verbose=0)).astype(np.float64)

    def size_bytes(self) -> int:
        return sum(weights.nbytes for weights in self._network.get_weights())

    def _teller(self) -> Any:
        import keras

        def on_epoch_end(epoch: int, logs: dict[str, Any] | None = None) -> None:
            self._tell(f"{epoch + 1} done, loss {float((logs or {}).get('loss', np.nan)):.3f}")

        return keras.callbacks.LambdaCallback(on_epoch_end=on_epoch_end)


class TutorialCnn(_Network):
    """Trained as the tutorials do: Adam at 1e-4, batches of 32 chunks, nothing varied."""

    EPOCHS = 30

    def fit(self, x: NDArray[Any], chunks: Chunks) -> None:
        import keras

        keras.utils.set_random_seed(self._seed + 1)
        self._network = build_tutorial_cnn(chunks.front_end, len(chunks.labels))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self._network.compile(keras.optimizers.Adam(1e-4), loss=loss)
        callbacks = [self._teller()]
        self._network.fit(x, chunks.genre, batch_size=32, epochs=self._epochs, verbose=0, callbacks=callbacks)
        self.scores(x[:1])  # Keras compiles at the first call; that is no cost of a prediction


class OurCnn(_Network):
    """The network and the recipe of `genrebeam train`, on the very chunks that the others learn from.

    A ready bundle is not used, because the tracks that it was trained on are not known here.
    """

    EPOCHS = 12

    def fit(self, x: NDArray[Any], chunks: Chunks) -> None:
        from genrebeam.model import bundle
        from genrebeam.model.train import TrainConfig, train

        with tempfile.TemporaryDirectory(prefix="genrebeam-compare-") as folder:
            shards = _write_shards(chunks, Path(folder) / "shards")
            # A track with chunks missing falls into several pieces: as many crops of a track, not of a piece.
            pieces = shards.tracks(["train"])
            crops = max(1, round(TrainConfig.crops_per_track * len(np.unique(chunks.track)) / pieces))
            config = TrainConfig(valid_split=None, epochs=self._epochs, crops_per_track=crops, seed=self._seed)
            trained = train(
                shards,
                Path(folder) / "bundle",
                config,
                model_id="compared",
                callbacks=[self._teller()],
            )
            self._network, self._front_end = bundle.load_model(trained), shards.front_end
        self.scores(x[:1])  # as above

    def scores(self, x: NDArray[Any]) -> NDArray[np.float64]:
        from genrebeam.model.voting import UNCALIBRATED, chunk_scores

        count, step = self._front_end.segments_per_chunk, self._front_end.chunk_step_frames
        segments = x[:, : count * step].reshape(len(x), count, step, -1)
        logits = self._network.predict(segments, batch_size=64, verbose=0)[:, 0]
        return chunk_scores(logits, UNCALIBRATED)[:, :-1].astype(np.float64)


NETWORKS: dict[str, type[TutorialCnn | OurCnn]] = {"VGG-like CNN": TutorialCnn, "genrebeam's CNN": OurCnn}


def stretches(chunks: Chunks) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The music in the chunks, each moment once: levels [frames, mel_bands] and genre of each unbroken stretch."""
    step = chunks.front_end.chunk_step_frames
    breaks = np.flatnonzero((np.diff(chunks.track) != 0) | (np.diff(chunks.position) != 1)) + 1
    for run in np.split(np.arange(len(chunks.genre)), breaks):
        yield np.concatenate([chunks.levels[run[0]], *chunks.levels[run[1:], -step:]]), int(chunks.genre[run[0]])


def _write_shards(chunks: Chunks, folder: Path) -> ShardSet:
    """The chunks as a shard set with nothing but a split `train`, for model/train.py."""
    import tensorflow as tf

    from genrebeam.features.records import Labels, encode
    from genrebeam.features.schema import AudioInfo, Track, TrackFeatures

    folder.mkdir()
    counts = dict.fromkeys(chunks.labels, 0)
    with tf.io.TFRecordWriter(str(folder / "train.tfrecord")) as writer:
        for number, (levels, genre) in enumerate(stretches(chunks)):
            name, label = f"{number:06d}", chunks.labels[genre]
            counts[label] += 1
            audio = AudioInfo("", "", len(levels) / chunks.front_end.frames_per_s, chunks.front_end.sample_rate_hz, 1)
            track = TrackFeatures(Track(name, name, 0, 0.0), audio, levels, chunks.front_end.fingerprint())
            writer.write(encode(track, Labels((label,), "train", name)))
    split = Split(("train.tfrecord",), sum(counts.values()), 0.0, {k: v for k, v in counts.items() if v})
    return ShardSet(str(folder), chunks.front_end, chunks.labels, {"train": split}, "compared")
