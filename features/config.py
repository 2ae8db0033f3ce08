"""The front end: every number that turns audio into the log-Mel levels a network sees.

One frozen object, stored in each bundle and each record, so that features of one front end can
never meet a network of another.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from genrebeam.features.ranges import check_range


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """How audio becomes log-Mel levels, and how levels become chunks.

    A level is an unsigned byte: `round((10 log10(power) - level_floor_db) / level_step_db)`, clipped to
    0..255, where `power` is librosa's Mel power spectrogram of samples in [-1, 1]. The reference is
    therefore absolute (power 1.0), not the loudest moment of the track: it means the same for a
    four-second clip and a ten-hour mix, and needs no second pass. A full-scale 1 kHz sine lies at
    +40 dB, so half-decibel steps from -80 dB hold 16-bit music with room at both ends.
    How a network scales levels is its own business (model/network.py).

    Raises:
        ValueError: if a value is out of range, naming the field.
    """

    sample_rate_hz: int = 22_050
    n_fft: int = 2048
    hop_length: int = 1024
    mel_bands: int = 128
    fmin_hz: float = 0.0
    fmax_hz: float = 11_025.0
    level_floor_db: float = -80.0
    level_step_db: float = 0.5
    chunk_s: float = 4.0
    chunk_step_s: float = 2.0

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "n_fft", "hop_length", "mel_bands", "level_step_db", "chunk_s", "chunk_step_s"):
            check_range(f"front end: {name}", getattr(self, name), above=0, error=ValueError)
        if self.hop_length > self.n_fft:
            raise ValueError(f"front end: hop_length {self.hop_length} skips samples between frames of {self.n_fft}")
        if not 0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate_hz / 2:
            raise ValueError(
                f"front end: need 0 <= fmin_hz < fmax_hz <= half the sample rate, not {self.fmin_hz} and {self.fmax_hz}"
            )
        if not 1 <= self.chunk_step_frames <= self.chunk_frames:
            raise ValueError("front end: a chunk's step must span at least one frame and no more than the chunk")

    @property
    def chunk_frames(self) -> int:
        """Spectrogram frames in one chunk (86 for 4 s at hop 1024)."""
        return int(self.chunk_s * self.sample_rate_hz / self.hop_length)

    @property
    def chunk_step_frames(self) -> int:
        """Frames from the start of one chunk to the start of the next (43 for 2 s at hop 1024)."""
        return int(self.chunk_step_s * self.sample_rate_hz / self.hop_length)

    @property
    def segments_per_chunk(self) -> int:
        """Whole steps in a chunk (2): what overlapping chunks have in common is heard once, a step at a time."""
        return self.chunk_frames // self.chunk_step_frames

    @property
    def frames_per_s(self) -> float:
        return self.sample_rate_hz / self.hop_length

    def oversampled(self, factor: int) -> FrontEnd:
        """The same frames and bands of a signal with so many times as many samples."""
        return dataclasses.replace(
            self,
            sample_rate_hz=factor * self.sample_rate_hz,
            n_fft=factor * self.n_fft,
            hop_length=factor * self.hop_length,
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FrontEnd:
        """The inverse of `to_dict`.

        Raises:
            ValueError: for an unknown or missing field: a front end with a default guessed in is another front end.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        unknown, missing = sorted(set(values) - names), sorted(names - set(values))
        if unknown or missing:
            raise ValueError(f"front end: unknown fields {unknown}, missing fields {missing}")
        return cls(**values)

    def fingerprint(self) -> str:
        """Twelve hex digits that differ whenever any field differs."""
        canonical = json.dumps({k: float(v) for k, v in self.to_dict().items()}, sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]

    def differences(self, other: FrontEnd) -> str:
        """What differs, for an error message: 'hop_length 1024 != 2048'."""
        mine, theirs = self.to_dict(), other.to_dict()
        return ", ".join(f"{k} {mine[k]} != {theirs[k]}" for k in mine if mine[k] != theirs[k])
