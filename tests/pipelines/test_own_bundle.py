"""From a catalog that somebody corrected to a bundle of their own: the three commands of docs/training.md."""

from __future__ import annotations

from pathlib import Path

import pytest
import synth
import tagfiles
from commandline import exit_code_of

from genrebeam.features.errors import UsageError
from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.api import GenreTagger
from genrebeam.pipelines.dataset.corrections import correct
from genrebeam.pipelines.jobs.shards import corrected_tracks


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight hums and eight whistles, each in an album of two, all of them heard as hiphop."""
    folder = tmp_path_factory.mktemp("catalog")
    heard = {}
    for number in range(16):
        hz = (90 if number < 8 else 5000) * (1 + number / 50)
        tone = synth.sine(hz, 9.0) + synth.noise(9.0, seed=number, amplitude=0.02)
        path = synth.write(folder / "music" / f"album {number // 2}" / f"{number}.wav", tone)
        heard[path] = [("hiphop", 0.95 if number == 0 else 0.4)]
    tagfiles.results(folder / "tagged", heard, root=folder / "music")
    return folder


def name(number: int) -> str:
    return f"album {number // 2}/{number}.wav"


@pytest.mark.slow
def test_three_commands_make_a_bundle_that_hears_what_was_said(catalog, tmp_path):
    for number in range(16):
        correct(catalog / "tagged", name(number), "hum" if number < 8 else "Whistle")
    shards, bundle = tmp_path / "shards", tmp_path / "my-bundle"
    how = ("--hop-length", 2048, "--split-shares", "train=0.7,valid=0.3", "--workers", 1)
    assert exit_code_of("shards", catalog / "tagged", "--corrections", *how, "--output", shards) == 0
    recipe = ("--init", DEFAULT, "--batch-size", 8, "--epochs", 5, "--learning-rate", 0.002, "--threads", 2)
    assert exit_code_of("train", shards, "--output", bundle, *recipe, "--quiet") == 0
    assert load_config(bundle).labels == ("Whistle", "hum")
    with GenreTagger(bundle) as tagger:
        heard = tagger.hear([catalog / "music" / name(number) for number in (0, 15)])
    assert [one.genre for one in heard] == ["hum", "Whistle"]


def test_words_that_mean_one_genre_become_one_label_and_albums_stay_together(catalog):
    for number, said in ((1, "Hip Hop"), (2, "zouk"), (3, "Zouk"), (4, "Rock; Hip-Hop/Rap")):
        correct(catalog / "tagged", name(number), said)
    correct(catalog / "tagged", name(3), None)
    correct(catalog / "tagged", name(3), "Zouk")
    tracks, labels = corrected_tracks(catalog / "tagged")
    assert {track.track_id for track in tracks} == set(labels) >= {name(number) for number in (1, 2, 3, 4)}
    assert [labels[name(number)].genres for number in (1, 2, 3, 4)] == [
        ("hiphop",), ("zouk",), ("zouk",), ("Rock", "hiphop"),
    ]  # fmt: skip
    assert labels[name(2)].group == labels[name(3)].group == "album 1"


def test_what_the_model_was_sure_of_counts_where_that_is_asked_for(catalog, tmp_path):
    with pytest.raises(UsageError, match="no results here"):
        corrected_tracks(tmp_path)
    heard = {catalog / "music" / name(number): [("hiphop", score)] for number, score in ((0, 0.95), (1, 0.4))}
    tagfiles.results(tmp_path / "out", heard, root=catalog / "music")
    with pytest.raises(UsageError, match="no corrections to learn from"):
        corrected_tracks(tmp_path / "out")
    tracks, labels = corrected_tracks(tmp_path / "out", sure=0.9)
    assert [track.track_id for track in tracks] == [name(0)] and labels[name(0)].genres == ("hiphop",)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--sure", "0.9"], "--sure goes with"), (["--corrections", "--stored-log-mels"], "--stored-log-mels goes with")],
)
def test_options_that_do_not_go_together_are_one_line(catalog, tmp_path, options, message, capsys):
    assert exit_code_of("shards", catalog / "tagged", "--output", tmp_path / "shards", *options) == 2
    assert message in capsys.readouterr().err
