"""What FFmpeg shows of files and hears in them. Runs in a child process (features/child.py); opinion.py asks it.

A file may be looked at without a stretch in its middle: FFmpeg finds the next packet by itself, and reading them all
would take most of the time. Imports nothing that the child does not need.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from genrebeam.features.ffmpeg import open_sound
from genrebeam.features.filling import sought
from genrebeam.pipelines.tags.sniff import is_id3v1

_WHOLE_BYTES = 1 << 20  # of smaller files all packets are compared, of others those at both ends, beside the tags
_FIRST_PACKETS, _LAST_PACKETS, _LAST_S = 24, 12, 1
_END_BYTES = 1 << 16  # kept at either end of a stretch that is left out
_PROBE_BYTES = 1 << 17  # for what a stream's header leaves open; of a WAV FFmpeg would look at 5 MB for other codecs


def looking() -> Callable[[Any], Iterator[Any]]:
    """The child's work: a list of (path, name, start, stop) to a list of what `look` returns."""
    return lambda files: iter([[look(*file) for file in files]])


def look(path: str, name: str, start: int, stop: int) -> tuple[dict[str, str], str | None]:
    """Metadata by lower-case key, of streams as "stream 0/title", and a digest of packets: empty where
    there are none, None where FFmpeg cannot open the file.

    Args:
        name: FFmpeg looks at it too, so the changed copy has to bear the name of its original.
        start, stop: bytes to leave out, none where they are the same.
    """
    with open(path, "rb", buffering=0) as raw:
        size = os.fstat(raw.fileno()).st_size
        tail = os.pread(raw.fileno(), 131, max(0, size - 131))
        lies = tail.startswith(b"APETAGEX")  # taken for ID3v1 by FFmpeg
        file = _Without(raw.fileno(), size, start, stop, name)
        try:
            container = open_sound(file, probe_bytes=_PROBE_BYTES)  # type: ignore[arg-type]
        except Exception:  # FFmpeg's errors are of many classes
            return {}, None
        with container:
            shown = {} if lies else {key.lower(): value for key, value in container.metadata.items()}
            for stream in container.streams:
                shown |= {f"stream {stream.index}/{key.lower()}": value for key, value in stream.metadata.items()}
            return shown, _sound(container, file.size, tail[-128:] if is_id3v1(tail) else b"")


class _Without:
    """A file without its bytes [start, stop), under another name, for FFmpeg."""

    def __init__(self, fd: int, size: int, start: int, stop: int, name: str) -> None:
        self.name, self.size = name, size - (stop - start)
        self._fd, self._start, self._skip, self._at = fd, start, stop - start, 0

    def read(self, count: int = -1) -> bytes:
        count = min(count if count >= 0 else self.size, self.size - self._at)
        if self._at < self._start < self._at + count:
            count = self._start - self._at
        data = os.pread(self._fd, max(0, count), self._at + (self._skip if self._at >= self._start else 0))
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = max(0, sought(offset, whence, at=self._at, size=self.size))
        return self._at

    def tell(self) -> int:
        return self._at


def _sound(container: Any, size: int, id3v1: bytes) -> str:
    packets = _packets(container, id3v1)
    if size > _WHOLE_BYTES:
        packets = itertools.chain(itertools.islice(packets, _FIRST_PACKETS), _last_packets(container, id3v1))
    digest, heard = hashlib.sha1(usedforsecurity=False), False
    for stream, data in packets:
        heard = True
        digest.update(b"%d %d " % (stream, memoryview(data).nbytes))
        digest.update(data)
    return digest.hexdigest() if heard else ""


def _last_packets(container: Any, id3v1: bytes) -> Iterator[tuple[int, Any]]:
    if container.duration:
        try:
            container.seek(max(0, container.duration - _LAST_S * 1_000_000))
        except Exception:
            return
        yield from collections.deque(_packets(container, id3v1), _LAST_PACKETS)


def _packets(container: Any, id3v1: bytes) -> Iterator[tuple[int, Any]]:
    """Stream and bytes of packets, without an ID3v1 tag that FFmpeg takes for sound (FLAC)."""
    held = None
    try:
        for packet in container.demux():
            if packet.size:
                if held:
                    yield held.stream_index, held
                held = packet
    except Exception:  # the end of what can be read
        pass
    if held and container.format.name != "ape":  # FFmpeg takes the tags behind Monkey's Audio for its last packet
        data = bytes(held)
        yield held.stream_index, data.removesuffix(id3v1)


def middle(untouched: Iterable[tuple[int, int]], keep: int = _END_BYTES) -> tuple[int, int]:
    """The longest of some stretches without `keep` bytes at both of its ends; (0, 0) where nothing is left."""
    start, stop = max(untouched, key=lambda stretch: stretch[1] - stretch[0], default=(0, 0))
    return (start + keep, stop - keep) if stop - start > 2 * keep else (0, 0)
