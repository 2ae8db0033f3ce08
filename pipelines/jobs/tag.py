"""What `genrebeam tag` does: find, leave out what is done, work off the rest, sum up."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import itertools
import platform
import secrets
import tempfile
from collections.abc import Collection, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.console import Console

from genrebeam.features.errors import UsageError
from genrebeam.features.extract import ExtractLimits
from genrebeam.features.schema import Rejection, Track
from genrebeam.model.bundle import Bundle
from genrebeam.model.predictor import runtime_of
from genrebeam.model.voting import METHODS
from genrebeam.pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.ledger import Ledger, follow, newest_results_by_file
from genrebeam.pipelines.dataset.plan import TrackFile, as_table, has_begun, plan_name, remove_plan, write_plan
from genrebeam.pipelines.engine.attempts import last_line, work_off
from genrebeam.pipelines.engine.launcher import run_apart
from genrebeam.pipelines.engine.progress import Watcher, in_hand, watched
from genrebeam.pipelines.engine.runner import Engine, usable_cores
from genrebeam.pipelines.engine.waiting import wait_for
from genrebeam.pipelines.library.discover import find_all, is_companion, is_manifest, track_of
from genrebeam.pipelines.storage.copies import bundle_at
from genrebeam.pipelines.storage.folders import folder_at, is_local
from genrebeam.pipelines.storage.places import local_path

if TYPE_CHECKING:
    import apache_beam as beam

_NOT_AUDIO = "NotAudio"
_FOUND = 50_000  # files that were found, in memory at a time
FEATURES_SUFFIX = ".tfrecord"


@dataclasses.dataclass(frozen=True)
class TagOptions:
    """A validated command line of `genrebeam tag`. Folders are paths or URLs; no model is the one that ships.

    Raises:
        UsageError: an option is out of range, naming it.
    """

    libraries: tuple[str, ...]
    output: str
    model: str | None
    engine: Engine
    vote: str = "mean"
    top_k: int = 3
    batch_size: int = 64
    features_output: str | None = None
    features_input: str | None = None
    retry_rejects: bool = False
    write_every_s: float = 20.0
    max_reject_share: float = 0.2
    limits: ExtractLimits = dataclasses.field(default_factory=ExtractLimits)
    quiet: bool = False

    def __post_init__(self) -> None:
        if bool(self.libraries) == (self.features_input is not None):
            raise UsageError("give either LIBRARY or --features-input, and not both")
        if self.features_input and self.features_output:
            raise UsageError("--features-output has nothing to write when --features-input is given")
        if self.limits.coverage_s is not None and (self.features_input or self.features_output):
            raise UsageError("--coverage does not go with kept features, which are of whole tracks")
        if self.vote not in METHODS:
            raise UsageError(f"--vote must be one of {', '.join(METHODS)}, not {self.vote!r}")
        for option, value, low, high in (
            ("--coverage", self.limits.coverage_s, 6, 3600),  # from one stretch (features/chunks.py) on
            ("--top-k", self.top_k, 1, 1000),
            ("--batch-size", self.batch_size, 1, 65_536),
            ("--write-every", self.write_every_s, 0, 3600),
            ("--max-reject-share", self.max_reject_share, 0, 1),
            ("--track-timeout", self.limits.stall_s, 1, 3600),  # 0 would set no alarm at all
        ):
            if value is not None and not low <= value <= high:
                raise UsageError(f"{option} must be between {low} and {high}, not {value}")
        folders = (
            ("--output", self.output),
            ("--model", self.model),
            ("--features-output", self.features_output),
            ("--features-input", self.features_input),
        )
        for option, place in folders:
            if place == "":
                raise UsageError(f"{option} '' names no folder: give a path or an address, or leave the option out")
        libraries = [("LIBRARY", library) for library in self.libraries if not is_manifest(library)]
        self.engine.check_places([*libraries, *((option, place) for option, place in folders if place)])


@dataclasses.dataclass
class Report:
    """What a run did; written as run-*.json and shown as the closing table.

    `found` counts every file of the library, `not_audio` those turned down by their suffix, `companions` those that
    were opened and are no audio by name or content, `done_before` what earlier runs had settled; the rest was analysed:
    `tagged` or `rejected`.
    """

    run_id: str
    started_at: str
    status: str = "running"
    found: int = 0
    done_before: int = 0
    not_audio: int = 0
    companions: int = 0
    tagged: int = 0
    rejected: int = 0
    audio_s: float = 0.0
    wall_s: float = 0.0
    launches: int = 0
    genres: dict[str, int] = dataclasses.field(default_factory=dict)
    errors: dict[str, int] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def reject_share(self) -> float:
        """Rejects among what was analysed in this run; companions such as covers do not count."""
        analysed = self.tagged + self.rejected
        return self.rejected / analysed if analysed else 0.0

    def sum_up(self, dataset: Dataset) -> None:
        """Count what this run has written; of a track that a retried bundle wrote twice, the newest row."""
        self.tagged, self.audio_s, genres = 0, 0.0, collections.Counter[str]()
        for table in newest_results_by_file(dataset, ["genre", "duration_s"], run_id=self.run_id):
            self.tagged += len(table)
            self.audio_s += pc.sum(table["duration_s"]).as_py() or 0.0
            genres.update({one["values"]: one["counts"] for one in pc.value_counts(table["genre"]).to_pylist()})
        errors: dict[int, str] = {}
        opened: set[int] = set()
        for table in dataset.tables(REJECTS_DIR, ["track_id", "uri", "stage", "error"], run_id=self.run_id):
            for track_id, uri, stage, error in zip(*(column.to_pylist() for column in table.columns), strict=True):
                if not is_companion(uri, stage, error):
                    errors[hash(track_id)] = error
                elif stage != "discover":
                    opened.add(hash(track_id))
        self.rejected, self.errors = len(errors), dict(collections.Counter(errors.values()))
        self.companions = len(opened)
        self.genres = dict(genres)


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


def tag(options: TagOptions, console: Console) -> Report:
    """Tag everything that is not done yet. What is written stays, whatever happens later.

    Raises:
        GenrebeamError: the input, the output folder or the model cannot be used, or the engine fails.
    """
    options.engine.check(may_be_template=True)
    started = dt.datetime.now(dt.timezone.utc)
    bundle = bundle_at(options.model)
    dataset = Dataset.at(options.output)
    with contextlib.ExitStack() as stack:
        stack.enter_context(dataset.lock())
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
        run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self.report = Report(run_id, started.isoformat(timespec="seconds"))
        self.report.config = _describe(options, bundle)
        self.report.versions = _versions()
        self._scratch = scratch
        plan = plan_name(run_id, is_local=options.engine.is_local)
        self._job = Job(options, bundle, dataset, run_id, plan=plan)
        self._todo = TrackFile(scratch / "todo.parquet")
        self._watcher: Watcher | None = None

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """Keep run-*.json true, whatever happens, from the moment that something was found to do it on."""
        report = self.report
        try:
            yield
            report.status = "template" if self._options.engine.writes_template else "finished"
        except BaseException as error:
            report.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            raise
        finally:
            if report.found:
                report.sum_up(self._dataset)
                self._save()

    def go(self, console: Console) -> None:
        options, report = self._options, self.report
        if options.features_input:
            files = _feature_files(options.features_input, self._bundle, report)
            self._job = dataclasses.replace(self._job, files=tuple(files))
        else:
            TrackFile.write(self._todo.path, self._pending())
        if not (report.found or self._job.files):
            raise UsageError(f"{', '.join(options.libraries)}: nothing in it; is this the right folder?")
        self._save()
        self._found_rejects = report.rejected
        total = report.found - report.done_before - report.not_audio - report.rejected
        with contextlib.ExitStack() as stack:
            if options.engine.is_local and console.is_terminal and not options.quiet:
                self._watcher = stack.enter_context(Watcher(total=total, console=console))
            work_off(self)
        for kind in (RESULTS_DIR, REJECTS_DIR):
            self._dataset.merge(kind)
        if options.features_input:
            report.sum_up(self._dataset)
            report.found = max(report.found, report.tagged)

    def _pending(self) -> Iterator[pa.Table]:
        """The tracks to analyse. What was turned down without being opened is written to the rejects here."""
        options, report = self._options, self.report
        ledger = Ledger.read(self._dataset)
        leave_out = [Path(f) for f in (options.output, options.features_output) if f and local_path(f) is not None]
        found = find_all(options.libraries, leave_out=leave_out, beam_flags=options.engine.flags)
        moved: list[pa.Table] = []
        while part := list(itertools.islice(found, _FOUND)):
            options.engine.check_places(("the track", track_of(one).uri) for one in part)  # of a manifest
            report.found += len(part)
            rejections = [one for one in part if isinstance(one, Rejection)]
            self._turn_down(rejections, ledger)
            table = as_table(one for one in part if isinstance(one, Track))
            settled = self._settled(ledger, table)
            moved.append(table.filter(pa.array(settled & ledger.have_moved(table))).select(["track_id", "uri"]))
            pending = table.filter(pa.array(~settled))
            report.done_before += len(table) - len(pending)
            yield pending
        follow(self._dataset, moved)

    def _turn_down(self, rejections: list[Rejection], ledger: Ledger) -> None:
        report = self.report
        known = ledger.are_rejected(as_table(one.track for one in rejections)).tolist()
        fresh = [one for one, is_known in zip(rejections, known, strict=True) if not is_known]
        companions, fresh_companions = (sum(one.error == _NOT_AUDIO for one in some) for some in (rejections, fresh))
        report.not_audio += companions
        report.rejected += len(fresh) - fresh_companions
        report.done_before += len(rejections) - companions - (len(fresh) - fresh_companions)
        if fresh:
            self._dataset.add_rejects(report.run_id, fresh)

    def _settled(self, ledger: Ledger, tracks: pa.Table) -> NDArray[np.bool_]:
        options = self._options
        done = ledger.are_tagged(tracks, self._bundle.fingerprint, options.vote, options.limits.coverage_s)
        return done if options.retry_rejects else done | ledger.are_rejected(tracks)

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
                forks=options.engine.forks(runtime_of(job.bundle), "genrebeam.pipelines.graph"),
            )
        finally:
            if not options.engine.writes_template:  # whoever runs the template reads the plan
                remove_plan(folder, job.plan)

    def _follow(self, watcher: Watcher, progress: Path) -> None:
        report = self.report
        report.sum_up(self._dataset)
        rejected = report.rejected + report.companions - self._found_rejects  # the rest is not part of the bar
        watcher.follow(progress, completed=report.tagged + rejected, audio_s=report.audio_s, rejected=rejected)

    def written(self) -> int:
        return sum(len(self._dataset.files(kind, run_id=self.report.run_id)) for kind in (RESULTS_DIR, REJECTS_DIR))

    def left_of(self, items: Collection[str]) -> set[str]:
        return {track_id for table in self._left([self._tracks(items)]) for track_id in table["track_id"].to_pylist()}

    def in_hand(self) -> Collection[str]:
        return in_hand(self._job.progress) if self._job.progress and not self._job.files else ()

    def give_up_on(self, item: str, error: Exception) -> None:
        (row,) = self._tracks([item]).to_pylist()
        message = f"{row['uri']}: workers died or failed again and again on this track ({last_line(error)})"
        self._dataset.add_rejects(self.report.run_id, [Rejection(Track(**row), "extract", "WorkerLost", message)])

    def _save(self) -> None:
        report = self.report
        report.wall_s = round((dt.datetime.now(dt.timezone.utc) - self._started).total_seconds(), 3)
        self._dataset.save_report(report.run_id, dataclasses.asdict(report))


def _feature_files(place: str, bundle: Bundle, report: Report) -> list[str]:
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


def _describe(options: TagOptions, bundle: Bundle) -> dict[str, Any]:
    values = dataclasses.asdict(options)
    values["model_id"], values["model_fingerprint"] = bundle.model_id, bundle.fingerprint
    values["front_end"] = bundle.front_end.to_dict() | {"fingerprint": bundle.front_end.fingerprint()}
    return values


def _versions() -> dict[str, str]:
    names = ("genrebeam", "apache-beam", "tensorflow", "keras", "numpy", "pyarrow", "mutagen", "soundfile", "av")
    found = {"python": platform.python_version()}
    for name in names:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
