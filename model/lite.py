"""The network of a bundle as processors run it: by LiteRT, without TensorFlow. model/export.py makes the file.

It holds the weights of model.keras as int8 and the projection of embedding.npz. Against those its first answer is the
same for 0.985 of all tracks or more, confidence differs by 0.02 at most, embeddings by 3 steps (docs/models.md).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import BundleError

NETWORK = "network.tflite"  # a file of a bundle
SEGMENTS = 64  # it takes so many at once, whatever the caller's batch is
RUNTIME = "ai_edge_litert.interpreter"  # importing it starts no thread and costs little
_QUIET = threading.Lock()


def is_installed() -> bool:
    """Whether LiteRT is there; nothing of it is imported."""
    return importlib.util.find_spec(RUNTIME.partition(".")[0]) is not None


class LiteNetwork:
    """uint8 levels [segments, chunk_step_frames, mel_bands] to float32 [chunks, logits + embedding].

    The file is mapped into memory, which all who run it on a machine share. One thread at a time may call it.

    Args:
        file: what `genrebeam.model.export.export` has made.
        threads: cores for one call.

    Raises:
        BundleError: the file is damaged or made for another front end.
    """

    def __init__(self, file: Path, front_end: FrontEnd, *, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._overlap = front_end.segments_per_chunk - 1
        try:
            with _without_greeting():
                self._interpreter = Interpreter(os.fspath(file), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise BundleError(f"{file}: LiteRT cannot load it: {reason[-200:]}; copy the bundle again") from error
        (input_,), (output,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input, self._output = input_["index"], output["index"]
        wanted = (SEGMENTS, front_end.chunk_step_frames, front_end.mel_bands)
        if tuple(input_["shape"]) != wanted or input_["dtype"] != np.uint8 or len(output["shape"]) != 2:
            raise BundleError(f"{file}: takes {tuple(input_['shape'])}, but the front end has batches of {wanted}")
        self.columns = int(output["shape"][1])

    def __call__(self, segments: NDArray[np.uint8]) -> NDArray[np.float32]:
        chunks = len(segments) - self._overlap
        outputs = np.empty((chunks, self.columns), np.float32)
        for start in range(0, chunks, SEGMENTS - self._overlap):
            some = segments[start : start + SEGMENTS]
            if len(some) < SEGMENTS:  # what a chunk is does not depend on the others of its batch
                some = np.concatenate([some, np.zeros((SEGMENTS - len(some), *some.shape[1:]), np.uint8)])
            self._interpreter.set_tensor(self._input, some)
            self._interpreter.invoke()
            rows = outputs[start : start + SEGMENTS - self._overlap]
            rows[:] = self._interpreter.get_tensor(self._output)[: len(rows)]
        return outputs


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """LiteRT announces its XNNPACK kernels on file descriptor 2, and cannot be told not to."""
    with _QUIET, open(os.devnull, "w") as nowhere:
        try:
            kept = os.dup(2)
        except OSError:  # nobody reads it
            yield
            return
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
