"""Lists of tracks: text, playlists, CSV and Parquet, and the files that their lines mean."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from genrebeam.features.errors import UnreadableFile, UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.library.found import judge, relative
from genrebeam.pipelines.library.remote import find_one_remote
from genrebeam.pipelines.storage.places import local_path, path_uri

MANIFEST_SUFFIXES = (".txt", ".csv", ".parquet", ".m3u", ".m3u8")


def is_manifest(library: str) -> bool:
    """Whether this is a local list of tracks. The driver reads it; workers only need its tracks."""
    return library.lower().endswith(MANIFEST_SUFFIXES) and local_path(library) is not None


def read_manifest(path: Path, beam_flags: Sequence[str]) -> Iterator[Track | Rejection]:
    """The files a manifest names: text and playlists hold one per line, CSV and Parquet have a column `uri`.

    Relative names start at the manifest's folder. A CSV or Parquet manifest may carry `track_id` too.
    """
    folder = path.absolute().parent
    for uri, track_id in _manifest_rows(path):
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
    """The file that a line means. Trailing blanks and backslashes are taken literally only where such a file exists."""
    path = local_path(uri.replace("file://localhost/", "file:///", 1))
    assert path is not None
    exact = Path(os.path.abspath(folder / path.expanduser()))
    for text in (str(path).rstrip(), str(path).rstrip().replace("\\", "/")):
        other = Path(os.path.abspath(folder / Path(text).expanduser()))
        if not os.path.lexists(exact) and os.path.lexists(other):
            return other
    return exact


def _manifest_rows(path: Path) -> Iterator[tuple[str, str]]:
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                columns = pq.read_schema(path).names
                if "uri" not in columns:
                    raise UsageError(f"{path}: a manifest needs a column `uri`; this one has {', '.join(columns)}")
                wanted = [name for name in ("uri", "track_id") if name in columns]
                for batch in pq.ParquetFile(path).iter_batches(columns=wanted):
                    yield from ((row["uri"], row.get("track_id") or "") for row in batch.to_pylist() if row["uri"])
            except (pa.ArrowException, OSError) as error:
                raise UsageError(f"{path}: not a readable Parquet file: {error}") from error
        elif suffix == ".csv":
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
                table = csv.DictReader(file)
                names = list(table.fieldnames or ["none"])
                if "uri" not in names:
                    raise UsageError(f"{path}: a manifest needs a column `uri`; this one has {', '.join(names)}")
                yield from ((row["uri"], row.get("track_id") or "") for row in table if row["uri"])
        else:
            playlist = suffix in (".m3u", ".m3u8")
            with path.open("rb") as binary:
                wide = binary.read(2) in (b"\xff\xfe", b"\xfe\xff")
            encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")
            with path.open(encoding=encoding, errors=errors, newline="\n") as file:
                for line in file:
                    text = line.rstrip("\n").rstrip("\r")
                    if text.strip() and not (playlist and text.startswith("#")):
                        yield text, ""
    except OSError as error:
        raise UsageError(f"{path}: this manifest cannot be read: {error.strerror}") from error
