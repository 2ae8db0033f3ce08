"""What `genrebeam tag` does: find the tracks, skip those that are done, process the rest, report."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import itertools
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console

from genrebeam.features.errors import GenrebeamError, Unreachable, UsageError, is_transient
from genrebeam.features.schema import Rejection, Track
from genrebeam.model.bundle import Bundle
from genrebeam.model.decision import MEAN
from genrebeam.model.predictor import runtime_of
from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.inputs import bundle_at
from genrebeam.pipelines.dataset.keys import Keys, keys_of
from genrebeam.pipelines.dataset.ledger import Ledger
from genrebeam.pipelines.dataset.plan import (
    TrackFile,
    as_table,
    has_begun,
    plan_name,
    remove_old_plans,
    remove_plan,
    write_plan,
)
from genrebeam.pipelines.dataset.presence import Placed, bury, carry, place, placing, renamed
from genrebeam.pipelines.engine.attempts import last_line, run_until_done
from genrebeam.pipelines.engine.launcher import run_apart
from genrebeam.pipelines.engine.progress import Watcher, unfinished, watched
from genrebeam.pipelines.engine.runner import usable_cores
from genrebeam.pipelines.engine.waiting import wait_for
from genrebeam.pipelines.jobs.rescore import rescore
from genrebeam.pipelines.jobs.tag_options import TagOptions
from genrebeam.pipelines.jobs.tag_report import TagReport, describe, versions
from genrebeam.pipelines.library.discover import find_all, roots_of
from genrebeam.pipelines.library.found import track_of
from genrebeam.pipelines.library.reach import why_unreachable
from genrebeam.pipelines.storage.folders import folder_at, is_local
from genrebeam.pipelines.storage.places import local_path

if TYPE_CHECKING:
    import apache_beam as beam
_NOT_AUDIO = "NotAudio"
_FOUND = 50_000  # files that were found, in memory at a time
_SAMPLE = 20  # files that are opened to see whether any can be, and failures after which that is done again
FEATURES_SUFFIX = ".tfrecord"


@dataclasses.dataclass(frozen=True)
class Job:
    """What the graph of a run has to know.

    Attributes:
        plan: name of the plan in the dataset's folder.
        files: files of stored features, instead of a plan.
        progress: where workers on this machine say what they have in hand; None on a cluster.
    """

    options: TagOptions
    bundle: Bundle
    dataset: Dataset
    run_id: str
    plan: str = ""
    files: tuple[str, ...] = ()
    progress: Path | None = None


def tag(options: TagOptions, console: Console) -> TagReport:
    """Tag everything that is not done yet. What is written stays, whatever happens later.

    With `options.dry_run` nothing is analysed and nothing written: the report counts what would be.

    Raises:
        GenrebeamError: the input, the output folder or the model cannot be used, or the engine fails.
    """
    options.engine.check(may_be_template=True)
    started = dt.datetime.now(dt.timezone.utc)
    bundle = bundle_at(options.model)
    dataset = Dataset.at(options.output)
    if options.dry_run:
        with _scratch() as scratch:
            return _Run(options, bundle, dataset, started, scratch).dry_run()
    with contextlib.ExitStack() as stack:
        stack.enter_context(dataset.lock())
        remove_old_plans(dataset.folder)
        if options.features_output:
            stack.enter_context(folder_at(options.features_output).lock())
        run = _Run(options, bundle, dataset, started, stack.enter_context(_scratch()))
        stack.enter_context(run.reported())
        run.go(console)
    return run.report


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="genrebeam-") as folder:
        yield Path(folder)


class _Run:
    """One run of `tag`: what it knows, and what it does one after the other."""

    def __init__(
        self, options: TagOptions, bundle: Bundle, dataset: Dataset, started: dt.datetime, scratch: Path
    ) -> None:
        self._options, self._bundle, self._dataset, self._started = options, bundle, dataset, started
        run_id = dataset.new_run_id(started)
        self.report = TagReport(run_id, started.isoformat(timespec="seconds"))
        self.report.config = describe(options, bundle)
        self.report.versions = versions()
        self._scratch = scratch
        plan = plan_name(run_id, is_local=options.engine.is_local)
        self._job = Job(options, bundle, dataset, run_id, plan=plan)
        self._todo = TrackFile(scratch / "todo.parquet")
        self._watcher: Watcher | None = None
        self._sample: list[str] = []
        self._placed: dict[str, Placed] = {}  # tracks that are elsewhere now, or back
        self._known: dict[str, str] = {}  # tracks that are scored by their embedding, and where they are
        self._unlisted = ""  # why some file or folder could not even be looked at
        self._failures, self._alarm, self._seen = 0, _SAMPLE, set[str]()

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """Keep run-*.json up to date whatever happens, once there is something to process."""
        report = self.report
        try:
            yield
            report.status = "template" if self._options.engine.writes_template else "finished"
        except BaseException as error:
            report.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            report.reason = str(error) if isinstance(error, GenrebeamError) else report.reason
            raise
        finally:
            if report.found:
                report.sum_up(self._dataset)
                self._save()

    def dry_run(self) -> TagReport:
        """Count what a run would do; write nothing."""
        report = self.report
        for table in self._pending():
            report.to_analyse += len(table)
        if not report.found:
            raise self._nothing_there()
        report.status = "dry run"
        return report

    def _nothing_there(self) -> UsageError:
        return UsageError(f"{', '.join(self._options.libraries)}: nothing in it; is this the right folder?")

    def go(self, console: Console) -> None:
        options, report = self._options, self.report
        is_drawn = console.is_terminal and not options.quiet
        if options.features_input:
            files = _feature_files(options.features_input, self._bundle, report)
            self._job = dataclasses.replace(self._job, files=tuple(files))
        else:
            with console.status("Looking for music") if is_drawn else contextlib.nullcontext():
                TrackFile.write(self._todo.path, self._pending())
        if not (report.found or self._job.files):
            raise self._nothing_there()
        self._save()
        self._found_rejects = report.rejected
        total = report.found - report.done_before - report.not_audio - report.rejected
        with contextlib.ExitStack() as stack:
            if options.engine.is_local and not options.quiet:
                self._watcher = stack.enter_context(Watcher(total=total, console=console))
            if not self._job.files and (len(self._todo) or not self._sample):
                self._check_reach()
            run_until_done(self)
        report.sum_up(self._dataset)
        if report.will_retry >= (_SAMPLE if report.tagged else 1):
            self._check_reach()
        for kind in (RESULTS_DIR, REJECTS_DIR):
            self._dataset.merge(kind)
        if options.features_input:
            report.sum_up(self._dataset)
            report.found = max(report.found, report.tagged)

    def _pending(self) -> Iterator[pa.Table]:
        """The tracks to analyse. What was turned down without being opened is written to the rejects here, and so is
        which tracks are gone, renamed or back."""
        options, report = self._options, self.report
        ledger = Ledger.read(self._dataset)
        leave_out = [Path(f) for f in (options.output, options.features_output) if f and local_path(f) is not None]
        found = find_all(
            options.libraries, leave_out=leave_out, beam_flags=options.engine.flags, exclude=options.exclude
        )
        listed, unlisted = [np.empty(0, np.int64)], set[str]()
        fresh = [as_table([])]
        while part := list(itertools.islice(found, _FOUND)):
            options.engine.check_places(("the track", track_of(one).uri) for one in part)  # of a manifest
            report.found += len(part)
            rejections = [one for one in part if isinstance(one, Rejection)]
            self._turn_down(rejections, ledger)
            listed.append(keys_of(track_of(one).track_id for one in part))
            unlisted |= {one.track.track_id for one in rejections if is_transient(one.error)}
            tracks = [one for one in part if isinstance(one, Track)]
            self._sample += [one.uri for one in tracks[:: len(tracks) // _SAMPLE + 1]]
            table = as_table(tracks)
            may_be_renamed = pa.array(ledger.may_be_renamed(table))
            fresh.append(table.filter(may_be_renamed))
            yield self._sort_out(ledger, table.filter(pc.invert(may_be_renamed)))
        roots = roots_of(options.libraries)
        yield from self._look_for_lost(ledger, np.concatenate(listed), roots, unlisted, pa.concat_tables(fresh))
        if options.dry_run:
            report.from_embeddings = len(self._known)
            return
        place(self._dataset, placing(report.run_id), self._placed)
        if self._known:
            known, top_k = self._known, options.top_k
            report.from_embeddings = rescore(self._dataset, self._bundle, report.run_id, known, top_k=top_k)

    def _sort_out(self, ledger: Ledger, table: pa.Table) -> pa.Table:
        """What of some tracks has to be heard; what else has to be written of the others is noted."""
        settled = self._settled(ledger, table)
        self.report.done_before += int(settled.sum())
        moved = table.filter(pa.array(settled & ledger.have_moved(table)))
        names, uris = moved["track_id"].to_pylist(), moved["uri"].to_pylist()
        self._placed |= zip(names, map(Placed, names, uris), strict=True)
        can_be_scored = self._can_be_scored(ledger, table) & ~settled
        some = table.filter(pa.array(can_be_scored))
        self._known |= zip(some["track_id"].to_pylist(), some["uri"].to_pylist(), strict=True)
        return table.filter(pa.array(~settled & ~can_be_scored))

    def _look_for_lost(
        self, ledger: Ledger, listed: Keys, roots: set[str], unlisted: set[str], fresh: pa.Table
    ) -> Iterator[pa.Table]:
        """Follow renamed tracks, and write down which are gone; what of `fresh` has to be heard."""
        dataset, report, run_id = self._dataset, self.report, placing(self.report.run_id)
        absent = ledger.lost(listed, roots, even_all=True)
        renames = renamed(dataset, absent, (Track(**row) for row in fresh.to_pylist()), gone=ledger.gone)
        report.renamed = len(renames)
        lost = ledger.lost(np.append(listed, keys_of(renames)), roots)
        lost = np.unique(np.append(lost, keys_of(renames)))
        if self._options.dry_run:
            report.gone = len(lost) - len(renames)
        else:
            carry(dataset, run_id, renames)
            report.gone, report.unlisted = bury(dataset, run_id, lost, renames, unlisted)
        new = as_table(renames.values())
        under_old_names = (dataclasses.replace(track, track_id=old) for old, track in renames.items())
        settled = self._settled(ledger, as_table(under_old_names))
        report.done_before += int(settled.sum())
        yield new.filter(pa.array(~settled))
        yield self._sort_out(ledger, fresh.filter(pc.invert(pc.is_in(fresh["uri"], value_set=new["uri"]))))

    def _turn_down(self, rejections: list[Rejection], ledger: Ledger) -> None:
        report = self.report
        tracks = as_table(one.track for one in rejections)
        known = (ledger.are_rejected(tracks) | ledger.are_unread(tracks)).tolist()  # one row tells of a dangling link
        fresh = [one for one, is_known in zip(rejections, known, strict=True) if not is_known]
        for one in rejections:
            if is_transient(one.error):
                self._unlisted = one.message
        companions, fresh_companions = (sum(one.error == _NOT_AUDIO for one in some) for some in (rejections, fresh))
        report.not_audio += companions
        report.rejected += len(fresh) - fresh_companions
        report.done_before += len(rejections) - companions - (len(fresh) - fresh_companions)
        if fresh and not self._options.dry_run:
            self._dataset.add_rejects(report.run_id, fresh)

    def _settled(self, ledger: Ledger, tracks: pa.Table) -> NDArray[np.bool_]:
        options = self._options
        done = ledger.are_tagged(tracks, *self._how())
        return done if options.retry_rejects else done | ledger.are_rejected(tracks)

    def _how(self) -> tuple[str, str, float | None]:
        """The settings that a stored result must match to count as done: model, vote, coverage."""
        return self._bundle.fingerprint, self._options.vote, self._options.limits.coverage_s

    def _can_be_scored(self, ledger: Ledger, tracks: pa.Table) -> NDArray[np.bool_]:
        """Tracks whose stored embedding is enough to score the learned words, without decoding."""
        options, space = self._options, self._bundle.embedding
        if not self._bundle.has_head or space is None or options.vote != MEAN or options.features_output:
            return np.zeros(len(tracks), bool)
        return ledger.have_embedding(tracks, space.trunk, options.limits.coverage_s)

    def _left(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """What of some tracks neither an earlier run nor this one has settled."""
        ledger = Ledger.read(self._dataset)
        rejects = self._dataset.tables(REJECTS_DIR, ["track_id"], run_id=self.report.run_id)
        rejected = pa.array(
            itertools.chain.from_iterable(table["track_id"].to_pylist() for table in rejects), pa.string()
        )
        for table in tables:
            settled = pa.array(self._settled(ledger, table))
            yield table.filter(pc.invert(pc.or_(settled, pc.is_in(table["track_id"], value_set=rejected))))

    def launch(self, *, last: Collection[str], without: Collection[str]) -> None:
        tables: Iterable[pa.Table] = self._todo.tables()
        if self.report.launches:
            tables = self._left(tables)
        if last or without:
            held_back = pa.array([*last, *without], pa.string())
            tables = (table.filter(pc.invert(pc.is_in(table["track_id"], value_set=held_back))) for table in tables)
            tables = itertools.chain(tables, (self._tracks([one]) for one in last))
        self._launch(tables, 0 if self._job.files else len(self._todo))

    def launch_alone(self, item: str) -> None:
        self._launch([self._tracks([item])], 1)

    def _tracks(self, track_ids: Collection[str]) -> pa.Table:
        some = pa.array(track_ids, pa.string())
        return pa.concat_tables(
            table.filter(pc.is_in(table["track_id"], value_set=some)) for table in self._todo.tables()
        )

    def _launch(self, tables: Iterable[pa.Table], count: int) -> None:
        options, report, job, folder = self._options, self.report, self._job, self._dataset.folder
        if not job.files and not write_plan(folder, job.plan, tables, count):
            return
        report.launches += 1
        try:
            if not options.engine.is_local:
                run_pipeline(job)
                return
            progress = self._scratch / f"progress-{report.launches}"
            progress.touch()
            if not job.files:  # a worker that has nothing to do takes seconds to start
                engine = dataclasses.replace(options.engine, workers=max(1, min(options.engine.workers, count)))
                options = dataclasses.replace(options, engine=engine)
            self._job = job = dataclasses.replace(job, options=options, progress=progress)
            if self._watcher:
                self._follow(self._watcher, progress)
            run_apart(
                _run_watched,
                job,
                look=self._end_if_unreachable,
                forks=options.engine.forks(runtime_of(job.bundle), "genrebeam.pipelines.graph"),
            )
        finally:
            if not options.engine.writes_template:  # those who run the template read the plan
                remove_plan(folder, job.plan)

    def _end_if_unreachable(self) -> None:
        """While workers work: end the run where many tracks could not be read, and none can."""
        for _, table in self._dataset.named_tables(REJECTS_DIR, ["error"], run_id=self.report.run_id, seen=self._seen):
            self._failures += sum(map(is_transient, table["error"].to_pylist()))
        if self._failures >= self._alarm:
            self._alarm = 2 * self._failures
            self._check_reach()

    def _check_reach(self) -> None:
        """Raises Unreachable where not one of some files from all over the library can be read."""
        sample = self._sample[:: max(1, len(self._sample) // _SAMPLE)]
        if why := why_unreachable(sample) if sample else self._unlisted:
            raise Unreachable(
                f"{', '.join(self._options.libraries)}: none of its files can be read ({why}); is the drive mounted, "
                "does the store answer, are the credentials valid? What was tagged stays; run the same command then"
            )

    def _follow(self, watcher: Watcher, progress: Path) -> None:
        report = self.report
        report.sum_up(self._dataset)
        rejected = report.rejected + report.companions - self._found_rejects  # the rest is not part of the bar
        watcher.follow(progress, completed=report.tagged + rejected, audio_s=report.audio_s, rejected=rejected)

    def written(self) -> int:
        return sum(len(self._dataset.files(kind, run_id=self.report.run_id)) for kind in (RESULTS_DIR, REJECTS_DIR))

    def left_of(self, items: Collection[str]) -> set[str]:
        return {track_id for table in self._left([self._tracks(items)]) for track_id in table["track_id"].to_pylist()}

    def unfinished(self) -> Collection[str]:
        return unfinished(self._job.progress) if self._job.progress and not self._job.files else ()

    def give_up_on(self, item: str, error: Exception) -> None:
        (row,) = self._tracks([item]).to_pylist()
        message = f"{row['uri']}: workers died or failed again and again on this track ({last_line(error)})"
        self._dataset.add_rejects(self.report.run_id, [Rejection(Track(**row), "extract", "WorkerLost", message)])

    def _save(self) -> None:
        report = self.report
        report.wall_s = round((dt.datetime.now(dt.timezone.utc) - self._started).total_seconds(), 3)
        self._dataset.save_report(report.run_id, dataclasses.asdict(report))


def _feature_files(place: str, bundle: Bundle, report: TagReport) -> list[str]:
    """The files of stored features, checked to be of this model's front end before anything starts."""
    from genrebeam.features.records import count_records, first_record, parse

    folder = folder_at(place)
    names = [name for name in folder.names() if name.endswith(FEATURES_SUFFIX)]
    if not names:
        raise UsageError(f"{place}: no *{FEATURES_SUFFIX} in it; give a folder that --features-output has filled")
    for name in names:
        with folder.open(name) as file:
            record = first_record(file)
            if record is not None:
                parse(record, bundle.front_end)
            if is_local(folder):  # from a bucket that would read all of it
                report.found += count_records(file, f"{folder.uri}/{name}")
    return [f"{folder.uri}/{name}" for name in names]


