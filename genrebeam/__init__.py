"""Genres for whole music catalogs. What this module exports is the public interface (docs/python.md).

The folders of the project are rooms of this package, by links: `genrebeam.features.mel` is features/mel.py. Nothing is
imported before its name is used, so that `import genrebeam` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrebeam.features.errors import BundleError, GenrebeamError, LedgerError, TrackError, UsageError
    from genrebeam.pipelines.api import GenreTagger, Heard, read_results

    __version__: str

_EXPORTS = {
    "GenreTagger": "genrebeam.pipelines.api",
    "Heard": "genrebeam.pipelines.api",
    "read_results": "genrebeam.pipelines.api",
    "GenrebeamError": "genrebeam.features.errors",
    "UsageError": "genrebeam.features.errors",
    "BundleError": "genrebeam.features.errors",
    "LedgerError": "genrebeam.features.errors",
    "TrackError": "genrebeam.features.errors",
}

__all__ = [
    "BundleError",
    "GenreTagger",
    "GenrebeamError",
    "Heard",
    "LedgerError",
    "TrackError",
    "UsageError",
    "__version__",
    "read_results",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("genrebeam")
    if name not in _EXPORTS:
        raise AttributeError(f"module 'genrebeam' has no attribute {name!r}")
    return getattr(importlib.import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return __all__
