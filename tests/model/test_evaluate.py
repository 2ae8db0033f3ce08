"""Figures computed by hand must come out the same, and the report must carry them."""

import dataclasses
import json
import math

import librosa
import numpy as np
import pytest
import tiny_shards
from click.testing import CliRunner

from genrebeam.features.errors import UsageError
from genrebeam.model import bundle, calibration, evaluate, shardset
from genrebeam.model.calibration import ScoredTrack
from genrebeam.model.dataset import chunk_logits
from genrebeam.model.figures import markdown
from genrebeam.model.network import build_cnn
from genrebeam.model.voting import UNCALIBRATED, chunk_scores
from genrebeam.pipelines.commands.evaluate import command

LABELS = ("a", "b", "c")


def logit(p):
    return np.log(p) - np.log1p(-np.asarray(p))


def heard(answer, claimed, *, group="x", confidence=0.9, unknown=1e-6, track_id="t", fold=0, chunks=4, second=None):
    """A track of whose chunks each gives `answer` that confidence, "none of these" that of `unknown`, and `second`,
    if there is one, 0.6."""
    p = np.full(4, (1 - confidence) / 2)
    p[answer], p[3] = confidence, unknown
    if second is not None:
        p[second] = 0.6
    claims = claimed if isinstance(claimed, tuple) else (claimed,)
    return ScoredTrack(track_id, group, claims, np.tile(logit(p), (chunks, 1)).astype(np.float32), fold)


def test_accuracy_precision_recall_and_confusion():
    tracks = [heard(0, 0), heard(0, 0), heard(1, 0), heard(1, 1), heard(2, 2), heard(0, 2)]
    figures = evaluate.measure(tracks, LABELS)
    assert figures["track_accuracy"]["value"] == pytest.approx(4 / 6)
    assert figures["confusion"] == [[2, 1, 0], [0, 1, 0], [1, 0, 1]]
    assert figures["per_genre"]["a"] == pytest.approx({"tracks": 3, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3})
    assert figures["per_genre"]["b"]["recall"] == 1.0
    assert figures["top3_accuracy"] == 1.0


def test_a_track_may_be_right_when_most_of_its_chunks_are_not():
    logits = logit(np.array([[0.4, 0.6, 1e-6, 1e-6], [0.4, 0.6, 1e-6, 1e-6], [0.98, 0.01, 0.01, 1e-6]], np.float32))
    figures = evaluate.measure([ScoredTrack("t", "x", (0,), logits)], LABELS)
    assert figures["track_accuracy"]["value"] == 1.0
    assert figures["chunk_accuracy"]["value"] == pytest.approx(1 / 3)


