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

from genrebeam.features.errors import UnreadableFile, UsageError
from genrebeam.features.filling import Fill
from genrebeam.model import shardset
from genrebeam.model.bundle import DEFAULT, SHIPPED, Bundle, load_config
from genrebeam.model.shardset import ShardSet
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.folders import folder_at, is_local
from genrebeam.pipelines.storage.places import local_path

_BLOCK = 1 << 20


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


def bundle_at(model: str | None) -> Bundle:
    """A model bundle: the one that ships under that name, else a folder or a URL; without a word the default one.

    Raises:
        BundleError: no such bundle, or it is damaged.
        UsageError: the bucket cannot be listed.
        UnreadableFile: an object cannot be fetched.
    """
    if model is None:
        return load_config(DEFAULT)
    return load_config(SHIPPED[model] if model in SHIPPED and not Path(model).exists() else local_folder(model))


def shards_at(place: str) -> ShardSet:
    """A set of training shards in a folder, or a copy of one in a bucket.

    Raises:
        UsageError: none is there, it is damaged, or the bucket cannot be listed.
        UnreadableFile: an object cannot be fetched.
    """
    path = local_path(place)
    if path is None:
        if shardset.DATASET not in folder_at(place).names():
            raise UsageError(f"{place}: no {shardset.DATASET}; give a folder that `genrebeam shards` has written")
        path = local_folder(place)
    return shardset.load(path)


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
    with tempfile.NamedTemporaryFile(prefix="genrebeam-", suffix=os.path.splitext(uri)[1]) as copy:
        if objects.is_object(uri):
            objects.read(uri, copy.file)
        else:
            _fetch_through_beam(uri, copy.file)
        yield Path(copy.name)


@contextlib.contextmanager
def copy_to_hear(uri: str, *, whole: bool) -> Iterator[tuple[Path, Fill | None]]:
    """As `local_copy`; of an object not the `whole` of it, but what the second of the pair is asked to fill in.

    Raises:
        UnreadableFile: the object cannot be fetched; `fill` raises it too.
    """
    if whole or not objects.is_object(uri):
        with local_copy(uri) as path:
            yield path, None
        return
    size = objects.stat(uri).size
    with tempfile.NamedTemporaryFile(prefix="genrebeam-", suffix=os.path.splitext(uri)[1]) as copy:
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
