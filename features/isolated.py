"""features/extract.py in a child process with limits, because decoders are not trusted.

A decoder that crashes, hangs or eats the memory costs one track: the child dies, the parent raises a
TrackError and starts another child for the next track. Levels cross the boundary block by block, so
neither side holds a long track twice. The child never imports TensorFlow or Beam.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from features import errors
from features.config import FrontEnd
from features.extract import ExtractLimits
from features.schema import AudioInfo

_HEADER = struct.Struct("<cI")  # kind of message, bytes of payload
_LEVELS, _INFO, _ERROR = b"L", b"I", b"E"
# The child ends itself when it hangs (SIGALRM, which also works when the parent is gone). The parent waits
# this much longer, for a child that cannot even be killed: one stuck in a dead network mount.
_GRACE_S = 10.0


class IsolatedExtractor:
    """Extracts one track after the other in a child process; starts the child when it is first needed.

    Args:
        front_end: as for `features.extract.extract`.
        limits: likewise; `stall_s` and `memory_bytes` are enforced here.
        function: the generator that does the work, as "module:name" with the signature of
            `features.extract.stream_log_mel`; tests put misbehaving ones here.
        tag_reader: what reads the genres in a file's own tags, as "module:name" of a function from path to
            strings: a parser to be trusted as little as a decoder.
    """

    def __init__(
        self,
        front_end: FrontEnd,
        limits: ExtractLimits | None = None,
        *,
        function: str = "features.extract:stream_log_mel",
        tag_reader: str | None = None,
    ) -> None:
        self._front_end = front_end
        self._limits = limits or ExtractLimits()
        self._function = function
        self._tag_reader = tag_reader
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the child now, so that its imports run beside other work."""
        if self._child is not None:
            return
        root = Path(__file__).resolve().parent.parent
        setup = {
            "front_end": self._front_end.to_dict(),
            "limits": dataclasses.asdict(self._limits),
            "function": self._function,
            "tag_reader": self._tag_reader,
        }
        # One thread of linear algebra: there is one child per worker, and one worker per core.
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "features.isolated", json.dumps(setup)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libmpg123 writes a line per damaged frame
            cwd=root,
            env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])},
        )

    def extract(self, path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], AudioInfo, tuple[str, ...]]:
        """A file's log-Mel, uint8 [frames, mel_bands], what it was decoded from, and the genres in its tags.

        Raises:
            TrackError: what `features.extract.extract` raises, and DecoderCrashed, DecoderHung or
                DecoderOutOfMemory for what became of the child.
        """
        self.start()
        child = self._child
        assert child is not None and child.stdin is not None and child.stdout is not None
        levels = bytearray()
        try:
            child.stdin.write(json.dumps(os.path.abspath(path)).encode() + b"\n")
            child.stdin.flush()
            while True:
                kind, size = _HEADER.unpack(self._read(child.stdout, _HEADER.size))
                payload = self._read(child.stdout, size)
                if kind == _LEVELS:
                    levels += payload
                elif kind == _INFO:
                    log_mel = np.frombuffer(levels, np.uint8).reshape(-1, self._front_end.mel_bands)
                    audio, genres = json.loads(payload)
                    return log_mel, AudioInfo(**audio), tuple(genres)
                else:
                    name, message = json.loads(payload)
                    raise getattr(errors, name, errors.DecodeFailed)(message)
        except (EOFError, BrokenPipeError):
            raise self._obituary(child) from None
        except TimeoutError:
            self.close()
            raise errors.DecoderHung(
                f"no sign of life from the decoder for {self._limits.stall_s + _GRACE_S:g} s"
            ) from None

    def close(self) -> None:
        """End the child. The next `extract` starts another."""
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        for stream in (child.stdin, child.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                pass  # an unsent request in the buffer of a pipe that nobody reads any more
        try:
            child.wait(timeout=1)
        except subprocess.TimeoutExpired:
            pass  # stuck in the kernel; it goes when the kernel lets it

    def _read(self, stream: IO[bytes], size: int) -> bytearray:
        """Exactly `size` bytes. Raises EOFError where the child is gone, TimeoutError where it is mute."""
        data, done = bytearray(size), 0
        view = memoryview(data)
        while done < size:
            if not select.select([stream], [], [], self._limits.stall_s + _GRACE_S)[0]:
                raise TimeoutError
            count = os.readv(stream.fileno(), [view[done:]])
            if count == 0:
                raise EOFError
            done += count
        return data

    def _obituary(self, child: subprocess.Popen[bytes]) -> errors.TrackError:
        try:
            code = child.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            code = 0
        self.close()
        if code == -signal.SIGALRM:
            return errors.DecoderHung(f"the decoder delivered nothing for {self._limits.stall_s:g} s")
        if code < 0:
            return errors.DecoderCrashed(f"the decoder died of {signal.Signals(-code).name}")
        return errors.DecoderCrashed(f"the decoder ended unasked with exit code {code}")


def _send(replies: IO[bytes], kind: bytes, payload: bytes) -> None:
    replies.write(_HEADER.pack(kind, len(payload)))
    replies.write(payload)


def _named(function: str) -> Callable[..., Any]:
    module, name = function.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _genres(read_genres: Callable[[str], Iterable[str]], path: str) -> list[str]:
    """Genres, or none where the tags cannot be read: the music was heard all the same."""
    try:
        return list(read_genres(path))
    except MemoryError:
        raise
    except Exception:
        return []


def main() -> None:
    """The child: answer paths on standard input with levels on standard output until the input ends."""
    setup = json.loads(sys.argv[1])
    front_end, limits = FrontEnd.from_dict(setup["front_end"]), ExtractLimits(**setup["limits"])
    stream_log_mel = _named(setup["function"])
    read_genres = _named(setup["tag_reader"]) if setup["tag_reader"] else lambda path: ()
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whatever a C library prints must not end up between the messages.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for line in sys.stdin.buffer:
        try:
            signal.setitimer(signal.ITIMER_REAL, limits.stall_s)
            for item in stream_log_mel(json.loads(line), front_end, limits):
                if isinstance(item, AudioInfo):
                    genres = _genres(read_genres, json.loads(line))
                    _send(replies, _INFO, json.dumps([dataclasses.asdict(item), genres]).encode())
                elif item.size:
                    _send(replies, _LEVELS, item.tobytes())
                signal.setitimer(signal.ITIMER_REAL, limits.stall_s)
        except errors.TrackError as error:
            _send(replies, _ERROR, json.dumps([type(error).__name__, str(error)]).encode())
        except MemoryError:
            message = f"decoding needs more than {limits.memory_bytes >> 20} MiB"
            _send(replies, _ERROR, json.dumps([errors.DecoderOutOfMemory.__name__, message]).encode())
        except BrokenPipeError:
            return
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            _send(replies, _ERROR, json.dumps([errors.DecodeFailed.__name__, message]).encode())
        signal.setitimer(signal.ITIMER_REAL, 0)
        replies.flush()


if __name__ == "__main__":
    main()
