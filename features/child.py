"""A child process with limits for work on files that is not trusted: C libraries crash, hang and balloon.

It answers one request after the other. What it dies of costs that request: the parent raises a TrackError and starts
another child for the next one. A child that is alone ends, because its input does. It imports what its work needs.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import select
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from genrebeam.features import errors
from genrebeam.features.filling import Fill

_HEADER = struct.Struct("<cI")  # kind of message, bytes of payload
_PART, _ANSWER, _ERROR, _FILL = b"P", b"A", b"E", b"F"
# The child ends itself when it hangs (SIGALRM, which also works when the parent is gone). The parent waits
# this much longer, for a child that cannot even be killed: one stuck in a dead network mount.
_GRACE_S = 10.0

_replies: IO[bytes]  # in the child


class Child:
    """One child process, started when it is first needed; for one thread at a time.

    Args:
        work: "module:name" of a function from `setup` to a function from a request to an iterator. That yields any
            number of bytes and at last the answer. Requests and answers are JSON.
        setup: keyword arguments, JSON.
        stall_s: seconds it may stay without yielding anything.
        memory_bytes: address space it may use.
    """

    def __init__(self, work: str, setup: Mapping[str, Any], *, stall_s: float, memory_bytes: int) -> None:
        self._arguments = {"work": work, "setup": setup, "stall_s": stall_s, "memory_bytes": memory_bytes}
        self._stall_s = stall_s
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it now, so that its imports run beside other work; raises DecoderCrashed where it cannot be."""
        if self._process is not None:
            return
        root = Path(__file__).parents[2]  # where the package genrebeam lies; links are not followed
        # One thread of linear algebra: there is one child per worker, and one worker per core.
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "genrebeam.features.child", json.dumps(self._arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # libmpg123 writes a line per damaged frame
                cwd=root,
                env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])},
            )
        except OSError as error:
            raise errors.DecoderCrashed(f"the decoder cannot be started ({error.strerror})") from error

    def ask(self, request: Any, fill: Fill | None = None) -> tuple[bytearray, Any]:
        """All bytes that the work yields for a request, and its answer.

        Args:
            fill: what the function `fill` of this module does in the child, done here.

        Raises:
            TrackError: what the work raises, and DecoderCrashed, DecoderHung or DecoderOutOfMemory for what became of
                the child.
        """
        self.start()
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        parts = bytearray()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            while True:
                kind, size = _HEADER.unpack(self._read(process.stdout, _HEADER.size))
                payload = self._read(process.stdout, size)
                if kind == _PART:
                    parts += payload
                elif kind == _ANSWER:
                    return parts, json.loads(payload)
                elif kind == _FILL:
                    process.stdin.write(json.dumps(_filled(fill, *json.loads(payload))).encode() + b"\n")
                    process.stdin.flush()
                else:
                    name, message = json.loads(payload)
                    raise getattr(errors, name, errors.DecodeFailed)(message)
        except (EOFError, BrokenPipeError):
            raise self._obituary(process) from None
        except TimeoutError:
            self.close()
            raise errors.DecoderHung(f"no sign of life from the decoder for {self._stall_s + _GRACE_S:g} s") from None

    def close(self) -> None:
        """End it. The next `ask` starts another."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            try:
                if stream is not None:
                    stream.close()
            except OSError:
                pass  # an unsent request in the buffer of a pipe that nobody reads any more
        try:
            process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            pass  # stuck in the kernel; it goes when the kernel lets it

    def _read(self, stream: IO[bytes], size: int) -> bytearray:
        """Exactly `size` bytes. Raises EOFError where the child is gone, TimeoutError where it is mute."""
        data, done = bytearray(size), 0
        view = memoryview(data)
        while done < size:
            if not select.select([stream], [], [], self._stall_s + _GRACE_S)[0]:
                raise TimeoutError
            count = os.readv(stream.fileno(), [view[done:]])
            if count == 0:
                raise EOFError
            done += count
        return data

    def _obituary(self, process: subprocess.Popen[bytes]) -> errors.TrackError:
        try:
            code = process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            code = 0
        self.close()
        if code == -signal.SIGALRM:
            return errors.DecoderHung(f"the decoder delivered nothing for {self._stall_s:g} s")
        if code < 0:
            return errors.DecoderCrashed(f"the decoder died of {signal.Signals(-code).name}")
        return errors.DecoderCrashed(f"the decoder ended unasked with exit code {code}")


def named(function: str) -> Callable[..., Any]:
    """What "module:name" says."""
    module, name = function.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _filled(fill: Fill | None, start: int, stop: int) -> list[str]:
    """What the child is told: nothing, or the error that it shall raise."""
    assert fill is not None
    try:
        fill(start, stop)
    except errors.TrackError as error:
        return [type(error).__name__, str(error)]
    return []


def fill(start: int, stop: int) -> None:
    """In the child: have the parent complete the file that it asks about, from one offset up to another.

    The child is not to know where files are, nor how to get at them. Raises TrackError.
    """
    timer = signal.setitimer(signal.ITIMER_REAL, 0)  # a slow store is no hanging decoder; it has time limits of its own
    _send(_FILL, json.dumps([start, stop]).encode())
    _replies.flush()
    reply = json.loads(sys.stdin.buffer.readline())
    signal.setitimer(signal.ITIMER_REAL, timer[0])
    if reply:
        name, message = reply
        raise getattr(errors, name)(message)


def _send(kind: bytes, payload: bytes) -> None:
    _replies.write(_HEADER.pack(kind, len(payload)))
    _replies.write(payload)


def main() -> None:
    """The child: answer requests on standard input with messages on standard output until the input ends."""
    arguments = json.loads(sys.argv[1])
    stall_s, memory_bytes = arguments["stall_s"], arguments["memory_bytes"]
    answer = named(arguments["work"])(**arguments["setup"])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Whatever a C library prints must not end up between the messages.
    global _replies
    _replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    for line in sys.stdin.buffer:
        try:
            signal.setitimer(signal.ITIMER_REAL, stall_s)
            for item in answer(json.loads(line)):
                if isinstance(item, bytes):
                    _send(_PART, item)
                else:
                    _send(_ANSWER, json.dumps(item).encode())
                signal.setitimer(signal.ITIMER_REAL, stall_s)
        except errors.TrackError as error:
            _send(_ERROR, json.dumps([type(error).__name__, str(error)]).encode())
        except MemoryError:
            message = f"decoding needs more than {memory_bytes >> 20} MiB"
            _send(_ERROR, json.dumps([errors.DecoderOutOfMemory.__name__, message]).encode())
        except BrokenPipeError:
            return
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            _send(_ERROR, json.dumps([errors.DecodeFailed.__name__, message]).encode())
        signal.setitimer(signal.ITIMER_REAL, 0)
        _replies.flush()


if __name__ == "__main__":
    from genrebeam.features import child  # under its own name, as the work will find it

    child.main()
