"""Hearing genres from Python, without Beam: `GenreTagger().hear("song.mp3")`; and reading what `genrebeam tag` wrote.

The package genrebeam exports these names, which are a contract (docs/python.md). For a whole library use
`genrebeam tag`, which goes on after a kill.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.chunks import audible, segments_of
from genrebeam.features.errors import Silent, TrackError, UsageError
from genrebeam.features.isolated import IsolatedExtractor
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.schema import AudioInfo, FileTags
from genrebeam.features.sounds import Sound, as_file, is_one
from genrebeam.model.decision import decide
from genrebeam.model.predictor import BatchedScorer, BundlePredictor, Predictor
from genrebeam.model.voting import UNKNOWN
from genrebeam.pipelines.dataset.inputs import bundle_at

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True, eq=False)
class Heard:
    """What was heard in one file.

    Attributes:
        path: of the file; of samples and open files a name.
        genre: the winner of the vote.
        confidence: its score; with the vote `mean` a calibrated probability (docs/results.md).
        unknown: how probable it is that the music is of none of the model's genres; 0.5 is the line the model draws.
        top: the best genres with their scores, best first.
        labels: the model's genres, in the order of the timeline's columns.
        timeline: float32 [chunks, genres]; chunk i is heard from `times_s[i]` on. Zeros where nothing is audible.
        times_s: float64 [chunks], seconds.
        audio: what was decoded.
        genre_before: the genres in the file's own tags.
        embedding: int8 [size], what neighbours and `genrebeam learn` go by (docs/results.md); None of old bundles.
    """

    path: str
    genre: str
    confidence: float
    unknown: float | None
    top: tuple[tuple[str, float], ...]
    labels: tuple[str, ...]
    timeline: NDArray[np.float32]
    times_s: NDArray[np.float64]
    audio: AudioInfo
    genre_before: tuple[str, ...]
    embedding: NDArray[np.int8] | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether the music is more likely of none of the genres, by the bundle's line."""
        return self.unknown is not None and self.unknown > UNKNOWN

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain lists, texts and numbers, as `json.dumps` takes them."""
        return {
            "path": self.path,
            "genre": self.genre,
            "confidence": self.confidence,
            "unknown": self.unknown,
            "is_unknown": self.is_unknown,
            "top": [{"genre": genre, "score": score} for genre, score in self.top],
            "labels": list(self.labels),
            "timeline": self.timeline.tolist(),
            "times_s": self.times_s.tolist(),
            "audio": {**dataclasses.asdict(self.audio), "stretches_s": list(self.audio.stretches_s)},
            "genre_before": list(self.genre_before),
            "embedding": None if self.embedding is None else self.embedding.tolist(),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """A file as the network sees it: uint8 [frames, mel_bands] levels of features/config.py."""

    path: str
    log_mel: NDArray[np.uint8]
    audio: AudioInfo
    tags: FileTags


class GenreTagger:
    """Hears the genre of files. The network is loaded once, when the first file is heard.

    Files are decoded in a child process, so that a hostile one costs an error and not this process. Close it, or use it
    as a context manager, to end that process early. Threads may share one: they take turns. After a fork each process
    has a decoding process of its own, but the network must not have been loaded before: make a GenreTagger in each.

    Args:
        model: name of a bundle that ships, or folder or URL of one; the default one where nothing is said.
        vote: how chunks vote: mean, majority or confidence.
        top_k: how many genres to list.
        predictor: something else to score chunks with, instead of a bundle.

    Raises:
        BundleError: there is no such bundle, or it is damaged.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        vote: str = "mean",
        top_k: int = 3,
        limits: ExtractLimits | None = None,
        threads: int = 1,
        predictor: Predictor | None = None,
    ) -> None:
        self._vote, self._top_k, self._threads = vote, top_k, threads
        self._predictor = predictor
        self._is_own, self._pid, self._lock = predictor is None, os.getpid(), threading.RLock()
        if predictor is None:
            self.bundle = bundle_at(os.fspath(model) if model is not None else None)
        self.front_end = predictor.front_end if predictor else self.bundle.front_end
        self._extractor = IsolatedExtractor(self.front_end, limits, tag_reader="genrebeam.pipelines.tags.read:tags_in")
        self._extractor.start()  # its imports run while the network is loaded

    @overload
    def hear(self, sounds: Sound, sample_rate_hz: int | None = None) -> Heard: ...  # type: ignore[overload-overlap]

    @overload
    def hear(self, sounds: Iterable[Sound], sample_rate_hz: int | None = None) -> list[Heard | TrackError]: ...

    def hear(
        self, sounds: Sound | Iterable[Sound], sample_rate_hz: int | None = None
    ) -> Heard | list[Heard | TrackError]:
        """Hear one sound, or several in one go: paths, files that are open for reading bytes, or arrays of samples.

        Args:
            sounds: an array is [samples] or [samples, channels]; floats in -1 to 1, or integers of any width.
            sample_rate_hz: of arrays.

        Returns:
            For one sound what was heard. For several a list in their order, in which an error stands for each that
            cannot be heard: one bad file does not cost the others.

        Raises:
            TrackError: the one file cannot be heard; the message names it.
            DecoderUnavailable: no file can be decoded here.
            UsageError: the network was loaded before a fork of this process, or what was given is no sound.
        """
        if is_one(sounds):
            (heard,) = self._hear_all([cast("Sound", sounds)], sample_rate_hz)
            if isinstance(heard, TrackError):
                raise heard
            return heard
        return self._hear_all(list(cast("Iterable[Sound]", sounds)), sample_rate_hz)

    def features(self, sound: Sound, sample_rate_hz: int | None = None) -> Features:
        """Decode one sound to its log-Mel; raises TrackError, and UsageError as `hear`."""
        with as_file(sound, sample_rate_hz) as (path, name):
            try:
                log_mel, audio, tags = self._extractor.extract(path)
                if not audible(log_mel, self.front_end):
                    raise Silent("nothing loud enough to hear in it")
            except TrackError as error:
                raise type(error)(f"{name}: {str(error).replace(path, name)}") from None
        return Features(name, log_mel, audio, tags)

    def decide(self, features: Features) -> Heard:
        """What is heard in a file that was decoded before."""
        with self._turn():
            return self._decided(self._score([(0, features)]))[0]

    def close(self) -> None:
        self._extractor.close()

    def __enter__(self) -> GenreTagger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """The network is for one thread at a time, and for the process that has loaded it."""
        if self._pid != os.getpid():
            if self._is_own and self._predictor is not None:
                raise UsageError("GenreTagger: the network was loaded before this process was forked; make another one")
            self._pid, self._lock = os.getpid(), threading.RLock()  # nobody is left who could release the old one
        with self._lock:
            yield

    def _hear_all(self, sounds: list[Sound], sample_rate_hz: int | None) -> list[Heard | TrackError]:
        failed: dict[int, TrackError] = {}
        with self._turn():
            heard = self._decided(self._score(self._decode(sounds, sample_rate_hz, failed)))
        return [failed.get(number) or heard[number] for number in range(len(sounds))]

    def _decode(
        self, sounds: list[Sound], sample_rate_hz: int | None, failed: dict[int, TrackError]
    ) -> Iterator[tuple[int, Features]]:
        for number, sound in enumerate(sounds):
            try:
                yield number, self.features(sound, sample_rate_hz)
            except TrackError as error:
                failed[number] = error

    def _score(
        self, tracks: Iterable[tuple[int, Features]]
    ) -> Iterator[tuple[tuple[int, Features], NDArray[np.float32]]]:
        """The scores of each track's chunks, in batches that are filled across tracks."""
        if self._predictor is None:
            self._predictor = BundlePredictor(self.bundle, threads=self._threads)
        scorer: BatchedScorer[tuple[int, Features]] = BatchedScorer(self._predictor)
        for track in tracks:
            yield from scorer.push(track, segments_of(track[1].log_mel, self.front_end))
        yield from scorer.flush()

    def _decided(self, scored: Iterator[tuple[tuple[int, Features], NDArray[np.float32]]]) -> dict[int, Heard]:
        return {number: self._decide(features, answers) for (number, features), answers in scored}

    def _decide(self, features: Features, answers: NDArray[np.float32]) -> Heard:
        assert self._predictor is not None
        decision = decide(
            self._predictor,
            answers,
            features.log_mel,
            stretches_s=features.audio.stretches_s,
            method=self._vote,
            top_k=self._top_k,
        )
        vote = decision.vote
        return Heard(
            features.path,
            vote.genre,
            vote.confidence,
            vote.unknown,
            vote.top,
            self._predictor.labels,
            decision.timeline,
            decision.starts_s,
            features.audio,
            features.tags.genres,
            decision.embedding,
        )


def read_results(results: str | os.PathLike[str], columns: list[str] | None = None) -> pd.DataFrame:
    """The newest result of each track of a results folder, ordered by track_id, with the corrections of people.

    Args:
        results: the folder that `genrebeam tag` wrote, on a disk or in a bucket.
        columns: those of docs/results.md that you need; all where nothing is said.

    Returns:
        A DataFrame with those columns, and `corrected_genre`: a person's word for the track, or None.

    Raises:
        UsageError: there are no results.
        LedgerError: a file of the folder cannot be read.
        ModuleNotFoundError: pandas is not installed.
    """
    from genrebeam.pipelines.dataset.corrections import read_corrections
    from genrebeam.pipelines.dataset.dataset import existing
    from genrebeam.pipelines.dataset.ledger import newest_results

    dataset = existing(os.fspath(results))
    table = newest_results(dataset, columns and list(dict.fromkeys([*columns, "track_id"])))
    corrections = read_corrections(dataset)
    words = [found.genre if (found := corrections.get(i)) else None for i in table["track_id"].to_pylist()]
    frame: pd.DataFrame = table.to_pandas()
    if columns is not None:
        frame = frame[columns]
    return frame.assign(corrected_genre=words)
