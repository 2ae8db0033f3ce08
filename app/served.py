"""What the running server shows: set once by the command, read by every session."""

from __future__ import annotations

import dataclasses

from genrebeam.app.catalog import Catalog
from genrebeam.app.hearing import Hearing


@dataclasses.dataclass
class Served:
    """`by` is the name for corrections; all sessions share it."""

    hearing: Hearing
    catalog: Catalog | None = None
    by: str = ""
    debug: bool = False


_served: list[Served] = []


def serve(served: Served) -> None:
    _served[:] = [served]


def served() -> Served:
    return _served[0]
