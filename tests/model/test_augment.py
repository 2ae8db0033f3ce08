"""Variations change what they say, by as much as they say, and the same way for the same seed."""

import dataclasses

import librosa
import numpy as np
import pytest
import tensorflow as tf

from genrebeam.features.config import FrontEnd
from genrebeam.model import augment
from genrebeam.model.augment import NONE

FRONT_END = FrontEnd(hop_length=2048)


def crops(settings, batch=64, seed=0):
    shape = (batch, augment.source_frames(FRONT_END, settings), FRONT_END.mel_bands)
    return tf.constant(np.random.default_rng(seed).integers(100, 200, shape).astype(np.uint8))


def vary(settings, levels=None, seed=(1, 2)):
    levels = crops(settings) if levels is None else levels
    return augment.vary(levels, FRONT_END, settings, seed=tf.constant(seed)).numpy()


def test_none_changes_nothing_but_the_length():
    levels = crops(NONE)
    np.testing.assert_array_equal(vary(NONE, levels), levels[:, : FRONT_END.chunk_frames])


def test_the_same_seed_gives_the_same_crops_and_another_does_not():
    settings = augment.Augmentation()
    np.testing.assert_array_equal(vary(settings), vary(settings))
    assert not np.array_equal(vary(settings), vary(settings, seed=(1, 3)))


def test_shifts_move_bands_up_and_down_by_at_most_the_limit():
    settings = dataclasses.replace(NONE, shift_bands=5.0)
    levels = np.full((200, augment.source_frames(FRONT_END, settings), FRONT_END.mel_bands), 100, np.uint8)
    levels[:, :, 64] = 200
    moved = vary(settings, tf.constant(levels)).argmax(axis=2)[:, 0] - 64
    assert set(moved) == set(range(-5, 6))


def test_stretching_changes_tempo_in_both_directions_and_keeps_the_variance_of_noise():
    settings = dataclasses.replace(NONE, stretch=0.2)
    need = augment.source_frames(FRONT_END, settings)
    ramp = np.tile(np.arange(need, dtype=np.uint8)[None, :, None], (300, 1, FRONT_END.mel_bands))
    ends = vary(settings, tf.constant(ramp))[:, -1, 0] / (FRONT_END.chunk_frames - 1)
    assert 0.81 < ends.min() < 0.87
    assert 1.15 < ends.max() < 1.23
    noise = crops(settings)
    assert vary(settings, noise).std() == pytest.approx(noise.numpy().astype(float).std(), rel=0.02)


def test_tilt_has_its_deviation_in_decibels():
    settings = dataclasses.replace(NONE, tilt_db=6.0)
    flat = tf.fill([2000, augment.source_frames(FRONT_END, settings), FRONT_END.mel_bands], tf.constant(150, tf.uint8))
    varied = vary(settings, flat)
    slopes_db = (varied[:, 0, -1] - varied[:, 0, 0]) * FRONT_END.level_step_db
    assert slopes_db.std() == pytest.approx(6.0, rel=0.1)
    assert abs(slopes_db.mean()) < 0.6


def test_lowpass_silences_everything_above_one_band_in_its_share_of_crops():
    levels = tf.cast(crops(NONE, batch=1000), tf.float32)
    settings = dataclasses.replace(NONE, lowpass_share=0.3)
    varied = augment.lowpass(levels, FRONT_END, settings, seed=tf.constant([3, 4])).numpy()
    cut = (varied == 0).any(axis=(1, 2))
    assert 0.25 < cut.mean() < 0.35
    silent = (varied[cut] == 0).all(axis=1)
    assert all(np.diff(row.astype(int)).min() >= 0 for row in silent)  # once silent, silent to the top
    assert not silent[:, : int(0.6 * FRONT_END.mel_bands)].any()
    # A sixth of them as if sampled at 16 kHz: here by librosa's peaks of bands, the last one below 8 kHz is heard.
    peaks_hz = librosa.mel_frequencies(FRONT_END.mel_bands + 2, fmin=0, fmax=11_025)[1:-1]
    loudest = (~silent).sum(axis=1)
    at_8_khz = np.abs(peaks_hz[loudest - 1] - 8000) < 60
    assert 0.1 < at_8_khz.mean() < 0.3


