"""The processes of a run, as its tests look for them."""

from __future__ import annotations

import psutil


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    """Beam's workers: forks of the engine, which the driver has spawned."""
    found = []
    for engine in driver.children():
        try:
            called = engine.cmdline()
            found += [child for child in engine.children() if child.cmdline() == called]
        except psutil.NoSuchProcess:
            pass  # it has ended since it was listed
    return found
