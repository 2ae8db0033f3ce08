"""Sounds other than music as stored log-Mels: synthesised noises and tones, and the voices of a folder.

A network that has only heard music takes speech for pop and hiss for electronic music (docs/history/models-6.md).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import TrackError
from genrebeam.features.extract import extract
from genrebeam.features.mel import log_mel
from genrebeam.pipelines.jobs.shards import StoredLogMels

FRONT_END = FrontEnd()
FRAMES = 1 + int(StoredLogMels.clip_s * FRONT_END.sample_rate_hz) // FRONT_END.hop_length  # of a stored clip
STEP = 5  # stored levels of most clips come in such steps, of 1.6 dB; finer ones would give these away
_EACH = 8  # clips of each kind of sound

Levels = NDArray[np.uint8]


def clips(voices: Path | None) -> Iterator[tuple[str, str, str, Levels]]:
    """All clips: (name, what it is, whose voice or which kind, uint8 [mel_bands, FRAMES] as stored log-Mels are).

    Args:
        voices: a folder with a folder for each voice, of audio files; those of one voice are joined by name and cut.
    """
    rng = np.random.default_rng(0)
    for index in range(_EACH):
        for kind, samples in _sounds(rng):
            levels = log_mel(np.float32(0.5 * samples / np.abs(samples).max()), FRONT_END)
            yield f"{kind}.{index}", "noise", kind, stored(levels[:FRAMES])
    for voice in sorted(folder for folder in voices.iterdir() if folder.is_dir()) if voices else ():
        for index, levels in enumerate(_joined(voice)):
            yield f"{voice.name}.{index}", "speech", voice.name, stored(levels)


def stored(levels: Levels) -> Levels:
    """The inverse of `StoredLogMels.levels`: levels uint8 [frames, mel_bands] as uint8 [mel_bands, frames]."""
    below_db = (levels.astype(np.float32) - levels.max()) * FRONT_END.level_step_db
    quantised = np.round(255 * np.maximum(0, 1 + below_db / StoredLogMels.decibels) / STEP) * STEP
    return np.ascontiguousarray(quantised.T.astype(np.uint8))


def _joined(folder: Path) -> Iterator[Levels]:
    held = np.empty((0, FRONT_END.mel_bands), np.uint8)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            levels, _ = extract(file, FRONT_END)
        except TrackError as error:
            print(f"{file}: {error}", file=sys.stderr)
            continue
        held = np.concatenate([held, levels])
        while len(held) >= FRAMES:
            yield held[:FRAMES]
            held = held[FRAMES:]


def _sounds(rng: np.random.Generator) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """One clip of each kind, float64 [samples]: what tests of equipment, recorders and rooms sound like."""
    rate = FRONT_END.sample_rate_hz
    count = round(StoredLogMels.clip_s * rate)
    time_s = np.arange(count) / rate
    hiss = rng.standard_normal(count)
    spectrum, frequency_hz = np.fft.rfft(hiss), np.fft.rfftfreq(count, 1 / rate)
    frequency_hz[0] = frequency_hz[1]

    def coloured(gain: NDArray[np.float64]) -> NDArray[np.float64]:
        noise = np.fft.irfft(spectrum * gain, count)
        return np.asarray(noise / noise.std())

    def slow(step_s: float, shape: float) -> NDArray[np.float64]:
        knots = rng.gamma(shape, 1 / shape, 2 + int(StoredLogMels.clip_s / step_s))
        return np.interp(time_s, np.arange(len(knots)) * step_s, knots)

    centre_hz, width = np.exp(rng.uniform(np.log(150), np.log(6000))), rng.uniform(0.1, 1.0)
    band = np.exp(-((np.log(frequency_hz / centre_hz) / width) ** 2))
    yield "hiss", coloured(frequency_hz ** rng.uniform(-1.5, 0.5))
    yield "band", coloured(band + 1e-4)
    yield "wind", coloured(frequency_hz ** rng.uniform(-1.5, -0.5)) * slow(rng.uniform(0.5, 2), 2)
    yield "applause", coloured(band + 0.1) * slow(rng.uniform(0.005, 0.05), 0.5)
    yield "crackle", (rng.random(count) > 1 - 10 ** rng.uniform(-4, -3)) * rng.exponential(1, count) + 0.002 * hiss
    tone_hz = np.exp(rng.uniform(np.log(60), np.log(4000)))
    harmonics = sum(np.sin(2 * np.pi * n * tone_hz * time_s) / n for n in range(1, int(rng.integers(2, 12))))
    yield "tone", harmonics + 10 ** rng.uniform(-4, -1) * hiss
    hum_hz = rng.choice([50.0, 60.0, 100.0, 120.0])
    hum = sum(np.sin(2 * np.pi * n * hum_hz * time_s + n) * rng.exponential(1 / n) for n in range(1, 16))
    yield "hum", hum + 10 ** rng.uniform(-3, -0.5) * coloured(frequency_hz**-0.5)
    beep_s = rng.uniform(0.15, 2)
    is_on = time_s % beep_s < beep_s * rng.uniform(0.1, 0.7)
    yield "beeps", np.sin(2 * np.pi * tone_hz * time_s) * is_on + 1e-3 * hiss
    turns = np.cumsum(tone_hz * np.exp(np.sin(2 * np.pi * time_s / rng.uniform(3, 30)) * rng.uniform(0.5, 2))) / rate
    yield "sweep", np.sin(2 * np.pi * turns) + 1e-3 * hiss
