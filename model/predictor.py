"""Chunks in, probabilities out: the trained network, its placeholder, and batches across tracks."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import BundleError
from genrebeam.model import lite
from genrebeam.model.bundle import Bundle, check, load_network
from genrebeam.model.embedding import EmbeddingSpace, Head
from genrebeam.model.lite import LiteNetwork
from genrebeam.model.voting import UNCALIBRATED, Calibration, chunk_scores

_TENSORFLOW = "genrebeam.model.keras_import"


class Predictor(Protocol):
    """Anything that scores chunks.

    Attributes:
        calibration: how it makes scores of logits, and what votes make of scores (model/voting.py).
        batch_size: segments (features/chunks.py) in one call.
        on_gpu: whether it leaves the processor to others while it predicts.
        embedding: which embeddings it makes, if any.
        head: what makes its answers of embeddings, where the network itself does not.
    """

    labels: tuple[str, ...]
    calibration: Calibration
    front_end: FrontEnd
    batch_size: int
    on_gpu: bool
    embedding: EmbeddingSpace | None
    head: Head | None

    def predict(self, segments: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scores and embeddings of the chunks in a stretch.

        Args:
            segments: uint8 [batch_size, chunk_step_frames, mel_bands]; each with its neighbours makes chunks.

        Returns:
            float32 [batch_size - segments_per_chunk + 1, genres + 1 + embedding]: scores as
            `genrebeam.model.voting.chunk_scores` has them, and behind them the embedding, where there is one.
        """
        ...


def columns_of(predictor: Predictor) -> int:
    """Numbers for each chunk in what a predictor says."""
    return len(predictor.labels) + 1 + (predictor.embedding.size if predictor.embedding else 0)


