"""Tracks by the names that people type."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.dataset.schema import storable
from genrebeam.pipelines.storage.places import path_uri


def rows_named(names: Sequence[str], rows: pa.Table, *, where: str) -> list[int]:
    """The row of each name: a track_id, or the path or URL of the file.

    Macs write "é" as two characters where keyboards give one: where nothing has a name letter for letter, it is
    compared in one form of Unicode. That is the decomposed one: Arrow 25 gives it for every form asked for.

    Args:
        rows: with columns `track_id` and `uri`.
        where: what was looked through, for errors.

    Raises:
        UsageError: there is none, or there are several.
    """
    return [_row_named(name, rows, where) for name in names]


def _row_named(name: str, rows: pa.Table, where: str) -> int:
    name_there = storable(name)
    wanted = (("track_id", name_there), ("uri", name_there), ("uri", storable(path_uri(os.path.abspath(name)))))
    for form in (None, "NFD"):
        for column, text in wanted:
            values = pc.utf8_normalize(rows[column], form) if form else rows[column]
            text = unicodedata.normalize(form, text) if form else text
            found = pc.indices_nonzero(pc.equal(values, text)).to_pylist()
            if len(found) > 1 and column == "track_id":
                raise UsageError(f"{name}: {len(found)} tracks of {where} have this name in other forms; give a path")
            if found:
                return int(found[0])
    name = name or "a track without a name"
    raise UsageError(f"{name}: no result of it in {where}; give its path, or its track_id as results have it")


def below(folder: str, track_ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """Whether each track is in a folder of the library; in any form of Unicode."""
    prefix = unicodedata.normalize("NFD", folder.strip("/")) + "/"
    return pc.starts_with(pc.utf8_normalize(track_ids, "NFD"), prefix)
