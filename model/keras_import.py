"""Imports Keras and TensorFlow without what prediction does not need."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def _not_imported(*names: str) -> Iterator[None]:
    """Let `import` find none of these packages.

    Keras imports plotting, scikit-learn and pandas wherever they are installed, for features that prediction does
    not have: a third of its import time, which every worker would pay at every start.
    """
    hidden = [name for name in names if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _not_imported("matplotlib", "pandas", "sklearn"):
    import keras  # noqa: F401
    import tensorflow

__all__ = ["tensorflow"]
