"""Random variations of training crops, as pure functions of (levels, settings, seed).

What stays the same genre when it changes: tempo, key, equalisation, recording bandwidth, noise, a hole here
and there, another record playing along. All of it happens on decibel levels, many crops at once.
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

from genrebeam.features.config import FrontEnd
from genrebeam.features.mel import bands_below


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How far a crop may be changed. `NONE` changes nothing but where the crop begins.

    Attributes:
        stretch: largest relative change of tempo, in both directions (0.2: 0.83 to 1.2 times as fast).
        shift_bands: largest shift along the Mel axis, bands up or down.
        tilt_db: standard deviation of a slope over the whole frequency axis, dB from end to end.
        equaliser_db: standard deviation of each of the cosines of a random smooth curve, dB.
        lowpass_share: share of crops that lose everything above some frequency: half of them above a random band of the
            upper half, half above one of `lowpass_hz`, which is where low sample rates end. What is no music is often
            recorded at one of those; without music that is, too, a network takes the end for the sign of a voice.
        noise_share: share of crops that get a noise floor.
        noise_db: the noise floor lies between these two, dB below the loudest point.
        mask_bands: widest hole in frequency, bands; two per crop. None by default: holes cost 12 points
            (docs/history/models-2.md).
        mask_s: longest hole in time, seconds; two per crop.
        jitter_db: every point moves by up to so much. Stored levels come in steps of 1.25 or 1.6 dB, by the set
            they are of; without jitter a network could learn the steps instead of the music.
        mixup: parameter of the symmetric beta distribution that two crops are blended by; 0 for none.
    """

    stretch: float = 0.1
    shift_bands: float = 2.0
    tilt_db: float = 1.5
    equaliser_db: float = 0.75
    lowpass_share: float = 0.3
    lowpass_hz: tuple[float, ...] = (4000.0, 5512.5, 8000.0)
    noise_share: float = 0.1
    noise_db: tuple[float, float] = (-60.0, -35.0)
    mask_bands: int = 0
    mask_s: float = 0.0
    jitter_db: float = 0.7
    mixup: float = 0.1


NONE = Augmentation(0.0, 0.0, 0.0, 0.0, 0.0, noise_share=0.0, jitter_db=0.0, mixup=0.0)


def source_frames(front_end: FrontEnd, settings: Augmentation) -> int:
    """Frames a crop must have before stretching so that `chunk_frames` are left after it."""
    return math.ceil(front_end.chunk_frames * (1 + settings.stretch)) + 1


def vary(levels: tf.Tensor, front_end: FrontEnd, settings: Augmentation, *, seed: tf.Tensor) -> tf.Tensor:
    """Change each crop on its own.

    Args:
        levels: uint8 [batch, source_frames, mel_bands].
        seed: int [2]; the same seed gives the same result.

    Returns:
        float32 levels [batch, chunk_frames, mel_bands], not rounded, not clipped.
    """
    seeds = tf.random.split(seed, 10)
    batch, bands, frames = tf.shape(levels)[0], front_end.mel_bands, front_end.chunk_frames
    x = tf.cast(levels, tf.float32)

    def uniform(index: int, shape: list[tf.Tensor | int], low: float, high: float) -> tf.Tensor:
        return tf.random.stateless_uniform(shape, seeds[index], low, high)

    def normal(index: int, shape: list[tf.Tensor | int], deviation: float) -> tf.Tensor:
        return tf.random.stateless_normal(shape, seeds[index], 0.0, deviation)

    speed = tf.exp(uniform(0, [batch, 1], -1.0, 1.0) * math.log1p(settings.stretch))
    x = _resample(x, tf.range(frames, dtype=tf.float32)[tf.newaxis] * speed)
    shift = uniform(1, [batch, 1], -settings.shift_bands, settings.shift_bands)
    # Gathering whole rows is eight times faster than single bands, so the axes are swapped for it.
    x = tf.transpose(x, [0, 2, 1])
    x = tf.transpose(_resample(x, tf.range(bands, dtype=tf.float32)[tf.newaxis] + shift), [0, 2, 1])

    if settings.jitter_db:
        jitter = settings.jitter_db / front_end.level_step_db
        x += uniform(9, [batch, frames, bands], -jitter, jitter)

    position = tf.linspace(-0.5, 0.5, bands)
    curve = normal(2, [batch, 1], settings.tilt_db) * position
    for wave in range(1, 5):
        amplitude, phase = normal(2 + wave, [batch, 1], settings.equaliser_db), uniform(6, [batch, 4], 0.0, 2 * math.pi)
        curve += amplitude * tf.cos(2 * math.pi * wave * position + phase[:, wave - 1 : wave])
    x += curve[:, tf.newaxis] / front_end.level_step_db

    loudest = tf.reduce_max(x, axis=(1, 2), keepdims=True)
    choice = uniform(7, [batch, 2], 0.0, 1.0)
    floor = loudest + (
        (settings.noise_db[0] + choice[:, 0:1, None] * (settings.noise_db[1] - settings.noise_db[0]))
        / front_end.level_step_db
    )
    # Noise power in one band and frame has an exponential distribution; about 5 dB of spread in decibels. One
    # pattern does for a batch: random numbers would be the most expensive part of all this.
    noise = floor + normal(8, [1, frames, bands], 5.0 / front_end.level_step_db)
    return tf.where(choice[:, 1:2, None] < settings.noise_share, tf.maximum(x, noise), x)


