"""From the network in Keras to the file that LiteRT runs (model/lite.py). Imports TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from genrebeam.features.chunks import audible, chunks_of, segments_of
from genrebeam.features.config import FrontEnd
from genrebeam.model.embedding import Projection
from genrebeam.model.lite import NETWORK, SEGMENTS, LiteNetwork
from genrebeam.model.network import with_knowledge


def export(
    network: keras.Model,
    projection: Projection | None,
    front_end: FrontEnd,
    folder: Path,
    music: Sequence[NDArray[np.uint8]],
) -> dict[str, Any]:
    """Write `network.tflite` into a folder, and say how far what it answers is from what the network does.

    Weights are int8, activations float32 or, within a layer, int8 by the range that they have in each segment.

    Args:
        network: as `genrebeam.model.network.Network.model` has it.
        projection: makes embeddings of what it knows.
        music: log-Mels of tracks, uint8 [frames, mel_bands], to compare both on.

    Returns:
        For the provenance: the largest difference of a chunk's logits over the music, the share of the tracks with the
        same largest mean logit, and what it was made with.
    """
    frozen = convert_variables_to_constants_v2(_function(network, projection, front_end).get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    content = converter.convert()
    partial = folder / f".partial-{NETWORK}"
    partial.write_bytes(content)
    lite = LiteNetwork(partial, front_end)
    labels = network.output_shape[-1]
    differences, same = [], []
    for log_mel in music:
        segments = segments_of(log_mel, front_end)
        logits = network.predict_on_batch(segments[np.newaxis])[0]
        heard = audible(chunks_of(log_mel, front_end), front_end)
        logits, exported = (output[heard if heard.any() else ...] for output in (logits, lite(segments)[:, :labels]))
        differences.append(np.abs(logits - exported).max())
        same.append(logits.mean(axis=0)[:-1].argmax() == exported.mean(axis=0)[:-1].argmax())
    partial.replace(folder / NETWORK)
    return {
        "weights": "int8",
        "tracks": len(music),
        "largest_logit_difference": round(float(np.max(differences)), 4),
        "same_first_answer": round(float(np.mean(same)), 4),
        "tensorflow": tf.__version__,
    }


def _function(network: keras.Model, projection: Projection | None, front_end: FrontEnd) -> Any:
    """What the file does: uint8 [SEGMENTS, chunk_step_frames, mel_bands] to float32 [chunks, logits + embedding].

    The names of its parts are in the file, so none may count how many there have been in this process, as those do that
    Keras gives: the same network is the same file.
    """
    whole = network if projection is None else with_knowledge(network)
    shape = (SEGMENTS, front_end.chunk_step_frames, front_end.mel_bands)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.uint8, name="levels")])
    def answers(levels: Any) -> Any:
        answers = whole(levels[tf.newaxis], training=False)
        if projection is None:
            return answers[0]
        logits, knowledge = answers
        return tf.concat([logits[0], tf.matmul(knowledge[0], projection.kernel) + projection.bias], axis=1)

    return answers