class BundlePredictor:
    """The network of a bundle, behind one fixed signature.

    Processors run it by LiteRT. TensorFlow does it on GPUs, and where the bundle has no exported network or LiteRT is
    not installed; both answer the same within the tolerance of model/lite.py.

    Args:
        bundle: from `genrebeam.model.bundle.load_config`.
        batch_size: segments per call.
        threads: cores for one prediction; with one worker per core, one. With TensorFlow it takes effect only before
            that has started anything in this process.

    Raises:
        BundleError: as `genrebeam.model.bundle.load_network`, or nothing is installed that can run it.
    """

    def __init__(self, bundle: Bundle, *, batch_size: int = 64, threads: int = 1) -> None:
        self.labels, self.calibration = bundle.labels, bundle.calibration
        self.front_end = bundle.front_end
        self.batch_size = batch_size
        self.embedding, self.head = bundle.embedding, bundle.head()
        self.on_gpu = False
        self._network: LiteNetwork | TensorFlowNetwork
        if _can_run_lite(bundle) and not (_may_have_gpu() and _gpus()):
            check(bundle)
            self._network = LiteNetwork(bundle.path / lite.NETWORK, bundle.front_end, threads=threads)
        else:
            self._network = TensorFlowNetwork(bundle, batch_size=batch_size, threads=threads)
            self.on_gpu = bool(_gpus())

    def predict(self, segments: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs = self._network(segments)
        logits, embedding = np.split(
            outputs, [outputs.shape[1] - (self.embedding.size if self.embedding else 0)], axis=1
        )
        if self.head is not None:
            logits = self.head.logits(embedding)
        return np.concatenate([chunk_scores(logits, self.calibration), embedding], axis=1)


def runtime_of(bundle: Bundle) -> str:
    """The module that running its network will import, for a process that imports it before it forks."""
    return lite.RUNTIME if _can_run_lite(bundle) and not _may_have_gpu() else _TENSORFLOW


def _can_run_lite(bundle: Bundle) -> bool:
    return bundle.is_exported and lite.is_installed()


def _may_have_gpu() -> bool:
    """Whether it is worth importing TensorFlow to ask it."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    devices = any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()  # the latter in WSL
    return devices and not hidden and importlib.util.find_spec("tensorflow") is not None


def _gpus() -> list[Any]:
    from genrebeam.model.keras_import import tensorflow as tf

    return list(tf.config.list_physical_devices("GPU"))


class TensorFlowNetwork:
    """As `genrebeam.model.lite.LiteNetwork`, by TensorFlow, which traces it once: for exactly `batch_size` segments."""

    def __init__(self, bundle: Bundle, *, batch_size: int, threads: int = 1) -> None:
        try:
            from genrebeam.model.keras_import import tensorflow as tf
        except ModuleNotFoundError as error:
            lacks = "LiteRT (pip install ai-edge-litert)" if bundle.is_exported else "TensorFlow, as it is not exported"
            raise BundleError(f"{bundle.path}: its network needs {lacks}; {error.name} is not installed") from error
        try:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
            for gpu in _gpus():
                tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            pass  # TensorFlow is running already, with the settings of what started it
        network, projection = load_network(bundle), bundle.projection()
        if projection is not None:
            from genrebeam.model.network import with_knowledge

            network = with_knowledge(network)
        shape = (batch_size, bundle.front_end.chunk_step_frames, bundle.front_end.mel_bands)

        @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8)])
        def answers(segments: Any) -> Any:
            outputs = network(segments[tf.newaxis], training=False)
            if projection is None:
                return outputs[0]
            logits, knowledge = outputs
            return tf.concat([logits[0], tf.matmul(knowledge[0], projection.kernel) + projection.bias], axis=1)

        self.answers = answers

    def __call__(self, segments: NDArray[np.uint8]) -> NDArray[np.float32]:
        outputs: NDArray[np.float32] = self.answers(segments).numpy()
        return outputs


class PlaceholderPredictor:
    """Obeys the interface without TensorFlow: a chunk's genre is where in the spectrum its energy lies.

    For tests and for trying out a pipeline; its answers are deterministic and mean nothing.
    """

    calibration = UNCALIBRATED
    on_gpu = False
    head = None

    def __init__(
        self,
        labels: tuple[str, ...],
        front_end: FrontEnd,
        *,
        batch_size: int = 64,
        embedding: EmbeddingSpace | None = None,
    ) -> None:
        self.labels, self.front_end, self.batch_size, self.embedding = labels, front_end, batch_size, embedding

    def predict(self, segments: NDArray[np.uint8]) -> NDArray[np.float32]:
        bands = np.array_split(segments.mean(axis=1), len(self.labels), axis=1)
        of_segment = np.stack([band.mean(axis=1) for band in bands], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(of_segment, self.front_end.segments_per_chunk, axis=0)
        energy = windows.mean(axis=-1)
        exponential = np.exp((energy - energy.max(axis=1, keepdims=True)) / 16)
        shares = exponential / exponential.sum(axis=1, keepdims=True)
        outputs = [shares, np.zeros_like(shares[:, :1])]
        if self.embedding is not None:
            bands = np.array_split(np.arange(segments.shape[2]), self.embedding.size)
            of_segment = np.stack([segments[..., band].mean(axis=(1, 2)) for band in bands], axis=1)
            windows = np.lib.stride_tricks.sliding_window_view(of_segment, self.front_end.segments_per_chunk, axis=0)
            outputs.append(windows.mean(axis=-1) * self.embedding.scale / 2)
        return np.concatenate(outputs, axis=1).astype(np.float32)


Key = TypeVar("Key")


@dataclasses.dataclass(eq=False)
class _Pending(Generic[Key]):
    key: Key
    scores: NDArray[np.float32]
    missing: int


@dataclasses.dataclass(frozen=True, eq=False)
class _Share(Generic[Key]):
    """Whose chunks some of a batch are: `count` of the track's from `start` on, beginning at `row` of the batch."""

    track: _Pending[Key]
    start: int
    count: int
    row: int


class BatchedScorer(Generic[Key]):
    """Fills batches with the segments of many tracks and hands each track its scores when they are complete.

    Segments are copied from their views straight into the one batch there is: a ten-hour track passes through in
    stretches of 64 segments, and a batch of thirty-second clips is as full as any other. Where a track goes on in the
    next batch, what its next chunk shares with the last one goes there too; the chunk that lies across two tracks is
    nobody's and is dropped.

    On a GPU a full batch is predicted by a thread, while the next one is filled with what is decoded meanwhile; on a
    processor that decodes and predicts by turns, threads cost more than they bring (docs/benchmarks.md).
    """

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        front_end = predictor.front_end
        self._width = front_end.segments_per_chunk
        if predictor.batch_size < self._width:
            raise ValueError(
                f"a batch needs at least the {self._width} segments of a chunk, not {predictor.batch_size}"
            )
        shape = (predictor.batch_size, front_end.chunk_step_frames, front_end.mel_bands)
        self._batch = np.zeros(shape, np.uint8)
        self._used = 0
        self._owners: list[_Share[Key]] = []
        self._thread = concurrent.futures.ThreadPoolExecutor(1) if predictor.on_gpu else None
        self._running: tuple[concurrent.futures.Future[NDArray[np.float32]], list[_Share[Key]]] | None = None

    def push(self, key: Key, segments: NDArray[np.uint8]) -> Iterator[tuple[Key, NDArray[np.float32]]]:
        """Add a track's segments, uint8 [segments, chunk_step_frames, mel_bands]; yield the tracks this completes."""
        chunks = max(0, len(segments) - self._width + 1)
        scores = np.empty((chunks, columns_of(self._predictor)), np.float32)
        if not chunks:
            yield key, scores
            return
        track = _Pending(key, scores, chunks)
        start = 0
        while start < chunks:
            count = min(chunks - start, len(self._batch) - self._used - self._width + 1)
            if count > 0:
                rows = count + self._width - 1
                self._batch[self._used : self._used + rows] = segments[start : start + rows]
                self._owners.append(_Share(track, start, count, self._used))
                self._used += rows
                start += count
            if len(self._batch) - self._used < self._width:
                yield from self._predict()

    def flush(self) -> Iterator[tuple[Key, NDArray[np.float32]]]:
        """Predict what has gathered, full batch or not; yield the tracks this completes."""
        yield from self._predict()
        yield from self._collect()

    def _predict(self) -> Iterator[tuple[Key, NDArray[np.float32]]]:
        """Have the batch predicted; yield what the one before it completes."""
        yield from self._collect()
        if self._owners:
            shares, self._owners, self._used = self._owners, [], 0
            if self._thread is None:
                yield from _distribute(self._predictor.predict(self._batch), shares)
                return
            self._running = self._thread.submit(self._predictor.predict, self._batch.copy()), shares

    def _collect(self) -> Iterator[tuple[Key, NDArray[np.float32]]]:
        """Wait for the batch that is being predicted, if any; yield the tracks this completes."""
        if self._running is None:
            return
        (running, shares), self._running = self._running, None
        yield from _distribute(running.result(), shares)


def _distribute(scores: NDArray[np.float32], shares: list[_Share[Key]]) -> Iterator[tuple[Key, NDArray[np.float32]]]:
    """Give tracks the scores of a batch; yield those that have all theirs."""
    for share in shares:
        track = share.track
        track.scores[share.start : share.start + share.count] = scores[share.row : share.row + share.count]
        track.missing -= share.count
        if not track.missing:
            yield track.key, track.scores
