"""From tracks to features, as Beam sees it: thin DoFns over features/isolated.py and features/records.py."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from features.chunks import audible
from features.config import FrontEnd
from features.errors import Silent, TrackError, UnreadableFile
from features.extract import ExtractLimits
from features.isolated import IsolatedExtractor
from features.records import parse
from features.schema import Rejection, Track, TrackFeatures
from pipelines.dataset.ledger import Ledger
from pipelines.engine.progress import report
from pipelines.storage import objects
from pipelines.storage.places import local_path

REJECTED = "rejected"
_BLOCK = 1 << 20
_TAG_READER = "pipelines.tags.read:read_genres"


@dataclasses.dataclass(frozen=True)
class ExtractConfig:
    """How to extract. `progress_path` is where a local driver watches; None on a cluster."""

    front_end: FrontEnd
    limits: ExtractLimits = dataclasses.field(default_factory=ExtractLimits)
    progress_path: str | None = None


class ExtractFeatures(beam.DoFn):
    """Track to TrackFeatures; what cannot be heard goes to the output `rejected` as a Rejection."""

    def __init__(self, config: ExtractConfig) -> None:
        self._config = config
        self._extractor: IsolatedExtractor | None = None
        self._extracted = Metrics.counter("extract", "tracks")
        self._rejected = Metrics.counter("extract", "rejects")
        self._audio_s = Metrics.counter("extract", "audio_s")

    def setup(self) -> None:
        self._extractor = IsolatedExtractor(self._config.front_end, self._config.limits, tag_reader=_TAG_READER)
        self._extractor.start()  # its imports run while TensorFlow loads

    def teardown(self) -> None:
        if self._extractor is not None:
            self._extractor.close()

    def process(self, track: Track) -> Iterator[Any]:
        assert self._extractor is not None
        try:
            with local_copy(track.uri) as path:
                log_mel, audio, genres = self._extractor.extract(path)
            if not audible(log_mel, self._config.front_end):
                raise Silent("nothing loud enough to hear in it")
        except TrackError as error:
            self._rejected.inc()
            report(self._config.progress_path, rejected=True)
            rejection = Rejection(track, "extract", type(error).__name__, f"{track.uri}: {error}")
            yield beam.pvalue.TaggedOutput(REJECTED, rejection)
            return
        self._extracted.inc()
        self._audio_s.inc(round(audio.duration_s))
        yield TrackFeatures(track, audio, log_mel, self._config.front_end.fingerprint(), genres)


class ParseFeatures(beam.DoFn):
    """Stored records to TrackFeatures. Records of tracks that the ledger in `output_dir` holds already are passed over.

    Raises:
        RecordError: a record of another schema or front end: the run ends, the folder is the wrong one.
    """

    def __init__(self, front_end: FrontEnd, output_dir: str, fingerprint: str, vote: str) -> None:
        self._front_end, self._ledger_key = front_end, (output_dir, fingerprint, vote)

    def setup(self) -> None:
        output_dir, self._fingerprint, self._vote = self._ledger_key
        self._ledger = Ledger.read(Path(output_dir))

    def process(self, record: bytes) -> Iterator[TrackFeatures]:
        features, _ = parse(record, self._front_end)
        if not self._ledger.is_tagged(features.track, self._fingerprint, self._vote):
            yield features


@contextlib.contextmanager
def local_copy(uri: str) -> Iterator[Path]:
    """A local path to read the file from: the file itself, or a temporary copy of a remote object.

    Raises:
        UnreadableFile: the object cannot be fetched.
    """
    path = local_path(uri)
    if path is not None:
        yield path
        return
    # The suffix is kept: a few of mutagen's readers look at it.
    with tempfile.NamedTemporaryFile(prefix="genrebeam-", suffix=os.path.splitext(uri)[1]) as copy:
        if objects.is_object(uri):
            objects.read(uri, copy.file)
        else:
            _fetch_through_beam(uri, copy.file)
        yield Path(copy.name)


def _fetch_through_beam(uri: str, file: IO[bytes]) -> None:
    from apache_beam.io.filesystem import BeamIOError, CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    try:
        with FileSystems.open(uri, compression_type=CompressionTypes.UNCOMPRESSED) as remote:
            shutil.copyfileobj(remote, file, _BLOCK)
    except (BeamIOError, OSError, ValueError) as error:
        raise UnreadableFile(f"cannot be fetched: {error}") from error
    file.flush()
