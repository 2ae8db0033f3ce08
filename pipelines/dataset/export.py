"""The newest result of each track as one plain file, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from typing import Any

from genrebeam.pipelines.dataset.cells import harmless
from genrebeam.pipelines.dataset.corrections import Correction, read_corrections
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.dataset.ledger import newest_results_by_file
from genrebeam.pipelines.dataset.ordered import in_order
from genrebeam.pipelines.dataset.schema import RESULTS

FORMATS = ["csv", "jsonl"]
OLD_FORMATS = {"json": "jsonl"}  # what a format was called
_NOT_IN_CSV = ("labels", "chunk_scores", "chunk_starts_s", "embedding")  # lists as long as the track, or of bytes
_ROWS = 1000  # as Python objects at a time


def export(place: Dataset | str | os.PathLike[str], kind: str) -> str:
    """Write `results.csv` or `results.jsonl`, one object per line, with one more column: `correction`.

    The CSV has lists joined by "; " and leaves out `_NOT_IN_CSV`. It is also a manifest: `genrebeam tag` takes it as
    LIBRARY.

    Args:
        kind: one of FORMATS, or the old name of one.

    Returns:
        Path or URL of the file written; it replaces an older one in one step.
    """
    dataset, kind = Dataset.at(place), OLD_FORMATS.get(kind, kind)
    corrections = read_corrections(dataset)
    encoding = "utf-8-sig" if kind == "csv" else "utf-8"  # Excel takes UTF-8 for what it is by the mark in front only
    with dataset.folder.new(f"results.{kind}") as path, path.open("w", encoding=encoding, newline="") as file:
        if kind == "csv":
            names = [name for name in RESULTS.names if name not in _NOT_IN_CSV]
            writer = csv.writer(file)
            writer.writerow([*names, "correction"])
            _, rows = in_order(newest_results_by_file(dataset, names))
            writer.writerows(map(_cell, _corrected(row, corrections).values()) for row in rows)
        else:
            for table in newest_results_by_file(dataset):
                for batch in table.to_batches(max_chunksize=_ROWS):
                    for row in batch.to_pylist():
                        row = _corrected(row, corrections)
                        file.write(json.dumps(row, ensure_ascii=False, default=_isoformat) + "\n")
    return f"{dataset}/results.{kind}"


def _corrected(row: dict[str, Any], corrections: Mapping[str, Correction]) -> dict[str, Any]:
    correction = corrections.get(row["track_id"])
    return row | {"correction": correction.genre if correction else None}


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "; ".join(f"{v['genre']} {v['score']:.3f}" if isinstance(v, dict) else str(v) for v in value)
    if isinstance(value, str):
        return harmless(value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _isoformat(value: Any) -> str:
    return str(value.isoformat())
