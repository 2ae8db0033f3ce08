"""Genres from Python: one file or many, the same answers as `genrebeam tag`, and no Beam."""

import dataclasses
import io
import json
import subprocess
import sys
import tempfile
import threading

import numpy as np
import pytest
import synth
from commandline import GENREBEAM, ROOT

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import NotAudio, Silent, TrackError, UsageError
from genrebeam.model.predictor import PlaceholderPredictor
from genrebeam.pipelines.api import GenreTagger, Heard
from genrebeam.pipelines.dataset.ledger import newest_results

LABELS = ("low", "middle", "high")


@pytest.fixture(scope="module")
def tagger():
    with GenreTagger(predictor=PlaceholderPredictor(LABELS, FrontEnd(), batch_size=4)) as tagger:
        yield tagger


def test_one_file(tagger, tmp_path):
    heard = tagger.hear(synth.write(tmp_path / "a.wav", synth.sine(60, 9.0)))
    assert isinstance(heard, Heard)
    assert (heard.genre, heard.top[0], heard.labels) == ("low", ("low", heard.confidence), LABELS)
    assert heard.timeline.shape == (3, 3)
    np.testing.assert_allclose(heard.times_s, [0, 2, 4], atol=0.1)
    assert heard.audio.duration_s == pytest.approx(9.0)


def test_many_files_come_back_in_order_and_bad_ones_as_errors(tagger, tmp_path):
    (tmp_path / "bad.mp3").write_bytes(b"no music at all" * 50)
    songs = [
        synth.write(tmp_path / "high.wav", synth.sine(9000, 30.0)),
        tmp_path / "bad.mp3",
        str(synth.write(tmp_path / "low.wav", synth.sine(60, 5.0))),
        synth.write(tmp_path / "silent.wav", synth.sine(60, 5.0, amplitude=0.0)),
        tmp_path / "gone.wav",
    ]
    high, bad, low, silent, gone = tagger.hear(songs)
    assert (high.genre, low.genre) == ("high", "low")
    assert isinstance(bad, NotAudio) and isinstance(silent, Silent) and isinstance(gone, TrackError)
    assert all(str(song) in str(error) for song, error in zip(songs[1::2], (bad, silent), strict=True))
    assert tagger.hear([]) == []


def test_a_file_that_cannot_be_heard_is_an_error_with_its_name(tagger, tmp_path):
    with pytest.raises(TrackError, match=r"gone\.mp3"):
        tagger.hear(tmp_path / "gone.mp3")


def test_silence_does_not_vote(tagger, tmp_path):
    samples = np.concatenate([synth.sine(60, 8.0), synth.sine(60, 12.0, amplitude=0.0)])
    heard = tagger.hear(synth.write(tmp_path / "a.wav", samples))
    assert not heard.timeline[-1].any()
    assert heard.confidence == pytest.approx(heard.timeline[heard.timeline.any(axis=1)].mean(axis=0).max())


@pytest.mark.slow
def test_it_hears_what_tag_hears(tmp_path):
    songs = [synth.write(tmp_path / "music" / f"{i}.mp3", synth.music(12.0, seed=i)) for i in range(3)]
    command = [*GENREBEAM, "tag", tmp_path / "music", "--output", tmp_path / "out", "--quiet"]
    subprocess.run([*map(str, command)], cwd=ROOT, check=True)
    rows = {row["track_id"]: row for row in newest_results(tmp_path / "out").to_pylist()}
    with GenreTagger() as tagger:
        for song, heard in zip(songs, tagger.hear(songs), strict=True):
            row = rows[song.name]
            assert heard.genre == row["genre"]
            assert heard.confidence == pytest.approx(row["confidence"], abs=1e-3)
            np.testing.assert_allclose(heard.timeline, row["chunk_scores"], atol=0.0051)


def test_it_needs_no_beam_and_no_tensorflow_to_be_imported():
    code = "import sys, genrebeam.pipelines.api; print({'apache_beam', 'tensorflow', 'librosa'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "set()"


