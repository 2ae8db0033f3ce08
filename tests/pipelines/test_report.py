"""The page about a catalog: its numbers are those of the newest rows, and names from files stay text."""

import datetime as dt
import html.parser

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tagfiles

from genrebeam.features.errors import UsageError
from genrebeam.features.schema import Rejection, Track
from genrebeam.model.bundle import DEFAULT, load_config
from genrebeam.pipelines.commands.report import command
from genrebeam.pipelines.dataset.corrections import correct
from genrebeam.pipelines.dataset.dataset import RESULTS_DIR, Dataset
from genrebeam.pipelines.jobs.report import summarise, to_html
from genrebeam.pipelines.tags.read import read_genres

EVIL = 'An <script>alert("x")</script> Artist/a & b.mp3'


def at(second):
    return dt.datetime(2026, 1, 1, 0, 0, second, tzinfo=dt.timezone.utc)


def add(dataset, names, second=0):
    heard = {Track(f"/m/{name}", name, 1, 0.0): scores for name, scores in names.items()}
    fingerprint = load_config(DEFAULT).fingerprint
    rows = tagfiles.result_rows(heard, when=at(second), fingerprint=fingerprint)
    dataset.add(RESULTS_DIR, "run-1", [row | {"duration_s": 1800.0, "genre_before": ["Rock"]} for row in rows])


@pytest.fixture
def dataset(tmp_path):
    dataset = Dataset.at(tmp_path / "out")
    jazz = {"A/1.mp3": [("jazz", 0.9), ("blues", 0.05)], "A/2.mp3": [("jazz", 0.5), ("blues", 0.45)]}
    add(dataset, {**jazz, EVIL: [("rock", 0.2)]})
    add(dataset, {"A/1.mp3": [("blues", 0.6), ("jazz", 0.3)], "top.mp3": [("rock", 0.99)]}, second=5)
    gone = [("x.mp3", "extract", "Silent"), ("cover.jpg", "discover", "NotAudio"), ("A/1.mp3", "apply", "ReadOnly")]
    rejections = [Rejection(Track(f"/m/{name}", name, 1, 0.0), stage, error, "m") for name, stage, error in gone]
    dataset.add_rejects("run-1", rejections)
    counts = {"tagged": 4, "rejected": 1, "done_before": 0, "audio_s": 7200.0, "wall_s": 36.0}
    dataset.save_report("2026-1", {"run_id": "2026-1", "started_at": "2026", "status": "finished", **counts})
    return dataset


def test_the_numbers_are_those_of_the_newest_rows(dataset):
    summary = summarise(dataset)
    assert (summary.tracks, summary.hours, summary.with_genre_before) == (4, 2.0, 4)
    assert sorted(summary.genres) == [("blues", 1, 0.5), ("jazz", 1, 0.5), ("rock", 2, 1.0)]
    assert summary.genres[0][0] == "rock"
    assert [row["track_id"] for row in summary.uncertain] == [EVIL, "A/2.mp3", "A/1.mp3", "top.mp3"]
    assert sum(summary.confidence) == 4 and summary.confidence[4] == summary.confidence[19] == 1
    assert summary.folders[0][:2] == ("A", 2) and sorted(summary.folders[0][2]) == [("blues", 1), ("jazz", 1)]
    assert ("(outermost folder)", 1, [("rock", 1)]) in summary.folders
    assert summary.blends == [("blues", "jazz", 2)]
    assert [(error, count) for error, count, _, _ in summary.rejects] == [("Silent", 1)]
    assert summary.runs[0]["times_real_time"] == 200.0
    assert summary.card["track_accuracy"]["value"] > 0.5


