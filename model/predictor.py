"""Chunks in, probabilities out: the trained network, its placeholder, and batches across tracks."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from features.config import FrontEnd
from model.bundle import Bundle, load_model


class Predictor(Protocol):
    """Anything that scores chunks."""

    labels: tuple[str, ...]
    front_end: FrontEnd
    batch_size: int

    def predict(self, chunks: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [batch_size, chunk_frames, mel_bands] to probabilities, float32 [batch_size, genres]."""
        ...


class BundlePredictor:
    """The network of a bundle behind one fixed signature, so that TensorFlow traces it once.

    Args:
        bundle: from `model.bundle.load_config`.
        batch_size: chunks per call; the network is traced for exactly this many.
        threads: cores for one prediction; with one worker per core, one. Takes effect only before
            TensorFlow has started anything in this process.

    Raises:
        BundleError: as `model.bundle.load_model`.
    """

    def __init__(self, bundle: Bundle, *, batch_size: int = 64, threads: int = 1) -> None:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with _not_imported("matplotlib", "sklearn"):
            import keras
            import tensorflow as tf

        del keras  # load_model imports it again, for nothing
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            pass  # TensorFlow is running already: whoever started it has decided
        self.labels = bundle.labels
        self.front_end = bundle.front_end
        self.batch_size = batch_size
        network = load_model(bundle)
        shape = (batch_size, bundle.front_end.chunk_frames, bundle.front_end.mel_bands)

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
        def probabilities(chunks: Any) -> Any:
            return tf.nn.softmax(network(chunks, training=False) / bundle.temperature)

        self._probabilities = probabilities

    def predict(self, chunks: NDArray[np.uint8]) -> NDArray[np.float32]:
        result: NDArray[np.float32] = self._probabilities(chunks).numpy()
        return result


@contextlib.contextmanager
def _not_imported(*names: str) -> Iterator[None]:
    """Let `import` find none of these packages.

    Keras imports plotting and scikit-learn wherever they are installed, for features that prediction does
    not have: a third of its import time, which every worker would pay at every start.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


class PlaceholderPredictor:
    """Obeys the interface without TensorFlow: a chunk's genre is where in the spectrum its energy lies.

    For tests and for trying out a pipeline; its answers are deterministic and mean nothing.
    """

    def __init__(self, labels: tuple[str, ...], front_end: FrontEnd, *, batch_size: int = 64) -> None:
        self.labels, self.front_end, self.batch_size = labels, front_end, batch_size

    def predict(self, chunks: NDArray[np.uint8]) -> NDArray[np.float32]:
        bands = np.array_split(chunks.mean(axis=1), len(self.labels), axis=1)
        energy = np.stack([band.mean(axis=1) for band in bands], axis=1)
        exponential = np.exp((energy - energy.max(axis=1, keepdims=True)) / 16)
        return (exponential / exponential.sum(axis=1, keepdims=True)).astype(np.float32)


Key = TypeVar("Key")


@dataclasses.dataclass(eq=False)
class _Pending(Generic[Key]):
    key: Key
    scores: NDArray[np.float32]
    missing: int


class BatchedScorer(Generic[Key]):
    """Fills batches with the chunks of many tracks and hands each track its scores when they are complete.

    Chunks are copied from their views straight into the one batch there is: a ten-hour track passes
    through in 64-chunk steps, and a batch of thirty-second clips is as full as any other.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        shape = (predictor.batch_size, predictor.front_end.chunk_frames, predictor.front_end.mel_bands)
        self._batch = np.zeros(shape, np.uint8)
        self._used = 0
        self._owners: list[tuple[_Pending[Key], int, int]] = []  # whose, from which chunk on, how many

    def push(self, key: Key, chunks: NDArray[np.uint8]) -> Iterator[tuple[Key, NDArray[np.float32]]]:
        """Add a track's chunks, uint8 [chunks, chunk_frames, mel_bands]; yield the tracks this completes."""
        scores = np.empty((len(chunks), len(self._predictor.labels)), np.float32)
        if not len(chunks):
            yield key, scores
            return
        track = _Pending(key, scores, len(chunks))
        start = 0
        while start < len(chunks):
            count = min(len(chunks) - start, len(self._batch) - self._used)
            self._batch[self._used : self._used + count] = chunks[start : start + count]
            self._owners.append((track, start, count))
            self._used += count
            start += count
            if self._used == len(self._batch):
                yield from self.flush()

    def flush(self) -> Iterator[tuple[Key, NDArray[np.float32]]]:
        """Predict what has gathered, full batch or not; yield the tracks this completes."""
        if not self._used:
            return
        probabilities = self._predictor.predict(self._batch)
        owners, self._owners, self._used = self._owners, [], 0
        row = 0
        for track, start, count in owners:
            track.scores[start : start + count] = probabilities[row : row + count]
            row += count
            track.missing -= count
            if not track.missing:
                yield track.key, track.scores
