"""What recorders and editors do to sound: it is heard as the music that it is."""

import numpy as np
import pytest
import soundfile
import synth

from genrebeam.features.chunks import audible
from genrebeam.features.config import FrontEnd
from genrebeam.features.extract import extract
from genrebeam.features.limits import ExtractLimits

FRONT_END = FrontEnd()
MUSIC = synth.music(6.0, seed=3)[:, 0]


def heard(tmp_path, samples, *, subtype="FLOAT", format="WAV"):
    soundfile.write(tmp_path / "x", samples, 22_050, subtype=subtype, format=format)
    return extract(tmp_path / "x", FRONT_END)


def as_alone(levels):
    """Whether levels are those of MUSIC, but for how loud they are."""
    expected = log_mel_of(MUSIC)
    loud = expected > 120
    differences = levels.astype(int)[loud] - expected[loud]
    return np.abs(differences - np.median(differences)).max() <= 2


def log_mel_of(samples):
    from genrebeam.features.mel import log_mel

    return log_mel(samples.astype(np.float32), FRONT_END).astype(int)


@pytest.mark.parametrize("signs", [(1, -1), (-1, 1), (1, 1, 0, 0, -1, -1), (1, -1, 1, -1), (1, 0.9, 0, 0, -1, -0.9)])
def test_channels_that_cancel_are_heard(tmp_path, signs):
    assert as_alone(heard(tmp_path, np.outer(MUSIC, signs), subtype="PCM_24")[0])


def test_channels_without_relation_are_mixed_as_ever():
    from genrebeam.features.decode import AudioBlock
    from genrebeam.features.extract import to_mono

    noise = np.random.default_rng(1).normal(0, 0.1, (65_536, 6)).astype(np.float32)
    np.testing.assert_allclose(to_mono(AudioBlock(noise, 44_100)), noise.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [2, 6])
def test_a_channel_of_no_numbers_leaves_the_others(tmp_path, bad, channels):
    samples = np.stack([MUSIC] * channels, axis=1)
    samples[:, channels // 2] = bad
    assert as_alone(heard(tmp_path, samples)[0])


@pytest.mark.parametrize("full_scale", [2.0**15, 2.0**23, 2.0**31])
@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
def test_samples_in_the_scale_of_integers_give_the_same_levels(tmp_path, full_scale, subtype):
    expected, _ = heard(tmp_path, MUSIC, subtype=subtype)
    levels, _ = heard(tmp_path, MUSIC * full_scale, subtype=subtype)
    assert np.abs(levels.astype(int) - expected).max() <= 1


def cut(data, share):
    return data[: int(len(data) * share)]


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "AIFF", "AU", "W64", "RF64"])
@pytest.mark.parametrize("share", [0.5, 0.75])
def test_what_is_cut_off_is_told(tmp_path, format, share):
    path = tmp_path / "x"
    soundfile.write(path, MUSIC, 22_050, format=format, subtype="PCM_16")
    path.write_bytes(cut(path.read_bytes(), share))
    _, info = extract(path, FRONT_END)
    assert info.duration_s == pytest.approx(6 * share, abs=0.1)
    assert info.undecoded_s == pytest.approx(6 * (1 - share), abs=0.1)


@pytest.mark.parametrize("size", [0, 0xFFFF_FFFF])
def test_a_recording_that_was_never_closed_is_heard(tmp_path, size):
    path = tmp_path / "x.wav"
    soundfile.write(path, MUSIC, 22_050, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    for at in (4, data.index(b"data") + 4):
        data[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(data)
    levels, info = extract(path, FRONT_END)
    assert info.duration_s == pytest.approx(6.0)
    assert info.undecoded_s == 0
    assert as_alone(levels)


@pytest.mark.parametrize("suffix", ["flac", "wav", "mp3"])
def test_silence_under_all_stretches_is_not_the_track(tmp_path, suffix):
    samples = np.concatenate([MUSIC, np.zeros(60 * 22_050, np.float32), MUSIC])
    levels, info = extract(synth.write(tmp_path / f"x.{suffix}", samples), FRONT_END, ExtractLimits(coverage_s=6))
    assert info.coverage_s is None
    assert audible(levels, FRONT_END)