def lowpass(levels: tf.Tensor, front_end: FrontEnd, settings: Augmentation, *, seed: tf.Tensor) -> tf.Tensor:
    """Silence (level 0) above some band in a share of the crops, as old recordings and low sample rates have it.

    After blending: whatever plays along would fill what is empty.

    Args:
        levels: float32 [batch, frames, mel_bands].
    """
    bands = front_end.mel_bands
    share, which, where = tf.unstack(tf.random.stateless_uniform([3, tf.shape(levels)[0], 1, 1], seed))
    anywhere = (0.6 + 0.4 * where) * bands
    ends = tf.constant([bands_below(front_end, hz) for hz in settings.lowpass_hz], tf.float32)
    at_a_rate = tf.gather(ends, tf.cast(where * len(settings.lowpass_hz), tf.int32))
    cut = tf.where(which < 0.5, at_a_rate, anywhere)
    silent = (share < settings.lowpass_share) & (tf.range(bands, dtype=tf.float32) >= cut)
    return tf.where(silent, 0.0, levels)


def mask(levels: tf.Tensor, front_end: FrontEnd, settings: Augmentation, *, seed: tf.Tensor) -> tf.Tensor:
    """SpecAugment (Park et al. 2019): two holes in frequency and two in time, silent (level 0).

    The same holes as tensorflow-io's `freq_mask` and `time_mask` (a test holds them together), which draw from a
    global stream: a killed run could not go on with the holes it would have had, and they take one crop at a time.

    Args:
        levels: float32 [batch, frames, mel_bands].
    """
    seeds = tf.random.split(seed, 2)
    frames = settings.mask_s * front_end.frames_per_s
    for axis, widest, one in ((2, settings.mask_bands, seeds[0]), (1, frames, seeds[1])):
        if widest == 0:
            continue
        length = tf.shape(levels)[axis]
        draw = tf.random.stateless_uniform([2, tf.shape(levels)[0], 2], one)
        width = tf.floor(draw[0] * widest)
        start = tf.floor(draw[1] * (tf.cast(length, tf.float32) - width))
        index = tf.range(length, dtype=tf.float32)[tf.newaxis, tf.newaxis]
        hole = tf.reduce_any((index >= start[..., tf.newaxis]) & (index < (start + width)[..., tf.newaxis]), axis=1)
        levels = tf.where(hole[:, tf.newaxis] if axis == 2 else hole[:, :, tf.newaxis], 0.0, levels)
    return levels


def blend_shares(batch: tf.Tensor, settings: Augmentation, *, seed: tf.Tensor) -> tf.Tensor:
    """How much of each crop stays when blended with another (mixup, Zhang et al. 2018): float32 [batch], 0.5..1."""
    if settings.mixup == 0:
        return tf.ones([batch])
    seeds = tf.random.split(seed, 2)
    first, second = (tf.random.stateless_gamma([batch], s, settings.mixup) + 1e-6 for s in tf.unstack(seeds))
    share = first / (first + second)
    return tf.maximum(share, 1.0 - share)


def blend(levels: tf.Tensor, front_end: FrontEnd, share: tf.Tensor) -> tf.Tensor:
    """Each crop with the next one of the batch playing along: their powers add, as in the air.

    Args:
        levels: float32 [batch, frames, mel_bands], of equally loud crops.
        share: float32 [batch], what each crop keeps of its own power.
    """
    power = tf.pow(10.0, levels * (front_end.level_step_db / 10))
    share = share[:, tf.newaxis, tf.newaxis]
    mixed = share * power + (1 - share) * tf.roll(power, 1, axis=0)
    return tf.math.log(mixed) * (10 / math.log(10) / front_end.level_step_db)


def to_levels(x: tf.Tensor) -> tf.Tensor:
    """Float levels to the uint8 that a network takes."""
    return tf.cast(tf.clip_by_value(tf.round(x), 0.0, 255.0), tf.uint8)


def _resample(x: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    """The nearest rows of [batch, rows, columns] to float positions [batch, n]; beyond the ends the edge repeats.

    Not interpolated: between two frames that would halve the variance of noise-like sounds, which tells genres
    apart and which the crops of tagging, never interpolated, have in full.
    """
    last = tf.shape(x)[1] - 1
    return tf.gather(x, tf.clip_by_value(tf.cast(tf.round(positions), tf.int32), 0, last), axis=1, batch_dims=1)