class Reader(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.scripts, self.links, self.text = [], 0, [], []

    def handle_starttag(self, tag, attributes):
        self.scripts += tag == "script"
        self.links += [value for name, value in attributes if name in ("src", "href")]
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_whole_needs_nothing_and_takes_names_for_text(dataset):
    page = to_html(summarise(dataset))
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert reader.scripts == 1  # ours
    assert reader.links == []
    assert EVIL in "".join(reader.text)
    assert 'aria-label="' in page


def test_genres_are_spelled_for_people(dataset):
    add(dataset, {"B/1.mp3": [("newage", 0.6), ("rnb", 0.3)]})
    page = to_html(summarise(dataset))
    assert "New Age" in page and "R&amp;B" in page
    assert "newage" not in page and "rnb" not in page


def test_a_catalog_of_rejects_only_has_a_page_too(tmp_path):
    dataset = Dataset.at(tmp_path)
    dataset.add_rejects("run-1", [Rejection(Track("/m/x.mp3", "x.mp3", 1, 0.0), "extract", "Silent", "m")])
    assert "Silent" in to_html(summarise(dataset))


def test_the_command_writes_a_file_and_says_so(dataset, tmp_path):
    from click.testing import CliRunner

    result = CliRunner().invoke(command, [str(dataset), "--output", str(tmp_path / "page.html")])
    assert (result.exit_code, result.output) == (0, f"4 tracks  -> {tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_a_folder_without_results_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="no results here"):
        summarise(tmp_path)


def test_the_plan_is_that_of_apply(dataset):
    assert summarise(dataset).plan == {"kept": 3, "unsure": 1}  # all have Rock; of one the model is not sure
    correct(dataset, EVIL, "Zouk")
    correct(dataset, "top.mp3", "rock")
    summary = summarise(dataset)
    assert summary.plan == {"kept": 3, "held": 1}
    assert "--only-corrected" in to_html(summary)


def test_the_plan_agrees_with_a_dry_run(tmp_path):
    songs = [tagfiles.make(tmp_path, "mp3", name) for name in ("empty", "useless", "own", "unsure", "said", "held")]
    for song, genre in zip(songs, (None, "Other", "Rock", None, None, "Rock"), strict=True):
        tagfiles.fill(song, "mp3", genre)
    heard = {song: [("blues", 0.3 if song.stem in ("unsure", "said") else 0.9)] for song in songs}
    tagfiles.results(tmp_path / "out", heard, root=tmp_path)
    (file,) = (tmp_path / "out" / "results").iterdir()
    rows = pq.read_table(file)
    before = pa.array([list(read_genres(song)) for song in songs], pa.list_(pa.string()))
    place = rows.schema.get_field_index("genre_before")
    pq.write_table(rows.set_column(place, rows.schema.field(place), before), file)
    for name in ("said.mp3", "held.mp3"):
        correct(tmp_path / "out", name, "Zouk")
    plan = summarise(tmp_path / "out").plan
    assert plan == tagfiles.apply_all(tmp_path / "out", policy="fill", dry_run=False).outcomes
    assert plan == {"write": 3, "kept": 1, "held": 1, "unsure": 1}


def test_a_file_that_was_written_more_than_once_counts_once(tmp_path):
    songs = [tagfiles.make(tmp_path, "mp3", name) for name in ("once", "twice", "never")]
    heard = {song: [("blues", 0.1 if song.stem == "never" else 0.9)] for song in songs}
    tagfiles.results(tmp_path / "out", heard, root=tmp_path)
    assert summarise(tmp_path / "out").written == 0
    for _ in range(2):
        tagfiles.apply_all(tmp_path / "out", policy="overwrite", dry_run=False)
        correct(tmp_path / "out", "twice.mp3", "Zouk")
    assert read_genres(songs[1]) == ("Zouk",)
    assert summarise(tmp_path / "out").written == 2


def test_damaged_files_are_listed_the_worst_first(dataset):
    assert "Damaged" not in to_html(summarise(dataset))
    rows = tagfiles.result_rows({Track(f"/m/{n}.mp3", f"{n}.mp3", 1, 0.0): [("rock", 0.9)] for n in "pqr"}, when=at(9))
    missing = (2.5, 0.0, 71.0)
    dataset.add(RESULTS_DIR, "run-9", [row | {"undecoded_s": s} for row, s in zip(rows, missing, strict=True)])
    summary = summarise(dataset)
    assert (summary.damaged, summary.most_damaged) == (2, [("r.mp3", 71.0), ("p.mp3", 2.5)])
    assert "71.0" in to_html(summary)


def test_corrections_are_listed_beside_what_was_heard_and_stay_text(dataset):
    assert "Corrections" not in to_html(summarise(dataset))
    correct(dataset, "A/2.mp3", "Zouk", by="Ada")
    correct(dataset, EVIL, "<b>Bossa</b>")
    summary = summarise(dataset)
    assert summary.corrections == 2
    shown = [(row["track_id"], row["heard"], row["genre"], row["by"]) for row in summary.corrected]
    assert shown == [(EVIL, "rock", "<b>Bossa</b>", ""), ("A/2.mp3", "jazz", "Zouk", "Ada")]
    page = to_html(summary)
    assert "Zouk" in page and "<b>Bossa" not in page


def test_equally_sure_tracks_of_several_files_are_listed(tmp_path):
    dataset = Dataset.at(tmp_path)
    for number in range(3):
        tracks = {Track(f"/m/{number}{n}", f"{number}{n}", 1, 0.0): [("rock", 0.5)] for n in range(2)}
        dataset.add(RESULTS_DIR, f"r{number}", tagfiles.result_rows(tracks))
    assert len(summarise(tmp_path).uncertain) == 6
