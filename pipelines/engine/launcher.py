"""The local engine in a process of its own, so that whatever dies in it is an error and never a hang.

Beam's local runner waits for ever for a worker that died before it had connected, and works off the halves of the
others before it notices one that died later. Here its process ends as soon as one of its workers has.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, TypeVar, cast

from genrebeam.features.absent import absent
from genrebeam.features.errors import GenrebeamError

if TYPE_CHECKING:
    from genrebeam.pipelines.engine.forks import Forks

_LONGEST_MESSAGE = 20_000
_LOOK_S = 5.0  # between two calls of `look`
Result = TypeVar("Result")


def run_apart(
    act: Callable[..., Result],
    *arguments: Any,
    forks: Forks | None = None,
    look: Callable[[], object] = lambda: None,
) -> Result:
    """Call a function in a fresh process and return its result. The function and its arguments have to be picklable.

    Its temporary files, and those of all that it starts, lie in a folder that goes with it: processes that are killed,
    and forks at any time, leave behind what they would have removed at their exit (TensorFlow's generated code).

    Args:
        forks: the workers that Beam is to find there; None to leave them to Beam.
        look: called every few seconds meanwhile; what it raises ends the process.

    Raises:
        GenrebeamError: as `act` raised it.
        RuntimeError: `act` raised something else, or the process or one of its workers died.
    """
    with tempfile.TemporaryDirectory(prefix="genrebeam-", ignore_cleanup_errors=True) as scratch:
        return _run_apart(scratch, act, arguments, forks, look)


def _run_apart(
    scratch: str,
    act: Callable[..., Result],
    arguments: tuple[Any, ...],
    forks: Forks | None,
    look: Callable[[], object],
) -> Result:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_act, args=(theirs, scratch, forks, act, arguments))
    process.start()
    theirs.close()
    try:
        try:
            while not ours.poll(_LOOK_S):
                look()
            result, failure = cast(tuple[Result, Exception | None], ours.recv())
        except EOFError:
            process.join()
            raise RuntimeError(f"the engine's process ended with {process.exitcode}") from None
        if failure is not None:
            raise failure
        process.join()
        return result
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and nobody of its group is left
            os.killpg(cast(int, process.pid), signal.SIGKILL)
        process.kill()
        process.join()


def _act(
    answer: Connection, scratch: str, forks: Forks | None, act: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    os.setpgid(0, 0)  # a group of its own, with all the workers that it starts
    os.environ["TMPDIR"] = tempfile.tempdir = scratch
    threading.excepthook = lambda failed: _end_with_worker(answer, failed)
    result: Any = None
    failure: Exception | None = None
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(absent("pandas"))  # Beam and pyarrow import it wherever it is installed
            if forks is not None:
                from genrebeam.pipelines.engine.forks import workers_forked

                stack.enter_context(workers_forked(forks, answer))
            threading.Thread(target=_end_with_parent, args=(scratch,), daemon=True).start()
            result = act(*arguments)
    except GenrebeamError as error:
        failure = error
    except Exception as error:
        failure = RuntimeError(str(error)[-_LONGEST_MESSAGE:] or type(error).__name__)
    answer.send((result, failure))


def _end_with_parent(scratch: str) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    for worker in multiprocessing.active_children():
        worker.kill()  # before it wonders where its files are
    shutil.rmtree(scratch, ignore_errors=True)  # the parent would have done it
    os.killpg(0, signal.SIGKILL)


def _end_with_worker(answer: Connection, failed: threading.ExceptHookArgs) -> None:
    """Beam has a thread for each worker process, which fails with it."""
    threading.__excepthook__(failed)
    if failed.thread is not None and failed.thread.name == "run_worker":
        answer.send((None, RuntimeError(f"{failed.exc_value}")))
        os.killpg(0, signal.SIGKILL)
