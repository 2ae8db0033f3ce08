"""From tracks to features, as Beam sees it: thin DoFns over features/isolated.py and features/records.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from genrebeam.features.chunks import audible
from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import Silent, TrackError
from genrebeam.features.isolated import IsolatedExtractor
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.records import parse
from genrebeam.features.schema import Rejection, Track, TrackFeatures
from genrebeam.pipelines.dataset.ledger import Ledger
from genrebeam.pipelines.engine.progress import end_with_engine, report_finished, report_started
from genrebeam.pipelines.storage.copies import copy_to_hear, local_copy

REJECTED = "rejected"
_TAG_READER = "genrebeam.pipelines.tags.read:tags_in"


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
        end_with_engine(self._config.progress_path)
        self._extractor = IsolatedExtractor(self._config.front_end, self._config.limits, tag_reader=_TAG_READER)
        self._extractor.start()  # its imports run while TensorFlow loads

    def teardown(self) -> None:
        if self._extractor is not None:
            self._extractor.close()

    def process(self, track: Track) -> Iterator[Any]:
        assert self._extractor is not None
        report_started(self._config.progress_path, track.track_id)
        try:
            with copy_to_hear(track.uri, whole=self._config.limits.coverage_s is None) as (path, fill):
                log_mel, audio, tags = self._extractor.extract(path, fill)
            if not audible(log_mel, self._config.front_end):
                raise Silent("nothing loud enough to hear in it")
        except TrackError as error:
            self._rejected.inc()
            report_finished(self._config.progress_path, track.track_id, rejected=True)
            rejection = Rejection(track, "extract", type(error).__name__, f"{track.uri}: {error}")
            yield beam.pvalue.TaggedOutput(REJECTED, rejection)
            return
        self._extracted.inc()
        self._audio_s.inc(round(audio.duration_s))
        yield TrackFeatures(track, audio, log_mel, self._config.front_end.fingerprint(), tags)


class ReadRecords(beam.DoFn):
    """Paths or URLs of TFRecord files to their records."""

    def process(self, uri: str) -> Iterator[bytes]:
        from tensorflow.data import TFRecordDataset

        with local_copy(uri) as path:
            yield from TFRecordDataset([str(path)]).as_numpy_iterator()


class ParseFeatures(beam.DoFn):
    """Stored records to TrackFeatures. Records of tracks that the ledger of the dataset holds already are passed over.

    Raises:
        RecordError: a record of another schema or front end: the run ends, the folder is the wrong one.
    """

    def __init__(self, front_end: FrontEnd, dataset: str, fingerprint: str, vote: str) -> None:
        self._front_end, self._dataset = front_end, dataset
        self._fingerprint, self._vote = fingerprint, vote

    def setup(self) -> None:
        self._ledger = Ledger.read(self._dataset)

    def process(self, record: bytes) -> Iterator[TrackFeatures]:
        features, _ = parse(record, self._front_end)
        if not self._ledger.is_tagged(features.track, self._fingerprint, self._vote):
            yield features
