"""Turns a predictor's answers for the chunks of a track, or its stored embedding, into the genres of the track."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.chunks import audible, chunks_of, whole_chunks
from genrebeam.model.embedding import EmbeddingSpace, Head
from genrebeam.model.predictor import Predictor
from genrebeam.model.voting import Calibration, Scores, Vote, as_answers, chunk_scores, on_the_line, vote

MEAN = "mean"  # the vote that bundles are calibrated for


class Decision(NamedTuple):
    """What is heard in a track.

    Attributes:
        vote: its genres.
        timeline: float32 [whole chunks, genres], the genres' scores, zero where nothing is audible.
        starts_s: float64 [whole chunks], where in the track these chunks begin.
        embedding: int8 [size], as the predictor's space has it; None where it makes none.
    """

    vote: Vote
    timeline: Scores
    starts_s: NDArray[np.float64]
    embedding: NDArray[np.int8] | None


def decide(
    predictor: Predictor,
    answers: NDArray[np.float32],
    log_mel: NDArray[np.uint8],
    *,
    stretches_s: Sequence[float] = (),
    method: str = MEAN,
    top_k: int = 3,
) -> Decision:
    """Decide on a track. With learned words and the vote `mean` its stored embedding decides, as in `score_stored`.

    Args:
        answers: float32 [chunks, genres + 1 + embedding], as `Predictor.predict` gives them.
        log_mel: uint8 [frames, mel_bands] of the same track: silent chunks have no vote.
        stretches_s: where the stretches of the log-Mel begin in the track; none where it was heard as a whole.
        method: a key of genrebeam.model.voting.METHODS.
        top_k: how many genres to report.
    """
    front_end, calibration, columns = predictor.front_end, predictor.calibration, len(predictor.labels) + 1
    whole, starts_s = whole_chunks(len(answers), front_end, stretches_s)
    answers, heard = answers[whole], audible(chunks_of(log_mel, front_end), front_end)[whole]
    scores, of_track, stored = answers[:, :columns], answers[heard, :columns], None
    if predictor.embedding is not None:
        stored = predictor.embedding.stored(answers[heard, columns:].mean(axis=0))
        if predictor.head is not None and method == MEAN:
            of_track = score_stored(stored[np.newaxis], predictor.embedding, predictor.head, calibration)
    result = vote(of_track[:, :-1], predictor.labels, method=method, top_k=top_k, further=calibration.further)
    unknown = float(on_the_line(of_track[:, -1].mean(), calibration.unknown_threshold))
    result = dataclasses.replace(result, unknown=unknown)
    return Decision(result, np.where(heard[:, None], scores[:, :-1], 0), starts_s, stored)


def score_stored(embeddings: NDArray[np.int8], space: EmbeddingSpace, head: Head, calibration: Calibration) -> Scores:
    """Scores of tracks by stored embeddings and a learned head: int8 [tracks, size] to float32 [tracks, genres + 1].

    `genrebeam learn` evaluates and calibrates exactly these scores, so `decide` uses them for newly decoded tracks too.
    """
    return chunk_scores(head.logits(space.restored(embeddings)), calibration)


def vote_stored(scores: Scores, labels: Sequence[str], calibration: Calibration, *, top_k: int = 3) -> list[Vote]:
    """The votes of many tracks at once, from float32 [tracks, genres + 1]: as `decide` has them."""
    answers = as_answers(scores[:, :-1], calibration.further)
    order = np.argsort(-answers, axis=1, kind="stable")[:, :top_k]
    best = np.take_along_axis(answers, order, axis=1).tolist()
    unknown = on_the_line(scores[:, -1], calibration.unknown_threshold).tolist()
    names = [[labels[i] for i in row] for row in order.tolist()]
    return [
        Vote(genres[0], values[0], tuple(zip(genres, values, strict=True)), is_unknown)
        for genres, values, is_unknown in zip(names, best, unknown, strict=True)
    ]
