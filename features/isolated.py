"""features/extract.py in a child process with limits (features/child.py), because decoders are not trusted.

A decoder that crashes, hangs or eats the memory costs one track. Levels cross the boundary block by block, so
neither side holds a long track twice. The child never imports TensorFlow or Beam.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.child import Child, fill, named
from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import unreadable
from genrebeam.features.filling import Fill, FillingFile, StoredFile, buffered
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.schema import AudioInfo, FileTags


class IsolatedExtractor:
    """Extracts one track after the other in a child process; starts the child when it is first needed.

    Args:
        front_end: as for `genrebeam.features.extract.extract`.
        limits: likewise; `stall_s` and `memory_bytes` are enforced here.
        function: the generator that does the work, as "module:name" with the signature of
            `genrebeam.features.extract.stream_log_mel`; tests put misbehaving ones here.
        tag_reader: what reads a file's own tags, as "module:name" of a function from an open binary file to FileTags:
            a parser to be trusted as little as a decoder.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        limits: ExtractLimits | None = None,
        *,
        function: str = "genrebeam.features.extract:stream_log_mel",
        tag_reader: str | None = None,
    ) -> None:
        self._front_end = front_end
        limits = limits or ExtractLimits()
        setup = {
            "front_end": front_end.to_dict(),
            "limits": dataclasses.asdict(limits),
            "function": function,
            "tag_reader": tag_reader,
        }
        work = "genrebeam.features.isolated:hearing"
        self._child = Child(work, setup, stall_s=limits.stall_s, memory_bytes=limits.memory_bytes)

    def start(self) -> None:
        """Start the child now, so that its imports run beside other work."""
        self._child.start()

    def extract(
        self, path: str | os.PathLike[str], fill: Fill | None = None
    ) -> tuple[NDArray[np.uint8], AudioInfo, FileTags]:
        """A file's log-Mel, uint8 [frames, mel_bands], what it was decoded from, and what its tags say.

        Args:
            fill: `fill(start, stop)` fetches these bytes into the file, which has its length and no content yet.

        Raises:
            TrackError: what `genrebeam.features.extract.extract` raises, and what became of two children in a row, as
                `genrebeam.features.child.Child.ask` raises it.
            DecoderUnavailable: no child can be started, whatever the file.
        """
        levels, (audio, tags) = self._child.ask([os.path.abspath(path), fill is not None], fill)
        log_mel = np.frombuffer(levels, np.uint8).reshape(-1, self._front_end.mel_bands)
        audio["stretches_s"] = tuple(audio["stretches_s"])  # JSON has made a list of it
        return log_mel, AudioInfo(**audio), FileTags.from_dict(tags)

    def close(self) -> None:
        """End the child. The next `extract` starts another."""
        self._child.close()


def hearing(
    front_end: dict[str, Any], limits: dict[str, Any], function: str, tag_reader: str | None
) -> Callable[[tuple[str, bool]], Iterator[Any]]:
    """The child's work: a path to its levels as bytes, and the AudioInfo and the FileTags as the answer.

    A request is (path, is_filling). If `is_filling`, the parent fetches bytes of the file when they are first read.
    """
    stream_log_mel = named(function)
    read_tags = named(tag_reader) if tag_reader else lambda file: FileTags()

    def hear(request: tuple[str, bool]) -> Iterator[Any]:
        path, is_filling = request
        with FillingFile(path, fill) if is_filling else contextlib.nullcontext() as filling:
            for item in stream_log_mel(filling or path, FrontEnd.from_dict(front_end), ExtractLimits(**limits)):
                if isinstance(item, AudioInfo):
                    yield [dataclasses.asdict(item), dataclasses.asdict(_tags(read_tags, filling or path))]
                elif item.size:
                    yield item.tobytes()

    return hear


def _tags(read_tags: Callable[[Any], FileTags], source: str | FillingFile) -> FileTags:
    """The tags, or none where the tags are damaged: the music was heard all the same.

    Raises:
        TrackError: the system or the store does not give the file any more.
    """
    try:
        stored = StoredFile(source) if isinstance(source, str) else source
    except OSError as error:
        raise unreadable(error) from error
    with stored if isinstance(stored, FillingFile) else buffered(stored) as file:
        try:
            return read_tags(file)
        except MemoryError:
            raise
        except Exception:
            return FileTags()
        finally:
            if stored.failed is not None:
                raise unreadable(stored.failed) if isinstance(stored.failed, OSError) else stored.failed
