"""Undo a change byte for byte: the bytes that it replaced, and a view of the file with them back in place."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from genrebeam.pipelines.tags.model import Container, Source, Splice

_LARGEST = 1 << 16  # most bytes of former content kept for one file; where more would be needed, only fields are kept
_ANCHOR_BYTES = 32  # fields of this size are looked for on both sides, so that no picture is kept for nothing


@dataclasses.dataclass(frozen=True)
class Former:
    """What stood at [start, stop) of the changed file before the change, and a digest of what stands there since."""

    start: int
    stop: int
    data: bytes
    digest: bytes


def former(source: Source, container: Container, splices: Sequence[Splice]) -> tuple[Former, ...] | None:
    """What is needed to take splices back from the file that they make; None where that is too much to keep."""
    others = (field.raw for tag in container.tags for field in tag.fields if not tag.is_ours(field))
    anchors = [raw for raw in others if len(raw) >= _ANCHOR_BYTES]
    result, moved, kept = [], 0, 0
    for splice in splices:
        old = source.read(splice.start, splice.stop)
        for at, before, after in _differences(old, splice.data, anchors):
            start = splice.start + moved + at
            result.append(Former(start, start + len(after), before, _digest(after)))
            kept += len(before)
        moved += len(splice.data) - len(old)
    return tuple(result) if kept <= _LARGEST else None


def restored(view: PatchedSource, formers: Sequence[Former], size: int) -> PatchedSource | None:
    """The file with a change taken back; None where it is not, in length and in these places, what the change made.

    Args:
        size: of the file that the change made.
    """
    if view.size != size or any(_digest(view.peek(f.start, f.stop)) != f.digest for f in formers):
        return None
    return view.with_splices([Splice(f.start, f.stop, f.data) for f in formers])


class PatchedSource(Source):
    """A file as it would be after some splices, without being written. A segment is a literal or a range of it."""

    def __init__(self, base: Source, segments: Sequence[tuple[int, int] | bytes] | None = None) -> None:
        self._base, self.name = base, base.name
        self._segments = list(segments if segments is not None else [(0, base.size)])
        self.size = sum(map(_length, self._segments))

    def peek(self, start: int, stop: int) -> bytes:
        parts = self._cut(max(start, 0), stop)
        return b"".join(part if isinstance(part, bytes) else self._base.peek(*part) for part in parts)

    def with_splices(self, splices: Sequence[Splice]) -> PatchedSource:
        """Ascending and disjoint, in places of this view."""
        segments: list[tuple[int, int] | bytes] = []
        at = 0
        for splice in splices:
            segments += [*self._cut(at, splice.start), splice.data]
            at = splice.stop
        return PatchedSource(self._base, [*segments, *self._cut(at, self.size)])

    def splices(self) -> list[Splice]:
        """What turns the file into this."""
        result, at, data = [], 0, b""
        for segment in [*self._segments, (self._base.size, self._base.size)]:
            if isinstance(segment, bytes):
                data += segment
            else:
                if data or segment[0] > at:
                    result.append(Splice(at, segment[0], data))
                at, data = segment[1], b""
        return result

    def _cut(self, start: int, stop: int) -> Iterator[tuple[int, int] | bytes]:
        at = 0
        for segment in self._segments:
            length = _length(segment)
            first, last = max(start - at, 0), min(stop - at, length)
            if first < last:
                yield segment[first:last] if isinstance(segment, bytes) else (segment[0] + first, segment[0] + last)
            at += length


def _length(segment: tuple[int, int] | bytes) -> int:
    return len(segment) if isinstance(segment, bytes) else segment[1] - segment[0]


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:16]


def _common(a: bytes, b: bytes) -> int:
    """Length of the longest common beginning."""
    length = min(len(a), len(b))
    differs = np.frombuffer(a, np.uint8, length) != np.frombuffer(b, np.uint8, length) if length else np.empty(0, bool)
    return int(differs.argmax()) if differs.any() else length


def _differences(old: bytes, new: bytes, anchors: Iterable[bytes]) -> Iterator[tuple[int, bytes, bytes]]:
    """Where two strings differ: position in the new one, and what stands there in the old and in the new one."""
    a = b = 0
    for anchor in [*anchors, None]:
        next_a = old.find(anchor, a) if anchor is not None else len(old)
        next_b = new.find(anchor, b) if anchor is not None else len(new)
        if next_a < 0 or next_b < 0:
            continue
        before, after = old[a:next_a], new[b:next_b]
        same = _common(before, after)
        end = _common(before[same:][::-1], after[same:][::-1])
        before, after = before[same : len(before) - end], after[same : len(after) - end]
        if before or after:
            yield b + same, before, after
        if anchor is not None:
            a, b = next_a + len(anchor), next_b + len(anchor)