def _run_watched(job: Job) -> None:
    assert job.progress
    with watched(job.progress):
        run_pipeline(job)


def run_pipeline(job: Job) -> None:
    """Run the graph and wait for it."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    options = job.options
    pipeline = beam.Pipeline(options=PipelineOptions(options.engine.beam_flags()))
    build(pipeline, job)
    result = pipeline.run()
    if not options.engine.writes_template:
        begun = (lambda: True) if job.files else (lambda: has_begun(job.dataset.folder, job.plan))
        wait_for(result, begun, options.engine.worker_timeout_s)


def build(pipeline: beam.Pipeline, job: Job) -> None:
    """The graph of `tag`."""
    from genrebeam.pipelines import graph
    from genrebeam.pipelines.stages.extract import ExtractConfig, ParseFeatures
    from genrebeam.pipelines.stages.predict import LoadBundle, TagConfig

    options, bundle, dataset, run_id = job.options, job.bundle, job.dataset, job.run_id
    watch = str(job.progress) if job.progress else None
    threads = max(1, usable_cores() // options.engine.workers) if options.engine.is_local else 1
    load = LoadBundle(options.model, options.batch_size, threads)
    config = TagConfig(bundle.model_id, bundle.fingerprint, run_id, options.vote, options.top_k, watch)
    every_s = options.write_every_s
    if job.files:
        parse = ParseFeatures(bundle.front_end, str(dataset), bundle.fingerprint, options.vote)
        features = graph.read_features(pipeline, job.files, parse)
    else:
        tracks = graph.read_tracks(pipeline, str(dataset), job.plan)
        features, rejections = graph.extract_features(tracks, ExtractConfig(bundle.front_end, options.limits, watch))
        graph.write_rejects(rejections, dataset, run_id, every_s)
        if options.features_output:
            features = graph.write_features(features, folder_at(options.features_output).uri, run_id, every_s)
    graph.write_results(graph.tag_tracks(features, load, config), dataset, run_id, every_s)
