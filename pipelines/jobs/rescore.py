"""Scores learned words from stored embeddings of the same trunk: no audio is decoded, and no engine starts."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from genrebeam.model.bundle import Bundle
from genrebeam.model.decision import score_stored, vote_stored
from genrebeam.pipelines.dataset.dataset import RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.ledger import newest_results_by_file
from genrebeam.pipelines.dataset.schema import RESULTS

_ROWS = 50_000  # at a time
# Null in rows that were scored from an embedding: there are no scores of chunks.
_UNHEARD = ("chunk_scores", "chunk_starts_s")


def embeddings_of(table: pa.Table) -> NDArray[np.int8]:
    """The column `embedding` of rows that all have one: int8 [rows, size]."""
    column = table["embedding"].combine_chunks()
    values = column.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(values, np.int8).reshape(len(table), -1)


def rescore(dataset: Dataset, bundle: Bundle, run_id: str, places: Mapping[str, str], *, top_k: int) -> int:
    """For each track, add a result with the labels of this bundle, from its newest row.

    Args:
        bundle: one with a head.
        places: where the tracks are now, by track_id.

    Returns:
        How many rows were added.

    Raises:
        LedgerError: the dataset cannot be read.
    """
    names = [name for name in RESULTS.names if name not in _UNHEARD]
    wanted = pa.array(places, pa.string())
    count = 0
    for table in newest_results_by_file(dataset, names):
        own = table.filter(pc.is_in(table["track_id"], value_set=wanted))
        for start in range(0, len(own), _ROWS):
            part = own.slice(start, _ROWS)
            uris = [places[track_id] for track_id in part["track_id"].to_pylist()]
            dataset.add_table(RESULTS_DIR, run_id, _rescored(part, bundle, run_id, uris, top_k))
            count += len(part)
    return count


def _rescored(rows: pa.Table, bundle: Bundle, run_id: str, uris: Iterable[str], top_k: int) -> pa.Table:
    head, space = bundle.head(), bundle.embedding
    assert head is not None and space is not None
    scores = score_stored(embeddings_of(rows), space, head, bundle.calibration)
    votes = vote_stored(scores, bundle.labels, bundle.calibration, top_k=top_k)
    now = dt.datetime.now(dt.timezone.utc)
    computed: dict[str, list[Any]] = {
        "uri": list(uris),
        "genre": [vote.genre for vote in votes],
        "confidence": [vote.confidence for vote in votes],
        "unknown": [vote.unknown for vote in votes],
        "top": [[{"genre": genre, "score": score} for genre, score in vote.top] for vote in votes],
    }
    constant = {
        "labels": list(bundle.labels),
        "model_id": bundle.model_id,
        "model_fingerprint": bundle.fingerprint,
        "vote": "mean",
        "run_id": run_id,
        "processed_at": now,
    }
    columns = []
    for field in RESULTS:
        if field.name in computed:
            columns.append(pa.array(computed[field.name], field.type))
        elif field.name in constant:
            columns.append(pa.repeat(pa.scalar(constant[field.name], field.type), len(rows)))
        elif field.name in _UNHEARD:
            columns.append(pa.nulls(len(rows), field.type))
        else:
            columns.append(rows[field.name])
    return pa.table(columns, schema=RESULTS)
