"""Rows count in the order in which they were written, whatever a clock said meanwhile."""

import datetime as dt

import pytest
import tagfiles

from genrebeam.features.schema import Rejection, Track
from genrebeam.pipelines.dataset.corrections import correct, read_corrections
from genrebeam.pipelines.dataset.dataset import CORRECTIONS_DIR, REJECTS_DIR, RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.ledger import newest_results, read_rows
from genrebeam.pipelines.dataset.schema import reject_row

NOW = dt.datetime(2026, 5, 1, tzinfo=dt.timezone.utc)
AHEAD = NOW + dt.timedelta(days=3650)
TRACK = Track("/m/a.mp3", "a.mp3", 1, 0.0)


def said(genre, run_id, when):
    (row,) = tagfiles.result_rows({TRACK: [(genre, 0.9)]}, fingerprint="m", when=when, run_id=run_id)
    return row


@pytest.fixture
def dataset(tmp_path):
    """A run while the clock was ten years ahead, and one with the right time."""
    dataset = Dataset.at(tmp_path)
    for genre, now in (("rock", AHEAD), ("jazz", NOW)):
        run_id = dataset.new_run_id(now)
        dataset.add(RESULTS_DIR, run_id, [said(genre, run_id, now)])
    return dataset


def test_a_run_after_one_with_the_clock_ahead_counts(dataset):
    assert newest_results(dataset, ["genre"]).to_pylist() == [{"genre": "jazz"}]
    assert read_rows(dataset, RESULTS_DIR, ["genre"])["genre"].to_pylist() == ["rock", "jazz"]


def test_names_of_runs_sort_in_the_order_of_runs(dataset):
    names = [dataset.new_run_id(NOW)]
    for _ in range(3):
        dataset.save_report(names[-1], {})
        names.append(dataset.new_run_id(NOW))
    assert sorted(names) == names
    assert names[0] > max(read_rows(dataset, RESULTS_DIR, ["genre"])["run_id"].to_pylist())


def test_the_time_in_a_row_stays_the_time_at_which_it_was_heard(dataset):
    assert newest_results(dataset, ["processed_at"]).to_pylist() == [{"processed_at": NOW}]


def test_a_name_that_is_no_time_does_not_stop_a_run(tmp_path):
    dataset = Dataset.at(tmp_path)
    dataset.save_report("99999999T999999Z-abcdef", {})
    assert dataset.new_run_id(NOW).startswith("20260501T000000Z-")


@pytest.mark.parametrize("later", ["result", "reject"])
def test_of_a_result_and_a_reject_the_later_counts(tmp_path, later):
    dataset = Dataset.at(tmp_path)
    for kind, now in (
        (("result", AHEAD), ("reject", NOW)) if later == "reject" else (("reject", AHEAD), ("result", NOW))
    ):
        run_id = dataset.new_run_id(now)
        if kind == "result":
            dataset.add(RESULTS_DIR, run_id, [said("rock", run_id, now)])
        else:
            reject = Rejection(TRACK, "extract", "Silent", "m")
            dataset.add(REJECTS_DIR, run_id, [reject_row(reject, run_id, now)])
    assert len(newest_results(dataset)) == (later == "result")


def test_a_correction_with_the_clock_behind_counts(dataset):
    correct(dataset, "a.mp3", "Zouk")
    ahead = {"track_id": "a.mp3", "genre": "Kizomba", "at": AHEAD, "by": None, "number": 2}
    dataset.add(CORRECTIONS_DIR, "20360501", [ahead])
    correct(dataset, "a.mp3", "Salsa")
    assert read_corrections(dataset)["a.mp3"].genre == "Salsa"
    correct(dataset, "a.mp3", None)
    assert read_corrections(dataset) == {}
