"""The newest row of a track speaks for it, over all runs and both kinds of rows."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genrebeam.features.config import FrontEnd
from genrebeam.features.errors import LedgerError
from genrebeam.features.schema import AudioInfo, FileTags, Rejection, Track, TrackFeatures
from genrebeam.model.predictor import PlaceholderPredictor
from genrebeam.pipelines.dataset.dataset import Dataset
from genrebeam.pipelines.dataset.ledger import Ledger, newest_results
from genrebeam.pipelines.dataset.schema import REJECTS, RESULTS, reject_row
from genrebeam.pipelines.stages.predict import TagConfig, result_row

PREDICTOR = PlaceholderPredictor(("jazz", "rock"), FrontEnd())
LOUD = np.full((86, 128), 200, np.uint8)


def track(name="a.mp3", size=10, mtime=100.25):
    return Track(f"/m/{name}", name, size, mtime)


def result(track, when, genre="rock", fingerprint="m1", vote="mean", coverage_s=None):
    scores = np.array([[0.2, 0.8, 0] if genre == "rock" else [0.9, 0.1, 0]], np.float32)
    audio = AudioInfo("mp3", "mp3", 1.0, 44_100, 2, coverage_s=coverage_s)
    features = TrackFeatures(track, audio, LOUD, "f")
    row = result_row(features, scores, PREDICTOR, TagConfig("id", fingerprint, "run", vote))
    return row | {"processed_at": at(when)}


def reject(track, when, stage="extract"):
    return reject_row(Rejection(track, stage, "NotAudio", "m"), "run", at(when))


def at(second):
    return dt.datetime(2026, 1, 1, 0, 0, second, tzinfo=dt.timezone.utc)


def add(folder, name, rows, schema):
    kind = "results" if schema is RESULTS else "rejects"
    (folder / kind).mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, schema), folder / kind / f"{name}.parquet")


def test_an_empty_folder_knows_nothing(tmp_path):
    ledger = Ledger.read(tmp_path)
    assert not ledger.is_tagged(track(), "m1", "mean")
    assert len(newest_results(tmp_path)) == 0


def test_the_newest_row_wins_whatever_its_file_is_called(tmp_path):
    add(tmp_path, "zzz", [result(track(), 1, "jazz"), result(track("b.mp3"), 1)], RESULTS)
    add(tmp_path, "aaa", [result(track(), 2, "rock")], RESULTS)
    rows = newest_results(tmp_path, ["track_id", "genre"]).to_pylist()
    assert rows == [{"track_id": "a.mp3", "genre": "rock"}, {"track_id": "b.mp3", "genre": "rock"}]


@pytest.mark.parametrize(
    ("changed", "known"),
    [({}, True), ({"size": 11}, False), ({"mtime": 100.250001}, False), ({"name": "b.mp3"}, False)],
)
def test_only_the_same_version_of_the_same_file_is_done(tmp_path, changed, known):
    add(tmp_path, "x", [result(track(), 1)], RESULTS)
    assert Ledger.read(tmp_path).is_tagged(track(**changed), "m1", "mean") is known


def test_another_model_or_vote_is_not_done(tmp_path):
    add(tmp_path, "x", [result(track(), 1)], RESULTS)
    ledger = Ledger.read(tmp_path)
    assert not ledger.is_tagged(track(), "m2", "mean")
    assert not ledger.is_tagged(track(), "m1", "majority")


@pytest.mark.parametrize(
    ("heard", "asked", "known"),
    [(60.0, 60.0, True), (60.0, 30.0, True), (60.0, 61.0, False), (60.0, None, False), (None, 60.0, True)],
)
def test_what_was_heard_in_part_is_done_for_whoever_asks_for_no_more(tmp_path, heard, asked, known):
    add(tmp_path, "x", [result(track(), 1, coverage_s=heard)], RESULTS)
    assert Ledger.read(tmp_path).is_tagged(track(), "m1", "mean", asked) is known


def test_a_file_that_changed_back_is_not_taken_for_its_old_self(tmp_path):
    add(tmp_path, "x", [result(track(), 1), result(track(size=99), 2)], RESULTS)
    assert not Ledger.read(tmp_path).is_tagged(track(), "m1", "mean")


def test_a_track_that_became_unreadable_has_no_result_and_one_that_was_mended_has(tmp_path):
    add(tmp_path, "x", [result(track(), 1), result(track("b.mp3"), 3), result(track("c.mp3"), 1)], RESULTS)
    add(
        tmp_path,
        "x",
        [reject(track(), 2), reject(track("b.mp3"), 2), reject(track("c.mp3"), 5, stage="apply")],
        REJECTS,
    )
    assert newest_results(tmp_path)["track_id"].to_pylist() == ["b.mp3", "c.mp3"]
    ledger = Ledger.read(tmp_path)
    assert ledger.is_rejected(track())
    assert not ledger.is_rejected(track(size=11))
    assert not ledger.is_rejected(track("c.mp3"))  # a tag that could not be written is no reason not to listen


@pytest.mark.parametrize("data", [b"", b"PAR1 not really", b"\0" * 100])
def test_a_corrupt_file_is_named(tmp_path, data):
    add(tmp_path, "good", [result(track(), 1)], RESULTS)
    (tmp_path / "results" / "bad.parquet").write_bytes(data)
    with pytest.raises(LedgerError, match=r"bad\.parquet.*move it away") as caught:
        Ledger.read(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_strangers_parquet_file_is_named(tmp_path):
    (tmp_path / "results").mkdir()
    pq.write_table(pa.table({"x": [1]}), tmp_path / "results" / "strange.parquet")
    with pytest.raises(LedgerError, match=r"strange\.parquet"):
        newest_results(tmp_path)


def test_silent_chunks_do_not_vote():
    log_mel = np.zeros((172, 128), np.uint8)
    log_mel[:43] = 200  # heard in the first of three chunks only
    features = TrackFeatures(track(), AudioInfo("mp3", "mp3", 1.0, 44_100, 2), log_mel, "f")
    scores = np.array([[0.3, 0.7, 0.2], [0.9, 0.1, 0.9], [0.9, 0.1, 0.9]], np.float32)
    row = result_row(features, scores, PREDICTOR, TagConfig("id", "f", "run"))
    assert row["genre"] == "rock"
    assert row["confidence"] == pytest.approx(0.7)
    assert row["unknown"] == pytest.approx(0.2)
    assert row["chunk_scores"][1:] == [[0, 0], [0, 0]]


def test_text_that_is_no_unicode_is_stored_escaped(tmp_path):
    # A file name in another encoding reaches messages as lone surrogates, which Parquet refuses.
    rejection = Rejection(track(), "apply", "ReadOnly", "/m/caf\udce9.mp3: read-only")
    add(tmp_path, "x", [reject_row(rejection, "run", at(1))], REJECTS)
    message = pq.read_table(tmp_path / "rejects")["message"][0].as_py()
    assert message == "/m/caf\\udce9.mp3: read-only"
    features = TrackFeatures(track(), AudioInfo("mp3", "mp3", 1.0, 44_100, 2), LOUD, "f", FileTags(("\udcff",)))
    row = result_row(features, np.array([[0.2, 0.8, 0]], np.float32), PREDICTOR, TagConfig("id", "f", "run"))
    add(tmp_path, "x", [row], RESULTS)
    assert newest_results(tmp_path, ["genre_before"])["genre_before"][0].as_py() == ["\\udcff"]


@pytest.mark.parametrize(
    ("error", "is_final"), [("UnreadableFile", False), ("DecoderKilled", False), ("NotAudio", True)]
)
def test_only_what_the_file_is_to_blame_for_hides_a_result_and_settles_a_track(tmp_path, error, is_final):
    add(tmp_path, "a", [result(track(), 1)], RESULTS)
    add(tmp_path, "b", [reject_row(Rejection(track(), "extract", error, "why"), "b", at(2))], REJECTS)
    assert len(newest_results(tmp_path)) == (0 if is_final else 1)
    assert Ledger.read(tmp_path).is_rejected(track()) is is_final


def test_a_merge_loses_no_column_of_a_newer_version(tmp_path):
    for name in ("run-aa", "run-bb"):
        add(tmp_path, name, [result(track(name), 1)], RESULTS)
    file = tmp_path / "results" / "run-aa.parquet"
    table = pq.read_table(file)
    pq.write_table(table.append_column("mood", pa.array(["happy"] * len(table))), file)
    Dataset.at(tmp_path).merge("results")
    assert pq.read_table(file)["mood"].to_pylist() == ["happy"]
    assert len(newest_results(tmp_path)) == 2
