"""What `genrebeam tag` does: find, leave out what is done, work off the rest in waves, sum up."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import fcntl
import json
import os
import platform
import secrets
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from features.errors import UsageError
from features.extract import ExtractLimits
from features.schema import Rejection, Track
from model.bundle import Bundle, load_config
from model.voting import METHODS
from pipelines.dataset.journal import write_durably
from pipelines.dataset.ledger import REJECTS_DIR, RESULTS_DIR, Ledger
from pipelines.dataset.schema import REJECTS, reject_row
from pipelines.engine.progress import Watcher
from pipelines.engine.runner import Engine
from pipelines.engine.waves import Staging, last_line, work_off
from pipelines.library.discover import discover

# What a wave may hold at most. A wave that stores features holds them in memory until it writes them.
_LARGEST_WAVE, _LARGEST_FEATURES_WAVE = 20_000, 500
# What the first wave takes, before anything is known about the speed: some ninety seconds of work per worker.
_FIRST_TRACKS, _FIRST_FILES = 300, 4
_NOT_AUDIO = "NotAudio"
FEATURES_GLOB = "*.tfrecord"


@dataclasses.dataclass(frozen=True)
class TagOptions:
    """A validated command line of `genrebeam tag`.

    Raises:
        UsageError: an option is out of range, naming it.
    """

    libraries: tuple[str, ...]
    output: Path
    model: Path
    engine: Engine
    vote: str = "mean"
    top_k: int = 3
    batch_size: int = 64
    features_output: Path | None = None
    features_input: Path | None = None
    retry_rejects: bool = False
    max_reject_share: float = 0.2
    wave_minutes: float = 3.0
    wave_tracks: int | None = None
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
            ("--max-reject-share", self.max_reject_share, 0, 1),
            ("--wave-tracks", 1 if self.wave_tracks is None else self.wave_tracks, 1, 1_000_000),
        ):
            if not low <= value <= high:
                raise UsageError(f"{option} must be between {low} and {high}, not {value}")
        if self.wave_minutes <= 0:
            raise UsageError(f"--wave-minutes must be above 0, not {self.wave_minutes:g}")


@dataclasses.dataclass
class Report:
    """What a run did; written as run-*.json and shown as the closing table.

    `found` counts every file of the library, `not_audio` those turned down by their suffix, `done_before`
    what earlier runs had settled; the rest was analysed: `tagged` or `rejected`.
    """

    run_id: str
    started_at: str
    status: str = "running"
    found: int = 0
    done_before: int = 0
    not_audio: int = 0
    tagged: int = 0
    rejected: int = 0
    audio_s: float = 0.0
    wall_s: float = 0.0
    waves: int = 0
    genres: dict[str, int] = dataclasses.field(default_factory=dict)
    errors: dict[str, int] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    versions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def reject_share(self) -> float:
        """Rejects among what was analysed in this run; companions such as covers do not count."""
        analysed = self.tagged + self.rejected
        return self.rejected / analysed if analysed else 0.0

    def add(self, files: dict[str, list[Path]]) -> None:
        """Count what a wave has committed."""
        for path in files[RESULTS_DIR]:
            rows = pq.read_table(path, columns=["genre", "duration_s"])
            self.tagged += len(rows)
            self.audio_s += sum(rows["duration_s"].to_pylist())
            self.genres = dict(collections.Counter(self.genres) + collections.Counter(rows["genre"].to_pylist()))
        for path in files[REJECTS_DIR]:
            errors = pq.read_table(path, columns=["error"])["error"].to_pylist()
            self.rejected += len(errors)
            self.errors = dict(collections.Counter(self.errors) + collections.Counter(errors))


def tag(options: TagOptions, console: Console) -> Report:
    """Tag everything that is not done yet. What is committed stays, whatever happens later.

    Raises:
        GenrebeamError: the input, the output folder or the model cannot be used, or the engine fails.
    """
    started = dt.datetime.now(dt.timezone.utc)
    bundle = load_config(options.model)
    with contextlib.ExitStack() as locks:
        for folder in filter(None, [options.output, options.features_output]):
            locks.enter_context(output_folder(folder))
        ledger = Ledger.read(options.output)
        run_id = f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        report = Report(run_id, started.isoformat(timespec="seconds"))
        report.config = _describe(options, bundle)
        report.versions = _versions()
        staging = Staging(options.output, run_id)
        try:
            if options.features_input:
                items: Sequence[Any] = _feature_files(options.features_input, bundle, report)
            else:
                items = _pending_tracks(options, bundle, ledger, report)
            if not report.found:
                where = options.features_input or ", ".join(options.libraries)
                raise UsageError(f"{where}: nothing in it; is this the right folder?")
            _save(report, options.output, started)
            total = report.found - report.done_before - report.not_audio - report.rejected
            watched = options.engine.is_local and console.is_terminal and not options.quiet
            progress = staging.scratch("progress") if watched else None
            with Watcher(progress, total=total, console=console) if progress else contextlib.nullcontext() as watcher:
                _run_waves(items, options, bundle, report, staging, progress, watcher, started)
            report.status = "finished"
        except BaseException as error:
            report.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            raise
        finally:
            staging.close()
            if report.found:
                _save(report, options.output, started)
    return report


def _pending_tracks(options: TagOptions, bundle: Bundle, ledger: Ledger, report: Report) -> list[Track]:
    """The tracks to analyse. What was turned down without being opened is written to the rejects here."""
    leave_out = [folder for folder in (options.output, options.features_output) if folder]
    found = discover(options.libraries, leave_out=leave_out, beam_flags=options.engine.flags)
    report.found = len(found.tracks) + len(found.rejections)

    def settled(track: Track) -> bool:
        done = ledger.is_tagged(track, bundle.fingerprint, options.vote)
        return done or (ledger.is_rejected(track) and not options.retry_rejects)

    pending = [track for track in found.tracks if not settled(track)]
    fresh = [rejection for rejection in found.rejections if not ledger.is_rejected(rejection.track)]
    unreadable = [rejection for rejection in found.rejections if rejection.error != _NOT_AUDIO]
    fresh_unreadable = [rejection for rejection in fresh if rejection.error != _NOT_AUDIO]
    report.not_audio = len(found.rejections) - len(unreadable)
    report.rejected = len(fresh_unreadable)
    report.errors = dict(collections.Counter(rejection.error for rejection in fresh_unreadable))
    report.done_before = len(found.tracks) - len(pending) + len(unreadable) - len(fresh_unreadable)
    if fresh:
        write_rejects_file(options.output, f"{report.run_id}-found", fresh, report.run_id)
    return pending


def write_rejects_file(output_dir: Path, name: str, rejections: Sequence[Rejection], run_id: str) -> None:
    """Add a file of rejects to the dataset, written by the driver itself; it appears whole or not at all, and stays."""
    now = dt.datetime.now(dt.timezone.utc)
    table = pa.Table.from_pylist([reject_row(r, run_id, now) for r in rejections], REJECTS)
    folder = output_dir / REJECTS_DIR
    folder.mkdir(exist_ok=True)
    write_durably(table, folder / f"{name}.parquet")


def _feature_files(folder: Path, bundle: Bundle, report: Report) -> list[str]:
    """The files of stored features, checked to be of this model's front end before anything starts."""
    from features.records import count_records, first_record, parse

    files = sorted(folder.glob(FEATURES_GLOB)) if folder.is_dir() else []
    if not files:
        raise UsageError(f"{folder}: no {FEATURES_GLOB} in it; give a folder that --features-output has filled")
    for path in files:
        record = first_record(path)
        if record is not None:
            parse(record, bundle.front_end)
        report.found += count_records(path)
    return [str(path.absolute()) for path in files]


