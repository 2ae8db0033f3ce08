"""Local workers as forks of one process that has imported what they need: its memory and seconds are spent once.

Beam starts each of its local workers as a fresh interpreter, which then imports Beam and TensorFlow for itself: three
seconds of CPU and two hundred megabytes that all of them could share.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import threading
from collections.abc import Sequence
from multiprocessing import forkserver
from typing import Any

from apache_beam.portability import python_urns
from apache_beam.portability.api import endpoints_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from google.protobuf import json_format, text_format

_WORKER = "apache_beam.runners.worker.sdk_worker_main"


def fork_workers(imports: Sequence[str]) -> None:
    """From now on this process gets its workers as forks; the process that they are forks of is started now.

    Args:
        imports: modules to import beforehand. They must start no threads that they rely on.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_WORKER, *imports])
    forkserver.ensure_running()

    @WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)
    class ForkedWorkerHandler(GrpcWorkerHandler):
        """Beam's SubprocessSdkWorkerHandler with a fork. What workers log goes where the engine's does."""

        def __init__(self, command: bytes, *arguments: Any) -> None:
            super().__init__(*arguments)

        def start_worker(self) -> None:
            about = self.provision_info.provision_info
            environment = {
                "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
                    endpoints_pb2.ApiServiceDescriptor(url=self.control_address)
                ),
                "PIPELINE_OPTIONS": json_format.MessageToJson(about.pipeline_options),
                "WORKER_ID": self.worker_id,
            }
            self._process = context.Process(target=_work, args=(environment,))
            self._process.start()
            # The name is Beam's: pipelines/engine/launcher.py knows by it what has ended.
            self._thread = threading.Thread(name="run_worker", target=self._wait)
            self._thread.start()

        def stop_worker(self) -> None:
            self._thread.join()

        def _wait(self) -> None:
            self._process.join()
            if self._process.exitcode:
                raise RuntimeError(f"a worker process ended with {self._process.exitcode}")


def _work(environment: dict[str, str]) -> None:
    gc.freeze()  # what all workers share is not worth searching, which would copy it for each
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    logging.getLogger().handlers[0].setLevel(logging.WARNING)  # Beam makes its logger say all
    os.environ.update(environment)
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])
