"""A folder on a disk or in a bucket. What is written appears whole or not at all, and stays.

Buckets go through storage/objects.py and not through pyarrow's or Beam's file systems: one set of credentials and
endpoints for music and results, and the conditions that a lock needs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import platform
import re
import secrets
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from genrebeam.features.errors import ChangedMeanwhile, TagError, Unreachable, UnreadableFile, UsageError
from genrebeam.pipelines.storage import objects
from genrebeam.pipelines.storage.places import local_path, must_be_named

LOCK = ".genrebeam-lock"
MARK = ".genrebeam-running"  # in its place where a file system has no locks
_ATTEMPTS = 100
LEASE_S = 120.0  # a run that died holds a bucket's folder no longer than that
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # flock: by another
# What a file system says of a call that it does not have, and not of one that failed.
_MISSING = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.ENOTTY)
_PARTIAL = re.compile(r"\..+\.[0-9a-f]{8}\.partial")
_LOGGER = logging.getLogger(__name__)


class Folder(Protocol):
    """What there is of a folder. It need not exist before something is written into it."""

    @property
    def uri(self) -> str:
        """An absolute path or a URL, without a slash at its end."""

    def __truediv__(self, name: str) -> Folder: ...

    def names(self, *, hidden: bool = False) -> list[str]:
        """Of the files in it, sorted: those that begin with a dot, which are ours, or the others. Raises UsageError."""

    def open(self, name: str) -> BinaryIO:
        """A file to read and seek in. Raises OSError."""

    def new(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """A path to write to; what is there at the end becomes the file, in place of another.

        Raises:
            Unreachable: there is no space.
            OSError: it cannot be written for another reason.
        """

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


def has_no_space(error: OSError) -> bool:
    """Whether disk or quota are used up. Arrow says so in words only."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error)


def is_local(folder: Folder) -> bool:
    return isinstance(folder, _LocalFolder)