def test_interval_is_wider_when_the_same_tracks_are_of_fewer_artists():
    def interval(artists):
        tracks = [
            heard(i % 2 if i % artists < artists // 2 else 0, 0, group=f"artist {i % artists}") for i in range(80)
        ]
        accuracy = evaluate.measure(tracks, LABELS)["track_accuracy"]
        assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
        return accuracy["high"] - accuracy["low"]

    assert interval(4) > interval(80)


def test_calibration_error_is_the_gap_between_said_and_true():
    confidence, right = np.array([0.95] * 10 + [0.55] * 10), np.array([True] * 9 + [False] + [True] * 3 + [False] * 7)
    found = evaluate.reliability(confidence, right)
    assert found["ece"] == pytest.approx(0.5 * 0.05 + 0.5 * 0.25)
    assert [point["tracks"] for point in found["curve"]] == [10, 10]


def test_calibration_makes_confidence_true():
    random = np.random.default_rng(0)
    shown = random.choice([0.3, 0.8], 8000)  # said with 30 or 80 %, claimed in 50 or 95 % of the cases
    claimed = random.random(8000) < np.where(shown == 0.8, 0.95, 0.5)
    logits = [logit(np.array([[each, 1e-9]])) for each in shown]
    fitted = calibration.fit_confidence(logits, claimed.astype(np.float32)[:, np.newaxis])
    said = chunk_scores(logit(np.array([[0.8, 1e-9], [0.3, 1e-9]])), fitted)
    assert said[:, 0] == pytest.approx([0.95, 0.5], abs=0.03)


def test_a_second_answer_is_calibrated_apart():
    """That there is a better answer speaks against a genre: here it is as true as the power 1.7 of its vote."""
    random = np.random.default_rng(0)
    scores = np.sort(random.uniform(0.02, 0.98, (20_000, 3)), axis=1)[:, ::-1].astype(np.float32)
    claimed = (random.random((20_000, 3)) < scores**1.7).astype(np.float32)
    assert calibration.fit_further(scores, claimed) == pytest.approx(1.7, abs=0.05)


def test_who_knows_one_genre_has_no_second_answer():
    tracks = [
        ScoredTrack(f"{n}", f"{n}", (0,), logit(np.array([[0.6 + n / 100, 1e-6]], np.float32))) for n in range(20)
    ]
    assert calibration.fit(tracks, 1).further == 1.0


def test_a_genre_that_a_network_says_too_rarely_comes_first_where_it_should():
    random = np.random.default_rng(0)
    genre = random.integers(3, size=600)
    claimed = np.zeros((600, 4), np.float32)  # nothing is known of the fourth
    claimed[np.arange(600), genre] = 1
    said = random.normal(size=(600, 5)) + 2 * np.pad(claimed, ((0, 0), (0, 1))) - [0, 3, 0, 4, 20]
    logits = [track[np.newaxis].astype(np.float32) for track in said]

    def right(calibration):
        return np.mean([chunk_scores(t, calibration)[0, :-1].argmax() == g for t, g in zip(logits, genre, strict=True)])

    plain = calibration.fit_pair(logits, claimed, UNCALIBRATED)
    fitted = calibration.fit_confidence(logits, claimed)
    assert right(plain) < 0.7
    assert right(fitted) > 0.8
    low, too_rare, high, unknown = fitted.genre_offsets
    assert too_rare - (low + high) / 2 == pytest.approx(3, rel=0.1)
    assert unknown == 0


def test_an_answer_is_right_that_is_among_several():
    figures = evaluate.measure([heard(0, 0), heard(1, (1, 2)), heard(0, (1, 2))], LABELS)
    assert figures["tracks"] == 3
    assert figures["track_accuracy"]["value"] == pytest.approx(2 / 3)
    assert figures["several_claimed"]["tracks"] == 2
    assert figures["several_claimed"]["answer_among_them"] == 0.5
    assert figures["confusion"] == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]  # of tracks of one genre
    assert figures["per_genre"]["b"]["tracks"] == 2  # in the first place


def test_each_set_of_tracks_has_its_own_figures():
    tracks = [heard(0, (0, 1), track_id="x/1"), heard(1, (0, 1), track_id="x/2"), heard(2, (0,), track_id="y/1")]
    figures = evaluate.measure(tracks, LABELS)
    assert figures["first_label_accuracy"] == pytest.approx(1 / 3)
    x, y = (figures["by_folder"][name] for name in "xy")
    assert (x["tracks"], x["track_accuracy"], x["first_label_accuracy"], x["top3_accuracy"]) == (2, 1.0, 0.5, 1.0)
    assert (y["track_accuracy"], y["first_label_accuracy"]) == (0.0, 0.0)
    written = markdown(figures, LABELS)
    assert "| answer is the genre claimed first | 0.333 |" in written
    assert "x | 1.000 (2 tracks), in the best three 1.000, the genre claimed first 0.500 |" in written


def test_a_genre_that_is_claimed_in_any_place_counts():
    figures = evaluate.measure([heard(0, (0, 1)), heard(1, (0, 1)), heard(2, (1,))], LABELS)
    assert figures["per_genre_in_any_place"] == {
        "a": {"tracks": 2, "track_accuracy": 1.0},
        "b": {"tracks": 3, "track_accuracy": pytest.approx(2 / 3)},
        "c": {"tracks": 0, "track_accuracy": None},
    }


