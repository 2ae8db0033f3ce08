"""A short form of `make torture`: kill -9 at random moments."""

from __future__ import annotations

from pathlib import Path

import pytest
from torture import torture


@pytest.mark.slow
def test_killed_runs_lose_nothing(tmp_path: Path) -> None:
    counts = torture(tmp_path, kills=8, copies=2, seed=1)
    assert counts["killed"] == 8
    assert counts["runs to the end"] >= 1


@pytest.mark.slow
def test_killed_workers_and_drivers_of_an_engine_lose_nothing(tmp_path: Path) -> None:
    counts = torture(tmp_path, kills=2, copies=2, seed=1, engine=True)
    assert counts["killed"] == 2
