"""The safe writer: a copy beside the original takes the change, is verified against it, and then takes its place.

At every moment the name holds either the whole old file or the whole new one. The one place that writes audio files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import pwd
import re
import secrets
import signal
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from genrebeam.features.errors import ChangedMeanwhile, NotTaggable, ReadOnly, TagError, TrackError, WriteFailed
from genrebeam.pipelines.tags.errors import BrokenTag
from genrebeam.pipelines.tags.model import Container, Splice, Tag
from genrebeam.pipelines.tags.opinion import ReadersDisagree, disagreement, look
from genrebeam.pipelines.tags.parse import parse
from genrebeam.pipelines.tags.read import TagValues, read_tags

_FICLONE = 0x40049409  # linux/fs.h; Python 3.10 has no name for it
_BLOCK = 1 << 18  # stays in a core's cache between reading and comparing


class HardLinked(TagError):
    """The file has other names; replacing it would part it from them."""


class OpenElsewhere(TagError):
    """Another program has the file open for writing."""


class VerificationFailed(TagError):
    """The copy is not what it should be; a fault of genrebeam, and the original is untouched."""


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which file it is, and in which state."""

    size: int
    mtime_ns: int
    device: int
    inode: int

    @staticmethod
    def of(status: os.stat_result) -> Identity:
        return Identity(status.st_size, status.st_mtime_ns, status.st_dev, status.st_ino)


@dataclasses.dataclass(frozen=True)
class Change:
    """A change to one file, worked out and not yet done.

    Attributes:
        path: the file itself, symbolic links resolved.
        identity: the file's when it was worked out.
        tags: as they shall be. values: what reading them shall give.
        splices: how to get there.
        temporary: name of the copy, in the same folder; nobody else may use it, so it is made up anew each time.
        mtime_ns: the new file's modification time.
        is_undo: then programs show the genre that they showed before, which may be another for each.
    """

    path: str
    identity: Identity
    tags: tuple[Tag, ...]
    values: TagValues
    splices: tuple[Splice, ...]
    temporary: str
    mtime_ns: int
    is_undo: bool = False

    @property
    def size_after(self) -> int:
        return self.identity.size + sum(len(s.data) - (s.stop - s.start) for s in self.splices)


def check_writable(path: str, status: os.stat_result, *, break_hard_links: bool) -> None:
    """Find out before any work whether a file may be replaced.

    Raises:
        ReadOnly: no write permission on it, or on its folder.
        HardLinked: it has several names and may not be parted from them.
    """
    if not status.st_mode & 0o222 or not os.access(path, os.W_OK):  # root may write anything; the bits are the wish
        raise ReadOnly(f"{path}: the file is read-only{_owners(path)}; give write permission to have it tagged")
    if not os.access(Path(path).parent, os.W_OK | os.X_OK):
        raise ReadOnly(f"{path}: its folder is read-only{_owners(path)}; a safe change needs a copy beside the file")
    folder = os.stat(Path(path).parent)
    if folder.st_mode & stat.S_ISVTX and os.geteuid() not in (0, status.st_uid, folder.st_uid):
        raise ReadOnly(f"{path}: in its folder only a file's owner may replace it{_owners(path)}; run as the owner")
    if status.st_nlink > 1 and not break_hard_links:
        raise HardLinked(
            f"{path}: it has {status.st_nlink} names (hard links) and only one of them would be tagged; "
            "--hard-links break does that"
        )