def test_second_answers_are_judged_over_all_tracks():
    """Only of some is a second genre true, and who reads an answer does not know of which."""
    tracks = [heard(0, (0, 1), second=1), heard(0, 0, second=1), heard(0, 0, second=2), heard(0, (0, 2), second=2)]
    second = evaluate.measure(tracks, LABELS)["second_answers"]
    assert second["right"] == 0.5
    sure = second["coverage"][4]
    assert (sure["min_confidence"], sure["answered"], sure["right_of_answered"]) == (0.5, 1.0, 0.5)


def test_the_line_lets_through_what_may_be_written_of_other_music():
    # Twenty tracks of other genres, the n-th with n/100 for "none of these"; at most three may stay below the line.
    scores = np.array([[0.8, 0.1, number / 100] for number in range(20)] + [[0.9, 0.0, 0.01]], np.float32)
    known = np.array([False] * 20 + [True])
    line = calibration.fit_unknown(scores, known, 0.5)
    assert (scores[:20, -1] < line).sum() == 3
    # What is not sure anyway need not be kept out by the line.
    assert calibration.fit_unknown(scores * [0.5, 1, 1], known, 0.5) == 0.5
    assert calibration.fit_unknown(scores[20:], known[20:], 0.5) == 0.5
    # Nor what is of other genres beyond doubt.
    assert calibration.fit_unknown(scores + np.float32([0, 0, 0.75]) * ~known[:, None], known, 0.5) == 0.5


def test_coverage_counts_what_is_written_and_what_of_other_music():
    tracks = [
        heard(0, 0), heard(1, 1, confidence=0.45), heard(2, 0), heard(0, 0, unknown=0.8), heard(1, ()),
        heard(2, (), unknown=0.9),
    ]  # fmt: skip
    figures = evaluate.measure(tracks, LABELS)
    assert figures["tracks"] == 4
    assert figures["background"]["tracks"] == 2
    at = {row["min_confidence"]: row for row in figures["coverage"]}
    assert at[0.5] == pytest.approx(
        {"min_confidence": 0.5, "answered": 0.5, "right_of_answered": 0.5, "right_kept": 1 / 3, "others_written": 0.5}
    )
    assert at[0.4]["right_kept"] == pytest.approx(2 / 3)
    assert at[0.9]["answered"] == 0


def test_what_is_fitted_is_judged_on_the_other_half_of_the_artists():
    random = np.random.default_rng(0)
    tracks = []
    for number in range(600):
        truth = int(random.integers(3))
        said = truth if random.random() < 0.6 else int(random.integers(3))
        tracks.append(heard(said, truth, group=f"artist {number}", confidence=0.95))
    scores, unknown = calibration.cross_fitted(tracks, 3)
    right = scores.argmax(axis=1) == [track.claimed[0] for track in tracks]
    assert evaluate.reliability(scores.max(axis=1), right)["ece"] < 0.1
    assert (unknown < 0.5).all()

    # ScoredTrack in another way, all of them are the last genre. What was fitted knows nothing of that.
    dull = [dataclasses.replace(track, logits=heard(2, 0).logits) for track in tracks]
    scores, _ = calibration.cross_fitted(tracks, 3, dull)
    assert (scores.argmax(axis=1) == 2).all()
    right = scores.argmax(axis=1) == [track.claimed[0] for track in tracks]
    assert evaluate.reliability(scores.max(axis=1), right)["ece"] > 0.2


def test_folds_give_a_mean_and_a_spread():
    tracks = [heard(0, 0, fold=0), heard(0, 0, fold=0), heard(0, 0, fold=1), heard(1, 0, fold=1)]
    folds = evaluate.measure(tracks, LABELS)["folds"]
    assert folds["track_accuracy"] == [1.0, 0.5]
    assert folds["mean"] == 0.75
    assert folds["spread"] == pytest.approx(math.sqrt(0.125))