def _run_waves(
    items: Sequence[Any],
    options: TagOptions,
    bundle: Bundle,
    report: Report,
    staging: Staging,
    progress: Path | None,
    watcher: Watcher | None,
    started: dt.datetime,
) -> None:
    kinds = [RESULTS_DIR, REJECTS_DIR]
    found_rejects = report.rejected  # turned down before any wave, and not part of the bar's total
    features_staging = Staging(options.features_output, report.run_id) if options.features_output else None

    def run_wave(wave: Sequence[Any], name: str) -> None:
        folder = staging.open(name, kinds)
        if watcher:
            committed = report.tagged + report.rejected - found_rejects
            watcher.rewind(completed=committed, audio_s=report.audio_s, rejected=report.rejected - found_rejects)
        features = features_staging.open(name, ["."]) if features_staging else None
        run_pipeline(
            wave,
            options,
            bundle,
            prefix=f"{report.run_id}-{name}",
            folder=folder,
            features=features,
            run_id=report.run_id,
            progress=progress,
        )
        if features and features_staging:
            features_staging.commit(features, ["."])
        report.add(staging.commit(folder, kinds))
        report.waves += 1
        _save(report, options.output, started)

    def give_up_on(item: Any, error: Exception) -> None:
        if not isinstance(item, Track):
            raise error
        message = f"{item.uri}: the worker died or failed twice on this track alone ({last_line(error)})"
        write_rejects_file(
            options.output,
            f"{report.run_id}-lost-{report.rejected:06d}",
            [Rejection(item, "extract", "WorkerLost", message)],
            report.run_id,
        )
        report.rejected += 1
        report.errors["WorkerLost"] = report.errors.get("WorkerLost", 0) + 1

    try:
        if options.engine.is_local:
            largest = options.wave_tracks or (_LARGEST_FEATURES_WAVE if options.features_output else _LARGEST_WAVE)
            first = min(largest, _FIRST_FILES if options.features_input else _FIRST_TRACKS * options.engine.workers)
            work_off(
                items,
                run_wave,
                give_up_on,
                first_wave=first,
                wave_s=60 * options.wave_minutes,
                largest_wave=largest,
            )
        elif items:
            run_wave(items, "w0001")  # a cluster retries and balances by itself
    finally:
        if features_staging:
            features_staging.close()


