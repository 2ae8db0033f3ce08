"""A folder on a disk or in a bucket. What is written appears whole or not at all, and stays.

Buckets go through storage/objects.py and not through pyarrow's or Beam's file systems: one set of credentials and
endpoints for music and results, and the conditions that a lock needs.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import json
import logging
import os
import platform
import secrets
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from genrebeam.features.errors import ChangedMeanwhile, TagError, UnreadableFile, UsageError
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.places import local_path, must_be_named

LOCK = ".genrebeam-lock"
LEASE_S = 120.0  # a run that died holds a bucket's folder no longer than that
_LOGGER = logging.getLogger(__name__)


class Folder(Protocol):
    """What there is of a folder. It need not exist before something is written into it."""

    @property
    def uri(self) -> str:
        """An absolute path or a URL, without a slash at its end."""

    def __truediv__(self, name: str) -> Folder: ...

    def names(self) -> list[str]:
        """Of the files in it, sorted; those that begin with a dot are ours and left out. Raises UsageError."""

    def open(self, name: str) -> BinaryIO:
        """A file to read and seek in. Raises OSError."""

    def new(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A path to write to; what is there at the end becomes the file, in place of another. Raises OSError."""

    def delete(self, name: str) -> None:
        """Remove a file, if it is there. Raises OSError."""

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Make the folder and hold it against a second run; raises UsageError where that cannot be."""


def folder_at(place: str | os.PathLike[str] | Folder) -> Folder:
    """The folder that a person named: a path, `file://`, `s3://` or `gs://`.

    Raises:
        UsageError: a URL of another kind, or no name.
    """
    if not isinstance(place, str | os.PathLike):
        return place
    text = os.fspath(place)
    must_be_named(text, "folder")
    if objects.is_object(text):
        if not text.partition("://")[2].strip("/"):
            raise UsageError(f"{text}: name a bucket, and better a folder in it")
        return _BucketFolder(text.rstrip("/"))
    path = local_path(text)
    if path is None:
        scheme = text.partition("://")[0]
        raise UsageError(f"{text}: results are written to local folders, s3:// and gs://, not to {scheme}://")
    return _LocalFolder(os.path.abspath(path.expanduser()))


def is_local(folder: Folder) -> bool:
    return isinstance(folder, _LocalFolder)


def write_json(folder: Folder, name: str, content: Mapping[str, Any]) -> None:
    """Write a file for people and programs to read; raises OSError."""
    with folder.new(name) as path:
        path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def sync(path: str | os.PathLike[str]) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Base:
    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Base) and self.uri == other.uri

    def __hash__(self) -> int:
        return hash(self.uri)

    def __repr__(self) -> str:
        return self.uri


class _LocalFolder(_Base):
    def __truediv__(self, name: str) -> _LocalFolder:
        return _LocalFolder(os.path.join(self.uri, name))

    def names(self) -> list[str]:
        try:
            return sorted(e.name for e in os.scandir(self.uri) if e.is_file() and not e.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UsageError(f"{self.uri}: cannot be read: {error.strerror}") from error

    def open(self, name: str) -> BinaryIO:
        return open(os.path.join(self.uri, name), "rb")

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[Path]:
        folder = Path(self.uri)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{name}.{secrets.token_hex(4)}.partial"
        try:
            yield partial
            sync(partial)
            partial.replace(folder / name)
            sync(folder)
        finally:
            partial.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        Path(self.uri, name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        folder = Path(self.uri)
        made = [parent for parent in (folder, *folder.parents) if not parent.is_dir()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{folder}: a file is in the way of this folder; give another") from error
        except OSError as error:
            raise UsageError(f"{folder}: cannot write results here: {error.strerror}") from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(f"{folder}: another genrebeam is writing here; wait for it to end") from error
            _remove_partials(folder)
            yield
        finally:
            if [entry.name for entry in os.scandir(folder)] == [LOCK]:  # nothing came of the run
                (folder / LOCK).unlink()
                with contextlib.suppress(OSError):  # another run may have begun beside it
                    for empty in made:
                        empty.rmdir()
            os.close(descriptor)


def _remove_partials(folder: Path) -> None:
    """What killed runs left half-written, in the folder and in those right below it."""
    for pattern in (".*.partial", "*/.*.partial"):
        for partial in folder.glob(pattern):
            partial.unlink(missing_ok=True)


class _BucketFolder(_Base):
    def __truediv__(self, name: str) -> _BucketFolder:
        return _BucketFolder(f"{self.uri}/{name}")

    def names(self) -> list[str]:
        found = (one.uri.removeprefix(f"{self.uri}/") for one in objects.find(f"{self.uri}/"))
        return sorted(name for name in found if "/" not in name and not name.startswith("."))

    def open(self, name: str) -> BinaryIO:
        return objects.open_object(f"{self.uri}/{name}")

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="genrebeam-") as scratch:
            path = Path(scratch, "new")
            yield path
            objects.write(f"{self.uri}/{name}", str(path))

    def delete(self, name: str) -> None:
        objects.delete(f"{self.uri}/{name}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with _Lease(f"{self.uri}/{LOCK}", self.uri).held():
            yield


class _Lease:
    """An object that says who writes here until when, put by conditions, and renewed while its run lives."""

    def __init__(self, uri: str, folder: str) -> None:
        self._uri, self._folder = uri, folder
        self._holder = f"process {os.getpid()} on {platform.node()}"
        self._ended = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with tempfile.TemporaryDirectory(prefix="genrebeam-") as scratch:
            self._file = Path(scratch, "lease")
            self._take()
            thread = threading.Thread(target=self._renew, daemon=True)
            thread.start()
            try:
                yield
            finally:
                self._ended.set()
                thread.join()
                with contextlib.suppress(OSError, UnreadableFile):
                    if self._seen and objects.stat(self._uri).state == self._seen.state:
                        objects.delete(self._uri)

    def _take(self) -> None:
        self._write()
        try:
            objects.write(self._uri, str(self._file), if_absent=True)
            self._seen: objects.Seen | None = objects.stat(self._uri)
        except FileExistsError:
            self._take_over()
        except (OSError, UnreadableFile) as error:
            raise UsageError(f"{self._folder}: cannot write results here: {error}") from error

    def _take_over(self) -> None:
        """Another run's lease: it is in the way while it lasts."""
        try:
            with tempfile.TemporaryFile() as copy:
                seen = objects.read(self._uri, copy)
                copy.seek(0)
                lease = json.load(copy)
            holder, until = str(lease["holder"]), dt.datetime.fromisoformat(lease["until"])
        except (UnreadableFile, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{self._uri}: not a readable lock ({error}); remove it if no run writes there") from error
        if until > _now():
            raise UsageError(
                f"{self._folder}: another genrebeam is writing here ({holder}); wait for it to end, or, if it died, "
                f"until {until:%H:%M:%S} UTC"
            )
        try:
            self._seen = objects.replace_if_unchanged(self._uri, str(self._file), seen)
        except TagError as error:
            raise UsageError(f"{self._folder}: another genrebeam has just begun to write here") from error

    def _renew(self) -> None:
        while not self._ended.wait(LEASE_S / 4):
            self._write()
            try:
                self._seen = objects.replace_if_unchanged(
                    self._uri, str(self._file), self._seen or objects.stat(self._uri)
                )
            except ChangedMeanwhile:
                # Harmless: rows of two runs do not get into each other's way, the newest counts.
                _LOGGER.warning("%s: another run has taken this folder over", self._uri)
                self._seen = None
                return
            except (TagError, UnreadableFile, UsageError, OSError):
                _LOGGER.warning("%s: the lock could not be renewed", self._uri, exc_info=True)

    def _write(self) -> None:
        lease = {"holder": self._holder, "until": (_now() + dt.timedelta(seconds=LEASE_S)).isoformat()}
        self._file.write_text(json.dumps(lease), encoding="utf-8")


def _now() -> dt.datetime:
    return dt.datetime.now(dt.timezone.utc)
