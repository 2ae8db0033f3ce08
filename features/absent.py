"""Packages that a library imports wherever they are installed, for features that are not used here."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any


class _Refusing:
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name in self._names:
            raise ModuleNotFoundError(f"{name} is left out here", name=name)


@contextlib.contextmanager
def absent(*names: str) -> Iterator[None]:
    """Let `import` find none of these packages. A caller that has imported one of them before keeps it."""
    refusing = _Refusing(names)
    sys.meta_path.insert(0, refusing)
    try:
        yield
    finally:
        sys.meta_path.remove(refusing)