def run_pipeline(
    wave: Sequence[Any],
    options: TagOptions,
    bundle: Bundle,
    *,
    prefix: str,
    folder: Path,
    features: Path | None,
    run_id: str,
    progress: Path | None,
) -> None:
    """One wave: build the graph over some tracks (or stored feature files) and wait for it."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from pipelines import graph
    from pipelines.engine.runner import usable_cores
    from pipelines.stages.extract import ExtractConfig, ParseFeatures
    from pipelines.stages.predict import LoadBundle, TagConfig

    watch = str(progress) if progress else None
    shards = 1 if options.engine.is_local else 0
    threads = max(1, usable_cores() // options.engine.workers)
    load = LoadBundle(str(options.model.absolute()), options.batch_size, threads)
    config = TagConfig(bundle.model_id, bundle.fingerprint, run_id, options.vote, options.top_k, watch)
    with beam.Pipeline(options=PipelineOptions(options.engine.beam_flags())) as pipeline:
        if options.features_input:
            parse = ParseFeatures(bundle.front_end, str(options.output), bundle.fingerprint, options.vote)
            extracted = graph.read_features(pipeline, list(wave), parse)
        else:
            plan = str(folder / "plan.parquet")
            pq.write_table(pa.Table.from_pylist([dataclasses.asdict(track) for track in wave]), plan)
            tracks = graph.read_tracks(pipeline, plan)
            extracted, rejections = graph.extract_features(
                tracks, ExtractConfig(bundle.front_end, options.limits, watch)
            )
            graph.write_rejects(rejections, str(folder / REJECTS_DIR / prefix), run_id, shards=shards)
            if features:
                graph.write_features(extracted, str(features / prefix), shards=shards)
        rows = graph.tag_tracks(extracted, load, config)
        graph.write_results(rows, str(folder / RESULTS_DIR / prefix), shards=shards)


@contextlib.contextmanager
def output_folder(path: Path) -> Iterator[None]:
    """Make the folder and hold it against a second run.

    Raises:
        UsageError: it cannot be made or written, or another run holds it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / ".genrebeam-lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise UsageError(f"{path}: cannot write results here: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{path}: another genrebeam is writing here; wait for it to end") from error
        yield
    finally:
        os.close(descriptor)


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


def _save(report: Report, output_dir: Path, started: dt.datetime) -> None:
    report.wall_s = round((dt.datetime.now(dt.timezone.utc) - started).total_seconds(), 3)
    path = output_dir / f"run-{report.run_id}.json"
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(dataclasses.asdict(report), indent=2, default=str) + "\n", encoding="utf-8")
    partial.replace(path)