def test_masks_are_no_wider_than_asked_and_leave_the_rest():
    settings = dataclasses.replace(NONE, mask_bands=10, mask_s=0.558)
    levels = tf.fill([300, FRONT_END.chunk_frames, FRONT_END.mel_bands], 150.0)
    masked = augment.mask(levels, FRONT_END, settings, seed=tf.constant([3, 4])).numpy()
    assert set(np.unique(masked)) == {0.0, 150.0}
    bands, frames = (masked == 0).all(axis=1).sum(axis=1), (masked == 0).all(axis=2).sum(axis=1)
    assert 15 <= bands.max() <= 20
    assert 8 <= frames.max() <= 12


def test_jitter_moves_every_point_on_its_own_by_at_most_its_limit():
    settings = dataclasses.replace(NONE, jitter_db=0.7)
    levels = crops(NONE)
    moved = vary(settings, levels) - levels[:, : FRONT_END.chunk_frames].numpy()
    limit = 0.7 / FRONT_END.level_step_db
    assert limit * 0.99 < np.abs(moved).max() <= limit * 1.001
    assert moved.std() == pytest.approx(limit / 3**0.5, rel=0.01)


def test_blending_adds_powers_not_decibels():
    step = FRONT_END.level_step_db
    levels = np.full((2, 3, FRONT_END.mel_bands), 240, np.float32)
    levels[1] -= 20 / step  # 20 dB softer
    blended = augment.blend(tf.constant(levels), FRONT_END, tf.constant([0.5, 0.75])).numpy()
    np.testing.assert_allclose(blended[0] * step, 120 + 10 * np.log10(0.5 + 0.5 * 0.01), atol=0.01)
    np.testing.assert_allclose(blended[1] * step, 120 + 10 * np.log10(0.75 * 0.01 + 0.25), atol=0.01)


def test_blend_shares_lie_between_half_and_all():
    shares = augment.blend_shares(tf.constant(500), augment.Augmentation(mixup=0.3), seed=tf.constant([5, 6])).numpy()
    assert shares.min() >= 0.5
    assert shares.max() <= 1.0
    assert shares.std() > 0.1
    np.testing.assert_array_equal(augment.blend_shares(tf.constant(5), NONE, seed=tf.constant([5, 6])), np.ones(5))


@pytest.mark.filterwarnings("ignore")
def test_holes_are_distributed_as_tensorflow_ios_are():
    tfio = pytest.importorskip("tensorflow_io")
    settings = dataclasses.replace(NONE, mask_bands=16, mask_s=0.56)
    frames = round(settings.mask_s * FRONT_END.frames_per_s)
    flat = tf.fill([1500, FRONT_END.chunk_frames, FRONT_END.mel_bands], 150.0)
    ours = augment.mask(flat, FRONT_END, settings, seed=tf.constant([3, 4])).numpy() == 0

    @tf.function
    def one(x):
        for _ in range(2):
            x = tfio.audio.time_mask(tfio.audio.freq_mask(x, param=settings.mask_bands), param=frames)
        return x

    tf.random.set_seed(1)
    theirs = tf.map_fn(one, flat).numpy() == 0
    for axis in (1, 2):
        width, other = (holes.all(axis=axis).sum(axis=1) for holes in (ours, theirs))
        assert width.mean() == pytest.approx(other.mean(), abs=0.6)
        assert width.std() == pytest.approx(other.std(), rel=0.15)
        where, elsewhere = (holes.all(axis=axis).mean(axis=0) for holes in (ours, theirs))
        np.testing.assert_allclose(where, elsewhere, atol=0.06)
