"""What `genrebeam tag` does: find, leave out what is done, work off the rest, sum up."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import platform
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console

from features.errors import UsageError
from features.extract import ExtractLimits
from features.schema import Rejection, Track
from model.bundle import Bundle
from model.voting import METHODS
from pipelines.dataset.dataset import REJECTS_DIR, RESULTS_DIR, Dataset
from pipelines.dataset.ledger import Ledger, follow
from pipelines.dataset.plan import has_begun, remove_plan, write_plan
from pipelines.engine.attempts import last_line, work_off
from pipelines.engine.launcher import run_apart
from pipelines.engine.progress import Watcher, in_hand, watched
from pipelines.engine.runner import Engine, usable_cores
from pipelines.engine.waiting import WORKER_TIMEOUT_S, wait_for
from pipelines.library.discover import discover, is_companion
from pipelines.storage.copies import bundle_at
from pipelines.storage.folders import folder_at, is_local
from pipelines.storage.places import local_path

if TYPE_CHECKING:
    import apache_beam as beam

_NOT_AUDIO = "NotAudio"
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
    worker_timeout_s: float = WORKER_TIMEOUT_S
    max_reject_share: float = 0.2
    limits: ExtractLimits = dataclasses.field(default_factory=ExtractLimits)
    quiet: bool = False

    def __post_init__(self) -> None:
        if bool(self.libraries) == (self.features_input is not None):
            raise UsageError("give either LIBRARY or --features-input, and not both")
        if self.features_input and self.features_output:
            raise UsageError("--features-output has nothing to write when --features-input is given")
        if self.vote not in METHODS:
            raise UsageError(f"--vote must be one of {', '.join(METHODS)}, not {self.vote!r}")
        for option, value, low, high in (
            ("--top-k", self.top_k, 1, 1000),
            ("--batch-size", self.batch_size, 1, 65_536),
            ("--write-every", self.write_every_s, 0, 3600),
            ("--worker-timeout", self.worker_timeout_s, 1, 86_400),
            ("--max-reject-share", self.max_reject_share, 0, 1),
        ):
            if not low <= value <= high:
                raise UsageError(f"{option} must be between {low} and {high}, not {value}")
        folders = (
            ("--output", self.output),
            ("--model", self.model),
            ("--features-output", self.features_output),
            ("--features-input", self.features_input),
        )
        libraries = [("LIBRARY", library) for library in self.libraries]
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
        rows = dataset.rows(RESULTS_DIR, ["track_id", "genre", "duration_s", "processed_at"], run_id=self.run_id)
        newest = {row["track_id"]: row for row in rows.sort_by("processed_at").to_pylist()}
        for row in newest.values():
            self.tagged += 1
            self.audio_s += row["duration_s"] or 0.0
            genres[row["genre"]] += 1
        rejects = dataset.rows(REJECTS_DIR, ["track_id", "uri", "stage", "error"], run_id=self.run_id).to_pylist()
        errors = {row["track_id"]: row["error"] for row in rejects if not is_companion(*_what(row))}
        self.rejected, self.errors = len(errors), dict(collections.Counter(errors.values()))
        opened = {row["track_id"] for row in rejects if row["stage"] != "discover" and is_companion(*_what(row))}
        self.companions = len(opened)
        self.genres = dict(genres)


def _what(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["uri"], row["stage"], row["error"]


def tag(options: TagOptions, console: Console) -> Report:
    """Tag everything that is not done yet. What is written stays, whatever happens later.

    Raises:
        GenrebeamError: the input, the output folder or the model cannot be used, or the engine fails.
    """
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
        self._progress: Path | None = None  # where workers on this machine say what they have in hand
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
        ledger = Ledger.read(self._dataset)
        items: Sequence[Any]
        if options.features_input:
            items = _feature_files(options.features_input, self._bundle, report)
        else:
            items = self._pending(ledger)
        if not (report.found or items):
            where = options.features_input or ", ".join(options.libraries)
            raise UsageError(f"{where}: nothing in it; is this the right folder?")
        self._save()
        self._found_rejects = report.rejected
        total = report.found - report.done_before - report.not_audio - report.rejected
        with contextlib.ExitStack() as stack:
            if options.engine.is_local and console.is_terminal and not options.quiet:
                self._watcher = stack.enter_context(Watcher(total=total, console=console))
            work_off(
                items,
                self._launch,
                written=self._written,
                left_of=self._left_of,
                in_hand=self._in_hand,
                give_up_on=self._give_up_on,
            )
        for kind in (RESULTS_DIR, REJECTS_DIR):
            self._dataset.merge(kind)
        if options.features_input:
            report.sum_up(self._dataset)
            report.found = max(report.found, report.tagged)

    def _pending(self, ledger: Ledger) -> list[Track]:
        """The tracks to analyse. What was turned down without being opened is written to the rejects here."""
        options, report = self._options, self.report
        leave_out = [Path(f) for f in (options.output, options.features_output) if f and local_path(f) is not None]
        found = discover(options.libraries, leave_out=leave_out, beam_flags=options.engine.flags)
        report.found = len(found.tracks) + len(found.rejections)
        pending = [track for track in found.tracks if not self._settled(ledger, track)]
        follow(self._dataset, set(found.tracks).difference(pending))
        fresh = [rejection for rejection in found.rejections if not ledger.is_rejected(rejection.track)]
        unreadable = [rejection for rejection in found.rejections if rejection.error != _NOT_AUDIO]
        fresh_unreadable = [rejection for rejection in fresh if rejection.error != _NOT_AUDIO]
        report.not_audio = len(found.rejections) - len(unreadable)
        report.rejected = len(fresh_unreadable)
        report.done_before = len(found.tracks) - len(pending) + len(unreadable) - len(fresh_unreadable)
        if fresh:
            self._dataset.add_rejects(report.run_id, fresh)
        return pending

    def _settled(self, ledger: Ledger, track: Track) -> bool:
        done = ledger.is_tagged(track, self._bundle.fingerprint, self._options.vote)
        return done or (ledger.is_rejected(track) and not self._options.retry_rejects)

    def _launch(self, items: Sequence[Any]) -> None:
        options, report, run_id = self._options, self.report, self.report.run_id
        report.launches += 1
        plan = f".genrebeam-plan-{run_id}.parquet"
        files = list(items) if options.features_input else []
        if not files:
            write_plan(self._dataset.folder, plan, pa.Table.from_pylist([dataclasses.asdict(track) for track in items]))
        try:
            if not options.engine.is_local:
                run_pipeline(plan, files, options, self._bundle, self._dataset, run_id)
                return
            self._progress = self._scratch / f"progress-{report.launches}"
            self._progress.touch()
            if self._watcher:
                self._follow(self._watcher, self._progress)
            run_apart(_run_watched, self._progress, plan, files, options, self._bundle, self._dataset, run_id)
        finally:
            if not options.engine.writes_template:  # whoever runs the template reads the plan
                remove_plan(self._dataset.folder, plan)

    def _follow(self, watcher: Watcher, progress: Path) -> None:
        report = self.report
        report.sum_up(self._dataset)
        rejected = report.rejected + report.companions - self._found_rejects  # the rest is not part of the bar
        watcher.follow(progress, completed=report.tagged + rejected, audio_s=report.audio_s, rejected=rejected)

    def _written(self) -> int:
        run_id = self.report.run_id
        return sum(len(self._dataset.rows(kind, ["track_id"], run_id=run_id)) for kind in (RESULTS_DIR, REJECTS_DIR))

    def _left_of(self, items: Sequence[Any]) -> list[Any]:
        if self._options.features_input:
            return list(items)  # workers pass over the tracks in them that are done
        ledger = Ledger.read(self._dataset)
        written = self._dataset.rows(REJECTS_DIR, ["track_id"], run_id=self.report.run_id)["track_id"].to_pylist()
        rejected = set(written)
        return [t for t in items if t.track_id not in rejected and not self._settled(ledger, t)]

    def _in_hand(self, items: Sequence[Any]) -> list[Any]:
        if not self._progress or self._options.features_input:
            return []
        held = in_hand(self._progress)
        return [track for track in items if track.track_id in held]

    def _give_up_on(self, item: Any, error: Exception) -> None:
        message = f"{item.uri}: workers died or failed again and again on this track ({last_line(error)})"
        self._dataset.add_rejects(self.report.run_id, [Rejection(item, "extract", "WorkerLost", message)])

    def _save(self) -> None:
        report = self.report
        report.wall_s = round((dt.datetime.now(dt.timezone.utc) - self._started).total_seconds(), 3)
        self._dataset.save_report(report.run_id, dataclasses.asdict(report))


def _feature_files(place: str, bundle: Bundle, report: Report) -> list[str]:
    """The files of stored features, checked to be of this model's front end before anything starts."""
    from features.records import count_records, first_record, parse

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