def _owners(path: str) -> str:
    """Whose a file and its folder are, where that is somebody else: then that is the reason, or part of it."""
    user, folder = os.geteuid(), Path(path).parent
    try:
        owners = {"the file": os.stat(path).st_uid, "its folder": os.stat(folder).st_uid}
    except OSError:
        return ""
    foreign = [f"{what} belongs to {_name_of(owner)}" for what, owner in owners.items() if owner != user]
    return f" ({' and '.join(foreign)}, you are {_name_of(user)})" if foreign else ""


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def write(change: Change) -> None:
    """Do it, durably up to the rename; the folder is the caller's to sync (`sync_folder`), once for many files.

    Raises:
        TagError: the original is as it was, and nothing is left beside it.
    """
    path = Path(change.path)
    copy = path.with_name(change.temporary)
    try:
        with path.open("rb", buffering=0) as original, _no_writers(original.fileno(), change.path):
            status = os.fstat(original.fileno())
            _check_identity(change, status)
            new = _create(copy)
            try:
                with new:
                    _copy(original.fileno(), new.fileno(), change.splices, status.st_size)
                    _keep_attributes(original.fileno(), new.fileno(), status, change.mtime_ns)
                    os.fsync(new.fileno())
                with copy.open("rb", buffering=0) as new:
                    _verify(original, new, change)
                _check_identity(change, path.stat())
                copy.replace(path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    copy.unlink()
                raise
    except PermissionError as error:
        why = _owners(change.path) or f" ({error.strerror})"
        raise ReadOnly(f"{change.path}: not permitted to replace it and keep its owner{why}; left as it is") from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise ReadOnly(f"{change.path}: its file system is read-only") from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"no space for the changed copy in {path.parent} ({error.strerror}); free some and run again"
            raise WriteFailed(f"{change.path}: {reason}, it is left as it is") from error
        raise WriteFailed(f"{change.path}: {error.strerror or error}; left as it is, run again when mended") from error


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable. File systems that cannot are left to their own ways."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _check_identity(change: Change, status: os.stat_result) -> None:
    if Identity.of(status) != change.identity:
        raise ChangedMeanwhile(f"{change.path}: another program changed it just now; left as it is, run again")


@contextlib.contextmanager
def _no_writers(fd: int, path: str) -> Iterator[None]:
    """Hold a read lease: refused where somebody has the file open for writing, and who opens it so has to wait.

    Readers are not concerned: they go on reading the old file. Where leases are not to be had (another owner's file,
    network file systems, not Linux), size and time checked right before the rename have to do.
    """
    with contextlib.ExitStack() as stack:
        try:
            fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # the default, SIGIO, would end the process; this is ignored
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            stack.callback(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except AttributeError:
            pass
        except OSError as error:
            if error.errno == errno.EAGAIN:
                message = f"{path}: another program has it open for writing; left as it is, run again"
                raise OpenElsewhere(message) from error
        yield


def _create(path: Path) -> BinaryIO:
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    return os.fdopen(fd, "wb", buffering=0)


def _copy(source: int, target: int, splices: Sequence[Splice], size: int) -> None:
    """Write the source with its splices to the target; bytes between them are shared where the file system can."""
    in_place = all(len(splice.data) == splice.stop - splice.start for splice in splices)
    if in_place:
        with contextlib.suppress(OSError):
            fcntl.ioctl(target, _FICLONE, source)
            for splice in splices:
                _write_all(target, splice.data, splice.start)
            return
    at = moved = 0
    for splice in [*splices, Splice(size, size, b"")]:
        _copy_range(source, target, at, splice.start, at + moved)
        _write_all(target, splice.data, splice.start + moved)
        moved += len(splice.data) - (splice.stop - splice.start)
        at = splice.stop


def _copy_range(source: int, target: int, start: int, stop: int, to: int) -> None:
    while start < stop:
        try:
            count = os.copy_file_range(source, target, stop - start, start, to)
        except AttributeError:  # not Linux
            count = 0
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM):
                raise
            count = 0
        if not count:
            data = os.pread(source, min(_BLOCK, stop - start), start)
            if not data:
                raise OSError(errno.EIO, "the file ended while it was copied")
            _write_all(target, data, to)
            count = len(data)
        start += count
        to += count


def _write_all(fd: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, at)
        view, at = view[count:], at + count


def _keep_attributes(source: int, target: int, status: os.stat_result, mtime_ns: int) -> None:
    """Owner, extended attributes (ACLs among them), mode and times of the original."""
    new = os.fstat(target)
    if (new.st_uid, new.st_gid) != (status.st_uid, status.st_gid):
        os.fchown(target, status.st_uid, status.st_gid)
    try:
        names = os.listxattr(source)
    except (OSError, AttributeError):
        names = []
    for name in names:
        value = os.getxattr(source, name)
        try:
            os.setxattr(target, name, value)
        except OSError:
            if _xattr(target, name) != value:  # a security label may be set by the system alone, and be right already
                raise
    if os.fstat(target).st_mode != status.st_mode:
        os.fchmod(target, stat.S_IMODE(status.st_mode))
    os.utime(target, ns=(status.st_atime_ns, mtime_ns))


def _xattr(fd: int, name: str) -> bytes | None:
    try:
        return os.getxattr(fd, name)
    except OSError:
        return None


def _verify(original: BinaryIO, new: BinaryIO, change: Change) -> None:
    """Hold the finished copy against the original.

    Raises:
        VerificationFailed: with what is wrong.
        ReadersDisagree: which reader would show what wrongly.
        DecoderCrashed, DecoderHung, DecoderOutOfMemory: what became of FFmpeg.
    """

    def check(condition: bool, what: str) -> None:
        if not condition:
            raise VerificationFailed(f"{change.path}: {what} in the changed copy; left as it is, please report this")

    check(os.fstat(new.fileno()).st_size == change.size_after, "the length is wrong")
    try:
        before, after = parse(original), parse(new)
        holes = _joined(before.holes)
        for splice in change.splices:
            inside = any(start <= splice.start and splice.stop <= stop for start, stop in holes)
            check(inside, f"bytes {splice.start} to {splice.stop} are no tag's")
        check(_same_outside(original.fileno(), new.fileno(), change.splices, change.identity.size), "the audio differs")
        check(_fields(after, after.tags) == _fields(before, change.tags), "a field differs")
        check(after.opaque == before.opaque, "codec data differ")
        before.check_moved(after, change.splices)
        values = read_tags(new)
    except (BrokenTag, NotTaggable) as error:
        reason = str(error).replace(os.fsdecode(new.name), change.path)
        raise VerificationFailed(f"{change.path}: the changed copy cannot be read ({reason}); left as it is") from error
    check(values.genres == change.values.genres, f"mutagen reads the genre {list(values.genres)}")
    check(dict(values.provenance) == dict(change.values.provenance), "mutagen reads another provenance")
    # An undo takes fields away that we had brought, and gives back the bytes of before with whatever readers made of
    # them then: of a cut file, whose last packet our tag filled up, FFmpeg hears another sound again.
    if change.is_undo:
        return
    try:
        was, is_now = look(original, new, before, change.splices)
    except TrackError as error:
        raise type(error)(f"{change.path}: FFmpeg was to look at the changed copy: {error}; left as it is") from error
    if what := disagreement(was, is_now, change.values.genres):
        raise ReadersDisagree(f"{change.path}: in the changed copy {what}; left as it is")


def _joined(holes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Holes that touch, as one; they are ascending."""
    result = list(holes[:1])
    for start, stop in holes[1:]:
        first, last = result[-1]
        result[-1:] = [(first, max(last, stop))] if start <= last else [(first, last), (start, stop)]
    return result


def _fields(container: Container, tags: Sequence[Tag]) -> list[tuple[str, list[bytes]]]:
    """Every field of every tag that is there, as bytes."""
    return [(tag.dialect, [field.raw for field in tag.fields]) for tag in tags if tag.exists]


def _same_outside(old: int, new: int, splices: Sequence[Splice], size: int) -> bool:
    """Whether everything that no splice touches is the same, byte for byte."""
    left, right = bytearray(_BLOCK), bytearray(_BLOCK)
    at = moved = 0
    for splice in [*splices, Splice(size, size, b"")]:
        while at < splice.start:
            count = min(_BLOCK, splice.start - at)
            a, b = memoryview(left)[:count], memoryview(right)[:count]
            if os.preadv(old, [a], at) != count or os.preadv(new, [b], at + moved) != count:
                return False
            if (left != right) if count == _BLOCK else (bytes(a) != bytes(b)):
                return False
            at += count
        moved += len(splice.data) - (splice.stop - splice.start)
        at = splice.stop
    return True


def temporary_name() -> str:
    """A new name for the copy that is made beside a file. `tag` passes over names that begin like this."""
    return f".genrebeam-{secrets.token_hex(10)}.tmp"


_TEMPORARY = re.compile(r"\.genrebeam-[0-9a-f]{20}\.tmp")


def remove_leftover(path: str, temporary: str) -> bool:
    """Delete the copy that a killed run left beside a file; whether there was one.

    A journal may come from anybody: a name that `temporary_name` would not make is never deleted.
    """
    if not _TEMPORARY.fullmatch(temporary):
        return False
    try:
        Path(path).with_name(temporary).unlink()
    except OSError:
        return False
    return True
