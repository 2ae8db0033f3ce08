"""Writing from the application: the preview is what `apply` would do, a run writes it, and undo takes it back."""

from __future__ import annotations

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tagfiles

from genrebeam.app.catalog import Catalog, Filter
from genrebeam.app.writing import Writing, preview, wish
from genrebeam.features.errors import UsageError
from genrebeam.pipelines.apply.options import ApplyOptions
from genrebeam.pipelines.dataset.corrections import correct
from genrebeam.pipelines.dataset.schema import RESULTS
from genrebeam.pipelines.jobs.apply import batches_of_results, new_run, work
from genrebeam.pipelines.tags.read import read_genres

LABELS = ("rock", "jazz", "hiphop", "blues")


def wished(policy="fill", confidence=0.5, genres=1, only_corrected=False, **listed):
    return wish(policy, confidence, 0.5, genres, "", only_corrected, Filter(**listed))


@pytest.fixture
def folder(tmp_path):
    """Files with and without genres, and what was heard in them; two are corrected."""
    heard, genres = {}, {}
    for number, (genre, answers) in enumerate(
        [
            (None, [("rock", 0.9), ("jazz", 0.6)]),
            ("Other", [("jazz", 0.8)]),
            ("Zouk", [("hiphop", 0.7)]),
            ("Blues", [("blues", 0.7)]),
            (None, [("rock", 0.2)]),
            (None, [("rock", 0.9)]),
            ("Pop", [("rock", 0.9)]),
        ]
    ):
        song = tagfiles.make(tmp_path, "flac", f"{number}")
        tagfiles.fill(song, "flac", genre)
        heard[song], genres[song.name] = answers, (genre,) if genre else ()
    tagfiles.results(tmp_path / "out", heard, root=tmp_path)
    (file,) = (tmp_path / "out" / "results").iterdir()
    rows = pq.read_table(file).to_pylist()
    rows = [row | {"genre_before": genres[row["track_id"]], "labels": LABELS} for row in rows]
    pq.write_table(pa.Table.from_pylist(rows, RESULTS), file)
    correct(tmp_path / "out", "5.flac", "hip hop; Kizomba")
    correct(tmp_path / "out", "6.flac", "Salsa")
    return tmp_path


def finished(writing):
    end = time.monotonic() + 30
    while writing.state.is_running:
        assert time.monotonic() < end
        time.sleep(0.01)
    return writing.state


@pytest.mark.parametrize("policy", ["fill", "merge", "overwrite"])
@pytest.mark.parametrize("genres", [1, 3])
@pytest.mark.parametrize("only_corrected", [False, True])
def test_the_preview_is_what_apply_would_do(folder, policy, genres, only_corrected):
    wanted = wished(policy, genres=genres, only_corrected=only_corrected)
    view = Catalog(folder / "out").view()
    found = preview(view, wanted, LABELS)
    options = ApplyOptions(wanted.tags, dry_run=True, only_corrected=only_corrected)
    batches = batches_of_results(folder / "out", only_corrected=only_corrected)
    report = work(batches.batches, new_run(folder / "out", options))
    assert {one.value: count for one, count in found.outcomes.items()} == report.outcomes
    changes = {(view.tracks["track_id"][row].as_py(), before, after) for row, before, after in found.changes}
    assert changes == {(name, "; ".join(before), "; ".join(after)) for name, before, after in report.changes}
    assert sum(found.genres.values()) == sum(len(after) for _, _, after in report.changes)


def test_a_run_writes_only_what_is_listed_and_undo_takes_it_back(folder):
    catalog = Catalog(folder / "out")
    writing = Writing(catalog)
    writing.write(wished(text="0.flac"))
    assert finished(writing).message == "1 files written"
    assert read_genres(folder / "0.flac") == ("Rock",) and read_genres(folder / "1.flac") == ("Other",)
    assert catalog.view().track("0.flac")["file_genre"] == "Rock"
    writing.write(wished("overwrite"))
    assert finished(writing).outcomes["write"] == 4
    assert read_genres(folder / "5.flac") == ("Hip-Hop", "Kizomba") and read_genres(folder / "6.flac") == ("Salsa",)
    assert catalog.view().track("6.flac")["file_genre"] == "Salsa"
    writing.undo()
    assert finished(writing).message == "5 files put back"
    genres = [read_genres(folder / f"{number}.flac") for number in range(7)]
    assert genres == [(), ("Other",), ("Zouk",), ("Blues",), (), (), ("Pop",)]
    found = preview(catalog.view(), wished(), LABELS)
    assert len(found.changes) == 3  # as before anything was written


def test_after_a_run_the_preview_knows_what_is_ours(folder):
    catalog = Catalog(folder / "out")
    writing = Writing(catalog)
    writing.write(wished())
    finished(writing)
    assert {one.value: count for one, count in preview(catalog.view(), wished(), LABELS).outcomes.items()} == {
        "same": 3, "kept": 2, "held": 1, "unsure": 1
    }  # fmt: skip
    assert not preview(catalog.view(), wished(), LABELS).changes


def test_what_hinders_a_run_is_a_sentence(folder):
    catalog = Catalog(folder / "out")
    writing = Writing(catalog)
    with catalog.dataset.lock():
        writing.write(wished())
        assert "another genrebeam" in finished(writing).message
    with pytest.raises(UsageError, match="choose one of"):
        wish("fill", 0.5, 0.5, 1, "/etc/passwd", False, Filter())
