"""The plan of a run: what is to be done, as a Parquet file beside the dataset, which workers read in parts."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.storage.folders import Folder

_PARTS, _LARGEST_PART = 2_000, 1_000  # parts of a large plan, and rows in one
_BEGUN = ".begun"


def write_plan(folder: Folder, name: str, rows: pa.Table) -> None:
    """Write a plan in parts small enough to spread and few enough to name; raises OSError."""
    part = min(max(1, len(rows) // _PARTS), _LARGEST_PART)
    with folder.new(name) as path:
        pq.write_table(rows, path, row_group_size=part, compression="zstd")


def say_begun(folder: Folder, name: str) -> None:
    """Say beside a plan that a worker is there; raises OSError."""
    with folder.new(name + _BEGUN) as path:
        path.touch()


def has_begun(folder: Folder, name: str) -> bool:
    """Whether a worker has opened the plan."""
    try:
        folder.open(name + _BEGUN).close()
    except OSError:
        return False
    return True


def remove_plan(folder: Folder, name: str) -> None:
    """Remove a plan that is worked off; raises OSError."""
    folder.delete(name)
    folder.delete(name + _BEGUN)
