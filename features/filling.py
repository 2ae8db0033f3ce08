"""Files as decoders and tag readers get them: they remember what could not be read.

`StoredFile` is a file of this machine; `FillingFile` a local copy of something far away, with holes where nobody has
looked.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

_BLOCK_BYTES = 1 << 16
# A reader that goes on is given as much again as it has read in a row: a decoder that cannot seek reads everything, and
# a hundred requests take longer than their bytes.
_LARGEST_BYTES = 1 << 24

Fill = Callable[[int, int], None]


def sought(offset: int, whence: int, *, at: int, size: int) -> int:
    """Where `seek(offset, whence)` leads in a file of `size` bytes that is read at `at`; may be below 0."""
    return offset + {os.SEEK_SET: 0, os.SEEK_CUR: at, os.SEEK_END: size}[whence]


class StoredFile(io.FileIO):
    """A file that keeps the error with which the system refused to read it, as `failed`.

    A parser takes that for the end of the file, or for damage, which it is not.
    """

    failed: Exception | None = None

    def readinto(self, buffer: Any) -> int | None:  # type: ignore[override]
        with self._noting():
            return super().readinto(buffer)

    def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]
        with self._noting():
            return super().read(-1 if size is None else size)

    def readall(self) -> bytes | None:  # type: ignore[override]
        with self._noting():
            return super().readall()

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.failed = error
            raise


def buffered(stored: StoredFile) -> BinaryIO:
    """It, read in blocks as `open` does; closing one closes both."""
    return io.BufferedReader(stored)  # type: ignore[type-var]


class FillingFile(io.RawIOBase):
    """Reads a file that `fill` completes; what `fill` raises is kept as `failed`, as in a StoredFile.

    Args:
        path: of a file that has its full length, and nothing in it yet.
        fill: writes the bytes from one offset up to another into that file; what it raises, reading raises.
    """

    def __init__(self, path: str, fill: Fill) -> None:
        self.name = path
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._fill = fill
        self._size = os.fstat(self._file.fileno()).st_size
        self._at = 0
        self._there = bytearray(-(-self._size // _BLOCK_BYTES))  # 1 for each block that is no hole
        self._row_from = self._row_to = 0  # the last fills that followed each other, as offsets
        self.failed: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        to = sought(offset, whence, at=self._at, size=self._size)
        if to < 0:
            raise ValueError(f"seek to {to}, before the file begins")
        self._at = to
        return to

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        for block in range(self._at // _BLOCK_BYTES, -(-stop // _BLOCK_BYTES)):
            if not self._there[block]:
                self._fill_from(block, stop)
        self._file.seek(self._at)
        count = self._file.readinto(buffer) or 0
        self._at += count
        return count

    def whole(self) -> str:
        """Complete the file; its path."""
        if not all(self._there):
            self._complete(0, self._size)
            self._there[:] = b"\1" * len(self._there)
            self.failed = None
        return self.name

    def close(self) -> None:
        self._file.close()
        super().close()

    def _fill_from(self, block: int, stop: int) -> None:
        start = block * _BLOCK_BYTES
        if start != self._row_to:
            self._row_from = start
        end = min(max(stop, 2 * start - self._row_from), start + _LARGEST_BYTES)
        last = block
        while last < len(self._there) and not self._there[last] and last * _BLOCK_BYTES < end:
            last += 1
        self._row_to = min(last * _BLOCK_BYTES, self._size)
        self._complete(start, self._row_to)
        self._there[block:last] = b"\1" * (last - block)

    def _complete(self, start: int, stop: int) -> None:
        try:
            self._fill(start, stop)
        except Exception as error:
            self.failed = error
            raise
