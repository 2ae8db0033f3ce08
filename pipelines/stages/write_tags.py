"""Tags into files, as Beam sees it: a thin DoFn over apply/batch.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.metrics import Metrics

from genrebeam.pipelines.apply.batch import work_batch
from genrebeam.pipelines.apply.options import ApplyRun
from genrebeam.pipelines.apply.plan import TagJob, TagResult
from genrebeam.pipelines.engine.progress import end_with_engine
from genrebeam.pipelines.tags.policy import Outcome

NAMESPACE = "apply"  # of the counters: one for each outcome, and one for each class of errors


class WriteTags(beam.DoFn):
    """Batches of `TagJob` -> `TagResult`. A bundle that is retried finds its files written, and says `same` of them."""

    def __init__(self, run: ApplyRun, progress_path: str | None = None) -> None:
        self._run, self._progress_path = run, progress_path

    def setup(self) -> None:
        end_with_engine(self._progress_path)

    def process(self, batch: Sequence[TagJob]) -> Iterator[TagResult]:
        for done in work_batch(batch, self._run):
            name = f"error:{done.error}" if done.outcome is Outcome.FAILED else done.outcome.value
            Metrics.counter(NAMESPACE, name).inc()
            yield done
