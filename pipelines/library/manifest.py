"""Lists of tracks: text, playlists, CSV and Parquet, and the files that their lines mean."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from genrebeam.features.errors import UnreadableFile, UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.dataset.cells import original
from genrebeam.pipelines.library.found import judge, relative
from genrebeam.pipelines.library.remote import find_one_remote
from genrebeam.pipelines.storage.places import local_path, path_uri

MANIFEST_SUFFIXES = (".txt", ".csv", ".parquet", ".m3u", ".m3u8")


def is_manifest(library: str) -> bool:
    """Whether this is a local list of tracks. The driver reads it; workers only need its tracks."""
    return library.lower().endswith(MANIFEST_SUFFIXES) and local_path(library) is not None


def parts_of(path: Path) -> list[Path]:
    """The files of a manifest: itself, or the parts of a folder as Spark writes it; nothing where it is neither."""
    if path.is_file():
        return [path]
    if path.suffix.lower() != ".parquet":
        return []
    parts = (part.relative_to(path) for part in sorted(path.rglob("*.parquet")))
    return [path / part for part in parts if not part.name.startswith(("_", ".")) and (path / part).is_file()]


def read_manifest(path: Path, beam_flags: Sequence[str]) -> Iterator[Track | Rejection]:
    """The files a manifest names: text and playlists hold one per line, CSV and Parquet have a column `uri`.

    Relative names start at the manifest's folder. A CSV or Parquet manifest may carry `track_id` too.
    """
    folder = Path(os.path.abspath(path)).parent
    for uri, track_id in _manifest_rows(path):
        if _has_bytes(track_id):
            track_id = os.fsencode(track_id).decode("cp1252", "replace")
        if "://" in uri and not uri.startswith("file://"):
            yield find_one_remote(uri, track_id or uri.partition("://")[2], beam_flags)
            continue
        try:
            local = _existing_spelling(uri, folder)
            below = local.is_relative_to(folder)
            name = relative(str(local), folder) if below else path_uri(local).lstrip("/") or "."
            found = judge(local, track_id or name)
        except (ValueError, RuntimeError) as error:  # a zero byte, an invalid address, the home of an unknown user
            name = ascii(uri)[1:-1]
            message = f"{name}: not a file name ({error})"
            found = Rejection(Track(name, track_id or name, 0, 0.0), "discover", UnreadableFile.__name__, message)
        yield found


def _existing_spelling(uri: str, folder: Path) -> Path:
    """The file that a line means.

    It is taken literally where such a file exists. Else without trailing blanks, with slashes for backslashes, in
    Windows' encoding, or in another form of Unicode, where one of these exists.
    """
    path = local_path(uri.replace("file://localhost/", "file:///", 1))
    assert path is not None
    exact = Path(os.path.abspath(folder / path.expanduser()))
    if os.path.lexists(exact):
        return exact
    for text in _spellings(str(path)):
        other = Path(os.path.abspath(folder / Path(text).expanduser()))
        if os.path.lexists(other):
            return other
    return exact


def _spellings(text: str) -> Iterator[str]:
    stripped = text.rstrip()
    for plain in (stripped, stripped.replace("\\", "/")):
        yield plain
        with contextlib.suppress(UnicodeDecodeError):
            if _has_bytes(plain):
                yield os.fsencode(plain).decode("cp1252")
        for form in ("NFC", "NFD"):
            yield unicodedata.normalize(form, plain)


def _has_bytes(text: str) -> bool:
    """Whether it holds bytes that are no UTF-8, as Python keeps them (PEP 383)."""
    return any("\udc80" <= one <= "\udcff" for one in text)


def _manifest_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Name and track_id of each row; an empty track_id where it has none. Raises UsageError."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            yield from _parquet_rows(path)
        elif suffix == ".csv":
            with _text(path) as file:
                yield from _csv_rows(file, path)
        else:
            playlist = suffix in (".m3u", ".m3u8")
            with _text(path) as file:
                for line in file:
                    text = line.rstrip("\n").rstrip("\r")
                    if text.strip() and not (playlist and text.startswith("#")):
                        yield text, ""
    except OSError as error:
        raise UsageError(f"{path}: this manifest cannot be read: {error.strerror}") from error


def _text(path: Path) -> TextIO:
    """A text file in UTF-8 or UTF-16; bytes that are no UTF-8 stay what they are, as in names of files."""
    with path.open("rb") as binary:
        start = binary.read(2)
    wide = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-16-le" if start[1:] == b"\0" else ""
    encoding, errors = (wide, "replace") if wide else ("utf-8-sig", "surrogateescape")
    newline = "" if path.suffix.lower() == ".csv" else "\n"  # names in lists may hold a carriage return
    return path.open(encoding=encoding, errors=errors, newline=newline)


def _csv_rows(file: TextIO, path: Path) -> Iterator[tuple[str, str]]:
    """Rows of a table with commas, semicolons or tabs, as its first line has them."""
    csv.field_size_limit(2**31 - 1)
    first = file.readline()
    if first.lower().startswith("sep="):  # spreadsheets' own way to name the delimiter
        first = file.readline()
    delimiter = max(",;\t", key=first.count)
    try:
        names = [name.strip().casefold() for name in next(csv.reader([first], delimiter=delimiter), ["none"])]
        _must_have_uri(names, path)
        for row in csv.DictReader(file, names, delimiter=delimiter):
            if uri := original(row["uri"] or ""):
                yield uri, original(row.get("track_id") or "")
    except csv.Error as error:
        raise UsageError(f"{path}: not a readable CSV file: {error}") from error


def _parquet_rows(path: Path) -> Iterator[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _must_have_uri(names, path)
            wanted = [name for name in ("uri", "track_id") if name in names]
            for batch in file.iter_batches(columns=wanted):
                for row in batch.to_pylist():
                    if uri := _as_text(row["uri"]):
                        yield uri, _as_text(row.get("track_id"))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: not a readable Parquet file: {error}") from error


def _must_have_uri(names: Sequence[str], path: Path) -> None:
    if "uri" not in names:
        raise UsageError(f"{path}: a manifest needs a column `uri`; this one has {', '.join(names)}")


def _as_text(value: Any) -> str:
    """A cell as text: bytes are those of a name, numbers were made of a column with gaps, and a gap is nothing."""
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.0f}" if value.is_integer() else str(value)
    return "" if value is None else str(value)
