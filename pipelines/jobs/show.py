"""One track as a picture: waveform, Mel spectrogram and the genres over time. Memory does not grow with the track."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genrebeam.features.config import FrontEnd
from genrebeam.features.extract import mono_blocks
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.mel import band_edges_hz
from genrebeam.features.schema import AudioInfo
from genrebeam.pipelines.api import Features, GenreTagger, Heard
from genrebeam.pipelines.jobs.fonts import fonts_for
from genrebeam.pipelines.tags.colours import colour_of
from genrebeam.pipelines.tags.policy import spelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 1600  # of the picture, about: more frames than that are drawn as their loudest
NONE_OF_THESE = "perhaps none of these"
_SAME = 0.005  # what two figures without decimals may differ by
_TICKS_HZ = (128, 256, 512, 1024, 2048, 4096, 8192)
_SHOWN = 5  # genres that are drawn
_STROKES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))  # tell the curves apart in grey too


class Picture(NamedTuple):
    """A PNG. Time runs from `left` to `right`, shares of its width, from the beginning to the end of the track."""

    png: bytes
    left: float
    right: float


def draw(path: str | os.PathLike[str], output: Path, tagger: GenreTagger) -> Heard:
    """Hear a track and write its picture, a PNG.

    Raises:
        TrackError: it cannot be heard.
        OSError: the picture cannot be written.
    """
    features = tagger.features(path)
    heard = tagger.decide(features)
    output.write_bytes(picture(features, heard, tagger.front_end).png)
    return heard


def picture(features: Features, heard: Heard, front_end: FrontEnd) -> Picture:
    """A track that was heard before. Threads may draw at the same time."""
    from matplotlib.figure import Figure

    times_s, low, high = envelope(features.path, front_end.sample_rate_hz, features.audio.duration_s)
    figure = Figure(figsize=(11, 7.5), dpi=100, layout="constrained")
    grid = figure.subplots(3, 2, height_ratios=(2, 4, 3), width_ratios=(40, 1))
    (wave, mel, genres), (nothing, scale, legend) = grid.T
    name = drawable(Path(features.path).name)
    title = figure.suptitle(f"{name}\n{headline(heard)}", fontsize=12, family=fonts_for(name).families)
    title.set_parse_math(False)
    wave.fill_between(times_s, low, high, color="#333333", linewidth=0)
    wave.set(ylim=(-1, 1), ylabel="amplitude")
    _spectrogram(mel, scale, features, front_end)
    _timeline(genres, legend, heard, front_end)
    nothing.axis("off")
    legend.axis("off")
    for axes in (wave, mel, genres):
        axes.set_xlim(0, features.audio.duration_s)
    for axes in (wave, mel):
        axes.set_xlabel("")
        axes.tick_params(labelbottom=False)
    genres.xaxis.set_major_formatter(_clock)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    place = genres.get_position()
    return Picture(png.getvalue(), float(place.x0), float(place.x1))


def headline(heard: Heard) -> str:
    """The genre with its score, the runners-up with theirs, and a doubt if there is one."""
    runners_up = ", ".join(f"{spelled(genre)} {score:.0%}" for genre, score in heard.top[1:])
    said = f"{spelled(heard.genre)} {heard.confidence:.0%}" + (f"   ({runners_up})" if runners_up else "")
    return said + (f"   {NONE_OF_THESE}" if heard.is_unknown else "")


def drawable(name: str) -> str:
    """A file name with a mark in place of each byte or control character that is no letter."""
    return "".join("\N{REPLACEMENT CHARACTER}" if not char.isprintable() else char for char in name)


def envelope(
    path: str | os.PathLike[str], sample_rate_hz: int, duration_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32]]:
    """Times in seconds, and the smallest and largest sample about each, of a track that was heard before."""
    step = max(1, int(duration_s * sample_rate_hz / _COLUMNS))
    low: list[NDArray[np.float32]] = []
    high: list[NDArray[np.float32]] = []
    rest = np.empty(0, np.float32)
    for block in mono_blocks(path, sample_rate_hz, ExtractLimits()):
        if isinstance(block, AudioInfo):
            break
        samples = np.concatenate([rest, block])
        whole = len(samples) // step * step
        columns, rest = samples[:whole].reshape(-1, step), samples[whole:]
        low.append(columns.min(axis=1))
        high.append(columns.max(axis=1))
    lows, highs = np.concatenate(low), np.concatenate(high)
    return (np.arange(len(lows)) + 0.5) * step / sample_rate_hz, lows, highs


def _spectrogram(axes: Axes, scale: Axes, features: Features, front_end: FrontEnd) -> None:
    together = max(1, len(features.log_mel) // _COLUMNS)
    whole = max(1, len(features.log_mel) // together) * together
    levels = features.log_mel[:whole].reshape(-1, together, front_end.mel_bands).max(axis=1)
    decibels = levels.T * front_end.level_step_db + front_end.level_floor_db
    peaks_hz = band_edges_hz(front_end)[1:-1]
    image = axes.imshow(
        decibels,
        extent=(0, whole / front_end.frames_per_s, -0.5, front_end.mel_bands - 0.5),
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=decibels.max() - 80,
    )
    ticks_hz = [hz for hz in _TICKS_HZ if peaks_hz[0] <= hz <= peaks_hz[-1]]
    axes.set_yticks(np.interp(ticks_hz, peaks_hz, np.arange(front_end.mel_bands)), [f"{hz}" for hz in ticks_hz])
    axes.set_ylabel("hertz (Mel scale)")
    axes.figure.colorbar(image, cax=scale, format="%d dB")


def _clock(seconds: float, _: object = None) -> str:
    """0:07, 12:30 or 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _timeline(axes: Axes, legend: Axes, heard: Heard, front_end: FrontEnd) -> None:
    """Curves of the genres of the headline, then of those with the largest means, from 0 % to 100 %."""
    means = heard.timeline.mean(axis=0)
    said = [heard.labels.index(genre) for genre, _ in heard.top]
    best = list(dict.fromkeys([*said, *(int(i) for i in np.argsort(-means, kind="stable"))]))[:_SHOWN]
    # A chunk speaks for the seconds around its middle; the first and the last also for those before and after.
    times_s = heard.times_s + front_end.chunk_s / 2
    times_s = np.concatenate([[0.0], times_s, [max(heard.audio.duration_s, times_s[-1])]])
    is_silent = ~heard.timeline.any(axis=1)
    for number, (index, stroke) in enumerate(zip(best, _STROKES, strict=False)):
        scores = np.where(is_silent, np.nan, heard.timeline[:, index])
        scores = np.concatenate([scores[:1], scores, scores[-1:]])
        label, colour = heard.labels[index], colour_of(heard.labels[index])
        name = spelled(label)
        axes.plot(times_s, scores, label=name, color=colour, linestyle=stroke, linewidth=2 if number else 3)
        if not number:
            axes.fill_between(times_s, 0, scores, color=colour, alpha=0.2, linewidth=0)
    axes.set(ylim=(0, 1), ylabel="score", xlabel=_scale_of(heard))
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    axes.grid(axis="y", alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    for text in legend.legend(handles, labels, loc="center left", borderaxespad=0, frameon=False).get_texts():
        text.set(family=fonts_for(text.get_text()).families, parse_math=False)


def _scale_of(heard: Heard) -> str:
    """How the curves and the headline belong together."""
    audible = heard.timeline[heard.timeline.any(axis=1)]
    mean = float(audible[:, heard.labels.index(heard.genre)].mean()) if len(audible) else 0.0
    name, share = spelled(heard.genre), f"{heard.confidence:.0%}"
    if abs(mean - heard.confidence) < _SAME:
        return (
            f"The {share} for {name} is the mean of its curve. A second genre counts less in a track than in its parts."
        )
    return (
        f"The {share} for {name} is not the mean of its curve ({mean:.0%}): the vote or the words are of another kind."
    )
