"""What this project asks of an object store, and the state of an object; S3 is in s3.py, Google's in gcs.py."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Iterator, Mapping
from typing import IO, Any, Protocol

from genrebeam.features.errors import UsageError, how_to_install

BLOCK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Seen:
    """An object in one state.

    Attributes:
        mtime_us: when this content was written, microseconds since 1970. S3 has whole seconds.
        state: what a conditional put names: the ETag, or generation and metageneration.
        kept: what else belongs to the object, such as its content type and metadata; a put has to repeat it.
    """

    size: int
    mtime_us: int
    state: str
    kept: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class StoreError(Exception):
    """A store refused, or did not answer. `status` is that of HTTP, 0 where there was no answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Store(Protocol):
    """An object store. Every method raises StoreError; `name` is that of an object within its bucket."""

    def list(self, bucket: str, prefix: str) -> Iterator[tuple[str, int, int]]:
        """Name, size and mtime_us of each object whose name begins with `prefix`."""

    def stat(self, bucket: str, name: str) -> Seen: ...

    def read(self, bucket: str, name: str, file: IO[bytes]) -> Seen:
        """Append one consistent state of the object to the file."""

    def read_range(self, bucket: str, name: str, start: int, stop: int) -> bytes: ...

    def put(self, bucket: str, name: str, path: str, over: Seen) -> Seen | None:
        """Replace the object by a file if its state is still `over`; returns its new state, None where that is
        unknown."""

    def write(self, bucket: str, name: str, path: str, if_absent: bool) -> None:
        """Make the object of a file, replacing what is there unless `if_absent`; status 412 where it is there."""

    def delete(self, bucket: str, name: str) -> None: ...


def needs(uri: str, package: str, extra: str) -> UsageError:
    return UsageError(f"{uri} needs the package {package}: {how_to_install(extra)}")


def microseconds(time: dt.datetime) -> int:
    return (time - dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)) // dt.timedelta(microseconds=1)
