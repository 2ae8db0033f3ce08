"""A job whose workers never come up ends with one line; one that works may take as long as it likes."""

import threading
import time

import pytest

from genrebeam.features.errors import UsageError
from genrebeam.pipelines.engine import waiting
from genrebeam.pipelines.engine.attempts import EngineError
from genrebeam.pipelines.engine.waiting import wait_for


class Job:
    def __init__(self, error=None):
        self.ended, self.error = threading.Event(), error

    def wait_until_finish(self):
        self.ended.wait(60)
        if self.error:
            raise self.error

    def cancel(self):
        self.ended.set()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(waiting, "_POLL_S", 0.01)


def test_a_worker_that_never_comes_up_is_an_error_and_the_job_is_cancelled():
    job = Job()
    with pytest.raises(EngineError, match=r"no worker has begun within 0\.1 s .*--environment_type"):
        wait_for(job, lambda: False, timeout_s=0.1)
    assert job.ended.is_set()


def test_a_job_that_has_begun_is_waited_for():
    job, answers = Job(), iter([False, True])
    threading.Timer(0.5, job.ended.set).start()
    began = time.monotonic()
    wait_for(job, lambda: next(answers), timeout_s=0.1)
    assert job.ended.is_set()
    assert time.monotonic() - began > 0.3  # longer than a job that has not begun would be given


def test_what_the_runner_says_of_a_failed_job_is_passed_on():
    job = Job(RuntimeError("Channel closed prematurely."))
    job.ended.set()
    with pytest.raises(RuntimeError, match="prematurely"):
        wait_for(job, lambda: False, timeout_s=5)


@pytest.mark.parametrize("step", ["", " [while running 'Name its parts-ptransform-12']"])
def test_what_a_person_has_to_mend_is_told_from_the_text_of_a_workers_traceback(step):
    said = (
        "java.lang.RuntimeException: Error received from SDK harness for instruction 2: Traceback",
        '  File "plan.py", line 42, in setup',
        "    raise UsageError(",
        f"genrebeam.features.errors.UsageError: this worker has Python 3.10, make it anew{step}",
        "\tat org.apache.beam.runners.fnexecution",
    )
    job = Job(RuntimeError("\n".join(said)))
    job.ended.set()
    with pytest.raises(UsageError) as raised:
        wait_for(job, lambda: True, timeout_s=5)
    assert str(raised.value) == "this worker has Python 3.10, make it anew"
