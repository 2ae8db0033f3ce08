"""Local workers as forks of the engine, which has imported what they need: its memory and seconds are spent once.

Beam starts each of its local workers as a fresh interpreter, which then imports Beam and TensorFlow for itself: three
seconds of CPU and two hundred megabytes that all of them could share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

_WORKER = "apache_beam.runners.worker.sdk_worker_main"


@dataclasses.dataclass(frozen=True)
class Forks:
    """How many workers to fork, and the modules to import first. Importing them must start no thread that workers
    need."""

    workers: int
    imports: tuple[str, ...]


@contextlib.contextmanager
def workers_forked(forks: Forks, engines: Connection) -> Iterator[None]:
    """Fork workers now, before this process begins to work; Beam finds them waiting when it wants to start some.

    The threads that there are by then belong to OpenBLAS and jemalloc, which know forks and start them anew.

    Args:
        engines: file objects that only the engine may hold: a reader takes it for alive until the last holder has
            closed them.
    """
    for module in (_WORKER, *forks.imports):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what all share is not worth searching, which would copy it for each
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(forks.workers)]
    waiting: list[tuple[BaseProcess, Connection]] = []
    for theirs, ours in pipes:
        others = [end for pipe in pipes for end in pipe if end is not theirs]
        process = context.Process(target=_work, args=(theirs, [engines, *others]))
        process.start()
        waiting.append((process, ours))
    for theirs, _ in pipes:
        theirs.close()
    _hand_out(waiting)
    try:
        yield
    finally:
        for _, ours in waiting:
            ours.close()  # they end, having nothing to wait for


def _hand_out(waiting: list[tuple[BaseProcess, Connection]]) -> None:
    """Have Beam take its local workers from these, and start more in its own way if it wants more."""
    from apache_beam.portability import python_urns
    from apache_beam.portability.api import endpoints_pb2
    from apache_beam.runners.portability.fn_api_runner.worker_handlers import SubprocessSdkWorkerHandler, WorkerHandler
    from google.protobuf import json_format, text_format

    @WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
    class ForkedWorkerHandler(SubprocessSdkWorkerHandler):
        def start_worker(self) -> None:
            if not waiting:
                super().start_worker()
                return
            process, connection = waiting.pop()
            control = endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
            options = self.provision_info.provision_info.pipeline_options
            connection.send(
                {
                    "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(control),
                    "PIPELINE_OPTIONS": json_format.MessageToJson(options),
                    "WORKER_ID": self.worker_id,
                }
            )
            # Beam's name for such a thread: pipelines/engine/launcher.py knows by it what has ended.
            self.worker_thread = threading.Thread(name="run_worker", target=_wait, args=(process,))
            self.worker_thread.start()


def _wait(process: BaseProcess) -> None:
    process.join()
    if process.exitcode:
        raise RuntimeError(f"a worker process ended with {process.exitcode}")


def _work(orders: Connection, not_ours: list[Connection]) -> None:
    """A worker: waits for the environment that Beam gives a new process, then runs Beam's worker with it. It logs where
    the engine does.
    """
    for connection in not_ours:
        connection.close()
    try:
        environment = orders.recv()
    except EOFError:
        return  # the engine has closed the pipe: it needs no more workers
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger().handlers[0].setLevel(logging.WARNING)  # Beam makes its logger say all
    os.environ.update(environment)
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])
