"""A stand-in for Dataflow: as much of its jobs API as Beam asks for (create, poll, metrics), over HTTP on this machine.

A job is fetched from where it was staged, and run by Beam's local engine in a process that knows the staged job and the
image's packages, and nothing else of whoever has sent it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from commandline import ROOT


class Dataflow:
    """The service; `jobs` are those that were sent."""

    def __init__(self) -> None:
        self.jobs: dict[str, tuple[dict[str, Any], subprocess.Popen[bytes]]] = {}
        self._said = tempfile.TemporaryDirectory()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        _, _, path = environ["PATH_INFO"].partition("/jobs")
        if environ["REQUEST_METHOD"] == "POST":
            answer = self.create(json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))))
        elif path.endswith("/messages"):
            answer = {}
        elif path.endswith("/metrics"):
            answer = {"metrics": self._metrics(path.split("/")[1])}
        else:
            answer = self._state(path.strip("/"))
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """Start a job, or what a template holds."""
        job_id = f"job-{len(self.jobs)}"
        staged = job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        command = [sys.executable, __file__, staged]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with Path(self._said.name, job_id).open("wb") as said:
            process = subprocess.Popen(command, cwd=tempfile.gettempdir(), env=environment, stdout=said)
        self.jobs[job_id] = (job, process)
        return self._state(job_id)

    def wait(self) -> None:
        for _, process in self.jobs.values():
            assert process.wait(300) == 0

    def _state(self, job_id: str) -> dict[str, Any]:
        job, process = self.jobs[job_id]
        code = process.poll()
        state = "RUNNING" if code is None else "FAILED" if code else "DONE"
        return {"id": job_id, "name": job["name"], "currentState": f"JOB_STATE_{state}"}

    def _metrics(self, job_id: str) -> list[dict[str, Any]]:
        """What the counters of a job stand at, each said twice: as it is now, and as far as that is final."""
        counters = json.loads(Path(self._said.name, job_id).read_bytes() or b"[]")
        return [
            {"name": {"origin": "user", "name": name, "context": {**kind, **where}}, "scalar": count}
            for name, where, count in counters
            for kind in ({}, {"tentative": "true"})
        ]


def run_staged(url: str) -> None:
    """Run a staged job, with Beam's own worker in place of the image that it names, and print its counters."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.portability.api import beam_runner_api_pb2
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner
    from google.cloud import storage

    bucket, _, name = url.removeprefix("gs://").partition("/")
    client = storage.Client.create_anonymous_client()
    job = beam_runner_api_pb2.Pipeline.FromString(client.bucket(bucket).blob(name).download_as_bytes())
    for environment in job.components.environments.values():
        environment.urn = "beam:env:embedded_python:v1"
        environment.payload = b""
    result = FnApiRunner().run_via_runner_api(job, PipelineOptions([]))
    result.wait_until_finish()
    counters = [(one.key, one.result) for one in result.metrics().query()["counters"]]
    told = [(key.metric.name, {"namespace": key.metric.namespace, "step": key.step}, n) for key, n in counters]
    print(json.dumps(told))


if __name__ == "__main__":
    code = 1
    try:
        run_staged(sys.argv[1])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)  # an interpreter with TensorFlow and gRPC in it was seen to hang in its last garbage collection
