"""Applying results on a Beam runner."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from rich.console import Console

from genrebeam.features.errors import UsageError
from genrebeam.pipelines import graph
from genrebeam.pipelines.apply.options import ApplyOptions, ApplyRun
from genrebeam.pipelines.dataset import journal
from genrebeam.pipelines.dataset.ledger import Place
from genrebeam.pipelines.dataset.plan import has_begun, plan_name, remove_old_plans, remove_plan, write_plan
from genrebeam.pipelines.engine.launcher import run_apart
from genrebeam.pipelines.engine.progress import watched
from genrebeam.pipelines.engine.runner import Engine
from genrebeam.pipelines.engine.waiting import wait_for
from genrebeam.pipelines.jobs.apply import TO_WRITE, ApplyReport, apply_results, check_reach, new_run, results_to_write
from genrebeam.pipelines.stages.write_tags import NAMESPACE
from genrebeam.pipelines.tags.policy import Outcome


def apply_on_runner(place: Place, options: ApplyOptions, engine: Engine, *, console: Console) -> ApplyReport:
    """`genrebeam.pipelines.jobs.apply.apply_results` on any runner; a dry run needs none.

    Raises:
        UsageError: as `apply_results`, and without --yes: a runner asks nobody.
    """
    if options.dry_run:
        return apply_results(place, options, console=console)
    if not options.yes:
        raise UsageError("--runner writes without asking: look with --dry-run first, then add --yes")
    engine.check()
    run = new_run(place, options)
    dataset, run_id = run.dataset, run.run_id
    report = ApplyReport(run_id, run.started_at.isoformat(timespec="seconds"))
    summary: dict[str, Any] = {"started_at": report.started_at, "runner": engine.beam_flags()}
    plan = plan_name(run_id, is_local=engine.is_local)
    with dataset.lock(), journal.run(dataset, run_id, summary):
        remove_old_plans(dataset.folder)
        engine.check_places([("DIR", str(dataset))])
        total, rows = results_to_write(dataset, only_corrected=options.only_corrected)
        counts: dict[str, int] = {}
        try:
            if not write_plan(dataset.folder, plan, _reachable(rows, engine), total):
                pass  # nothing to do
            elif engine.is_local:
                with tempfile.NamedTemporaryFile(prefix="genrebeam-") as progress:
                    forks = engine.forks("genrebeam.pipelines.graph")
                    counts = run_apart(_run, engine, plan, run, progress.name, forks=forks)
            else:
                counts = _run(engine, plan, run)
        finally:
            remove_plan(dataset.folder, plan)
        for name, count in counts.items():
            if name.startswith("error:"):
                report.errors[name.removeprefix("error:")] += count
                report.outcomes[Outcome.FAILED.value] += count
            else:
                report.outcomes[name] += count
        summary |= {"outcomes": dict(report.outcomes), "errors": dict(report.errors)}
        check_reach(report, run)
    return report


def _reachable(rows: Iterator[dict[str, Any]], engine: Engine) -> Iterator[pa.Table]:
    """The rows in small tables; raises UsageError for a file that workers elsewhere cannot reach."""
    while some := list(itertools.islice(rows, 1000)):
        engine.check_places(("the file", row["uri"]) for row in some)
        yield pa.Table.from_pylist(some, TO_WRITE)


def _run(engine: Engine, plan: str, run: ApplyRun, progress_path: str | None = None) -> dict[str, int]:
    """Run the graph over a plan and wait for it; the counters of `WriteTags`."""
    dataset = run.dataset
    with watched(Path(progress_path)) if progress_path else contextlib.nullcontext():
        pipeline = beam.Pipeline(options=PipelineOptions(engine.beam_flags()))
        rejections = (
            graph.apply_tags(pipeline, str(dataset), plan, run, progress_path)
            | "Failures" >> beam.Filter(lambda one: one.outcome is Outcome.FAILED)
            | "As rejections" >> beam.Map(lambda one: one.rejection)
        )
        graph.write_rejects(rejections, dataset, run.run_id)
        result = pipeline.run()
        wait_for(result, lambda: has_begun(dataset.folder, plan), engine.worker_timeout_s)
    counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    return {counter.key.metric.name: counter.result for counter in counters}