def test_threads_get_their_own_answers(tagger, tmp_path):
    songs = [synth.write(tmp_path / f"{hz}.wav", synth.sine(hz, 5.0 + hz / 1000)) for hz in (60, 9000)]
    heard = {}

    def hear(song):
        heard[song] = [(found.genre, round(found.audio.duration_s)) for found in (tagger.hear(song) for _ in range(5))]

    threads = [threading.Thread(target=hear, args=[song]) for song in songs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == {songs[0]: [("low", 5)] * 5, songs[1]: [("high", 14)] * 5}


def test_a_network_loaded_before_a_fork_is_refused(monkeypatch):
    tagger = GenreTagger()
    tagger._predictor = PlaceholderPredictor(LABELS, tagger.front_end)  # stands in for a network that was loaded
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(UsageError, match="forked"):
        tagger.hear([])
    tagger.close()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32", "uint16"])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_heard_as_the_file_that_holds_them(tagger, tmp_path, dtype, channels):
    samples = np.concatenate([synth.sine(60, 9.0), synth.sine(9000, 5.0)])
    from_file = tagger.hear(synth.write(tmp_path / "a.wav", samples))
    array = samples
    if dtype == "uint16":
        array = np.round(samples * 32_767 + 32_768).astype(dtype)
    elif dtype.startswith("int"):
        array = np.round(samples * np.iinfo(dtype).max).astype(dtype)
    array = array.astype(dtype) if channels == 1 else np.stack([array.astype(dtype)] * channels, axis=1)
    heard = tagger.hear(array, 22_050)
    assert (heard.genre, heard.path, heard.audio.channels) == (from_file.genre, "the array", channels)
    np.testing.assert_allclose(heard.timeline, from_file.timeline, atol=0.03)
    assert heard.audio.duration_s == pytest.approx(14.0)


def test_an_open_file_is_heard_as_its_path_and_left_open(tagger, tmp_path):
    song = synth.write(tmp_path / "a.flac", synth.sine(9000, 9.0))
    with song.open("rb") as file:
        heard, again = tagger.hear(file), tagger.hear([io.BytesIO(song.read_bytes()), song])
        assert not file.closed
    assert heard.path == str(song)
    assert [one.path for one in again] == ["the open file", str(song)]
    for one in again:
        np.testing.assert_array_equal(one.timeline, heard.timeline)


@pytest.mark.parametrize(
    ("sound", "rate", "says"),
    [(np.zeros(9), None, "give sample_rate_hz"), (np.zeros((2, 90_000)), 44_100, r"\.T turns it"),
     (np.zeros((3, 3, 3)), 44_100, "give numbers"), (np.array(["a"]), 44_100, "give numbers"),
     (io.StringIO("text"), None, "mode 'rb'"), ([5], None, "int: give a path")],
)  # fmt: skip
def test_what_is_no_sound_is_one_line(tagger, sound, rate, says):
    with pytest.raises(UsageError, match=says):
        tagger.hear(sound, rate)


def test_no_copy_stays_and_no_message_names_one(tagger, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tagger.hear(synth.sine(60, 5.0), 22_050)
    with pytest.raises(Silent, match=r"^the array: nothing loud enough"):
        tagger.hear(np.zeros(90_000), 22_050)
    with pytest.raises(NotAudio) as caught:
        tagger.hear(io.BytesIO(b"no music " * 100))
    assert str(tmp_path) not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_was_heard_is_a_plain_dict(tagger, tmp_path):
    heard = tagger.hear(synth.write(tmp_path / "a.wav", synth.sine(60, 9.0)))
    plain = json.loads(json.dumps(heard.to_dict()))
    assert plain.keys() == {field.name for field in dataclasses.fields(Heard)} | {"is_unknown"}
    assert plain["is_unknown"] is heard.is_unknown
    assert plain["top"][0] == {"genre": "low", "score": heard.confidence}
    np.testing.assert_array_equal(np.float32(plain["timeline"]), heard.timeline)
    assert plain["audio"]["container"] == "wav"
