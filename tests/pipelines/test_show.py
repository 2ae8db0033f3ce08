"""The picture of a track: it is there, it says what was heard, and what cannot be heard is one line."""

import dataclasses
import functools
import re

import numpy as np
import pytest
import synth
from click.testing import CliRunner
from commandline import exit_code_of, genrebeam

from genrebeam.features.config import FrontEnd
from genrebeam.model.predictor import PlaceholderPredictor
from genrebeam.pipelines import api
from genrebeam.pipelines.jobs import fonts, show
from genrebeam.pipelines.jobs.fonts import fonts_for
from genrebeam.pipelines.jobs.show import draw, envelope

LABELS = ("low", "middle", "high")


@pytest.fixture
def tagger():
    with api.GenreTagger(predictor=PlaceholderPredictor(LABELS, FrontEnd(), batch_size=4)) as tagger:
        yield tagger


def pixels(path):
    from matplotlib.image import imread

    return imread(path)


@pytest.mark.parametrize("seconds", [1.5, 4.0, 61.3])
def test_a_track_becomes_a_picture(tagger, tmp_path, seconds):
    song = synth.write(tmp_path / "a $song_1.wav", synth.sine(60, seconds))
    heard = draw(song, tmp_path / "a.png", tagger)
    assert heard.genre == "low"
    picture = pixels(tmp_path / "a.png")
    assert picture.shape[:2] == (750, 1100)
    assert picture.std() > 0.1


def test_what_differs_looks_different(tagger, tmp_path):
    for name, samples in (("low", synth.sine(60, 9.0)), ("high", synth.sine(9000, 9.0))):
        draw(synth.write(tmp_path / f"{name}.wav", samples), tmp_path / f"{name}.png", tagger)
    low, high = pixels(tmp_path / "low.png"), pixels(tmp_path / "high.png")
    differs = np.abs(low - high).max(axis=2) > 0.5
    assert differs[210:480, 70:975].sum() > 2000  # the spectrogram: a line at the bottom, and one at the top
    assert differs[500:700, 70:975].mean() < 0.5  # the timeline: another genre


def test_the_envelope_follows_the_loudness_whatever_the_length(tmp_path):
    samples = np.concatenate([synth.sine(440, 10.0, amplitude=0.1), synth.sine(440, 10.0, amplitude=0.8)])
    song = synth.write(tmp_path / "a.wav", samples)
    times_s, low, high = envelope(song, 22_050, 20.0)
    assert 1500 < len(times_s) < 1700
    quiet, loud = times_s < 9.5, (times_s > 10.5) & (times_s < 19.5)
    assert high[quiet].max() < 0.15 and high[loud].min() > 0.7 and low[loud].max() < -0.7


def test_the_command_says_what_it_heard_and_where_the_picture_is(tmp_path):
    song = synth.write(tmp_path / "a song.mp3", synth.music(9.0, seed=1))
    done = genrebeam("show", song, "--output", tmp_path / "a.png")
    assert done.stderr == ""
    picture = re.escape(str(tmp_path / "a.png"))
    assert re.fullmatch(rf"[\w& -]+  \d+%(  perhaps none of these)?  -> {picture}\n", done.stdout)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a song.mp3", "a.png"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["{tmp}/gone.mp3"], "{tmp}/gone.mp3"), (["{tmp}/text.mp3"], "{tmp}/text.mp3"),
     (["{tmp}/text.mp3", "--output", "{tmp}/no/a.png"], "there is no folder {tmp}/no")],
)  # fmt: skip
def test_mistakes_are_one_line_and_code_2(tmp_path, arguments, says, monkeypatch):
    from genrebeam.pipelines import cli

    (tmp_path / "text.mp3").write_text("no music " * 100)
    monkeypatch.setattr(api, "BundlePredictor", functools.partial(pytest.fail, "nothing is worth loading"))
    runner = CliRunner()
    result = runner.invoke(cli.cli, ["show", *[a.format(tmp=tmp_path) for a in arguments]])
    assert says.format(tmp=tmp_path) in str(result.exception)
    assert "Error" not in str(result.exception).split(":")[0]


def test_the_headline_is_the_mean_of_its_curve_or_the_picture_says_that_it_is_not(tagger, tmp_path):
    song = synth.write(tmp_path / "a.wav", np.concatenate([synth.sine(60, 9.0), synth.sine(9000, 7.0)]))
    heard = tagger.hear(song)
    assert heard.confidence == pytest.approx(heard.timeline.mean(axis=0).max(), abs=1e-3)
    assert show._scale_of(heard).startswith(f"The {heard.confidence:.0%} for low is the mean of its curve.")
    voted = dataclasses.replace(heard, confidence=heard.confidence / 2)
    assert "is not the mean of its curve" in show._scale_of(voted)


def test_a_font_is_looked_for_where_the_usual_one_lacks_a_letter():
    assert fonts_for("Ünïcödé Песня العربية") == (["DejaVu Sans"], "")
    families, missing = fonts_for("a \u20d2")  # in STIX, which comes with matplotlib
    assert families[0] == "DejaVu Sans" and len(families) == 2 and not missing
    assert fonts_for("a \U0010fffd").missing == "\U0010fffd"  # nobody's letter


def test_names_without_a_font_are_drawn_and_said(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fonts, "fonts_for", lambda text: fonts.Fonts(["DejaVu Sans"], "名"))
    song = synth.write(tmp_path / "名 $x$ 4$.wav", synth.sine(60, 4.0))
    assert exit_code_of("show", song, "--output", tmp_path / "a.png") == 0
    assert "no font here has 名" in capsys.readouterr().err
    assert pixels(tmp_path / "a.png").shape[:2] == (750, 1100)
