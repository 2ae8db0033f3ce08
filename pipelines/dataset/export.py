"""The newest result of each track as one plain file, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from pipelines.dataset.ledger import newest_results, newest_results_by_file
from pipelines.dataset.schema import RESULTS

FORMATS = ["csv", "json"]
_ROWS = 1000  # as Python objects at a time


def export(output_dir: Path, kind: str) -> Path:
    """Write `results.csv` (lists joined by "; ", no chunk scores) or `results.json` (one object per line).

    Returns:
        The file written; it replaces an older one in one step.
    """
    path = output_dir / f"results.{kind}"
    partial = path.with_suffix(f".{kind}.partial")
    if kind == "csv":
        names = [name for name in RESULTS.names if name not in ("labels", "chunk_scores")]
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for batch in newest_results(output_dir, names).to_batches(max_chunksize=_ROWS):
                writer.writerows({name: _flat(value) for name, value in row.items()} for row in batch.to_pylist())
    else:
        with partial.open("w", encoding="utf-8") as file:
            for table in newest_results_by_file(output_dir):
                for batch in table.to_batches(max_chunksize=_ROWS):
                    for row in batch.to_pylist():
                        file.write(json.dumps(row, ensure_ascii=False, default=_isoformat) + "\n")
    partial.replace(path)
    return path


def _flat(value: Any) -> Any:
    if isinstance(value, list):
        return "; ".join(f"{v['genre']} {v['score']:.3f}" if isinstance(v, dict) else str(v) for v in value)
    return value.isoformat() if hasattr(value, "isoformat") else value


def _isoformat(value: Any) -> str:
    return str(value.isoformat())
