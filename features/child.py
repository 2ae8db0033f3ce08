"""A child process with limits for work on files that is not trusted: C libraries crash, hang and balloon.

It answers one request after the other. If it dies, the request is tried once more in a new child; if that one dies
too, the parent raises a TrackError. When the parent ends, the child's standard input closes, and the child ends. It
imports what its work needs.

A child that has not answered is never asked again, and each message bears the number of its request, so no request gets
the answer to another one.
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
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from genrebeam.features import errors
from genrebeam.features.filling import Fill

_HEADER = struct.Struct("<cII")  # kind of message, number of the request, bytes of payload
_READY, _PART, _ANSWER, _ERROR, _FILL = b"R", b"P", b"A", b"E", b"F"
_START_S = 120.0  # for imports on a busy machine, from a slow disk
# The child ends itself when it hangs (SIGALRM, which also works when the parent is gone). The parent waits
# this much longer, for a child that cannot even be killed: one stuck in a dead network mount.
_GRACE_S = 10.0
_IDLE_SHARE = 0.05  # of the time limit: who uses less of the processor in its second half waits for something
# No bug in a decoder ends in these.
_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU}

_replies: IO[bytes]  # in the child
_request = 0  # in the child: the number of what it is asked


class _Process(subprocess.Popen[bytes]):
    """A running child. `is_ready` once it has reported so; `is_closed` when `Child.close` has ended it."""

    is_ready = False
    is_closed = False
    used_s: float | None = None  # seconds of processor time, noted when half of the time to wait has passed


class _Lost(Exception):
    """The child is gone, or of no more use; `error` is what that means for the request."""

    def __init__(self, error: errors.TrackError) -> None:
        self.error = error


class Child:
    """One child process, started when it is first needed. Threads take turns; a fork starts a child of its own.

    Args:
        work: "module:name" of a factory. It is called with `setup` and returns a function, which takes a request and
            yields any number of bytes objects and then the answer. Requests and answers are JSON.
        setup: keyword arguments of the factory, JSON.
        stall_s: seconds it may stay without yielding anything.
        memory_bytes: address space it may use.
    """

    def __init__(self, work: str, setup: Mapping[str, Any], *, stall_s: float, memory_bytes: int) -> None:
        self._arguments = {"work": work, "setup": setup, "stall_s": stall_s, "memory_bytes": memory_bytes}
        self._stall_s = stall_s
        self._lock = threading.RLock()
        self._process: _Process | None = None  # one that owes no answer
        self._asked: _Process | None = None  # the one that was asked last
        self._number = 0  # of the last request
        _children.add(self)

    def start(self) -> None:
        """Start it now, so that its imports run beside other work; raises DecoderUnavailable where it cannot be."""
        with self._lock:
            if self._process is None:
                self._process = self._spawn()

    def ask(self, request: Any, fill: Fill | None = None) -> tuple[bytearray, Any]:
        """All bytes that the work yields for a request, and its answer. What ends the child gets a second one.

        Args:
            fill: what the function `fill` of this module does in the child, done here.

        Raises:
            TrackError: what the work raises; and, where it happens to a second child too, DecoderCrashed, DecoderHung
                or DecoderOutOfMemory; or DecoderKilled, DecoderStalled or NotEnoughMemory, after which a later run may
                succeed.
            DecoderUnavailable: no child can be started.
        """
        with self._lock:
            try:
                return self._converse(request, fill)
            except _Lost:
                pass
            try:
                return self._converse(request, fill)
            except _Lost as lost:
                raise lost.error from None

    def close(self) -> None:
        """End it, whatever it does. The next `ask` starts another."""
        for process in (self._process, self._asked):
            if process is not None:
                process.is_closed = True
                process.kill()
        with self._lock:
            process, self._process = self._process, None
            if process is not None:
                _end(process)

    def forget(self) -> None:
        """After a fork: leave the child to the process that has started it."""
        self._lock = threading.RLock()  # another thread may hold the old one, and is not there any more
        for process in (self._process, self._asked):
            if process is not None:
                _close_pipes(process)
                process.returncode = 0  # nobody is to wait for it here
        self._process = self._asked = None

    def _converse(self, request: Any, fill: Fill | None) -> tuple[bytearray, Any]:
        """Ask one child. It is out of reach until it has answered: what comes between, if only Ctrl-C, discards it."""
        process = self._ready()
        self._number += 1
        try:
            parts, answer, error = self._listen(process, request, fill)
        except (EOFError, BrokenPipeError):
            lost = self._obituary(process)
            _end(process)
            if process.is_closed:
                raise lost from None
            raise _Lost(lost) from None
        except TimeoutError:
            lost = self._hung(process, f"no sign of life from the decoder for {self._stall_s + _GRACE_S:g} s")
            _end(process)
            raise _Lost(lost) from None
        except BaseException:
            _end(process)
            raise
        if isinstance(error, errors.DecoderOutOfMemory | errors.NotEnoughMemory):
            _end(process)
            raise _Lost(error)
        self._process, spare = process, self._process  # started by a signal handler that asked in between
        if spare is not None:
            _end(spare)
        if error is not None:
            raise error
        return parts, answer

    def _listen(
        self, process: _Process, request: Any, fill: Fill | None
    ) -> tuple[bytearray, Any, errors.GenrebeamError | None]:
        """What it yields, its answer, and its error in place of one."""
        _write(process, [self._number, request])
        parts = bytearray()
        while True:
            kind, number, payload = self._message(process, self._stall_s)
            if number != self._number:
                raise RuntimeError(f"answer {number} to request {self._number}")
            if kind == _PART:
                parts += payload
            elif kind == _ANSWER:
                return parts, json.loads(payload), None
            elif kind == _FILL:
                _write(process, _filled(fill, *json.loads(payload)))
            else:
                return parts, None, _named_error(*json.loads(payload))

    def _spawn(self) -> _Process:
        root = Path(__file__).parents[2]  # where the package genrebeam lies; links are not followed
        # One thread of linear algebra: there is one child per worker, and one worker per core.
        one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        try:
            return _Process(
                [sys.executable, "-m", "genrebeam.features.child", json.dumps(self._arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,  # until it is ready: why it cannot be
                bufsize=0,
                cwd=root,
                env={**os.environ, **one_thread, "PYTHONPATH": os.pathsep.join([str(root), *filter(None, sys.path)])},
            )
        except OSError as error:
            raise _unavailable(error.strerror or str(error)) from error

    def _ready(self) -> _Process:
        """The child, taken out of reach, when it is ready; a second one where the first does not come up."""
        reason = ""
        for _ in range(2):
            self.start()
            process, self._process = self._process, None
            assert process is not None and process.stderr is not None
            self._asked = process
            if process.is_ready:
                return process
            try:
                kind, _, payload = self._message(process, _START_S)
                if kind == _READY:
                    process.is_ready = True
                    process.stderr.close()
                    return process
                reason = payload.decode()
            except EOFError:
                last_words = process.stderr.read().decode(errors="replace").split("\n")
                reason = next(filter(None, reversed(last_words)), "") or str(self._obituary(process))
            except TimeoutError:
                reason = f"no sign of life for {_START_S:g} s"
            except BaseException:
                _end(process)
                raise
            _end(process)
        raise _unavailable(reason)

    def _message(self, process: _Process, timeout_s: float) -> tuple[bytes, int, bytearray]:
        kind, number, size = _HEADER.unpack(_read(process, _HEADER.size, timeout_s))
        return kind, number, _read(process, size, timeout_s)

    def _obituary(self, process: _Process) -> errors.TrackError:
        """What it means that a child ended unasked."""
        hung = self._hung(process, f"the decoder delivered nothing for {self._stall_s:g} s")
        try:
            code = process.wait(timeout=_GRACE_S)
        except subprocess.TimeoutExpired:
            code = 0
        if process.is_closed:
            return errors.DecoderKilled("the decoder was closed while it heard this file")
        if code == -signal.SIGALRM:
            return hung
        if -code in _FROM_OUTSIDE:
            return errors.DecoderKilled(
                f"the decoder was ended from outside ({signal.Signals(-code).name}): by the system for want of memory, "
                "or by somebody"
            )
        if code < 0:
            return errors.DecoderCrashed(f"the decoder died of {signal.Signals(-code).name}")
        return errors.DecoderCrashed(f"the decoder ended unasked with exit code {code}")

    def _hung(self, process: _Process, what: str) -> errors.TrackError:
        """Whether a child that is mute has worked or waited. Where that cannot be told, it has worked."""
        before, after = process.used_s, _used_s(process.pid)
        if before is not None and after is not None and after - before < _IDLE_SHARE * self._stall_s:
            return errors.DecoderStalled(f"{what}, and waited for the file: does its disk or network answer?")
        return errors.DecoderHung(what)


_children: weakref.WeakSet[Child] = weakref.WeakSet()


def _forget_all() -> None:
    for child in list(_children):
        child.forget()


os.register_at_fork(after_in_child=_forget_all)  # two processes must not talk to one child


def _unavailable(reason: str) -> errors.DecoderUnavailable:
    return errors.DecoderUnavailable(
        f"no file can be decoded, because the process for it cannot be started: {reason}; look at the limits of memory "
        "and processes (ulimit -a), or try `genrebeam doctor`"
    )


def _named_error(name: str, message: str) -> errors.GenrebeamError:
    found: errors.GenrebeamError = getattr(errors, name, errors.DecodeFailed)(message)
    return found


def _write(process: _Process, message: Any) -> None:
    assert process.stdin is not None
    data = memoryview(json.dumps(message).encode() + b"\n")
    while data:
        data = data[process.stdin.write(data) :]  # a pipe may take less than it is given


def _read(process: _Process, size: int, timeout_s: float) -> bytearray:
    """Exactly `size` bytes. Raises EOFError where the child is gone, TimeoutError where it is mute."""
    assert process.stdout is not None
    stream = process.stdout.fileno()
    data, done = bytearray(size), 0
    view = memoryview(data)
    while done < size:
        if not _is_readable(stream, timeout_s / 2):
            process.used_s = _used_s(process.pid)
            if not _is_readable(stream, timeout_s / 2 + _GRACE_S):
                raise TimeoutError
        count = os.readv(stream, [view[done:]])
        if count == 0:
            raise EOFError
        done += count
    return data


def _is_readable(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()  # `select` knows no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(1000 * timeout_s))


def _used_s(pid: int) -> float | None:
    """Processor time of a process, which may have ended and not been waited for, in seconds; None if nobody knows."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime, stime


