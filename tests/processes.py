"""The processes of a run, as its tests look for them."""

from __future__ import annotations

import psutil


def workers_of(driver: psutil.Process) -> list[psutil.Process]:
    """Beam's workers: forks of a process that never works itself."""
    found = []
    for process in driver.children(recursive=True):
        try:
            parent = process.parent()
            if parent and _is_forkserver(process) and _is_forkserver(parent):
                found.append(process)
        except psutil.NoSuchProcess:
            pass  # it has ended since it was listed
    return found


def _is_forkserver(process: psutil.Process) -> bool:
    return any("multiprocessing.forkserver" in argument for argument in process.cmdline())