def write_json(folder: Folder, name: str, content: Mapping[str, Any]) -> None:
    """Write a file for people and programs to read; raises OSError."""
    with folder.new(name) as path:
        path.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def sync(path: str | os.PathLike[str]) -> None:
    """Bring a file, or the names in a folder, to the disk.

    File systems that cannot sync a folder (many network and FUSE mounts) are left to their own ways.

    Raises:
        OSError: the disk failed.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (*_MISSING, errno.EBADF, errno.EACCES, errno.EPERM):
            raise
    finally:
        os.close(descriptor)


def _plain(name: str) -> str:
    """The name of a file right in a folder; raises ValueError for a way out of it."""
    if not name or name in (".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"{name!r} is no name of a file")
    return name


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

    def names(self, *, hidden: bool = False) -> list[str]:
        try:
            return sorted(e.name for e in os.scandir(self.uri) if e.is_file() and e.name.startswith(".") is hidden)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UsageError(f"{self.uri}: cannot be read: {error.strerror}") from error

    def open(self, name: str) -> BinaryIO:
        return open(os.path.join(self.uri, _plain(name)), "rb")

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[Path]:
        folder = Path(self.uri)
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{_plain(name)}.{secrets.token_hex(4)}.partial"
        try:
            yield partial
            sync(partial)
            partial.replace(folder / name)
            sync(folder)
        except OSError as error:
            if not has_no_space(error):
                raise
            raise Unreachable(f"{folder}: no space left; make some, and run the same command again") from error
        finally:
            partial.unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        Path(self.uri, _plain(name)).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        folder = Path(self.uri)
        made = [parent for parent in (folder, *folder.parents) if not parent.is_dir()]
        with contextlib.ExitStack() as stack:
            descriptor = _locked(folder)
            if descriptor is None:
                stack.enter_context(_marked(folder))
            else:
                stack.callback(os.close, descriptor)  # and with it the lock goes
            _remove_partials(folder)
            try:
                yield
            finally:
                if set(os.listdir(folder)) <= {LOCK, MARK}:  # nothing came of the run
                    (folder / LOCK).unlink()
                    stack.close()
                    with contextlib.suppress(OSError):  # another run may have begun beside it
                        for empty in made:
                            empty.rmdir()


def _locked(folder: Path) -> int | None:
    """Make the folder and hold its lock file, open; None where the file system has no locks.

    Raises:
        UsageError: another run holds it, or it cannot be made.
    """
    path = folder / LOCK
    for attempt in range(_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except (FileExistsError, NotADirectoryError) as error:
            raise UsageError(f"{folder}: a file is in the way of this folder; give another") from error
        except OSError as error:
            if isinstance(error, FileNotFoundError) and attempt + 1 < _ATTEMPTS:
                continue  # a run that came to nothing has just taken its empty folder away
            raise UsageError(f"{folder}: cannot write results here: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except OSError as error:
            os.close(descriptor)
            if error.errno in _MISSING:
                return None
            if error.errno not in _HELD:
                raise UsageError(f"{folder}: cannot be locked: {error.strerror}") from error
            raise UsageError(f"{folder}: another genrebeam is writing here; wait for it to end") from error
        os.close(descriptor)  # its holder removed the file before we had the lock: it is nobody's any more
    raise UsageError(f"{folder}: other runs begin and end here all the time; try again")


@contextlib.contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """Hold a folder without locks: by a file that says who is there, and that only one can make.

    Raises:
        UsageError: another run is there, or nobody can tell whether it still is.
    """
    mark = folder / MARK
    ours = {"host": platform.node(), "pid": os.getpid()}
    for _ in range(_ATTEMPTS):
        try:
            descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            _remove_mark_of_the_dead(mark)
            continue
        except OSError as error:
            raise UsageError(f"{folder}: cannot write results here: {error.strerror}") from error
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                json.dump(ours, file)
            yield
        finally:
            mark.unlink(missing_ok=True)
        return
    raise UsageError(f"{folder}: other runs begin and end here all the time; try again")


def _remove_mark_of_the_dead(mark: Path) -> None:
    """Raises UsageError unless the run that made the mark was one of this machine and is gone."""
    holder = "who does not say its name"
    try:
        text = mark.read_text(encoding="utf-8")
        told = json.loads(text)
        host, pid = str(told["host"]), int(told["pid"])
        holder = f"process {pid} on {host}"
        if host == platform.node() and pid > 0:
            os.kill(pid, 0)
    except FileNotFoundError:
        return
    except ProcessLookupError:
        aside = mark.with_name(f"{MARK}-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError):
            mark.rename(aside)
            if aside.read_text(encoding="utf-8") == text:
                aside.unlink()
            else:  # another run has just been quicker, and this mark is its own
                aside.rename(mark)
        return
    except (OSError, OverflowError, ValueError, KeyError, TypeError):
        pass
    raise UsageError(
        f"{mark.parent}: another genrebeam is writing here ({holder}); wait for it to end; if it died, remove {mark}"
    )


def _remove_partials(folder: Path) -> None:
    """What killed runs left half-written, in the folder and in those right below it; links are not followed."""
    below = [folder / entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    for place in (folder, *below):
        for entry in os.scandir(place):
            if _PARTIAL.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)


class _BucketFolder(_Base):
    def __truediv__(self, name: str) -> _BucketFolder:
        return _BucketFolder(f"{self.uri}/{name}")

    def names(self, *, hidden: bool = False) -> list[str]:
        found = (one.uri.removeprefix(f"{self.uri}/") for one in objects.find(f"{self.uri}/"))
        return sorted(name for name in found if "/" not in name and name.startswith(".") is hidden)

    def open(self, name: str) -> BinaryIO:
        return objects.open_object(f"{self.uri}/{_plain(name)}")

    @contextlib.contextmanager
    def new(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="genrebeam-") as scratch:
            path = Path(scratch, "new")
            yield path
            objects.write(f"{self.uri}/{_plain(name)}", str(path))

    def delete(self, name: str) -> None:
        objects.delete(f"{self.uri}/{_plain(name)}")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        with _Lease(f"{self.uri}/{LOCK}", self.uri).held():
            yield


class _Lease:
    """An object that says who writes here until when, put by conditions, and renewed while its run lives."""

    def __init__(self, uri: str, folder: str) -> None:
        self._uri, self._folder = uri, folder
        self._holder, self._writes = f"process {os.getpid()} on {platform.node()}", 0
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
        """Another run's lease: it is in the way while it lasts.

        How old it is says the store, which knows the time of both: the clocks of two machines may differ by more.
        """
        try:
            with tempfile.TemporaryFile() as copy:
                seen = objects.read(self._uri, copy)
                copy.seek(0)
                lease = json.load(copy)
            holder, lasts_s = str(lease["holder"]), float(lease.get("lasts_s", LEASE_S))
        except (UnreadableFile, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{self._uri}: not a readable lock ({error}); remove it if no run writes there") from error
        left_s = seen.mtime_us / 1e6 + lasts_s - self._time_there()
        if left_s > 0:
            raise UsageError(
                f"{self._folder}: another genrebeam is writing here ({holder}); wait for it to end, or, if it died, "
                f"for {left_s:.0f} seconds"
            )
        try:
            self._seen = objects.replace_if_unchanged(self._uri, str(self._file), seen)
        except TagError as error:
            raise UsageError(f"{self._folder}: another genrebeam has just begun to write here") from error

    def _time_there(self) -> float:
        """The store's clock in seconds since 1970: the time of something that is written now."""
        probe = f"{self._uri}-{secrets.token_hex(8)}"
        try:
            objects.write(probe, str(self._file))
            try:
                return objects.stat(probe).mtime_us / 1e6
            finally:
                objects.delete(probe)
        except (OSError, UnreadableFile) as error:
            raise UsageError(f"{self._folder}: cannot write results here: {error}") from error

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
        self._writes += 1  # no two leases are alike, so that their states are not either
        lease = {"holder": self._holder, "lasts_s": LEASE_S, "number": self._writes}
        self._file.write_text(json.dumps(lease), encoding="utf-8")
