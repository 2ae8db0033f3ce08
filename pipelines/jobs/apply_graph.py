"""Applying results on a Beam runner, for catalogs on a file system that all workers mount."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from features.errors import UsageError
from pipelines import graph
from pipelines.dataset import journal
from pipelines.dataset.ledger import REJECTS_DIR
from pipelines.jobs.apply import (
    BATCH,
    ApplyOptions,
    ApplyReport,
    Done,
    Task,
    Wanted,
    apply_results,
    new_task,
    results_to_write,
    wanted_from_row,
    work_batch,
)
from pipelines.jobs.tag import output_folder
from pipelines.tags.policy import Outcome

_NAMESPACE = "apply"


class WriteTags(beam.DoFn):
    """Batches of `Wanted` -> `Done`. A bundle that is retried finds its files written, and says `same` of them."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def process(self, batch: Sequence[Wanted]) -> Iterator[Done]:
        for done in work_batch(batch, self._task):
            name = f"error:{done.error}" if done.outcome is Outcome.FAILED else done.outcome.value
            Metrics.counter(_NAMESPACE, name).inc()
            yield done


def apply_tags(pipeline: beam.Pipeline, plan: str, task: Task) -> beam.PCollection[Done]:
    """Write tags into the files of a plan, a Parquet file of `results_to_write` rows."""
    return (
        pipeline
        | "Read the plan" >> beam.io.ReadFromParquet(plan)
        | "As wanted tags" >> beam.Map(wanted_from_row).with_output_types(Wanted)
        | "Spread files over workers" >> beam.Reshuffle()
        | "In journal batches" >> beam.BatchElements(min_batch_size=BATCH, max_batch_size=BATCH)
        | "Write tags" >> beam.ParDo(WriteTags(task)).with_output_types(Done)
    )


def apply_on_runner(output_dir: Path, options: ApplyOptions, flags: Sequence[str], *, console: Console) -> ApplyReport:
    """`pipelines.jobs.apply.apply_results` on any runner; a dry run needs none.

    Raises:
        UsageError: as `apply_results`, and without --yes: a runner asks nobody.
    """
    if options.dry_run:
        return apply_results(output_dir, options, console=console)
    if not options.yes:
        raise UsageError("--runner writes without asking: look with --dry-run first, then add --yes")
    task = new_task(output_dir, options)
    report = ApplyReport(task.run_id, task.started_at.isoformat(timespec="seconds"))
    summary: dict[str, Any] = {"started_at": report.started_at, "runner": list(flags)}
    with output_folder(output_dir), journal.run(task.output_dir, task.run_id, summary):
        plan = task.output_dir / journal.JOURNAL_DIR / f".{task.run_id}.plan.partial"
        journal.write_durably(results_to_write(output_dir), plan)
        with beam.Pipeline(options=PipelineOptions(list(flags))) as pipeline:
            done = apply_tags(pipeline, str(plan), task)
            rejections = (
                done
                | "Failures" >> beam.Filter(lambda one: one.outcome is Outcome.FAILED)
                | "As rejections" >> beam.Map(lambda one: one.rejection)
            )
            prefix = str(task.output_dir / REJECTS_DIR / f"{task.run_id}-apply")
            graph.write_rejects(rejections, prefix, task.run_id)
        plan.unlink(missing_ok=True)
        _count(report, pipeline.result)
        summary |= {"outcomes": dict(report.outcomes), "errors": dict(report.errors)}
    return report


def _count(report: ApplyReport, result: beam.runners.runner.PipelineResult) -> None:
    for counter in result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))["counters"]:
        name = counter.key.metric.name
        if name.startswith("error:"):
            report.errors[name.removeprefix("error:")] += counter.committed
            report.outcomes[Outcome.FAILED.value] += counter.committed
        else:
            report.outcomes[name] += counter.committed
