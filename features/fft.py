"""The FFT of real float32 rows by SciPy, six times as fast as NumPy's: its compiled part alone.

The package around that imports 300 modules for a third of a second and 25 MB, which every decoding process would pay.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _compiled() -> Callable[..., Any]:
    """`r2c` of SciPy's pypocketfft.

    Raises:
        ImportError: SciPy is arranged otherwise, or not there.
    """
    package = importlib.util.find_spec("scipy")  # finds it without importing it
    places = [str(Path(place, "fft", "_pocketfft")) for place in (package and package.submodule_search_locations) or ()]
    spec = importlib.machinery.PathFinder.find_spec("pypocketfft", places)
    if spec is None or spec.loader is None:
        raise ImportError("no pypocketfft")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    r2c: Callable[..., Any] = module.r2c
    return r2c


try:
    _R2C: Callable[..., Any] | None = _compiled()
except (ImportError, AttributeError):
    _R2C = None  # a SciPy of another make: by its front door


def rfft(rows: NDArray[np.float32]) -> NDArray[np.complex64]:
    """float32 [rows, n] to complex64 [rows, n // 2 + 1], as `scipy.fft.rfft` has it."""
    if _R2C is None:
        from scipy import fft

        return np.asarray(fft.rfft(rows, axis=1), np.complex64)
    found: NDArray[np.complex64] = _R2C(rows, (1,), True, 0, None, 1)
    return found
