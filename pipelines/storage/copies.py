"""Remote files as local ones, for libraries that want a path."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from genrebeam.features.errors import UnreadableFile
from genrebeam.features.filling import Fill
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.folders import folder_at, is_local
from genrebeam.pipelines.storage.places import local_path

_BLOCK = 1 << 20
_LONGEST_SUFFIX = 16  # what is longer is no suffix but a name with a full stop in it


def _suffix(uri: str) -> str:
    suffix = os.path.splitext(uri)[1]
    return suffix if len(os.fsencode(suffix)) <= _LONGEST_SUFFIX else ""


@functools.cache
def local_folder(place: str) -> Path:
    """A folder as a local one: itself, or a copy of the files in a bucket's folder, made once per process.

    Raises:
        UsageError: the bucket cannot be listed.
        UnreadableFile: an object cannot be fetched.
    """
    folder = folder_at(place)
    if is_local(folder):
        return Path(folder.uri)
    copy = Path(tempfile.mkdtemp(prefix="genrebeam-"))
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    for name in folder.names():
        with (copy / name).open("w+b") as file:
            objects.read(f"{folder.uri}/{name}", file)
    return copy


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local path to read the file from: the file itself, or a temporary copy of a remote object.

    Raises:
        UnreadableFile: the object cannot be fetched.
    """
    path = local_path(uri)
    if path is not None:
        yield path
        return
    # The suffix is kept: a few of mutagen's readers look at it.
    with tempfile.NamedTemporaryFile(prefix="genrebeam-", suffix=_suffix(uri)) as copy:
        if objects.is_object(uri):
            objects.read(uri, copy.file)
        else:
            _fetch_through_beam(uri, copy.file)
        yield Path(copy.name)


@contextlib.contextmanager
def copy_to_hear(uri: str, *, whole: bool) -> Iterator[tuple[Path, Fill | None]]:
    """As `local_copy`, but of an object only the parts that are asked for, unless `whole`: an empty file of its size,
    and a function that fills in a range of bytes.

    Raises:
        UnreadableFile: the object cannot be fetched; `fill` raises it too.
    """
    if whole or not objects.is_object(uri):
        with local_copy(uri) as path:
            yield path, None
        return
    size = objects.stat(uri).size
    with tempfile.NamedTemporaryFile(prefix="genrebeam-", suffix=_suffix(uri)) as copy:
        os.truncate(copy.name, size)

        def fill(start: int, stop: int) -> None:
            if (start, stop) == (0, size):
                objects.read(uri, copy.file)
            else:
                data = memoryview(objects.read_range(uri, start, stop))
                while data:  # a disk that is nearly full takes less than it is given, and says nothing
                    written = os.pwrite(copy.fileno(), data, start)
                    data, start = data[written:], start + written

        yield Path(copy.name), fill


def _fetch_through_beam(uri: str, file: IO[bytes]) -> None:
    from apache_beam.io.filesystem import BeamIOError, CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    try:
        with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as remote:
            shutil.copyfileobj(remote, file, _BLOCK)
    except (BeamIOError, OSError, ValueError) as error:
        raise UnreadableFile(f"cannot be fetched: {error}") from error
    file.flush()
