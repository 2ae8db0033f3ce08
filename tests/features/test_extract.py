"""Every kind of file is heard alike, whatever it is called; what is no music is refused by its own name."""

import os
import warnings

import numpy as np
import pytest
import soundfile
import soxr
import synth

from genrebeam.features.config import FrontEnd
from genrebeam.features.decode import AudioBlock
from genrebeam.features.errors import DecodeFailed, NotAudio, TooLong, TooShort, TrackError, UnreadableFile
from genrebeam.features.extract import extract, mono_blocks, to_mono
from genrebeam.features.limits import ExtractLimits
from genrebeam.features.mel import log_mel

FRONT_END = FrontEnd()
KINDS = {
    "wav": ("wav", "pcm_s16"),
    "aiff": ("aiff", "pcm_s16"),
    "au": ("au", "pcm_s16"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "vorbis"),
    "opus": ("ogg", "opus"),
    "mp3": ("mp3", "mp3"),
    "m4a": ("mp4", "aac"),
    "alac.m4a": ("mp4", "alac"),
    "wma": ("asf", "wmav2"),
    "wv": ("wv", "wavpack"),
}


@pytest.mark.parametrize("suffix", KINDS)
def test_each_format_sounds_like_the_original(tmp_path, suffix):
    samples = synth.music(6.0, seed=3)
    levels, info = extract(synth.write(tmp_path / f"x.{suffix}", samples), FRONT_END)
    assert (info.container, info.codec) == KINDS[suffix]
    assert info.channels == 1
    assert info.duration_s == pytest.approx(6.0, abs=0.15)
    original = log_mel(samples[:, 0], FRONT_END)
    # Lossy codecs throw away what nobody hears and shift by up to a frame; the loud bands must agree.
    middle = slice(20, 100)
    loud = original[middle] > 150
    best = min(np.abs(levels[20 + s : 100 + s].astype(int) - original[middle])[loud].mean() * 0.5 for s in (-1, 0, 1))
    assert best < 3.0, f"{best:.1f} dB away from the original"