def test_known_artists_are_told_from_new_ones():
    tracks = [heard(0, 0, group="The Known"), heard(1, 0, group="New")]
    figures = evaluate.measure(tracks, LABELS, trained_groups=frozenset({"known"}))
    assert figures["unseen_artists"] == {"tracks": 1, "track_accuracy": 0.0}


def asked(tracks):
    return evaluate.answers(tracks, LABELS, *calibration.predicted(tracks, UNCALIBRATED))


def test_answers_name_what_is_claimed_and_said_of_each_track():
    tracks = [
        heard(0, (0, 2), track_id="one"),
        heard(1, 2, track_id="two", group="The Beatles"),
        heard(1, (), track_id="three"),
    ]
    rows = asked(tracks).to_pylist()
    assert [row["track_id"] for row in rows] == ["one", "two", "three"]
    assert [row["genres"] for row in rows] == [["a", "c"], ["c"], []]
    assert [row["answer"] for row in rows] == ["a", "b", "b"]
    assert [row["right"] for row in rows] == [True, False, None]
    assert rows[1]["artist"] == "beatles"
    assert rows[0]["confidence"] == pytest.approx(0.9, abs=1e-5)


def test_networks_are_compared_on_the_tracks_that_both_were_asked_about():
    ours = [heard(0, 0, track_id=f"x/{i}", group=f"artist {i}") for i in range(10)]
    ours += [heard(1, 0, track_id="y/0"), heard(0, 0, track_id="y/only ours"), heard(1, (), track_id="y/of neither")]
    theirs = [heard(0 if i < 6 else 1, 0, track_id=f"x/{i}") for i in reversed(range(10))]
    theirs += [heard(0, 0, track_id="y/0"), heard(1, (), track_id="y/of neither")]
    rows = evaluate.paired(asked(ours), asked(theirs))
    assert list(rows) == ["", "x", "y"]
    assert rows[""]["tracks"] == 11
    assert rows[""]["difference"]["value"] == pytest.approx(3 / 11)
    assert (rows["x"]["track_accuracy"], rows["x"]["against"]) == (1.0, 0.6)
    assert 0 < rows["x"]["difference"]["low"] < 0.4 < rows["x"]["difference"]["high"] < 0.8
    assert rows["y"]["difference"]["value"] == -1.0
    with pytest.raises(UsageError, match="no track"):
        evaluate.paired(asked(ours), asked([heard(0, 0, track_id="elsewhere")]))
    by_artist = [heard(0, 0, track_id=f"artist {i}/song") for i in range(9)]
    assert list(evaluate.paired(asked(by_artist), asked(by_artist))) == [""]  # a library, and no few sets of tracks


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return tiny_shards.write(tmp_path_factory.mktemp("shards"), train=6, valid=4)


def save(path, shards, *, fold=None, seed=0):
    import keras

    keras.utils.set_random_seed(seed)
    network = build_cnn(shards.front_end, shards.labels, widths=(4, 4, 4, 4)).model
    recipe = {"splits": ["train"], "fold": fold}
    return bundle.save(
        path,
        network,
        model_id="tiny",
        labels=shards.labels,
        front_end=shards.front_end,
        provenance={"recipe": recipe, "tracks": {"train": dataclasses.asdict(shards.splits["train"])}},
    )


def test_each_fold_is_asked_about_what_it_held_out(shards, tmp_path):
    folds = [save(tmp_path / str(k), shards, fold=[k, 3], seed=k) for k in range(3)]
    tracks = evaluate.listen(folds, shards, None)
    assert sorted(track.track_id for track in tracks) == [f"train/{i:03d}.wav" for i in range(18)]
    assert len({track.fold for track in tracks}) > 1