def _run_watched(
    progress: Path, plan: str, files: list[str], options: TagOptions, bundle: Bundle, dataset: Dataset, run_id: str
) -> None:
    with watched(progress):
        run_pipeline(plan, files, options, bundle, dataset, run_id, progress)


def run_pipeline(
    plan: str,
    files: list[str],
    options: TagOptions,
    bundle: Bundle,
    dataset: Dataset,
    run_id: str,
    progress: Path | None = None,
) -> None:
    """Run the graph over a plan in the dataset's folder, or over files of stored features, and wait for it."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    pipeline = beam.Pipeline(options=PipelineOptions(options.engine.beam_flags()))
    build(pipeline, plan, files, options, bundle, dataset, run_id, progress)
    result = pipeline.run()
    if not options.engine.writes_template:
        wait_for(result, lambda: bool(files) or has_begun(dataset.folder, plan), options.worker_timeout_s)


def build(
    pipeline: beam.Pipeline,
    plan: str,
    files: list[str],
    options: TagOptions,
    bundle: Bundle,
    dataset: Dataset,
    run_id: str,
    progress: Path | None = None,
) -> None:
    """The graph of `tag`; arguments as those of `run_pipeline`."""
    from pipelines import graph
    from pipelines.stages.extract import ExtractConfig, ParseFeatures
    from pipelines.stages.predict import LoadBundle, TagConfig

    watch = str(progress) if progress else None
    threads = max(1, usable_cores() // options.engine.workers) if options.engine.is_local else 1
    load = LoadBundle(options.model, options.batch_size, threads)
    config = TagConfig(bundle.model_id, bundle.fingerprint, run_id, options.vote, options.top_k, watch)
    every_s = options.write_every_s
    if options.features_input:
        parse = ParseFeatures(bundle.front_end, str(dataset), bundle.fingerprint, options.vote)
        features = graph.read_features(pipeline, files, parse)
    else:
        tracks = graph.read_tracks(pipeline, str(dataset), plan)
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
