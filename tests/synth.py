"""Audio for tests and for the demo, synthesised from a seed: tones, noise, and small pieces of music.

Run as a program it makes a demo library: `python tests/synth.py FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

Samples = NDArray[np.float32]

SUFFIXES = ("wav", "aiff", "au", "flac", "ogg", "opus", "mp3", "m4a", "wma", "wv", "alac.m4a")
_SNDFILE = {
    "wav": ("WAV", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
_FFMPEG = {"m4a": ("ipod", "aac"), "alac.m4a": ("ipod", "alac"), "wma": ("asf", "wmav2"), "wv": ("wv", "wavpack")}


def sine(frequency_hz: float, duration_s: float, *, sample_rate_hz: int = 22_050, amplitude: float = 0.5) -> Samples:
    """float32 [samples]."""
    time_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def noise(duration_s: float, *, seed: int, sample_rate_hz: int = 22_050, amplitude: float = 0.1) -> Samples:
    """White noise, float32 [samples]."""
    rng = np.random.default_rng(seed)
    return (amplitude * rng.standard_normal(round(duration_s * sample_rate_hz))).clip(-1, 1).astype(np.float32)


def music(duration_s: float, *, seed: int, sample_rate_hz: int = 22_050, channels: int = 1) -> Samples:
    """A chord progression with a bass and a beat, float32 [samples, channels]; seeds differ in key, tempo, timbre."""
    rng = np.random.default_rng(seed)
    beat_s = 60 / rng.uniform(70, 150)
    tonic_hz = 110 * 2 ** (rng.integers(12) / 12)
    harmonics, brightness = int(rng.integers(2, 10)), rng.uniform(0.5, 2)
    drums = rng.uniform(0, 0.5)
    progression = rng.permutation([0, 5, 7, 9, 4])[:4]
    time_s = np.arange(round(duration_s * sample_rate_hz)) / sample_rate_hz
    root = progression[(time_s // (4 * beat_s)).astype(int) % 4]
    signal = np.zeros_like(time_s)
    for interval in (-12, 0, 4, 7):
        # The phase is the integral of the frequency, so that a change of chord does not click.
        phase = 2 * np.pi * np.cumsum(tonic_hz * 2 ** ((root + interval) / 12)) / sample_rate_hz
        for harmonic in range(1, harmonics + 1):
            signal += np.sin(harmonic * phase) / harmonic**brightness
    position = (time_s % beat_s) / beat_s
    signal *= 0.15 * np.exp(-1.5 * position)
    signal += drums * rng.standard_normal(len(time_s)) * np.exp(-25 * position)
    signal *= 0.7 / max(np.abs(signal).max(), 1e-9)
    stereo = np.stack([np.roll(signal, 40 * c) for c in range(channels)], axis=1)
    return stereo.astype(np.float32)


def write(path: Path, samples: Samples, *, sample_rate_hz: int = 22_050) -> Path:
    """Write samples, float32 [samples] or [samples, channels], in the format of the file's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = "alac.m4a" if path.name.endswith(".alac.m4a") else path.suffix.lower()[1:]
    if kind in _FFMPEG:
        _write_ffmpeg(path, np.atleast_2d(samples.T), sample_rate_hz, *_FFMPEG[kind])
        return path
    format_, subtype = _SNDFILE[kind]
    if kind == "opus" and sample_rate_hz not in (8000, 12_000, 16_000, 24_000, 48_000):
        samples, sample_rate_hz = soxr.resample(samples, sample_rate_hz, 24_000), 24_000
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with soundfile.SoundFile(path, "w", sample_rate_hz, channels, subtype, format=format_) as file:
        for start in range(0, len(samples), 1 << 15):  # one long write as Vorbis crashes libsndfile
            file.write(samples[start : start + (1 << 15)])
    return path


def _write_ffmpeg(path: Path, planar: Samples, sample_rate_hz: int, container: str, codec: str) -> None:
    import av

    layout = "mono" if len(planar) == 1 else "stereo"
    with av.open(str(path), "w", format=container) as file:
        stream = file.add_stream(codec, rate=sample_rate_hz, layout=layout)
        stream.bit_rate = 128_000
        resampler = av.AudioResampler(stream.codec_context.format.name, layout, sample_rate_hz)
        for start in range(0, planar.shape[1], 1024):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(planar[:, start : start + 1024]), format="fltp", layout=layout
            )
            frame.sample_rate, frame.pts = sample_rate_hz, start
            for converted in resampler.resample(frame):
                file.mux(stream.encode(converted))
        file.mux(stream.encode(None))


def demo_library(folder: Path) -> None:
    """Twelve short tracks of four made-up artists in seven formats, half of them with a genre tag, and a cover."""
    import mutagen

    suffixes = ["mp3", "flac", "ogg", "m4a", "opus", "wav", "aiff"]
    genres = ["", "Rock", "", "Other", "", "Jazz"]
    for number in range(12):
        artist, suffix = f"Artist {number // 3 + 1}", suffixes[number % len(suffixes)]
        path = write(folder / artist / f"Song {number + 1:02d}.{suffix}", music(12 + number, seed=number, channels=2))
        if suffix not in ("wav", "aiff"):
            tags = mutagen.File(path, easy=True)
            tags["artist"], tags["title"] = artist, f"Song {number + 1}"
            if genres[number % len(genres)]:
                tags["genre"] = genres[number % len(genres)]
            tags.save()
    (folder / "Artist 1" / "cover.jpg").write_bytes(b"\xff\xd8\xff\xe0 not much of a picture")
    (folder / "Artist 2" / "broken.mp3").write_bytes(b"ID3\x04\x00\x00\x00\x00\x00\x00" + bytes(500))


if __name__ == "__main__":
    demo_library(Path(sys.argv[1]))