def test_the_content_decides_and_not_the_suffix(tmp_path):
    path = synth.write(tmp_path / "x.m4a", synth.music(3.0, seed=1))
    _, info = extract(path.rename(tmp_path / "x.mp3"), FRONT_END)
    assert (info.container, info.codec) == ("mp4", "aac")


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 48_000, 96_000])
def test_every_sample_rate_ends_at_22050(tmp_path, rate):
    tone = synth.sine(1000, 3.0, sample_rate_hz=rate)
    levels, info = extract(synth.write(tmp_path / "x.wav", tone, sample_rate_hz=rate), FRONT_END)
    assert info.sample_rate_hz == rate
    assert levels.shape[0] == pytest.approx(1 + 3 * 22_050 // 1024, abs=1)
    expected = log_mel(synth.sine(1000, 3.0), FRONT_END)[30].argmax()
    assert levels[30].argmax() == expected


def test_mono_is_the_mean_of_all_channels():
    block = AudioBlock(np.array([[1.0, 0.0, 0.5], [-1.0, 1.0, 0.0]], np.float32), 44_100)
    np.testing.assert_allclose(to_mono(block), [0.5, 0.0], atol=1e-7)


def test_mono_blocks_are_what_the_log_mel_is_made_of(tmp_path):
    samples = synth.music(9.0, seed=4, sample_rate_hz=44_100, channels=2)
    path = synth.write(tmp_path / "x.flac", samples, sample_rate_hz=44_100)
    *blocks, info = mono_blocks(path, 22_050, ExtractLimits())
    levels, expected = extract(path, FRONT_END)
    assert info == expected
    assert len(blocks) > 3
    assert sum(map(len, blocks)) == pytest.approx(9 * 22_050, abs=1)
    made = log_mel(np.concatenate(blocks), FRONT_END).astype(int)
    # Not the last frame: a signal that breaks off there holds more than resampling leaves of it.
    assert np.mean(np.abs(made - levels)[:-1] > 1) < 0.001


@pytest.mark.parametrize("front_end", [FRONT_END, FrontEnd(hop_length=2048)])
def test_twice_the_rate_gives_the_levels_of_the_resampled_signal(tmp_path, front_end):
    """Up to the highest band, of which resampling takes some; noise has something in each."""
    noise = np.random.default_rng(1).normal(0, 0.1, (5 * 44_100, 2)).astype(np.float32)
    soundfile.write(tmp_path / "x.wav", noise, 44_100, subtype="FLOAT")
    levels, _ = extract(tmp_path / "x.wav", front_end)
    resampled = soxr.resample(noise.mean(axis=1), 44_100, 22_050, quality="HQ")
    expected = log_mel(resampled, front_end).astype(int)
    assert levels.shape == expected.shape
    differences = np.abs(expected - levels)[1:-1]
    assert differences.max() <= 1
    assert np.mean(differences > 0) < 0.01


def test_samples_at_the_wanted_rate_are_left_as_they_are(tmp_path):
    samples = synth.music(4.0, seed=4)
    soundfile.write(tmp_path / "x.wav", samples, 22_050, subtype="FLOAT")
    *blocks, _ = mono_blocks(tmp_path / "x.wav", 22_050, ExtractLimits())
    np.testing.assert_array_equal(np.concatenate(blocks), samples[:, 0])


def test_samples_that_are_no_numbers_become_silence(tmp_path):
    samples = synth.music(3.0, seed=5)[:, 0]
    samples[1000] = np.nan
    samples[2000] = np.inf
    soundfile.write(tmp_path / "x.wav", samples, 44_100, subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        levels, _ = extract(tmp_path / "x.wav", FRONT_END)
    assert 100 < levels.max() < 255


def test_a_truncated_file_counts_as_far_as_it_goes(tmp_path):
    path = synth.write(tmp_path / "x.mp3", synth.music(10.0, seed=2))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    _, info = extract(path, FRONT_END)
    assert 4 < info.duration_s < 6


def test_an_mp3_that_changes_on_the_way_is_heard_to_its_end(tmp_path):
    """libsndfile stops where rate or channels change, however little of the file is left."""
    for number, (rate_hz, channels) in enumerate([(44_100, 2), (48_000, 1), (22_050, 2)]):
        samples = synth.music(1.5, seed=number, sample_rate_hz=rate_hz, channels=channels)
        synth.write(tmp_path / f"{number}.mp3", samples, sample_rate_hz=rate_hz)
    parts = [(tmp_path / f"{number}.mp3").read_bytes() for number in range(3)]
    (tmp_path / "all.mp3").write_bytes(b"".join(parts))
    assert len(b"".join(parts[1:])) < 64_000
    _, info = extract(tmp_path / "all.mp3", FRONT_END)
    assert info.duration_s == pytest.approx(4.5, abs=0.3)


def test_names_in_any_encoding(tmp_path):
    name = os.fsdecode(bytes(tmp_path) + b"/caf\xe9 \xff.m4a")
    source = synth.write(tmp_path / "x.m4a", synth.music(2.0, seed=1))
    os.rename(source, name)
    assert extract(name, FRONT_END)[1].codec == "aac"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda p: p.write_bytes(b""), NotAudio),
        (lambda p: p.write_bytes(b"not music at all, just words" * 50), NotAudio),
        (lambda p: p.write_bytes(b"\xff\xd8\xff\xe0" + bytes(500)), NotAudio),
        (lambda p: p.mkdir(), NotAudio),
        (lambda p: os.mkfifo(p), NotAudio),
        (lambda p: p.symlink_to("nowhere"), UnreadableFile),
        (lambda p: None, UnreadableFile),
        (lambda p: soundfile.write(p, np.zeros(0, np.float32), 22_050, format="WAV"), DecodeFailed),
        (lambda p: soundfile.write(p, synth.sine(440, 0.9), 22_050, format="WAV"), TooShort),
    ],
    ids="empty words picture folder pipe dangling missing no-samples short".split(),
)
def test_what_is_no_music_is_refused(tmp_path, make, error):
    make(tmp_path / "x")
    with pytest.raises(error):
        extract(tmp_path / "x", FRONT_END)


def test_an_endless_track_ends(tmp_path):
    path = synth.write(tmp_path / "x.wav", synth.sine(440, 20.0))
    with pytest.raises(TooLong):
        extract(path, FRONT_END, ExtractLimits(max_duration_s=10))


def test_a_damaged_stream_never_raises_anything_but_a_track_error(tmp_path):
    rng = np.random.default_rng(0)
    for suffix in ("mp3", "flac", "ogg", "m4a", "wma", "wv"):
        data = bytearray(synth.write(tmp_path / f"x.{suffix}", synth.music(3.0, seed=1)).read_bytes())
        for _ in range(10):
            damaged = bytearray(data)
            for position in rng.integers(0, len(data), 30):
                damaged[position] = rng.integers(256)
            path = tmp_path / "damaged"
            path.write_bytes(damaged)
            try:
                levels, _ = extract(path, FRONT_END)
                assert levels.dtype == np.uint8
            except TrackError:
                pass
