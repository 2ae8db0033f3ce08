"""Imports Keras and TensorFlow without what prediction does not need."""

from __future__ import annotations

import os

from genrebeam.features.absent import absent

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Keras imports them wherever they are installed: a third of its import time.
with absent("matplotlib", "pandas", "sklearn"):
    import keras  # noqa: F401
    import tensorflow

__all__ = ["tensorflow"]
