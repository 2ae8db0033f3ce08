"""Objects in buckets, s3:// and gs://: listed, read, and replaced only if they are unchanged since they were read.

The packages of the stores are optional, and imported when the first URL asks for them; credentials and endpoints come
from where those libraries look (environment, profiles, instance roles). Other schemes go through Beam's FileSystems
(pipelines/library/remote.py), which can read, but know no conditional write.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import filecmp
import functools
import io
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO, TypeVar, cast

from genrebeam.features.errors import ChangedMeanwhile, NotTaggable, ReadOnly, UnreadableFile, UsageError, WriteFailed
from genrebeam.features.filling import sought
from genrebeam.pipelines.storage.gcs import Gcs
from genrebeam.pipelines.storage.s3 import S3
from genrebeam.pipelines.storage.store import BLOCK, Seen, Store, StoreError

Answer = TypeVar("Answer")
_READS = 3  # attempts at one body. The libraries repeat requests, but S3's does not repeat a body that broke off


@dataclasses.dataclass(frozen=True)
class Found:
    """An object in a listing."""

    uri: str
    size: int
    mtime_us: int


def is_object(uri: str) -> bool:
    """Whether a URL is of a store that this module knows."""
    return uri.partition("://")[0] in _STORES


def find(prefix: str) -> Iterator[Found]:
    """All objects whose URL begins with `prefix`, which names a bucket at least; in the order of their names.

    Raises:
        UsageError: the bucket cannot be listed, or a package is missing.
    """
    store, bucket, name = _locate(prefix)
    scheme = prefix.partition("://")[0]
    try:
        for found, size, mtime_us in store.list(bucket, name):
            if not found.endswith("/"):  # consoles leave empty objects of such names, to show folders
                yield Found(f"{scheme}://{bucket}/{found}", size, mtime_us)
    except StoreError as error:
        raise UsageError(f"{prefix}: cannot be listed ({error})") from error


def stat(uri: str) -> Seen:
    """Raises UnreadableFile, without the URL, which the caller knows; UsageError where a package is missing."""
    store, bucket, name = _locate(uri)
    try:
        return store.stat(bucket, name)
    except StoreError as error:
        raise _unreadable(error) from error


def read(uri: str, file: IO[bytes]) -> Seen:
    """Write one consistent state of an object into a seekable file; raises as `stat`."""
    store, bucket, name = _locate(uri)

    def once() -> Seen:
        file.seek(0)
        file.truncate()
        seen = store.read(bucket, name, file)
        file.flush()
        return seen

    try:
        return _tried(once)
    except StoreError as error:
        raise _unreadable(error) from error


def replace_if_unchanged(uri: str, path: str, seen: Seen) -> Seen | None:
    """Put a file in the place of an object, unless somebody replaced or removed what was read.

    Where the answer says nothing (a lost connection, a second attempt of the library that met what its first had
    done), the object itself is asked whether it is ours now.

    Returns:
        The object's new state; None where it was written and its state is unknown.

    Raises:
        ChangedMeanwhile: it was changed since, and is left as it is.
        ReadOnly: it may not be written.
        NotTaggable: the store cannot do it safely.
        WriteFailed: the store refused, or could not be reached; run again.
        UsageError: a package or the credentials are missing.
    """
    store, bucket, name = _locate(uri)
    try:
        return store.put(bucket, name, path, seen)
    except StoreError as error:
        if error.status in (401, 403):
            raise ReadOnly(f"{uri}: it may not be written ({error}); left as it is") from error
        if now := _is_ours(uri, path):
            return now
        if error.status in (404, 409, 412):
            raise ChangedMeanwhile(f"{uri}: another program changed it just now; left as it is, run again") from error
        if error.status == 501:
            raise NotTaggable(f"{uri}: {error}; left as it is") from error
        raise WriteFailed(f"{uri}: {error}; run again") from error


def write(uri: str, path: str, *, if_absent: bool = False) -> None:
    """Make an object of a file, whatever is there, or only where nothing is.

    Raises:
        FileExistsError: something is there and must not be.
        OSError: the store refused, or could not be reached; the message names neither URL nor file.
        UsageError: a package or the credentials are missing.
    """
    store, bucket, name = _locate(uri)
    try:
        store.write(bucket, name, path, if_absent)
    except StoreError as error:
        if if_absent and error.status in (409, 412):
            raise FileExistsError(errno.EEXIST, "it is there already") from error
        raise _os_error(error) from error


def delete(uri: str) -> None:
    """Remove an object, if it is there; raises OSError, UsageError."""
    store, bucket, name = _locate(uri)
    try:
        store.delete(bucket, name)
    except StoreError as error:
        if error.status != 404:
            raise _os_error(error) from error


def open_object(uri: str) -> BinaryIO:
    """An object as a seekable file that asks for the parts that are read; raises OSError, UsageError."""
    store, bucket, name = _locate(uri)
    try:
        size = store.stat(bucket, name).size
    except StoreError as error:
        raise _os_error(error) from error
    raw = _Parts(lambda start, stop: _tried(lambda: store.read_range(bucket, name, start, stop)), size)
    return cast(BinaryIO, io.BufferedReader(raw, BLOCK))


def read_range(uri: str, start: int, stop: int) -> bytes:
    """Bytes of an object; raises as `stat`."""
    store, bucket, name = _locate(uri)
    try:
        return _tried(lambda: store.read_range(bucket, name, start, stop))
    except StoreError as error:
        raise _unreadable(error) from error


def _tried(read: Callable[[], Answer]) -> Answer:
    """The result of a read, which is repeated where the store did not answer."""
    attempt = 1
    while True:
        try:
            return read()
        except StoreError as error:
            if error.status or attempt == _READS:
                raise
        attempt += 1


class _Parts(io.RawIOBase):
    """A raw file over ranges of bytes; raises OSError."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range, self._size, self._at = read_range, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, sought(offset, whence, at=self._at, size=self._size))
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if stop <= self._at:
            return 0
        try:
            data = self._read_range(self._at, stop)
        except StoreError as error:
            raise _os_error(error) from error
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def _os_error(error: StoreError) -> OSError:
    number = {404: errno.ENOENT, 401: errno.EACCES, 403: errno.EACCES}.get(error.status, errno.EIO)
    return OSError(number, str(error))  # Python makes it the fitting subclass


def _is_ours(uri: str, path: str) -> Seen | None:
    """The object's state if it holds exactly the bytes of a file."""
    with contextlib.suppress(UnreadableFile), tempfile.NamedTemporaryFile(prefix="genrebeam-") as there:
        if stat(uri).size == os.path.getsize(path):
            seen = read(uri, there.file)
            if filecmp.cmp(path, there.name, shallow=False):
                return seen
    return None


def _unreadable(error: StoreError) -> UnreadableFile:
    reason = {404: "no such object", 401: "it may not be read", 403: "it may not be read"}.get(error.status)
    return UnreadableFile(f"{reason} ({error})" if reason else f"cannot be fetched: {error}")


def _locate(uri: str) -> tuple[Store, str, str]:
    """Store, bucket and name. Not urllib.parse: names may hold ? and #, and are not percent-encoded."""
    scheme, _, rest = uri.partition("://")
    bucket, _, name = rest.partition("/")
    with _LOCK:
        return _STORES[scheme](), bucket, name


_LOCK = threading.Lock()
_STORES: dict[str, Callable[[], Store]] = {
    "s3": functools.cache(S3),
    "gs": functools.cache(Gcs),
}  # one client per process, made when first needed
