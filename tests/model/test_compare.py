"""The comparison: a leak that shows, figures that can be counted by hand, and networks on the same chunks."""

import dataclasses
import itertools
import json
import os
import shutil

import librosa
import numpy as np
import pytest
import soundfile
import synth
import tiny_shards
from click.testing import CliRunner
from commandline import genrebeam

from genrebeam.features.chunks import chunks_of
from genrebeam.features.errors import UsageError
from genrebeam.model import compare, contenders, shardset
from genrebeam.model.augment import NONE, Augmentation
from genrebeam.model.compare import HONEST, LEAKY, Plan, Row
from genrebeam.model.contenders import Chunks
from genrebeam.model.train import TrainConfig
from genrebeam.pipelines.commands.compare import _audio, command

K_NN = Plan(("log-Mel",), ("k-NN",))


def songs(count=60):
    """Each song is a random spectrum with a little noise, its genre drawn blindly: nothing can be learned but songs."""
    random = np.random.default_rng(1)
    levels, genre = [], []
    for _ in range(count):
        spectrum = random.integers(60, 200, (1, 1, 16))
        levels.append(np.clip(spectrum + random.integers(-3, 4, (10, 15, 16)), 0, 255))
        genre += [random.integers(0, 3)] * 10
    track = np.repeat(np.arange(count), 10)
    split = np.where(track < count // 2, "train", "valid")
    position = np.tile(np.arange(10), count)
    every = np.concatenate(levels).astype(np.uint8)
    return Chunks(every, np.array(genre), track, position, split, tiny_shards.GENRES, tiny_shards.FRONT_END)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_shards.write(tmp_path_factory.mktemp("shards"), train=6, valid=2)


@pytest.fixture(scope="module")
def chunks(shards):
    return compare.read_chunks(shards, ["train", "valid"])


def test_the_leaky_protocol_makes_an_oracle_of_a_fool():
    chunks = songs()
    rows = {row.protocol: row for row in compare.compare(chunks, compare.protocols(chunks, "valid"), K_NN)}
    assert rows[HONEST].track_accuracy < 0.6
    assert rows[LEAKY].track_accuracy > 0.9


def test_the_honest_protocol_shares_no_track():
    chunks = songs()
    tested = compare.protocols(chunks, "valid")
    for protocol, shared in ((HONEST, 0), (LEAKY, 50)):
        both = set(chunks.track[tested[protocol]]) & set(chunks.track[~tested[protocol]])
        assert len(both) >= shared
        assert bool(both) == bool(shared)
    assert tested[LEAKY].mean() == pytest.approx(0.2, abs=0.03)


def test_chunks_come_from_tracks_of_one_genre(tmp_path):
    shards = tiny_shards.write(tmp_path, train=2, valid=1, extra=(("low", "high"), ()))
    chunks = compare.read_chunks(shards, ["train"])
    assert len(set(chunks.track)) == 6
    assert chunks.levels.shape[1:] == (shards.front_end.chunk_frames, 16)
    assert np.bincount(chunks.genre).tolist() == [8, 8, 8]  # 60 frames: 4 chunks of each of two tracks
    assert chunks.position[:5].tolist() == [0, 1, 2, 3, 0]


class Foretold:
    """Answers what it is given."""

    def __init__(self, answers):
        self.answers = answers

    def fit(self, x, chunks):
        pass

    def scores(self, x):
        return self.answers[x]

    def size_bytes(self):
        return 2000


def test_figures_are_those_counted_by_hand():
    # Two tracks of two chunks; the first is right by its mean though one chunk is wrong, the second is wrong.
    chunks = songs(2)
    mask = np.isin(chunks.position, [0, 1])
    answers = np.zeros((20, 3))
    for at, scores in zip(np.flatnonzero(mask), ([9, 0, 1], [0, 1, 0], [0, 0, 5], [0, 0, 5]), strict=True):
        answers[at] = scores
    told = Chunks(
        chunks.levels, np.where(chunks.track == 0, 0, 1), chunks.track, chunks.position, chunks.split,
        chunks.labels, chunks.front_end,
    )  # fmt: skip
    found = compare._measure(Foretold(answers), np.arange(20), told, mask)
    assert found["track_accuracy"] == 0.5
    assert found["chunk_accuracy"] == 0.25
    assert found["macro_f1"] == pytest.approx(1 / 3)  # genres 0, 1 and the one heard by mistake: 1, 0, 0
    assert (found["size_kb"], found["tracks"]) == (2.0, 2)


def test_a_genre_that_training_never_met_is_never_the_answer():
    chunks = songs()
    model = contenders.scikit_learn()["logistic regression"]()
    model.fit(np.random.default_rng(0).random((50, 4)), chunks.where(chunks.genre != 1).where(np.arange(50)))
    scores = model.scores(np.random.default_rng(1).random((5, 4)))
    assert np.isneginf(scores[:, 1]).all()
    assert np.isfinite(scores[:, [0, 2]]).all()


def test_every_algorithm_of_scikit_learn_hears_a_bright_stripe(chunks):
    plan = Plan(("log-Mel",))
    rows = list(compare.compare(chunks, compare.protocols(chunks, "valid", leaky=False), plan))
    assert [row.algorithm for row in rows] == list(contenders.scikit_learn())
    for row in rows:
        floor = 0.3 if row.algorithm in ("gradient boosting", "dense network") else 0.99  # 72 chunks are few
        assert row.track_accuracy > floor
        assert min(row.fit_s, row.predict_ms, row.size_kb) > 0
        assert row.tracks == 6


def test_the_cnn_of_the_tutorials_has_its_size():
    network = contenders.build_tutorial_cnn(tiny_shards.FRONT_END, 10)
    assert network.count_params() == 7_182_458
    assert network.output_shape == (None, 10)


@dataclasses.dataclass(frozen=True)
class ShortRecipe(TrainConfig):
    """The recipe for a run of 100 steps: a shorter average, and no shifts, where so few bands tell genres apart."""

    ema: float = 0.5
    learning_rate: float = 1e-2
    augmentation: Augmentation = NONE


@pytest.mark.parametrize(("name", "epochs"), [("VGG-like CNN", 3), ("genrebeam's CNN", 12)])
def test_networks_hear_a_bright_stripe(chunks, monkeypatch, name, epochs):
    monkeypatch.setattr("genrebeam.model.train.TrainConfig", ShortRecipe)
    few = chunks.where(chunks.position < 2)
    told = []
    plan = Plan((), (name,), epochs)
    tested = compare.protocols(few, "valid", leaky=False)
    (row,) = compare.compare(few, tested, plan, tell=told.append)
    assert row.algorithm == f"{name}, {epochs} epochs"
    assert row.track_accuracy > 0.6
    assert min(row.fit_s, row.predict_ms, row.size_kb) > 0
    assert f"{row.algorithm}: {epochs} done, loss" in told[-1]


def test_stretches_hold_every_moment_of_the_chunks_once():
    frames = tiny_shards.FRONT_END.chunk_frames + 9 * tiny_shards.FRONT_END.chunk_step_frames
    music = [tiny_shards.log_mel("low", seed, frames) for seed in (0, 1)]
    cut = np.concatenate([chunks_of(levels, tiny_shards.FRONT_END) for levels in music])
    whole = songs(2)
    chunks = Chunks(
        cut, whole.genre, whole.track, whole.position, whole.split, whole.labels, whole.front_end
    )  # fmt: skip
    found = list(contenders.stretches(chunks))
    for (levels, genre), original, expected in zip(found, music, whole.genre[::10], strict=True):
        np.testing.assert_array_equal(levels, original)
        assert genre == expected
    # Without the fifth chunk of the first track that falls into two stretches, each as long as its chunks.
    step = tiny_shards.FRONT_END.chunk_step_frames
    pieces = [levels for levels, _ in contenders.stretches(chunks.where(np.arange(20) != 4))]
    assert len(pieces) == 3
    np.testing.assert_array_equal(pieces[0], music[0][: 3 * step + chunks.front_end.chunk_frames])
    np.testing.assert_array_equal(pieces[1], music[0][5 * step :])


def test_the_table_sets_leaky_beside_honest():
    figures = {"chunk_accuracy": 0.3, "macro_f1": 0.2, "fit_s": 1.5, "predict_ms": 7.0, "size_kb": 5.0, "tracks": 9}
    rows = [
        Row(LEAKY, "MFCC", "k-NN", track_accuracy=0.987, **figures),
        Row(HONEST, "chroma", "SVM", track_accuracy=0.6, **figures),
        Row(HONEST, "MFCC", "k-NN", track_accuracy=0.456, **figures),
    ]
    header, _, *body = compare.markdown(rows).splitlines()
    assert header.count("LEAKY") == header.count("honest") == 3
    assert body[0] == "| chroma | SVM | 0.600 | 0.300 | 0.200 | – | – | – | 1.5 | 7 | 5 |"
    assert body[1] == "| MFCC | k-NN | 0.456 | 0.300 | 0.200 | 0.987 | 0.300 | 0.200 | 1.5 | 7 | 5 |"


def run(shards, output, *options):
    arguments = [str(shards.path), "--output", str(output), *options]
    return CliRunner().invoke(command, arguments)


FEW = ("--features", "spectral", "--features", "rhythm", "--algorithm", "k-NN", "--algorithm", "SVM")


def test_a_killed_comparison_goes_on(shards, tmp_path, monkeypatch):
    measure, calls = compare._measure, itertools.count(1)

    def killed_at_the_third(*arguments):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(compare, "_measure", killed_at_the_third)
    assert run(shards, tmp_path, *FEW).exit_code != 0
    kept = compare.load_rows(tmp_path, recipe(shards))
    assert len(kept) == 2
    assert (tmp_path / "compare.png").stat().st_size > 1000
    assert run(shards, tmp_path, *FEW).exit_code == 0
    rows = compare.load_rows(tmp_path, recipe(shards))
    assert rows[:2] == kept
    assert len(rows) == len({row.key for row in rows}) == 8
    assert next(calls) == 3 + 6 + 1  # nothing is measured twice
    assert (tmp_path / "compare.md").read_text() == compare.markdown(rows)


def recipe(shards):
    return {"shards": shards.fingerprint, "splits": ["train"], "test_split": "valid", "seed": 0}


def test_rows_are_added_to_the_same_table(shards, tmp_path):
    assert run(shards, tmp_path, *FEW[:2], "--algorithm", "k-NN", "--no-leaky").exit_code == 0
    result = run(shards, tmp_path, *FEW[2:4], "--algorithm", "k-NN", "--no-leaky")
    assert {row.features for row in compare.load_rows(tmp_path, recipe(shards))} == {"spectral", "rhythm"}
    assert "| spectral | k-NN |" in result.output


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--algorithm", "magic"], "--algorithm magic: choose from k-NN"),
        (["--features", "smell"], "--features smell: choose from log-Mel"),
        (["--features", "zero crossings"], "--features zero crossings: shards hold no waveform; give the library"),
        (["--audio", "/nowhere/at/all"], "/nowhere/at/all: no such library"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--test-split", "train"], "cannot be measured on honestly"),
        (["--test-split", "nowhere"], "no split 'nowhere'"),
    ],
)
def test_mistakes_are_named(shards, tmp_path, options, says):
    result = run(shards, tmp_path, *options)
    assert isinstance(result.exception, UsageError)
    assert says in str(result.exception)