def _end(process: _Process) -> None:
    process.kill()
    _close_pipes(process)
    try:
        process.wait(timeout=1)
    except subprocess.TimeoutExpired:
        pass  # stuck in the kernel; it goes when the kernel lets it


def _close_pipes(process: _Process) -> None:
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def named(function: str) -> Callable[..., Any]:
    """What "module:name" says."""
    module, name = function.split(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _filled(fill: Fill | None, start: int, stop: int) -> list[str]:
    """The reply to the child: nothing, or the error that it is to raise."""
    assert fill is not None
    try:
        fill(start, stop)
    except errors.TrackError as error:
        return [type(error).__name__, str(error)]
    except OSError as error:
        return [errors.UnreadableFile.__name__, str(errors.unreadable(error))]
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
        raise _named_error(*reply)


def _send(kind: bytes, payload: bytes) -> None:
    _replies.write(_HEADER.pack(kind, _request, len(payload)))
    _replies.write(payload)


def _send_error(error: type[errors.GenrebeamError], message: str) -> None:
    _send(_ERROR, json.dumps([error.__name__, message]).encode())


def main() -> None:
    """The child: answer requests on standard input with messages on standard output until the input ends."""
    arguments = json.loads(sys.argv[1])
    stall_s, memory_bytes = arguments["stall_s"], arguments["memory_bytes"]
    # Whatever a library prints must not end up between the messages.
    global _replies, _request
    _replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer = named(arguments["work"])(**arguments["setup"])
    has_all_memory = _limit(resource.RLIMIT_AS, memory_bytes) == memory_bytes
    _limit(resource.RLIMIT_CORE, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    nowhere = os.open(os.devnull, os.O_WRONLY)  # libmpg123 writes a line per damaged frame
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    _send(_READY, b"")
    _replies.flush()
    for line in sys.stdin.buffer:
        try:
            _request, request = json.loads(line)
            signal.setitimer(signal.ITIMER_REAL, stall_s)
            for item in answer(request):
                if isinstance(item, bytes):
                    _send(_PART, item)
                else:
                    _send(_ANSWER, json.dumps(item).encode())
                signal.setitimer(signal.ITIMER_REAL, stall_s)
        except errors.TrackError as error:
            _send_error(type(error), str(error))
        except MemoryError:
            if has_all_memory:
                _send_error(errors.DecoderOutOfMemory, f"decoding needs more than {memory_bytes >> 20} MiB")
            else:
                _send_error(errors.NotEnoughMemory, "there was not enough memory (free some, or see ulimit -v)")
        except BrokenPipeError:
            return  # nobody listens any more
        except ImportError as error:  # a library of a decoder: it would be missing for each file
            _send_error(errors.DecoderUnavailable, f"a decoder cannot be loaded: {error}")
        except OSError as error:
            _send_error(errors.UnreadableFile, str(errors.unreadable(error)))
        except Exception as error:
            _send_error(errors.DecodeFailed, f"{type(error).__name__}: {error}")
        signal.setitimer(signal.ITIMER_REAL, 0)
        _replies.flush()


def _limit(what: int, value: int) -> int | None:
    """Lower a limit of this process, as far as the system has it; the value that holds then, None where none does."""
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(what, (value, value))
    except (ValueError, OSError):  # macOS knows RLIMIT_AS and refuses it
        return None
    return value


if __name__ == "__main__":
    from genrebeam.features import child  # under its own name, as the work will find it

    child.main()