def test_with_a_lowpass_networks_hear_nothing_above_it(shards, tmp_path):
    tracks = evaluate.listen([save(tmp_path, shards)], shards, "valid", lowpass_hz=2000.0)
    network = bundle.load_model(bundle.load_config(tmp_path))
    begins_hz = librosa.mel_frequencies(shards.front_end.mel_bands + 2, fmin=0, fmax=11_025)[:-2]
    for (features, _), track in zip(shardset.read(shards, ["valid"]), tracks, strict=True):
        dull = np.where(begins_hz < 2000, features.log_mel, 0).astype(np.uint8)
        np.testing.assert_array_equal(track.logits, chunk_logits(network, dull, shards.front_end))
        assert not np.array_equal(track.logits, chunk_logits(network, features.log_mel, shards.front_end))


def test_a_card_does_not_tell_figures_of_dull_recordings(shards, tmp_path):
    saved = str(save(tmp_path / "b", shards).path)
    arguments = [saved, str(shards.path), "--split", "valid", "--output", str(tmp_path / "out"), "--lowpass", "8000"]
    result = CliRunner().invoke(command, [*arguments, "--card", saved])
    assert isinstance(result.exception, UsageError)
    assert "--card" in str(result.exception)


def test_a_bundle_that_held_nothing_out_needs_a_split(shards, tmp_path):
    with pytest.raises(UsageError, match="name a --split"):
        evaluate.listen([save(tmp_path, shards)], shards, None)


def test_other_front_ends_are_refused(shards, tmp_path):
    other = dataclasses.replace(shards, front_end=dataclasses.replace(shards.front_end, hop_length=1024))
    with pytest.raises(UsageError, match="hop_length 1024 != 4096"):
        evaluate.listen([save(tmp_path, shards)], other, "valid")


def test_the_command_writes_a_report_and_the_card_of_the_bundle(shards, tmp_path):
    saved = save(tmp_path / "b", shards)
    out = tmp_path / "out"
    arguments = [str(saved.path), str(shards.path), "--split", "valid", "--output", str(out), "--fit"]
    result = CliRunner().invoke(command, [*arguments, "--card", str(saved.path)], catch_exceptions=False)
    assert result.exit_code == 0
    figures = json.loads((out / "metrics.json").read_text())
    assert figures["tracks"] == 12
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    updated = bundle.load_config(saved.path)
    assert json.loads(json.dumps(dataclasses.asdict(updated.calibration))) == figures["calibrated"]
    assert len(updated.calibration.genre_offsets) == len(LABELS)
    assert updated.fingerprint != saved.fingerprint
    bundle.load_model(updated)  # still fits its fingerprint
    card = (saved.path / bundle.CARD).read_text()
    assert f"{figures['track_accuracy']['value']:.3f}" in card
    assert updated.fingerprint in card
    assert str(tmp_path) not in card


def test_the_command_compares_with_another_report(shards, tmp_path):
    for name, seed in (("one", 0), ("two", 5)):
        save(tmp_path / name, shards, seed=seed)
    ask = [str(shards.path), "--split", "valid"]

    def run(bundle, out, *more):
        return CliRunner().invoke(command, [str(tmp_path / bundle), *ask, "--output", str(tmp_path / out), *more])

    assert run("one", "a").exit_code == 0
    assert run("two", "b", "--against", str(tmp_path / "a")).exit_code == 0
    one, two = (json.loads((tmp_path / out / "metrics.json").read_text()) for out in ("a", "b"))
    gain = two["paired"][""]
    assert gain["against"] == one["track_accuracy"]["value"]
    assert gain["difference"]["value"] == pytest.approx(two["track_accuracy"]["value"] - gain["against"])
    assert "against the other report" in (tmp_path / "b" / "report.md").read_text()
    refused = run("two", "c", "--against", str(tmp_path / "nowhere"))
    assert isinstance(refused.exception, UsageError)
    assert "--output of another evaluation" in str(refused.exception)