def test_another_comparison_is_not_mixed_in(shards, tmp_path):
    only = ("--features", "rhythm", "--algorithm", "k-NN", "--no-leaky")
    assert run(shards, tmp_path, *only).exit_code == 0
    result = run(shards, tmp_path, *only, "--seed", "1")
    assert isinstance(result.exception, UsageError)
    assert "another seed" in str(result.exception)
    assert "audio" not in json.loads((tmp_path / "compare.json").read_text())
    result = run(shards, tmp_path, *only, "--audio", str(tmp_path))
    assert isinstance(result.exception, UsageError)
    assert "holds a comparison without --audio" in str(result.exception)
    compare.save(compare.load_rows(tmp_path, recipe(shards)), tmp_path, recipe(shards) | {"audio": True})
    result = run(shards, tmp_path, *only)
    assert isinstance(result.exception, UsageError)
    assert "holds a comparison with --audio" in str(result.exception)
    (tmp_path / "compare.json").write_text("[]")
    result = run(shards, tmp_path, *only)
    assert "not a comparison of this genrebeam" in str(result.exception)


ODD = os.fsdecode(b"high/caf\xe9.wav")  # is not valid UTF-8


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A library of low and of high tones, and its shards: folders."""
    root = tmp_path_factory.mktemp("audio")
    library, names = root / "library", {}
    for number in range(16):
        genre, hz = ("low", 200) if number % 2 else ("high", 3000)
        stereo = np.stack([synth.sine(hz + 10 * number, 9.0, sample_rate_hz=44_100)] * 2, axis=1)
        name = f"{genre}/{number}.{('mp3', 'flac', 'ogg')[number % 3]}"
        synth.write(library / name, stereo, sample_rate_hz=44_100)
        names[name] = genre, "train" if number < 10 else "valid"
    for name, listed in (("low/first.wav", "low/first.wav"), (ODD, "high/caf%E9.wav")):
        two = np.concatenate([synth.sine(300, 6.0), synth.sine(2500, 6.0)])
        soundfile.write(os.fsencode(library / name), two, 22_050, format="WAV")
        names[listed] = name.split("/")[0], "train"
    table = root / "labels.csv"
    rows = [f"{name},{genre},{split}" for name, (genre, split) in names.items()]
    table.write_text("\n".join(["track_id,genre,split", *rows]))
    genrebeam("shards", library, "--labels", table, "--output", root / "shards", "--workers", "1", "--quiet")
    return library, shardset.load(root / "shards")


def test_zero_crossings_lie_in_the_chunks_of_the_log_mel(heard):
    library, shards = heard
    told = []
    chunks = compare.read_chunks(shards, ["train", "valid"], _audio((str(library),)), tell=told.append)
    assert chunks.crossings.shape == chunks.levels.shape[:2]
    assert told[-1] == "hearing track 18 of 18"
    # Where a track turns from 300 to 2,500 Hz, levels and zero crossings turn in the same frame of the same chunk.
    bright = chunks.levels.argmax(axis=2) > 30
    often = chunks.crossings > (300 + 2500) / 22_050  # twice the mean of both
    turning = [number for number in np.unique(chunks.track) if 0.3 < bright[chunks.track == number].mean() < 0.7]
    assert len(turning) == 2
    for number in turning:
        mask = chunks.track == number
        assert (often[mask] == bright[mask]).mean() > 0.99
        np.testing.assert_array_equal(chunks.where(mask).crossings, chunks.crossings[mask])


def test_zero_crossings_of_a_track_are_librosas(heard):
    library, shards = heard
    chunks = compare.read_chunks(shards, ["train"], _audio((str(library),)))
    samples, _ = soundfile.read(library / "low" / "first.wav", dtype="float32")
    theirs = librosa.feature.zero_crossing_rate(samples, frame_length=2048, hop_length=1024)
    expected = chunks_of(theirs.T, shards.front_end)[:, :, 0]
    found = [chunks.crossings[chunks.track == number] for number in np.unique(chunks.track)]
    assert sum(f.shape == expected.shape and np.allclose(f, expected, atol=1e-6) for f in found) == 2  # both turn


def test_zero_crossings_as_users_have_them(heard, tmp_path):
    library, shards = heard
    options = ("--audio", library, "--algorithm", "logistic regression", "--no-leaky", "--quiet")
    few = ("--features", "zero crossings", "--features", "spectral")
    genrebeam("compare", shards.path, "--output", tmp_path, *options, *few)
    kept = json.loads((tmp_path / "compare.json").read_text())
    assert kept["audio"] is True
    assert [row["features"] for row in kept["rows"]] == ["zero crossings", "spectral"]
    assert kept["rows"][0]["track_accuracy"] == 1.0
    assert "| zero crossings | logistic regression | 1.000 |" in (tmp_path / "compare.md").read_text()
    # Every kind there is, with the same table gone on with; then a library that lacks a track.
    assert run(shards, tmp_path, *map(str, options)).exit_code == 0
    rows = compare.load_rows(tmp_path, recipe(shards) | {"audio": True})
    assert [row.features for row in rows[2:]] == ["log-Mel", "MFCC", "chroma", "rhythm", "all"]
    shutil.copytree(library, tmp_path / "less")
    (tmp_path / "less" / "high" / "0.mp3").unlink()
    options = ("--audio", tmp_path / "less", *few, "--quiet")
    refused = genrebeam("compare", shards.path, "--output", tmp_path / "out", *options, code=2)
    assert refused.stderr.count("\n") == 1
    assert "--audio: high/0.mp3: not in the library (1 of 18 tracks are not); give the one" in refused.stderr
    assert refused.stdout == ""


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda file: file.write_bytes(b"not music at all" * 99), "no decoder knows this format"),
        (lambda file: file.write_bytes(b""), "the file is empty"),
        (lambda file: synth.write(file, synth.sine(440, 7.0)), "151 frames long, and 259 in the shards"),
    ],
    ids="words empty shorter".split(),
)
def test_a_track_that_is_not_what_it_was_is_named(heard, tmp_path, damage, says):
    library, shards = heard
    shutil.copytree(library, tmp_path / "library")
    damage(tmp_path / "library" / "low" / "first.wav")
    with pytest.raises(UsageError, match=rf"^--audio: low/first.wav: {says}.*make the shards anew$"):
        compare.read_chunks(shards, ["train"], _audio((str(tmp_path / "library"),)))
