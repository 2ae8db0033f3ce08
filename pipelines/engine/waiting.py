"""Waiting for a runner elsewhere: hanging is an error."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.engine.attempts import EngineError

if TYPE_CHECKING:
    from apache_beam.runners.runner import PipelineResult

_POLL_S = 2.0
# What a worker says comes as the text of its traceback, wherever the runner puts that.
_MISTAKE = re.compile(rf"^\s*{UsageError.__module__}\.UsageError: (.+?)(?: \[while running .*)?$", re.MULTILINE)


def wait_for(result: PipelineResult, begun: Callable[[], bool], timeout_s: float) -> None:
    """Wait for a job to end, and for its first worker to begin no longer than `timeout_s`.

    Runners wait without end for a worker environment that does not come up: an image that cannot be pulled, a worker
    pool that nobody started, a wrong `python` in its PATH.

    Args:
        begun: whether any worker has begun with the work.

    Raises:
        EngineError: no worker came up in time; the job is cancelled.
        UsageError: a worker has said what a person has to mend, such as its versions: no other job will do better.
        Exception: whatever the runner says of a job that failed.
    """
    failure: list[BaseException] = []

    def wait() -> None:
        try:
            result.wait_until_finish()
        except BaseException as error:
            failure.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    deadline, has_begun = time.monotonic() + timeout_s, False
    while waiting.is_alive():
        waiting.join(_POLL_S)
        has_begun = has_begun or begun()
        if not has_begun and waiting.is_alive() and time.monotonic() > deadline:
            canceller = threading.Thread(target=_cancel, args=(result,), daemon=True)  # may hang likewise
            canceller.start()
            canceller.join(30)
            raise EngineError(
                f"no worker has begun within {timeout_s:g} s (--worker-timeout): look at the runner's own log, and at "
                "--environment_type, --environment_config and the image or worker pool that they name"
            )
    if failure:
        if mistakes := _MISTAKE.findall(str(failure[0])):
            raise UsageError(mistakes[-1]) from failure[0]
        raise failure[0]


def _cancel(result: PipelineResult) -> None:
    with contextlib.suppress(Exception):
        result.cancel()
