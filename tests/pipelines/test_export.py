"""results.csv in a spreadsheet, and as a manifest."""

import codecs
import csv
import io
from pathlib import Path

import pytest
import tagfiles
from hypothesis import given
from hypothesis import strategies as st

from genrebeam.features.schema import Track
from genrebeam.pipelines.dataset.cells import harmless, original
from genrebeam.pipelines.dataset.corrections import correct
from genrebeam.pipelines.dataset.dataset import RESULTS_DIR, Dataset
from genrebeam.pipelines.dataset.export import export
from genrebeam.pipelines.library.discover import discover

NAMES = ['=HYPERLINK("http:x","y").flac', "@SUM(1+1).flac", "-1.flac", "'=1.flac", 'J\xf3ga, "live".flac', "a\tb.flac"]


@pytest.fixture
def dataset(tmp_path):
    heard = {}
    for name in NAMES:
        (tmp_path / name).write_bytes(b"x")
        heard[Track(str(tmp_path / name), name, 1, 0.0)] = [("rock", 0.5)]
    dataset = Dataset.at(tmp_path / "out")
    dataset.add(RESULTS_DIR, "run-1", tagfiles.result_rows(heard))
    return dataset


def test_no_cell_is_a_formula_and_the_file_says_that_it_is_utf_8(dataset, tmp_path):
    correct(dataset, "-1.flac", "=1+1")
    path = export(dataset, "csv")
    data = Path(path).read_bytes()
    assert data.startswith(codecs.BOM_UTF8)
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert sorted(original(row["track_id"]) for row in rows) == sorted(NAMES)
    assert {row["track_id"]: row["correction"] for row in rows if row["correction"]} == {"'-1.flac": "'=1+1"}
    cells = [cell for row in rows for cell in row.values()]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t"))]
    assert "chunk_starts_s" not in rows[0]


def test_it_is_a_manifest_of_the_same_tracks(dataset, tmp_path):
    found = discover([export(dataset, "csv")])
    assert sorted((track.track_id, track.uri) for track in found.tracks) == sorted(
        (name, str(tmp_path / name)) for name in NAMES
    )


@given(st.text())
def test_what_is_made_harmless_can_be_read_back(text):
    assert original(harmless(text)) == text
    assert not harmless(text).startswith(("=", "+", "-", "@", "\t", "\r"))
